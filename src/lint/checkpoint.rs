//! Checkpoints: one file, an index for every column, and a `_last_checkpoint` that tells the truth.
//!
//! The one law: what is asked of a checkpoint is what readers have failed on, and that it is no longer than it has to be; a
//! log without one is no finding here.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::basic::CompressionCodec;
use parquet::file::metadata::{PageIndexPolicy, RowGroupMetaData};
use serde::Deserialize;

use super::files::{self, Footer};
use super::layout::{LOG, Objects, part_count};
use super::log::TableLog;
use super::{Linted, Rule};
use crate::error::{Context, Result};

#[derive(Debug, Deserialize)]
struct LastCheckpoint {
    version: u64,
    parts: Option<u64>,
}

/// Judges the newest checkpoint, and what `_last_checkpoint` says of it.
///
/// # Errors
/// As [`super::lint`].
pub(super) async fn check(
    store: &Arc<dyn ObjectStore>,
    log: &TableLog,
    objects: &Objects,
    linted: &mut Linted,
) -> Result<()> {
    last_checkpoint(store, objects, linted).await?;
    for (version, parts) in objects.checkpoints() {
        for part in &parts {
            let name = part.filename().unwrap_or_default();
            if part_count(part).is_some() {
                linted.find(Rule::Checkpoint, part.to_string(), "it is written in parts");
            } else if name != format!("{version:020}.checkpoint.parquet") {
                linted.find(Rule::Checkpoint, part.to_string(), "it is of version 2");
            }
        }
    }
    for part in log.checkpoint.iter().flat_map(|(_, parts)| parts) {
        let Some(size) = objects.size(part.as_ref()) else { continue };
        if let Footer::Read(footer) = files::footer(store, part, size, PageIndexPolicy::Skip).await? {
            let mut columns = footer.row_groups().iter().flat_map(RowGroupMetaData::columns);
            let without = columns.clone().find(|column| !files::has_page_index(column));
            if let Some(column) = without.map(|column| column.column_path().string()) {
                linted.find(Rule::Checkpoint, part.to_string(), format!("its column `{column}` has no page index"));
            }
            let codecs = [CompressionCodec::SNAPPY, CompressionCodec::GZIP];
            if let Some(other) = columns.find(|column| !codecs.contains(&column.compression_codec())) {
                let (column, codec) = (other.column_path().string(), other.compression_codec());
                linted.find(Rule::CheckpointCodec, part.to_string(), format!("its column `{column}` is {codec:?}"));
            }
        }
    }
    Ok(())
}

async fn last_checkpoint(store: &Arc<dyn ObjectStore>, objects: &Objects, linted: &mut Linted) -> Result<()> {
    let path = Path::from(format!("{LOG}/_last_checkpoint"));
    if !objects.has(&path) {
        return Ok(());
    }
    let doing = || format!("reading `{path}`");
    let bytes = store.get(&path).await.context(doing)?.bytes().await.context(doing)?;
    match serde_json::from_slice::<LastCheckpoint>(&bytes) {
        Err(error) => linted.find(Rule::Checkpoint, path.to_string(), format!("it cannot be read: {error}")),
        Ok(last) => {
            if let Some(parts) = last.parts {
                linted.find(Rule::Checkpoint, path.to_string(), format!("it holds `parts` ({parts})"));
            }
            if !objects.checkpoints().contains_key(&last.version) {
                linted.find(
                    Rule::Checkpoint,
                    path.to_string(),
                    format!("it names version {}, which is not there", last.version),
                );
            }
        }
    }
    Ok(())
}
