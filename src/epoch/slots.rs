//! The log of slots: `_epochs/<N>.json` at the lake's root, written once each.
//!
//! The underscore keeps crawlers and Delta's vacuum away. The one law: a slot is created if absent, never overwritten or
//! deleted; whatever a PUT answers, a GET tells who owns the slot.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use uuid::Uuid;

use super::Slot;
use crate::error::{Context, Error, Mendable, Result};

/// Attempts to decide one slot before giving up: with the waits below about ten minutes of an unreachable store, after
/// which a supervisor's restart is the better retry.
const DECIDE_ATTEMPTS_MAX: usize = 60;
/// Longest wait between two attempts.
const DECIDE_WAIT_MAX: Duration = Duration::from_secs(15);

/// Who owns a slot after a PUT.
#[derive(Debug)]
pub enum Decided {
    /// We do.
    Ours,
    /// Another writer does; this is its slot.
    Taken(Box<Slot>),
}

impl Decided {
    /// For whoever cannot go on without the slot.
    ///
    /// # Errors
    /// [`Error::Fenced`] when another writer owns it.
    pub fn ours(self) -> Result<()> {
        match self {
            Self::Ours => Ok(()),
            Self::Taken(other) => Err(Error::Fenced(format!(
                "another writer took this lake over (slot {}, generation {}); what this process had not decided is left to \
                 that one",
                other.epoch, other.generation
            ))),
        }
    }
}

/// Reads and appends slots.
#[derive(Clone, Debug)]
pub struct SlotLog {
    store: Arc<dyn ObjectStore>,
}

impl SlotLog {
    /// The log of the lake this store is rooted at.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// One slot, or `None` when it has not been decided.
    ///
    /// # Errors
    /// [`Error::External`] when the store does not answer; see [`Slot::from_json`] for the rest.
    pub async fn read(&self, epoch: u64) -> Result<Option<Slot>> {
        self.read_bytes(epoch).await?.map(|bytes| Slot::from_json(&bytes, epoch)).transpose()
    }

    /// The stored bytes of a slot.
    ///
    /// # Errors
    /// [`Error::External`] when the store does not answer.
    pub async fn read_bytes(&self, epoch: u64) -> Result<Option<bytes::Bytes>> {
        match self.store.get(&slot_path(epoch)).await {
            Ok(found) => Ok(Some(found.bytes().await.context(|| format!("reading slot {epoch}"))?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(Error::external(format!("reading slot {epoch}"), error)),
        }
    }

    /// The newest slot, or `None` in an empty lake.
    ///
    /// Starts at the hint and goes forward, doubling its steps and then halving them: slots are contiguous, so no listing
    /// is needed and a lost or old hint costs a few reads.
    ///
    /// # Errors
    /// As [`SlotLog::read`].
    pub async fn head(&self) -> Result<Option<Slot>> {
        let hint = self.hint().await?;
        let mut known = match self.exists(hint).await? {
            true => hint,
            false if hint == 0 || !self.exists(0).await? => return Ok(None),
            false => 0,
        };
        let mut step = 1;
        while self.exists(known + step).await? {
            known += step;
            step *= 2;
        }
        // The head lies in [known, known + step).
        while step > 1 {
            step /= 2;
            if self.exists(known + step).await? {
                known += step;
            }
        }
        self.read(known).await
    }

    /// Tables that were dropped and are not known to be gone: whoever reads the lake leaves them out.
    ///
    /// # Errors
    /// As [`SlotLog::read`].
    pub async fn dropping(&self) -> Result<BTreeSet<Arc<str>>> {
        Ok(self.head().await?.map(|head| head.dropping).unwrap_or_default())
    }

    /// Decides a slot: PUT if absent, and on any other answer look who owns it.
    ///
    /// # Errors
    /// [`Error::External`] when the store stays unreachable; nothing is known of the slot then, and a restart finds out.
    pub async fn decide(&self, slot: &Slot) -> Result<Decided> {
        let payload = PutPayload::from(slot.to_json()?);
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let mut waits = ExponentialBuilder::default()
            .with_jitter()
            .with_max_delay(DECIDE_WAIT_MAX)
            .with_max_times(DECIDE_ATTEMPTS_MAX)
            .build();
        loop {
            let put = self.store.put_opts(&slot_path(slot.epoch), payload.clone(), options.clone()).await;
            let error = match put {
                Ok(_) => return Ok(Decided::Ours),
                Err(error) => error,
            };
            // A refused create may be our own earlier PUT whose answer was lost.
            match self.read(slot.epoch).await {
                Ok(Some(found)) if found.writer == slot.writer && found.nonce == slot.nonce => {
                    return Ok(Decided::Ours);
                }
                Ok(Some(found)) => return Ok(Decided::Taken(Box::new(found))),
                Ok(None) | Err(Error::External { .. }) => {}
                Err(damaged) => return Err(damaged),
            }
            match waits.next().filter(|_| Mendable::inside(&error).is_none()) {
                Some(wait) => {
                    tracing::warn!(epoch = slot.epoch, %error, "slot not decided yet, trying again");
                    tokio::time::sleep(wait).await;
                }
                None => return Err(Error::external(format!("deciding slot {}", slot.epoch), error)),
            }
        }
    }

    /// Writes the hint where to start looking for the head. Best effort: a stale hint is only slower.
    pub async fn write_hint(&self, epoch: u64) {
        if let Err(error) = self.store.put(&hint_path(), PutPayload::from(epoch.to_string().into_bytes())).await {
            tracing::debug!(%error, "the hint of the newest slot was not written");
        }
    }

    /// Notes that this writer has ended in order. Best effort: without it, commands by hand wait for a minute.
    pub async fn write_resting(&self, writer: Uuid) {
        if let Err(error) = self.store.put(&resting_path(), PutPayload::from(writer.to_string().into_bytes())).await {
            tracing::debug!(%error, "the end of this writer was not noted");
        }
    }

    /// The last writer that has ended in order, if any.
    ///
    /// # Errors
    /// [`Error::External`] when the store does not answer.
    pub async fn resting(&self) -> Result<Option<Uuid>> {
        let what = || "reading `_epochs/_resting`";
        match self.store.get(&resting_path()).await {
            Ok(found) => {
                let bytes = found.bytes().await.context(what)?;
                Ok(std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok()))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(Error::external(what(), error)),
        }
    }

    async fn hint(&self) -> Result<u64> {
        match self.store.get(&hint_path()).await {
            Ok(found) => {
                let bytes = found.bytes().await.context(|| "reading `_epochs/_head`")?;
                Ok(std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(0),
            Err(error) => Err(Error::external("reading `_epochs/_head`", error)),
        }
    }

    async fn exists(&self, epoch: u64) -> Result<bool> {
        match self.store.head(&slot_path(epoch)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(Error::external(format!("looking for slot {epoch}"), error)),
        }
    }
}

fn slot_path(epoch: u64) -> Path {
    Path::from(format!("_epochs/{epoch:020}.json"))
}

fn resting_path() -> Path {
    Path::from("_epochs/_resting")
}

fn hint_path() -> Path {
    Path::from("_epochs/_head")
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::epoch::{Kind, TokenKeyName, Writer};

    fn first(generation: u64) -> Slot {
        let writer = Writer { id: Uuid::new_v4(), generation, host: "a".into() };
        Slot::first(&writer, TokenKeyName { version: 1, fingerprint: String::new() }, 0)
    }

    async fn log_of(slots: u64) -> (SlotLog, Slot) {
        let log = SlotLog::new(Arc::new(InMemory::new()));
        let mut slot = first(1);
        for epoch in 0..slots {
            assert!(matches!(log.decide(&slot).await.unwrap(), Decided::Ours));
            assert_eq!(slot.epoch, epoch);
            let writer = Writer { id: slot.writer, generation: 1, host: "a".into() };
            slot = slot.next(&writer, Kind::Epoch, 0).unwrap();
        }
        (log, slot)
    }

    #[tokio::test]
    async fn the_head_is_found_from_any_hint() {
        let (log, _) = log_of(23).await;
        for hint in [0, 1, 7, 21, 22, 23, 1000] {
            log.write_hint(hint).await;
            assert_eq!(log.head().await.unwrap().unwrap().epoch, 22, "hint {hint}");
        }
    }

    #[tokio::test]
    async fn an_empty_lake_has_no_head() {
        let (log, _) = log_of(0).await;
        assert!(log.head().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_slot_is_decided_once() {
        let (log, next) = log_of(3).await;
        let rival = Slot { writer: Uuid::new_v4(), nonce: Uuid::new_v4(), ..next.clone() };
        assert!(matches!(log.decide(&next).await.unwrap(), Decided::Ours));
        // Our own PUT again, as after a lost answer: still ours.
        assert!(matches!(log.decide(&next).await.unwrap(), Decided::Ours));
        let Decided::Taken(found) = log.decide(&rival).await.unwrap() else { panic!("the rival won") };
        assert_eq!((found.writer, found.nonce), (next.writer, next.nonce));
    }
}
