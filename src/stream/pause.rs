//! The pipeline's say over when a shard is read no further for now.
//!
//! The one law: a reader that waits here holds no room in flight and no record: it has handed over everything it was
//! answered, and its position is exact however long it waits.

use tokio::sync::watch;

/// The pipeline's end. Dropped, it pauses nobody.
#[derive(Debug)]
pub struct Pause(watch::Sender<bool>);

/// The reader's end.
#[derive(Clone, Debug)]
pub struct Paused(watch::Receiver<bool>);

/// Both ends; the reader may read.
pub fn pause() -> (Pause, Paused) {
    let (pause, paused) = watch::channel(false);
    (Pause(pause), Paused(paused))
}

impl Pause {
    /// Lets the reader wait before its next request, or go on.
    pub fn set(&self, waits: bool) {
        self.0.send_if_modified(|was| std::mem::replace(was, waits) != waits);
    }
}

impl Paused {
    /// Waits until the reader may ask for more. Returns whether it had to wait.
    pub async fn over(&mut self) -> bool {
        let waits = *self.0.borrow();
        // An error says that the pipeline is gone: the next hand-over ends the reader.
        let _ = self.0.wait_for(|waits| !waits).await;
        waits
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_reader_waits_until_it_may_go_on_or_nobody_says_so() {
        let (pause, mut paused) = pause();
        assert!(paused.over().now_or_never().is_some());
        pause.set(true);
        assert!(paused.over().now_or_never().is_none());
        pause.set(false);
        assert!(paused.over().now_or_never().is_some());
        pause.set(true);
        drop(pause);
        assert!(paused.over().now_or_never().is_some());
    }
}
