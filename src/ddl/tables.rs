//! The tables scripts are about: contracts, and what the lake holds of them today.
//!
//! The one law: partitions and files are those of one version of the table's log; without a lake there are none.

use std::collections::BTreeMap;

use crate::contract::{Column, TableContract};
use crate::error::Result;
use crate::lake::{Lake, Table};

/// A table as its contract declares it and as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct TableOfLake {
    pub contract: TableContract,
    /// The version of its log that `partitions` are of; `None` for a table that is not there yet.
    pub version: Option<u64>,
    /// In order of their dates.
    pub partitions: Vec<Partition>,
}

/// One date of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// `2026-11-23`.
    pub date: String,
    /// Live files, relative to the table's folder.
    pub files: Vec<String>,
}

impl TableOfLake {
    /// The columns that are in the data files: all but the partition column.
    pub(super) fn file_columns(&self) -> impl Iterator<Item = &Column> {
        self.contract.columns.iter().filter(|column| column.name != self.contract.partition_by)
    }

    /// The folder of a partition, relative to the table's.
    pub(super) fn folder(&self, partition: &Partition) -> String {
        format!("{}={}", self.contract.partition_by, partition.date)
    }

    /// What its contract says it is, for a comment above it.
    pub(super) fn headline(&self) -> String {
        match self.contract.comment.is_empty() {
            true => self.contract.name.to_string(),
            false => format!("{}: {}", self.contract.name, self.contract.comment),
        }
    }
}

/// Those that can be read today: the ones that are there, or all of them where there is no lake to ask.
pub(super) fn readable(tables: &[TableOfLake]) -> impl Iterator<Item = (&TableOfLake, bool)> {
    let is_known = tables.iter().any(|table| table.version.is_some());
    tables.iter().map(move |table| (table, !is_known || table.version.is_some()))
}

/// These tables as the lake has them at their newest versions.
///
/// # Errors
/// [`crate::Error::External`] when the lake does not answer; [`crate::Error::Usage`] for a table that cannot be read.
pub async fn tables_of(
    lake: Option<&Lake>,
    contracts: impl IntoIterator<Item = &TableContract>,
) -> Result<Vec<TableOfLake>> {
    let mut tables = Vec::new();
    for contract in contracts {
        let found = match lake {
            Some(lake) => Table::open_existing(lake, &contract.name).await?,
            None => None,
        };
        let (version, partitions) = match found {
            Some(table) => {
                let version = table.version().await?;
                let mut dates: BTreeMap<String, Vec<String>> = BTreeMap::new();
                for file in table.live_files_at(version).await? {
                    dates.entry(file.date()?).or_default().push(file.path.clone());
                }
                (Some(version), dates.into_iter().map(|(date, files)| Partition { date, files }).collect())
            }
            None => (None, Vec::new()),
        };
        tables.push(TableOfLake { contract: contract.clone(), version, partitions });
    }
    Ok(tables)
}
