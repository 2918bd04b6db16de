//! Is somebody writing? For commands by hand on a lake without a lock.
//!
//! The one law: it only ever says "probably". A writer that ends in order says so; one whose newest slot is young and that
//! has not is taken to be at work. What two writers at once would do to epochs, the fences prevent; this keeps people from
//! stopping their job by mistake, and manifests and exports from having two writers.

use std::time::Duration;

use super::SlotLog;
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::config::micros;
use crate::error::{Error, Result};

/// A job that commits has a slot this young: so many commit intervals, of which one may be a slow one,
const INTERVALS: u32 = 5;
/// and a minute at least, for a store that does not answer at once.
const YOUNG_MIN: Duration = Duration::from_secs(60);

/// Refuses when another process has written a slot a few commit intervals ago and has not ended in order since. A job that
/// has had nothing to commit for longer is not seen.
///
/// # Errors
/// [`Error::Fenced`] naming the machine, how long ago, and the way out; [`Error::External`] when the store does not answer.
pub async fn refuse_beside_a_job(slots: &SlotLog, commit_interval: Duration, now: Micros) -> Result<()> {
    let Some(head) = slots.head().await? else { return Ok(()) };
    let young = micros(commit_interval.saturating_mul(INTERVALS).max(YOUNG_MIN));
    // A slot from the future was written by a clock that is ahead of ours: as young as can be.
    let age = now.saturating_sub(head.written_at).max(0);
    if age >= young || slots.resting().await? == Some(head.writer) {
        return Ok(());
    }
    let seconds = |time: Micros| time.div_euclid(MICROS_PER_SECOND);
    Err(Error::Fenced(format!(
        "a process on `{}` wrote to this lake {} s ago (slot {}) and has not ended in order since: it is probably a running \
         job, which looks after the lake by itself; stop it and try again. If it was killed, wait {} s, or add \
         `--beside-a-job`, which may stop it if it does run",
        head.host,
        seconds(age),
        head.epoch,
        seconds(young - age) + 1
    )))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::epoch::{TokenKeyName, take_over};

    const SECOND: Micros = MICROS_PER_SECOND;

    #[tokio::test]
    async fn a_young_slot_of_somebody_who_has_not_ended_is_refused() {
        let slots = SlotLog::new(Arc::new(InMemory::new()));
        let refuse = async |interval: u64, now| refuse_beside_a_job(&slots, Duration::from_secs(interval), now).await;
        refuse(10, 0).await.unwrap();
        let key = TokenKeyName { version: 1, fingerprint: "a".into() };
        let (first, _) = take_over(&slots, &key, &"mill".into(), 1_000 * SECOND).await.unwrap();
        for (interval, now, is_refused) in [
            (10, 1_012, true),
            (10, 900, true),
            (10, 1_059, true),
            (10, 1_060, false),
            (60, 1_290, true),
            (60, 1_300, false),
        ] {
            let found = refuse(interval, now * SECOND).await;
            assert_eq!(found.is_err(), is_refused, "{interval} {now}: {found:?}");
        }
        let error = refuse(10, 1_012 * SECOND).await.unwrap_err();
        assert!(
            matches!(&error, Error::Fenced(m) if m.contains("`mill`") && m.contains("12 s ago") && m.contains("wait 49 s")),
            "{error}"
        );
        slots.write_resting(first.id).await;
        refuse(10, 1_012 * SECOND).await.unwrap();
        // The next one has not ended.
        take_over(&slots, &key, &"mill".into(), 1_013 * SECOND).await.unwrap();
        assert!(refuse(10, 1_014 * SECOND).await.is_err());
    }
}
