//! The linter of Delta tables: would Athena, Redshift Spectrum and Glue crawlers all read this table, and read the same?
//!
//! The one law: a table is judged by its objects alone – log, checkpoint, footers, manifests, names – read here by code that
//! shares nothing with the code that writes them. A stranger's table is judged like one of ours. Nothing is changed, and
//! no page of data is read.

mod checkpoint;
mod columns;
mod files;
mod lag;
mod layout;
mod log;
mod manifest;
mod order;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;
use serde::Serialize;
use url::Url;

use crate::clock::Micros;
use crate::error::Result;

pub use rule::{Rule, Severity};

/// A table to judge.
#[derive(Clone, Debug)]
pub struct Target {
    /// What its folder is called.
    pub name: String,
    /// Where it lies, for everybody who reads it; ends with a slash.
    pub url: Url,
    /// Rooted at its folder.
    pub store: Arc<dyn ObjectStore>,
}

/// A rule that a table breaks, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    pub rule: Rule,
    /// An object below the table, a column, a partition.
    pub place: String,
    /// What is there, and what should be.
    pub what: String,
}

/// What was looked at in one table, and what was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Linted {
    /// The newest version of the log.
    pub version: u64,
    /// Live files, their bytes and rows as the log says.
    pub files: u64,
    pub bytes: u64,
    pub rows: u64,
    /// In order of rules.
    pub findings: Vec<Finding>,
}

impl Linted {
    /// Findings by rule: how many, with some of them.
    pub fn by_rule(&self) -> BTreeMap<Rule, Vec<&Finding>> {
        let mut rules: BTreeMap<Rule, Vec<&Finding>> = BTreeMap::new();
        for finding in &self.findings {
            rules.entry(finding.rule).or_default().push(finding);
        }
        rules
    }

    /// Whether some reader would fail or answer wrongly.
    pub fn is_broken(&self) -> bool {
        self.findings.iter().any(|finding| finding.rule.severity() == Severity::Error)
    }

    fn find(&mut self, rule: Rule, place: impl Into<String>, what: impl Into<String>) {
        self.findings.push(Finding { rule, place: place.into(), what: what.into() });
    }
}

/// Looks at a log and its followers before what was found is believed: a job that writes meanwhile is mostly through with a
/// commit and its manifests within one.
const LOOKS_MAX: usize = 5;

/// Judges one table; `now` is in microseconds, UTC.
///
/// # Errors
/// [`Error::Usage`] when there is no log; [`Error::External`] when the store does not answer. Whatever is wrong with the
/// table itself is a finding.
///
/// [`Error::Usage`]: crate::error::Error::Usage
/// [`Error::External`]: crate::error::Error::External
pub async fn lint(target: &Target, now: Micros) -> Result<Linted> {
    let store = &target.store;
    let mut looks = 1;
    let (objects, log, mut linted) = loop {
        let objects = layout::list(store, &target.name).await?;
        let (log, linted) = look(target, &objects, now).await?;
        // What was read late may be newer than the listing.
        let is_sure = !linted.is_broken() || looks == LOOKS_MAX;
        if is_sure || !objects.have_changed(store, &[layout::LOG, manifest::MANIFESTS]).await? {
            break (objects, log, linted);
        }
        looks += 1;
    };
    files::check(store, &log, &objects, &mut linted).await?;
    linted.findings.sort();
    linted.findings.dedup();
    Ok(linted)
}

/// Everything but the data files.
async fn look(target: &Target, objects: &layout::Objects, now: Micros) -> Result<(log::TableLog, Linted)> {
    let Target { name, store, .. } = target;
    let mut linted = Linted::default();
    let log = log::read(store, objects, name, &mut linted).await?;
    linted.version = log.version;
    linted.files = log.files.len() as u64;
    linted.bytes = log.files.values().map(|file| file.bytes).sum();
    linted.rows = log.files.values().filter_map(|file| file.rows).sum();
    columns::check(&log, &mut linted);
    layout::check(&log, objects, name, &mut linted);
    checkpoint::check(store, &log, objects, &mut linted).await?;
    manifest::check(target, &log, objects, now, &mut linted).await?;
    Ok((log, linted))
}
