//! One slot alone, and one slot after another: what the resume state may and may not do.
//!
//! The one law: nothing here reads the lake. Each check compares two values that one or two slots state.

use std::sync::Arc;

use super::compacted;
use super::finding::Kind as Found;
use super::history::place;
use super::log::FileEntry;
use super::positions;
use super::removed;
use super::report::{Report, show_time};
use crate::epoch::{Counts, Kind, Slot};

/// The table of what could not be taken in.
const REJECTS: &str = "rejects";

/// What a slot must be by itself: its counts balance, and its totals are those of its files (invariant 3).
pub(super) fn check_slot(slot: &Slot, stream_table: &str, report: &mut Report) {
    for (key, shard) in slot.shards() {
        let at = || format!("{}, shard {key}", place(slot.epoch));
        check_counts(&shard.counts, at(), report);
        positions::check_interval(shard, at(), report);
        match shard.loss() {
            Some(loss) if slot.kind == Kind::Gap => report.note(format!("{}: {loss}; accepted by hand", at())),
            Some(_) => report.find(Found::PositionGap, at(), "records are said to be lost in a slot that is no gap"),
            None => {}
        }
    }
    let total = slot.counts();
    for (name, files) in &slot.tables {
        let entries: Vec<FileEntry> = files.adds.iter().map(FileEntry::of_slot).collect();
        let rows: u64 = entries.iter().filter_map(|file| file.rows).sum();
        let bytes: u64 = entries.iter().map(|file| file.bytes).sum();
        if (files.rows, files.bytes) != (rows, bytes) {
            report.find(
                Found::WrongTotals,
                format!("{}, table `{name}`", place(slot.epoch)),
                format!("{} rows and {} bytes, its files say {rows} and {bytes}", files.rows, files.bytes),
            );
        }
    }
    // Rows that were written together, or beside others that were erased, were counted when they came.
    let together = |table: &str| slot.compacted.get(table).map_or(0, |compacted| compacted.rows);
    let again = |table: &str| together(table) + slot.erased.get(table).map_or(0, |erased| erased.kept_rows);
    let rows = |table: &str| slot.tables.get(table).map_or(0, |files| files.rows.saturating_sub(again(table)));
    for (table, counted) in [(stream_table, total.written), (REJECTS, total.rejected)] {
        if rows(table) != counted {
            report.find(
                Found::WrongTotals,
                format!("{}, table `{table}`", place(slot.epoch)),
                format!("{} rows, its shards counted {counted}", rows(table)),
            );
        }
    }
    if slot.kind != Kind::Epoch && !(slot.tables.is_empty() && slot.restated.is_empty() && slot.compacted.is_empty()) {
        report.find(Found::WrongTotals, place(slot.epoch), "a slot that is no epoch names files or windows");
    }
    compacted::check_slot(slot, report);
    removed::check_slot(slot, report);
    check_restated(slot, report);
    check_answered(slot, report);
}

/// Only epochs before are answered later, and a query cannot have missed what it has answered.
fn check_answered(slot: &Slot, report: &mut Report) {
    for (name, answered) in &slot.answered {
        let lacks = slot.queries.get(name).and_then(|query| query.missed.clone()).unwrap_or_default();
        let is_unknown = answered.last() >= Some(slot.epoch);
        if is_unknown || lacks.clone().without(answered) != lacks {
            let why = if is_unknown { "which it cannot know" } else { "and says that it misses some of them" };
            let what = format!("it answers rows of the epochs {answered}, {why}");
            report.find(Found::WrongRestatement, query_place(slot.epoch, name), what);
        }
    }
}

/// Files are taken out only where windows are restated or rows go for good, and only closed windows are restated, by rows of epochs before. Ranges are
/// of starts: which windows of a start have closed, the slot alone does not tell; see [`super::restated::check`].
fn check_restated(slot: &Slot, report: &mut Report) {
    for (name, files) in slot.tables.iter().filter(|(name, _)| !slot.restated.contains_key(*name)) {
        // What a compaction takes out changes no data.
        let removes = files.removes.iter().filter(|remove| remove.data_change).count();
        if removes == 0 || slot.expired.contains_key(name) || slot.erased.contains_key(name) {
            continue;
        }
        let what = format!("it takes {removes} files out and restates no window");
        report.find(Found::WrongRestatement, format!("{}, table `{name}`", place(slot.epoch)), what);
    }
    for (name, restated) in &slot.restated {
        let own = slot.queries.get(name).and_then(|query| query.closed_until);
        // A query without windows has closed nothing itself: its rows come from windows of another.
        let until = own.or_else(|| slot.queries.values().filter_map(|query| query.closed_until).max());
        let mut after = None;
        for &(from, to) in &restated.ranges {
            if from >= to || after >= Some(from) || Some(from) >= until {
                let what = format!(
                    "it restates windows that start from {} to {}, the query has closed until {}",
                    show_time(Some(from)),
                    show_time(Some(to)),
                    show_time(until)
                );
                report.find(Found::WrongRestatement, query_place(slot.epoch, name), what);
            }
            after = Some(to);
        }
        if restated.through >= slot.epoch {
            let what =
                format!("it restates windows by the rows up to epoch {}, which it cannot know", restated.through);
            report.find(Found::WrongRestatement, query_place(slot.epoch, name), what);
        }
    }
}

/// What must hold from one slot to the next (invariants 1, 2, 6, 9).
pub(super) fn check_pair(before: &Slot, slot: &Slot, report: &mut Report) {
    check_writer(before, slot, report);
    positions::check(before, slot, report);
    removed::check_pair(before, slot, report);
    check_time(before, slot, report);
}

fn check_counts(counts: &Counts, at: String, report: &mut Report) {
    let Counts { read, written, duplicates, rejected, late, late_by_query } = counts;
    if !counts.balance() {
        let what = format!(
            "read {read} is not written {written} + duplicates {duplicates} + rejected {rejected}, or late {late} exceeds \
             written"
        );
        report.find(Found::UnbalancedCounts, at, what);
        return;
    }
    let (most, all) = (late_by_query.values().max().copied().unwrap_or(0), late_by_query.values().sum::<u64>());
    if *late < most || *late > all {
        let what = format!("{late} late rows, its queries refused {all} in all and {most} at most");
        report.find(Found::UnbalancedCounts, at, what);
    }
}

fn check_writer(before: &Slot, slot: &Slot, report: &mut Report) {
    let (was, now) = (before.generation, slot.generation);
    let what = if now < was {
        format!("generation {now} follows generation {was}")
    } else if now > was && slot.kind != Kind::Fence {
        format!("generation {now} begins without a fence")
    } else if now == was && slot.writer != before.writer {
        format!("two writers, {} and {}, share generation {now}", before.writer, slot.writer)
    } else {
        check_token_key(before, slot, report);
        return;
    };
    report.find(Found::BrokenGeneration, place(slot.epoch), what);
}

fn check_token_key(before: &Slot, slot: &Slot, report: &mut Report) {
    let (was, now) = (&before.token_key, &slot.token_key);
    if now.version < was.version || (now.version == was.version && now.fingerprint != was.fingerprint) {
        let what = format!(
            "version {} `{}` follows version {} `{}`",
            now.version, now.fingerprint, was.version, was.fingerprint
        );
        report.find(Found::TokenKeyChanged, place(slot.epoch), what);
    }
}

fn check_time(before: &Slot, slot: &Slot, report: &mut Report) {
    for (name, was, now) in [
        ("watermark", before.watermark, slot.watermark),
        ("event_time_max", before.event_time_max, slot.event_time_max),
    ] {
        if now < was {
            let what = format!("{name} {} follows {}", show_time(now), show_time(was));
            report.find(Found::WatermarkFell, place(slot.epoch), what);
        }
    }
    for (name, was) in &before.queries {
        let now = slot.queries.get(name);
        let until = now.and_then(|now| now.closed_until);
        // Whoever drops a table lets go of its query.
        let is_dropped = now.is_none() && slot.dropped.get(name) == Some(&slot.epoch);
        if !is_dropped && (now.is_none() || until < was.closed_until) {
            let what = format!("closed_until {} follows {}", show_time(until), show_time(was.closed_until));
            report.find(Found::ClosedUntilFell, query_place(slot.epoch, name), what);
        }
    }
    for (name, now) in &slot.queries {
        if now.closed_until > slot.watermark && !now.end_of_input {
            let what = format!(
                "closed until {}, beyond the watermark {} and not at the end of an input",
                show_time(now.closed_until),
                show_time(slot.watermark)
            );
            report.find(Found::ClosedEarly, query_place(slot.epoch, name), what);
        }
    }
}

fn query_place(epoch: u64, query: &Arc<str>) -> String {
    format!("{}, query `{query}`", place(epoch))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::epoch::{QueryProgress, ShardSlot, SourceProgress, TokenKeyName, Writer};
    use crate::stream::{Position, SequenceNumber, ShardProgress};

    fn after(offset: u64) -> Position {
        Position::After(SequenceNumber::Offset(offset))
    }

    fn shard(from: Position, to: Position, read: u64, parents: &[&str]) -> ShardSlot {
        let parents = parents.iter().map(|parent| (*parent).into()).collect();
        let progress = ShardProgress { position: to, finished: false, parents, watermark: None };
        let counts = Counts { read, rejected: read, ..Counts::default() };
        ShardSlot { from, progress, counts, at_tip: None, lost_before: None }
    }

    fn writer(generation: u64) -> Writer {
        Writer { id: Uuid::from_u128(generation.into()), generation, host: "a".into() }
    }

    /// A slot that has read one shard up to 10 and closed one query until 60.
    fn first() -> Slot {
        let mut slot = Slot::first(&writer(1), TokenKeyName { version: 1, fingerprint: "k".into() }, 0);
        slot.watermark = Some(70);
        let progress = QueryProgress { closed_until: Some(60), ..QueryProgress::running("f") };
        slot.queries.insert("q".into(), progress);
        let shards = &mut slot.sources.entry("s".into()).or_default().shards;
        shards.insert("a".into(), shard(Position::TrimHorizon, after(10), 0, &[]));
        slot
    }

    #[test]
    fn a_restatement_is_of_closed_windows_and_earlier_rows() {
        use crate::epoch::{Restated, TableAdds};
        use crate::lake::Remove;
        let found = |ranges: Vec<(i64, i64)>, through, restates: bool| {
            let mut slot = first().next(&writer(1), Kind::Epoch, 0).unwrap();
            let remove = Remove { data_change: true, ..Remove::default() };
            slot.tables.insert("q".into(), TableAdds { removes: vec![remove], ..TableAdds::default() });
            if restates {
                slot.restated.insert("q".into(), Restated { ranges, through });
            }
            let mut report = Report::default();
            check_slot(&slot, "transactions", &mut report);
            report.findings.iter().map(|finding| finding.kind).collect::<Vec<_>>()
        };
        assert_eq!(found(vec![(0, 10), (20, 60)], 0, true), []);
        // Windows that grow share a start, and the next may lie beyond what has closed.
        assert_eq!(found(vec![(50, 90)], 0, true), []);
        for (ranges, through) in
            [(vec![(60, 61)], 0), (vec![(10, 10)], 0), (vec![(20, 30), (10, 15)], 0), (vec![(0, 10)], 1)]
        {
            assert_eq!(found(ranges, through, true), [Found::WrongRestatement]);
        }
        assert_eq!(found(Vec::new(), 0, false), [Found::WrongRestatement]);
    }

    fn found(change: impl FnOnce(&mut Slot)) -> Vec<Found> {
        let before = first();
        let mut slot = before.next(&writer(1), Kind::Epoch, 0).unwrap();
        change(&mut slot);
        let mut report = Report::default();
        check_pair(&before, &slot, &mut report);
        report.findings.iter().map(|finding| finding.kind).collect()
    }

    fn put(slot: &mut Slot, id: &str, shard: ShardSlot) {
        slot.sources.entry("s".into()).or_default().shards.insert(id.into(), shard);
    }

    #[test]
    fn going_on_where_the_slot_before_stood_is_clean() {
        assert!(found(|_| {}).is_empty());
        assert!(found(|slot| put(slot, "a", shard(after(10), after(25), 3, &[]))).is_empty());
        assert!(found(|slot| put(slot, "b", shard(Position::TrimHorizon, after(5), 1, &[]))).is_empty());
    }

    #[test]
    fn gaps_overlaps_and_vanished_shards_are_position_gaps() {
        for from in [9, 11] {
            assert_eq!(found(|slot| put(slot, "a", shard(after(from), after(25), 3, &[]))), [Found::PositionGap]);
        }
        assert_eq!(found(|slot| put(slot, "b", shard(after(5), after(5), 0, &[]))), [Found::PositionGap]);
        assert_eq!(found(|slot| slot.sources.clear()), [Found::PositionGap]);
        assert_eq!(
            found(|slot| slot.sources.get_mut("s").unwrap().incarnation = "other".into()).first(),
            Some(&Found::PositionGap)
        );
    }

    #[test]
    fn an_accepted_loss_is_told_and_is_no_finding() {
        let gap = |kind| {
            let before = first();
            let mut slot = before.next(&writer(1), kind, 0).unwrap();
            let lost = ShardSlot { lost_before: Some(after(30)), ..shard(after(10), Position::TrimHorizon, 0, &[]) };
            put(&mut slot, "a", lost);
            let mut report = Report::default();
            check_slot(&slot, "transactions", &mut report);
            check_pair(&before, &slot, &mut report);
            let next = slot.next(&writer(1), Kind::Epoch, 0).unwrap();
            assert_eq!(next.sources["s"].shards["a"].lost_before, None);
            (report.findings.iter().map(|finding| finding.kind).collect::<Vec<_>>(), report.notes.join(" "))
        };
        let (found, told) = gap(Kind::Gap);
        assert!(found.is_empty() && told.contains("s/a") && told.contains("30"), "{found:?} {told}");
        assert_eq!(gap(Kind::Epoch).0, [Found::PositionGap]);
    }

    /// A shard that came and went between two starts enters the books as lost, and its child follows it.
    #[test]
    fn a_lost_shard_that_no_slot_knew_is_told_and_its_child_may_follow() {
        let mut gap = first().next(&writer(1), Kind::Gap, 0).unwrap();
        let mut lost = shard(Position::TrimHorizon, Position::TrimHorizon, 0, &[]);
        (lost.progress.finished, lost.lost_before) = (true, Some(Position::TrimHorizon));
        put(&mut gap, "b", lost);
        let mut next = gap.next(&writer(1), Kind::Epoch, 0).unwrap();
        put(&mut next, "c", shard(Position::TrimHorizon, after(5), 1, &["b"]));
        let mut report = Report::default();
        check_slot(&gap, "transactions", &mut report);
        check_pair(&first(), &gap, &mut report);
        check_pair(&gap, &next, &mut report);
        let (found, told) = (report.findings.len(), report.notes.join(" "));
        assert!(found == 0 && told.contains("s/b: records up to its end expired"), "{found} {told}");
    }

    #[test]
    fn a_stream_made_anew_starts_over_in_a_slot_that_says_so() {
        let anew = |slot: &mut Slot| {
            slot.kind = Kind::NewStream;
            let anew = SourceProgress { incarnation: "other".into(), ..SourceProgress::default() };
            slot.sources.insert("s".into(), anew);
        };
        assert!(found(anew).is_empty());
    }

    #[test]
    fn a_child_waits_for_its_parents() {
        let child = |parent: &str| shard(Position::TrimHorizon, after(5), 1, &[parent]);
        assert_eq!(found(|slot| put(slot, "b", child("a"))), [Found::EarlyChild]);
        // A parent no slot has ever seen expired before the lake began.
        assert!(found(|slot| put(slot, "b", child("expired"))).is_empty());
        let mut before = first();
        before.sources.get_mut("s").unwrap().shards.get_mut("a").unwrap().progress.finished = true;
        let mut slot = before.next(&writer(1), Kind::Epoch, 0).unwrap();
        put(&mut slot, "b", child("a"));
        let mut report = Report::default();
        check_pair(&before, &slot, &mut report);
        assert!(report.is_clean(), "{report}");
    }

    #[test]
    fn time_never_falls_and_windows_close_behind_the_watermark() {
        assert_eq!(found(|slot| slot.watermark = Some(69)), [Found::WatermarkFell]);
        let until = |slot: &mut Slot, until| slot.queries.get_mut("q").unwrap().closed_until = until;
        assert_eq!(found(|slot| until(slot, Some(59))), [Found::ClosedUntilFell]);
        assert_eq!(found(|slot| slot.queries.clear()), [Found::ClosedUntilFell]);
        assert_eq!(found(|slot| until(slot, Some(71))), [Found::ClosedEarly]);
    }

    #[test]
    fn generations_rise_by_fences_only() {
        let by = |generation: u64, kind: Kind| {
            let mut before = first();
            before.generation = 2;
            let slot = before.next(&writer(generation), kind, 0).unwrap();
            let mut report = Report::default();
            check_pair(&before, &slot, &mut report);
            report.findings.iter().map(|finding| finding.kind).collect::<Vec<_>>()
        };
        assert_eq!(by(1, Kind::Epoch), [Found::BrokenGeneration]);
        assert_eq!(by(3, Kind::Epoch), [Found::BrokenGeneration]);
        assert!(by(3, Kind::Fence).is_empty());
        // Slot `first` was written by writer 1: generation 2 is another's.
        assert_eq!(by(2, Kind::Epoch), [Found::BrokenGeneration]);
    }

    #[test]
    fn counts_balance_and_totals_are_those_of_the_files() {
        let of = |change: fn(&mut Slot)| {
            let mut slot = first();
            slot.kind = Kind::Epoch;
            change(&mut slot);
            let mut report = Report::default();
            check_slot(&slot, "transactions", &mut report);
            report.findings.iter().map(|finding| finding.kind).collect::<Vec<_>>()
        };
        assert!(of(|_| {}).is_empty());
        assert_eq!(
            of(|slot| {
                let mut read = shard(after(10), after(25), 0, &[]);
                read.counts = Counts { read: 3, duplicates: 2, ..Counts::default() };
                put(slot, "a", read);
            }),
            [Found::UnbalancedCounts]
        );
        // One record rejected, but no file of `rejects`.
        assert_eq!(of(|slot| put(slot, "a", shard(after(10), after(25), 1, &[]))), [Found::WrongTotals]);
        assert_eq!(
            of(|slot| drop(slot.tables.insert("t".into(), crate::epoch::TableAdds { rows: 1, ..Default::default() }))),
            [Found::WrongTotals]
        );
    }
}
