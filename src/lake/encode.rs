//! Encoding: rows of one partition become Parquet files in memory, in the contract's order.
//!
//! The one law: what the footer says is what the lake contract wants: SNAPPY, writer 1.0, plain Parquet types.
//! It is pure computation, run on the blocking pool by staging.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{LexicographicalComparator, SortColumn, interleave, interleave_record_batch, lexsort_to_indices};
use arrow::datatypes::{Date32Type, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use super::schema::Layout;
use super::stats::FileStats;
use crate::error::{Context, Result};

/// A file is closed when it has grown to this: the upper end of what Athena and Spectrum scan best.
const FILE_BYTES_MAX: usize = 256 << 20;
/// The lake contract's row group; a reader's unit of work, and of memory here.
const ROW_GROUP_BYTES_MAX: usize = 128 << 20;
/// A value that is not there is looked for in vain in one row group of a hundred: ten bits a value.
const BLOOM_FALSE_SHARE: f64 = 0.01;
/// The lake contract's page.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Rows gathered and encoded at once: big enough to amortise a column's switch, a few megabytes of wide rows.
const GATHER_ROWS: usize = 32_768;
/// Where a row is: (batch, row).
pub(super) type RowIndex = (usize, usize);

/// One finished file.
pub(super) struct Encoded {
    pub(super) bytes: Vec<u8>,
    pub(super) stats: FileStats,
}

/// Rows of each partition value, in the order they came.
pub(super) fn split(batches: &[RecordBatch], partition: usize) -> BTreeMap<i32, Vec<RowIndex>> {
    let mut partitions: BTreeMap<i32, Vec<RowIndex>> = BTreeMap::new();
    for (batch, rows) in batches.iter().enumerate() {
        let dates = rows.column(partition).as_primitive::<Date32Type>().values();
        let mut start = 0;
        // Neighbours mostly share their date: one look-up a run, not one a row.
        for run in dates.chunk_by(|a, b| a == b) {
            let rows = start..start + run.len();
            start = rows.end;
            partitions.entry(run[0]).or_default().extend(rows.map(|row| (batch, row)));
        }
    }
    partitions
}

/// What all partitions of one call share.
pub(super) struct Source {
    /// All columns.
    pub(super) batches: Vec<RecordBatch>,
    /// The columns that go into files.
    pub(super) rows: Vec<RecordBatch>,
    pub(super) layout: Layout,
    /// Of the files.
    pub(super) schema: SchemaRef,
}

impl Source {
    /// Encodes rows of one partition as one file, or several when it grows too big.
    pub(super) fn encode(&self, rows: Vec<RowIndex>) -> Result<Vec<Encoded>> {
        let rows = self.sorted(rows)?;
        let batches: Vec<&RecordBatch> = self.rows.iter().collect();
        let mut files = Vec::new();
        let mut open = None;
        for rows in rows.chunks(GATHER_ROWS) {
            let chunk = interleave_record_batch(&batches, rows).context(|| "cannot gather rows for a file")?;
            let (mut writer, mut stats) = match open.take() {
                Some(open) => open,
                None => (writer(&self.layout, &self.schema, Standing::Fresh)?, FileStats::new(&self.schema)),
            };
            writer.write(&chunk).context(|| "cannot encode rows as Parquet")?;
            stats.observe(&chunk)?;
            if writer.bytes_written() + writer.in_progress_size() >= FILE_BYTES_MAX {
                files.push(finish(writer, stats)?);
            } else {
                open = Some((writer, stats));
            }
        }
        if let Some((writer, stats)) = open {
            files.push(finish(writer, stats)?);
        }
        Ok(files)
    }

    /// The rows in the contract's order; equal ones in no particular order.
    fn sorted(&self, rows: Vec<RowIndex>) -> Result<Vec<RowIndex>> {
        if self.layout.sort.is_empty() {
            return Ok(rows);
        }
        let what = || "cannot sort rows";
        let keys = self.layout.sort.iter().map(|&column| {
            let arrays: Vec<&dyn Array> = self.batches.iter().map(|batch| batch.column(column).as_ref()).collect();
            let values: ArrayRef = interleave(&arrays, &rows).context(what)?;
            Ok(SortColumn { values, options: None })
        });
        let keys: Vec<SortColumn> = keys.collect::<Result<_>>()?;
        let order = LexicographicalComparator::try_new(&keys).context(what)?;
        if (1..rows.len()).all(|row| order.compare(row - 1, row) != Ordering::Greater) {
            return Ok(rows);
        }
        let indices = lexsort_to_indices(&keys, None).context(what)?;
        Ok(indices.values().iter().map(|&index| rows[index as usize]).collect())
    }
}

/// How long a file is to stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Rows of an epoch: few, and soon written together with others. A Bloom filter would be one more request a file, and
    /// hardly smaller than the page it spares.
    Fresh,
    /// Rows of a date that is over, in files of so many bytes at least when there are several. A row group has no more, so
    /// that where a file ends is known from rows that are encoded.
    Settled { least_bytes: u64 },
}

/// A file of a table, as the lake contract wants it; `schema` is that of its files.
pub(super) fn writer(layout: &Layout, schema: &SchemaRef, standing: Standing) -> Result<ArrowWriter<Vec<u8>>> {
    let group_bytes = match standing {
        Standing::Fresh => ROW_GROUP_BYTES_MAX,
        Standing::Settled { least_bytes } => {
            usize::try_from(least_bytes).unwrap_or(usize::MAX).min(ROW_GROUP_BYTES_MAX)
        }
    };
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_bytes(Some(group_bytes))
        .set_data_page_size_limit(PAGE_BYTES_MAX);
    if layout.row_group_rows.is_some() {
        properties = properties.set_max_row_group_row_count(layout.row_group_rows);
    }
    let path = |column: usize| ColumnPath::from(layout.schema.field(column).name().as_str());
    for &column in &layout.unique {
        properties = properties.set_column_dictionary_enabled(path(column), false);
    }
    for &column in layout.bloom.iter().filter(|_| standing != Standing::Fresh) {
        properties = properties.set_column_bloom_filter_fpp(path(column), BLOOM_FALSE_SHARE);
    }
    // Parquet's own types say all there is to say of a contract's types; a second schema in the footer could only differ.
    let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
    ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(schema), options).context(|| "cannot start a Parquet file")
}

fn finish(writer: ArrowWriter<Vec<u8>>, stats: FileStats) -> Result<Encoded> {
    Ok(Encoded { bytes: writer.into_inner().context(|| "cannot finish a Parquet file")?, stats })
}

#[cfg(test)]
mod tests {
    use parquet::basic::{ConvertedType, Encoding, LogicalType, Type};
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::super::{Table, testing};
    use super::*;

    #[tokio::test]
    async fn the_footer_says_what_the_lake_contract_wants() {
        let (folder, lake) = testing::lake();
        let table = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        let staged = table.stage(vec![testing::rows(100, 0)], 0).await.unwrap();
        let path = folder.path().join("payments").join(&staged.adds[0].path);
        let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
        let metadata = reader.metadata();
        assert_eq!(metadata.file_metadata().version(), 1);
        assert!(metadata.file_metadata().key_value_metadata().is_none_or(Vec::is_empty));
        for column in metadata.row_group(0).columns() {
            assert_eq!(column.compression(), Compression::SNAPPY);
            assert!(column.column_index_offset().is_some() && column.offset_index_offset().is_some());
            for encoding in column.encodings() {
                let allowed = [Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY, Encoding::PLAIN_DICTIONARY];
                assert!(allowed.contains(&encoding), "{encoding} in {}", column.column_path());
            }
        }
        let columns = metadata.file_metadata().schema_descr();
        let column = |name: &str| columns.columns().iter().find(|c| c.name() == name).unwrap().clone();
        let time = column("event_time");
        assert_eq!((time.physical_type(), time.converted_type()), (Type::INT64, ConvertedType::TIMESTAMP_MICROS));
        let Some(LogicalType::Timestamp(zone)) = time.logical_type_ref() else { panic!("{time:?}") };
        assert!(zone.is_adjusted_to_u_t_c);
        for (name, precision, bytes) in [("amount", 20, 9), ("total", 30, 13)] {
            let amount = column(name);
            assert_eq!((amount.physical_type(), amount.type_length()), (Type::FIXED_LEN_BYTE_ARRAY, bytes));
            assert_eq!((amount.type_precision(), amount.type_scale()), (precision, 2));
        }
        assert_eq!(column("card").converted_type(), ConvertedType::UTF8);
        assert_eq!(column("items").physical_type(), Type::INT32);
        assert_eq!(column("born").converted_type(), ConvertedType::DATE);
        let dictionary = |name: &str| {
            let group = metadata.row_group(0);
            group
                .columns()
                .iter()
                .find(|c| c.column_path().string() == name)
                .unwrap()
                .dictionary_page_offset()
                .is_some()
        };
        assert!(dictionary("card") && !dictionary("payment_id"));
    }
}
