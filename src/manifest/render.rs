//! Manifests as text: the URIs of a partition's live files, sorted, one a line.
//!
//! The one law: a URI is the table's place and the object's key, character by character, so that a partition value stands
//! in it as in the key.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::path::Path;
use sha2::{Digest, Sha256};
use url::{Position, Url};

use super::state::Recorded;
use crate::error::{Context, Result};
use crate::lake::DataFile;

/// A manifest to be: its partition's folder, and its text.
pub(super) type Manifest = (String, Vec<u8>);

/// Every partition as it is to be recorded, and the manifests of those with another hash than `known`.
///
/// # Errors
/// [`crate::Error::Broken`] for a file without a date, or a path that is none of a store.
pub(super) fn changed(
    root: &str,
    column: &str,
    files: &[Arc<DataFile>],
    known: &BTreeMap<String, Recorded>,
) -> Result<(BTreeMap<String, Recorded>, Vec<Manifest>)> {
    let mut folders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files {
        let folder = format!("{column}={}", file.date()?);
        folders.entry(folder).or_default().push(format!("{root}{}\n", file.key()?));
    }
    let (mut recorded, mut manifests) = (BTreeMap::new(), Vec::new());
    for (folder, mut lines) in folders {
        lines.sort_unstable();
        let text = lines.concat().into_bytes();
        let sha256 = hex::encode(Sha256::digest(&text));
        let same = known.get(&folder).filter(|known| known.sha256 == sha256).cloned();
        if same.is_none() {
            manifests.push((folder.clone(), text));
        }
        recorded.insert(folder, same.unwrap_or(Recorded { sha256, e_tag: None }));
    }
    Ok((recorded, manifests))
}

/// How URIs of a table's files begin: `s3://bucket/lake/t/` with the key as it is, `file:///srv/lake/t/` as file URLs are
/// written.
///
/// # Errors
/// [`crate::Error::External`] for a URL whose path is none of a store.
pub(super) fn root(table: &Url) -> Result<String> {
    if table.scheme() == "file" {
        return Ok(table.to_string());
    }
    let key = Path::from_url_path(table.path()).context(|| format!("`{table}` names no folder of a store"))?;
    Ok(format!("{}/{key}/", &table[..Position::BeforePath]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_written_as_keys_are() {
        for (url, wanted) in [
            ("s3://bucket/lake/t/", "s3://bucket/lake/t/"),
            ("s3://bucket/a%20lake/t/", "s3://bucket/a lake/t/"),
            ("file:///srv/a%20lake/t/", "file:///srv/a%20lake/t/"),
        ] {
            assert_eq!(root(&Url::parse(url).unwrap()).unwrap(), wanted);
        }
    }
}
