//! SQL over the lake: any statement, any file, the windows of standing queries included.
//!
//! The one law: a statement sees every table at one published epoch, so that it never reads half of a commit. Nothing
//! here writes to the tables of the stream.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;

use crate::config::Config;
use crate::epoch::{SlotLog, published_epoch};
use crate::error::{Context, Error, Result};
use crate::lake::{Lake, Table};
use crate::sql::{BatchStatement, Params, QueryFile, StandingQuery, TimeRange, run_batch, session};

/// The lake's tables as of one published epoch.
pub struct LakeView {
    session: SessionContext,
    /// Of the files live in the version that is seen, by table.
    bytes: BTreeMap<String, u64>,
}

impl std::fmt::Debug for LakeView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LakeView").finish_non_exhaustive()
    }
}

impl LakeView {
    /// Opens every table of the lake at the newest epoch all of them hold.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is no lake yet; [`Error::External`] when it does not answer.
    pub async fn open(config: &Config) -> Result<Self> {
        Self::over(&Lake::open(&config.lake.url, &config.s3)?, &config.lake.app_id).await
    }

    /// As [`LakeView::open`], over a lake that is open; `app_id` is the pipeline whose epochs count.
    ///
    /// # Errors
    /// As [`LakeView::open`].
    pub async fn over(lake: &Lake, app_id: &str) -> Result<Self> {
        let mut tables = BTreeMap::new();
        let slots = SlotLog::new(lake.store());
        let dropping = slots.dropping().await?;
        for name in lake.tables().await?.into_iter().filter(|name| !dropping.contains(name.as_str())) {
            if let Some(table) = Table::open_existing(lake, &name).await? {
                tables.insert(Arc::from(name), Arc::new(table));
            }
        }
        if tables.is_empty() {
            return Err(Error::usage(format!(
                "no tables in the lake {}: start one with `lakeward run`, or name another with `--set lake.url=…`",
                lake.url()
            )));
        }
        let epoch = published_epoch(&slots, &tables, app_id).await?;
        let session = session();
        lake.register(&session);
        let mut bytes = BTreeMap::new();
        for (name, table) in &tables {
            let version = match epoch {
                Some(epoch) => Some(table.version_of_epoch(app_id, epoch).await?),
                None => None,
            };
            let files = match version {
                Some(version) => table.live_files_at(version).await?,
                None => table.live_files().await?,
            };
            bytes.insert(name.to_string(), files.iter().map(|file| file.bytes).sum());
            let provider = table.provider(version).await?;
            session.register_table(name.as_ref(), provider).context(|| format!("opening the table `{name}`"))?;
        }
        Ok(Self { session, bytes })
    }

    /// Runs one statement given on the command line; returns its rows (at least one batch, so that columns are known).
    ///
    /// # Errors
    /// [`Error::Usage`] with line and column for a statement that does not plan; [`Error::External`] when it fails.
    pub async fn sql(&self, text: &str, params: Params) -> Result<Vec<RecordBatch>> {
        self.rows(BatchStatement::parse("statement", text, params)?).await
    }

    /// As [`LakeView::sql`], with the bytes of each table the statement reads.
    ///
    /// # Errors
    /// As [`LakeView::sql`].
    pub async fn sql_with_tables(
        &self,
        text: &str,
        params: Params,
    ) -> Result<(Vec<RecordBatch>, BTreeMap<String, u64>)> {
        let frame = run_batch(&self.session, BatchStatement::parse("statement", text, params)?).await?;
        let mut tables = BTreeMap::new();
        let visited = frame.logical_plan().apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && let Some((name, bytes)) = self.bytes.get_key_value(scan.table_name.table())
            {
                tables.insert(name.clone(), *bytes);
            }
            Ok(TreeNodeRecursion::Continue)
        });
        visited.context(|| "looking at the statement's plan")?;
        Ok((frame.collect().await.context(|| "running the statement")?, tables))
    }

    /// Whether the lake holds a table of this name.
    pub fn has(&self, table: &str) -> bool {
        self.session.table_exist(table).unwrap_or(false)
    }

    /// Runs a file: a batch job, or a standing query over the whole of the lake.
    ///
    /// # Errors
    /// As [`LakeView::sql`].
    pub async fn file(&self, path: &Path, params: Params) -> Result<Vec<RecordBatch>> {
        self.rows(BatchStatement::of_file(&QueryFile::read(path)?, params)?).await
    }

    /// Runs the backfill of a standing query: its windows in `range`, a stateless query's rows of that time.
    ///
    /// # Errors
    /// As [`LakeView::sql`].
    pub async fn backfill(&self, query: &StandingQuery, range: TimeRange) -> Result<Vec<RecordBatch>> {
        self.rows(query.batch_select(Some(range))?).await
    }

    async fn rows(&self, statement: BatchStatement) -> Result<Vec<RecordBatch>> {
        let frame = run_batch(&self.session, statement).await?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let mut rows = frame.collect().await.context(|| "running the statement")?;
        if rows.is_empty() {
            rows.push(RecordBatch::new_empty(schema));
        }
        Ok(rows)
    }
}
