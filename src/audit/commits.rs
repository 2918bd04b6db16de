//! Slots against Delta logs (invariants 4 and 5): what was decided is published, once, as decided, and nothing else is.
//!
//! The one law: both sides are lists of files; no row is read here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::finding::Kind as Found;
use super::history::{History, place as slot_place};
use super::log::{Commit, FileEntry, TableLog, place};
use super::report::Report;

/// Logs by table.
pub(super) type Logs = BTreeMap<Arc<str>, TableLog>;

/// The newest epoch that is in every table it names, all before it included.
///
/// Decided epochs after it are no damage: a writer died, or is at work, between deciding and publishing.
pub(super) fn published(history: &History, logs: &Logs, app_id: &str) -> Option<u64> {
    let newest = |table: &Arc<str>| logs.get(table).and_then(|log| log.epochs(app_id).map(|(epoch, _)| epoch).max());
    let reached = |table: &Arc<str>, epoch: u64| newest(table).and_then(|e| u64::try_from(e).ok()) >= Some(epoch);
    let mut published = history.published_through;
    let next = published.map_or(0, |epoch| epoch + 1);
    for (epoch, step) in history.steps.range(next..) {
        if !step.tables.keys().all(|table| reached(table, *epoch)) {
            break;
        }
        published = Some(*epoch);
    }
    published
}

/// Holds every table's log against the slots.
pub(super) fn check(history: &History, logs: &Logs, app_id: &str, published: Option<u64>, report: &mut Report) {
    for (table, log) in logs {
        check_commits(history, table, log, app_id, report);
    }
    for (epoch, step) in history.through(published) {
        for table in step.tables.keys() {
            let at = || format!("table `{table}`, epoch {epoch}");
            match logs.get(table) {
                None => report.find(
                    Found::MissingTable,
                    format!("table `{table}`"),
                    format!("{} names files of it", slot_place(epoch)),
                ),
                Some(log) if !holds(log, app_id, epoch) => {
                    report.find(Found::MissingCommit, at(), "decided and published, but no commit of the log names it");
                }
                Some(_) => {}
            }
        }
    }
    check_files_once(history, report);
}

/// Whether a log names an epoch, or may have before it was cleaned.
fn holds(log: &TableLog, app_id: &str, epoch: u64) -> bool {
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    let mut epochs = log.epochs(app_id).map(|(e, _)| e).peekable();
    let before_the_log = log.cleaned && epochs.peek().is_none_or(|first| epoch < *first);
    before_the_log || epochs.any(|e| e == epoch)
}

fn check_commits(history: &History, table: &Arc<str>, log: &TableLog, app_id: &str, report: &mut Report) {
    let mut versions: HashMap<i64, u64> = HashMap::new();
    let mut newest = None;
    for commit in &log.commits {
        let at = || place(table, commit.version);
        let epochs: Vec<i64> = commit.transactions.iter().filter(|(app, _)| app == app_id).map(|(_, e)| *e).collect();
        match epochs.as_slice() {
            [] if commit.adds.is_empty() && commit.removed.is_empty() => {}
            [] => report.find(Found::ForeignCommit, at(), foreign(history, table, commit)),
            [epoch] => {
                match versions.insert(*epoch, commit.version) {
                    Some(first) => {
                        let what = format!(
                            "epoch {epoch} again, with {} files; version {first} published it",
                            commit.adds.len()
                        );
                        report.find(Found::DoubledCommit, at(), what);
                    }
                    None if newest > Some(*epoch) => {
                        let what = format!("epoch {epoch} after epoch {}", newest.unwrap_or_default());
                        report.find(Found::CommitDiffers, at(), what);
                    }
                    None => check_epoch(history, table, commit, *epoch, report),
                }
                newest = newest.max(Some(*epoch));
            }
            _ => report.find(Found::ForeignCommit, at(), format!("it names the epochs {epochs:?}")),
        }
    }
}

/// What a commit without an epoch did.
fn foreign(history: &History, table: &Arc<str>, commit: &Commit) -> String {
    let rows: u64 = commit.adds.iter().filter_map(|file| file.rows).sum();
    let decided: BTreeSet<&str> = history
        .steps
        .values()
        .filter_map(|step| step.tables.get(table))
        .flat_map(|files| files.iter().map(|file| file.path.as_str()))
        .collect();
    let known = commit.adds.iter().filter(|file| decided.contains(file.path.as_str())).count();
    let rewrites = !commit.removed.is_empty() && commit.adds.iter().all(|file| !file.data_change);
    let optimized =
        if rewrites { "; it says that it changes no row: leave OPTIMIZE to `lakeward lake compact`" } else { "" };
    format!(
        "it names no epoch, adds {} files ({rows} rows; {known} of the files were decided) and takes {} out{optimized}",
        commit.adds.len(),
        commit.removed.len()
    )
}

/// A commit that names an epoch holds exactly what that epoch's slot decided.
fn check_epoch(history: &History, table: &Arc<str>, commit: &Commit, epoch: i64, report: &mut Report) {
    let at = || place(table, commit.version);
    let number = u64::try_from(epoch).ok();
    let Some(step) = number.and_then(|number| history.steps.get(&number)) else {
        // Decided while the audit ran, or in a slot that is missing and was reported as such.
        let decided = number.is_some_and(|number| history.head >= Some(number));
        let later = number.is_some_and(|number| history.decided_since >= Some(number));
        if !decided && !later {
            report.find(Found::ForeignCommit, at(), format!("it names epoch {epoch}, which no slot decided"));
        }
        return;
    };
    let Some(decided) = step.tables.get(table) else {
        report.find(Found::ForeignCommit, at(), format!("slot {epoch} decided nothing for this table"));
        return;
    };
    let out: BTreeSet<&String> = step.removes.get(table).into_iter().flatten().collect();
    let removed: BTreeSet<&String> = commit.removed.iter().collect();
    for path in removed.difference(&out) {
        report.find(Found::CommitDiffers, at(), format!("it takes `{path}` out, slot {epoch} does not"));
    }
    for path in out.difference(&removed) {
        report.find(Found::CommitDiffers, at(), format!("it leaves `{path}` in, slot {epoch} takes it out"));
    }
    let found: HashMap<&str, &FileEntry> = commit.adds.iter().map(|file| (file.path.as_str(), file)).collect();
    for file in decided {
        match found.get(file.path.as_str()) {
            None => report.find(Found::CommitDiffers, at(), format!("`{}` of slot {epoch} is not in it", file.path)),
            Some(there) if *there != file => {
                let (size, rows) = (there.bytes, there.rows);
                let change = |file: &FileEntry| if file.data_change { "new rows" } else { "rows of other files" };
                let what = format!(
                    "`{}` has {size} bytes, {rows:?} rows, {:?} and {}; slot {epoch} says {} bytes, {:?} rows, {:?} and {}",
                    file.path,
                    there.partition,
                    change(there),
                    file.bytes,
                    file.rows,
                    file.partition,
                    change(file)
                );
                report.find(Found::CommitDiffers, at(), what);
            }
            Some(_) => {}
        }
    }
    let expected: BTreeSet<&str> = decided.iter().map(|file| file.path.as_str()).collect();
    for path in commit.adds.iter().map(|file| file.path.as_str()).filter(|path| !expected.contains(path)) {
        report.find(Found::CommitDiffers, at(), format!("`{path}` is not in slot {epoch}"));
    }
}

/// No file is decided twice, and none is taken out that is not there.
fn check_files_once(history: &History, report: &mut Report) {
    let mut seen: HashMap<(&str, &str), u64> = HashMap::new();
    let mut gone: BTreeSet<(&str, &str)> = BTreeSet::new();
    // A slot that is missing may have named anything.
    let complete = history.first_hole(history.head).is_none();
    for (epoch, step) in &history.steps {
        let removes = step.removes.iter().flat_map(|(table, paths)| paths.iter().map(move |path| (table, path)));
        for (table, path) in removes {
            let what = match (seen.contains_key(&(table.as_ref(), path.as_str())), gone.insert((table, path))) {
                (true, true) => continue,
                (_, false) => "an earlier slot had taken it out",
                (false, true) if !complete => continue,
                (false, true) => "no slot before it had added it",
            };
            let place = format!("{}, `{table}/{path}`", slot_place(*epoch));
            let compacts = step.compacted.get(table).is_some_and(|step| step.removes.iter().any(|gone| gone == path));
            let kind = if compacts { Found::WrongCompaction } else { Found::WrongRestatement };
            report.find(kind, place, format!("it takes the file out, but {what}"));
        }
        for (table, files) in &step.tables {
            for file in files {
                if let Some(first) = seen.insert((table, &file.path), *epoch) {
                    let what = format!("slots {first} and {epoch} both name it");
                    report.find(Found::FileInTwoEpochs, format!("`{table}/{}`", file.path), what);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Step;
    use super::*;
    use crate::epoch::Kind;

    const APP: &str = "app";

    fn file(name: &str) -> FileEntry {
        FileEntry { path: name.into(), bytes: 7, rows: Some(3), partition: BTreeMap::new(), data_change: true }
    }

    fn commit(version: u64, epoch: Option<i64>, files: &[&str]) -> Commit {
        let transactions = epoch.map(|epoch| (APP.to_owned(), epoch)).into_iter().collect();
        Commit { version, transactions, adds: files.iter().map(|name| file(name)).collect(), removed: Vec::new() }
    }

    /// Epochs 0 to 2 wrote one file each.
    fn history() -> History {
        let step = |epoch: u64| Step {
            kind: Kind::Epoch,
            generation: 0,
            written_at: 0,
            watermark: None,
            queries: BTreeMap::new(),
            reads: Vec::new(),
            tables: BTreeMap::from([("t".into(), vec![file(&format!("f{epoch}"))])]),
            removes: BTreeMap::new(),
            restated: BTreeMap::new(),
            answered: BTreeMap::new(),
            compacted: BTreeMap::new(),
            expired: BTreeMap::new(),
            erased: BTreeMap::new(),
            gone: crate::epoch::Gone::default(),
        };
        History { steps: (0..3).map(|epoch| (epoch, step(epoch))).collect(), head: Some(2), ..History::default() }
    }

    fn found(commits: Vec<Commit>) -> (Option<u64>, Vec<Found>) {
        let history = history();
        let logs = Logs::from([("t".into(), TableLog { commits, ..TableLog::default() })]);
        let mut report = Report::default();
        let published = published(&history, &logs, APP);
        check(&history, &logs, APP, published, &mut report);
        (published, report.findings.iter().map(|finding| finding.kind).collect())
    }

    fn as_decided() -> Vec<Commit> {
        vec![
            commit(0, None, &[]),
            commit(1, Some(0), &["f0"]),
            commit(2, Some(1), &["f1"]),
            commit(3, Some(2), &["f2"]),
        ]
    }

    #[test]
    fn a_log_that_repeats_the_slots_is_clean_and_its_end_may_lag() {
        assert_eq!(found(as_decided()), (Some(2), vec![]));
        assert_eq!(found(as_decided()[..3].to_vec()), (Some(1), vec![]));
    }

    #[test]
    fn every_way_to_differ_has_its_name() {
        let with = |more: Commit| found([as_decided(), vec![more]].concat()).1;
        assert_eq!(with(commit(4, Some(2), &["f2"])), [Found::DoubledCommit]);
        assert_eq!(with(commit(4, None, &["foreign"])), [Found::ForeignCommit]);
        assert_eq!(with(commit(4, Some(9), &["f9"])), [Found::ForeignCommit]);
        let mut fewer = as_decided();
        fewer.remove(2);
        assert_eq!(found(fewer).1, [Found::MissingCommit]);
        let mut other = as_decided();
        other[2].adds[0].bytes = 8;
        assert_eq!(found(other.clone()).1, [Found::CommitDiffers]);
        other[2].adds[0] = file("other");
        assert_eq!(found(other).1, [Found::CommitDiffers, Found::CommitDiffers]);
    }

    #[test]
    fn a_commit_takes_out_what_its_slot_does_and_nothing_else() {
        let replacing = |path: &str| Commit { removed: vec![path.to_owned()], ..commit(3, Some(2), &["f2"]) };
        let found = |last: Commit, decided: &[&str]| {
            let mut history = history();
            let out = decided.iter().map(|path| (*path).to_owned()).collect();
            history.steps.get_mut(&2).unwrap().removes.insert("t".into(), out);
            let commits = [&as_decided()[..3], &[last]].concat();
            let logs = Logs::from([("t".into(), TableLog { commits, ..TableLog::default() })]);
            let mut report = Report::default();
            check(&history, &logs, APP, Some(2), &mut report);
            report.findings.iter().map(|finding| finding.kind).collect::<Vec<_>>()
        };
        assert_eq!(found(replacing("f0"), &["f0"]), []);
        assert_eq!(found(replacing("f0"), &[]), [Found::CommitDiffers]);
        assert_eq!(found(commit(3, Some(2), &["f2"]), &["f0"]), [Found::CommitDiffers]);
        // Decided, but never there to be taken out; or gone already.
        assert_eq!(found(replacing("f9"), &["f9"]), [Found::WrongRestatement]);
        assert_eq!(found(replacing("f0"), &["f0", "f0"]), [Found::WrongRestatement]);
    }

    #[test]
    fn a_file_is_decided_once() {
        let mut history = history();
        history.steps.get_mut(&2).unwrap().tables.insert("t".into(), vec![file("f0")]);
        let mut report = Report::default();
        check_files_once(&history, &mut report);
        assert_eq!(report.findings[0].kind, Found::FileInTwoEpochs);
    }
}
