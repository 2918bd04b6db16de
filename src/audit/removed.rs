//! Rows taken out for good (invariant 3): as many are gone as the slots say, of the epochs and dates they say, and no more.
//!
//! The one law: what is gone is counted from the slots' own files, date by date and epoch by epoch, so that one row more is
//! found. Which times are gone is taken from the slots, too; windows that held such rows cannot be recomputed, and are
//! counted and told by [`super::unprovable`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::finding::Kind as Found;
use super::history::{History, Step, place};
use super::log::FileEntry;
use super::report::Report;
use crate::epoch::{Erased, Expired, Kind, Slot};
use crate::lake::Remove;

/// What a slot must say of the rows it takes out.
pub(super) fn check_slot(slot: &Slot, report: &mut Report) {
    let at = |name: &str| format!("{}, table `{name}`", place(slot.epoch));
    let mut wrong = |name: &str, what: String| report.find(Found::WrongRemoval, at(name), what);
    if slot.kind != Kind::Epoch && !(slot.expired.is_empty() && slot.erased.is_empty()) {
        wrong("", "a slot that is no epoch takes rows out".into());
    }
    let date = |remove: &Remove| remove.partition_values.iter().flat_map(|v| v.values().flatten().cloned()).next();
    for (name, Expired { partitions, through, .. }) in &slot.expired {
        let removes = slot.tables.get(name).map(|files| files.removes.as_slice()).unwrap_or_default();
        let dates: BTreeSet<String> = removes.iter().filter(|r| r.data_change).filter_map(date).collect();
        if dates != *partitions || *through >= slot.epoch {
            wrong(name, format!("the dates {partitions:?} as of epoch {through} expire, its files are of {dates:?}"));
        }
    }
    for (name, erased) in &slot.erased {
        let Erased { through, rows, epochs, kept_rows, kept_bytes, .. } = erased;
        let adds = slot.tables.get(name).map(|files| files.adds.as_slice()).unwrap_or_default();
        let adds: Vec<FileEntry> = adds.iter().map(FileEntry::of_slot).collect();
        let (found, bytes) = (adds.iter().filter_map(|file| file.rows).sum(), adds.iter().map(|file| file.bytes).sum());
        if (*kept_rows, *kept_bytes) != (found, bytes) {
            wrong(name, format!("{kept_rows} rows and {kept_bytes} bytes are kept, its files say {found} and {bytes}"));
        }
        let by_epoch = |date: &String| epochs.get(date).map(|epochs| epochs.values().sum::<u64>());
        let differs = |(date, count): (&String, &u64)| !epochs.is_empty() && by_epoch(date) != Some(*count);
        if *through >= slot.epoch || rows.iter().any(differs) || epochs.keys().any(|date| !rows.contains_key(date)) {
            wrong(name, format!("it erases {rows:?} as of epoch {through}, by epoch {epochs:?}"));
        }
    }
}

/// What is gone is gone in every slot that follows, and nothing else is.
pub(super) fn check_pair(before: &Slot, slot: &Slot, report: &mut Report) {
    let mut erased_in = before.gone.erased_in.clone();
    erased_in.extend((!slot.erased.is_empty()).then_some(slot.epoch));
    let mut wrong = |what: String| report.find(Found::WrongRemoval, place(slot.epoch), what);
    if slot.gone.erased_in != erased_in {
        wrong(format!("rows were erased in slots {erased_in:?}, it says in {:?}", slot.gone.erased_in));
    }
    let tables: BTreeSet<&Arc<str>> = before.gone.expired.keys().chain(slot.gone.expired.keys()).collect();
    for table in tables {
        let (was, now) = (before.gone.expired.get(table), slot.gone.expired.get(table));
        let fell = was.into_iter().flatten().any(|(column, was)| now.and_then(|now| now.get(column)) < Some(was));
        let is_dropped = now.is_none() && slot.dropped.get(table) == Some(&slot.epoch);
        if !is_dropped && (fell || (was != now && !slot.expired.contains_key(table))) {
            wrong(format!("what has expired of `{table}` was {was:?} and is {now:?}"));
        }
    }
}

/// Holds what slots take out against the files that slots before them had added.
pub(super) fn check(history: &History, published: Option<u64>, report: &mut Report) {
    let mut live: HashMap<(&str, &str), (u64, &FileEntry)> = HashMap::new();
    // A slot that is missing may have named anything.
    let is_whole = history.first_hole(history.head).is_none();
    for (epoch, step) in &history.steps {
        for (table, expired) in step.expired.iter().filter(|_| is_whole) {
            check_expired(*epoch, step, table, expired, &live, report);
        }
        for (table, erased) in step.erased.iter().filter(|_| is_whole) {
            check_erased(*epoch, step, table, erased, &live, report);
        }
        for (table, path) in step.removes.iter().flat_map(|(table, paths)| paths.iter().map(move |path| (table, path)))
        {
            live.remove(&(table.as_ref(), path.as_str()));
        }
        for (table, file) in step.tables.iter().flat_map(|(table, files)| files.iter().map(move |file| (table, file))) {
            live.insert((table.as_ref(), file.path.as_str()), (*epoch, file));
        }
    }
    tell(history, published, report);
}

fn check_expired(
    epoch: u64,
    step: &Step,
    table: &Arc<str>,
    expired: &Expired,
    live: &HashMap<(&str, &str), (u64, &FileEntry)>,
    report: &mut Report,
) {
    let mut wrong = |what: String| report.find(Found::WrongRemoval, format!("{}, table `{table}`", place(epoch)), what);
    let out: BTreeSet<&str> = step.removes.get(table).into_iter().flatten().map(String::as_str).collect();
    let mut rows = 0;
    for ((_, path), (since, file)) in live.iter().filter(|((of, _), _)| **of == **table) {
        let is_old = date_of(file).is_some_and(|date| expired.partitions.contains(date));
        match (out.contains(path), is_old && *since <= expired.through) {
            (true, true) => rows += file.rows.unwrap_or(0),
            (true, false) => wrong(format!("it takes out `{path}` of epoch {since}, which has not expired")),
            (false, true) => wrong(format!("it leaves `{path}` in, whose date has expired")),
            (false, false) => {}
        }
    }
    if rows != expired.rows {
        wrong(format!("it says that {} rows expire, the files it takes out held {rows}", expired.rows));
    }
}

fn check_erased(
    epoch: u64,
    step: &Step,
    table: &Arc<str>,
    erased: &Erased,
    live: &HashMap<(&str, &str), (u64, &FileEntry)>,
    report: &mut Report,
) {
    let mut left: BTreeMap<&str, i128> = BTreeMap::new();
    let removed = step.removes.get(table).into_iter().flatten();
    let removed = removed.filter_map(|path| Some((live.get(&(table.as_ref(), path.as_str()))?.1, 1)));
    let added = step.tables.get(table).into_iter().flatten().map(|file| (file, -1));
    for (file, sign) in removed.chain(added) {
        *left.entry(date_of(file).unwrap_or_default()).or_default() += sign * i128::from(file.rows.unwrap_or(0));
    }
    let said: BTreeMap<&str, i128> =
        erased.rows.iter().map(|(date, rows)| (date.as_str(), i128::from(*rows))).collect();
    if left != said {
        let what =
            format!("it says that it erases {said:?} rows, its files hold {left:?} fewer than those they replace");
        report.find(Found::WrongRemoval, format!("{}, table `{table}`", place(epoch)), what);
    }
}

/// What was taken out, for whoever reads the report.
fn tell(history: &History, published: Option<u64>, report: &mut Report) {
    let mut totals: BTreeMap<(&str, &str), (u64, Vec<u64>)> = BTreeMap::new();
    for (epoch, step) in history.through(published) {
        let expired = step.expired.iter().map(|(table, expired)| ((table, "have expired"), expired.rows));
        let erased = step.erased.iter().map(|(table, erased)| ((table, "were erased"), erased.count()));
        for ((table, how), rows) in expired.chain(erased) {
            let total = totals.entry((table.as_ref(), how)).or_default();
            total.0 += rows;
            total.1.push(epoch);
        }
    }
    for ((table, how), (rows, slots)) in totals {
        let by = match slots.as_slice() {
            [one] => place(*one),
            [first, .., last] => format!("{} slots, {first} to {last}", slots.len()),
            [] => String::new(),
        };
        report.note(format!("`{table}`: {rows} rows {how}, by {by}"));
    }
}

/// How many rows of each epoch one table has lost by what the slots say. Only for tables whose rows are written once, by
/// their epoch.
#[derive(Debug)]
pub(super) struct Losses<'a> {
    table: &'a str,
    history: &'a History,
    /// By date: every row up to this epoch.
    expired: BTreeMap<&'a str, u64>,
    /// By epoch and date.
    erased: BTreeMap<u64, BTreeMap<&'a str, u64>>,
}

impl<'a> Losses<'a> {
    /// Of a table, by all slots up to the published one.
    pub(super) fn of(table: &'a str, history: &'a History, published: Option<u64>) -> Self {
        let mut losses = Self { table, history, expired: BTreeMap::new(), erased: BTreeMap::new() };
        for (_, step) in history.through(published) {
            if let Some(expired) = step.expired.get(table) {
                for date in &expired.partitions {
                    let through = losses.expired.entry(date.as_str()).or_insert(expired.through);
                    *through = (*through).max(expired.through);
                }
            }
            for (date, epochs) in step.erased.get(table).into_iter().flat_map(|erased| &erased.epochs) {
                for (epoch, rows) in epochs {
                    *losses.erased.entry(*epoch).or_default().entry(date.as_str()).or_default() += rows;
                }
            }
        }
        losses
    }

    /// Rows an epoch wrote that are gone.
    pub(super) fn in_epoch(&self, epoch: u64) -> u64 {
        let Some(step) = self.history.steps.get(&epoch).filter(|step| !step.erased.contains_key(self.table)) else {
            return 0;
        };
        let mut written: BTreeMap<&str, u64> = BTreeMap::new();
        for file in step.tables.get(self.table).into_iter().flatten().filter(|file| file.data_change) {
            *written.entry(date_of(file).unwrap_or_default()).or_default() += file.rows.unwrap_or(0);
        }
        let erased = self.erased.get(&epoch);
        let lost = |(date, rows): (&&str, &u64)| match self.expired.get(*date) {
            Some(through) if *through >= epoch => *rows,
            _ => erased.and_then(|dates| dates.get(*date)).copied().unwrap_or(0),
        };
        written.iter().map(lost).sum()
    }
}

/// The value of a file's partition.
fn date_of(file: &FileEntry) -> Option<&str> {
    file.partition.values().next().and_then(Option::as_deref)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::epoch::{TableAdds, TokenKeyName, Writer};
    use crate::lake::Add;

    fn add(path: &str, date: &str, rows: u64) -> Add {
        let json = serde_json::json!({
            "path": path, "partitionValues": {"d": date}, "size": 7, "modificationTime": 0, "dataChange": true,
            "stats": format!("{{\"numRecords\":{rows}}}"),
        });
        serde_json::from_value(json).unwrap()
    }

    fn remove(path: &str, date: &str) -> Remove {
        let values = Some([("d".to_owned(), Some(date.to_owned()))].into());
        Remove { path: path.into(), data_change: true, partition_values: values, ..Remove::default() }
    }

    /// Slots 1 and 2 write two dates, slot 3 erases two rows of the first, slot 4 takes that out; changed.
    fn slots(change: impl FnOnce(&mut [Slot])) -> Vec<Slot> {
        let writer = Writer { id: Uuid::nil(), generation: 0, host: "a".into() };
        let first = Slot::first(&writer, TokenKeyName { version: 1, fingerprint: "k".into() }, 0);
        let mut slots = vec![first];
        let mut next = |files: TableAdds, change: &dyn Fn(&mut Slot)| {
            let mut slot = slots.last().unwrap().next(&writer, Kind::Epoch, 0).unwrap();
            slot.tables.insert("t".into(), files);
            change(&mut slot);
            slots.push(slot);
        };
        let adds = |adds: Vec<Add>| TableAdds { adds, ..TableAdds::default() };
        next(adds(vec![add("a1", "1", 5), add("a2", "2", 4)]), &|_| {});
        next(adds(vec![add("b1", "1", 3), add("b2", "2", 1)]), &|_| {});
        let rewritten =
            TableAdds { adds: vec![add("c1", "1", 3)], removes: vec![remove("a1", "1")], ..TableAdds::default() };
        next(rewritten, &|slot| {
            let erased = Erased {
                through: 2,
                rows: [("1".into(), 2)].into(),
                epochs: [("1".into(), [(1, 2)].into())].into(),
                times: BTreeMap::new(),
                kept_rows: 3,
                kept_bytes: 7,
            };
            slot.erased.insert("t".into(), erased);
            slot.gone.erased_in.push(3);
        });
        let out = TableAdds { removes: vec![remove("b1", "1"), remove("c1", "1")], ..TableAdds::default() };
        next(out, &|slot| {
            slot.expired.insert("t".into(), Expired { partitions: ["1".into()].into(), through: 3, rows: 6 });
            slot.gone.expire(&"t".into(), &[("at".into(), 10)].into());
        });
        change(&mut slots);
        slots
    }

    fn found(change: impl FnOnce(&mut [Slot])) -> (Vec<Found>, History) {
        let slots = slots(change);
        let mut report = Report::default();
        slots.iter().for_each(|slot| check_slot(slot, &mut report));
        slots.windows(2).for_each(|pair| check_pair(&pair[0], &pair[1], &mut report));
        let steps = slots.iter().map(|slot| (slot.epoch, Step::of(slot))).collect();
        let history = History { steps, head: Some(4), ..History::default() };
        check(&history, Some(4), &mut report);
        (report.findings.iter().map(|finding| finding.kind).collect(), history)
    }

    #[test]
    fn what_is_gone_is_counted_by_epoch_whatever_took_it() {
        let (kinds, history) = found(|_| {});
        assert_eq!(kinds, []);
        let lost = |published| {
            let losses = Losses::of("t", &history, Some(published));
            (0..=4).map(|epoch| losses.in_epoch(epoch)).collect::<Vec<_>>()
        };
        assert_eq!(lost(2), [0, 0, 0, 0, 0]);
        assert_eq!(lost(3), [0, 2, 0, 0, 0]);
        assert_eq!(lost(4), [0, 5, 3, 0, 0]);
        assert_eq!(Losses::of("other", &history, Some(4)).in_epoch(1), 0);
    }

    #[test]
    fn every_way_to_say_it_wrongly_is_found() {
        type Change = fn(&mut [Slot]);
        let changes: [Change; 9] = [
            |slots| slots[3].erased.get_mut("t").unwrap().kept_rows = 4,
            |slots| *slots[3].erased.get_mut("t").unwrap().rows.get_mut("1").unwrap() = 1,
            |slots| slots[3].erased.get_mut("t").unwrap().through = 3,
            |slots| slots[3].gone.erased_in.clear(),
            |slots| slots[4].expired.get_mut("t").unwrap().rows = 7,
            |slots| slots[4].expired.get_mut("t").unwrap().through = 1,
            |slots| slots[4].expired.get_mut("t").unwrap().partitions.extend(["2".into()]),
            |slots| drop(slots[4].tables.get_mut("t").unwrap().removes.pop()),
            |slots| slots[4].expired.clear(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let (kinds, _) = found(change);
            let wrong = !kinds.is_empty() && kinds.iter().all(|kind| *kind == Found::WrongRemoval);
            assert!(wrong, "change {number}: {kinds:?}");
        }
    }
}
