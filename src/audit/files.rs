//! Data files against what is said of them (invariant 5): each exists, has its size, and holds as many rows.
//!
//! The one law: the size comes from the store and the rows from the file's own footer; no page is read.

use std::sync::Arc;

use futures::StreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;

use super::commits::Logs;
use super::finding::Kind as Found;
use super::log::FileEntry;
use super::report::Report;
use crate::error::{Error, Result};

/// Files looked at at once: each costs a HEAD and a small read.
const FILES_AT_ONCE: usize = 16;

/// Bytes read from a file's end at first: footers of this lake's tables have a few KiB for each row group.
const TAIL_BYTES: u64 = 64 << 10;

/// What is wrong with one file.
type Damage = Option<(Found, String)>;

/// Looks at every file that is live in any log up to the published epoch, and adds the tables to the books.
///
/// # Errors
/// [`Error::External`] when the store does not answer.
pub(super) async fn check(
    store: &Arc<dyn ObjectStore>,
    logs: &Logs,
    app_id: &str,
    published: Option<u64>,
    report: &mut Report,
) -> Result<()> {
    for (table, log) in logs {
        let live = log.live(app_id, published);
        let books = report.tables.entry(Arc::clone(table)).or_default();
        books.files = live.len() as u64;
        books.rows = live.values().filter_map(|file| file.rows).sum();
        books.bytes = live.values().map(|file| file.bytes).sum();
        let files: Vec<FileEntry> = live.into_values().cloned().collect();
        let mut checks = futures::stream::iter(files)
            .map(|file| {
                let (store, table) = (Arc::clone(store), Arc::clone(table));
                async move {
                    let damage = damage_of(&store, &table, &file).await;
                    (file, damage)
                }
            })
            .buffered(FILES_AT_ONCE);
        while let Some((file, damage)) = checks.next().await {
            if let Some((kind, what)) = damage? {
                report.find(kind, format!("`{table}/{}`", file.path), what);
            }
        }
    }
    Ok(())
}

async fn damage_of(store: &Arc<dyn ObjectStore>, table: &str, file: &FileEntry) -> Result<Damage> {
    let Ok(path) = Path::parse(format!("{table}/{}", file.path)) else {
        return Ok(Some((Found::MissingFile, "its name is no path of a store".into())));
    };
    let found = match store.head(&path).await {
        Ok(found) => found,
        Err(StoreError::NotFound { .. }) => return Ok(Some((Found::MissingFile, "it is not in the store".into()))),
        Err(error) => return Err(Error::external(format!("looking for `{path}`"), error)),
    };
    if found.size != file.bytes {
        return Ok(Some((Found::WrongSize, format!("{} bytes, its Add says {}", found.size, file.bytes))));
    }
    Ok(match footer_rows(store, &path, found.size).await? {
        Err(error) => Some((Found::WrongFooter, format!("its footer cannot be read: {error}"))),
        Ok(rows) if Some(rows) != file.rows => {
            let says = file.rows.map_or_else(|| "nothing".into(), |rows| rows.to_string());
            Some((Found::WrongFooter, format!("{rows} rows, its Add says {says}")))
        }
        Ok(_) => None,
    })
}

/// Rows as the footer says; the inner error is the file's fault, the outer the store's.
async fn footer_rows(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    size: u64,
) -> Result<std::result::Result<u64, ParquetError>> {
    let mut tail = TAIL_BYTES.min(size);
    loop {
        let bytes = store.get_range(path, size - tail..size).await;
        let bytes = bytes.map_err(|error| Error::external(format!("reading the footer of `{path}`"), error))?;
        let mut reader = ParquetMetaDataReader::new();
        match reader.try_parse_sized(&bytes, size) {
            Ok(()) => {}
            Err(ParquetError::NeedMoreData(needed)) if needed as u64 > tail && needed as u64 <= size => {
                tail = needed as u64;
                continue;
            }
            Err(error) => return Ok(Err(error)),
        }
        let rows = reader.finish().map(|metadata| metadata.file_metadata().num_rows());
        return Ok(rows.map(|rows| u64::try_from(rows).unwrap_or(0)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use object_store::PutPayload;
    use object_store::memory::InMemory;
    use parquet::arrow::ArrowWriter;

    use super::super::log::{Commit, TableLog};
    use super::*;

    fn parquet(rows: i64) -> Vec<u8> {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    async fn found(stored: Option<Vec<u8>>, bytes: usize, rows: u64) -> Vec<Found> {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        if let Some(stored) = stored {
            store.put(&Path::from("t/f.parquet"), PutPayload::from(stored)).await.unwrap();
        }
        let file = FileEntry {
            path: "f.parquet".into(),
            bytes: bytes as u64,
            rows: Some(rows),
            partition: BTreeMap::new(),
            data_change: true,
        };
        let commit = Commit { version: 1, adds: vec![file], ..Commit::default() };
        let logs = Logs::from([("t".into(), TableLog { commits: vec![commit], ..TableLog::default() })]);
        let mut report = Report::default();
        check(&store, &logs, "app", None, &mut report).await.unwrap();
        report.findings.iter().map(|finding| finding.kind).collect()
    }

    #[tokio::test]
    async fn a_file_is_what_its_add_says_or_named() {
        let file = parquet(100);
        let size = file.len();
        assert!(found(Some(file.clone()), size, 100).await.is_empty());
        assert_eq!(found(None, size, 100).await, [Found::MissingFile]);
        assert_eq!(found(Some(file[..size / 2].to_vec()), size, 100).await, [Found::WrongSize]);
        assert_eq!(found(Some(file.clone()), size, 99).await, [Found::WrongFooter]);
        assert_eq!(found(Some(vec![0; size]), size, 100).await, [Found::WrongFooter]);
    }

    #[tokio::test]
    async fn a_footer_longer_than_the_first_read_is_read_again() {
        // One row group a row makes a long footer.
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..2_000));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        for row in 0..batch.num_rows() {
            writer.write(&batch.slice(row, 1)).unwrap();
            writer.flush().unwrap();
        }
        let file = writer.into_inner().unwrap();
        let size = file.len();
        assert!(size as u64 > 2 * TAIL_BYTES);
        assert!(found(Some(file), size, 2_000).await.is_empty());
    }
}
