//! Reading a table in DataFusion: a plain Parquet scan over the files live at one version.
//!
//! The one law: the schema of a scan is the table's own, column by column (Utf8, not views; UTC microseconds), so that
//! rows from the lake and rows from the stream meet the same plans with the same types.
//!
//! The plan holds nothing but files and expressions, so it can be sent to another machine as it is. What it does not do:
//! it reads no deletion vectors (the log refuses them) and follows no later commits.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Date32Array, Int64Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use async_trait::async_trait;
use chrono::DateTime;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, DFSchema, Result as PlanResult, ScalarValue, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::Lake;
use super::schema::Layout;
use super::state::DataFile;
use crate::error::{Context, Result};

/// The end of a file that is asked for first. Footer and indexes of thirty columns take 6 KiB in a small file and 17 in one of
/// 200,000 rows, so that most files are two requests and not four: their end, and their pages.
const FOOTER_BYTES: usize = 16 << 10;

/// One version of a table.
#[derive(Debug)]
pub(super) struct LakeScan {
    store: ObjectStoreUrl,
    /// In the order declared.
    schema: SchemaRef,
    partition: usize,
    /// As DataFusion wants it: the columns of the files, then the partition column.
    source: TableSchema,
    /// Where each declared column is in `source`.
    positions: Vec<usize>,
    files: Vec<(Arc<DataFile>, PartitionedFile)>,
}

impl LakeScan {
    pub(super) fn new(lake: &Lake, name: &str, layout: &Layout, files: Vec<Arc<DataFile>>) -> Result<Self> {
        let file_schema = layout.file_schema()?;
        let partition = Arc::clone(&layout.schema.fields()[layout.partition]);
        let last = file_schema.fields().len();
        let positions = (0..=last).map(|column| match column.cmp(&layout.partition) {
            std::cmp::Ordering::Less => column,
            std::cmp::Ordering::Equal => last,
            std::cmp::Ordering::Greater => column - 1,
        });
        let folder = lake.table_path(name);
        // What DataFusion wants to know of a file is a kilobyte for every three columns: files of a date share it.
        let mut known: BTreeMap<i32, Option<Arc<Statistics>>> = BTreeMap::new();
        let files = files.into_iter().map(|file| {
            let mut scanned = partitioned_file(&folder, &file)?;
            scanned.statistics = match known.get(&file.partition) {
                Some(shared) => shared.clone(),
                None => {
                    // Its date and nothing else: files were left out by what the log knows of them before.
                    let unknown = Arc::new(Statistics::new_unknown(&file_schema));
                    let dated = scanned.clone().with_statistics(unknown).statistics;
                    known.entry(file.partition).or_insert(dated).clone()
                }
            };
            Ok((file, scanned))
        });
        let files = files.collect::<Result<_>>()?;
        Ok(Self {
            store: lake.object_store_url()?,
            schema: Arc::clone(&layout.schema),
            partition: layout.partition,
            positions: positions.collect(),
            files,
            source: TableSchema::builder(file_schema).with_table_partition_cols(vec![partition]).build(),
        })
    }

    /// The files that may hold rows for which all of `filters` are true.
    fn pruned(&self, session: &dyn Session, filters: &[Expr]) -> PlanResult<Vec<&(Arc<DataFile>, PartitionedFile)>> {
        let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(self.files.iter().collect()) };
        let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
        let filter = session.create_physical_expr(filter, &schema)?;
        let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&self.schema));
        let kept = builder.try_build(filter)?.prune(&FileRanges { scan: self })?;
        Ok(self.files.iter().zip(kept).filter_map(|(file, kept)| kept.then_some(file)).collect())
    }
}

#[async_trait]
impl TableProvider for LakeScan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(statistics(self.files.iter().map(|(file, _)| file.as_ref()), &self.schema))
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let files = self.pruned(session, filters)?;
        if files.is_empty() {
            // A scan of no file group has no partition, and aggregates above it fail their plan check.
            let schema =
                projection.map_or_else(|| Ok(self.schema()), |columns| self.schema.project(columns).map(Arc::new));
            return Ok(Arc::new(EmptyExec::new(schema?)));
        }
        let statistics = statistics(files.iter().map(|(file, _)| file.as_ref()), self.source.table_schema());
        // Neighbouring files stay together: they are of one date, in the order they were written.
        let groups = files.chunks(files.len().div_ceil(session.config().target_partitions().max(1)));
        let groups = groups.map(|files| FileGroup::new(files.iter().map(|(_, file)| file.clone()).collect()));
        let projection = match projection {
            Some(columns) => columns.iter().map(|&column| self.positions[column]).collect(),
            None => self.positions.clone(),
        };
        let source = Arc::new(ParquetSource::new(self.source.clone()).with_metadata_size_hint(FOOTER_BYTES));
        let config = FileScanConfigBuilder::new(self.store.clone(), source)
            .with_file_groups(groups.collect())
            .with_statistics(statistics)
            .with_projection_indices(Some(projection))?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

fn partitioned_file(folder: &Path, file: &DataFile) -> Result<PartitionedFile> {
    let path = format!("{folder}/{}", file.path);
    let location = Path::parse(&path).context(|| format!("`{path}` is no path of a store"))?;
    let last_modified = DateTime::from_timestamp_millis(file.modified_ms).unwrap_or_default();
    let meta = ObjectMeta { location, last_modified, size: file.bytes, e_tag: None, version: None };
    let date = ScalarValue::Date32(Some(file.partition));
    Ok(PartitionedFile::new_from_meta(meta).with_partition_values(vec![date]))
}

/// Rows and bytes of some files: exact, so that `count(*)` needs no scan.
fn statistics<'a>(files: impl Iterator<Item = &'a DataFile>, schema: &Schema) -> Statistics {
    let (mut rows, mut bytes) = (Some(0), 0);
    for file in files {
        rows = rows.zip(file.rows).map(|(a, b)| a + b);
        bytes += file.bytes;
    }
    let count = |n: u64| usize::try_from(n).map_or(Precision::Absent, Precision::Exact);
    let mut statistics = Statistics::new_unknown(schema);
    statistics.num_rows = rows.map_or(Precision::Absent, count);
    statistics.total_byte_size = count(bytes).to_inexact();
    statistics
}

/// Ranges of all files of a scan, one row a file.
struct FileRanges<'a> {
    scan: &'a LakeScan,
}

impl FileRanges<'_> {
    fn bounds(&self, column: &Column, pick: fn((i64, i64)) -> i64) -> Option<ArrayRef> {
        let index = self.scan.schema.index_of(&column.name).ok()?;
        let files = self.scan.files.iter().map(|(file, _)| file);
        if index == self.scan.partition {
            return Some(Arc::new(files.map(|file| Some(file.partition)).collect::<Date32Array>()));
        }
        let range =
            |file: &DataFile| file.ranges.iter().find(|(column, _)| *column == index).map(|(_, range)| pick(*range));
        let values = files.map(|file| range(file)).collect::<Int64Array>();
        // Days are kept as i64 like everything else, and become a date by way of i32.
        let data_type = self.scan.schema.field(index).data_type();
        let days = matches!(data_type, DataType::Date32);
        let values = if days { cast(&values, &DataType::Int32).ok()? } else { Arc::new(values) };
        cast(&values, data_type).ok()
    }
}

impl PruningStatistics for FileRanges<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |(min, _)| min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |(_, max)| max)
    }

    fn num_containers(&self) -> usize {
        self.scan.files.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.scan.files.iter().map(|(file, _)| file.rows).collect::<UInt64Array>()))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::physical_plan::{collect, displayable};
    use datafusion::prelude::SessionContext;

    use super::super::{Table, testing};
    use super::*;

    async fn session(lake: &Lake, table: &Table) -> SessionContext {
        let session = SessionContext::new();
        lake.register(&session);
        session.register_table("payments", table.provider(None).await.unwrap()).unwrap();
        session
    }

    async fn published(epochs: u64) -> (tempfile::TempDir, Lake, Table) {
        let (folder, lake) = testing::lake();
        let table = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        for epoch in 0..epochs {
            let adds = table.stage(vec![testing::rows(100, epoch)], epoch).await.unwrap().adds;
            table.publish("app", epoch, &adds, &[]).await.unwrap();
        }
        (folder, lake, table)
    }

    #[tokio::test]
    async fn what_was_staged_is_what_is_read_types_and_all() {
        let (_folder, lake, table) = published(2).await;
        let read = testing::read(&lake, &table, None).await;
        assert_eq!(read.schema().fields(), testing::contract("payments").schema().fields());
        let staged = [testing::rows(100, 0), testing::rows(100, 1)];
        let staged = arrow::compute::concat_batches(&staged[0].schema(), &staged).unwrap();
        assert_eq!(read, testing::by_id(&staged));
        // The same through a table opened without its contract.
        let reader = Table::open_existing(&lake, "payments").await.unwrap().unwrap();
        assert_eq!(testing::read(&lake, &reader, None).await, read);
    }

    #[tokio::test]
    async fn files_are_left_out_by_partition_time_and_number() {
        let (_folder, lake, table) = published(3).await;
        let session = session(&lake, &table).await;
        // Each epoch wrote a file of five rows before midnight and one of 95 after it, one hour apart.
        for (filter, files, rows) in [
            ("true", 6, 300),
            ("event_date = DATE '2026-11-22'", 3, 15),
            ("event_date > DATE '2026-11-23'", 0, 0),
            ("event_time < TIMESTAMP '2026-11-23T00:00:00Z' AND _epoch = 1", 1, 5),
            ("_epoch >= 1", 4, 200),
            ("card = 'nobody'", 6, 0),
        ] {
            let sql = format!("SELECT payment_id, event_date FROM payments WHERE {filter}");
            let plan = session.sql(&sql).await.unwrap().create_physical_plan().await.unwrap();
            let shown = displayable(plan.as_ref()).indent(false).to_string();
            assert_eq!(shown.matches(".parquet").count(), files, "{filter}: {shown}");
            let batches = collect(plan, session.task_ctx()).await.unwrap();
            assert_eq!(batches.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), rows, "{filter}");
        }
    }

    #[tokio::test]
    async fn counting_needs_no_file_and_aggregates_are_exact() {
        let (folder, lake, table) = published(2).await;
        let session = session(&lake, &table).await;
        let sums = session.sql("SELECT sum(amount) AS s, count(*) AS n FROM payments").await.unwrap();
        let sums = pretty_format_batches(&sums.collect().await.unwrap()).unwrap().to_string();
        // Amounts are i + 0.01 for i in 0..100, twice.
        assert!(sums.contains("9902.00") && sums.contains("200"), "{sums}");
        for file in table.live_files().await.unwrap() {
            std::fs::remove_file(folder.path().join("payments").join(&file.path)).unwrap();
        }
        let count = session.sql("SELECT count(*) FROM payments").await.unwrap().collect().await.unwrap();
        assert!(pretty_format_batches(&count).unwrap().to_string().contains("200"));
    }

    #[tokio::test]
    async fn an_empty_table_reads_as_no_rows() {
        let (_folder, lake, table) = published(0).await;
        let session = session(&lake, &table).await;
        let rows = session.sql("SELECT card, count(*) FROM payments GROUP BY card").await.unwrap();
        assert_eq!(rows.collect().await.unwrap().iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 0);
    }

    #[tokio::test]
    async fn readers_see_the_version_of_an_epoch_also_after_later_ones() {
        let (_folder, lake, table) = published(3).await;
        for (epoch, rows) in [(0, 100), (1, 200), (2, 300), (9, 300)] {
            let version = table.version_of_epoch("app", epoch).await.unwrap();
            assert_eq!(version, 1 + epoch.min(2));
            // Known from following the log, and read anew by a table opened just now.
            assert_eq!(testing::read(&lake, &table, Some(version)).await.num_rows(), rows);
            let fresh = Table::open_existing(&lake, "payments").await.unwrap().unwrap();
            assert_eq!(testing::read(&lake, &fresh, Some(version)).await.num_rows(), rows);
        }
        assert_eq!(table.version_of_epoch("another app", 0).await.unwrap(), 3);
        assert!(table.provider(Some(4)).await.is_err());
    }
}
