//! Sessions over the lake's tables as of the audited epoch.
//!
//! The one law: memory is bounded whatever the lake's size. Rows are only ever read by DataFusion, whose operators share
//! one pool and spill to disk beyond it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use super::commits::Logs;
use super::finding::Kind as Found;
use super::report::Report;
use crate::error::{Context, Result};
use crate::lake::{Lake, Table};
use crate::sql;

/// Memory of all operators of one audit: the groups of a few hundred thousand windows fit, more spill.
const MEMORY_BYTES_MAX: usize = 1 << 30;

/// The tables that can be read.
#[derive(Debug)]
pub(super) struct Scans {
    lake: Lake,
    runtime: Arc<RuntimeEnv>,
    tables: BTreeMap<Arc<str>, Arc<dyn TableProvider>>,
}

impl Scans {
    /// Opens every table that has a log at the version of the published epoch; one that cannot be opened is a finding.
    ///
    /// # Errors
    /// [`crate::Error::External`] when no session can be made.
    pub(super) async fn open(
        lake: &Lake,
        logs: &Logs,
        app_id: &str,
        published: Option<u64>,
        report: &mut Report,
    ) -> Result<Self> {
        let pool = Arc::new(FairSpillPool::new(MEMORY_BYTES_MAX));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc();
        let runtime = runtime.context(|| "making a session for the audit")?;
        let mut tables = BTreeMap::new();
        for name in logs.keys() {
            match provider(lake, name, app_id, published).await {
                Ok(Some(provider)) => drop(tables.insert(Arc::clone(name), provider)),
                Ok(None) => {}
                Err(error) => report.find(Found::UnreadableTable, format!("table `{name}`"), error.to_string()),
            }
        }
        Ok(Self { lake: lake.clone(), runtime, tables })
    }

    /// The lake they are of.
    pub(super) fn lake(&self) -> &Lake {
        &self.lake
    }

    /// One table; `None` if it cannot be read, which is a finding of its own.
    pub(super) fn table(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        self.tables.get(name).map(Arc::clone)
    }

    /// A session without tables that plans batch statements.
    pub(super) fn session(&self) -> SessionContext {
        let state = SessionStateBuilder::new_from_existing(sql::session().state());
        let session = SessionContext::new_with_state(state.with_runtime_env(Arc::clone(&self.runtime)).build());
        self.lake.register(&session);
        session
    }

    /// A session with one table of the lake under the name `name`.
    ///
    /// # Errors
    /// [`crate::Error::External`] when the session refuses the table.
    pub(super) fn session_with(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<SessionContext> {
        let session = self.session();
        session.register_table(name, table).context(|| format!("opening the table `{name}`"))?;
        Ok(session)
    }
}

async fn provider(
    lake: &Lake,
    name: &str,
    app_id: &str,
    published: Option<u64>,
) -> Result<Option<Arc<dyn TableProvider>>> {
    let Some(table) = Table::open_existing(lake, name).await? else { return Ok(None) };
    let version = match published {
        Some(epoch) => Some(table.version_of_epoch(app_id, epoch).await?),
        None => None,
    };
    table.provider(version).await.map(Some)
}

/// Runs a statement of the audit itself and hands each batch of its answer to `each`.
///
/// # Errors
/// [`crate::Error::External`] when the tables cannot be read.
pub(super) async fn for_each_batch(
    session: &SessionContext,
    statement: &str,
    mut each: impl FnMut(&RecordBatch) -> Result<()>,
) -> Result<()> {
    let what = || format!("running `{statement}`");
    let frame = session.sql(statement).await.context(what)?;
    let mut rows = frame.execute_stream().await.context(what)?;
    while let Some(batch) = rows.try_next().await.context(what)? {
        each(&batch)?;
    }
    Ok(())
}

/// A name as SQL quotes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
