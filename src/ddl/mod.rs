//! The lake in the words of its readers: complete scripts that make its tables known to Athena, Redshift, Glue, DuckDB
//! and Spark.
//!
//! The one law: a script says nothing of its own. Columns, types, comments and sort orders are the contracts', partitions
//! and files are the Delta logs'; and every script can be run again. Nothing here talks to a catalog or writes to the
//! lake.
//!
//! Which form a reader accepts is from its documentation (Athena: "Query Delta Lake tables"; Redshift: CREATE EXTERNAL
//! TABLE, COPY from columnar data formats; Glue: CreateTable, CreateCrawler). None of it was run on AWS.

mod athena;
mod duckdb;
pub mod glue;
mod quote;
mod redshift;
mod site;
mod spark;
mod spectrum;
mod tables;
#[cfg(test)]
mod tests;
mod types;

use crate::error::Result;

pub use site::{S3Place, Site};
pub use tables::{Partition, TableOfLake, tables_of};

/// Who reads the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// Athena, engine version 3: native Delta tables, and views without time zones.
    Athena,
    /// Redshift Spectrum: external schema, tables over symlink manifests, partitions, views.
    Spectrum,
    /// All of `spectrum`, and tables of Redshift's own, loaded by COPY from the lake's files.
    Redshift,
    /// Inputs of Glue's API as one JSON document: database, tables, partitions, crawlers.
    Glue,
    /// Views over `delta_scan`.
    Duckdb,
    /// Spark with Delta: tables by location.
    Spark,
}

impl Dialect {
    /// Every dialect, as they are listed.
    pub const ALL: [Self; 6] = [Self::Athena, Self::Spectrum, Self::Redshift, Self::Glue, Self::Duckdb, Self::Spark];

    /// As the command line calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Athena => "athena",
            Self::Spectrum => "spectrum",
            Self::Redshift => "redshift",
            Self::Glue => "glue",
            Self::Duckdb => "duckdb",
            Self::Spark => "spark",
        }
    }

    /// Whether it reads objects of S3 and nothing else.
    pub fn is_aws(self) -> bool {
        !matches!(self, Self::Duckdb | Self::Spark)
    }
}

/// The whole script for these tables: SQL, or JSON for Glue; ends with a line break.
///
/// # Errors
/// [`crate::Error::Usage`] for a column of a type the reader does not know.
pub fn script(dialect: Dialect, site: &Site, tables: &[TableOfLake]) -> Result<String> {
    match dialect {
        Dialect::Athena => athena::script(site, tables),
        Dialect::Spectrum => spectrum::script(site, tables),
        Dialect::Redshift => redshift::script(site, tables),
        Dialect::Glue => glue::document(site, tables),
        Dialect::Duckdb => Ok(duckdb::script(site, tables)),
        Dialect::Spark => Ok(spark::script(site, tables)),
    }
}
