//! The Glue catalog, kept as the lake is: for every table `<t>`, native Delta, and, for contracts with the sink
//! `spectrum`, `<t>_spectrum` over the manifests, with every partition that has one.
//!
//! The one law: the catalog follows. A partition is registered after its manifest was written and dropped before the
//! manifest goes, and nothing of the stream waits for a call. Each call may be repeated: what exists already, or is gone
//! already, is what was wanted.
//!
//! What others have added to a table's parameters stays; an update is sent only where something of ours differs. After the
//! first look at a table this process sends nothing until its partitions change. The inputs are those of
//! [`crate::ddl::glue`], so that `lake ddl glue` shows what is sent here.

mod client;
mod partitions;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_sdk_glue::Client;
use aws_sdk_glue::error::ProvideErrorMetadata;
use serde::Serialize;
use tokio::sync::Mutex;

pub use client::check;

use crate::config;
use crate::contract::TableContract;
use crate::ddl::{Site, glue};
use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::permission::Permission;

/// A database of Glue's catalog.
#[derive(Debug)]
pub struct Catalog {
    client: Client,
    site: Site,
    /// What this process knows to be registered; a table is forgotten when a call about it fails.
    known: Mutex<BTreeMap<Arc<str>, BTreeSet<String>>>,
}

/// What was sent about one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Synced {
    /// Tables made or changed: the native one and `_spectrum`.
    pub tables: u64,
    /// Partitions registered, or registered anew with other columns or another place.
    pub registered: u64,
    pub dropped: u64,
}

/// How far the catalog is behind a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// Tables that are missing or say something else.
    pub tables: u64,
    /// Partitions that are missing or say something else.
    pub unregistered: u64,
    /// Partitions registered that have no files any more.
    pub emptied: u64,
}

impl Catalog {
    /// The configured catalog of a lake; `None` when `catalog.glue` is off. Nothing is sent yet.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for a lake that AWS cannot read, or a bad database name or URL.
    pub async fn of(settings: &config::Catalog, lake: &Lake) -> Result<Option<Self>> {
        if !settings.glue {
            return Ok(None);
        }
        check(settings, lake.url().as_str())?;
        let site = Site::of_lake(lake.url(), &settings.database)?;
        let client = client::connect(settings).await;
        Ok(Some(Self { client, site, known: Mutex::default() }))
    }

    /// Brings the catalog to what a table is: its columns, and the partitions that have live files and a manifest (`dates`,
    /// as `2026-11-23`; of no interest without the sink `spectrum`).
    ///
    /// # Errors
    /// [`crate::Error::External`] when Glue refuses or does not answer after the SDK's retries; call again.
    pub async fn sync(&self, contract: &TableContract, dates: &BTreeSet<String>) -> Result<Synced> {
        let mut synced = Synced::default();
        let known = self.known.lock().await.remove(&contract.name);
        let spectrum = glue::symlink(&self.site, contract)?;
        let registered = match known {
            Some(registered) => registered,
            None => {
                self.ensure_database().await?;
                synced.tables += u64::from(self.ensure_table(&glue::native(&self.site, contract)?).await?);
                let Some(input) = &spectrum else {
                    self.known.lock().await.insert(Arc::clone(&contract.name), BTreeSet::new());
                    return Ok(synced);
                };
                synced.tables += u64::from(self.ensure_table(input).await?);
                let found = self.partitions(contract, &input.name, dates).await?;
                synced.registered += found.different.len() as u64;
                self.update(contract, &input.name, &found.different).await?;
                found.registered
            }
        };
        if let Some(input) = &spectrum {
            let missing: Vec<&String> = dates.difference(&registered).collect();
            self.create(contract, &input.name, &missing).await?;
            let emptied: Vec<&String> = registered.difference(dates).collect();
            self.drop_partitions(&input.name, &emptied).await?;
            synced.registered += missing.len() as u64;
            synced.dropped += emptied.len() as u64;
        }
        self.known.lock().await.insert(Arc::clone(&contract.name), dates.clone());
        Ok(synced)
    }

    /// Asks whether the database may be looked for; it need not be there.
    pub async fn ask(&self) -> Permission {
        let name = &self.site.database;
        let asked = self.client.get_database().name(name).send().await;
        let (action, on) = ("glue:GetDatabase", format!("the catalog and its database `{name}`"));
        let error = match asked {
            Err(error) if error.code() != Some(client::IS_GONE) => error,
            _ => return Permission::of(action, &on, &Ok(())),
        };
        let is_denied = error.code() == Some("AccessDeniedException");
        let failed = client::failed("GetDatabase", &format!("looking for the database `{name}`"), &error);
        let failed = if is_denied { Error::usage(failed.to_string()) } else { failed };
        Permission::of::<()>(action, &on, &Err(failed))
    }

    /// How far the catalog is behind a table; asks, and changes nothing.
    ///
    /// # Errors
    /// As [`Catalog::sync`].
    pub async fn lag(&self, contract: &TableContract, dates: &BTreeSet<String>) -> Result<Lag> {
        let mut lag = Lag::default();
        let native = glue::native(&self.site, contract)?;
        lag.tables += u64::from(self.table(&native).await?.is_none_or(|found| table::differs(&found, &native)));
        let Some(input) = glue::symlink(&self.site, contract)? else { return Ok(lag) };
        let Some(found) = self.table(&input).await? else {
            return Ok(Lag { tables: lag.tables + 1, unregistered: dates.len() as u64, emptied: 0 });
        };
        lag.tables += u64::from(table::differs(&found, &input));
        let found = self.partitions(contract, &input.name, dates).await?;
        lag.unregistered = (dates.difference(&found.registered).count() + found.different.len()) as u64;
        lag.emptied = found.registered.difference(dates).count() as u64;
        Ok(lag)
    }
}
