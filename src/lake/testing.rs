//! What the tests of this module share: a lake in a temporary folder, a contract, rows, and a store that misbehaves.

use std::fmt;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::*;
use arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::prelude::SessionContext;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Lake, Table};
use crate::clock::{Clock, MICROS_PER_SECOND, Micros};
use crate::config::{self, Config};
use crate::contract::{Column, Format, Origin, StreamContract, TableContract, timestamp_type};

/// 2026-11-23T12:00:00.123456Z: when files are staged.
pub(super) const NOW: Micros = 1_795_435_200_123_456;
/// 2026-11-22T23:59:55Z: when the first row happened, five seconds before midnight.
const FIRST: Micros = 1_795_391_995_000_000;
/// Days since 1970-01-01 of 2026-11-22.
const FIRST_DAY: i32 = 20_779;

pub(crate) fn lake() -> (tempfile::TempDir, Lake) {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path().to_str().unwrap(), &s3()).unwrap().with_clock(Clock::fixed(NOW));
    (folder, lake)
}

/// The defaults; lakes in folders ask nothing of them.
pub(crate) fn s3() -> config::S3 {
    Config::load(None, &[]).unwrap().s3
}

pub(crate) fn contract(name: &str) -> TableContract {
    let column = |name: &str, data_type: DataType, nullable: bool| Column {
        name: name.into(),
        data_type,
        nullable,
        comment: format!("about {name}"),
        origin: Origin::Engine,
        check: None,
    };
    TableContract {
        name: name.into(),
        comment: "Payments, \"once\".".to_owned(),
        columns: vec![
            column("event_time", timestamp_type(), false),
            column("event_date", DataType::Date32, false),
            column("payment_id", DataType::Utf8, false),
            column("card", DataType::Utf8, false),
            column("amount", DataType::Decimal128(20, 2), false),
            column("total", DataType::Decimal128(30, 2), true),
            column("fraud", DataType::Boolean, false),
            column("latitude", DataType::Float64, true),
            column("weight", DataType::Float32, true),
            column("items", DataType::Int32, false),
            column("rank", DataType::Int16, true),
            column("born", DataType::Date32, true),
            column("raw", DataType::Binary, true),
            column("note", DataType::Utf8, true),
            column("arrival_time", timestamp_type(), false),
            column("_epoch", DataType::Int64, false),
        ],
        partition_by: "event_date".into(),
        sort_by: vec!["event_time".into()],
        bloom_filters: Vec::new(),
        row_group_rows: None,
        sinks: crate::contract::Sink::usual(),
        keep_days: None,
        stream: Some(StreamContract {
            format: Format::Json,
            event_time: "event_time".into(),
            identity: "payment_id".into(),
            partition_key: "card".into(),
        }),
    }
}

/// `n` rows of an epoch, a second apart, out of order, the first five before midnight.
pub(crate) fn rows(n: usize, epoch: u64) -> RecordBatch {
    // 61 is prime to every n used: a permutation.
    let order: Vec<i64> = (0..n).map(|i| i64::try_from(i * 61 % n).unwrap()).collect();
    let of = |f: &dyn Fn(i64) -> i64| order.iter().map(|&i| f(i)).collect::<Vec<_>>();
    let times = of(&|i| FIRST + i * MICROS_PER_SECOND);
    let decimal = |f: &dyn Fn(i64) -> Option<i128>, precision| {
        let values: Decimal128Array = order.iter().map(|&i| f(i)).collect();
        Arc::new(values.with_precision_and_scale(precision, 2).unwrap()) as ArrayRef
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        Arc::new(order.iter().map(|&i| Some(FIRST_DAY + i32::from(i >= 5))).collect::<Date32Array>()),
        Arc::new(order.iter().map(|i| Some(format!("{epoch:05}-{i:05}"))).collect::<StringArray>()),
        Arc::new(order.iter().map(|i| Some(format!("tok_1_{:032x}", i % 3))).collect::<StringArray>()),
        decimal(&|i| Some(i128::from(i) * 100 + 1), 20),
        decimal(&|i| (i % 2 == 0).then_some(123_456_789_012_345_678_901_234_567_890 - i128::from(i)), 30),
        Arc::new(order.iter().map(|&i| Some(i % 10 == 0)).collect::<BooleanArray>()),
        Arc::new(
            order
                .iter()
                .map(|&i| (i % 7 != 0).then(|| 0.1 * f64::from(i32::try_from(i).unwrap())))
                .collect::<Float64Array>(),
        ),
        Arc::new(order.iter().map(|&i| Some(0.1 * f32::from(i16::try_from(i).unwrap()))).collect::<Float32Array>()),
        Arc::new(order.iter().map(|&i| i32::try_from(i).ok()).collect::<Int32Array>()),
        Arc::new(order.iter().map(|&i| (i % 4 != 0).then(|| i16::try_from(-i).unwrap())).collect::<Int16Array>()),
        Arc::new(order.iter().map(|&i| i32::try_from(i - 50).ok()).collect::<Date32Array>()),
        Arc::new(
            order
                .iter()
                .map(|&i| (i % 5 != 0).then(|| [0xff, u8::try_from(i % 256).unwrap()]))
                .collect::<BinaryArray>(),
        ),
        new_null_array(&DataType::Utf8, n),
        Arc::new(TimestampMicrosecondArray::from(of(&|i| FIRST + i * 1_500_001)).with_timezone("UTC")),
        Arc::new(Int64Array::from(vec![i64::try_from(epoch).unwrap(); n])),
    ];
    RecordBatch::try_new(contract("payments").schema(), columns).unwrap()
}

/// The rows ordered by their id.
pub(super) fn by_id(batch: &RecordBatch) -> RecordBatch {
    let order = sort_to_indices(batch.column_by_name("payment_id").unwrap(), None, None).unwrap();
    take_record_batch(batch, &order).unwrap()
}

/// Everything in a table, by id, as a query sees it.
pub(super) async fn read(lake: &Lake, table: &Table, version: Option<u64>) -> RecordBatch {
    let session = SessionContext::new();
    lake.register(&session);
    let rows = session.read_table(table.provider(version).await.unwrap()).unwrap().collect().await.unwrap();
    by_id(&concat_batches(&table.schema(), &rows).unwrap())
}

/// One Parquet file, read without this module.
pub(crate) fn read_file(path: &FsPath) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<_> = reader.build().unwrap().collect::<std::result::Result<_, _>>().unwrap();
    concat_batches(&schema, &batches).unwrap()
}

/// A store that breaks one promise.
#[derive(Debug)]
pub(super) struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    fault: Fault,
}

#[derive(Debug)]
enum Fault {
    /// Creating overwrites.
    Overwrites,
    /// Writes below `below` happen, and are then reported as failed, so many times.
    LosesAnswers { below: &'static str, left: Arc<AtomicUsize>, say_exists: bool },
}

impl FaultyStore {
    pub(super) fn overwriting(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, fault: Fault::Overwrites }
    }

    /// Loses `times` answers; `say_exists` gives the answer of a retry that met its own success.
    pub(super) fn losing_answers(
        inner: Arc<dyn ObjectStore>,
        below: &'static str,
        times: usize,
        say_exists: bool,
    ) -> Self {
        Self { inner, fault: Fault::LosesAnswers { below, left: Arc::new(AtomicUsize::new(times)), say_exists } }
    }

    pub(super) fn faults_left(&self) -> Arc<AtomicUsize> {
        match &self.fault {
            Fault::Overwrites => Arc::default(),
            Fault::LosesAnswers { left, .. } => Arc::clone(left),
        }
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        match &self.fault {
            Fault::Overwrites => {
                opts.mode = PutMode::Overwrite;
                self.inner.put_opts(location, payload, opts).await
            }
            Fault::LosesAnswers { below, left, say_exists } => {
                let answer = self.inner.put_opts(location, payload, opts).await?;
                let hit = location.parts().any(|part| part.as_ref() == *below);
                if !hit || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_err() {
                    return Ok(answer);
                }
                let source = "the answer was lost".into();
                Err(match say_exists {
                    true => Error::AlreadyExists { path: location.to_string(), source },
                    false => Error::Generic { store: "faulty", source },
                })
            }
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
