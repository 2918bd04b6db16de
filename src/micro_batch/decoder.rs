//! Pages of records become micro-batches.
//!
//! The one law: every record read ends in exactly one row or one reject (`read = rows + rejects`), and no record can fail
//! a batch. Bytes become columns at once; a record that turns out bad midway is cut off again. Whether a row has been seen
//! before is not known here ([`super::Duplicates`]).

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use bytes::Bytes;

use super::identity::IdentityHasher;
use super::origin::{ORIGIN_COLUMNS, OriginColumns, Places};
use super::reader::RowReader;
use super::rejects::{Reason, Refusal, Rejects};
use super::rules::{Refusals, Rules};
use super::sensitive::is_sensitive;
use super::{MicroBatch, event_time_range};
use crate::clock::Micros;
use crate::contract::{Origin, StreamContract, TableContract, provenance, timestamp_type};
use crate::error::{Context, Error, Result};
use crate::stream::{Aggregate, Page, Record, ShardKey, UserRecord};
use crate::token::Tokenizer;

/// Bytes a record may have: what Kinesis allowed for ten years, and two thousand times a transaction.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

/// How the note begins that a producer sends in place of a record the stream would not take.
const TOO_LARGE_NOTE: &str = "{\"lakeward_too_large\":\"";

/// Bytes of such a record that its note keeps: enough to find the line in its file.
const TOO_LARGE_HEAD_BYTES: usize = 16 << 10;

/// The note in place of a record that is too large to be sent: rejected as too large, with the record's length and head.
pub fn too_large(record: &[u8]) -> Vec<u8> {
    let head = String::from_utf8_lossy(&record[..record.len().min(TOO_LARGE_HEAD_BYTES)]);
    let head = serde_json::Value::from(head.as_ref());
    let bytes = record.len();
    format!("{TOO_LARGE_NOTE}{bytes} bytes; a stream's record holds at most {RECORD_BYTES_MAX}\",\"head\":{head}}}")
        .into()
}

/// What the note says of the length.
fn too_large_detail(note: &str) -> &str {
    note[TOO_LARGE_NOTE.len()..].split('"').next().unwrap_or_default()
}

/// Bytes all records of a page may have together, so that the texts of a column stay within Arrow's 31-bit offsets even
/// when each grew to a token. A GetRecords page has 10 MiB.
const PAGE_BYTES_MAX: usize = 256 << 20;

/// Turns pages of one stream into micro-batches. Each task has its own.
pub struct Decoder {
    contract: Arc<TableContract>,
    event_time: Arc<str>,
    max_ahead: Micros,
    /// Columns read from fields, then those of provenance.
    input_schema: SchemaRef,
    /// The contract's schema without `_epoch` and `_late`.
    row_schema: SchemaRef,
    /// The same while generated columns may still hold nulls.
    open_schema: SchemaRef,
    reader: RowReader,
    origin: OriginColumns,
    rules: Rules,
    rejects: Rejects,
    hasher: IdentityHasher,
    read: u64,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("table", &self.contract.name).finish_non_exhaustive()
    }
}

impl Decoder {
    /// A decoder of the stream that `contract` declares; `rejects` is the contract of the rejects table. A row whose event
    /// time lies more than `max_ahead` microseconds after its arrival is rejected.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the column, for a contract that records cannot be read by.
    #[expect(clippy::needless_pass_by_value, reason = "both contracts are shared; callers hold them as such")]
    pub fn new(
        contract: Arc<TableContract>,
        rejects: Arc<TableContract>,
        tokenizer: Tokenizer,
        max_ahead: Micros,
        hasher: IdentityHasher,
    ) -> Result<Self> {
        let stream = checked(&contract)?;
        let rejects = Rejects::new(&contract, &rejects, tokenizer.clone())?;
        let reader = RowReader::new(&contract, tokenizer)?;
        let input_schema = input_schema(&contract);
        let row_schema = row_schema(&contract);
        let open = row_schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
        let open_schema = Arc::new(Schema::new(open.collect::<Vec<_>>()));
        let rules = Rules::compile(&contract, &input_schema, &row_schema)?;
        Ok(Self {
            event_time: Arc::clone(&stream.event_time),
            max_ahead,
            input_schema,
            row_schema,
            open_schema,
            reader,
            origin: OriginColumns::new()?,
            rules,
            rejects,
            hasher,
            read: 0,
            contract,
        })
    }

    /// Decodes a page. Bad records become rejects.
    ///
    /// # Errors
    /// [`Error::Broken`] for a page beyond 256 MiB; [`Error::External`] when Arrow refuses what was built (a bug).
    pub fn decode(&mut self, page: &Page) -> Result<MicroBatch> {
        let bytes: usize = page.records.iter().map(|r| r.data.len()).sum();
        if bytes > PAGE_BYTES_MAX {
            return Err(Error::broken(format!(
                "a page of shard `{}` has {bytes} bytes, more than {PAGE_BYTES_MAX}",
                page.shard
            )));
        }
        self.read = 0;
        for record in &page.records {
            self.record(record);
        }
        let (rows, raw) = self.assemble(&page.shard)?;
        Ok(MicroBatch {
            shard: page.shard.clone(),
            interval: page.interval.clone(),
            identities: self.hasher.identities(&self.contract, &rows)?,
            event_times: event_time_range(&rows, &self.event_time),
            rejects: self.rejects.finish(&page.shard)?,
            read: self.read,
            rows,
            raw,
        })
    }

    /// One record of the stream: a user record, or an aggregate of several.
    fn record(&mut self, record: &Record) {
        self.origin.begin(&record.sequence);
        match Aggregate::of(&record.data) {
            None => {
                self.user_record(record.arrival_time, &record.data, 0);
            }
            Some(aggregate) => self.aggregate(record, aggregate),
        }
    }

    /// Its user records' lines are numbered through.
    fn aggregate(&mut self, record: &Record, aggregate: Aggregate<'_>) {
        let mut sub_sequence = 0;
        for UserRecord { data, missing_key } in aggregate.records() {
            let data = record.data.slice_ref(data);
            sub_sequence = match missing_key {
                None => self.user_record(record.arrival_time, &data, sub_sequence),
                Some(key) => {
                    let refusal = Refusal::new(Reason::MissingKey, format!("it names the {key}"));
                    self.reject(record.arrival_time, &data, sub_sequence, &refusal)
                }
            };
        }
        if sub_sequence == 0 {
            let refusal = Refusal::new(Reason::Empty, "an aggregate of no records");
            self.reject(record.arrival_time, &record.data, 0, &refusal);
        }
    }

    /// One user record: each of its lines that is not blank is a row or a reject, the first at this sub-sequence number.
    /// Returns the number behind the last.
    fn user_record(&mut self, arrival_time: Micros, data: &Bytes, sub_sequence: i32) -> i32 {
        let whole = |reason, detail: &str| Err(Refusal::new(reason, detail));
        let text = match std::str::from_utf8(data) {
            _ if data.len() > RECORD_BYTES_MAX => {
                whole(Reason::TooLarge, &format!("{} bytes; at most {RECORD_BYTES_MAX} are taken", data.len()))
            }
            Ok(text) if text.starts_with(TOO_LARGE_NOTE) => whole(Reason::TooLarge, too_large_detail(text)),
            Ok(text) if text.trim_ascii().is_empty() => whole(Reason::Empty, "nothing but space"),
            Ok(text) => Ok(text),
            Err(error) => whole(Reason::InvalidUtf8, &format!("no UTF-8 at byte {}", error.valid_up_to())),
        };
        match text {
            Err(refusal) => self.reject(arrival_time, data, sub_sequence, &refusal),
            Ok(text) => {
                let mut next = sub_sequence;
                for line in lines(text) {
                    self.line(arrival_time, data, next, line);
                    next += 1;
                }
                next
            }
        }
    }

    /// A user record that is rejected as a whole.
    fn reject(&mut self, arrival_time: Micros, data: &[u8], sub_sequence: i32, refusal: &Refusal) -> i32 {
        self.read += 1;
        self.rejects.push(self.origin.place(sub_sequence, arrival_time), refusal, data);
        sub_sequence + 1
    }

    fn line(&mut self, arrival_time: Micros, data: &Bytes, sub_sequence: i32, line: &str) {
        self.read += 1;
        match self.reader.read(line) {
            Ok(()) => self.origin.push(sub_sequence, arrival_time, data.slice_ref(line.as_bytes())),
            Err(refusal) => {
                self.rejects.push(self.origin.place(sub_sequence, arrival_time), &refusal, line.as_bytes());
            }
        }
    }

    /// The rows read since the last call that keep the rules, in the contract's order, and the bytes of each. The others
    /// become rejects.
    fn assemble(&mut self, shard: &ShardKey) -> Result<(RecordBatch, Vec<Bytes>)> {
        let mut arrays = self.reader.finish()?;
        let raw = self.origin.finish(shard, &mut arrays)?;
        if raw.is_empty() {
            return Ok((RecordBatch::new_empty(Arc::clone(&self.row_schema)), raw));
        }
        let input =
            RecordBatch::try_new(Arc::clone(&self.input_schema), arrays).context(|| "assembling input columns")?;

        let mut refusals = Refusals::new();
        let generated = self.rules.generate(&input, &mut refusals)?;
        let columns = self.row_schema.fields().iter().map(|field| {
            let found = generated.iter().find(|(name, _)| name.as_ref() == field.name());
            let array = found.map(|(_, array)| array).or_else(|| input.column_by_name(field.name()));
            array.cloned().ok_or_else(|| Error::broken(format!("nothing fills the column `{}`", field.name())))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let open = RecordBatch::try_new(Arc::clone(&self.open_schema), columns).context(|| "assembling rows")?;
        self.refuse_future(&open, &mut refusals);
        self.rules.check(&open, &mut refusals)?;

        let (open, raw) = self.without(&open, raw, &refusals)?;
        let rows = RecordBatch::try_new(Arc::clone(&self.row_schema), open.columns().to_vec());
        Ok((rows.context(|| "assembling rows")?, raw))
    }

    /// An event time far ahead of its arrival would drag the watermark along and make everything else late.
    fn refuse_future(&self, rows: &RecordBatch, refusals: &mut Refusals) {
        let (Some(event), Some(arrival)) =
            (rows.column_by_name(&self.event_time), rows.column_by_name(provenance::ARRIVAL_TIME))
        else {
            return;
        };
        let event = event.as_primitive::<TimestampMicrosecondType>().values();
        let arrival = arrival.as_primitive::<TimestampMicrosecondType>().values();
        for (row, (event, arrival)) in event.iter().zip(arrival).enumerate() {
            if *event > arrival.saturating_add(self.max_ahead) {
                let ahead = event.saturating_sub(*arrival) / 1_000_000;
                let detail = format!("{ahead} s after its arrival; at most {} s are taken", self.max_ahead / 1_000_000);
                refusals
                    .entry(row)
                    .or_insert_with(|| Refusal::of_field(Reason::EventTimeInFuture, &self.event_time, detail));
            }
        }
    }

    /// Moves the refused rows to the rejects.
    fn without(
        &mut self,
        rows: &RecordBatch,
        raw: Vec<Bytes>,
        refusals: &Refusals,
    ) -> Result<(RecordBatch, Vec<Bytes>)> {
        if refusals.is_empty() {
            return Ok((rows.clone(), raw));
        }
        let places = Places::of(rows)?;
        for (row, refusal) in refusals {
            self.rejects.push(places.place(*row), refusal, &raw[*row]);
        }
        let keep: BooleanArray = (0..rows.num_rows()).map(|row| Some(!refusals.contains_key(&row))).collect();
        let kept = filter_record_batch(rows, &keep).context(|| "removing rejected rows")?;
        let raw = raw.into_iter().enumerate().filter(|(row, _)| !refusals.contains_key(row)).map(|(_, raw)| raw);
        Ok((kept, raw.collect()))
    }
}

/// The lines that are not blank, without the space around them.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    let next = move || {
        let text = rest?;
        // Every byte there is passes here; `memchr` looks at 32 of them at a time.
        let (line, behind) = match memchr::memchr(b'\n', text.as_bytes()) {
            Some(end) => (&text[..end], Some(&text[end + 1..])),
            None => (text, None),
        };
        rest = behind;
        Some(line)
    };
    std::iter::from_fn(next).map(str::trim_ascii).filter(|line| !line.is_empty())
}

/// The stream's part of a contract that records can be read by.
fn checked(contract: &TableContract) -> Result<&StreamContract> {
    let wrong = |what: String| Error::usage(format!("contract `{}`: {what}", contract.name));
    let stream = contract.stream.as_ref().ok_or_else(|| wrong("it declares no `format`, so it is no stream".into()))?;
    for name in [&stream.event_time, &stream.identity] {
        let column = contract.column(name).ok_or_else(|| wrong(format!("there is no column `{name}`")))?;
        if column.nullable || column.origin == Origin::Engine {
            return Err(wrong(format!("column `{name}` must be NOT NULL and come from the input")));
        }
        if *name == stream.event_time && column.data_type != timestamp_type() {
            return Err(wrong(format!("column `{name}` must be a TIMESTAMP")));
        }
    }
    for column in &contract.columns {
        match &column.origin {
            Origin::Field(field) if is_sensitive(&field.name) => {
                return Err(wrong(format!(
                    "field `{}` is sensitive authentication data, which must not be stored",
                    field.name
                )));
            }
            Origin::Engine if !is_engine_column(&column.name) => {
                return Err(wrong(format!("nothing fills the column `{}`", column.name)));
            }
            _ => {}
        }
    }
    Ok(stream)
}

fn is_engine_column(name: &str) -> bool {
    ORIGIN_COLUMNS.contains(&name) || is_later(name)
}

/// Columns filled when an epoch is staged.
fn is_later(name: &str) -> bool {
    matches!(name, provenance::EPOCH | provenance::LATE)
}

fn input_schema(contract: &TableContract) -> SchemaRef {
    let inputs = contract.columns.iter().filter(|c| matches!(c.origin, Origin::Field(_)));
    let mut fields: Vec<_> = inputs.map(|c| Field::new(c.name.as_ref(), c.data_type.clone(), c.nullable)).collect();
    let types = [DataType::Utf8, DataType::Utf8, DataType::Utf8, DataType::Int32, timestamp_type()];
    fields.extend(ORIGIN_COLUMNS.iter().zip(types).map(|(name, data_type)| Field::new(*name, data_type, false)));
    Arc::new(Schema::new(fields))
}

fn row_schema(contract: &TableContract) -> SchemaRef {
    let schema = contract.schema();
    Arc::new(Schema::new(schema.fields().iter().filter(|f| !is_later(f.name())).cloned().collect::<Vec<_>>()))
}
