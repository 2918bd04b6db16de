//! Where the lake stands, and what its database and role are called there.
//!
//! The one law: a script for AWS names objects of S3, or is not written.

use std::path::Path;

use url::Url;

use super::Dialect;
use super::tables::TableOfLake;
use crate::config;
use crate::error::{Context, Error, Result};
use crate::manifest::FOLDER;
use crate::plain::is_exported;

/// What a database's name has to be.
const DATABASE_FORM: &str = "expected lower-case letters, digits and `_`, a letter first";

/// One lake as readers find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The lake's URL, without a slash at the end: `s3://bucket/lake`, `file:///srv/lake`.
    pub location: String,
    /// Of the catalog, and the schema of views in Redshift and DuckDB.
    pub database: String,
    /// The role Redshift and Glue's crawlers take on: an ARN. Without one Redshift's default is named.
    pub iam_role: Option<String>,
    /// Where plain exports are, and of which tables; `None` where there are none.
    pub plain: Option<config::Plain>,
    /// The server and region of S3, as far as the configuration says.
    pub s3: S3Place,
}

/// Where readers that are not in AWS find S3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Place {
    /// Of another server than Amazon's.
    pub endpoint: Option<Url>,
    /// Whether the bucket is in the path there, and not in the host's name.
    pub path_style: bool,
    pub region: Option<String>,
}

impl Site {
    /// The site of a lake. `given` is a place that overrides `url`, the configured one.
    ///
    /// # Errors
    /// [`Error::Usage`] for a place the dialect cannot read, or a database name some reader cannot take.
    pub fn new(
        dialect: Dialect,
        url: &str,
        given: Option<&str>,
        database: &str,
        iam_role: Option<&str>,
    ) -> Result<Self> {
        let location = match given.unwrap_or(url).trim_end_matches('/') {
            place if place.contains("://") => place.to_owned(),
            folder => local(folder)?,
        };
        if dialect.is_aws() && !location.starts_with("s3://") {
            return Err(Error::usage(format!(
                "`{}` reads S3 only, and the lake is at {location}: say where it is or will be with `--location \
                 s3://BUCKET/lake`",
                dialect.name()
            )));
        }
        if !is_well_formed(database) {
            return Err(Error::usage(format!("`--database {database}`: {DATABASE_FORM}")));
        }
        let iam_role = iam_role.map(str::to_owned);
        Ok(Self { location, database: database.to_owned(), iam_role, plain: None, s3: S3Place::default() })
    }

    /// The same site with what the configuration says of S3.
    ///
    /// # Errors
    /// [`Error::Usage`] for an endpoint that is no URL.
    pub fn with_s3(self, settings: &config::S3) -> Result<Self> {
        let parse = |url: &str| {
            Url::parse(url).map_err(|error| Error::usage(format!("configuration: `s3.endpoint` is `{url}`: {error}")))
        };
        let endpoint = settings.endpoint.as_deref().map(parse).transpose()?;
        let (path_style, region) = (settings.path_style, settings.region.clone());
        Ok(Self { s3: S3Place { endpoint, path_style, region }, ..self })
    }

    /// The same site with the configured plain exports. `given` is a place that overrides the configured one.
    ///
    /// # Errors
    /// [`Error::Usage`] for a place the dialect cannot read.
    pub fn with_plain(self, dialect: Dialect, settings: &config::Plain, given: Option<&str>) -> Result<Self> {
        // The others read the lake itself.
        if settings.url.is_empty() && given.is_none() || !dialect.is_aws() {
            return Ok(self);
        }
        let url = match given.unwrap_or(&settings.url).trim_end_matches('/') {
            place if place.contains("://") => place.to_owned(),
            folder => local(folder)?,
        };
        if !url.starts_with("s3://") {
            return Err(Error::usage(format!(
                "`{}` reads S3 only, and the plain export is at {url}: say where it is or will be with `--plain-location \
                 s3://BUCKET/lake_plain`",
                dialect.name()
            )));
        }
        Ok(Self { plain: Some(config::Plain { url, tables: settings.tables.clone() }), ..self })
    }

    /// The site of a lake as its own job sees it, for the catalog it keeps.
    ///
    /// # Errors
    /// [`Error::Usage`] for a database name some reader cannot take.
    pub fn of_lake(lake: &Url, database: &str) -> Result<Self> {
        if !is_well_formed(database) {
            return Err(Error::usage(format!("configuration: `catalog.database` is `{database}`: {DATABASE_FORM}")));
        }
        let location = lake.as_str().trim_end_matches('/').to_owned();
        let database = database.to_owned();
        Ok(Self { location, database, iam_role: None, plain: None, s3: S3Place::default() })
    }

    /// Whether the lake is on S3.
    pub(super) fn is_s3(&self) -> bool {
        self.location.starts_with("s3://")
    }

    /// A table's folder, without a slash at the end.
    pub(super) fn table(&self, table: &TableOfLake) -> String {
        self.table_named(&table.contract.name)
    }

    /// The folder of the table of this name, without a slash at the end.
    pub(super) fn table_named(&self, name: &str) -> String {
        format!("{}/{name}", self.location)
    }

    /// Folder of a table's symlink manifests.
    pub(super) fn manifests(&self, table: &TableOfLake) -> String {
        self.manifests_named(&table.contract.name)
    }

    /// Folder of the symlink manifests of the table of this name.
    pub(super) fn manifests_named(&self, name: &str) -> String {
        format!("{}/{FOLDER}", self.table_named(name))
    }

    /// A table's folder of plain Parquet files, without a slash at the end, if it is exported.
    pub(super) fn plain(&self, table: &TableOfLake) -> Option<String> {
        let settings = self.plain.as_ref().filter(|settings| is_exported(settings, &table.contract))?;
        Some(format!("{}/{}", settings.url, table.contract.name))
    }
}

fn is_well_formed(database: &str) -> bool {
    database.starts_with(|c: char| c.is_ascii_lowercase())
        && database.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

fn local(folder: &str) -> Result<String> {
    let folder = std::path::absolute(Path::new(folder)).context(|| format!("cannot resolve the place `{folder}`"))?;
    let url = Url::from_directory_path(&folder)
        .map_err(|()| Error::usage(format!("the place `{}` cannot be written as a URL", folder.display())))?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aws_wants_a_bucket_and_others_take_folders() {
        let error = Site::new(Dialect::Athena, "./data/lake", None, "lake", None).unwrap_err().to_string();
        assert!(error.contains("--location s3://BUCKET/lake"), "{error}");
        let site = Site::new(Dialect::Glue, "./data/lake", Some("s3://b/lake/"), "lake", None).unwrap();
        assert_eq!(site.location, "s3://b/lake");
        let site = Site::new(Dialect::Duckdb, "./data/lake", None, "lake", None).unwrap();
        assert!(site.location.starts_with("file:///") && site.location.ends_with("/data/lake"), "{}", site.location);
        let plain = config::Plain { url: "./data/plain".to_owned(), tables: Vec::new() };
        let of = |dialect, given| {
            let site = Site::new(dialect, "s3://b/lake", None, "lake", None).unwrap();
            site.with_plain(dialect, &plain, given).map(|site| site.plain.map(|plain| plain.url))
        };
        let error = of(Dialect::Athena, None).unwrap_err().to_string();
        assert!(error.contains("--plain-location s3://BUCKET/lake_plain"), "{error}");
        assert_eq!(of(Dialect::Athena, Some("s3://b/p/")).unwrap().as_deref(), Some("s3://b/p"));
        assert_eq!(of(Dialect::Duckdb, None).unwrap(), None);
        assert!(Site::new(Dialect::Spark, "/l", None, "My Lake", None).unwrap_err().to_string().contains("--database"));
    }
}
