//! Compactions (invariant 5): files that were written together hold the rows of those they replaced, each as often.
//!
//! The one law: what a slot says is counted from the slots' own files first; as long as the replaced files are in the
//! store, their rows are read and compared, too. Rows are compared as sets in which each counts as often as it occurs: by
//! the sum of a hash of each, so that memory does not grow with them. Files a vacuum has deleted are said, not doubted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};

use super::finding::Kind as Found;
use super::history::{CompactedStep, History, Step, place};
use super::log::FileEntry;
use super::report::Report;
use crate::epoch::Slot;
use crate::error::{Context, Error, Result};
use crate::lake::{Lake, Remove, Table};

/// Where a slot adds a file, and what it says of it.
type Added<'a> = HashMap<(&'a str, &'a str), (u64, &'a FileEntry)>;

/// Files of one partition: those taken out, and those that come instead.
type Exchange<'a> = (Vec<&'a FileEntry>, Vec<&'a FileEntry>);

/// What a slot must say of its own compactions: files without change of data are theirs, and their totals are these files'.
pub(super) fn check_slot(slot: &Slot, report: &mut Report) {
    for (name, files) in &slot.tables {
        let adds = files.adds.iter().filter(|add| !add.data_change).count();
        let removes = files.removes.iter().filter(|remove| !remove.data_change).count();
        if adds + removes > 0 && !slot.compacted.contains_key(name) {
            let what = format!("{adds} files come and {removes} go without change of data, and it compacts nothing");
            report.find(Found::WrongCompaction, at(slot.epoch, name), what);
        }
    }
    for (name, compacted) in &slot.compacted {
        let mut wrong = |what: String| report.find(Found::WrongCompaction, at(slot.epoch, name), what);
        let Some(files) = slot.tables.get(name) else {
            wrong("it compacts the table and names no file of it".into());
            continue;
        };
        let adds = files.adds.iter().filter(|add| !add.data_change).map(FileEntry::of_slot);
        let adds: Vec<FileEntry> = adds.collect();
        let rows: u64 = adds.iter().filter_map(|file| file.rows).sum();
        let bytes: u64 = adds.iter().map(|file| file.bytes).sum();
        if (rows, bytes) != (compacted.rows, compacted.bytes) {
            let (said, said_bytes) = (compacted.rows, compacted.bytes);
            wrong(format!("{said} rows and {said_bytes} bytes written together, its files say {rows} and {bytes}"));
        }
        if compacted.through >= slot.epoch {
            wrong(format!("it compacts files of epoch {}, which it cannot know", compacted.through));
        }
        let of_remove = |remove: &Remove| remove.partition_values.iter().flat_map(|v| v.values().cloned()).collect();
        let removes = files.removes.iter().filter(|remove| !remove.data_change);
        let removes: Vec<Vec<Option<String>>> = removes.map(of_remove).collect();
        let values = adds.iter().map(|file| file.partition.values().cloned().collect()).chain(removes);
        let values: BTreeSet<Option<String>> = values.flat_map(|values: Vec<Option<String>>| values).collect();
        let told: BTreeSet<Option<String>> = compacted.partitions.iter().cloned().map(Some).collect();
        if values != told {
            wrong(format!("it names the partitions {:?}, its files are of {values:?}", compacted.partitions));
        }
    }
}

/// Holds the files of every compaction against those they replaced.
///
/// # Errors
/// [`Error::External`] when the store does not answer.
pub(super) async fn check(lake: &Lake, history: &History, published: Option<u64>, report: &mut Report) -> Result<()> {
    let mut added = Added::new();
    let (mut proved, mut counted) = (0_u64, 0_u64);
    for (epoch, step) in &history.steps {
        for (table, compaction) in &step.compacted {
            let Some(exchanges) = exchanges(*epoch, step, table, compaction, &added, report) else { continue };
            if Some(*epoch) > published {
                continue;
            }
            match compare(lake, table, &exchanges).await? {
                Compared::Equal => proved += 1,
                Compared::Gone => counted += 1,
                Compared::Unread(why) => report.note(format!("{}: not compared: {why}", at(*epoch, table))),
                Compared::Differ(partition) => {
                    let what = format!("its rows of {partition} are not those of the files it took out");
                    report.find(Found::WrongCompaction, at(*epoch, table), what);
                }
            }
        }
        for (table, file) in step.tables.iter().flat_map(|(table, files)| files.iter().map(move |file| (table, file))) {
            added.entry((table.as_ref(), file.path.as_str())).or_insert((*epoch, file));
        }
    }
    if proved + counted > 0 {
        let gone = match counted {
            0 => String::new(),
            gone => format!("; of {gone} more some files are gone, and only their rows were counted"),
        };
        report.note(format!("{proved} compactions hold, row by row, what the files they replaced hold{gone}"));
    }
    Ok(())
}

fn at(epoch: u64, table: &str) -> String {
    format!("{}, table `{table}`", place(epoch))
}

/// The files of a compaction by partition; differences in number are found. `None` when a slot that would tell is missing.
fn exchanges<'a>(
    epoch: u64,
    step: &'a Step,
    table: &'a Arc<str>,
    compaction: &'a CompactedStep,
    added: &Added<'a>,
    report: &mut Report,
) -> Option<BTreeMap<&'a str, Exchange<'a>>> {
    let value = |file: &'a FileEntry| file.partition.values().next().and_then(Option::as_deref).unwrap_or_default();
    let mut exchanges: BTreeMap<&str, Exchange<'_>> = BTreeMap::new();
    for path in &compaction.removes {
        let (since, file) = *added.get(&(table.as_ref(), path.as_str()))?;
        if since > compaction.compacted.through {
            let through = compaction.compacted.through;
            let what = format!("it takes out a file of epoch {since}, and was made as of epoch {through}");
            report.find(Found::WrongCompaction, at(epoch, table), what);
        }
        exchanges.entry(value(file)).or_default().0.push(file);
    }
    for file in step.tables.get(table).into_iter().flatten().filter(|file| !file.data_change) {
        exchanges.entry(value(file)).or_default().1.push(file);
    }
    let rows = |files: &[&FileEntry]| files.iter().map(|file| file.rows).sum::<Option<u64>>();
    let mut all = true;
    for (partition, (out, new)) in &exchanges {
        if rows(out) != rows(new) {
            let what = format!("of {partition} {:?} rows come for {:?}", rows(new), rows(out));
            report.find(Found::WrongCompaction, at(epoch, table), what);
            all = false;
        }
    }
    all.then_some(exchanges)
}

/// How a comparison of rows ended.
enum Compared {
    Equal,
    /// Of this partition.
    Differ(String),
    /// Files were vacuumed, or written together once more and then vacuumed.
    Gone,
    Unread(String),
}

async fn compare(lake: &Lake, table: &str, exchanges: &BTreeMap<&str, Exchange<'_>>) -> Result<Compared> {
    for (out, new) in exchanges.values() {
        for file in out.iter().chain(new) {
            if !is_there(&lake.store(), table, file).await? {
                return Ok(Compared::Gone);
            }
        }
    }
    let Some(table) = Table::open_existing(lake, table).await? else { return Ok(Compared::Gone) };
    for (partition, (out, new)) in exchanges {
        // A damaged file that is live is named where files are looked at; one that is not is nobody's loss.
        match (fingerprint(lake, &table, out).await, fingerprint(lake, &table, new).await) {
            (Ok(a), Ok(b)) if a == b => {}
            (Ok(_), Ok(_)) => return Ok(Compared::Differ((*partition).to_owned())),
            (Err(error), _) | (_, Err(error)) => return Ok(Compared::Unread(error.to_string())),
        }
    }
    Ok(Compared::Equal)
}

async fn is_there(store: &Arc<dyn ObjectStore>, table: &str, file: &FileEntry) -> Result<bool> {
    let Ok(path) = Path::parse(format!("{table}/{}", file.path)) else { return Ok(false) };
    match store.head(&path).await {
        Ok(_) => Ok(true),
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(Error::external(format!("looking for `{path}`"), error)),
    }
}

/// Of the rows of some files: their number, and the sum of 128 bits of the SHA-256 of each.
async fn fingerprint(lake: &Lake, table: &Table, files: &[&FileEntry]) -> Result<(u64, u128)> {
    let what = || format!("reading files of `{}`", table.name());
    let named = files.iter().map(|file| {
        let value = file.partition.values().next().and_then(Option::as_deref);
        (file.path.as_str(), value, file.bytes)
    });
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    lake.register(&session);
    let rows = session.read_table(table.provider_of(named)?).context(what)?;
    let mut rows = rows.execute_stream().await.context(what)?;
    let fields = table.schema().fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let converter = RowConverter::new(fields).context(what)?;
    let (mut count, mut sum) = (0, 0_u128);
    while let Some(batch) = rows.try_next().await.context(what)? {
        count += batch.num_rows() as u64;
        sum = sum.wrapping_add(sum_of(&converter, &batch)?);
    }
    Ok((count, sum))
}

fn sum_of(converter: &RowConverter, batch: &RecordBatch) -> Result<u128> {
    let rows = converter.convert_columns(batch.columns()).context(|| "comparing rows")?;
    let hash = |row: arrow::row::Row<'_>| {
        let digest = Sha256::digest(row.as_ref());
        digest.iter().take(16).fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte))
    };
    Ok(rows.iter().map(hash).fold(0, u128::wrapping_add))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use uuid::Uuid;

    use super::*;
    use crate::epoch::{Compacted, Kind, TableAdds, TokenKeyName, Writer};
    use crate::lake::Add;

    fn add(path: &str, date: &str, rows: u64) -> Add {
        let json = serde_json::json!({
            "path": path, "partitionValues": {"d": date}, "size": 7, "modificationTime": 0, "dataChange": false,
            "stats": format!("{{\"numRecords\":{rows}}}"),
        });
        serde_json::from_value(json).unwrap()
    }

    fn remove(path: &str, date: &str) -> Remove {
        let values = Some([("d".to_owned(), Some(date.to_owned()))].into());
        Remove { path: path.into(), data_change: false, partition_values: values, ..Remove::default() }
    }

    /// A slot that writes two files of three rows each together, changed.
    fn found(change: impl FnOnce(&mut Slot)) -> Vec<Found> {
        let writer = Writer { id: Uuid::nil(), generation: 0, host: "a".into() };
        let first = Slot::first(&writer, TokenKeyName { version: 1, fingerprint: "k".into() }, 0);
        let mut slot = first.next(&writer, Kind::Epoch, 0).unwrap();
        let files = TableAdds {
            adds: vec![add("c", "1", 6)],
            removes: vec![remove("a", "1"), remove("b", "1")],
            rows: 6,
            bytes: 7,
        };
        slot.tables.insert("t".into(), files);
        let compacted = Compacted { partitions: ["1".into()].into(), through: 0, rows: 6, bytes: 7 };
        slot.compacted.insert("t".into(), compacted);
        change(&mut slot);
        let mut report = Report::default();
        check_slot(&slot, &mut report);
        report.findings.iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn a_slot_says_what_it_writes_together() {
        assert_eq!(found(|_| {}), []);
        let compacted = |slot: &mut Slot| slot.compacted.get_mut("t").unwrap().clone();
        let with = |change: fn(&mut Compacted)| {
            found(|slot| {
                let mut changed = compacted(slot);
                change(&mut changed);
                slot.compacted.insert("t".into(), changed);
            })
        };
        assert_eq!(with(|c| c.rows = 5), [Found::WrongCompaction]);
        assert_eq!(with(|c| c.bytes = 8), [Found::WrongCompaction]);
        assert_eq!(with(|c| c.through = 1), [Found::WrongCompaction]);
        assert_eq!(with(|c| c.partitions = ["1".into(), "2".into()].into()), [Found::WrongCompaction]);
        assert_eq!(found(|slot| slot.compacted.clear()), [Found::WrongCompaction]);
        assert_eq!(found(|slot| slot.tables.clear()), [Found::WrongCompaction]);
        assert_eq!(
            found(|slot| slot.tables.get_mut("t").unwrap().adds[0].data_change = true),
            [Found::WrongCompaction]
        );
    }

    #[test]
    fn the_sum_tells_sets_of_rows_apart_and_not_their_order() {
        let batch = |rows: &[(i64, &str)]| {
            let numbers: ArrayRef = Arc::new(rows.iter().map(|(n, _)| Some(*n)).collect::<Int64Array>());
            let texts: ArrayRef = Arc::new(rows.iter().map(|(_, text)| Some(*text)).collect::<StringArray>());
            RecordBatch::try_from_iter([("n", numbers), ("s", texts)]).unwrap()
        };
        let sum = |rows: &[(i64, &str)]| {
            let batch = batch(rows);
            let fields = batch.schema().fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
            sum_of(&RowConverter::new(fields).unwrap(), &batch).unwrap()
        };
        let rows = [(1, "a"), (1, "a"), (2, "b")];
        assert_eq!(sum(&rows), sum(&[(2, "b"), (1, "a"), (1, "a")]));
        for other in [&[(1, "a"), (2, "b"), (2, "b")][..], &[(1, "a"), (2, "b")], &[(1, "b"), (1, "a"), (2, "a")]] {
            assert_ne!(sum(&rows), sum(other));
        }
    }
}
