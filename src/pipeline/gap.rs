//! Records that expired from the stream before they were read: found at the start, and accepted by hand.
//!
//! The one law: no loss goes unsaid. Without `--accept-gap` it stops the job; with it, a slot of its own names shard and
//! positions before anything behind the gap is read. A shard that was not read to its end and is listed no more is lost from
//! there on, and so is one that came and went unseen between two starts. A shard that stood at its tip less than the stream's retention ago has
//! lost nothing, however old its position is: whatever it has not read arrived later.

use std::collections::BTreeSet;

use super::Job;
use super::recover::{Recovered, restore_watermarks};
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::epoch::{Counts, Kind, ShardSlot};
use crate::error::{Error, Result};
use crate::kinesis::{Client, Held, Lineage, ListedShard, RETENTION_MIN, held, list_shards, reader, span};
use crate::stream::{Position, ShardId, ShardKey, ShardProgress};

/// How far a reader's clock and the stream's may be apart: not a record's age.
const CLOCKS_APART_MAX: Micros = 300 * MICROS_PER_SECOND;

/// Percents of the retention that a stop may use up before the next start warns of it.
const USED_UP_MAX: Micros = 50;

/// A loss: where the shard had been read to, and what is left of it.
struct Loss {
    shard: ShardId,
    left: Held,
}

/// Looks whether the stream still holds what follows every saved position.
///
/// # Errors
/// [`Error::Usage`] naming each loss, unless the job accepts them; [`Error::Fenced`] when another writer owns the next
/// slot.
pub(super) async fn meet_gaps(
    job: &Job,
    recovered: &mut Recovered,
    client: &Client,
    options: &reader::Options,
) -> Result<()> {
    // A lake that has read nothing of the stream begins with what there is.
    if !options.check_trimmed || recovered.base.resume(&options.source).is_empty() {
        return Ok(());
    }
    let listing = list_shards(client, &options.stream).await?;
    let losses = find(job, recovered, client, options, &listing).await?;
    if !losses.is_empty() {
        accept(job, recovered, options, &losses).await?;
    }
    tell_expired(recovered, options, &listing);
    Ok(())
}

/// Goes on behind the losses in a slot that names them, if the job accepts that.
async fn accept(job: &Job, recovered: &mut Recovered, options: &reader::Options, losses: &[Loss]) -> Result<()> {
    if !job.accept_gap {
        let shards: Vec<&str> = losses.iter().map(|loss| &*loss.shard).collect();
        return Err(Error::usage(format!(
            "records of {} expired from the stream `{}` before they were read, so this lake can no longer hold all of it: \
             go on with what is left by `--accept-gap`, which records the loss in the lake, or read on into a new lake \
             (`--set lake.url=…`); and lengthen the stream's retention",
            shards.join(", "),
            options.stream
        )));
    }
    let mut slot = recovered.base.next(&recovered.writer, Kind::Gap, job.clock.now())?;
    let shards = &mut slot.sources.entry(options.source.clone()).or_default().shards;
    for loss in losses {
        let shard = shards.entry(loss.shard.clone()).or_insert_with(unseen);
        loss.apply(shard);
        recovered.gaps.extend(shard.loss().map(|lost| format!("shard {}: {lost}", loss.shard)));
    }
    recovered.facts.notes.extend(recovered.gaps.iter().cloned());
    recovered.lake.slots.decide(&slot).await?.ours()?;
    recovered.base = slot;
    recovered.engine.rebase(recovered.base.clone(), restore_watermarks(job, &recovered.base));
    Ok(())
}

/// Says how much of the stream's retention the time since the job last read has used up.
pub(super) fn tell_absence(job: &Job, recovered: &mut Recovered, options: &reader::Options) {
    let Some(source) = recovered.base.sources.get(&options.source).filter(|_| options.check_trimmed) else { return };
    let now = job.clock.now();
    // Of a shard that never stood at its tip nobody knows how old what it has not read is; `meet_gaps` looks.
    let open = source.shards.iter().filter(|(_, slot)| !slot.progress.finished);
    let away = open.filter_map(|(shard, slot)| Some((now.saturating_sub(slot.at_tip?).max(0), shard)));
    let Some((away, shard)) = away.max() else { return };
    let percent = away.saturating_mul(100) / options.retention.max(1);
    let (gone, kept) = (span(away), span(options.retention));
    recovered.facts.notes.push(format!(
        "what is unread arrived within the last {gone} (`{shard}`): {percent} % of the {kept} that the stream keeps records"
    ));
    if percent >= USED_UP_MAX {
        tracing::warn!(
            "the job has read nothing of `{shard}` for {gone}, {percent} % of the {kept} that the stream `{}` keeps records: \
             what is not read in time is lost; lengthen the retention, and see that the job is started sooner",
            options.stream
        );
    }
}

async fn find(
    job: &Job,
    recovered: &Recovered,
    client: &Client,
    options: &reader::Options,
    listing: &[ListedShard],
) -> Result<Vec<Loss>> {
    let mut lineage = Lineage::new(Position::TrimHorizon, &recovered.base.resume(&options.source));
    lineage.list(listing.to_vec());
    let gone = lineage.gone();
    let mut losses: Vec<Loss> = gone.iter().map(|shard| Loss { shard: shard.clone(), left: Held::Gone }).collect();
    let shards = recovered.base.sources.get(&options.source).into_iter().flat_map(|source| &source.shards);
    for (shard, slot) in shards.filter(|(shard, slot)| !slot.progress.finished && !gone.contains(*shard)) {
        let now = job.clock.now();
        let away = slot.at_tip.map(|at_tip| now.saturating_sub(at_tip));
        if away.is_some_and(|away| away < RETENTION_MIN - CLOCKS_APART_MAX) {
            continue;
        }
        let saved = match &slot.progress.position {
            Position::After(saved) => saved,
            // Nothing has been read since; what arrived first is the first to expire.
            Position::AtTimestamp(from) if now.saturating_sub(*from) >= options.retention => {
                losses.push(Loss { shard: shard.clone(), left: Held::From(None) });
                continue;
            }
            Position::AtTimestamp(_) | Position::TrimHorizon => continue,
        };
        match held(client, &options.stream, shard, saved, options.pacing).await? {
            Held::Saved => {}
            Held::Nothing => tracing::warn!(
                "`{shard}` holds nothing at or after the saved position; what came since and expired is unknown"
            ),
            left @ (Held::From(_) | Held::Gone) => losses.push(Loss { shard: shard.clone(), left }),
        }
    }
    Ok(losses)
}

/// Nobody waits for the children of a shard that has ended when neither it nor one of them is in the stream any more.
fn tell_expired(recovered: &mut Recovered, options: &reader::Options, listing: &[ListedShard]) {
    let there: BTreeSet<&ShardId> = listing.iter().flat_map(|shard| shard.parents.iter().chain([&shard.id])).collect();
    for shard in recovered.base.resume(&options.source).into_keys().filter(|shard| !there.contains(shard)) {
        recovered.engine.shard_expired(&ShardKey { source: options.source.clone(), shard });
    }
}

/// A shard that no slot has named.
fn unseen() -> ShardSlot {
    let position = Position::TrimHorizon;
    let progress =
        ShardProgress { position: position.clone(), finished: false, parents: BTreeSet::new(), watermark: None };
    ShardSlot { from: position, progress, counts: Counts::default(), at_tip: None, lost_before: None }
}

impl Loss {
    /// The shard goes on with the oldest record it has; one that is gone has ended.
    fn apply(&self, shard: &mut ShardSlot) {
        match &self.left {
            Held::From(oldest) => {
                shard.lost_before = Some(oldest.clone().map_or(Position::TrimHorizon, Position::After));
                shard.progress.position = Position::TrimHorizon;
            }
            Held::Gone => {
                shard.lost_before = Some(Position::TrimHorizon);
                shard.progress.finished = true;
            }
            Held::Saved | Held::Nothing => {}
        }
    }
}
