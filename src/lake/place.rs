//! Where a lake is: a folder of this machine, or a prefix of a bucket.
//!
//! The one law: a URL names one place and is refused if it could be read as another. It does no request and makes no folder.

use std::path::{Path, PathBuf};

use url::Url;

use crate::error::{Context, Error, Result};

/// What a lake's URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A folder, absolute.
    Local(PathBuf),
    /// `s3://<bucket>/<prefix>`; the prefix has no slash at either end and may be empty.
    S3 { bucket: String, prefix: String },
}

impl Place {
    /// The place of `lake.url`, or of a table anywhere.
    pub(super) fn of(url: &str) -> Result<Self> {
        if url.is_empty() {
            return Err(Error::usage("lake.url is empty; give a folder, such as `./data/lake`, or `s3://BUCKET/lake`"));
        }
        if let Some(rest) = url.strip_prefix("s3://") {
            return bucket_and_prefix(url, rest);
        }
        if !url.contains("://") {
            let folder = std::path::absolute(Path::new(url)).context(|| format!("cannot resolve lake.url `{url}`"))?;
            return Ok(Self::Local(folder));
        }
        let parsed = Url::parse(url).map_err(|e| Error::usage(format!("lake.url `{url}`: {e}")))?;
        if parsed.scheme() != "file" {
            let scheme = parsed.scheme();
            return Err(Error::usage(format!(
                "lake.url `{url}`: unknown scheme `{scheme}`; use a folder, `file://` or `s3://`"
            )));
        }
        let folder = parsed.to_file_path();
        let folder =
            folder.map_err(|()| Error::usage(format!("lake.url `{url}`: not an absolute path; try `file:///…`")))?;
        Ok(Self::Local(folder))
    }
}

fn bucket_and_prefix(url: &str, rest: &str) -> Result<Place> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    let refused = |why: &str| Err(Error::usage(format!("lake.url `{url}`: {why}")));
    if rest.contains('@') {
        return Err(Error::usage(
            "lake.url holds a name or password; credentials come from the SDK's chain, expected `s3://BUCKET/lake`",
        ));
    }
    if bucket.is_empty() {
        return refused("it names no bucket; expected `s3://BUCKET/lake`");
    }
    if !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
        return refused("a bucket's name has only letters, digits, `-`, `.` and `_`; expected `s3://BUCKET/lake`");
    }
    // What would be percent-encoded in a URL is spelled differently by different readers of logs and manifests.
    if !prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._=/".contains(&b)) {
        return refused("a prefix may have only letters, digits, `-`, `.`, `_`, `=` and `/`");
    }
    if prefix.split('/').any(|part| matches!(part, "." | "..")) || prefix.starts_with('/') || prefix.contains("//") {
        return refused("a prefix has no empty part, no `.` and no `..`");
    }
    Ok(Place::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_folder_or_a_prefix() {
        let s3 = |bucket: &str, prefix: &str| Place::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        for (url, place) in [
            ("/srv/lake", Place::Local("/srv/lake".into())),
            ("file:///srv/a%20lake/", Place::Local("/srv/a lake".into())),
            ("s3://b-1.x/lake", s3("b-1.x", "lake")),
            ("s3://b/a/lake//", s3("b", "a/lake")),
            ("s3://b", s3("b", "")),
            ("s3://b/", s3("b", "")),
        ] {
            assert_eq!(Place::of(url).unwrap(), place, "{url}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (url, says) in [
            ("", "empty"),
            ("gs://b/l", "unknown scheme `gs`"),
            ("s3:///lake", "no bucket"),
            ("s3://key:secret@b/lake", "a name or password"),
            ("s3://b:9000/lake", "a bucket's name"),
            ("s3://b/my lake", "a prefix may have only"),
            ("s3://b/lake?x=1", "a prefix may have only"),
            ("s3://b/../other", "no `..`"),
            ("s3://b//lake", "no empty part"),
        ] {
            let error = Place::of(url).unwrap_err();
            assert!(matches!(&error, Error::Usage(m) if m.contains(says)), "{url}: {error}");
        }
    }
}
