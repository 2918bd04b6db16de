//! What is done for a table once an epoch is in it: checkpoint, manifests, catalog, in this order.
//!
//! The one law: each step may be left out, repeated or cut off; the next one begins with what is there. A manifest is
//! written before the catalog leads to it, and goes after the catalog has let it go.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::Mutex;

use super::commit::Tables;
use crate::catalog::{Catalog, Synced};
use crate::config::Config;
use crate::contract::{Sink, TableContract};
use crate::error::Result;
use crate::lake::{Lake, Table};
use crate::manifest::{Manifests, Written};

/// Looks after the tables of one lake. There is one at a time: the job's, or that of a command that holds the lake's lock.
#[derive(Debug)]
pub struct Upkeep {
    lake: Lake,
    tables: BTreeMap<Arc<str>, Kept>,
    catalog: Option<Catalog>,
    checkpoint_every: u64,
}

#[derive(Debug)]
struct Kept {
    table: Arc<Table>,
    /// `None` for the table of a query that is gone: nobody says for whom it is kept ready.
    contract: Option<TableContract>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    manifests: Manifests,
    /// The version of the newest checkpoint; `None` until it was looked for.
    checkpoint: Option<u64>,
}

/// What was done for one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// The version everything is of.
    pub version: u64,
    /// Manifests written.
    pub manifests: u64,
    /// Partitions that were emptied: their manifests are gone, if the catalog let them go.
    pub emptied: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<Synced>,
}

impl Upkeep {
    /// For these tables, with the configured catalog.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for a catalog that can never be reached; see [`Catalog::of`].
    pub async fn of(
        config: &Config,
        lake: &Lake,
        tables: &Tables,
        contracts: &BTreeMap<Arc<str>, TableContract>,
    ) -> Result<Self> {
        let kept = |(name, table): (&Arc<str>, &Arc<Table>)| {
            let manifests = Manifests::new(Arc::clone(table));
            let state = Mutex::new(State { manifests, checkpoint: None });
            let contract = contracts.get(name).cloned();
            (Arc::clone(name), Kept { table: Arc::clone(table), contract, state })
        };
        Ok(Self {
            lake: lake.clone(),
            tables: tables.iter().map(kept).collect(),
            catalog: Catalog::of(&config.catalog, lake).await?,
            checkpoint_every: config.commit.checkpoint_every,
        })
    }

    /// Names of the tables.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.tables.keys()
    }

    pub(super) fn lake(&self) -> &Lake {
        &self.lake
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.values().map(|kept| &kept.table)
    }

    /// Manifests are looked at anew when they are written next, whoever wrote over them: S3 has no lock.
    pub(super) async fn look_again(&self) {
        for kept in self.tables.values() {
            kept.state.lock().await.manifests.look_again();
        }
    }

    /// Whether there is a catalog to be kept.
    pub(super) fn has_catalog(&self) -> bool {
        self.catalog.is_some()
    }

    /// Writes the manifests of a table and brings the catalog to it.
    ///
    /// # Errors
    /// As [`Manifests::write`] and [`Catalog::sync`]; call again.
    pub async fn bring_up(&self, name: &str) -> Result<Done> {
        let mut done = self.manifests(name).await?;
        done.catalog = self.catalog(name).await?;
        Ok(done)
    }

    /// As [`Upkeep::bring_up`], of every table: manifests first, and a catalog that fails is not asked about the others.
    ///
    /// # Errors
    /// The first, after the manifests of all were tried.
    pub(super) async fn bring_all_up(&self) -> Result<()> {
        let mut written = Ok(());
        for name in self.names() {
            written = written.and(self.manifests(name).await.map(drop));
        }
        for name in self.names() {
            if let Err(error) = self.catalog(name).await {
                return written.and(Err(error));
            }
        }
        written
    }

    /// Writes the manifests of a table, if its contract asks for them.
    ///
    /// # Errors
    /// As [`Manifests::write`]; call again.
    pub(super) async fn manifests(&self, name: &str) -> Result<Done> {
        let Some(Kept { contract: Some(contract), state, table }) = self.tables.get(name) else {
            return Ok(Done::default());
        };
        if !contract.sinks.contains(&Sink::Spectrum) {
            return Ok(Done { version: table.version_seen().await, ..Done::default() });
        }
        let manifests = &mut state.lock().await.manifests;
        let written = manifests.write().await?;
        if self.catalog.is_none() {
            manifests.let_go(&written.emptied).await?;
        }
        let (version, emptied) = (written.version, written.emptied.len() as u64);
        Ok(Done { version, manifests: written.written, emptied, catalog: None })
    }

    /// Brings the catalog to what the manifests say; manifests it no longer leads to go. `None` without a catalog.
    ///
    /// # Errors
    /// As [`Catalog::sync`] and [`Manifests::let_go`]; call again.
    pub(super) async fn catalog(&self, name: &str) -> Result<Option<Synced>> {
        let (Some(catalog), Some(Kept { contract: Some(contract), state, .. })) =
            (&self.catalog, self.tables.get(name))
        else {
            return Ok(None);
        };
        let is_spectrum = contract.sinks.contains(&Sink::Spectrum);
        let standing = state.lock().await.manifests.standing();
        let standing = match standing {
            Some(standing) => standing,
            // They are to be written first; then the catalog's turn comes again.
            None if is_spectrum => return Ok(None),
            None => Written::default(),
        };
        // Not under the lock: the next epoch's manifests do not wait for a catalog.
        let synced = catalog.sync(contract, &standing.dates).await?;
        if is_spectrum {
            state.lock().await.manifests.let_go(&standing.emptied).await?;
        }
        Ok(Some(synced))
    }

    /// Writes a checkpoint if the log has grown past the next multiple of `commit.checkpoint_every`: epochs are taken
    /// together, so the multiple itself may never be the newest version.
    ///
    /// # Errors
    /// As [`Table::checkpoint`]; the next one is tried at the next multiple.
    pub(super) async fn checkpoint_if_due(&self, name: &str) -> Result<()> {
        let Some(Kept { table, state, .. }) = self.tables.get(name) else { return Ok(()) };
        let mut state = state.lock().await;
        let last = match state.checkpoint {
            Some(last) => last,
            None => table.last_checkpoint().await?.unwrap_or(0),
        };
        let version = table.version_seen().await;
        state.checkpoint = Some(last);
        if version / self.checkpoint_every > last / self.checkpoint_every {
            state.checkpoint = Some(version);
            table.checkpoint().await?;
        }
        Ok(())
    }
}
