//! Data files: there, of the size the log says, and Parquet as every reader has it.
//!
//! The one law: only footers are read, each once; rules are about what a footer says, column chunk by column chunk.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytesize::ByteSize;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::basic::{CompressionCodec, ConvertedType, Encoding, LogicalType, PageType, TimeUnit, Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, PageEncodingStats, PageIndexPolicy, ParquetMetaData, ParquetMetaDataOptions,
    ParquetMetaDataReader, RowGroupMetaData,
};
use parquet::schema::types::ColumnDescriptor;

use super::columns::decimal;
use super::layout::Objects;
use super::log::{Column, LiveFile, TableLog};
use super::{Linted, Rule, order};
use crate::error::{Error, Result};

/// Footers read at once.
const READS_MAX: usize = 16;

/// Bytes read from a file's end at first: most footers are shorter.
const TAIL_BYTES: u64 = 64 << 10;

/// A file that one worker reads for minutes.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// A row group that a reader's memory feels, uncompressed.
const ROW_GROUP_BYTES_MAX: i64 = 1 << 30;

/// A footer, or why it is none.
pub(super) enum Footer {
    Read(Box<ParquetMetaData>),
    Broken(ParquetError),
}

/// Judges every live file.
///
/// # Errors
/// As [`super::lint`].
pub(super) async fn check(
    store: &Arc<dyn ObjectStore>,
    log: &TableLog,
    objects: &Objects,
    linted: &mut Linted,
) -> Result<()> {
    let named = log.files.iter().filter(|(_, file)| !file.is_absolute);
    // What goes into the reads is owned by them.
    let named: Vec<(String, Option<u64>)> = named.map(|(path, _)| (path.clone(), objects.size(path))).collect();
    // Pages are looked at where the table says in which order they should be.
    let pages = if log.sort_by().next().is_some() { PageIndexPolicy::Optional } else { PageIndexPolicy::Skip };
    let mut footers = futures::stream::iter(named)
        .map(|(path, size)| {
            let store = Arc::clone(store);
            async move {
                let Some(size) = size else { return Ok((path, None)) };
                let footer = match Path::parse(&path) {
                    Ok(place) => footer(&store, &place, size, pages).await?,
                    Err(error) => Footer::Broken(ParquetError::General(error.to_string())),
                };
                Ok::<_, Error>((path, Some((size, footer))))
            }
        })
        .buffered(READS_MAX);
    while let Some((path, found)) = footers.try_next().await? {
        match found {
            None => linted.find(Rule::MissingFile, path, "the log names it and the store does not have it"),
            Some((size, Footer::Broken(error))) => {
                let what = format!("{}: its footer cannot be read: {error}", ByteSize::b(size));
                linted.find(Rule::WrongFile, path, what);
            }
            Some((size, Footer::Read(footer))) => {
                let Some(file) = log.files.get(&path) else { continue };
                judge(&path, file, size, &footer, log, linted);
            }
        }
    }
    Ok(())
}

/// Reads a file's footer, and the ranges of its pages if they are wanted.
///
/// # Errors
/// [`Error::External`] when the store does not answer.
pub(super) async fn footer(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    size: u64,
    pages: PageIndexPolicy,
) -> Result<Footer> {
    let mut tail = TAIL_BYTES.min(size);
    loop {
        let bytes = store.get_range(path, size - tail..size).await;
        let bytes = bytes.map_err(|error| Error::external(format!("reading the footer of `{path}`"), error))?;
        let mut reader =
            ParquetMetaDataReader::new().with_metadata_options(Some(with_page_kinds())).with_column_index_policy(pages);
        match reader.try_parse_sized(&bytes, size) {
            Ok(()) => {}
            Err(ParquetError::NeedMoreData(needed)) if needed as u64 > tail && needed as u64 <= size => {
                tail = needed as u64;
                continue;
            }
            Err(error) => return Ok(Footer::Broken(error)),
        }
        return Ok(reader.finish().map_or_else(Footer::Broken, |footer| Footer::Read(Box::new(footer))));
    }
}

fn judge(path: &str, file: &LiveFile, size: u64, footer: &ParquetMetaData, log: &TableLog, linted: &mut Linted) {
    let rows = u64::try_from(footer.file_metadata().num_rows()).unwrap_or(0);
    if size != file.bytes {
        linted.find(Rule::WrongFile, path, format!("it has {size} bytes, and {} in the log", file.bytes));
    }
    if let Some(says) = file.rows.filter(|says| *says != rows) {
        linted.find(Rule::WrongFile, path, format!("it has {rows} rows, and {says} in the log"));
    }
    if size > FILE_BYTES_MAX {
        linted.find(Rule::FileSize, path, format!("it has {}", ByteSize::b(size)));
    }
    if let Some(group) = footer.row_groups().iter().find(|group| group.total_byte_size() > ROW_GROUP_BYTES_MAX) {
        let bytes = ByteSize::b(u64::try_from(group.total_byte_size()).unwrap_or(0));
        linted.find(Rule::FileSize, path, format!("a row group of it has {bytes} uncompressed"));
    }
    let schema = footer.file_metadata().schema_descr();
    let roots: BTreeSet<&str> = (0..schema.num_columns()).map(|leaf| schema.get_column_root(leaf).name()).collect();
    for column in log.columns.iter().filter(|column| !log.partition_by.contains(&column.name)) {
        present(path, column, &roots, linted);
    }
    for descriptor in schema.columns() {
        stranger(path, descriptor, linted);
        let Some(column) = log.column(&descriptor.path().string()) else { continue };
        if let Some(declared) = column.data_type.as_str() {
            typed(path, &column.name, declared, descriptor, linted);
        }
    }
    for group in footer.row_groups() {
        for chunk in group.columns() {
            chunk_of(path, chunk, linted);
        }
    }
    indexed(path, footer, linted);
    order::check(path, footer, log, linted);
}

/// Whether a declared column is there, under its very name.
fn present(path: &str, column: &Column, roots: &BTreeSet<&str>, linted: &mut Linted) {
    if roots.contains(column.name.as_str()) {
        return;
    }
    if roots.contains(column.physical()) {
        linted.find(
            Rule::FileColumn,
            path,
            format!("its column `{}` is mapped to `{}`", column.physical(), column.name),
        );
        return;
    }
    let other = roots.iter().find(|root| root.eq_ignore_ascii_case(&column.name));
    if let Some(other) = other {
        linted.find(Rule::FileColumn, path, format!("its column `{other}` is declared as `{}`", column.name));
    } else if !column.nullable {
        linted.find(Rule::FileColumn, path, format!("it has no column `{}`, which is NOT NULL", column.name));
    }
}

/// What no column of any file may be, declared or not.
fn stranger(path: &str, column: &ColumnDescriptor, linted: &mut Linted) {
    let name = column.path().string();
    if is_unsigned(column) {
        linted.find(Rule::Unsigned, path, format!("its column `{name}` is unsigned"));
    }
    if let Some(LogicalType::Timestamp(time)) = column.logical_type_ref() {
        if time.unit == TimeUnit::NANOS {
            linted.find(Rule::FileTime, path, format!("its column `{name}` counts nanoseconds"));
        }
        if !time.is_adjusted_to_u_t_c {
            linted.find(Rule::FileTime, path, format!("its column `{name}` is not adjusted to UTC"));
        }
    }
}

fn is_unsigned(column: &ColumnDescriptor) -> bool {
    match column.logical_type_ref() {
        Some(LogicalType::Integer(int)) => !int.is_signed,
        Some(_) => false,
        None => matches!(
            column.converted_type(),
            ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64
        ),
    }
}

/// Whether a column is stored as what is declared.
fn typed(path: &str, name: &str, declared: &str, column: &ColumnDescriptor, linted: &mut Linted) {
    let stored = column.physical_type();
    let is_right = match declared {
        "string" => stored == Type::BYTE_ARRAY && is_text(column),
        "binary" => stored == Type::BYTE_ARRAY && !is_text(column),
        "long" => stored == Type::INT64 && is_integer(column, 64),
        "integer" => stored == Type::INT32 && is_integer(column, 32),
        "short" => stored == Type::INT32 && is_integer(column, 16),
        "byte" => stored == Type::INT32 && is_integer(column, 8),
        "boolean" => stored == Type::BOOLEAN,
        "float" => stored == Type::FLOAT,
        "double" => stored == Type::DOUBLE,
        "date" => stored == Type::INT32 && column.converted_type() == ConvertedType::DATE,
        // INT96 is what Spark writes by default, and is read everywhere.
        "timestamp" => stored == Type::INT96 || (stored == Type::INT64 && is_time(column)),
        other => match decimal(other) {
            Some(wanted) => (column.type_precision(), column.type_scale()) == wanted,
            None => true,
        },
    };
    if !is_right {
        let kind = column.logical_type_ref().map_or_else(String::new, |kind| format!(" ({kind:?})"));
        linted.find(
            Rule::FileColumn,
            path,
            format!("its column `{name}` is stored as {stored}{kind} and declared {declared}"),
        );
    }
}

fn is_text(column: &ColumnDescriptor) -> bool {
    column.converted_type() == ConvertedType::UTF8
}

fn is_time(column: &ColumnDescriptor) -> bool {
    matches!(column.logical_type_ref(), Some(LogicalType::Timestamp(_)))
        || matches!(column.converted_type(), ConvertedType::TIMESTAMP_MICROS | ConvertedType::TIMESTAMP_MILLIS)
}

/// An integer of so many bits; unsigned ones have a rule of their own. Full widths need no annotation.
fn is_integer(column: &ColumnDescriptor, bits: i8) -> bool {
    match column.logical_type_ref() {
        Some(LogicalType::Integer(int)) => int.bit_width == bits,
        Some(_) => false,
        None => bits >= 32 && column.converted_type() == ConvertedType::NONE,
    }
}

fn chunk_of(path: &str, chunk: &ColumnChunkMetaData, linted: &mut Linted) {
    let name = chunk.column_path().string();
    let codec = chunk.compression_codec();
    if !matches!(codec, CompressionCodec::SNAPPY | CompressionCodec::GZIP | CompressionCodec::UNCOMPRESSED) {
        linted.find(Rule::Compression, path, format!("its column `{name}` is compressed with {codec:?}"));
    }
    let odd = |encoding: &Encoding| {
        matches!(
            encoding,
            Encoding::DELTA_BINARY_PACKED
                | Encoding::DELTA_BYTE_ARRAY
                | Encoding::DELTA_LENGTH_BYTE_ARRAY
                | Encoding::BYTE_STREAM_SPLIT
        )
    };
    let second = |pages: &Vec<PageEncodingStats>| pages.iter().any(|page| page.page_type == PageType::DATA_PAGE_V2);
    if let Some(encoding) = chunk.encodings().find(odd) {
        linted.find(Rule::Encoding, path, format!("its column `{name}` is encoded as {encoding}"));
    } else if chunk.page_encoding_stats().is_some_and(second) {
        linted.find(Rule::Encoding, path, format!("its column `{name}` has pages of version 2"));
    }
    if chunk.statistics().is_none() && chunk.num_values() > 0 && !is_flag(chunk) {
        linted.find(Rule::FileStatistics, path, format!("its column `{name}` has no statistics"));
    }
}

/// Writers index the pages of all columns, or of none.
fn indexed(path: &str, footer: &ParquetMetaData, linted: &mut Linted) {
    let chunks = footer.row_groups().iter().flat_map(RowGroupMetaData::columns);
    let without = chunks.filter(|chunk| chunk.num_values() > 0 && !has_page_index(chunk));
    let names: BTreeSet<String> = without.map(|chunk| chunk.column_path().string()).collect();
    if let Some(name) = names.first() {
        let others = match names.len() - 1 {
            0 => String::new(),
            others => format!(", nor have {others} others"),
        };
        linted.find(Rule::PageIndex, path, format!("its column `{name}` has no index of its pages{others}"));
    }
}

/// Whether a reader can tell which pages of a column hold what, and where they lie.
pub(super) fn has_page_index(chunk: &ColumnChunkMetaData) -> bool {
    chunk.column_index_offset().is_some() && chunk.offset_index_offset().is_some()
}

/// Ranges of booleans leave nothing out.
fn is_flag(chunk: &ColumnChunkMetaData) -> bool {
    chunk.column_type() == Type::BOOLEAN
}

/// Page kinds one by one: whether any is of the second version.
fn with_page_kinds() -> ParquetMetaDataOptions {
    ParquetMetaDataOptions::new().with_encoding_stats_as_mask(false)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch};
    use object_store::PutPayload;
    use object_store::memory::InMemory;
    use parquet::arrow::ArrowWriter;

    use super::*;

    #[tokio::test]
    async fn a_file_of_gigabytes_is_too_large_for_one_worker() {
        let rows = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1])) as _)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        let bytes = writer.into_inner().unwrap();
        let (store, path): (Arc<dyn ObjectStore>, _) = (Arc::new(InMemory::new()), Path::from("f.parquet"));
        let size = bytes.len() as u64;
        store.put(&path, PutPayload::from(bytes)).await.unwrap();
        let footer = footer(&store, &path, size, PageIndexPolicy::Skip).await.unwrap();
        let Footer::Read(footer) = footer else { panic!("no footer") };
        for (size, rules) in [(FILE_BYTES_MAX, vec![]), (FILE_BYTES_MAX + 1, vec![Rule::FileSize])] {
            let mut linted = Linted::default();
            let file = LiveFile { bytes: size, ..LiveFile::default() };
            judge("f.parquet", &file, size, &footer, &TableLog::default(), &mut linted);
            assert_eq!(linted.findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(), rules);
        }
    }
}
