//! One Delta table of the lake: created from its contract, or opened as it is.
//!
//! The one law: a table is what its contract says, column by column, or it is not opened for writing.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::SaveMode;
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use tracing::debug;
use url::Url;

use super::Lake;
use super::log::{Log, log_store};
use super::publish::epoch_version;
use super::scan::LakeScan;
use super::schema::{Layout, SORT_BY, delta_columns};
use super::state::{Commit, DataFile};
use crate::clock::Micros;
use crate::contract::TableContract;
use crate::error::{Context, Error, Result};

/// How long Delta keeps commits and tombstones: a week, so that a reader or follower may stand still over a holiday.
const LOG_RETENTION: (&str, &str) = ("delta.logRetentionDuration", "interval 7 days");

/// One table. Cheap to clone; clones share what they know of the log.
#[derive(Clone, Debug)]
pub struct Table {
    lake: Lake,
    name: Arc<str>,
    log: Arc<Log>,
}

impl Table {
    /// Opens the table of a contract, creating it if the lake has none of its name. Whoever recovers decided epochs opens
    /// their tables with [`Table::open_existing`] first: a table that vanished must not come back empty.
    ///
    /// # Errors
    /// [`Error::Usage`] naming every difference to the contract, or for a table with other protocol versions than 1/2 or
    /// with `delta.setTransactionRetentionDuration`.
    pub async fn create_or_open(lake: &Lake, contract: &TableContract) -> Result<Self> {
        let layout = Layout::of_contract(contract)?;
        if let Some(table) = Self::open(lake, &contract.name, Some(&layout)).await? {
            return Ok(table);
        }
        let created = Self::create(lake, contract, &layout).await;
        // Whatever the answer: it may have been lost, or another process may have been first.
        match (Self::open(lake, &contract.name, Some(&layout)).await?, created) {
            (Some(table), created) => {
                debug!(table = table.name(), clean = created.is_ok(), "created");
                Ok(table)
            }
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(Error::broken(format!("table `{}` was created but is not there", contract.name))),
        }
    }

    /// Opens a table with the schema and the order it has in the lake; `None` if there is none of this name.
    ///
    /// # Errors
    /// As [`Table::create_or_open`], without a contract to differ from.
    pub async fn open_existing(lake: &Lake, name: &str) -> Result<Option<Self>> {
        Self::open(lake, name, None).await
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every column in declared order, the partition column included.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.log.layout().schema)
    }

    /// Name of the partition column, a date.
    pub fn partition_by(&self) -> &str {
        self.log.layout().partition_name()
    }

    /// The table's newest version.
    ///
    /// # Errors
    /// [`Error::Broken`] if the table has vanished, [`Error::External`] if the store does not answer.
    pub async fn version(&self) -> Result<u64> {
        Ok(self.log.newest().await?.version)
    }

    /// The newest version this process has read or written. Asks nobody, so others may have gone on.
    pub async fn version_seen(&self) -> u64 {
        self.log.version_seen().await
    }

    /// The newest version that holds nothing of epochs after `epoch`: with one epoch, versions of several tables that
    /// belong together. Costs one read for every version since.
    ///
    /// # Errors
    /// [`Error::Broken`] if the log no longer reaches back so far.
    pub async fn version_of_epoch(&self, app_id: &str, epoch: u64) -> Result<u64> {
        self.log.version_of_epoch(app_id, epoch_version(epoch)?).await
    }

    /// The table at a version (newest if none is given) for DataFusion, with exactly [`Table::schema`]. Needs a session
    /// prepared by [`Lake::register`]. Files are left out by partition and by the ranges of whole-number and time columns.
    ///
    /// # Errors
    /// [`Error::Usage`] for a version that does not exist yet or files with deletion vectors.
    pub async fn provider(&self, version: Option<u64>) -> Result<Arc<dyn TableProvider>> {
        let (_, files) = self.log.files(version).await?;
        Ok(Arc::new(LakeScan::new(&self.lake, &self.name, self.log.layout(), files)?))
    }

    /// Some files for DataFusion, live or not: each by its path, the value of its partition and its size in bytes, as a log or
    /// a slot names it. Else as [`Table::provider`].
    ///
    /// # Errors
    /// [`Error::Broken`] for a value of the partition that is no date.
    pub fn provider_of<'a>(
        &self,
        files: impl IntoIterator<Item = (&'a str, Option<&'a str>, u64)>,
    ) -> Result<Arc<dyn TableProvider>> {
        let layout = self.log.layout();
        let files = files.into_iter().map(|file| DataFile::named(&self.name, layout, file).map(Arc::new));
        Ok(Arc::new(LakeScan::new(&self.lake, &self.name, layout, files.collect::<Result<_>>()?)?))
    }

    /// The files live at the newest version, by partition, then by epoch.
    ///
    /// # Errors
    /// As [`Table::version`].
    pub async fn live_files(&self) -> Result<Vec<Arc<DataFile>>> {
        Ok(self.log.files(None).await?.1)
    }

    /// The files live at a version, by partition, then by epoch.
    ///
    /// # Errors
    /// As [`Table::version`]; [`Error::Usage`] for a version that does not exist yet.
    pub async fn live_files_at(&self, version: u64) -> Result<Vec<Arc<DataFile>>> {
        Ok(self.log.files(Some(version)).await?.1)
    }

    /// The newest version, and the files live at it, by partition, then by epoch.
    ///
    /// # Errors
    /// As [`Table::version`]; [`Error::Usage`] for a file with a deletion vector.
    pub async fn newest_files(&self) -> Result<(u64, Vec<Arc<DataFile>>)> {
        self.log.files(None).await
    }

    /// A store rooted at the table's folder.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(self.lake.store(), self.name.as_ref()))
    }

    /// The table's URL, ending with a slash.
    ///
    /// # Errors
    /// [`Error::External`] for a name that is no folder's.
    pub fn url(&self) -> Result<Url> {
        self.lake.table_url(&self.name)
    }

    /// Rows of the files that hold, or may hold, a value of the time column at or after `from`; all rows without it. From the
    /// log alone.
    ///
    /// # Errors
    /// As [`Table::version`].
    pub async fn rows_reaching(&self, from: Option<(&str, Micros)>) -> Result<u64> {
        let wanted = from.and_then(|(column, from)| Some((self.schema().index_of(column).ok()?, from)));
        let reaches = |file: &DataFile| match wanted {
            Some((index, from)) => {
                file.ranges.iter().find(|(at, _)| *at == index).is_none_or(|(_, (_, max))| *max >= from)
            }
            None => true,
        };
        Ok(self.live_files().await?.iter().filter(|file| reaches(file)).filter_map(|file| file.rows).sum())
    }

    /// Rows of the files that hold, or may hold, a value of a column of whole numbers, or of a time, in these stretches, first
    /// and last value of each. From the log alone.
    ///
    /// # Errors
    /// As [`Table::version`].
    pub async fn rows_within(&self, column: &str, stretches: &[(i64, i64)]) -> Result<u64> {
        let Ok(index) = self.schema().index_of(column) else { return Ok(0) };
        let may_hold = |file: &DataFile| match file.ranges.iter().find(|(at, _)| *at == index) {
            Some((_, (min, max))) => stretches.iter().any(|(first, last)| first <= max && min <= last),
            None => !stretches.is_empty(),
        };
        Ok(self.live_files().await?.iter().filter(|file| may_hold(file)).filter_map(|file| file.rows).sum())
    }

    /// The oldest version whose commit the log still holds.
    ///
    /// # Errors
    /// [`Error::External`] if the store does not answer.
    pub async fn oldest_version(&self) -> Result<Option<u64>> {
        self.log.oldest().await
    }

    /// Every commit the log still holds, oldest first, with what it published and added. Checkpoints do not hide commits;
    /// cleaning the log after its retention does.
    ///
    /// # Errors
    /// [`Error::External`] if the store does not answer.
    pub async fn commits(&self) -> Result<Vec<Commit>> {
        self.log.commits().await
    }

    pub(super) fn lake(&self) -> &Lake {
        &self.lake
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    async fn open(lake: &Lake, name: &str, declared: Option<&Layout>) -> Result<Option<Self>> {
        let log = Log::open(lake, name, declared).await?;
        Ok(log.map(|log| Self { lake: lake.clone(), name: name.into(), log: Arc::new(log) }))
    }

    async fn create(lake: &Lake, contract: &TableContract, layout: &Layout) -> Result<()> {
        let what = || format!("cannot create table `{}`", contract.name);
        // Without retries: after "version 0 exists" deltalake would commit the same metadata again as version 1.
        let once = CommitProperties::default()
            .with_max_retries(0)
            .with_create_checkpoint(false)
            .with_cleanup_expired_logs(Some(false));
        let order = Some(layout.sort_by()).filter(|order| !order.is_empty());
        CreateBuilder::new()
            .with_log_store(log_store(lake, &contract.name)?)
            .with_save_mode(SaveMode::ErrorIfExists)
            .with_table_name(contract.name.as_ref())
            .with_comment(contract.comment.as_str())
            .with_columns(delta_columns(contract)?)
            .with_partition_columns([layout.partition_name()])
            // The order is a property of our own, which Delta does not know and every reader leaves alone.
            .with_raise_if_key_not_exists(false)
            .with_configuration([(LOG_RETENTION.0, Some(LOG_RETENTION.1.to_owned())), (SORT_BY, order)])
            .with_commit_properties(once)
            .await
            .context(what)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::super::{Publish, testing};
    use super::*;

    /// The actions of one commit, as a foreign reader sees them.
    fn commit(table: &Path, version: u64) -> Vec<Value> {
        let text = std::fs::read_to_string(table.join(format!("_delta_log/{version:020}.json"))).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn append(table: &Path, version: u64, actions: &[Value]) {
        let text: String = actions.iter().map(|action| format!("{action}\n")).collect();
        std::fs::write(table.join(format!("_delta_log/{version:020}.json")), text).unwrap();
    }

    async fn with_epochs(lake: &Lake, epochs: u64) -> Table {
        let table = Table::create_or_open(lake, &testing::contract("payments")).await.unwrap();
        for epoch in 0..epochs {
            let adds = table.stage(vec![testing::rows(10, epoch)], epoch).await.unwrap().adds;
            table.publish("app", epoch, &adds, &[]).await.unwrap();
        }
        table
    }

    #[tokio::test]
    async fn a_new_table_is_plain_delta_with_comments() {
        let (folder, lake) = testing::lake();
        let table = with_epochs(&lake, 1).await;
        assert_eq!((table.name(), table.partition_by()), ("payments", "event_date"));
        let folder = folder.path().join("payments");
        let created = commit(&folder, 0);
        let action = |kind: &str| created.iter().find_map(|action| action.get(kind)).unwrap();
        assert_eq!(*action("protocol"), json!({"minReaderVersion": 1, "minWriterVersion": 2}));
        let metadata = action("metaData");
        assert_eq!(
            metadata["configuration"],
            json!({"delta.logRetentionDuration": "interval 7 days", "lakeward.sortBy": "event_time"})
        );
        assert_eq!(metadata["partitionColumns"], json!(["event_date"]));
        assert_eq!(metadata["description"], "Payments, \"once\".");
        let schema: Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
        assert_eq!(
            schema["fields"][4],
            json!({"name": "amount", "type": "decimal(20,2)", "nullable": false, "metadata": {"comment": "about amount"}})
        );
        assert_eq!(schema["fields"][0]["type"], "timestamp");
        // And an epoch's commit adds files and names the epoch, nothing else.
        let kinds: Vec<_> =
            commit(&folder, 1).iter().map(|a| a.as_object().unwrap().keys().next().unwrap().clone()).collect();
        assert_eq!(kinds, ["commitInfo", "add", "add", "txn"]);
        assert_eq!(commit(&folder, 1)[3]["txn"], json!({"appId": "app", "version": 0}));
    }

    #[tokio::test]
    async fn two_processes_creating_one_table_create_it_once() {
        let (folder, lake) = testing::lake();
        let contract = testing::contract("payments");
        let (a, b) = tokio::join!(Table::create_or_open(&lake, &contract), Table::create_or_open(&lake, &contract));
        assert_eq!((a.unwrap().version().await.unwrap(), b.unwrap().version().await.unwrap()), (0, 0));
        assert_eq!(std::fs::read_dir(folder.path().join("payments/_delta_log")).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn tables_publish_side_by_side() {
        let (_folder, lake) = testing::lake();
        let (a, b) = (testing::contract("a"), testing::contract("b"));
        let (a, b) = (Table::create_or_open(&lake, &a).await.unwrap(), Table::create_or_open(&lake, &b).await.unwrap());
        let run = |table: Table| async move {
            for epoch in 0..5 {
                let adds = table.stage(vec![testing::rows(10, epoch)], epoch).await.unwrap().adds;
                table.publish("app", epoch, &adds, &[]).await.unwrap();
            }
        };
        tokio::join!(run(a.clone()), run(b.clone()));
        assert_eq!(lake.tables().await.unwrap(), ["a", "b"]);
        assert_eq!(testing::read(&lake, &a, None).await.num_rows(), 50);
        assert_eq!(testing::read(&lake, &b, None).await, testing::read(&lake, &a, None).await);
    }

    #[tokio::test]
    async fn a_changed_contract_is_refused_and_the_table_left_alone() {
        let (_folder, lake) = testing::lake();
        with_epochs(&lake, 1).await;
        let mut contract = testing::contract("payments");
        contract.columns.retain(|column| column.name.as_ref() != "note");
        let error = Table::create_or_open(&lake, &contract).await.unwrap_err();
        assert!(matches!(&error, Error::Usage(m) if m.contains("column `note` STRING is only in the lake")), "{error}");
        let mut contract = testing::contract("payments");
        contract.partition_by = "born".into();
        let error = Table::create_or_open(&lake, &contract).await.unwrap_err();
        assert!(matches!(&error, Error::Usage(m) if m.contains("partitioned by `born`")), "{error}");
        assert_eq!(Table::open_existing(&lake, "payments").await.unwrap().unwrap().version().await.unwrap(), 1);
        assert!(Table::open_existing(&lake, "no_such_table").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn tables_on_which_exactly_once_would_not_hold_are_refused() {
        for (change, says) in [
            (json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 4}}), "protocol 1/4"),
            (json!({"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}), "protocol 2/5"),
            (Value::Null, "setTransactionRetentionDuration"),
        ] {
            let (folder, lake) = testing::lake();
            let table = with_epochs(&lake, 1).await;
            let path = folder.path().join("payments");
            let change = if change.is_null() {
                let mut metadata =
                    commit(&path, 0).into_iter().find(|action| action.get("metaData").is_some()).unwrap();
                metadata["metaData"]["configuration"]["delta.setTransactionRetentionDuration"] =
                    json!("interval 1 days");
                metadata
            } else {
                change
            };
            append(&path, 2, &[change]);
            for error in [
                Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap_err(),
                // A process that is already running notices, too.
                table.version().await.unwrap_err(),
            ] {
                assert!(matches!(&error, Error::Usage(m) if m.contains(says)), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn commits_of_others_are_followed_and_deletion_vectors_refused() {
        let (folder, lake) = testing::lake();
        let table = with_epochs(&lake, 2).await;
        let path = folder.path().join("payments");
        let first = commit(&path, 1)[1]["add"]["path"].as_str().unwrap().to_owned();
        append(&path, 3, &[json!({"remove": {"path": first, "deletionTimestamp": 1, "dataChange": true}})]);
        assert_eq!(table.version().await.unwrap(), 3);
        assert_eq!(table.live_files().await.unwrap().len(), 3);
        assert_eq!(testing::read(&lake, &table, None).await.num_rows(), 15);
        // A version before the removal still has the file.
        assert_eq!(testing::read(&lake, &table, Some(2)).await.num_rows(), 20);
        assert_eq!(testing::read(&lake, &table, Some(1)).await.num_rows(), 10);
        let mut add = commit(&path, 2)[1].clone();
        add["add"]["deletionVector"] = json!({
            "storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "offset": 4, "sizeInBytes": 40, "cardinality": 6
        });
        append(&path, 4, &[add]);
        let error = table.version().await.unwrap_err();
        assert!(matches!(&error, Error::Usage(m) if m.contains("deletion vector")), "{error}");
    }

    #[tokio::test]
    async fn every_commit_tells_its_epoch_and_its_files() {
        let (_folder, lake) = testing::lake();
        let table = with_epochs(&lake, 3).await;
        let commits = table.commits().await.unwrap();
        assert_eq!(commits.iter().map(|c| c.version).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(commits[0].adds.len(), 0);
        let live = table.live_files().await.unwrap();
        for commit in &commits[1..] {
            let epoch = commit.version - 1;
            assert_eq!(commit.transactions, [("app".to_owned(), i64::try_from(epoch).unwrap())]);
            for add in &commit.adds {
                let file = live.iter().find(|file| file.path == add.path).unwrap();
                assert_eq!((file.epoch, file.rows), (Some(epoch), Some(5)));
                assert_eq!(i64::try_from(file.bytes).unwrap(), add.size);
            }
        }
        assert_eq!(live.len(), 6);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_sleeper_under_whom_the_log_was_cleaned_does_not_commit_into_the_hole() {
        let (folder, lake) = testing::lake();
        let sleeper = with_epochs(&lake, 1).await;
        assert_eq!(sleeper.version().await.unwrap(), 1);
        let awake = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        for epoch in 1..4 {
            let adds = awake.stage(vec![testing::rows(10, epoch)], epoch).await.unwrap().adds;
            awake.publish("app", epoch, &adds, &[]).await.unwrap();
        }
        assert_eq!(awake.checkpoint().await.unwrap(), 4);
        for version in 0..4 {
            std::fs::remove_file(folder.path().join(format!("payments/_delta_log/{version:020}.json"))).unwrap();
        }
        let adds = sleeper.stage(vec![testing::rows(10, 4)], 4).await.unwrap().adds;
        assert_eq!(sleeper.publish("app", 3, &adds, &[]).await.unwrap(), Publish::AlreadyThere);
        assert_eq!(sleeper.publish("app", 4, &adds, &[]).await.unwrap(), Publish::Committed(5));
        assert_eq!(testing::read(&lake, &awake, None).await.num_rows(), 50);
    }
}
