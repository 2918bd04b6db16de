//! What slots say of rows that were taken out for good: dates their tables no longer keep, and rows that were erased.
//!
//! The one law: the books know how many rows are gone, of which epochs and at which times, and nothing that tells whose
//! they were. Times are whole minutes, so that they are those of any card that was used then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Micros;

/// Dates of one table that an epoch takes out because they are older than its contract keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expired {
    /// Values of the partition column, as in the folders' names.
    pub partitions: BTreeSet<String>,
    /// Every row of them up to this epoch is gone; rows that came later stay until the next look.
    pub through: u64,
    /// Of the files taken out.
    pub rows: u64,
}

/// Rows of one table that an epoch erases. The other rows of their files are in the files added for the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Every file taken out was live at this epoch.
    pub through: u64,
    /// Rows erased, by value of the partition column.
    pub rows: BTreeMap<String, u64>,
    /// The same by value of the partition column and epoch, where rows tell their epoch.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub epochs: BTreeMap<String, BTreeMap<u64, u64>>,
    /// For each column of times the half-open ranges, microseconds UTC, in order and apart, in which the rows erased lay.
    pub times: BTreeMap<Arc<str>, Vec<(Micros, Micros)>>,
    /// Rows and bytes of the files added, which hold what was not erased.
    pub kept_rows: u64,
    pub kept_bytes: u64,
}

/// What is gone for good by all slots so far: every slot says it, so that the newest one tells which windows cannot be
/// computed any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// For each table and each of its columns of times: rows before this may have expired.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expired: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Micros>>,
    /// The slots that erased rows, oldest first; each says what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub erased_in: Vec<u64>,
}

impl Erased {
    /// Rows erased.
    pub fn count(&self) -> u64 {
        self.rows.values().sum()
    }
}

impl Gone {
    /// Whether every row that was ever published is still there.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Notes that rows of a table before these times expired.
    pub fn expire(&mut self, table: &Arc<str>, until: &BTreeMap<Arc<str>, Micros>) {
        let known = self.expired.entry(Arc::clone(table)).or_default();
        for (column, until) in until {
            let bound = known.entry(Arc::clone(column)).or_insert(*until);
            *bound = (*bound).max(*until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_expired_never_comes_back() {
        let mut gone = Gone::default();
        assert!(gone.is_nothing());
        let until = |at: Micros, end: Micros| BTreeMap::from([("at".into(), at), ("end".into(), end)]);
        gone.expire(&"t".into(), &until(10, 12));
        gone.expire(&"t".into(), &until(8, 20));
        assert_eq!(gone.expired["t"], until(10, 20));
        assert!(!gone.is_nothing());
    }

    #[test]
    fn counts_by_epoch_survive_json() {
        let erased = Erased {
            rows: [("2026-11-23".to_owned(), 3)].into(),
            epochs: [("2026-11-23".to_owned(), [(7, 1), (9, 2)].into())].into(),
            times: [("at".into(), vec![(0, 60)])].into(),
            ..Erased::default()
        };
        let json = serde_json::to_string(&erased).unwrap();
        assert_eq!(serde_json::from_str::<Erased>(&json).unwrap(), erased, "{json}");
        assert_eq!(erased.count(), 3);
    }
}
