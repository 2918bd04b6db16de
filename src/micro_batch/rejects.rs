//! What could not become a row: the reasons, and the table that keeps the records.
//!
//! The one law: a rejected record is kept so that it can be mended and sent again, yet no card number and no sensitive
//! authentication data is kept with it. `detail` never quotes the record.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Date32Array, Int32Array, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::sensitive::mentions_sensitive;
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::contract::{Origin, TableContract, provenance};
use crate::error::{Context, Error, Result};
use crate::stream::ShardKey;
use crate::token::Tokenizer;

const MICROS_PER_DAY: Micros = 86_400 * MICROS_PER_SECOND;

/// Why a record was rejected: the words of the column `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No bytes, or nothing but space.
    Empty,
    /// More bytes than a record may have.
    TooLarge,
    InvalidUtf8,
    /// In an aggregate, under a key the aggregate does not have.
    MissingKey,
    MalformedJson,
    /// JSON, but no object.
    NotAnObject,
    /// Values nested deeper than anything a flat record needs.
    TooDeep,
    /// One name twice in one object: which value counts is anyone's guess.
    DuplicateField,
    /// A card verification code, track data or a PIN; such a record is not kept.
    SensitiveAuthenticationData,
    /// A required field is absent, null or empty.
    MissingField,
    /// Another kind of JSON value than the column takes.
    WrongType,
    InvalidNumber,
    NotAnInteger,
    /// Decimals beyond the column's scale.
    InexactDecimal,
    /// A number the column's type cannot hold.
    OutOfRange,
    InvalidBoolean,
    InvalidDate,
    InvalidTime,
    /// Not 12 to 19 digits, nor a token.
    NotACardNumber,
    /// A text that is no card's field holds what looks like a card number.
    CardNumberInText,
    /// A rule or a generated column could not be computed for this row.
    Incomputable,
    EventTimeInFuture,
    CheckFailed,
    /// The identity of an earlier row with other content.
    ConflictingDuplicate,
}

impl Reason {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLarge => "too_large",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::MissingKey => "missing_key",
            Self::MalformedJson => "malformed_json",
            Self::NotAnObject => "not_an_object",
            Self::TooDeep => "too_deep",
            Self::DuplicateField => "duplicate_field",
            Self::SensitiveAuthenticationData => "sensitive_authentication_data",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::InvalidNumber => "invalid_number",
            Self::NotAnInteger => "not_an_integer",
            Self::InexactDecimal => "inexact_decimal",
            Self::OutOfRange => "out_of_range",
            Self::InvalidBoolean => "invalid_boolean",
            Self::InvalidDate => "invalid_date",
            Self::InvalidTime => "invalid_time",
            Self::NotACardNumber => "not_a_card_number",
            Self::CardNumberInText => "card_number_in_text",
            Self::Incomputable => "incomputable",
            Self::EventTimeInFuture => "event_time_in_future",
            Self::CheckFailed => "check_failed",
            Self::ConflictingDuplicate => "conflicting_duplicate",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why one record cannot become a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub reason: Reason,
    /// The declared input field or the column at fault; never an undeclared name, which may hold anything.
    pub field: Option<Arc<str>>,
    pub detail: String,
    /// Bytes of the record whose digits are blotted out: a value that should have been a card number.
    pub blot: Option<Range<usize>>,
}

impl Refusal {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, field: None, detail: detail.into(), blot: None }
    }

    pub(super) fn of_field(reason: Reason, field: &Arc<str>, detail: impl Into<String>) -> Self {
        Self { field: Some(Arc::clone(field)), ..Self::new(reason, detail) }
    }
}

/// Where a record stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub sequence: &'a str,
    pub sub_sequence: i32,
    pub arrival_time: Micros,
}

/// Collects rejected records of one shard and renders them in the shape of the table's contract.
pub(super) struct Rejects {
    schema: SchemaRef,
    tokenizer: Tokenizer,
    /// Input fields whose digits are no card number: identity and event time.
    exempt: Vec<Arc<str>>,
    reason: StringBuilder,
    field: StringBuilder,
    detail: StringBuilder,
    raw: BinaryBuilder,
    sequence: StringBuilder,
    sub_sequence: Vec<i32>,
    arrival_time: Vec<Micros>,
}

impl fmt::Debug for Rejects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejects").field("rows", &self.sub_sequence.len()).finish_non_exhaustive()
    }
}

impl Rejects {
    /// `stream` says which fields are exempt from masking, `rejects` how the table looks.
    ///
    /// # Errors
    /// [`Error::Usage`] for a column of `rejects` that nothing here fills.
    pub(super) fn new(stream: &TableContract, rejects: &TableContract, tokenizer: Tokenizer) -> Result<Self> {
        Ok(Self {
            schema: schema(rejects)?,
            tokenizer,
            exempt: exempt(stream),
            reason: StringBuilder::new(),
            field: StringBuilder::new(),
            detail: StringBuilder::new(),
            raw: BinaryBuilder::new(),
            sequence: StringBuilder::new(),
            sub_sequence: Vec::new(),
            arrival_time: Vec::new(),
        })
    }

    /// Keeps one record. One that names sensitive authentication data is kept without its bytes, whatever else is wrong.
    pub(super) fn push(&mut self, place: Place<'_>, refusal: &Refusal, raw: &[u8]) {
        let hides = refusal.reason == Reason::SensitiveAuthenticationData || mentions_sensitive(raw);
        if hides {
            self.reason.append_value(Reason::SensitiveAuthenticationData.as_str());
            self.field.append_null();
            self.detail.append_value("a field of this name must not be sent; the record was not kept");
            self.raw.append_null();
        } else {
            self.reason.append_value(refusal.reason.as_str());
            self.field.append_option(refusal.field.as_deref());
            self.detail.append_value(&refusal.detail);
            let masked = self.masked(raw, refusal.blot.clone());
            self.raw.append_value(masked);
        }
        self.sequence.append_value(place.sequence);
        self.sub_sequence.push(place.sub_sequence);
        self.arrival_time.push(place.arrival_time);
    }

    /// How many are waiting for [`Self::finish`].
    pub(super) fn len(&self) -> usize {
        self.sub_sequence.len()
    }

    /// All rejects since the last call, in the schema of the contract without `_epoch`.
    pub(super) fn finish(&mut self, shard: &ShardKey) -> Result<RecordBatch> {
        if self.len() == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let columns = RejectColumns {
            reason: Arc::new(self.reason.finish()),
            field: Arc::new(self.field.finish()),
            detail: Arc::new(self.detail.finish()),
            raw: Arc::new(self.raw.finish()),
            sequence: Arc::new(self.sequence.finish()),
            sub_sequence: Arc::new(Int32Array::from(std::mem::take(&mut self.sub_sequence))),
            arrival_time: std::mem::take(&mut self.arrival_time),
        };
        let arrays = self.schema.fields().iter().map(|f| columns.array(f, shard)).collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), arrays).context(|| "assembling rejects")
    }

    fn masked(&mut self, raw: &[u8], blot: Option<Range<usize>>) -> Vec<u8> {
        let exempt: Vec<&str> = self.exempt.iter().map(AsRef::as_ref).collect();
        // Groups of digits with spaces or hyphens between the tokenizer knows; whatever else stood in a card's field it
        // may not know as one.
        let is_unknown =
            |blot: &Range<usize>| raw.get(blot.clone()).is_some_and(|b| !Tokenizer::reads_as_one_number(b));
        let Some(blot) = blot.filter(is_unknown) else {
            return self.tokenizer.mask(raw, &exempt);
        };
        let mut raw = raw.to_vec();
        for byte in raw.get_mut(blot).unwrap_or_default() {
            if byte.is_ascii_digit() {
                *byte = b'x';
            }
        }
        self.tokenizer.mask(&raw, &exempt)
    }
}

/// The columns before they take the contract's order and types.
struct RejectColumns {
    reason: ArrayRef,
    field: ArrayRef,
    detail: ArrayRef,
    raw: ArrayRef,
    sequence: ArrayRef,
    sub_sequence: ArrayRef,
    arrival_time: Vec<Micros>,
}

impl RejectColumns {
    fn array(&self, field: &Field, shard: &ShardKey) -> Result<ArrayRef> {
        let rows = self.arrival_time.len();
        let constant = |text: &Arc<str>| -> ArrayRef { Arc::new(StringArray::from_iter_values(vec![text; rows])) };
        let array: ArrayRef = match field.name().as_str() {
            "reason" => Arc::clone(&self.reason),
            "field" => Arc::clone(&self.field),
            "detail" => Arc::clone(&self.detail),
            "record" => Arc::clone(&self.raw),
            "arrival_date" => Arc::new(Date32Array::from_iter_values(self.arrival_time.iter().map(|t| day_of(*t)))),
            "arrival_time" | provenance::ARRIVAL_TIME => {
                Arc::new(TimestampMicrosecondArray::from(self.arrival_time.clone()).with_timezone("UTC"))
            }
            provenance::SOURCE => constant(&shard.source),
            provenance::SHARD => constant(&shard.shard),
            provenance::SEQUENCE => Arc::clone(&self.sequence),
            provenance::SUB_SEQUENCE => Arc::clone(&self.sub_sequence),
            _ => new_null_array(field.data_type(), rows),
        };
        cast(&array, field.data_type()).context(|| format!("column `{}` of rejects", field.name()))
    }
}

/// The UTC day of a time, in days since 1970-01-01.
fn day_of(time: Micros) -> i32 {
    i32::try_from(time.div_euclid(MICROS_PER_DAY)).unwrap_or(if time < 0 { i32::MIN } else { i32::MAX })
}

/// The contract's schema without `_epoch`, checked to have no column that would stay empty.
fn schema(rejects: &TableContract) -> Result<SchemaRef> {
    const FILLED: [&str; 11] = [
        "reason",
        "field",
        "detail",
        "record",
        "arrival_date",
        "arrival_time",
        provenance::ARRIVAL_TIME,
        provenance::SOURCE,
        provenance::SHARD,
        provenance::SEQUENCE,
        provenance::SUB_SEQUENCE,
    ];
    let mut fields = Vec::new();
    for column in rejects.columns.iter().filter(|c| c.name.as_ref() != provenance::EPOCH) {
        if !FILLED.contains(&column.name.as_ref()) {
            return Err(Error::usage(format!(
                "contract `{}`: no rejected record has a column `{}`; there are {}",
                rejects.name,
                column.name,
                FILLED.map(|name| format!("`{name}`")).join(", ")
            )));
        }
        if column.name.as_ref() == "record" && column.data_type != DataType::Binary {
            return Err(Error::usage(format!("contract `{}`: column `record` must be BINARY", rejects.name)));
        }
        fields.push(Field::new(column.name.as_ref(), column.data_type.clone(), column.nullable));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Input fields and columns of the identity and the event time: both names, as a reject may hold a record or a row.
fn exempt(stream: &TableContract) -> Vec<Arc<str>> {
    let Some(declared) = &stream.stream else { return Vec::new() };
    let mut names = Vec::new();
    for column in [&declared.identity, &declared.event_time].into_iter().filter_map(|name| stream.column(name)) {
        match &column.origin {
            // An identity that is a card number is masked like any other.
            Origin::Field(field) if field.token => continue,
            Origin::Field(field) if field.name != column.name => names.push(Arc::clone(&field.name)),
            _ => {}
        }
        names.push(Arc::clone(&column.name));
    }
    names
}
