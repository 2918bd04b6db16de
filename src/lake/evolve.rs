//! Evolution: an output table takes in columns that its contract has and it has not, if rows without them may be NULL.
//!
//! The one law: no row written before changes its meaning. Only nullable columns are added; a column that went, changed
//! its type, its nullability or its place among the others is refused as everywhere, with every difference named. Data
//! files stay as they are: readers find columns by name and answer NULL for those a file lacks.

use deltalake::kernel::{MetadataExt, StructField, StructType};
use serde::Serialize;
use tracing::info;

use super::log::Log;
use super::schema::{Layout, added_columns, check_same, delta_columns};
use super::{Lake, Table};
use crate::contract::TableContract;
use crate::error::{Context, Result};

/// What a start would do to the columns of a query's table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaChange {
    /// There is no such table yet.
    Created,
    Unchanged,
    /// It takes in these columns; older rows have NULL there.
    Added(Vec<String>),
    /// It differs in another way, and the start stops; why.
    Refused(String),
}

impl Table {
    /// What [`Table::create_or_evolve`] would do, without doing it.
    ///
    /// # Errors
    /// [`Error::External`](crate::Error::External) when the lake does not answer; whatever is wrong with the contract.
    pub async fn schema_change(lake: &Lake, contract: &TableContract) -> Result<SchemaChange> {
        let declared = Layout::of_contract(contract)?;
        let Some(log) = Log::open(lake, &contract.name, None).await? else { return Ok(SchemaChange::Created) };
        let added = added_columns(&declared, log.layout());
        if !added.is_empty() {
            return Ok(SchemaChange::Added(added));
        }
        Ok(match check_same(&contract.name, &declared, log.layout()) {
            Ok(()) => SchemaChange::Unchanged,
            Err(error) => SchemaChange::Refused(error.to_string()),
        })
    }

    /// As [`Table::create_or_open`], but a table that lacks only nullable columns of the contract gets them first, in one
    /// commit. Returns the names of the columns added by this call.
    ///
    /// # Errors
    /// As [`Table::create_or_open`], for all other differences.
    pub async fn create_or_evolve(lake: &Lake, contract: &TableContract) -> Result<(Self, Vec<String>)> {
        let declared = Layout::of_contract(contract)?;
        let added = match Log::open(lake, &contract.name, None).await? {
            Some(log) => added_columns(&declared, log.layout()),
            None => Vec::new(),
        };
        if !added.is_empty() {
            let answer = evolve(lake, contract, &added).await;
            // Whatever the answer, it may have been lost: the table itself tells.
            match (Self::create_or_open(lake, contract).await, answer) {
                (Ok(table), _) => {
                    info!(table = table.name(), columns = added.join(", "), "added");
                    return Ok((table, added));
                }
                (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(error),
            }
        }
        Ok((Self::create_or_open(lake, contract).await?, added))
    }
}

async fn evolve(lake: &Lake, contract: &TableContract, added: &[String]) -> Result<()> {
    let what = || format!("cannot add columns to table `{}`", contract.name);
    let Some(log) = Log::open(lake, &contract.name, None).await? else { return Ok(()) };
    let columns = delta_columns(contract)?;
    let new: Vec<StructField> = columns.iter().filter(|column| added.contains(column.name())).cloned().collect();
    let found = log.load(None).await?;
    let metadata = found.metadata().clone().with_schema(&StructType::try_new(columns).context(what)?).context(what)?;
    log.replace_metadata(found.version(), metadata, new).await
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use arrow::datatypes::DataType;

    use super::super::{Publish, testing};
    use super::*;
    use crate::contract::{Column, Origin};
    use crate::error::Error;

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
        assert_eq!((added, table.version().await.unwrap()), (vec!["rating".to_owned()], 2));
        assert_eq!(table.publish("app", 1, &old, &[]).await.unwrap(), Publish::Committed(3));
        let after = testing::read(&lake, &table, None).await;
        assert_eq!((after.num_rows(), after.column(5).null_count()), (20, 20));
        let kept: Vec<usize> = (0..after.num_columns()).filter(|&column| column != 5).collect();
        assert_eq!(after.project(&kept).unwrap().slice(0, 10), before);
        // Again: nothing to do; and the published epochs are still known.
        let (again, added) = Table::create_or_evolve(&lake, &wider(true)).await.unwrap();
        assert_eq!((added.len(), again.version().await.unwrap()), (0, 3));
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
}
