//! Redshift Spectrum: external tables over symlink manifests, their partitions, and views under the schema's own name.
//!
//! The one law: only what has a manifest is registered, and every partition by name, because Spectrum answers nothing and
//! says nothing about one it was not told of. It never sees a table's folder itself: files replaced by a compaction would
//! count twice.

use super::quote::{Script, lines, name, redshift_text};
use super::site::Site;
use super::tables::{Partition, TableOfLake};
use super::types::{is_time, redshift};
use crate::contract::Sink;
use crate::error::Result;

/// The external schema over the catalog's database.
pub(super) const EXTERNAL_SCHEMA: &str = "spectrum";

/// Partitions Redshift takes in one ALTER TABLE.
const PARTITIONS_MAX: usize = 100;

/// Hive's reader of files named by a manifest.
pub(super) const SYMLINK_INPUT: &str = "org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat";
/// What Hive wants beside it.
pub(super) const IGNORE_KEY_OUTPUT: &str = "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat";
/// How Hive reads rows of Parquet.
pub(super) const PARQUET_SERDE: &str = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe";

/// The script of this dialect alone.
pub(super) fn script(site: &Site, tables: &[TableOfLake]) -> Result<String> {
    let mut script = Script::new("Lakeward's tables in Redshift Spectrum. Run it in Redshift, outside a transaction.");
    external(site, tables, &mut script)?;
    Ok(script.finish())
}

/// External schema, tables, partitions and views.
pub(super) fn external(site: &Site, tables: &[TableOfLake], script: &mut Script) -> Result<()> {
    script.comment(
        "External tables read symlink manifests (`_symlink_format_manifest/`). Times are UTC. CREATE EXTERNAL TABLE knows\n\
         no IF NOT EXISTS: on a second run it fails where the table is, and the rest still runs.",
    );
    script.statement(format!(
        "CREATE EXTERNAL SCHEMA IF NOT EXISTS {}\nFROM DATA CATALOG DATABASE {}\nIAM_ROLE {}\nCREATE EXTERNAL DATABASE \
         IF NOT EXISTS",
        name(EXTERNAL_SCHEMA),
        redshift_text(&site.database),
        role(site)
    ));
    script.statement(format!("CREATE SCHEMA IF NOT EXISTS {}", name(&site.database)));
    for table in tables {
        script.comment(&table.headline());
        if table.contract.sinks.contains(&Sink::Spectrum) {
            let external = format!("{}_spectrum", table.contract.name);
            let stored = format!(
                "ROW FORMAT SERDE {}\nSTORED AS INPUTFORMAT {}\nOUTPUTFORMAT {}",
                redshift_text(PARQUET_SERDE),
                redshift_text(SYMLINK_INPUT),
                redshift_text(IGNORE_KEY_OUTPUT)
            );
            create(table, &external, "date", &stored, &site.manifests(table), script)?;
            script.statement(view(site, table, &external));
        } else {
            script.comment("without manifests: its contract has no sink `spectrum`");
        }
        if let Some(place) = site.plain(table) {
            script.comment(&format!("{}: its export of closed dates as plain Parquet files", table.contract.name));
            let plain = format!("{}_plain", table.contract.name);
            create(table, &plain, "varchar(10)", "STORED AS PARQUET", &place, script)?;
        }
    }
    Ok(())
}

/// The role as Redshift is told it.
pub(super) fn role(site: &Site) -> String {
    site.iam_role.as_deref().map_or_else(|| "default".to_owned(), redshift_text)
}

/// An external table and its partitions.
fn create(
    table: &TableOfLake,
    external: &str,
    partition_type: &str,
    stored: &str,
    location: &str,
    script: &mut Script,
) -> Result<()> {
    let columns = table.file_columns().map(|column| Ok(format!("{} {}", name(&column.name), redshift(column)?)));
    let external = format!("{}.{}", name(EXTERNAL_SCHEMA), name(external));
    let by = name(&table.contract.partition_by);
    script.statement(format!(
        "CREATE EXTERNAL TABLE {external} (\n{}\n)\nPARTITIONED BY ({by} {partition_type})\n{stored}\nLOCATION {}",
        lines(columns.collect::<Result<Vec<_>>>()?),
        redshift_text(&format!("{location}/")),
    ));
    let partition = |partition: &Partition| {
        let folder = format!("{location}/{}/", table.folder(partition));
        format!("PARTITION ({by}={}) LOCATION {}", redshift_text(&partition.date), redshift_text(&folder))
    };
    for some in table.partitions.chunks(PARTITIONS_MAX) {
        let some: Vec<String> = some.iter().map(partition).collect();
        script.statement(format!("ALTER TABLE {external} ADD IF NOT EXISTS\n{}", some.join("\n")));
    }
    Ok(())
}

/// Bound late, because Redshift allows no other view over an external table.
fn view(site: &Site, table: &TableOfLake, external: &str) -> String {
    let columns = table.contract.columns.iter().map(|column| {
        let quoted = name(&column.name);
        if is_time(column) { format!("CAST({quoted} AS timestamp) AS {quoted}") } else { quoted }
    });
    format!(
        "CREATE OR REPLACE VIEW {}.{} AS\nSELECT\n{}\nFROM {}.{}\nWITH NO SCHEMA BINDING",
        name(&site.database),
        name(&format!("{}_v", table.contract.name)),
        lines(columns),
        name(EXTERNAL_SCHEMA),
        name(external)
    )
}
