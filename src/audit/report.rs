//! The report: the books of the lake, what could not be compared, and every finding.
//!
//! The one law: a finding is never swallowed; beyond a bound of each kind only the number of the rest is kept.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::finding::{Finding, Kind};
use crate::clock::{self, Micros};
use crate::epoch::Counts;

/// Findings of one kind that are told one by one: enough to see a pattern, few enough to read.
const FINDINGS_OF_A_KIND_MAX: usize = 20;

/// What an audit says of a lake.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The lake's URL.
    pub lake: String,
    /// The newest decided epoch when the audit began.
    pub head: Option<u64>,
    /// The newest epoch that every table holds; rows were checked up to here.
    pub published: Option<u64>,
    /// The stream's watermark at `published`.
    pub watermark: Option<Micros>,
    pub sources: BTreeMap<Arc<str>, SourceBooks>,
    pub tables: BTreeMap<Arc<str>, TableBooks>,
    pub queries: BTreeMap<Arc<str>, QueryBooks>,
    /// What could not be compared and why, and what the reader should know. Not differences.
    pub notes: Vec<String>,
    /// Every difference found, by invariant; of each kind up to a bound.
    pub findings: Vec<Finding>,
    /// How many more there are of each kind.
    pub more: BTreeMap<Kind, u64>,
}

/// All epochs of one source.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SourceBooks {
    #[serde(flatten)]
    pub counts: Counts,
    pub shards: u64,
    /// Epochs that read from it.
    pub epochs: u64,
    /// Writers that read from it.
    pub generations: u64,
    /// Lowest of its shards.
    pub watermark: Option<Micros>,
}

/// What the log of one table holds at the audited version.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TableBooks {
    pub rows: u64,
    pub files: u64,
    pub bytes: u64,
}

/// How far one query's table was proved.
#[derive(Clone, Debug, Default, Serialize)]
pub struct QueryBooks {
    pub closed_until: Option<Micros>,
    /// Closed windows recomputed from the stream's table; `None` for a stateless query.
    pub windows_compared: Option<u64>,
    /// Rows of the query's table that were compared.
    pub rows_compared: u64,
    /// Rows that were not, because rows they were made of were erased or have expired.
    pub rows_unprovable: u64,
}

impl Report {
    /// Whether nothing differs.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Findings of one kind, those beyond the bound included.
    pub fn count(&self, kind: Kind) -> u64 {
        let listed = self.findings.iter().filter(|finding| finding.kind == kind).count() as u64;
        listed + self.more.get(&kind).copied().unwrap_or(0)
    }

    /// Notes a difference.
    pub(super) fn find(&mut self, kind: Kind, place: impl Into<String>, what: impl Into<String>) {
        let listed = self.findings.iter().filter(|finding| finding.kind == kind).count();
        if listed >= FINDINGS_OF_A_KIND_MAX {
            self.count_more(kind, 1);
            return;
        }
        let (place, what) = (place.into(), what.into());
        self.findings.push(Finding { invariant: kind.invariant(), kind, place, what });
    }

    /// Counts differences that are not told one by one.
    pub(super) fn count_more(&mut self, kind: Kind, number: u64) {
        if number > 0 {
            *self.more.entry(kind).or_default() += number;
        }
    }

    pub(super) fn note(&mut self, sentence: impl Into<String>) {
        self.notes.push(sentence.into());
    }

    /// Brings findings into the order of the invariants.
    pub(super) fn sort(&mut self) {
        self.findings.sort_by_key(|finding| (finding.invariant.unwrap_or(u8::MAX), finding.kind));
    }

    fn differences(&self) -> u64 {
        self.findings.len() as u64 + self.more.values().sum::<u64>()
    }
}

/// A time as the report shows it.
pub(super) fn show_time(micros: Option<Micros>) -> String {
    micros.map_or_else(|| "-".into(), clock::show_time)
}

fn show_epoch(epoch: Option<u64>) -> String {
    epoch.map_or_else(|| "-".into(), |epoch| epoch.to_string())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "audit of {}", self.lake)?;
        writeln!(
            f,
            "newest slot {}, rows checked up to epoch {}, watermark {}",
            show_epoch(self.head),
            show_epoch(self.published),
            show_time(self.watermark)
        )?;
        self.show_books(f)?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        writeln!(f)?;
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        for (kind, number) in &self.more {
            writeln!(f, "{kind}: {number} more")?;
        }
        match self.differences() {
            0 => f.write_str("clean: nothing differs"),
            1 => f.write_str("1 difference"),
            number => write!(f, "{number} differences"),
        }
    }
}

impl Report {
    fn show_books(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<24} {:>12} {:>12} {:>10} {:>9} {:>9} {:>7} {:>7} {:>7}  watermark",
            "source", "read", "written", "duplicates", "rejected", "late", "shards", "epochs", "writers"
        )?;
        for (name, books) in &self.sources {
            let Counts { read, written, duplicates, rejected, late, .. } = &books.counts;
            let SourceBooks { shards, epochs, generations, watermark, .. } = books;
            writeln!(
                f,
                "{name:<24} {read:>12} {written:>12} {duplicates:>10} {rejected:>9} {late:>9} {shards:>7} {epochs:>7} \
                 {generations:>7}  {}",
                show_time(*watermark)
            )?;
        }
        writeln!(f, "\n{:<24} {:>12} {:>9} {:>14}", "table", "rows", "files", "bytes")?;
        for (name, TableBooks { rows, files, bytes }) in &self.tables {
            writeln!(f, "{name:<24} {rows:>12} {files:>9} {bytes:>14}")?;
        }
        writeln!(f, "\n{:<24} {:>12} {:>9}  closed until", "query", "rows equal", "windows")?;
        for (name, books) in &self.queries {
            let windows = books.windows_compared.map_or_else(|| "-".into(), |windows| windows.to_string());
            writeln!(f, "{name:<24} {:>12} {windows:>9}  {}", books.rows_compared, show_time(books.closed_until))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_is_counted_and_a_bound_of_each_kind_told() {
        let mut report = Report::default();
        assert!(report.is_clean() && report.to_string().ends_with("clean: nothing differs"));
        for slot in 0..25 {
            report.find(Kind::BrokenLink, format!("slot {slot}"), "x");
        }
        report.find(Kind::MissingRow, "city_minute", "x");
        assert!(!report.is_clean());
        assert_eq!((report.count(Kind::BrokenLink), report.findings.len()), (25, FINDINGS_OF_A_KIND_MAX + 1));
        let text = report.to_string();
        assert!(text.contains("broken link: 5 more") && text.ends_with("26 differences"), "{text}");
    }
}
