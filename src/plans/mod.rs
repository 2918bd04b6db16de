//! Contracts and standing queries, as the files say, and what a start would change.
//!
//! The one law: whoever runs, proves or explains the queries plans them here, from the same files in the same order.
//! Nothing here writes to a lake.

mod changes;
mod diff;
mod missed;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::config::Config;
use crate::contract::{TableContract, read_folder};
use crate::error::{Error, Refusals, Result};
use crate::lake::Following;
use crate::sql::{Catalog, QueryFile, StandingQuery, plan_all, read_queries, with_parents};

pub use changes::{Change, ChangeKind, changes};
pub use diff::{Diff, QueryDiff, TableDiff, diff};
pub use missed::missed;

/// The tables every lake has besides its stream's.
const REJECTS: &str = "rejects";
const EPOCHS: &str = "epochs";

/// Contracts and standing queries.
#[derive(Debug)]
pub struct Plans {
    pub contracts: BTreeMap<Arc<str>, TableContract>,
    pub stream: Arc<TableContract>,
    pub rejects: Arc<TableContract>,
    pub epochs: Arc<TableContract>,
    /// Each after the views it reads.
    pub queries: Vec<StandingQuery>,
}

impl Plans {
    /// Reads the contracts and plans every standing query.
    ///
    /// # Errors
    /// [`Error::Usage`] with all that is wrong in all files, each naming file, line and column.
    pub async fn read(config: &Config) -> Result<Self> {
        let contracts = read_folder(&config.lake.contracts)?;
        let table = |name: &str| table_contract(&contracts, config, name);
        let (stream, rejects, epochs) = (stream(&contracts, config)?, table(REJECTS)?, table(EPOCHS)?);
        let catalog = Catalog::new(Arc::clone(&stream), contracts.clone())?;
        let mut refused = Refusals::default();
        let files = read_queries(&config.queries.dir, &mut refused)?;
        let queries = plan_all(&files, catalog, &mut refused).await?;
        refused.or(()).map_err(Error::Usage)?;
        Ok(Self { stream, rejects, epochs, contracts, queries })
    }
}

impl Plans {
    /// Every table of the lake: those with a contract file and those that queries declare, by name.
    pub fn tables(&self) -> BTreeMap<Arc<str>, TableContract> {
        let derived = self.queries.iter().map(|query| (Arc::clone(query.name()), query.output().clone()));
        let mut tables: BTreeMap<_, _> = derived.collect();
        tables.extend(self.contracts.iter().map(|(name, contract)| (Arc::clone(name), contract.clone())));
        tables
    }

    /// How the table of a standing query follows it.
    pub fn following(&self, query: &str) -> Following {
        if self.contracts.contains_key(query) { Following::Query } else { Following::QueryAlone }
    }

    /// The tables of standing queries that have no contract file.
    pub fn undeclared(&self) -> impl Iterator<Item = &TableContract> {
        self.queries.iter().map(StandingQuery::output).filter(|table| !self.contracts.contains_key(&table.name))
    }
}

/// Plans the standing query of one file, which may read views of the configured folder.
///
/// # Errors
/// [`Error::Usage`] naming file, line and column; also for a file that holds a batch job.
pub async fn plan_file(config: &Config, path: &Path) -> Result<StandingQuery> {
    let contracts = read_folder(&config.lake.contracts)?;
    let file = QueryFile::read(path)?;
    if !file.is_standing() {
        return Err(Error::usage(format!(
            "{} is a batch job: `--from` and `--to` select the windows of a standing query",
            path.display()
        )));
    }
    let name = Arc::clone(&file.name);
    // A copy under way of a view of the folder stands for that view.
    let mut files = read_queries(&config.queries.dir, &mut Refusals::default())?;
    files.retain(|other| other.name != name);
    files.push(file);
    let wanted: Vec<QueryFile> = with_parents(&files, &name).into_iter().cloned().collect();
    let catalog = Catalog::new(stream(&contracts, config)?, contracts)?;
    let mut refused = Refusals::default();
    let mut planned = plan_all(&wanted, catalog, &mut refused).await?;
    refused.or(()).map_err(Error::Usage)?;
    let position = planned.iter().position(|query| *query.name() == name);
    position.map(|at| planned.swap_remove(at)).ok_or_else(|| Error::broken(format!("`{name}` was not planned")))
}

fn stream(contracts: &BTreeMap<Arc<str>, TableContract>, config: &Config) -> Result<Arc<TableContract>> {
    let stream = table_contract(contracts, config, &config.stream.table)?;
    if stream.stream.is_none() {
        return Err(Error::usage(format!(
            "`{}/{}.sql` declares no stream: give it `format`, `event_time`, `identity` and `partition_key`",
            config.lake.contracts.display(),
            stream.name
        )));
    }
    Ok(stream)
}

fn table_contract(
    contracts: &BTreeMap<Arc<str>, TableContract>,
    config: &Config,
    name: &str,
) -> Result<Arc<TableContract>> {
    contracts.get(name).cloned().map(Arc::new).ok_or_else(|| {
        Error::usage(format!("no contract `{name}.sql` in `{}` (`lake.contracts`)", config.lake.contracts.display()))
    })
}
