//! Staging what takes rows out for good: the rest of each file that holds rows to be erased, and dates as a whole.
//!
//! The one law: every other row of a rewritten file is in the new one, as often and in the same order; a file without such
//! rows is not touched. Which rows are meant is told by values in them, never by statistics, so none is overlooked. Files
//! are rewritten one by one as they are read: memory holds a row group. What it does not do: it commits nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::compute::kernels::boolean;
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use datafusion::common::Column;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::Expr;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;

use super::compact::Writing;
use super::scan::LakeScan;
use super::state::DataFile;
use super::{Staged, Table};
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::contract::provenance;
use crate::error::{Context, Error, Result};

/// Times of erased rows are told to the minute.
pub const TIMES_GRAIN: Micros = 60 * MICROS_PER_SECOND;

/// Which rows are to go: those in which one of these texts stands in one of the columns, wherever in its value.
#[derive(Clone, Copy, Debug)]
pub struct Marked<'a> {
    /// Columns of text or bytes.
    pub columns: &'a [String],
    pub texts: &'a [String],
}

/// What erasing rows of a table takes.
#[derive(Clone, Debug, Default)]
pub struct ErasedFiles {
    pub staged: Staged,
    /// Rows erased, by value of the partition column.
    pub rows: BTreeMap<String, u64>,
    /// By value of the partition column and epoch, of tables whose rows tell their epoch.
    pub epochs: BTreeMap<String, BTreeMap<u64, u64>>,
    /// For each column of times the minutes in which rows erased lay, as their first microsecond.
    pub minutes: BTreeMap<Arc<str>, BTreeSet<Micros>>,
}

impl Table {
    /// Columns in which a text may stand: of text or bytes, those the engine fills by itself left out.
    pub fn text_columns(&self) -> Vec<String> {
        let schema = self.schema();
        let texts =
            schema.fields().iter().filter(|field| matches!(field.data_type(), DataType::Utf8 | DataType::Binary));
        texts.map(|field| field.name().clone()).filter(|name| !name.starts_with('_')).collect()
    }

    /// Whether some file holds a marked row; files as a log or a slot names them, see [`Table::provider_of`].
    ///
    /// # Errors
    /// [`Error::External`] if the store does not answer.
    pub async fn holds_marked<'f>(
        &self,
        files: impl IntoIterator<Item = (&'f str, Option<&'f str>, u64)>,
        marked: Marked<'_>,
    ) -> Result<bool> {
        let what = || format!("looking for rows of table `{}`", self.name());
        if marked.columns.is_empty() {
            return Ok(false);
        }
        let rows = self.one_by_one().read_table(self.provider_of(files)?).context(what)?;
        let mut rows = columns_of(rows, marked.columns).context(what)?.execute_stream().await.context(what)?;
        while let Some(batch) = rows.try_next().await.context(what)? {
            if marks(&batch, marked)?.true_count() > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes the rows that stay of every file live at `version` that holds marked rows into new files, and names the files
    /// they replace. [`Table::publish`] refuses it if one of those files has gone meanwhile.
    ///
    /// # Errors
    /// [`Error::External`] if the store does not answer.
    pub async fn stage_erasure(&self, marked: Marked<'_>, version: u64, epoch: u64) -> Result<ErasedFiles> {
        let mut erased = ErasedFiles::default();
        if marked.columns.is_empty() {
            return Ok(erased);
        }
        for file in self.live_files_at(version).await? {
            let gone = self.note_marked(&file, marked, &mut erased).await?;
            if gone == 0 {
                continue;
            }
            *erased.rows.entry(file.date()?).or_default() += gone;
            let before = erased.staged.rows;
            self.keep_unmarked(&file, marked, epoch, &mut erased.staged).await?;
            let kept = erased.staged.rows - before;
            if file.rows.is_some_and(|rows| rows != kept + gone) {
                let (name, path) = (self.name(), &file.path);
                return Err(Error::broken(format!(
                    "table `{name}`: `{path}` holds {} rows, and the log says {:?}: run `lakeward audit`",
                    kept + gone,
                    file.rows
                )));
            }
            erased.staged.removes.push(self.removal(&file, true)?);
        }
        Ok(erased)
    }

    /// Takes whole files out, as they are; for each column of times the first microsecond after the values they may hold.
    ///
    /// # Errors
    /// [`Error::External`] for a file larger than a log can say.
    pub fn stage_expiry(&self, files: &[Arc<DataFile>]) -> Result<(Staged, BTreeMap<Arc<str>, Micros>)> {
        let removes = files.iter().map(|file| self.removal(file, true)).collect::<Result<_>>()?;
        let mut until: BTreeMap<Arc<str>, Micros> = BTreeMap::new();
        for column in self.time_columns() {
            let index = self.schema().index_of(&column).context(|| "a column of the table's own schema")?;
            for file in files {
                let range = file.ranges.iter().find(|(at, _)| *at == index);
                // Without statistics nothing is known; a foreign file may have none.
                let Some((_, (_, max))) = range else { continue };
                let bound = until.entry(Arc::clone(&column)).or_insert(Micros::MIN);
                *bound = (*bound).max(max.saturating_add(1));
            }
        }
        Ok((Staged { removes, ..Staged::default() }, until))
    }

    /// Counts a file's marked rows, and notes their epochs and times.
    async fn note_marked(&self, file: &Arc<DataFile>, marked: Marked<'_>, erased: &mut ErasedFiles) -> Result<u64> {
        let what = || format!("cannot read `{}` of table `{}`", file.path, self.name());
        let times = self.time_columns();
        let has_epoch = self.schema().column_with_name(provenance::EPOCH).is_some();
        let columns = marked.columns.iter().cloned().chain(times.iter().map(ToString::to_string));
        let columns: Vec<String> = columns.chain(has_epoch.then(|| provenance::EPOCH.to_owned())).collect();
        let rows = columns_of(self.rows_of(file)?, &columns).context(what)?;
        let mut rows = rows.execute_stream().await.context(what)?;
        let (date, mut count) = (file.date()?, 0);
        while let Some(batch) = rows.try_next().await.context(what)? {
            let gone = marks(&batch, marked)?;
            if gone.true_count() == 0 {
                continue;
            }
            let batch = filter_record_batch(&batch, &gone).context(what)?;
            count += batch.num_rows() as u64;
            for (index, name) in times.iter().enumerate() {
                let values = batch.column(marked.columns.len() + index).as_primitive::<TimestampMicrosecondType>();
                let minutes = values.iter().flatten().map(|time| time - time.rem_euclid(TIMES_GRAIN));
                erased.minutes.entry(Arc::clone(name)).or_default().extend(minutes);
            }
            if has_epoch {
                let epochs = batch.column(batch.num_columns() - 1).as_primitive::<Int64Type>();
                let of_date = erased.epochs.entry(date.clone()).or_default();
                for epoch in epochs.iter().flatten() {
                    *of_date.entry(u64::try_from(epoch).unwrap_or_default()).or_default() += 1;
                }
            }
        }
        Ok(count)
    }

    /// Writes the rows of a file that are not marked into one of its own, if there are any.
    async fn keep_unmarked(
        &self,
        file: &Arc<DataFile>,
        marked: Marked<'_>,
        epoch: u64,
        staged: &mut Staged,
    ) -> Result<()> {
        let what = || format!("cannot rewrite `{}` of table `{}`", file.path, self.name());
        let columns = self.log().layout().file_columns();
        let mut writing = Writing::rest_of(self, file.partition, epoch);
        let mut rows = self.rows_of(file)?.execute_stream().await.context(what)?;
        while let Some(batch) = rows.try_next().await.context(what)? {
            let kept = boolean::not(&marks(&batch, marked)?).context(what)?;
            let batch = filter_record_batch(&batch, &kept).context(what)?;
            if batch.num_rows() > 0 {
                writing.write(self.declared(&batch)?.project(&columns).context(what)?, staged).await?;
            }
        }
        writing.close(staged).await
    }

    /// Columns of microseconds, those the engine fills by itself left out.
    fn time_columns(&self) -> Vec<Arc<str>> {
        let schema = self.schema();
        let times = schema.fields().iter().filter(|field| matches!(field.data_type(), DataType::Timestamp(..)));
        times.map(|field| Arc::from(field.name().as_str())).filter(|name: &Arc<str>| !name.starts_with('_')).collect()
    }

    fn rows_of(&self, file: &Arc<DataFile>) -> Result<DataFrame> {
        let scan = LakeScan::new(self.lake(), self.name(), self.log().layout(), vec![Arc::clone(file)])?;
        let rows = self.one_by_one().read_table(Arc::new(scan));
        rows.context(|| format!("cannot read `{}` of table `{}`", file.path, self.name()))
    }

    /// A session that reads rows in the order of their file.
    fn one_by_one(&self) -> SessionContext {
        let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        self.lake().register(&session);
        session
    }
}

fn columns_of(rows: DataFrame, columns: &[String]) -> datafusion::common::Result<DataFrame> {
    rows.select(columns.iter().map(|name| Expr::Column(Column::new_unqualified(name))).collect::<Vec<_>>())
}

/// Which rows are marked; a null is not.
fn marks(batch: &RecordBatch, marked: Marked<'_>) -> Result<BooleanArray> {
    let mut found = vec![false; batch.num_rows()];
    let holds = |text: &str| marked.texts.iter().any(|wanted| text.contains(wanted));
    for name in marked.columns {
        let column = batch.column_by_name(name);
        let column = column.ok_or_else(|| Error::broken(format!("no column `{name}` in rows read")))?;
        match column.data_type() {
            DataType::Utf8 => {
                for (found, text) in found.iter_mut().zip(column.as_string::<i32>()) {
                    *found = *found || text.is_some_and(holds);
                }
            }
            DataType::Binary => {
                for (found, bytes) in found.iter_mut().zip(column.as_binary::<i32>()) {
                    // A token is ASCII: what else stands around it does not matter.
                    *found = *found || bytes.is_some_and(|bytes| holds(&String::from_utf8_lossy(bytes)));
                }
            }
            other => return Err(Error::broken(format!("column `{name}` is no text but {other}"))),
        }
    }
    Ok(found.into())
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StringArray};

    use super::super::{Following, Lake, Publish, testing};
    use super::*;
    use crate::contract::Column;

    async fn table(lake: &Lake) -> Table {
        let table = Table::create_or_open(lake, &testing::contract("payments")).await.unwrap();
        for epoch in 0..3 {
            let adds = table.stage(vec![testing::rows(40, epoch)], epoch).await.unwrap().adds;
            table.publish("app", epoch, &adds, &[]).await.unwrap();
        }
        table
    }

    fn ids(batch: &RecordBatch) -> Vec<String> {
        let ids = batch.column_by_name("payment_id").unwrap().as_string::<i32>();
        ids.iter().flatten().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn marked_rows_go_and_all_others_stay() {
        let (_folder, lake) = testing::lake();
        let table = table(&lake).await;
        let before = testing::read(&lake, &table, None).await;
        // One row of each of two epochs, one of which is alone in no file.
        let wanted = [ids(&before)[3].clone(), ids(&before)[70].clone()];
        let columns = ["payment_id".to_owned()];
        let marked = Marked { columns: &columns, texts: &wanted };
        let version = table.version().await.unwrap();
        let erased = table.stage_erasure(marked, version, 2).await.unwrap();
        assert_eq!(testing::read(&lake, &table, None).await, before, "staging shows nothing");
        let Staged { adds, removes, rows, .. } = &erased.staged;
        assert_eq!((adds.len(), removes.len()), (2, 2), "{erased:?}");
        assert!(adds.iter().all(|add| add.data_change) && removes.iter().all(|remove| remove.data_change));
        assert_eq!(erased.rows.values().sum::<u64>(), 2);
        let by_epoch: u64 = erased.epochs.values().flat_map(BTreeMap::values).sum();
        assert_eq!(by_epoch, 2);
        assert!(*rows < 80);
        assert!(matches!(table.publish("app", 3, adds, removes).await.unwrap(), Publish::Committed(_)));
        let after = testing::read(&lake, &table, None).await;
        let kept: Vec<bool> = ids(&before).iter().map(|id| !wanted.contains(id)).collect();
        assert_eq!(after, filter_record_batch(&before, &kept.into()).unwrap());
        // Times are those of the rows, to the minute.
        let times = before.column_by_name("event_time").unwrap().as_primitive::<TimestampMicrosecondType>();
        let minutes: BTreeSet<Micros> = ids(&before)
            .iter()
            .zip(times.values())
            .filter(|(id, _)| wanted.contains(id))
            .map(|(_, time)| time - time.rem_euclid(TIMES_GRAIN))
            .collect();
        assert_eq!(erased.minutes["event_time"], minutes);
        // Nothing is left to erase.
        let again = table.stage_erasure(marked, table.version().await.unwrap(), 3).await.unwrap();
        assert!(again.staged.removes.is_empty() && again.rows.is_empty());
    }

    #[tokio::test]
    async fn a_file_of_nothing_else_gives_way_to_none() {
        let (_folder, lake) = testing::lake();
        let table = table(&lake).await;
        let columns = table.text_columns();
        assert!(columns.contains(&"payment_id".to_owned()) && !columns.contains(&"items".to_owned()), "{columns:?}");
        let texts = ids(&testing::read(&lake, &table, None).await);
        let erased = table.stage_erasure(Marked { columns: &columns, texts: &texts }, 3, 2).await.unwrap();
        assert_eq!((erased.staged.adds.len(), erased.staged.removes.len()), (0, 6));
        assert_eq!(erased.rows.values().sum::<u64>(), 120);
        let files = table.live_files().await.unwrap();
        // `event_date=2026-11-22/part-…`
        let named = || files.iter().map(|file| (file.path.as_str(), Some(&file.path[11..21]), file.bytes));
        assert!(table.holds_marked(named(), Marked { columns: &columns, texts: &texts[..1] }).await.unwrap());
        let nobody = ["nobody".to_owned()];
        assert!(!table.holds_marked(named(), Marked { columns: &columns, texts: &nobody }).await.unwrap());
    }

    #[tokio::test]
    async fn files_older_than_a_column_are_rewritten_as_the_table_is_now() {
        let (_folder, lake) = testing::lake();
        drop(table(&lake).await);
        let mut contract = testing::contract("payments");
        let added = Column { name: "payer".into(), nullable: true, ..contract.columns[3].clone() };
        contract.columns.push(added);
        let (table, _) = Table::create_or_follow(&lake, &contract, Following::Query).await.unwrap();
        let rows = testing::rows(40, 3);
        let payers: StringArray = (0..40).map(|row| (row % 10 == 0).then_some("tok_1_somebody")).collect();
        let columns = rows.columns().iter().cloned().chain([Arc::new(payers) as ArrayRef]).collect();
        let rows = RecordBatch::try_new(contract.schema(), columns).unwrap();
        let adds = table.stage(vec![rows], 3).await.unwrap().adds;
        table.publish("app", 3, &adds, &[]).await.unwrap();
        let before = testing::read(&lake, &table, None).await;
        // One row of a file without the column, four by the column.
        let texts = [ids(&before)[3].clone(), "tok_1_somebody".to_owned()];
        let columns = ["payment_id".to_owned(), "payer".to_owned()];
        let version = table.version().await.unwrap();
        let erased = table.stage_erasure(Marked { columns: &columns, texts: &texts }, version, 3).await.unwrap();
        assert_eq!(erased.rows.values().sum::<u64>(), 5);
        table.publish("app", 4, &erased.staged.adds, &erased.staged.removes).await.unwrap();
        let payers = before.column_by_name("payer").unwrap().as_string::<i32>();
        let kept: Vec<bool> =
            ids(&before).iter().zip(payers).map(|(id, payer)| *id != texts[0] && payer.is_none()).collect();
        assert_eq!(testing::read(&lake, &table, None).await, filter_record_batch(&before, &kept.into()).unwrap());
    }

    #[tokio::test]
    async fn whole_dates_go_with_the_times_they_may_hold() {
        let (_folder, lake) = testing::lake();
        let table = table(&lake).await;
        let files: Vec<_> = table.live_files().await.unwrap().into_iter().filter(|f| f.partition == 20_779).collect();
        let (staged, until) = table.stage_expiry(&files).unwrap();
        assert_eq!((staged.adds.len(), staged.removes.len()), (0, 3));
        let midnight = 20_780 * 86_400 * MICROS_PER_SECOND;
        assert!(until["event_time"] <= midnight && until["event_time"] > midnight - 5 * MICROS_PER_SECOND, "{until:?}");
        table.publish("app", 3, &[], &staged.removes).await.unwrap();
        assert!(table.live_files().await.unwrap().iter().all(|file| file.partition == 20_780));
    }
}
