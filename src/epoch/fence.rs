//! Taking a lake over: the next slot becomes a fence with a higher generation, and whoever wrote before is refused.

use std::sync::Arc;

use uuid::Uuid;

use super::{Decided, Kind, Slot, SlotLog, TokenKeyName, Writer};
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::error::{Error, Result};

/// How recent the last three fences must be to count as a fight: supervisors restart within seconds, and once one of the
/// two has been stopped the other may start after this long.
const RIVALRY_MICROS_MAX: Micros = 5 * 60 * MICROS_PER_SECOND;

/// Fences the lake for this process; returns who we are now and the fence, which carries the whole resume state.
///
/// # Errors
/// [`Error::Fenced`] when another writer took over meanwhile, or when two machines keep taking turns;
/// [`Error::Usage`] when the lake was written with another token key.
pub async fn take_over(
    slots: &SlotLog,
    token_key: &TokenKeyName,
    host: &Arc<str>,
    now: Micros,
) -> Result<(Writer, Slot)> {
    let id = Uuid::new_v4();
    loop {
        let head = slots.head().await?;
        let generation = head.as_ref().map_or(0, |head| head.generation + 1);
        let writer = Writer { id, generation, host: host.clone() };
        let fence = match &head {
            None => Slot::first(&writer, token_key.clone(), now),
            Some(head) => {
                check_token_key(head, token_key)?;
                refuse_rivals(slots, head, now).await?;
                Slot { token_key: token_key.clone(), ..head.next(&writer, Kind::Fence, now)? }
            }
        };
        match slots.decide(&fence).await? {
            Decided::Ours => {
                slots.write_hint(fence.epoch).await;
                return Ok((writer, fence));
            }
            // The old writer decided one more epoch before it could see us: fence the slot after it.
            Decided::Taken(other) if other.generation < generation => {}
            taken @ Decided::Taken(_) => taken.ours()?,
        }
    }
}

/// Another key would give every card a second token.
///
/// # Errors
/// [`Error::Usage`] when it is not the lake's, nor one of a newer version.
pub fn check_token_key(head: &Slot, ours: &TokenKeyName) -> Result<()> {
    // A newer version of the key is a rotation; the same version must be the same key.
    let changed = head.token_key.version == ours.version && head.token_key.fingerprint != ours.fingerprint;
    if changed || ours.version < head.token_key.version {
        return Err(Error::usage(format!(
            "this lake's card tokens were made with another key (version {}, fingerprint {}; given: version {}, \
             fingerprint {}): set LAKEWARD_TOKEN_KEY or `token.key_file` to that key, raise `token.version` to rotate, \
             or use another `lake.url`",
            head.token_key.version, head.token_key.fingerprint, ours.version, ours.fingerprint
        )));
    }
    Ok(())
}

/// Two configured writers would fence each other for ever and never get an epoch done.
///
/// A job that dies at once and is restarted also leaves fences in a row, but of one machine, and must be let in.
async fn refuse_rivals(slots: &SlotLog, head: &Slot, now: Micros) -> Result<()> {
    let mut fences = Vec::new();
    for epoch in (0..=head.epoch).rev().take(3) {
        match slots.read(epoch).await? {
            Some(slot) if slot.kind == Kind::Fence && slot.written_at > now - RIVALRY_MICROS_MAX => fences.push(slot),
            _ => return Ok(()),
        }
    }
    match fences.as_slice() {
        [a, b, c] if a.host == c.host && a.host != b.host => Err(Error::Fenced(format!(
            "two writers are configured for this lake, on `{}` and `{}`, and keep taking it from each other: stop one \
             of them, then start the other after five minutes",
            a.host, b.host
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn key(fingerprint: &str) -> TokenKeyName {
        TokenKeyName { version: 1, fingerprint: fingerprint.into() }
    }

    fn empty_log() -> SlotLog {
        SlotLog::new(Arc::new(InMemory::new()))
    }

    async fn take_over_on(slots: &SlotLog, host: &str, now: Micros) -> Result<(Writer, Slot)> {
        take_over(slots, &key("a"), &host.into(), now).await
    }

    #[tokio::test]
    async fn each_take_over_raises_the_generation() {
        let slots = empty_log();
        let (first, fence) = take_over_on(&slots, "a", 0).await.unwrap();
        assert_eq!((first.generation, fence.epoch), (0, 0));
        let (second, fence) = take_over_on(&slots, "a", 0).await.unwrap();
        assert_eq!((second.generation, fence.epoch), (1, 1));
    }

    #[tokio::test]
    async fn the_old_writer_is_refused() {
        let slots = empty_log();
        let (old, fence) = take_over_on(&slots, "a", 0).await.unwrap();
        let stale = fence.next(&old, Kind::Epoch, 0).unwrap();
        let (new, _) = take_over_on(&slots, "a", 0).await.unwrap();
        let Decided::Taken(found) = slots.decide(&stale).await.unwrap() else { panic!("the old writer decided") };
        assert_eq!(found.generation, new.generation);
    }

    #[tokio::test]
    async fn another_key_is_refused_and_a_rotated_one_is_not() {
        let slots = empty_log();
        let host = "a".into();
        take_over(&slots, &key("a"), &host, 0).await.unwrap();
        assert!(matches!(take_over(&slots, &key("b"), &host, 0).await, Err(Error::Usage(_))));
        let rotated = TokenKeyName { version: 2, fingerprint: "b".into() };
        take_over(&slots, &rotated, &host, 0).await.unwrap();
        assert!(matches!(take_over(&slots, &key("a"), &host, 0).await, Err(Error::Usage(_))));
    }

    #[tokio::test]
    async fn two_machines_that_take_turns_are_told() {
        let slots = empty_log();
        for host in ["a", "b", "a"] {
            take_over_on(&slots, host, 0).await.unwrap();
        }
        assert!(matches!(take_over_on(&slots, "b", 1).await, Err(Error::Fenced(_))));
        take_over_on(&slots, "b", RIVALRY_MICROS_MAX + 1).await.unwrap();
    }

    #[tokio::test]
    async fn one_machine_that_restarts_is_let_in() {
        let slots = empty_log();
        for _ in 0..5 {
            take_over_on(&slots, "a", 0).await.unwrap();
        }
    }
}
