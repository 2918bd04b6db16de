//! How far what readers are given is behind the tables: manifests, catalog, plain export; for `lakeward lake status`.
//!
//! The one law: asking changes nothing, and whoever does not answer is a line of the report, not its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use super::output::thousands;
use crate::catalog::{self, Catalog};
use crate::config::Config;
use crate::contract::{Sink, TableContract};
use crate::error::{Error, Result};
use crate::lake::{Lake, Table};
use crate::manifest;
use crate::plain::{self, Place, is_exported};
use crate::plans::Plans;

/// How long the catalog may take for one table: somebody is waiting, and a page of partitions takes a second.
const CATALOG_MAX: Duration = Duration::from_secs(5);

/// Where one of them stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing<L> {
    /// It is not configured, or not for this table.
    Off,
    /// Why nobody knows.
    Unknown(String),
    Lag(L),
}

/// How far a table's manifests are behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Manifests {
    #[serde(flatten)]
    lag: manifest::Lag,
    /// Dates whose manifest names other files than the table has, or is not there yet.
    behind: usize,
}

/// Of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Readers {
    pub manifests: Standing<Manifests>,
    pub catalog: Standing<catalog::Lag>,
    pub plain: Standing<plain::Lag>,
}

/// Asks for one table after the other.
#[derive(Debug)]
pub(super) struct Asking {
    /// Or why they are not known.
    contracts: std::result::Result<BTreeMap<Arc<str>, TableContract>, String>,
    catalog: std::result::Result<Option<Catalog>, String>,
    place: std::result::Result<Option<Place>, String>,
    config: Config,
}

impl Asking {
    /// What is configured, as far as it can be read.
    pub(super) async fn new(config: &Config, lake: &Lake) -> Self {
        let contracts = Plans::read(config).await.map(|plans| plans.tables());
        Self {
            contracts: contracts.map_err(|error| format!("contracts and queries cannot be read: {}", brief(&error))),
            catalog: Catalog::of(&config.catalog, lake).await.map_err(|error| brief(&error)),
            place: Place::existing(&config.plain, &config.s3, lake).map_err(|error| brief(&error)),
            config: config.clone(),
        }
    }

    /// Where the readers of a table stand.
    pub(super) async fn about(&mut self, table: &Table) -> Readers {
        let contract = match &self.contracts {
            Ok(contracts) => contracts.get(table.name()).cloned(),
            Err(why) => {
                let why = why.clone();
                return Readers {
                    manifests: Standing::Unknown(why.clone()),
                    catalog: if self.config.catalog.glue { Standing::Unknown(why.clone()) } else { Standing::Off },
                    plain: if self.config.plain.url.is_empty() { Standing::Off } else { Standing::Unknown(why) },
                };
            }
        };
        // Nobody keeps the table of a query that is gone.
        let Some(contract) = contract else {
            return Readers { manifests: Standing::Off, catalog: Standing::Off, plain: Standing::Off };
        };
        Readers {
            manifests: of(manifests(table, &contract).await),
            catalog: self.catalog(table, &contract).await,
            plain: self.plain(table, &contract).await,
        }
    }

    async fn catalog(&mut self, table: &Table, contract: &TableContract) -> Standing<catalog::Lag> {
        let asked = match &self.catalog {
            Ok(None) => return Standing::Off,
            Err(why) => return Standing::Unknown(why.clone()),
            Ok(Some(catalog)) => timeout(CATALOG_MAX, registered(catalog, table, contract)).await,
        };
        let why = match asked {
            Ok(Ok(lag)) => return Standing::Lag(lag),
            Ok(Err(error)) => brief(&error),
            Err(_) => format!("the catalog has not answered for {} s", CATALOG_MAX.as_secs()),
        };
        // One silence is enough: it is not asked about the other tables.
        self.catalog = Err(why.clone());
        Standing::Unknown(why)
    }

    async fn plain(&self, table: &Table, contract: &TableContract) -> Standing<plain::Lag> {
        if !is_exported(&self.config.plain, contract) {
            return Standing::Off;
        }
        match &self.place {
            Ok(Some(place)) => of(plain::lag(table, place).await.map(Some)),
            Ok(None) => Standing::Lag(plain::Lag { version: table.version_seen().await, ..plain::Lag::default() }),
            Err(why) => Standing::Unknown(why.clone()),
        }
    }
}

async fn manifests(table: &Table, contract: &TableContract) -> Result<Option<Manifests>> {
    if !contract.sinks.contains(&Sink::Spectrum) {
        return Ok(None);
    }
    Ok(Some(Manifests { lag: manifest::lag(table).await?, behind: manifest::behind(table).await? }))
}

async fn registered(catalog: &Catalog, table: &Table, contract: &TableContract) -> Result<catalog::Lag> {
    let dates = table.live_files().await?.iter().map(|file| file.date()).collect::<Result<BTreeSet<String>>>()?;
    catalog.lag(contract, &dates).await
}

fn of<L>(found: Result<Option<L>>) -> Standing<L> {
    match found {
        Ok(Some(lag)) => Standing::Lag(lag),
        Ok(None) => Standing::Off,
        Err(error) => Standing::Unknown(brief(&error)),
    }
}

/// The first line of an error.
fn brief(error: &Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// The lines that follow the tables: of each table, and why what is not known is not.
pub(super) fn shown<'a>(all: impl Iterator<Item = (&'a str, &'a Readers)> + Clone) -> Vec<String> {
    let width = all.clone().map(|(table, _)| table.len()).max().unwrap_or(0).max("table".len());
    let mut lines = vec![format!("{:<width$}  {:<32}  {:<40}  export", "table", "manifests", "catalog")];
    let mut unknown = BTreeSet::new();
    for (table, readers) in all {
        let manifests = told(&readers.manifests, "manifests", &mut unknown, |lag| {
            since(lag.lag.version, lag.lag.manifests_at, lag.behind as u64)
        });
        let catalog = told(&readers.catalog, "catalog", &mut unknown, |lag| {
            if *lag == catalog::Lag::default() {
                return "up to date".to_owned();
            }
            let [tables, missing, emptied] = [lag.tables, lag.unregistered, lag.emptied].map(thousands);
            format!("{tables} tables, {missing} dates to make, {emptied} to drop")
        });
        let plain = told(&readers.plain, "export", &mut unknown, |lag| match (lag.exported_at, lag.behind) {
            (Some(_), 0) => format!("up to date, {} dates", thousands(lag.dates)),
            (at, behind) => since(lag.version, at, behind),
        });
        lines.push(format!("{table:<width$}  {manifests:<32}  {catalog:<40}  {plain}"));
    }
    lines.extend(unknown);
    lines
}

fn told<L>(
    standing: &Standing<L>,
    noun: &str,
    unknown: &mut BTreeSet<String>,
    lag: impl FnOnce(&L) -> String,
) -> String {
    match standing {
        Standing::Off => "off".to_owned(),
        Standing::Unknown(why) => {
            unknown.insert(format!("{noun} ?: {why}"));
            "?".to_owned()
        }
        Standing::Lag(found) => lag(found),
    }
}

fn since(version: u64, at: Option<u64>, behind: u64) -> String {
    match at {
        None => "none yet".to_owned(),
        Some(at) if at >= version && behind == 0 => "up to date".to_owned(),
        Some(at) => {
            format!("{} versions, {} dates behind", thousands(version.saturating_sub(at)), thousands(behind))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readers(manifests: Standing<Manifests>, catalog: Standing<catalog::Lag>) -> Readers {
        let plain = plain::Lag { version: 9, exported_at: Some(2), dates: 3, behind: 0 };
        Readers { manifests, catalog, plain: Standing::Lag(plain) }
    }

    fn at(manifests_at: Option<u64>, behind: usize) -> Standing<Manifests> {
        Standing::Lag(Manifests { lag: manifest::Lag { version: 9, manifests_at, emptied: 0 }, behind })
    }

    #[test]
    fn lags_are_told_and_why_one_is_not_known_once() {
        let dead = || Standing::Unknown("no answer".to_owned());
        let lag = catalog::Lag { tables: 1, unregistered: 2, emptied: 0 };
        let all = [
            ("a", readers(at(Some(7), 2), dead())),
            ("b", readers(at(Some(9), 0), dead())),
            ("c", readers(at(None, 1), Standing::Lag(lag))),
            ("d", readers(Standing::Off, Standing::Off)),
        ];
        let lines = shown(all.iter().map(|(table, readers)| (*table, readers)));
        assert_eq!(lines.len(), 6, "{lines:?}");
        for (line, says) in lines.iter().zip([
            "manifests",
            "2 versions, 2 dates behind",
            "up to date  ",
            "none yet",
            "off",
            "catalog ?: no answer",
        ]) {
            assert!(line.contains(says), "{line}: {says}");
        }
        assert!(lines[3].contains("1 tables, 2 dates to make, 0 to drop") && lines[1].ends_with("up to date, 3 dates"));
        let json = serde_json::to_value(&all[0].1).unwrap();
        assert_eq!(json["catalog"], serde_json::json!({"unknown": "no answer"}));
        assert_eq!(json["manifests"]["lag"]["manifests_at"], 7);
        assert_eq!(serde_json::to_value(&all[3].1).unwrap()["catalog"], "off");
    }
}
