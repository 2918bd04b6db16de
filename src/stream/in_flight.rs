//! How many bytes of records are on their way from a source to the engine, over all its shards together.
//!
//! The one law: whoever holds a share waits only for what ends by itself – an answer, a decoder, the engine's queue –, never
//! for the watermark, for a second share, or between two attempts of a call. So every share comes back, and whoever waits for
//! one gets it, in the order of asking: a shard with much to read stands in line like any other.
//!
//! How large an answer is, is known when it is there. A share is taken for what is expected; what comes on top is a debt that
//! those who ask next wait for. So the bound is passed by no more than the answers under way hold beyond what was expected.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

/// The room for records in flight. Clones share it.
#[derive(Clone, Debug)]
pub struct InFlight(Arc<Account>);

#[derive(Debug)]
struct Account {
    /// A permit is a byte.
    room: Semaphore,
    bytes_max: usize,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    held: usize,
    /// The most that was ever held.
    most: usize,
    /// Held beyond the room: paid by the next shares that come back.
    debt: usize,
}

/// Room for the records of one answer, given back when dropped.
#[derive(Debug)]
pub struct Share {
    account: Arc<Account>,
    bytes: usize,
}

impl InFlight {
    pub fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Account { room: Semaphore::new(bytes_max), bytes_max, ledger: Mutex::default() }))
    }

    /// Waits for room; who asked first is served first. More than all the room is taken to be all of it.
    pub async fn reserve(&self, bytes: usize) -> Share {
        let account = &self.0;
        let permits = u32::try_from(bytes.min(account.bytes_max)).unwrap_or(u32::MAX);
        // It is never closed, so there is always a permit.
        if let Ok(permit) = account.room.acquire_many(permits).await {
            permit.forget();
        }
        account.ledger().hold(permits as usize);
        Share { account: account.clone(), bytes: permits as usize }
    }

    /// The most bytes there were at once.
    pub fn most(&self) -> usize {
        self.0.ledger().most
    }

    /// Bytes there are now.
    pub fn held(&self) -> usize {
        self.0.ledger().held
    }
}

impl Account {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Its figures are whole after every step, whatever a holder of the lock died of.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, ledger: &mut Ledger, bytes: usize) {
        let paid = ledger.debt.min(bytes);
        ledger.debt -= paid;
        ledger.held -= bytes;
        self.room.add_permits(bytes - paid);
    }
}

impl Ledger {
    fn hold(&mut self, bytes: usize) {
        self.held += bytes;
        self.most = self.most.max(self.held);
    }
}

impl Share {
    /// The answer is there and holds so many bytes. Does not wait.
    pub fn settle(&mut self, bytes: usize) {
        let account = &self.account;
        let mut ledger = account.ledger();
        if let Some(less) = self.bytes.checked_sub(bytes) {
            account.give_back(&mut ledger, less);
        } else {
            let more = bytes - self.bytes;
            ledger.debt += more - account.room.forget_permits(more);
            ledger.hold(more);
        }
        drop(ledger);
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.account.give_back(&mut self.account.ledger(), self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn who_asked_first_is_served_first_however_little_others_want() {
        let room = InFlight::new(100);
        let held = room.reserve(60).await;
        let mut large = Box::pin(room.reserve(80));
        assert!(large.as_mut().now_or_never().is_none());
        let mut small = Box::pin(room.reserve(1));
        assert!(small.as_mut().now_or_never().is_none(), "there is room for it, but not before the other");
        drop(held);
        let large = large.now_or_never().unwrap();
        assert!(small.now_or_never().is_some());
        assert_eq!((large.bytes, room.most()), (80, 81));
    }

    #[tokio::test]
    async fn more_than_was_expected_is_a_debt_of_those_who_ask_next() {
        let room = InFlight::new(100);
        let mut surprise = room.reserve(10).await;
        let other = room.reserve(50).await;
        surprise.settle(150);
        assert_eq!((room.held(), room.most()), (200, 200));
        drop(other);
        assert!(room.reserve(1).now_or_never().is_none(), "150 of 100 bytes are held");
        surprise.settle(99);
        assert!(room.reserve(1).now_or_never().is_some());
        assert!(room.reserve(2).now_or_never().is_none());
    }

    #[tokio::test]
    async fn more_than_there_is_room_for_is_served_alone() {
        let room = InFlight::new(100);
        let all = room.reserve(1_000).await;
        assert!(room.reserve(1).now_or_never().is_none());
        drop(all);
        assert!(room.reserve(1).now_or_never().is_some());
    }

    proptest! {
        /// Whatever is reserved, settled and dropped: nothing is lost and nothing made.
        #[test]
        fn the_ledger_balances(steps in prop::collection::vec((0_u8..3, 0_usize..10, 0_usize..200), 1..100)) {
            let room = InFlight::new(300);
            let mut shares: Vec<Share> = Vec::new();
            for (step, place, bytes) in steps {
                match step {
                    0 => shares.extend(room.reserve(bytes).now_or_never()),
                    1 if place < shares.len() => shares[place].settle(bytes),
                    2 if place < shares.len() => drop(shares.swap_remove(place)),
                    _ => {}
                }
                let held: usize = shares.iter().map(|share| share.bytes).sum();
                prop_assert_eq!(room.held(), held);
                prop_assert_eq!(room.0.room.available_permits() + held, 300 + room.0.ledger().debt);
                prop_assert_eq!(room.0.ledger().debt, held.saturating_sub(300));
            }
            drop(shares);
            prop_assert_eq!(room.0.room.available_permits(), 300);
        }
    }
}
