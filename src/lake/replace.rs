//! Staging a replacement: the rows of some ranges of a time column give way to others, in files nothing refers to yet.
//!
//! The one law: every row outside the ranges is in the table after the commit exactly as often as before; of the rows
//! inside, only the given ones are. Files are rewritten one by one, so memory holds a part of one of them, whatever the
//! table's size. What it does not do: it neither commits nor knows which ranges are right.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::compute::kernels::boolean;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::Column;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::Expr;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;

use super::ranges::format_date;
use super::scan::LakeScan;
use super::state::DataFile;
use super::{Remove, Staged, Table};
use crate::clock::Micros;
use crate::error::{Context, Error, Result};

/// Rows gathered before they become files: of the width of an aggregate about 64 MB, and large enough that many small
/// files of one date come back as one.
const STAGE_ROWS: usize = 262_144;

/// What is replaced, and by what.
pub struct Replacement<'a> {
    /// A column of microseconds UTC.
    pub column: &'a str,
    /// Half-open ranges of that column, microseconds; in order and apart.
    pub ranges: &'a [(Micros, Micros)],
    /// The version of the table whose rows are replaced.
    pub version: u64,
    /// The epoch the files are named after.
    pub epoch: u64,
    /// The rows that come instead, in the table's schema.
    pub rows: SendableRecordBatchStream,
}

impl std::fmt::Debug for Replacement<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replacement")
            .field("column", &self.column)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A staged replacement, and what it is made of.
#[derive(Clone, Debug, Default)]
pub struct Replaced {
    pub staged: Staged,
    /// Rows that give way.
    pub rows_out: u64,
    /// Rows that come instead.
    pub rows_in: u64,
}

/// Which of a file's rows lie in the ranges, as far as its statistics tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    Nothing,
    Everything { rows: u64 },
    Unknown,
}

impl Table {
    /// Writes the new rows, and the untouched rows of every file that holds some of the ranges, into new files, and names
    /// the files they replace. Only files live at `version` are looked at: whoever commits the result must know that no
    /// rows of the ranges came later. [`Table::publish`] refuses it if one of those files has gone meanwhile.
    ///
    /// # Errors
    /// [`Error::Broken`] for rows of another schema; [`Error::Usage`] for a column that is no time;
    /// [`Error::External`] if the store does not answer.
    pub async fn stage_replacement(&self, replacement: Replacement<'_>) -> Result<Replaced> {
        let Replacement { column, ranges, version, epoch, mut rows } = replacement;
        let index = self.time_column(column)?;
        let what = || format!("cannot compute the rows that replace others in table `{}`", self.name());
        let mut staging = Staging { table: self, epoch, waiting: Vec::new(), rows: 0, staged: Staged::default() };
        let mut replaced = Replaced::default();
        while let Some(batch) = rows.try_next().await.context(what)? {
            replaced.rows_in += batch.num_rows() as u64;
            staging.push(batch).await?;
        }
        let (_, files) = self.log().files(Some(version)).await?;
        for file in files {
            let out = match share(&file, index, ranges, self.schema().field(index).is_nullable()) {
                Share::Nothing => 0,
                Share::Everything { rows } => rows,
                Share::Unknown => self.keep_others(&file, column, ranges, &mut staging).await?,
            };
            if out > 0 {
                replaced.rows_out += out;
                staging.staged.removes.push(self.removal(&file, true)?);
            }
        }
        staging.flush().await?;
        replaced.staged = staging.staged;
        Ok(replaced)
    }

    /// Stages the rows of a file that lie outside the ranges, if some lie inside; returns how many do.
    async fn keep_others(
        &self,
        file: &Arc<DataFile>,
        column: &str,
        ranges: &[(Micros, Micros)],
        staging: &mut Staging<'_>,
    ) -> Result<u64> {
        let what = || format!("cannot rewrite `{}` of table `{}`", file.path, self.name());
        let scan = LakeScan::new(self.lake(), self.name(), self.log().layout(), vec![file.clone()])?;
        let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        self.lake().register(&session);
        let rows = session.read_table(Arc::new(scan)).context(what)?;
        // Most files turn out to hold none of the ranges: the column alone tells.
        let times = rows.clone().select(vec![Expr::Column(Column::new_unqualified(column))]).context(what)?;
        let mut times = times.execute_stream().await.context(what)?;
        let mut out = 0;
        while let Some(batch) = times.try_next().await.context(what)? {
            out += within(&batch, column, ranges)?.true_count() as u64;
        }
        if out == 0 {
            return Ok(0);
        }
        let mut rows = rows.execute_stream().await.context(what)?;
        while let Some(batch) = rows.try_next().await.context(what)? {
            let kept = boolean::not(&within(&batch, column, ranges)?).context(what)?;
            staging.push(filter_record_batch(&batch, &kept).context(what)?).await?;
        }
        Ok(out)
    }

    /// The action that takes a file out, with all that readers of change logs and vacuum need; `data_change` unless another
    /// file holds its rows.
    pub(super) fn removal(&self, file: &DataFile, data_change: bool) -> Result<Remove> {
        let column = self.partition_by().to_owned();
        Ok(Remove {
            path: file.path.clone(),
            data_change,
            deletion_timestamp: Some(self.lake().clock.now() / 1_000),
            extended_file_metadata: Some(true),
            partition_values: Some([(column, format_date(file.partition))].into()),
            size: Some(i64::try_from(file.bytes).context(|| "a file is larger than a Delta log can say")?),
            ..Remove::default()
        })
    }

    fn time_column(&self, column: &str) -> Result<usize> {
        let schema = self.schema();
        match schema.column_with_name(column) {
            Some((index, field)) if matches!(field.data_type(), DataType::Timestamp(..)) => Ok(index),
            _ => Err(Error::usage(format!("table `{}` has no time column `{column}` to replace rows by", self.name()))),
        }
    }
}

/// Rows on their way into files.
struct Staging<'a> {
    table: &'a Table,
    epoch: u64,
    waiting: Vec<RecordBatch>,
    rows: usize,
    staged: Staged,
}

impl Staging<'_> {
    async fn push(&mut self, batch: RecordBatch) -> Result<()> {
        self.rows += batch.num_rows();
        self.waiting.push(batch);
        if self.rows >= STAGE_ROWS { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        self.rows = 0;
        let files = self.table.stage(std::mem::take(&mut self.waiting), self.epoch).await?;
        self.staged.extend(files);
        Ok(())
    }
}

fn share(file: &DataFile, column: usize, ranges: &[(Micros, Micros)], nullable: bool) -> Share {
    let Some((_, (min, max))) = file.ranges.iter().find(|(index, _)| *index == column) else { return Share::Unknown };
    if ranges.iter().all(|(from, to)| max < from || to <= min) {
        return Share::Nothing;
    }
    match file.rows {
        // Bounds say nothing of nulls.
        Some(rows) if !nullable && ranges.iter().any(|(from, to)| from <= min && max < to) => {
            Share::Everything { rows }
        }
        _ => Share::Unknown,
    }
}

/// Which rows' time lies in one of the ranges (in order and apart); a null lies in none.
///
/// # Errors
/// [`Error::Broken`] when the column is not a microsecond time.
pub fn within(rows: &RecordBatch, column: &str, ranges: &[(Micros, Micros)]) -> Result<BooleanArray> {
    let times = rows.column_by_name(column).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
    let times = times.ok_or_else(|| Error::broken(format!("no column `{column}` of microseconds")))?;
    let inside = |time: Micros| {
        let next = ranges.partition_point(|(from, _)| *from <= time);
        next > 0 && time < ranges[next - 1].1
    };
    Ok(times.iter().map(|time| Some(time.is_some_and(inside))).collect())
}

#[cfg(test)]
mod tests {
    use arrow::compute::concat_batches;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

    use super::super::{Lake, Publish, testing};
    use super::*;
    use crate::clock::MICROS_PER_SECOND;

    fn times(batch: &RecordBatch) -> Vec<i64> {
        batch.column_by_name("event_time").unwrap().as_primitive::<TimestampMicrosecondType>().values().to_vec()
    }

    fn stream(table: &Table, batches: Vec<RecordBatch>) -> SendableRecordBatchStream {
        let rows = futures::stream::iter(batches.into_iter().map(Ok));
        Box::pin(RecordBatchStreamAdapter::new(table.schema(), rows))
    }

    /// Three epochs of rows, a second apart from 23:59:55 on; each epoch's ids are its own.
    async fn table(lake: &Lake) -> Table {
        let table = Table::create_or_open(lake, &testing::contract("payments")).await.unwrap();
        for epoch in 0..3 {
            let rows = testing::rows(if epoch == 2 { 40 } else { 10 }, epoch);
            let adds = table.stage(vec![rows], epoch).await.unwrap().adds;
            table.publish("app", epoch, &adds, &[]).await.unwrap();
        }
        table
    }

    async fn replace(table: &Table, ranges: &[(Micros, Micros)], rows: Vec<RecordBatch>, epoch: u64) -> Replaced {
        let version = table.version().await.unwrap();
        let rows = stream(table, rows);
        table.stage_replacement(Replacement { column: "event_time", ranges, version, epoch, rows }).await.unwrap()
    }

    #[tokio::test]
    async fn rows_of_the_ranges_give_way_and_no_other_row_does() {
        let (_folder, lake) = testing::lake();
        let table = table(&lake).await;
        let before = testing::read(&lake, &table, None).await;
        let first = *times(&before).iter().min().unwrap();
        let second = |n: i64| first + n * MICROS_PER_SECOND;
        // Across midnight, and far from it; rows of epoch 9 come instead.
        let ranges = [(second(3), second(7)), (second(30), second(32))];
        let new = testing::rows(2, 9);
        let replaced = replace(&table, &ranges, vec![new.clone()], 9).await;
        // Seconds 3 to 6 of three epochs, 30 and 31 of one.
        assert_eq!((replaced.rows_out, replaced.rows_in), (14, 2));
        let Staged { adds, removes, .. } = &replaced.staged;
        assert_eq!(testing::read(&lake, &table, None).await, before, "staging shows nothing");
        assert!(matches!(table.publish("app", 9, adds, removes).await.unwrap(), Publish::Committed(4)));
        assert_eq!(table.publish("app", 9, adds, removes).await.unwrap(), Publish::AlreadyThere);
        let after = testing::read(&lake, &table, None).await;
        let kept: Vec<bool> =
            times(&before).iter().map(|t| !ranges.iter().any(|(from, to)| from <= t && t < to)).collect();
        let kept = filter_record_batch(&before, &kept.into()).unwrap();
        assert_eq!(after, testing::by_id(&concat_batches(&kept.schema(), [&kept, &testing::by_id(&new)]).unwrap()));
        // The version before is still there for whoever reads it, and a fresh process sees the same.
        assert_eq!(testing::read(&lake, &table, Some(3)).await, before);
        let other = Table::open_existing(&lake, "payments").await.unwrap().unwrap();
        assert_eq!(testing::read(&lake, &other, None).await, after);
        table.checkpoint().await.unwrap();
        let other = Table::open_existing(&lake, "payments").await.unwrap().unwrap();
        assert_eq!(testing::read(&lake, &other, None).await, after);
    }

    #[tokio::test]
    async fn a_file_wholly_inside_is_not_read_and_one_outside_not_touched() {
        let (folder, lake) = testing::lake();
        let table = table(&lake).await;
        let midnight = 20_780 * 86_400 * MICROS_PER_SECOND;
        // Every file of 2026-11-22 lies inside: they go without being opened, so they may be gone already.
        let names: Vec<_> = table.live_files().await.unwrap().into_iter().filter(|f| f.partition == 20_779).collect();
        for file in &names {
            std::fs::remove_file(folder.path().join("payments").join(&file.path)).unwrap();
        }
        let replaced = replace(&table, &[(0, midnight)], Vec::new(), 3).await;
        assert_eq!((names.len(), replaced.rows_out, replaced.staged.adds.len()), (3, 15, 0));
        let mut removed: Vec<_> = replaced.staged.removes.iter().map(|r| r.path.clone()).collect();
        removed.sort();
        assert_eq!(removed, names.iter().map(|file| file.path.clone()).collect::<Vec<_>>());
        for remove in &replaced.staged.removes {
            assert!(remove.data_change && remove.size > Some(0));
            assert_eq!(remove.deletion_timestamp, Some(testing::NOW / 1_000));
            assert_eq!(remove.partition_values.as_ref().unwrap()["event_date"].as_deref(), Some("2026-11-22"));
        }
        table.publish("app", 3, &[], &replaced.staged.removes).await.unwrap();
        assert_eq!(testing::read(&lake, &table, None).await.num_rows(), 45);
    }

    #[tokio::test]
    async fn a_replacement_of_a_file_that_has_gone_is_refused_and_commits_nothing() {
        let (_folder, lake) = testing::lake();
        let table = table(&lake).await;
        let (one, two) = (
            replace(&table, &[(0, i64::MAX)], Vec::new(), 3).await,
            replace(&table, &[(0, i64::MAX)], Vec::new(), 4).await,
        );
        table.publish("app", 3, &[], &one.staged.removes).await.unwrap();
        let error = table.publish("app", 4, &two.staged.adds, &two.staged.removes).await.unwrap_err();
        assert!(matches!(&error, Error::Broken(m) if m.contains("not in the table any more")), "{error}");
        assert_eq!(table.version().await.unwrap(), 4);
        // What was published is not looked at twice: its files have gone by its own commit.
        assert_eq!(table.publish("app", 3, &[], &one.staged.removes).await.unwrap(), Publish::AlreadyThere);
    }

    #[tokio::test]
    async fn only_a_time_is_replaced_by() {
        let (_folder, lake) = testing::lake();
        let table = table(&lake).await;
        let rows = stream(&table, Vec::new());
        let by = Replacement { column: "items", ranges: &[(0, 1)], version: 0, epoch: 0, rows };
        let error = table.stage_replacement(by).await.unwrap_err();
        assert!(matches!(&error, Error::Usage(m) if m.contains("no time column `items`")), "{error}");
    }
}
