//! DuckDB: a schema of views over `delta_scan`.
//!
//! The one law: a view names its columns, so that a column added to the lake shows when the script is rendered again and
//! not before. Nothing is copied into the database, and nothing of the script but its views stays there.

use std::fmt::Write;

use url::Position;

use super::quote::{Script, lines, name, text};
use super::site::{S3Place, Site};
use super::tables::{TableOfLake, readable};

/// The script.
pub(super) fn script(site: &Site, tables: &[TableOfLake]) -> String {
    let mut script = Script::new(
        "Lakeward's tables as views of DuckDB, for `duckdb -init <this file>`. Every query reads the newest version of its tables.\n\
         Times are TIMESTAMP WITH TIME ZONE; SET TimeZone decides how they are shown and cut into days.",
    );
    script.statement("INSTALL delta");
    script.statement("LOAD delta");
    if site.is_s3() {
        script.comment("Credentials as the AWS command line finds them, which are not kept.");
        for extension in ["httpfs", "aws"] {
            script.statement(format!("INSTALL {extension}"));
            script.statement(format!("LOAD {extension}"));
        }
        script.statement(secret(&site.s3));
    }
    script.statement("SET TimeZone = 'UTC'");
    script.statement(format!("CREATE SCHEMA IF NOT EXISTS {}", name(&site.database)));
    for (table, is_readable) in readable(tables) {
        let contract = &table.contract;
        script.comment(&table.headline());
        if !is_readable {
            // `delta_scan` of a folder without a log would end the whole script.
            script.comment("left out: it is not in the lake yet");
            continue;
        }
        let view = format!("{}.{}", name(&site.database), name(&contract.name));
        script.statement(format!(
            "CREATE OR REPLACE VIEW {view} AS\nSELECT\n{}\nFROM delta_scan({})",
            lines(contract.columns.iter().map(|column| name(&column.name))),
            text(&site.table(table))
        ));
        if !contract.comment.is_empty() {
            script.statement(format!("COMMENT ON VIEW {view} IS {}", text(&contract.comment)));
        }
        for column in contract.columns.iter().filter(|column| !column.comment.is_empty()) {
            script.statement(format!("COMMENT ON COLUMN {view}.{} IS {}", name(&column.name), text(&column.comment)));
        }
    }
    script.finish()
}

fn secret(s3: &S3Place) -> String {
    let mut options = "TYPE s3, PROVIDER credential_chain".to_owned();
    if let Some(region) = &s3.region {
        let _ = write!(options, ", REGION {}", text(region));
    }
    if let Some(endpoint) = &s3.endpoint {
        let host = &endpoint[Position::BeforeHost..Position::AfterPort];
        let (style, is_tls) = (if s3.path_style { "path" } else { "vhost" }, endpoint.scheme() == "https");
        let _ = write!(options, ", ENDPOINT {}, URL_STYLE {}, USE_SSL {is_tls}", text(host), text(style));
    }
    format!("CREATE OR REPLACE SECRET lakeward ({options})")
}
