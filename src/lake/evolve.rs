//! Evolution: a table follows a contract that changed, as far as no row written before changes its meaning.
//!
//! The one law: what is not listed here stops the start with both sides of the difference. Comments and the order of rows
//! in files follow the contract for every table; the stream's and those of queries also take in columns that may be NULL,
//! those of queries drop NOT NULL. A column that went, changed its type or its place among the others, or may no longer be
//! NULL is refused. Data files stay as they are: readers find columns by name and answer NULL for those a file lacks.

use deltalake::kernel::{Metadata, MetadataExt, MetadataValue, StructField, StructType};
use serde::Serialize;
use tracing::info;

use super::difference::{Evolution, PUT_BACK, SELECT_AGAIN, check_last, check_same};
use super::log::Log;
use super::schema::{Layout, SORT_BY, delta_columns};
use super::{Lake, Table};
use crate::contract::{Sink, TableContract};
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

/// How far a table follows a contract that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Following {
    /// Its comments and the order of rows in files: of the tables every lake has.
    Description,
    /// Columns that may be NULL, too, behind those it has: of the stream's table.
    AddedColumns,
    /// And it drops NOT NULL; only where Spectrum reads it, columns come behind those it has: of tables of queries.
    Query,
    /// The same, of those without a contract file: the query alone says their columns.
    QueryAlone,
}

impl Table {
    /// What [`Table::create_or_follow`] would do, without doing it.
    ///
    /// # Errors
    /// [`Error::External`] when the lake does not answer; whatever is wrong with the contract.
    pub async fn schema_change(lake: &Lake, contract: &TableContract, following: Following) -> Result<SchemaChange> {
        let declared = Layout::of_contract(contract)?;
        let Some(log) = Log::open(lake, &contract.name, None).await? else { return Ok(SchemaChange::Created) };
        match allowed(contract, &declared, &log, following) {
            Ok(evolution) => kind(contract, &declared, &log, evolution),
            Err(Error::Usage(refused)) => {
                Ok(SchemaChange::Refused(refused.iter().map(Refusal::head).collect::<Vec<_>>().join("; ")))
            }
            Err(other) => Err(other),
        }
    }

    /// As [`Table::create_or_open`], but a table that differs from its contract in ways it may follow gets all of that in
    /// one commit. Says what this call changed.
    ///
    /// # Errors
    /// As [`Table::create_or_open`], for all other differences.
    pub async fn create_or_follow(
        lake: &Lake,
        contract: &TableContract,
        following: Following,
    ) -> Result<(Self, SchemaChange)> {
        let declared = Layout::of_contract(contract)?;
        if let Some(log) = Log::open(lake, &contract.name, None).await? {
            let evolution = allowed(contract, &declared, &log, following)?;
            match kind(contract, &declared, &log, evolution)? {
                SchemaChange::Unchanged => {}
                change => return follow(lake, contract, &log, change).await,
            }
        }
        Ok((Self::create_or_open(lake, contract).await?, SchemaChange::Unchanged))
    }
}

/// How the table becomes as its contract says, if it may.
fn allowed(contract: &TableContract, declared: &Layout, log: &Log, following: Following) -> Result<Evolution> {
    let help = if following == Following::QueryAlone { SELECT_AGAIN } else { PUT_BACK };
    let differs = || check_same(&contract.name, declared, log.layout(), help);
    let Some(evolution) = Evolution::between(declared, log.layout()) else {
        // Whatever else differs, it is named.
        differs()?;
        return Ok(Evolution::default());
    };
    let only_last = match following {
        Following::Description if !evolution.is_none() => return differs().map(|()| evolution),
        Following::AddedColumns if !evolution.relaxed.is_empty() => return differs().map(|()| evolution),
        Following::Description => false,
        Following::AddedColumns => true,
        Following::Query | Following::QueryAlone => contract.sinks.contains(&Sink::Spectrum),
    };
    if only_last {
        check_last(contract, &evolution)?;
    }
    Ok(evolution)
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
        contract.columns.push(column);
        contract
    }

    /// Before columns the table has; not for Spectrum.
    fn wider_inside() -> TableContract {
        let mut contract = wider(true);
        let added = contract.columns.pop().unwrap();
        contract.columns.insert(5, added);
        (contract.sinks, contract.stream) = (vec![Sink::Delta], None);
        contract
    }

    #[tokio::test]
    async fn added_nullable_columns_are_taken_in_and_older_rows_read_null() {
        for (contract, at, following) in [
            (wider(true), 16, Following::AddedColumns),
            (wider(true), 16, Following::Query),
            (wider_inside(), 5, Following::Query),
        ] {
            taken_in(contract, at, following).await;
        }
    }

    async fn taken_in(contract: TableContract, at: usize, following: Following) {
        let (_folder, lake) = testing::lake();
        let table = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        let adds = table.stage(vec![testing::rows(10, 0)], 0).await.unwrap().adds;
        table.publish("app", 0, &adds, &[]).await.unwrap();
        // Staged before the columns came, published after: as when a start rolls an epoch forward.
        let old = table.stage(vec![testing::rows(10, 1)], 1).await.unwrap().adds;
        let before = testing::read(&lake, &table, None).await;
        let follow = async |following| Table::create_or_follow(&lake, &contract, following).await;
        assert!(follow(Following::Description).await.is_err(), "tables every lake has keep their columns");
        let (table, added) = follow(following).await.unwrap();
        assert_eq!((added, table.version().await.unwrap()), (SchemaChange::Added(vec!["rating".to_owned()]), 2));
        assert_eq!(table.publish("app", 1, &old, &[]).await.unwrap(), Publish::Committed(3));
        let after = testing::read(&lake, &table, None).await;
        assert_eq!((after.num_rows(), after.column(at).null_count()), (20, 20));
        let kept: Vec<usize> = (0..after.num_columns()).filter(|&column| column != at).collect();
        assert_eq!(after.project(&kept).unwrap().slice(0, 10), before);
        // Again: nothing to do; and the published epochs are still known.
        let (again, added) = follow(following).await.unwrap();
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
            for (following, help) in [
                (Following::Description, PUT_BACK),
                (Following::AddedColumns, PUT_BACK),
                (Following::Query, PUT_BACK),
                (Following::QueryAlone, SELECT_AGAIN),
            ] {
                let error = Table::create_or_follow(&lake, &contract, following).await.unwrap_err();
                assert!(
                    matches!(&error, Error::Usage(m) if m.contains("differs from its contract") && m.contains(help)),
                    "{error}"
                );
            }
        }
        // Behind the others is where a stream's column comes, and any that Spectrum reads.
        let inside = TableContract { sinks: Sink::usual(), ..wider_inside() };
        let of_stream = TableContract { stream: wider(true).stream, ..wider_inside() };
        for (contract, following) in [(inside, Following::Query), (of_stream, Following::AddedColumns)] {
            let error = Table::create_or_follow(&lake, &contract, following).await.unwrap_err().to_string();
            for says in ["`rating` is added before `total`", "behind the last column, `_epoch`"] {
                assert!(error.contains(says), "no {says:?} in {error}");
            }
            let why = Table::schema_change(&lake, &contract, following).await.unwrap();
            assert!(matches!(&why, SchemaChange::Refused(why) if why.contains("added before")), "{why:?}");
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
        assert_eq!(Table::schema_change(&lake, &loose, Following::Query).await.unwrap(), relaxed);
        for strict in [Following::Description, Following::AddedColumns] {
            assert!(
                Table::create_or_follow(&lake, &loose, strict).await.is_err(),
                "{strict:?} changes no column it has"
            );
        }
        let (table, change) = Table::create_or_follow(&lake, &loose, Following::Query).await.unwrap();
        assert_eq!((change, table.version().await.unwrap()), (relaxed, 2));
        assert!(table.schema().field_with_name("amount").unwrap().is_nullable());
        assert_eq!(testing::read(&lake, &table, None).await.num_rows(), 10);
        let error = Table::create_or_follow(&lake, &strict, Following::Query).await.unwrap_err();
        assert!(
            error.to_string().contains("column `amount` is declared NOT NULL, but nullable in the lake"),
            "{error}"
        );
        let why = Table::schema_change(&lake, &strict, Following::Query).await.unwrap();
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
        let (table, change) = Table::create_or_follow(&lake, &contract, Following::Description).await.unwrap();
        assert_eq!((change, table.version().await.unwrap()), (SchemaChange::Described, 1));
        let log = std::fs::read_to_string(folder.path().join("payments/_delta_log/00000000000000000001.json")).unwrap();
        for part in ["What was paid.", "in dollars", "about card", "\"lakeward.sortBy\":\"card, event_time\""] {
            assert!(log.contains(part), "no {part} in {log}");
        }
        let (table, change) = Table::create_or_follow(&lake, &contract, Following::Description).await.unwrap();
        assert_eq!((change, table.version().await.unwrap()), (SchemaChange::Unchanged, 1));
        let found = Table::open_existing(&lake, "payments").await.unwrap().unwrap();
        assert_eq!(found.log().layout().sort, [3, 0]);
    }
}
