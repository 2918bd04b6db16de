//! Column builders over plain vectors, which can be cut back to where a row began.
//!
//! The one law: all columns have one length between two rows. Arrow's own builders cannot be shortened, and a record may
//! turn out bad at its last field. What a value means is said in [`super::input`].

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, TimeUnit};

use crate::error::{Context, Error, Result};

/// The values of a column; a null has some value too.
#[derive(Debug)]
pub(super) enum Values {
    Text(Texts),
    Boolean(Vec<bool>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    /// Days since 1970-01-01.
    Date(Vec<i32>),
    /// Microseconds since 1970-01-01T00:00:00Z.
    Timestamp(Vec<i64>),
    Decimal {
        values: Vec<i128>,
        precision: u8,
        scale: u8,
    },
}

/// Texts one behind the other, and where each ends.
#[derive(Debug)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    /// One more than there are texts; the first is 0.
    ends: Vec<i32>,
}

impl Texts {
    fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { bytes: Vec::with_capacity(bytes), ends }
    }

    /// Appends a text given in pieces.
    #[inline]
    pub(super) fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.end();
    }

    /// Appends a text with `zeros` zeros in front.
    pub(super) fn push_padded(&mut self, zeros: usize, text: &str) {
        self.bytes.resize(self.bytes.len() + zeros, b'0');
        self.push(text);
    }

    #[inline]
    fn end(&mut self) {
        // The decoder bounds a page's bytes so that the sum of all texts stays far below 2^31.
        self.ends.push(i32::try_from(self.bytes.len()).unwrap_or(i32::MAX));
    }

    fn len(&self) -> usize {
        self.ends.len() - 1
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows + 1);
        let end = self.ends.last().copied().unwrap_or(0);
        self.bytes.truncate(usize::try_from(end).unwrap_or(0));
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        let next = Self::with_capacity(self.len(), self.bytes.len());
        let Self { bytes, ends } = std::mem::replace(self, next);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        let array =
            StringArray::try_new(offsets, Buffer::from_vec(bytes), nulls).context(|| "assembling a text column")?;
        Ok(Arc::new(array))
    }
}

/// One column being filled.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) values: Values,
    /// Which rows hold a value; `None` as long as all do.
    valid: Option<Vec<bool>>,
}

impl Column {
    /// # Errors
    /// [`Error::Usage`] for a type that input fields cannot have.
    pub(super) fn new(data_type: &DataType) -> Result<Self> {
        let values = match data_type {
            DataType::Utf8 => Values::Text(Texts::with_capacity(0, 0)),
            DataType::Boolean => Values::Boolean(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::Float32 => Values::Float32(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Values::Timestamp(Vec::new()),
            DataType::Decimal128(precision, scale) if *scale >= 0 => {
                Values::Decimal { values: Vec::new(), precision: *precision, scale: scale.unsigned_abs() }
            }
            other => return Err(Error::usage(format!("a column of type {other} cannot be read from an input field"))),
        };
        Ok(Self { values, valid: None })
    }

    pub(super) fn len(&self) -> usize {
        match &self.values {
            Values::Text(texts) => texts.len(),
            Values::Boolean(v) => v.len(),
            Values::Int16(v) => v.len(),
            Values::Int32(v) | Values::Date(v) => v.len(),
            Values::Int64(v) | Values::Timestamp(v) => v.len(),
            Values::Float32(v) => v.len(),
            Values::Float64(v) => v.len(),
            Values::Decimal { values, .. } => values.len(),
        }
    }

    /// Appends a text; nothing to a column of another type.
    pub(super) fn push_text(&mut self, text: &str) {
        if let Values::Text(texts) = &mut self.values {
            texts.push(text);
            self.mark_valid();
        }
    }

    /// Says that the value pushed last is one.
    #[inline]
    pub(super) fn mark_valid(&mut self) {
        if let Some(valid) = &mut self.valid {
            valid.push(true);
        }
    }

    pub(super) fn push_null(&mut self) {
        let rows = self.len();
        self.valid.get_or_insert_with(|| vec![true; rows]).push(false);
        match &mut self.values {
            Values::Text(texts) => texts.end(),
            Values::Boolean(v) => v.push(false),
            Values::Int16(v) => v.push(0),
            Values::Int32(v) | Values::Date(v) => v.push(0),
            Values::Int64(v) | Values::Timestamp(v) => v.push(0),
            Values::Float32(v) => v.push(0.0),
            Values::Float64(v) => v.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
        }
    }

    /// Forgets all rows from `rows` on.
    pub(super) fn truncate(&mut self, rows: usize) {
        if let Some(valid) = &mut self.valid {
            valid.truncate(rows);
        }
        match &mut self.values {
            Values::Text(texts) => texts.truncate(rows),
            Values::Boolean(v) => v.truncate(rows),
            Values::Int16(v) => v.truncate(rows),
            Values::Int32(v) | Values::Date(v) => v.truncate(rows),
            Values::Int64(v) | Values::Timestamp(v) => v.truncate(rows),
            Values::Float32(v) => v.truncate(rows),
            Values::Float64(v) => v.truncate(rows),
            Values::Decimal { values, .. } => values.truncate(rows),
        }
    }

    /// The column as an array; the builder is empty again, with room for as many rows.
    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        let nulls = self.valid.take().map(NullBuffer::from);
        Ok(match &mut self.values {
            Values::Text(texts) => texts.finish(nulls)?,
            Values::Boolean(v) => {
                let array = BooleanArray::new(BooleanBuffer::from(v.as_slice()), nulls);
                v.clear();
                Arc::new(array)
            }
            Values::Int16(v) => Arc::new(Int16Array::new(take(v), nulls)),
            Values::Int32(v) => Arc::new(Int32Array::new(take(v), nulls)),
            Values::Int64(v) => Arc::new(Int64Array::new(take(v), nulls)),
            Values::Float32(v) => Arc::new(Float32Array::new(take(v), nulls)),
            Values::Float64(v) => Arc::new(Float64Array::new(take(v), nulls)),
            Values::Date(v) => Arc::new(Date32Array::new(take(v), nulls)),
            Values::Timestamp(v) => Arc::new(TimestampMicrosecondArray::new(take(v), nulls).with_timezone("UTC")),
            Values::Decimal { values, precision, scale } => {
                let scale = i8::try_from(*scale).unwrap_or(i8::MAX);
                let array = Decimal128Array::new(take(values), nulls).with_precision_and_scale(*precision, scale);
                Arc::new(array.context(|| "assembling a decimal column")?)
            }
        })
    }
}

/// The values as Arrow's own memory, not copied; the vector gets room for as many again.
fn take<T: arrow::datatypes::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    let next = Vec::with_capacity(values.len());
    ScalarBuffer::from(std::mem::replace(values, next))
}
