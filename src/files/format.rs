//! Which file it is: its format, told by its name, and its identity as a shard.
//!
//! The one law: the same path, size and first 64 KiB are the same shard, whenever it is read. What differs further on only
//! is not noticed.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Context, Error, Result};
use crate::stream::ShardId;

/// How a file's content is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFormat {
    pub lines: Lines,
    pub gzip: bool,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Comma-separated values below a header.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// The extensions and what they mean.
const EXTENSIONS: [(&str, FileFormat); 4] = [
    (".csv", FileFormat { lines: Lines::Csv, gzip: false }),
    (".csv.gz", FileFormat { lines: Lines::Csv, gzip: true }),
    (".ndjson", FileFormat { lines: Lines::Ndjson, gzip: false }),
    (".ndjson.gz", FileFormat { lines: Lines::Ndjson, gzip: true }),
];

/// Bytes of a file that enter its identity.
const HASHED_BYTES: u64 = 64 << 10;

/// Hex digits of the hash that a shard's id shows.
const HASH_DIGITS: usize = 12;

impl FileFormat {
    /// The format the file's name tells.
    ///
    /// # Errors
    /// [`Error::Usage`] for any other extension.
    pub fn of(path: &Path) -> Result<Self> {
        let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        EXTENSIONS
            .iter()
            .find(|(extension, _)| name.ends_with(extension) && name.len() > extension.len())
            .map(|(_, format)| *format)
            .ok_or_else(|| {
                Error::usage(format!(
                    "`{}`: cannot tell the format; a file's name must end in .csv, .csv.gz, .ndjson or .ndjson.gz",
                    path.display()
                ))
            })
    }
}

/// The file's identity as a shard: `<path as given>:<size>:<first 12 hex digits of SHA-256 of its first 64 KiB>`, of
/// the bytes as stored.
///
/// # Errors
/// [`Error::Usage`] when there is no such file; [`Error::External`] when it cannot be read.
pub fn shard_id(path: &Path) -> Result<ShardId> {
    let file = open(path)?;
    let size = file.metadata().context(|| format!("read the size of `{}`", path.display()))?.len();
    let mut head = Vec::new();
    file.take(HASHED_BYTES).read_to_end(&mut head).context(|| format!("read `{}`", path.display()))?;
    let hash = hex::encode(Sha256::digest(&head));
    Ok(format!("{}:{size}:{}", path.display(), &hash[..HASH_DIGITS]).into())
}

/// Opens a file the user named.
pub(super) fn open(path: &Path) -> Result<File> {
    if !path.is_file() {
        let what = if path.exists() { "is not a file" } else { "no such file" };
        return Err(Error::usage(format!("`{}`: {what}", path.display())));
    }
    File::open(path).context(|| format!("open `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_format() {
        for (name, lines, gzip) in [
            ("a.csv", Lines::Csv, false),
            ("dir.d/a.b.CSV.gz", Lines::Csv, true),
            ("a.ndjson", Lines::Ndjson, false),
            ("a.ndjson.gz", Lines::Ndjson, true),
        ] {
            assert_eq!(FileFormat::of(Path::new(name)).unwrap(), FileFormat { lines, gzip }, "{name}");
        }
        for name in ["a.json", "csv", ".csv", "a.csv.zst", "a.gz", ""] {
            let error = FileFormat::of(Path::new(name)).unwrap_err();
            assert!(matches!(error, Error::Usage(_)) && error.to_string().contains(".ndjson.gz"), "{name}: {error}");
        }
    }

    #[test]
    fn identity_is_path_size_and_head() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "x\n").unwrap();
        let id = shard_id(&path).unwrap();
        // sha256("x\n"), from an independent tool
        assert_eq!(id.as_ref(), format!("{}:2:73cb3858a687", path.display()));
        std::fs::write(&path, "y\n").unwrap();
        assert_ne!(id, shard_id(&path).unwrap());
        assert!(matches!(shard_id(&folder.path().join("b.csv")), Err(Error::Usage(_))));
        assert!(matches!(shard_id(folder.path()), Err(Error::Usage(_))));
    }
}
