//! Positions from slot to slot (invariants 2 and 6): what was read meets what had been read, and children come after
//! their parents.

use std::collections::BTreeMap;

use super::finding::Kind as Found;
use super::history::place;
use super::report::Report;
use crate::epoch::{Kind, ShardSlot, Slot, SourceProgress};
use crate::stream::{Position, SequenceNumber};

/// Holds every source of a slot against the slot before.
pub(super) fn check(before: &Slot, slot: &Slot, report: &mut Report) {
    for (source, progress) in &before.sources {
        let at = || format!("{}, source {source}", place(slot.epoch));
        match slot.sources.get(source) {
            None => report.find(Found::PositionGap, at(), "the source is gone, and with it how far it was read"),
            Some(now) if now.incarnation != progress.incarnation => {
                if slot.kind != Kind::NewStream {
                    let what =
                        format!("the stream changed from `{}` to `{}` unsaid", progress.incarnation, now.incarnation);
                    report.find(Found::PositionGap, at(), what);
                }
            }
            Some(now) => check_shards(slot.epoch, source, progress, now, report),
        }
    }
    for (source, now) in &slot.sources {
        let progress = before.sources.get(source).filter(|progress| progress.incarnation == now.incarnation);
        check_new_shards(slot.epoch, source, progress, now, report);
    }
}

/// An interval goes forward, and moves if anything was read.
pub(super) fn check_interval(shard: &ShardSlot, at: String, report: &mut Report) {
    let (from, to) = (&shard.from, &shard.progress.position);
    let what = match (from, to) {
        _ if from == to && shard.counts.read == 0 => return,
        _ if from == to => format!("read {} records without moving on from {to}", shard.counts.read),
        (Position::After(from), Position::After(to)) if to > from => return,
        (Position::TrimHorizon | Position::AtTimestamp(_), Position::After(_)) => return,
        // An accepted loss.
        (_, Position::TrimHorizon) if shard.lost_before.is_some() => return,
        _ => format!("read from {from} back to {to}"),
    };
    report.find(Found::PositionGap, at, what);
}

/// Shards that were known: they go on exactly where they stood.
fn check_shards(epoch: u64, source: &str, before: &SourceProgress, now: &SourceProgress, report: &mut Report) {
    for (id, was) in &before.shards {
        let at = || format!("{}, shard {source}/{id}", place(epoch));
        let Some(shard) = now.shards.get(id) else {
            report.find(
                Found::PositionGap,
                at(),
                format!("the shard is gone; it had been read up to {}", was.progress.position),
            );
            continue;
        };
        if shard.from != was.progress.position {
            let what = format!("read from {}, the slot before had read up to {}", shard.from, was.progress.position);
            report.find(Found::PositionGap, at(), what);
        }
        if was.progress.finished && !shard.progress.finished {
            report.find(Found::PositionGap, at(), "the shard had been read to its end, now it has not");
        }
        if was.progress.finished && shard.from != shard.progress.position {
            report.find(Found::PositionGap, at(), "the shard was read on after its end");
        }
    }
}

/// Shards that were not known: they start at a start, and after their parents.
fn check_new_shards(
    epoch: u64,
    source: &str,
    before: Option<&SourceProgress>,
    now: &SourceProgress,
    report: &mut Report,
) {
    let none = BTreeMap::new();
    let known = before.map_or(&none, |progress| &progress.shards);
    for (id, shard) in now.shards.iter().filter(|(id, _)| !known.contains_key(*id)) {
        let at = || format!("{}, shard {source}/{id}", place(epoch));
        match &shard.from {
            Position::TrimHorizon | Position::AtTimestamp(_) | Position::After(SequenceNumber::Offset(0)) => {}
            from @ Position::After(_) => {
                report.find(Found::PositionGap, at(), format!("the shard is new, but read from {from} on"));
            }
        }
        // Parents no slot knows had expired from the stream before the lake began.
        let unread = shard.progress.parents.iter().find(|parent| match known.get(*parent) {
            Some(parent) => !parent.progress.finished,
            None => now.shards.contains_key(*parent),
        });
        if let Some(parent) = unread {
            report.find(
                Found::EarlyChild,
                at(),
                format!("begun before its parent {parent} was finished in an earlier slot"),
            );
        }
        if known.values().any(|child| child.progress.parents.contains(id)) {
            report.find(Found::EarlyChild, at(), "begun after a child of it");
        }
    }
}
