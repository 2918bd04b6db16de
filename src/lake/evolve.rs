//! Evolution: a table follows a contract that changed, as far as no row written before changes its meaning.
//!
//! The one law: what is not listed here stops the start with both sides of the difference. Comments and the order of rows
//! in files follow the contract for every table; a query's table also takes in columns that may be NULL, and drops NOT
//! NULL. A column that went, changed its type or its place among the others, or may no longer be NULL is refused. Data
//! files stay as they are: readers find columns by name and answer NULL for those a file lacks.

use deltalake::kernel::{Metadata, MetadataExt, MetadataValue, StructField, StructType};
use serde::Serialize;
use tracing::info;

use super::difference::{Evolution, check_same};
use super::log::Log;
use super::schema::{Layout, SORT_BY, delta_columns};
use super::{Lake, Table};
use crate::contract::TableContract;
use crate::error::{Context, Error, Refusal, Result};

/// The key of a column's comment in its metadata.
const COMMENT: &str = "comment";

/// What a start does to a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaChange {
    /// There is no such table yet.
    Created,
    Unchanged,
    /// It takes in these columns; older rows have NULL there.
    Added(Vec<String>),
    /// These columns may be NULL from now on.
    Relaxed(Vec<String>),
    /// Its comments, or the order of rows in new files, become the contract's.
    Described,
    /// It differs in another way, and the start stops; why.
    Refused(String),
}

impl SchemaChange {
    /// What a start says of it; nothing of a table that stays, begins or is refused.
    pub fn sentence(&self, table: &str) -> Option<String> {
        match self {
            Self::Added(columns) => {
                Some(format!("the table `{table}` got the columns `{}`: NULL in older rows", columns.join("`, `")))
            }
            Self::Relaxed(columns) => {
                Some(format!("the table `{table}`: `{}` may be NULL from now on", columns.join("`, `")))
            }
            Self::Described => Some(format!("the table `{table}` got the comments and the order of its contract")),
            Self::Created | Self::Unchanged | Self::Refused(_) => None,
        }
    }
}

impl Table {
    /// What [`Table::create_or_evolve`] would do, without doing it.
    ///
    /// # Errors
    /// [`Error::External`] when the lake does not answer; whatever is wrong with the contract.
    pub async fn schema_change(lake: &Lake, contract: &TableContract) -> Result<SchemaChange> {
        let declared = Layout::of_contract(contract)?;
        let Some(log) = Log::open(lake, &contract.name, None).await? else { return Ok(SchemaChange::Created) };
        match Evolution::between(&declared, log.layout()) {
            Some(evolution) => kind(contract, &declared, &log, evolution),
            None => refused(contract, &declared, &log),
        }
    }

    /// What [`Table::create_or_describe`] would do, without doing it.
    ///
    /// # Errors
    /// As [`Table::schema_change`].
    pub async fn description_change(lake: &Lake, contract: &TableContract) -> Result<SchemaChange> {
        let declared = Layout::of_contract(contract)?;
        let Some(log) = Log::open(lake, &contract.name, None).await? else { return Ok(SchemaChange::Created) };
        match Evolution::between(&declared, log.layout()) {
            Some(evolution) if evolution.is_none() => kind(contract, &declared, &log, evolution),
            _ => refused(contract, &declared, &log),
        }
    }

    /// As [`Table::create_or_open`], but a table whose comments or order differ from the contract's gets the contract's, in
    /// one commit. Says whether this call changed it.
    ///
    /// # Errors
    /// As [`Table::create_or_open`].
    pub async fn create_or_describe(lake: &Lake, contract: &TableContract) -> Result<(Self, SchemaChange)> {
        let table = Self::create_or_open(lake, contract).await?;
        let declared = table.log().layout();
        match kind(contract, declared, table.log(), Evolution::default())? {
            SchemaChange::Unchanged => Ok((table, SchemaChange::Unchanged)),
            change => follow(lake, contract, table.log(), change).await,
        }
    }

    /// As [`Table::create_or_describe`], and a table that lacks nullable columns of the contract, or has NOT NULL where the
    /// contract has not, gets that in the same commit.
    ///
    /// # Errors
    /// As [`Table::create_or_open`], for all other differences.
    pub async fn create_or_evolve(lake: &Lake, contract: &TableContract) -> Result<(Self, SchemaChange)> {
        let declared = Layout::of_contract(contract)?;
        if let Some(log) = Log::open(lake, &contract.name, None).await?
            && let Some(evolution) = Evolution::between(&declared, log.layout())
        {
            match kind(contract, &declared, &log, evolution)? {
                SchemaChange::Unchanged => {}
                change => return follow(lake, contract, &log, change).await,
            }
        }
        Ok((Self::create_or_open(lake, contract).await?, SchemaChange::Unchanged))
    }
}

/// Why a start stops.
fn refused(contract: &TableContract, declared: &Layout, log: &Log) -> Result<SchemaChange> {
    match check_same(&contract.name, declared, log.layout()) {
        Ok(()) => Ok(SchemaChange::Unchanged),
        Err(Error::Usage(refused)) => {
            Ok(SchemaChange::Refused(refused.iter().map(Refusal::head).collect::<Vec<_>>().join("; ")))
        }
        Err(other) => Err(other),
    }
}

/// What a table does that follows its contract in this way.
fn kind(contract: &TableContract, declared: &Layout, log: &Log, evolution: Evolution) -> Result<SchemaChange> {
    Ok(match evolution {
        Evolution { added, .. } if !added.is_empty() => SchemaChange::Added(added),
        Evolution { relaxed, .. } if !relaxed.is_empty() => SchemaChange::Relaxed(relaxed),
        _ => {
            let (_, metadata) = log.opened();
            match described(contract, declared, metadata)? == *metadata {
                true => SchemaChange::Unchanged,
                false => SchemaChange::Described,
            }
        }
    })
}

async fn follow(
    lake: &Lake,
    contract: &TableContract,
    log: &Log,
    change: SchemaChange,
) -> Result<(Table, SchemaChange)> {
    let (version, metadata) = log.opened();
    let declared = Layout::of_contract(contract)?;
    let wanted = described(contract, &declared, metadata)?;
    let added = match &change {
        SchemaChange::Added(added) => {
            columns(contract, metadata)?.into_iter().filter(|c| added.contains(c.name())).collect()
        }
        _ => Vec::new(),
    };
    let answer = log.replace_metadata(*version, wanted, added).await;
    // Whatever the answer, it may have been lost: the table itself tells.
    match (Table::create_or_open(lake, contract).await, answer) {
        (Ok(table), _) => {
            info!(table = table.name(), change = change.sentence(table.name()), "follows its contract");
            Ok((table, change))
        }
        (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
    }
}

/// The metadata of a table that is as its contract says; what the contract leaves empty stays.
fn described(contract: &TableContract, declared: &Layout, found: &Metadata) -> Result<Metadata> {
    let what = || format!("cannot change what the log says of table `{}`", contract.name);
    let mut metadata = found.clone();
    let schema = StructType::try_new(columns(contract, found)?).context(what)?;
    if schema != found.parse_schema().context(what)? {
        metadata = metadata.with_schema(&schema).context(what)?;
    }
    if !contract.comment.is_empty() && found.description() != Some(contract.comment.as_str()) {
        metadata = metadata.with_description(contract.comment.clone()).context(what)?;
    }
    let order = declared.sort_by();
    if found.configuration().get(SORT_BY).map_or("", String::as_str) != order {
        metadata = match order.is_empty() {
            true => metadata.remove_config_key(SORT_BY),
            false => metadata.add_config_key(SORT_BY.to_owned(), order),
        }
        .context(what)?;
    }
    Ok(metadata)
}

/// The contract's columns, those without a comment with the one they had.
fn columns(contract: &TableContract, found: &Metadata) -> Result<Vec<StructField>> {
    let before = found.parse_schema().context(|| format!("reading the columns of table `{}`", contract.name))?;
    let comment = |name: &str| before.field(name).and_then(|field| field.metadata().get(COMMENT).cloned());
    let columns = delta_columns(contract)?.into_iter().map(|column| {
        let kept: Option<MetadataValue> = match column.metadata().contains_key(COMMENT) {
            true => None,
            false => comment(column.name()),
        };
        match kept {
            Some(comment) => column.with_metadata([(COMMENT, comment)]),
            None => column,
        }
    });
    Ok(columns.collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use arrow::datatypes::DataType;

    use super::super::{Publish, testing};
    use super::*;
    use crate::contract::{Column, Origin};

    fn wider(nullable: bool) -> TableContract {
        let mut contract = testing::contract("payments");
        let column = Column {
            name: "rating".into(),
            data_type: DataType::Int64,
            nullable,
            comment: "added later".to_owned(),
            origin: Origin::Engine,
            check: None,
        };
        contract.columns.insert(5, column);
        contract
    }

    #[tokio::test]
    async fn added_nullable_columns_are_taken_in_and_older_rows_read_null() {
        let (_folder, lake) = testing::lake();
        let table = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        let adds = table.stage(vec![testing::rows(10, 0)], 0).await.unwrap().adds;
        table.publish("app", 0, &adds, &[]).await.unwrap();
        // Staged before the columns came, published after: as when a start rolls an epoch forward.
        let old = table.stage(vec![testing::rows(10, 1)], 1).await.unwrap().adds;
        let before = testing::read(&lake, &table, None).await;
        let (table, added) = Table::create_or_evolve(&lake, &wider(true)).await.unwrap();
        assert_eq!((added, table.version().await.unwrap()), (SchemaChange::Added(vec!["rating".to_owned()]), 2));
        assert_eq!(table.publish("app", 1, &old, &[]).await.unwrap(), Publish::Committed(3));
        let after = testing::read(&lake, &table, None).await;
        assert_eq!((after.num_rows(), after.column(5).null_count()), (20, 20));
        let kept: Vec<usize> = (0..after.num_columns()).filter(|&column| column != 5).collect();
        assert_eq!(after.project(&kept).unwrap().slice(0, 10), before);
        // Again: nothing to do; and the published epochs are still known.
        let (again, added) = Table::create_or_evolve(&lake, &wider(true)).await.unwrap();
        assert_eq!((added, again.version().await.unwrap()), (SchemaChange::Unchanged, 3));
        assert_eq!(again.txn_version("app").await.unwrap(), Some(1));
    }

    #[tokio::test]
    async fn everything_else_is_refused_and_changes_nothing() {
        let (_folder, lake) = testing::lake();
        Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        let mut fewer = wider(true);
        fewer.columns.retain(|column| column.name.as_ref() != "note");
        let mut other = wider(true);
        other.columns.iter_mut().find(|c| c.name.as_ref() == "items").unwrap().data_type = DataType::Int64;
        let mut swapped = wider(true);
        swapped.columns.swap(7, 8);
        for contract in [wider(false), fewer, other, swapped] {
            let error = Table::create_or_evolve(&lake, &contract).await.unwrap_err();
            assert!(matches!(&error, Error::Usage(m) if m.contains("differs from its contract")), "{error}");
        }
        assert_eq!(Table::open_existing(&lake, "payments").await.unwrap().unwrap().version().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn not_null_is_dropped_for_a_query_and_never_set_again() {
        let (_folder, lake) = testing::lake();
        let strict = testing::contract("payments");
        let table = Table::create_or_open(&lake, &strict).await.unwrap();
        let adds = table.stage(vec![testing::rows(10, 0)], 0).await.unwrap().adds;
        table.publish("app", 0, &adds, &[]).await.unwrap();
        let mut loose = strict.clone();
        loose.columns.iter_mut().find(|c| c.name.as_ref() == "amount").unwrap().nullable = true;
        let relaxed = SchemaChange::Relaxed(vec!["amount".to_owned()]);
        assert_eq!(Table::schema_change(&lake, &loose).await.unwrap(), relaxed);
        assert!(
            Table::create_or_describe(&lake, &loose).await.is_err(),
            "the stream's table never changes its columns"
        );
        let (table, change) = Table::create_or_evolve(&lake, &loose).await.unwrap();
        assert_eq!((change, table.version().await.unwrap()), (relaxed, 2));
        assert!(table.schema().field_with_name("amount").unwrap().is_nullable());
        assert_eq!(testing::read(&lake, &table, None).await.num_rows(), 10);
        let error = Table::create_or_evolve(&lake, &strict).await.unwrap_err();
        assert!(
            error.to_string().contains("column `amount` is declared NOT NULL, but nullable in the lake"),
            "{error}"
        );
        let why = Table::schema_change(&lake, &strict).await.unwrap();
        assert!(matches!(&why, SchemaChange::Refused(why) if !why.contains('\n')), "{why:?}");
    }

    #[tokio::test]
    async fn comments_and_order_follow_the_contract_once() {
        let (folder, lake) = testing::lake();
        let mut contract = testing::contract("payments");
        Table::create_or_open(&lake, &contract).await.unwrap();
        contract.comment = "What was paid.".to_owned();
        contract.columns[4].comment = "in dollars".to_owned();
        // Nothing to say is no reason to forget what was said.
        contract.columns[3].comment = String::new();
        contract.sort_by = vec!["card".into(), "event_time".into()];
        let (table, change) = Table::create_or_describe(&lake, &contract).await.unwrap();
        assert_eq!((change, table.version().await.unwrap()), (SchemaChange::Described, 1));
        let log = std::fs::read_to_string(folder.path().join("payments/_delta_log/00000000000000000001.json")).unwrap();
        for part in ["What was paid.", "in dollars", "about card", "\"lakeward.sortBy\":\"card, event_time\""] {
            assert!(log.contains(part), "no {part} in {log}");
        }
        let (table, change) = Table::create_or_describe(&lake, &contract).await.unwrap();
        assert_eq!((change, table.version().await.unwrap()), (SchemaChange::Unchanged, 1));
        let found = Table::open_existing(&lake, "payments").await.unwrap().unwrap();
        assert_eq!(found.log().layout().sort, [3, 0]);
    }
}
