//! Names of exported files.
//!
//! The one law: a name follows from the path of the data file it is a copy of, and from nothing else.

use object_store::path::Path;
use sha2::{Digest, Sha256};

use crate::lake::DataFile;

/// Hexadecimal digits that tell files of one epoch and date apart: sixty-four bits, of some dozens.
const PART_DIGITS: usize = 16;

/// `epoch-<n>-<part>.parquet`: the newest epoch whose rows the file may hold, and its path's hash. Files nobody here wrote
/// count as of epoch 0.
pub(super) fn of(file: &DataFile) -> String {
    let digest = hex::encode(Sha256::digest(file.path.as_bytes()));
    format!("epoch-{:020}-{}.parquet", file.epoch.unwrap_or(0), &digest[..PART_DIGITS])
}

/// Date and name of an exported file below `<table>/`; `None` for other objects, which are somebody else's.
pub(super) fn parse(table: &str, column: &str, object: &Path) -> Option<(String, String)> {
    let inner = object.as_ref().strip_prefix(table)?.strip_prefix('/')?;
    let (folder, name) = inner.split_once('/')?;
    let date = folder.strip_prefix(column)?.strip_prefix('=')?;
    let (epoch, part) = name.strip_prefix("epoch-")?.strip_suffix(".parquet")?.split_once('-')?;
    let is_ours = epoch.len() == 20
        && epoch.bytes().all(|b| b.is_ascii_digit())
        && part.len() == PART_DIGITS
        && part.bytes().all(|b| b.is_ascii_hexdigit());
    is_ours.then(|| (date.to_owned(), name.to_owned()))
}

/// An exported file, below the export's place.
pub(super) fn path(table: &str, column: &str, date: &str, name: &str) -> Path {
    Path::from_iter([table, format!("{column}={date}").as_str(), name])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_again_and_others_are_not_ours() {
        let file = DataFile::made(20_779, 42, 10);
        let name = of(&file);
        assert_eq!(name, of(&DataFile::made(20_779, 42, 11)));
        assert_ne!(name, of(&DataFile::made(20_780, 42, 10)));
        assert!(name.starts_with("epoch-00000000000000000042-"), "{name}");
        let at = path("t", "day", "2026-11-22", &name);
        assert_eq!(parse("t", "day", &at), Some(("2026-11-22".to_owned(), name)));
        for other in
            ["t/day=2026-11-22/x.parquet", "t/epoch-1-a.parquet", "tt/day=2026-11-22/x", "t/day=1/epoch-1-2.parquet"]
        {
            assert_eq!(parse("t", "day", &Path::from(other)), None, "{other}");
        }
    }
}
