//! Spark with Delta Lake: tables by location.
//!
//! The one law: columns, comments and partitions come from the Delta log and are not said a second time.

use super::quote::{Script, hive_name, hive_text};
use super::site::Site;
use super::tables::{TableOfLake, readable};

/// The script.
pub(super) fn script(site: &Site, tables: &[TableOfLake]) -> String {
    let mut script = Script::new(
        "Lakeward's tables in Spark 3.5 or 4 with Delta Lake:\n\
         --conf spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension\n\
         --conf spark.sql.catalog.spark_catalog=org.apache.spark.sql.delta.catalog.DeltaCatalog\n\
         Outside EMR and Glue, S3 is read by the scheme s3a: `--location s3a://BUCKET/lake`.\n\
         A Delta timestamp is a moment; the session's zone decides how it is shown and cut into days.",
    );
    script.statement("SET spark.sql.session.timeZone = UTC");
    script.statement(format!("CREATE DATABASE IF NOT EXISTS {}", hive_name(&site.database)));
    for (table, is_readable) in readable(tables) {
        script.comment(&table.headline());
        if !is_readable {
            script.comment("left out: it is not in the lake yet");
            continue;
        }
        script.statement(format!(
            "CREATE TABLE IF NOT EXISTS {}.{} USING DELTA LOCATION {}",
            hive_name(&site.database),
            hive_name(&table.contract.name),
            hive_text(&site.table(table))
        ));
    }
    script.finish()
}
