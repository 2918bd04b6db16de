//! The one writer of a table's export.
//!
//! The one law: of a date, what is new comes first and what is out of date goes after it, so that no row is ever missing;
//! for as long as that copying takes a reader may meet rows of that date twice. After an error nothing is believed: the
//! place is listed again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::state::{self, Recorded, State};
use super::{Place, name};
use crate::error::{Context, Error, Result};
use crate::lake::{Changes, DataFile, Table, delete};

/// Files copied at once: each holds some 24 MiB where the store does not copy by itself.
const COPIES_AT_ONCE: usize = 2;
/// Dates that may fail before the rest is left to the next look: a place that does not answer is not asked about each.
const FAILURES_MAX: usize = 3;
/// A date that has so many files more than the table's own has gathered too many little late ones since they were written
/// together: it gets the table's.
const SCATTERED_MAX: usize = 64;
/// Versions after which the record is written anew although no date has changed: a start then looks through few commits.
const VERSIONS_MAX: u64 = 100;

/// The export of one table.
#[derive(Debug)]
pub struct Export {
    table: Arc<Table>,
    place: Place,
    /// As this process has left it; `None` at first and after an error.
    known: Option<Known>,
}

/// What is there, and what it stands for.
#[derive(Debug, Default)]
struct Known {
    version: u64,
    /// The version of the record; `None` when there is none, or when it says something else.
    recorded_at: Option<u64>,
    dates: BTreeMap<String, Standing>,
}

/// A date of the export.
#[derive(Debug, Default)]
struct Standing {
    names: BTreeSet<String>,
    /// Hash of the table's files whose rows these are; `None` when nobody knows.
    live: Option<String>,
}

/// The table's files of a date.
#[derive(Debug)]
pub(super) struct Live {
    pub files: Vec<Arc<DataFile>>,
    pub sha256: String,
}

/// What is owed to a date.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owed {
    Nothing,
    /// The files of these paths, which hold late rows, beside those that are there.
    More(BTreeSet<String>),
    /// The table's files, and no others.
    Same,
}

/// What [`Export::bring_up`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// The table's version the export stands at.
    pub version: u64,
    /// Dates written, or changed.
    pub dates: BTreeSet<String>,
    /// Files copied, and their bytes.
    pub files: u64,
    pub bytes: u64,
    /// Files deleted, because their rows were restated, removed, or lie in others.
    pub deleted: u64,
}

impl Export {
    /// Of a table to a place.
    pub fn new(table: Arc<Table>, place: Place) -> Self {
        Self { table, place, known: None }
    }

    /// The table it is of.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Exports the dates that are not exported yet and for which `is_ready` (the day since 1970-01-01, and the date's files)
    /// holds, and carries over what has changed in those that are.
    ///
    /// The first call lists the place, so that what a killed writer left is completed.
    ///
    /// # Errors
    /// [`Error::Broken`] when the record stands at a version the table has not reached; the first error of a date, after the
    /// others were tried; [`Error::External`] when the lake does not answer. Call again.
    pub async fn bring_up(&mut self, is_ready: impl Fn(i32, &[Arc<DataFile>]) -> bool) -> Result<Exported> {
        let (version, files) = self.table.newest_files().await?;
        let mut known = match self.known.take() {
            Some(known) => known,
            None => self.found().await?,
        };
        if known.version > version {
            return Err(Error::broken(format!(
                "the export of table `{}` stands at version {}, the table at {version}: its log went back; if that was meant, \
                 remove `{}/_plain.json`",
                self.table.name(),
                known.version,
                self.table.name()
            )));
        }
        // Hashing a hundred thousand names takes a core's while, which the stream's tasks shall not wait for.
        let (days, live) = tokio::task::spawn_blocking(move || by_date(&files)).await.context(|| "hashing names")??;
        let mut owed = self.owed(&mut known, version, &live).await?;
        for (date, live) in &live {
            if !known.dates.contains_key(date) && days.get(date).is_some_and(|day| is_ready(*day, &live.files)) {
                owed.insert(date.clone(), Owed::Same);
                // Known from now on, so that one that fails, or is not tried, is recorded as owed.
                known.dates.insert(date.clone(), Standing::default());
            }
        }
        let mut done = Exported { version, ..Exported::default() };
        let (mut failed, mut failures, mut is_changed) = (None, 0, false);
        for (date, owed) in owed {
            is_changed = true;
            if let Err(error) = self.pay(&mut known, &date, owed, live.get(&date), &mut done).await {
                tracing::debug!(table = self.table.name(), date, %error, "not exported");
                failed = failed.or(Some(error));
                failures += 1;
                if failures == FAILURES_MAX {
                    break;
                }
            }
        }
        known.version = version;
        if is_changed || known.recorded_at.is_none_or(|at| version - at >= VERSIONS_MAX) {
            self.record(&known).await?;
            known.recorded_at = Some(version);
        }
        match failed {
            Some(error) => Err(error),
            None => {
                self.known = Some(known);
                Ok(done)
            }
        }
    }

    /// What has to be done for the dates that are exported.
    async fn owed(
        &self,
        known: &mut Known,
        version: u64,
        live: &BTreeMap<String, Live>,
    ) -> Result<BTreeMap<String, Owed>> {
        let mut changes = None;
        let mut owed = BTreeMap::new();
        let from = known.version;
        for (date, standing) in &mut known.dates {
            let now = live.get(date);
            if standing.live.is_some() && standing.live.as_ref() == now.map(|live| &live.sha256) {
                continue;
            }
            let what = match (&standing.live, now) {
                (Some(_), Some(now)) => {
                    if changes.is_none() {
                        changes = Some(self.table.changes(from, version).await?);
                    }
                    let changes = changes.as_ref().and_then(Option::as_ref);
                    changes.map_or(Owed::Same, |changes| self.since(changes, date, standing, now))
                }
                _ => Owed::Same,
            };
            owed.insert(date.clone(), what);
            // Until it is paid, nobody knows what its files stand for: a look that ends early leaves some as they are.
            standing.live = None;
        }
        Ok(owed)
    }

    /// What these changes owe to a date.
    fn since(&self, changes: &Changes, date: &str, standing: &Standing, now: &Live) -> Owed {
        let folder = format!("{}={date}/", self.table.partition_by());
        let is_of_date = |path: &&String| path.starts_with(&folder);
        let added: BTreeSet<&String> = changes.added.iter().filter(is_of_date).collect();
        let live: BTreeSet<&String> = now.files.iter().map(|file| &file.path).collect();
        let is_scattered = standing.names.len() + added.len() > live.len() + SCATTERED_MAX;
        if changes.removed.iter().any(|path| is_of_date(&path)) || !added.is_subset(&live) || is_scattered {
            return Owed::Same;
        }
        // Late rows are known by their files; the others hold, in whatever files, what is there.
        if added.is_empty() { Owed::Nothing } else { Owed::More(added.into_iter().cloned().collect()) }
    }

    /// Brings one date to what it should be: first what is missing, then what is too much.
    async fn pay(
        &self,
        known: &mut Known,
        date: &str,
        owed: Owed,
        live: Option<&Live>,
        done: &mut Exported,
    ) -> Result<()> {
        let standing = known.dates.entry(date.to_owned()).or_default();
        // Until it is through, nobody knows what these files stand for.
        standing.live = None;
        let files: &[Arc<DataFile>] = live.map_or(&[], |live| &live.files);
        let wanted: BTreeMap<String, &Arc<DataFile>> = files.iter().map(|file| (name::of(file), file)).collect();
        let is_missing = |name: &String, file: &DataFile| match &owed {
            Owed::Nothing => false,
            Owed::More(paths) => paths.contains(&file.path) && !standing.names.contains(name),
            Owed::Same => !standing.names.contains(name),
        };
        let missing = wanted.iter().filter(|(name, file)| is_missing(name, file));
        let missing: Vec<(String, Arc<DataFile>)> =
            missing.map(|(name, file)| (name.clone(), Arc::clone(file))).collect();
        let bytes: u64 = missing.iter().map(|(_, file)| file.bytes).sum();
        let names: Vec<String> = missing.iter().map(|(name, _)| name.clone()).collect();
        self.copy(date, missing).await?;
        standing.names.extend(names.iter().cloned());
        let gone: Vec<String> = match owed {
            Owed::Same => standing.names.iter().filter(|name| !wanted.contains_key(*name)).cloned().collect(),
            _ => Vec::new(),
        };
        delete(&self.place.store(), gone.iter().map(|name| self.path(date, name)).collect()).await?;
        standing.names.retain(|name| !gone.contains(name));
        standing.live = live.map(|live| live.sha256.clone());
        if !(names.is_empty() && gone.is_empty()) {
            done.dates.insert(date.to_owned());
        }
        done.files += names.len() as u64;
        done.bytes += bytes;
        done.deleted += gone.len() as u64;
        if live.is_none() {
            known.dates.remove(date);
        }
        Ok(())
    }

    fn path(&self, date: &str, name: &str) -> Path {
        name::path(self.table.name(), self.table.partition_by(), date, name)
    }

    async fn copy(&self, date: &str, files: Vec<(String, Arc<DataFile>)>) -> Result<()> {
        let copies: Vec<_> = files
            .into_iter()
            .map(|(name, file)| {
                let (table, to, at) = (Arc::clone(&self.table), self.place.lake().clone(), self.path(date, &name));
                async move { table.copy_file(&file, &to, &at).await }
            })
            .collect();
        futures::stream::iter(copies).buffer_unordered(COPIES_AT_ONCE).try_collect().await
    }

    /// What is there, and, where that is as it was recorded, what it stands for.
    async fn found(&self) -> Result<Known> {
        let state = state::read(&self.table, &self.place).await?;
        let (name, store) = (self.table.name(), self.place.store());
        let mut listed = store.list(Some(&Path::from(name)));
        let mut known = Known::default();
        while let Some(object) = listed.try_next().await.context(|| format!("listing the export of table `{name}`"))? {
            if let Some((date, file)) = name::parse(name, self.table.partition_by(), &object.location) {
                known.dates.entry(date).or_default().names.insert(file);
            }
        }
        let Some(state) = state else { return Ok(known) };
        known.version = state.version;
        let mut is_as_recorded = state.dates.len() == known.dates.len();
        for (date, standing) in &mut known.dates {
            let recorded = state.dates.get(date).filter(|recorded| recorded.names == digest(&standing.names));
            standing.live = recorded.and_then(|recorded| recorded.live.clone());
            is_as_recorded &= standing.live.is_some();
        }
        known.recorded_at = Some(state.version).filter(|_| is_as_recorded);
        Ok(known)
    }

    /// Records what each date stands for, and which are owed something.
    async fn record(&self, known: &Known) -> Result<()> {
        let recorded = |(date, standing): (&String, &Standing)| {
            (date.clone(), Recorded { names: digest(&standing.names), live: standing.live.clone() })
        };
        let dates = known.dates.iter().map(recorded).collect();
        State::new(&self.place, known.version, dates).write(&self.table).await
    }
}

/// Deletes what is exported of a table that is dropped, and nothing else that may lie there. Answers how many files there
/// were.
///
/// # Errors
/// [`Error::External`] when the place does not answer; call again.
pub async fn vacate(place: &Place, table: &str) -> Result<u64> {
    let store = place.store();
    let listed = store.list(Some(&Path::from(table))).try_collect::<Vec<_>>().await;
    let listed = listed.context(|| format!("listing the export of table `{table}`"))?;
    let is_ours = |object: &Path| {
        // The name of its partition column went with its log.
        let column = object.parts().nth(1).and_then(|folder| Some(folder.as_ref().split_once('=')?.0.to_owned()));
        column.is_some_and(|column| name::parse(table, &column, object).is_some())
    };
    let ours: Vec<Path> = listed.into_iter().map(|object| object.location).filter(is_ours).collect();
    let count = ours.len() as u64;
    delete(&store, ours).await?;
    Ok(count)
}

/// Files by date, with the day of each date (since 1970-01-01).
///
/// # Errors
/// [`Error::Broken`] for a file without a date.
pub(super) fn by_date(files: &[Arc<DataFile>]) -> Result<(BTreeMap<String, i32>, BTreeMap<String, Live>)> {
    let mut by_day: BTreeMap<i32, Vec<Arc<DataFile>>> = BTreeMap::new();
    for file in files {
        by_day.entry(file.partition).or_default().push(Arc::clone(file));
    }
    let (mut days, mut dates) = (BTreeMap::new(), BTreeMap::new());
    for (day, files) in by_day {
        let Some(first) = files.first() else { continue };
        let date = first.date()?;
        days.insert(date.clone(), day);
        let paths: BTreeSet<String> = files.iter().map(|file| file.path.clone()).collect();
        dates.insert(date, Live { files, sha256: digest(&paths) });
    }
    Ok((days, dates))
}

/// SHA-256 of names, one a line.
fn digest(names: &BTreeSet<String>) -> String {
    let mut digest = Sha256::new();
    for name in names {
        digest.update(name);
        digest.update("\n");
    }
    hex::encode(digest.finalize())
}
