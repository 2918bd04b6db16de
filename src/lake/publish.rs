//! Publishing a decided epoch to one table, exactly once.
//!
//! The one law: a commit follows the very version on which it was seen that the epoch is not there. The first try goes by
//! what this process has seen, and the store refuses it if there is a newer version. An error never means "not committed": a
//! store may apply a write and lose the answer. So the only reaction to an error is to wait, and to look again.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tracing::warn;

use super::{Add, Remove, Table};
use crate::error::{Error, Result};

/// Looks again after an error so often, then gives up and leaves the epoch to the next start. With the delays below that
/// is about half a minute: longer than a store's hiccup, shorter than anybody would wait for a stuck pipeline.
const RETRIES_MAX: usize = 10;
/// First delay: more than a round trip to S3. Jitter adds up to as much again.
const DELAY_MIN: Duration = Duration::from_millis(20);
/// Longest delay; S3 throttling is over sooner.
const DELAY_MAX: Duration = Duration::from_secs(5);

/// What [`Table::publish`] found or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// The epoch, or a later one, is in the table already, perhaps by a commit whose answer was lost; or there is nothing
    /// to publish.
    AlreadyThere,
    /// Committed as this version.
    Committed(u64),
}

impl Table {
    /// Makes the files of a decided epoch visible and takes out those it replaces, in one commit, once, however often it
    /// is called. Epochs of one table are published in order. Without files there is no commit.
    ///
    /// # Errors
    /// [`Error::Broken`] if the table has vanished (it is never created anew here) or a file to take out is no longer in
    /// it, [`Error::Usage`] if somebody changed its schema or protocol, [`Error::External`] if the store did not answer
    /// for long; the epoch may then be published or not: call again.
    pub async fn publish(&self, app_id: &str, epoch: u64, adds: &[Add], removes: &[Remove]) -> Result<Publish> {
        if adds.is_empty() && removes.is_empty() {
            return Ok(Publish::AlreadyThere);
        }
        let version = epoch_version(epoch)?;
        let mut delays = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(DELAY_MIN)
            .with_max_delay(DELAY_MAX)
            .with_max_times(RETRIES_MAX)
            .build();
        let mut look = false;
        loop {
            let answer = self.publish_once(app_id, version, adds, removes, look).await;
            look = true;
            match (answer, delays.next()) {
                (Err(error @ Error::External { .. }), Some(delay)) => {
                    warn!(table = self.name(), epoch, %error, "publishing is uncertain, looking again");
                    tokio::time::sleep(delay).await;
                }
                (answer, _) => return answer,
            }
        }
    }

    /// The last epoch `app_id` has published to this table.
    ///
    /// # Errors
    /// As [`Table::publish`].
    pub async fn txn_version(&self, app_id: &str) -> Result<Option<i64>> {
        Ok(self.log().newest_knowing(app_id).await?.published(app_id))
    }

    async fn publish_once(
        &self,
        app_id: &str,
        epoch: i64,
        adds: &[Add],
        removes: &[Remove],
        look: bool,
    ) -> Result<Publish> {
        let mut state = match look {
            true => self.log().newest_knowing(app_id).await?,
            false => self.log().seen_knowing(app_id).await?,
        };
        if state.published(app_id).is_some_and(|published| published >= epoch) {
            return Ok(Publish::AlreadyThere);
        }
        // Its rows would come back beside those that replace them, or be lost: neither is ours to choose.
        if let Some(gone) = removes.iter().find(|remove| !state.files.contains_key(&remove.path)) {
            let (name, path, version) = (self.name(), &gone.path, state.version);
            return Err(Error::broken(format!(
                "table `{name}`: epoch {epoch} replaces rows of `{path}`, which is not in the table any more (version \
                 {version}): another writer has rewritten or deleted it; stop that writer and put the table back to the \
                 version before its commit, then start again"
            )));
        }
        self.log().append(&mut state, app_id, epoch, adds, removes).await.map(Publish::Committed)
    }
}

/// Delta counts transactions in i64.
pub(super) fn epoch_version(epoch: u64) -> Result<i64> {
    i64::try_from(epoch).map_err(|_| Error::broken(format!("epoch {epoch} is beyond what a Delta log can name")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{self, FaultyStore};
    use super::super::{Lake, Staged};
    use super::*;

    async fn staged(table: &Table, epoch: u64) -> Staged {
        table.stage(vec![testing::rows(10, epoch)], epoch).await.unwrap()
    }

    #[tokio::test]
    async fn an_epoch_published_twice_is_there_once() {
        let (_folder, lake) = testing::lake();
        let table = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        assert_eq!(table.txn_version("app").await.unwrap(), None);
        let adds = staged(&table, 7).await.adds;
        assert_eq!(table.publish("app", 7, &adds, &[]).await.unwrap(), Publish::Committed(1));
        assert_eq!(table.publish("app", 7, &adds, &[]).await.unwrap(), Publish::AlreadyThere);
        assert_eq!(table.publish("app", 6, &adds, &[]).await.unwrap(), Publish::AlreadyThere);
        // So does another process that comes later.
        let other = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        assert_eq!(other.publish("app", 7, &adds, &[]).await.unwrap(), Publish::AlreadyThere);
        assert_eq!(other.txn_version("app").await.unwrap(), Some(7));
        assert_eq!(testing::read(&lake, &table, None).await.num_rows(), 10);
    }

    #[tokio::test]
    async fn two_processes_publishing_one_epoch_commit_it_once() {
        let (_folder, lake) = testing::lake();
        let one = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        let two = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        let adds = staged(&one, 0).await.adds;
        let (a, b) = tokio::join!(one.publish("app", 0, &adds, &[]), two.publish("app", 0, &adds, &[]));
        let committed = [a.unwrap(), b.unwrap()].iter().filter(|p| matches!(p, Publish::Committed(_))).count();
        assert_eq!(committed, 1);
        assert_eq!(testing::read(&lake, &one, None).await.num_rows(), 10);
    }

    #[tokio::test]
    async fn pipelines_of_two_names_do_not_hide_each_other() {
        let (_folder, lake) = testing::lake();
        let table = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        let (a, b) = (staged(&table, 5).await.adds, staged(&table, 3).await.adds);
        assert_eq!(table.publish("a", 5, &a, &[]).await.unwrap(), Publish::Committed(1));
        assert_eq!(table.publish("b", 3, &b, &[]).await.unwrap(), Publish::Committed(2));
        let other = Table::open_existing(&lake, "payments").await.unwrap().unwrap();
        assert_eq!(other.txn_version("a").await.unwrap(), Some(5));
        assert_eq!(other.txn_version("b").await.unwrap(), Some(3));
        assert_eq!(other.txn_version("c").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_kill_between_staging_and_publishing_shows_nothing_and_loses_nothing() {
        let (_folder, lake) = testing::lake();
        let table = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        // What a slot would hold: the Adds as JSON, and nothing else of the dead process.
        let slot = serde_json::to_string(&staged(&table, 0).await.adds).unwrap();
        drop(table);
        let table = Table::open_existing(&lake, "payments").await.unwrap().unwrap();
        assert_eq!(testing::read(&lake, &table, None).await.num_rows(), 0);
        let adds: Vec<Add> = serde_json::from_str(&slot).unwrap();
        assert_eq!(table.publish("app", 0, &adds, &[]).await.unwrap(), Publish::Committed(1));
        assert_eq!(testing::read(&lake, &table, None).await.num_rows(), 10);
    }

    #[tokio::test]
    async fn a_commit_whose_answer_is_lost_is_found_and_not_repeated() {
        let (_folder, lake) = testing::lake();
        Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        for say_exists in [false, true] {
            let epoch = u64::from(say_exists);
            let faulty = FaultyStore::losing_answers(Arc::clone(&lake.root), "_delta_log", 1, say_exists);
            let faults = faulty.faults_left();
            let lossy = Lake::with_wrapped_store(lake.clone(), |_| Arc::new(faulty));
            let table = Table::open_existing(&lossy, "payments").await.unwrap().unwrap();
            let adds = staged(&table, epoch).await.adds;
            assert_eq!(table.publish("app", epoch, &adds, &[]).await.unwrap(), Publish::AlreadyThere);
            assert_eq!(faults.load(std::sync::atomic::Ordering::Relaxed), 0, "the fault did not happen");
        }
        let table = Table::open_existing(&lake, "payments").await.unwrap().unwrap();
        assert_eq!(table.version().await.unwrap(), 2);
        assert_eq!(testing::read(&lake, &table, None).await.num_rows(), 20);
    }

    #[tokio::test]
    async fn a_table_whose_folder_vanished_is_not_created_anew() {
        let (folder, lake) = testing::lake();
        let table = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        let first = staged(&table, 0).await.adds;
        table.publish("app", 0, &first, &[]).await.unwrap();
        let adds = staged(&table, 1).await.adds;
        std::fs::remove_dir_all(folder.path().join("payments")).unwrap();
        let error = table.publish("app", 1, &adds, &[]).await.unwrap_err();
        assert!(matches!(&error, Error::Broken(m) if m.contains("vanished")), "{error}");
        assert!(!folder.path().join("payments/_delta_log").exists());
    }

    #[tokio::test]
    async fn nothing_to_publish_is_no_commit() {
        let (_folder, lake) = testing::lake();
        let table = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        assert_eq!(table.publish("app", 0, &[], &[]).await.unwrap(), Publish::AlreadyThere);
        assert_eq!(table.version().await.unwrap(), 0);
    }
}
