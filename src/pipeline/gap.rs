//! Records that expired from the stream before they were read: found at the start, and accepted by hand.
//!
//! The one law: no loss goes unsaid. Without `--accept-gap` it stops the job; with it, a slot of its own names shard and
//! positions before anything behind the gap is read.
//!
//! A shard that was not read to its end and is listed no more is lost from there on, and so is one that came and went unseen
//! between two starts. A shard that stood at its tip less than the stream's retention ago has lost nothing, however old its
//! position is: whatever it has not read arrived later. Of any other the record read last must be there; when it is gone, or
//! none was read, nobody knows what expired, and that counts as a loss.
//!
//! The retention is the shorter one of today's and of the last run's. One that was shortened and lengthened again meanwhile is
//! not seen.

use std::collections::BTreeSet;

use super::Job;
use super::recover::{Recovered, restore_watermarks};
use crate::clock::Micros;
use crate::epoch::{Counts, Kind, ShardSlot, Slot};
use crate::error::{Error, Result};
use crate::kinesis::{Client, Held, Lineage, ListedShard, RETENTION_MIN, held, holds_since, list_shards, reader, span};
use crate::stream::{Position, ShardId, ShardKey, ShardProgress};

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
            "records of {} expired from the stream `{}` before they were read, or nothing tells that none did, so this lake can \
             no longer hold all of it: go on with what is left by `--accept-gap`, which records the loss in the lake, or read \
             on into a new lake (`--set lake.url=…`); and lengthen the stream's retention",
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
    let Some(source) = recovered.base.sources.get(&options.source) else { return Ok(losses) };
    // Under a longer one of today some records had expired already.
    let kept = options.retention.min(source.retention.unwrap_or(RETENTION_MIN));
    for (shard, slot) in source.shards.iter().filter(|(id, slot)| !slot.progress.finished && !gone.contains(*id)) {
        let (since, now) = (slot.unread_since(), job.clock.now());
        let is_held = |since| holds_since(since, now, kept);
        if since.is_some_and(is_held) {
            continue;
        }
        let left = match &slot.progress.position {
            Position::After(saved) => held(client, &options.stream, shard, saved, options.pacing).await?,
            // The run ended before it came to this shard: there may have been nothing in it.
            Position::TrimHorizon if since.is_none() && is_held(last_told(recovered).await?) => Held::Saved,
            // What came first is the first to expire.
            Position::TrimHorizon | Position::AtTimestamp(_) => Held::From(None),
        };
        if left != Held::Saved {
            losses.push(Loss { shard: shard.clone(), left });
        }
    }
    Ok(losses)
}

/// When a slot last told of the stream: every start begins with a fence, and those tell nothing.
async fn last_told(recovered: &Recovered) -> Result<Micros> {
    let Slot { mut epoch, mut kind, mut written_at, .. } = recovered.base;
    while kind == Kind::Fence && epoch > 0 {
        let Some(before) = recovered.lake.slots.read(epoch - 1).await? else { break };
        Slot { epoch, kind, written_at, .. } = before;
    }
    Ok(written_at)
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
    /// The shard goes on with the oldest record it has, whose age nobody knows; one that is gone has ended.
    fn apply(&self, shard: &mut ShardSlot) {
        shard.at_tip = None;
        match &self.left {
            Held::From(oldest) => {
                shard.lost_before = Some(oldest.clone().map_or(Position::TrimHorizon, Position::After));
                shard.progress.position = Position::TrimHorizon;
            }
            Held::Gone => {
                shard.lost_before = Some(Position::TrimHorizon);
                shard.progress.finished = true;
            }
            Held::Saved => {}
        }
    }
}
