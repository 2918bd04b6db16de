//! Where exports go.
//!
//! The one law: an export and the lake never lie in each other, since whoever lists one must not see the other.

use std::sync::Arc;

use object_store::ObjectStore;

use crate::config;
use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::permission::Permission;

/// The place of all exports: a folder, or a prefix of a bucket; one folder a table below it.
#[derive(Clone, Debug)]
pub struct Place {
    at: Lake,
}

impl Place {
    /// The configured place; `None` without one. A folder is created, of a bucket nothing is asked yet.
    ///
    /// # Errors
    /// [`Error::Usage`] for a URL that is none, or a place in the lake or around it; [`Error::External`] for a folder that
    /// cannot be created.
    pub fn of(settings: &config::Plain, s3: &config::S3, lake: &Lake) -> Result<Option<Self>> {
        Self::opened(settings, lake, |url| Lake::open(url, s3).map(Some))
    }

    /// As [`Place::of`], but nothing is created: `None` where there is no folder, too.
    ///
    /// # Errors
    /// As [`Place::of`].
    pub fn existing(settings: &config::Plain, s3: &config::S3, lake: &Lake) -> Result<Option<Self>> {
        Self::opened(settings, lake, |url| Lake::open_existing(url, s3))
    }

    fn opened(
        settings: &config::Plain,
        lake: &Lake,
        open: impl FnOnce(&str) -> Result<Option<Lake>>,
    ) -> Result<Option<Self>> {
        if settings.url.is_empty() {
            return Ok(None);
        }
        // Places are read in one way; only the key is another.
        let opened = open(&settings.url).map_err(|error| match error {
            Error::Usage(refused) => Error::usage(refused.to_string().replace("lake.url", "plain.url")),
            other => other,
        })?;
        let Some(at) = opened else { return Ok(None) };
        let (export, own) = (at.url().as_str(), lake.url().as_str());
        if export.starts_with(own) || own.starts_with(export) {
            return Err(Error::usage(format!(
                "configuration: `plain.url` `{}` and the lake `{own}` lie in each other: crawlers of the export would list \
                 the lake's files, too; choose a place beside it",
                settings.url
            )));
        }
        Ok(Some(Self { at }))
    }

    /// Ends with a slash.
    pub fn url(&self) -> &str {
        self.at.url().as_str()
    }

    /// Asks for each action in the export's bucket, as [`Lake::ask`].
    pub async fn ask(&self) -> Vec<Permission> {
        self.at.ask().await
    }

    pub(super) fn lake(&self) -> &Lake {
        &self.at
    }

    pub(super) fn store(&self) -> Arc<dyn ObjectStore> {
        self.at.store()
    }

    /// The same place with its store replaced, as [`Lake::with_wrapped_store`].
    #[cfg(test)]
    pub(super) fn with_wrapped_store(self, wrap: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        Self { at: self.at.with_wrapped_store(wrap) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::testing;

    #[test]
    fn places_in_one_another_are_refused_by_their_key() {
        let (folder, lake) = testing::lake();
        let own = folder.path().to_str().unwrap();
        let of = |url: &str| {
            let settings = config::Plain { url: url.to_owned(), tables: Vec::new() };
            Place::of(&settings, &testing::s3(), &lake)
        };
        assert!(of("").unwrap().is_none());
        let beside = format!("{own}_plain");
        assert!(of(&beside).unwrap().is_some_and(|place| place.url().ends_with("_plain/")));
        std::fs::remove_dir(&beside).unwrap();
        let inside = format!("{own}/plain");
        for (url, says) in [
            (own, "lie in each other"),
            (&inside, "lie in each other"),
            ("/", "lie in each other"),
            ("gs://b/x", "plain.url `gs://b/x`: unknown scheme"),
        ] {
            let error = of(url).unwrap_err();
            assert!(matches!(&error, Error::Usage(m) if m.to_string().contains(says)), "{url}: {error}");
        }
    }
}
