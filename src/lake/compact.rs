//! Staging a compaction: the rows of some files of one partition in fewer, larger files, which nothing refers to yet.
//!
//! The one law: the rows of the new files are those of the old ones, each as often, or nothing is staged. They are sorted
//! as the contract says over all of these files, by a sort that spills; the file being written leaves row group by row
//! group. So memory has a bound whatever the partition's size. What it does not do: it neither commits nor chooses.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use datafusion::common::Column;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::{Expr, SortExpr};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use object_store::buffered::BufWriter;
use parquet::arrow::ArrowWriter;
use tokio::io::AsyncWriteExt;

use super::scan::LakeScan;
use super::stage::NewFile;
use super::state::DataFile;
use super::stats::FileStats;
use super::{Staged, Table, encode};
use crate::error::{Context, Error, Result};

/// Bytes that go to the store at once; smaller files are one request.
const PART_BYTES: usize = 10 << 20;
/// Requests of one file under way: writing is not what takes time.
const PARTS_AT_ONCE: usize = 2;
/// A file may be larger or smaller than aimed at by this part: that is just enough for any number of bytes.
const SLACK: u64 = 3;

/// What is compacted.
#[derive(Debug)]
pub struct Compaction<'a> {
    /// Of one partition.
    pub files: &'a [Arc<DataFile>],
    /// The epoch the files are named after: the last one whose rows they may hold.
    pub epoch: u64,
    /// Bytes of a new file, more or less by a third; of a single one, less if there are no more.
    pub file_bytes: u64,
    /// See [`spilling`].
    pub runtime: &'a Arc<RuntimeEnv>,
}

/// What sorts share: operators hold so many bytes, and write what is more to the system's folder for temporary files.
///
/// # Errors
/// [`Error::External`] when there is no such folder.
pub fn spilling(memory_bytes: usize) -> Result<Arc<RuntimeEnv>> {
    let pool = Arc::new(FairSpillPool::new(memory_bytes));
    RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().context(|| "making a session that spills")
}

impl Table {
    /// Writes the rows of some files of one partition into new files, and names the files they replace. None of it is a
    /// change of data. [`Table::publish`] refuses it if one of those files has gone meanwhile.
    ///
    /// # Errors
    /// [`Error::Broken`] if other rows came out than went in, or for files of several partitions; [`Error::External`] if the
    /// store or the folder for temporary files does not answer.
    pub async fn stage_compaction(&self, compaction: Compaction<'_>) -> Result<Staged> {
        let Compaction { files, epoch, file_bytes, runtime } = compaction;
        let Some(partition) = files.first().map(|file| file.partition) else { return Ok(Staged::default()) };
        if files.iter().any(|file| file.partition != partition) {
            return Err(Error::broken(format!(
                "files of table `{}` of several partitions are one compaction",
                self.name()
            )));
        }
        let what = || format!("cannot write files of table `{}` together", self.name());
        let known = files.iter().map(|file| file.rows).sum::<Option<u64>>();
        let shares = Shares { rows: known.unwrap_or(0), file_bytes };
        let mut writing = Writing { table: self, partition, epoch, shares, data_change: false, open: None };
        let columns = self.log().layout().file_columns();
        let mut staged = Staged::default();
        let mut rows = self.in_order(files, runtime).await?;
        while let Some(batch) = rows.try_next().await.context(what)? {
            let batch = self.declared(&batch)?.project(&columns).context(what)?;
            writing.write(batch, &mut staged).await?;
        }
        writing.close(&mut staged).await?;
        if known.is_some_and(|rows| rows != staged.rows) {
            return Err(Error::broken(format!(
                "table `{}`: {} files hold {} rows, and the log says {}: run `lakeward audit`",
                self.name(),
                files.len(),
                staged.rows,
                known.unwrap_or_default()
            )));
        }
        staged.removes = files.iter().map(|file| self.removal(file, false)).collect::<Result<_>>()?;
        Ok(staged)
    }

    /// The rows of some files, in the contract's order.
    async fn in_order(&self, files: &[Arc<DataFile>], runtime: &Arc<RuntimeEnv>) -> Result<SendableRecordBatchStream> {
        let what = || format!("cannot read files of table `{}` to write them together", self.name());
        let layout = self.log().layout();
        let scan = LakeScan::new(self.lake(), self.name(), layout, files.to_vec())?;
        let config = SessionConfig::new().with_target_partitions(1);
        let session = SessionContext::new_with_config_rt(config, Arc::clone(runtime));
        self.lake().register(&session);
        let mut rows = session.read_table(Arc::new(scan)).context(what)?;
        if !layout.sort.is_empty() {
            let column = |column: usize| Expr::Column(Column::new_unqualified(layout.schema.field(column).name()));
            // As staging sorts: ascending, nulls first.
            let order: Vec<SortExpr> = layout.sort.iter().map(|&index| column(index).sort(true, true)).collect();
            rows = rows.sort(order).context(what)?;
        }
        rows.execute_stream().await.context(what)
    }
}

/// Where one file ends and the next begins, so that all are about equal and none is tiny. How many there are follows from
/// the bytes that rows have become, not from those they had: sorted together they take a half, a tenth.
struct Shares {
    /// All there are; 0 if nobody knows, and then they become one file.
    rows: u64,
    file_bytes: u64,
}

/// Rows that are encoded to the last byte: those of a row group under way are not, and look larger than they will be.
struct Extent {
    rows: u64,
    bytes: u64,
}

impl Shares {
    /// Everything in one file.
    const ONE: Self = Self { rows: 0, file_bytes: u64::MAX };

    /// Bytes of the smallest file there may be beside others.
    fn least(&self) -> u64 {
        self.file_bytes - self.file_bytes / SLACK
    }

    /// Whether a file of `open` rows is to end here, rather than after the next batch of as many rows as the last. `encoded`
    /// are those in its finished row groups, `closed` those of the files before.
    fn is_full(&self, open: u64, batch: u64, encoded: &Extent, closed: &Extent) -> bool {
        let (rows, bytes) = (closed.rows + encoded.rows, closed.bytes + encoded.bytes);
        // Of nothing, nothing is expected, and no file ends.
        let expected = |of: u64| of.saturating_mul(bytes).checked_div(rows).unwrap_or(0);
        let left = expected(self.rows.saturating_sub(closed.rows + open));
        let open = encoded.bytes + expected(open - encoded.rows);
        let files = (open + left).saturating_sub(self.file_bytes / SLACK).div_ceil(self.file_bytes);
        let is_share = (open + expected(batch) / 2).saturating_mul(files) >= open + left;
        is_share && open.min(left) >= self.least()
    }
}

/// Files of one partition, written one after the other from rows that come in order.
pub(super) struct Writing<'a> {
    table: &'a Table,
    partition: i32,
    epoch: u64,
    shares: Shares,
    data_change: bool,
    open: Option<OpenFile>,
}

/// A file being written: what is encoded has left for the store, but for the row group under way.
pub(super) struct OpenFile {
    name: NewFile,
    encoder: Encoder,
    upload: BufWriter,
    bytes: u64,
}

struct Encoder {
    writer: ArrowWriter<Vec<u8>>,
    stats: FileStats,
}

impl Encoder {
    fn encoded(&self) -> Extent {
        let rows = self.writer.flushed_row_groups().iter().map(|group| group.num_rows().unsigned_abs()).sum();
        Extent { rows, bytes: self.writer.bytes_written() as u64 }
    }
}

impl<'a> Writing<'a> {
    /// The rows a file keeps when others of it go, as one file: a change of data.
    pub(super) fn rest_of(table: &'a Table, partition: i32, epoch: u64) -> Self {
        Self { table, partition, epoch, shares: Shares::ONE, data_change: true, open: None }
    }

    /// Writes rows, without the partition column, after those before them.
    pub(super) async fn write(&mut self, batch: RecordBatch, staged: &mut Staged) -> Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let what = || format!("cannot encode rows of table `{}`", self.table.name());
        let added = batch.num_rows() as u64;
        let mut encoder = open.encoder;
        // Encoding computes; a worker of the runtime would stand still.
        let encode = tokio::task::spawn_blocking(move || {
            encoder.writer.write(&batch).context(|| "cannot encode rows as Parquet")?;
            encoder.stats.observe(&batch)?;
            let encoded = std::mem::take(encoder.writer.inner_mut());
            Ok::<_, Error>((encoder, encoded))
        });
        let (encoder, encoded) = encode.await.context(what)??;
        open.encoder = encoder;
        open.send(self.table, encoded).await?;
        let closed = Extent { rows: staged.rows, bytes: staged.bytes };
        let is_full = self.shares.is_full(open.encoder.stats.rows(), added, &open.encoder.encoded(), &closed);
        self.open = Some(open);
        if is_full { self.close(staged).await } else { Ok(()) }
    }

    fn begin(&self) -> Result<OpenFile> {
        let layout = self.table.log().layout();
        let schema = layout.file_schema()?;
        let name = self.table.new_file(self.partition, self.epoch)?;
        let store = Arc::clone(&self.table.lake().root);
        let upload = BufWriter::with_capacity(store, name.location.clone(), PART_BYTES);
        let writer = encode::writer(layout, &schema, encode::Standing::Settled { least_bytes: self.shares.least() })?;
        let encoder = Encoder { writer, stats: FileStats::new(&schema) };
        Ok(OpenFile { name, encoder, upload: upload.with_max_concurrency(PARTS_AT_ONCE), bytes: 0 })
    }

    /// Ends the open file, if there is one, and waits until the store has it.
    pub(super) async fn close(&mut self, staged: &mut Staged) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let what = || format!("cannot finish a file of table `{}`", self.table.name());
        let mut encoder = open.encoder;
        let finish = tokio::task::spawn_blocking(move || {
            encoder.writer.finish().context(|| "cannot finish a Parquet file")?;
            let encoded = std::mem::take(encoder.writer.inner_mut());
            Ok::<_, Error>((encoder, encoded))
        });
        let (encoder, encoded) = finish.await.context(what)??;
        open.encoder = encoder;
        open.send(self.table, encoded).await?;
        open.upload.shutdown().await.context(what)?;
        let OpenFile { name, encoder, bytes, .. } = open;
        staged.rows += encoder.stats.rows();
        staged.bytes += bytes;
        staged.adds.push(self.table.add(name, bytes, &encoder.stats, self.data_change)?);
        Ok(())
    }
}

impl OpenFile {
    async fn send(&mut self, table: &Table, encoded: Vec<u8>) -> Result<()> {
        if encoded.is_empty() {
            return Ok(());
        }
        self.bytes += encoded.len() as u64;
        let sent = self.upload.put(Bytes::from(encoded)).await;
        sent.context(|| format!("cannot write `{}` of table `{}`", self.name.path, table.name()))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::TimestampMicrosecondType;
    use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use serde_json::Value;

    use super::super::{Lake, Publish, testing};
    use super::*;
    use crate::contract::TableContract;

    async fn table(lake: &Lake, epochs: u64, rows: usize) -> Table {
        let contract = TableContract { bloom_filters: vec!["payment_id".into()], ..testing::contract("payments") };
        let table = Table::create_or_open(lake, &contract).await.unwrap();
        for epoch in 0..epochs {
            let adds = table.stage(vec![testing::rows(rows, epoch)], epoch).await.unwrap().adds;
            table.publish("app", epoch, &adds, &[]).await.unwrap();
        }
        table
    }

    async fn of_date(table: &Table, partition: i32) -> Vec<Arc<DataFile>> {
        table.live_files().await.unwrap().into_iter().filter(|file| file.partition == partition).collect()
    }

    async fn compact(table: &Table, files: &[Arc<DataFile>], file_bytes: u64, epoch: u64) -> Staged {
        let runtime = &spilling(64 << 20).unwrap();
        table.stage_compaction(Compaction { files, epoch, file_bytes, runtime }).await.unwrap()
    }

    fn commit(folder: &std::path::Path, version: u64) -> Vec<Value> {
        let text = std::fs::read_to_string(folder.join(format!("payments/_delta_log/{version:020}.json"))).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn many_files_of_a_date_become_one_of_the_same_rows_in_order() {
        let (folder, lake) = testing::lake();
        let table = table(&lake, 7, 30).await;
        let before = testing::read(&lake, &table, None).await;
        let files = of_date(&table, 20_780).await;
        let staged = compact(&table, &files, 1 << 20, 6).await;
        assert_eq!((files.len(), staged.adds.len(), staged.removes.len(), staged.rows), (7, 1, 7, 175));
        assert_eq!(testing::read(&lake, &table, None).await, before, "staging shows nothing");
        let Staged { adds, removes, .. } = &staged;
        assert!(matches!(table.publish("app", 7, adds, removes).await.unwrap(), Publish::Committed(8)));
        assert_eq!(testing::read(&lake, &table, None).await, before);
        assert_eq!(of_date(&table, 20_780).await.len(), 1);
        // No reader of changes is told of any.
        let actions = commit(folder.path(), 8);
        assert_eq!(actions.iter().find_map(|a| a["commitInfo"]["operation"].as_str()), Some("OPTIMIZE"));
        let changes = actions.iter().flat_map(|action| [&action["add"], &action["remove"]]).filter(|a| a.is_object());
        assert_eq!(changes.map(|change| assert_eq!(change["dataChange"], false)).count(), 8);
        // Sorted over all of them, and with the Bloom filter that small files go without; the version before is still there.
        let reader = |path: &str| {
            let file = std::fs::File::open(folder.path().join("payments").join(path)).unwrap();
            ParquetRecordBatchReaderBuilder::try_new(file).unwrap()
        };
        let filtered = |path: &str| {
            let columns = reader(path).metadata().row_group(0).columns().to_vec();
            let filtered = columns.iter().filter(|column| column.bloom_filter_offset().is_some());
            filtered.map(|column| column.column_path().string()).collect::<Vec<_>>()
        };
        assert_eq!((filtered(&files[0].path), filtered(&adds[0].path)), (vec![], vec!["payment_id".to_owned()]));
        let times: Vec<i64> = reader(&adds[0].path)
            .build()
            .unwrap()
            .flat_map(|batch| batch.unwrap()["event_time"].as_primitive::<TimestampMicrosecondType>().values().to_vec())
            .collect();
        assert!(times.len() == 175 && times.is_sorted());
        assert_eq!(testing::read(&lake, &table, Some(7)).await, before);
        let fresh = Table::open_existing(&lake, "payments").await.unwrap().unwrap();
        assert_eq!(testing::read(&lake, &fresh, None).await, before);
    }

    #[tokio::test]
    async fn rows_published_by_the_same_epoch_are_an_append_all_the_same() {
        let (folder, lake) = testing::lake();
        let table = table(&lake, 2, 30).await;
        let mut staged = compact(&table, &of_date(&table, 20_779).await, 1 << 20, 1).await;
        staged.extend(table.stage(vec![testing::rows(10, 2)], 2).await.unwrap());
        table.publish("app", 2, &staged.adds, &staged.removes).await.unwrap();
        assert_eq!(testing::read(&lake, &table, None).await.num_rows(), 70);
        let actions = commit(folder.path(), 3);
        assert_eq!(actions.iter().find_map(|a| a["commitInfo"]["operation"].as_str()), Some("WRITE"));
    }

    #[tokio::test]
    async fn what_does_not_fit_into_memory_is_sorted_on_disk() {
        let (_folder, lake) = testing::lake();
        // Some 30 MB in memory; the sort may hold 16.
        let table = table(&lake, 12, 10_000).await;
        let files = of_date(&table, 20_780).await;
        let runtime = |mode| {
            let disk = DiskManagerBuilder::default().with_mode(mode);
            let pool = Arc::new(FairSpillPool::new(16 << 20));
            let builder = RuntimeEnvBuilder::new().with_memory_pool(pool).with_disk_manager_builder(disk);
            builder.build_arc().unwrap()
        };
        let with = async |runtime: Arc<RuntimeEnv>| {
            table.stage_compaction(Compaction { files: &files, epoch: 1, file_bytes: 1 << 19, runtime: &runtime }).await
        };
        assert!(with(runtime(DiskManagerMode::Disabled)).await.is_err(), "it fits into memory");
        let staged = with(runtime(DiskManagerMode::OsTmpDirectory)).await.unwrap();
        assert_eq!(staged.rows, 12 * 9_995);
        assert!(staged.adds.len() > 1, "{:?}", staged.adds);
        let before = testing::read(&lake, &table, None).await;
        table.publish("app", 12, &staged.adds, &staged.removes).await.unwrap();
        assert_eq!(testing::read(&lake, &table, None).await, before);
    }

    #[tokio::test]
    async fn rows_that_the_log_does_not_know_of_stop_it() {
        let (_folder, lake) = testing::lake();
        let table = table(&lake, 2, 30).await;
        let mut files = of_date(&table, 20_780).await;
        files[1] = Arc::new(DataFile { rows: Some(24), ..files[1].as_ref().clone() });
        let runtime = &spilling(64 << 20).unwrap();
        let compaction = Compaction { files: &files, epoch: 1, file_bytes: 1 << 20, runtime };
        let error = table.stage_compaction(compaction).await.unwrap_err();
        assert!(matches!(&error, Error::Broken(m) if m.contains("50 rows") && m.contains("49")), "{error}");
    }

    /// Compaction takes off what nobody can tell beforehand: here five bytes of six.
    #[tokio::test]
    async fn files_come_out_about_equal_whatever_becomes_of_their_bytes() {
        let (_folder, lake) = testing::lake();
        let table = table(&lake, 20, 9_000).await;
        let files = of_date(&table, 20_780).await;
        let whole = compact(&table, &files, 1 << 30, 19).await.bytes;
        for (tenths, count) in [(12, 1), (14, 2), (22, 2), (31, 4)] {
            let aim = whole * 10 / tenths;
            let adds = compact(&table, &files, aim, 19).await.adds;
            let sizes: Vec<u64> = adds.iter().map(|add| add.size.unsigned_abs()).collect();
            let (least, most) = (*sizes.iter().min().unwrap(), *sizes.iter().max().unwrap());
            assert_eq!(sizes.len(), count, "{whole} bytes in files of {aim} are {sizes:?}");
            assert!(least >= aim * 2 / 3 && most <= aim * 4 / 3, "{whole} bytes in files of {aim} are {sizes:?}");
            assert!(most - least <= aim / 4, "{whole} bytes in files of {aim} are {sizes:?}");
        }
    }

    /// Batches are a megabyte here, row groups 128.
    #[test]
    fn files_of_any_number_of_bytes_are_a_third_larger_or_smaller_at_most() {
        for all in 128..=1_024_u64 {
            let shares = Shares { rows: all << 10, file_bytes: 192 << 20 };
            let (mut closed, mut sizes) = (0, Vec::new());
            for batch in 1..=all {
                let open = batch - closed;
                let extent = |megabytes: u64| Extent { rows: megabytes << 10, bytes: megabytes << 20 };
                let is_full = shares.is_full(open << 10, 1 << 10, &extent(open / 128 * 128), &extent(closed));
                if is_full || batch == all {
                    sizes.push(open);
                    closed = batch;
                }
            }
            assert!(sizes.iter().all(|size| (128..=256).contains(size)), "{all} MiB are {sizes:?}");
        }
    }
}
