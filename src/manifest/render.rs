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

/// What is rendered, and what it is held against.
pub(super) struct Rendering<'a> {
    /// How URIs begin: see [`root`].
    pub root: &'a str,
    /// The partition column.
    pub column: &'a str,
    /// The live files.
    pub files: &'a [Arc<DataFile>],
    /// The files `known` was rendered from; none if nobody knows.
    pub rendered: &'a [Arc<DataFile>],
    pub known: &'a BTreeMap<String, Recorded>,
}

impl Rendering<'_> {
    /// Every partition as it is to be recorded, and the manifests of those with another hash than `known`. A partition whose
    /// files are the very ones it was rendered from is neither sorted nor hashed again: most of a table is so after a commit.
    ///
    /// # Errors
    /// [`crate::Error::Broken`] for a file without a date, or a path that is none of a store.
    pub(super) fn changed(&self) -> Result<(BTreeMap<String, Recorded>, Vec<Manifest>)> {
        let before = partitions(self.rendered);
        let (mut recorded, mut manifests) = (BTreeMap::new(), Vec::new());
        for (partition, files) in partitions(self.files) {
            let folder = format!("{}={}", self.column, files[0].date()?);
            let known = self.known.get(&folder);
            if let Some(known) = known.filter(|_| before.get(&partition).is_some_and(|before| same(&files, before))) {
                recorded.insert(folder, known.clone());
                continue;
            }
            let text = self.text(&files)?;
            let sha256 = hex::encode(Sha256::digest(&text));
            let same = known.filter(|known| known.sha256 == sha256).cloned();
            if same.is_none() {
                manifests.push((folder.clone(), text));
            }
            recorded.insert(folder, same.unwrap_or(Recorded { sha256, e_tag: None }));
        }
        Ok((recorded, manifests))
    }

    fn text(&self, files: &[&Arc<DataFile>]) -> Result<Vec<u8>> {
        let lines = files.iter().map(|file| Ok(format!("{}{}\n", self.root, file.key()?)));
        let mut lines = lines.collect::<Result<Vec<String>>>()?;
        lines.sort_unstable();
        Ok(lines.concat().into_bytes())
    }
}

/// Files by partition, days since 1970-01-01.
fn partitions(files: &[Arc<DataFile>]) -> BTreeMap<i32, Vec<&Arc<DataFile>>> {
    let mut partitions: BTreeMap<i32, Vec<&Arc<DataFile>>> = BTreeMap::new();
    for file in files {
        partitions.entry(file.partition).or_default().push(file);
    }
    partitions
}

/// Whether two lists hold the very same files, as those of a table do that follows its log.
fn same(files: &[&Arc<DataFile>], before: &[&Arc<DataFile>]) -> bool {
    files.len() == before.len() && files.iter().zip(before).all(|(file, before)| Arc::ptr_eq(file, before))
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

    #[test]
    fn only_partitions_with_other_files_are_rendered_again() {
        let file = |partition, epoch| Arc::new(DataFile::made(partition, epoch, 1));
        let rendered = vec![file(1, 1), file(1, 2), file(2, 1)];
        let render = |files: &[Arc<DataFile>], rendered: &[Arc<DataFile>], known: &BTreeMap<String, Recorded>| {
            Rendering { root: "s3://bucket/t/", column: "d", files, rendered, known }.changed().unwrap()
        };
        let (mut known, manifests) = render(&rendered, &[], &BTreeMap::new());
        assert_eq!(manifests.len(), 2);
        // Nobody renders what would tell that this is no hash.
        known.values_mut().for_each(|recorded| recorded.sha256 = "kept".to_owned());
        let mut files = rendered.clone();
        files.push(file(2, 2));
        let (recorded, manifests) = render(&files, &rendered, &known);
        assert_eq!(manifests.iter().map(|(folder, _)| folder.as_str()).collect::<Vec<_>>(), ["d=1970-01-03"]);
        assert_eq!(recorded["d=1970-01-02"].sha256, "kept");
        // A file in another's place, and files nobody knows, are looked at.
        files[0] = file(1, 1);
        assert_eq!(render(&files, &rendered, &known).1.len(), 2);
        assert_eq!(render(&rendered, &[], &known).1.len(), 2);
    }
}
