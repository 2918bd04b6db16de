//! One column that is read from a field of the input: how a JSON value becomes a value of its type.
//!
//! The one law: numbers are read from their text, whether JSON wrote them as numbers or as strings; a card number leaves
//! this file as a token. An empty text counts as no value, as it does in a CSV file.

use std::sync::Arc;

use arrow::array::ArrayRef;

use super::columns::{Column, Texts, Values};
use super::rejects::{Reason, Refusal};
use super::scanner::Value;
use super::{numbers, times};
use crate::contract::{self, InputField};
use crate::error::{Error, Result};
use crate::token::{Tokenizer, holds_card_number};

/// A shorter text holds no card number.
const CARD_DIGITS_MIN: usize = 12;

/// Most zeros a contract may ask to be put in front; keeps a page's texts within Arrow's 31-bit offsets.
const PAD_MAX: usize = 64;

/// A column and the field it is read from.
#[derive(Debug)]
pub(super) struct InputColumn {
    field: InputField,
    nullable: bool,
    /// Holds any text: neither a card, nor an identity, nor digits of a declared length.
    is_free: bool,
    column: Column,
}

/// Reused space for texts that cannot be taken as they stand.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) unescaped: String,
    padded: String,
}

impl InputColumn {
    /// # Errors
    /// [`Error::Usage`] for options that do not go with the column's type.
    pub(super) fn new(column: &contract::Column, field: &InputField, is_identity: bool) -> Result<Self> {
        let builder =
            Column::new(&column.data_type).map_err(|e| Error::usage(format!("column `{}`: {e}", column.name)))?;
        let has_options = field.pad.is_some() || field.strip_prefix.is_some() || field.token;
        if has_options && !matches!(builder.values, Values::Text(_)) {
            return Err(Error::usage(format!(
                "column `{}`: `pad`, `strip_prefix` and `token` are for STRING columns",
                column.name
            )));
        }
        if field.pad.is_some_and(|pad| pad > PAD_MAX) {
            return Err(Error::usage(format!("column `{}`: `pad` is at most {PAD_MAX}", column.name)));
        }
        let is_free = !is_identity && !field.token && field.pad.is_none();
        Ok(Self { field: field.clone(), nullable: column.nullable, is_free, column: builder })
    }

    /// The input field's name.
    pub(super) fn field(&self) -> &Arc<str> {
        &self.field.name
    }

    /// Whether the value is to be a card number's token.
    pub(super) fn is_token(&self) -> bool {
        self.field.token
    }

    pub(super) fn len(&self) -> usize {
        self.column.len()
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.column.truncate(rows);
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        self.column.finish()
    }

    /// The field is absent, null or empty.
    pub(super) fn push_missing(&mut self) -> Result<(), Refusal> {
        if !self.nullable {
            return Err(Refusal::of_field(
                Reason::MissingField,
                &self.field.name,
                "required, and absent, null or empty",
            ));
        }
        self.column.push_null();
        Ok(())
    }

    /// Appends one value of the input.
    #[inline]
    pub(super) fn push(
        &mut self,
        value: Value<'_>,
        scratch: &mut Scratch,
        cards: &mut Tokenizer,
    ) -> Result<(), Refusal> {
        match value {
            Value::Null => return self.push_missing(),
            Value::Text(text) if text.is_empty() => return self.push_missing(),
            _ => {}
        }
        let pushed = match &mut self.column.values {
            Values::Text(texts) => push_text(texts, &self.field, self.is_free, value, scratch, cards),
            other => push_plain(other, value, scratch),
        };
        match pushed {
            Ok(true) => {
                self.column.mark_valid();
                Ok(())
            }
            Ok(false) => self.push_missing(),
            Err(reason) => Err(self.refusal(reason, value)),
        }
    }

    #[cold]
    fn refusal(&self, reason: Reason, value: Value<'_>) -> Refusal {
        let found = match value {
            Value::Text(_) => "a text",
            Value::Number(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::Null => "null",
            Value::Nested => "an object or an array",
        };
        Refusal::of_field(reason, &self.field.name, format!("{}; found {found}", self.wanted()))
    }

    fn wanted(&self) -> String {
        match &self.column.values {
            Values::Text(_) if self.field.token => "a card number of 12 to 19 digits, or its token, is wanted".into(),
            Values::Text(_) if self.field.pad.is_some() => "a text or a whole number is wanted".into(),
            Values::Text(_) => "a text is wanted".into(),
            Values::Boolean(_) => "true, false, 0 or 1 is wanted".into(),
            Values::Int16(_) => "a whole number of 16 bits is wanted".into(),
            Values::Int32(_) => "a whole number of 32 bits is wanted".into(),
            Values::Int64(_) => "a whole number of 64 bits is wanted".into(),
            Values::Float32(_) | Values::Float64(_) => "a finite number is wanted".into(),
            Values::Date(_) => "a date like 2026-11-23 is wanted".into(),
            Values::Timestamp(_) => "a time like 2026-11-23 14:05:00 or 2026-11-23T14:05:00.25Z is wanted".into(),
            Values::Decimal { precision, scale, .. } => {
                format!("a number of at most {precision} digits, {scale} of them decimals, is wanted")
            }
        }
    }
}

/// Appends a text; false when nothing of it is left.
#[inline]
fn push_text(
    texts: &mut Texts,
    field: &InputField,
    is_free: bool,
    value: Value<'_>,
    scratch: &mut Scratch,
    cards: &mut Tokenizer,
) -> Result<bool, Reason> {
    let text = match value {
        Value::Text(text) => text.resolve(&mut scratch.unescaped),
        // A number keeps its own text, so it must be nothing but digits: 2.70E+15 is a card that a spreadsheet damaged.
        Value::Number(number) if field.token || field.pad.is_some() => {
            if !is_digits(number) {
                return Err(if field.token { Reason::NotACardNumber } else { Reason::NotAnInteger });
            }
            number
        }
        _ => return Err(Reason::WrongType),
    };
    let text = field.strip_prefix.as_deref().and_then(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    if text.is_empty() {
        return Ok(false);
    }
    let zeros = match field.pad {
        Some(pad) if text.len() < pad && is_digits(text) => pad - text.len(),
        _ => 0,
    };
    if field.token {
        texts.push(card_token(text, zeros, &mut scratch.padded, cards)?);
    } else if zeros > 0 {
        texts.push_padded(zeros, text);
    } else if is_free && text.len() >= CARD_DIGITS_MIN && holds_card_number(text.as_bytes()) {
        return Err(Reason::CardNumberInText);
    } else {
        texts.push(text);
    }
    Ok(true)
}

fn card_token<'t>(
    text: &'t str,
    zeros: usize,
    padded: &'t mut String,
    cards: &'t mut Tokenizer,
) -> Result<&'t str, Reason> {
    if Tokenizer::is_token(text.as_bytes()) {
        return Ok(text);
    }
    if !Tokenizer::is_card_number(text.as_bytes()) {
        return Err(Reason::NotACardNumber);
    }
    if zeros == 0 {
        return Ok(cards.token(text));
    }
    padded.clear();
    padded.extend(std::iter::repeat_n('0', zeros));
    padded.push_str(text);
    Ok(cards.token(padded))
}

/// Appends a value of any type but text; always true.
#[inline]
fn push_plain(column: &mut Values, value: Value<'_>, scratch: &mut Scratch) -> Result<bool, Reason> {
    match column {
        Values::Int16(v) => v.push(whole(value, scratch)?),
        Values::Int32(v) => v.push(whole(value, scratch)?),
        Values::Int64(v) => v.push(whole(value, scratch)?),
        Values::Float32(v) => v.push(numbers::float(number_text(value, scratch)?)?),
        Values::Float64(v) => v.push(numbers::double(number_text(value, scratch)?)?),
        Values::Boolean(v) => v.push(boolean(value, scratch)?),
        Values::Date(v) => v.push(moment(value, scratch, Reason::InvalidDate, times::date)?),
        Values::Timestamp(v) => v.push(moment(value, scratch, Reason::InvalidTime, times::timestamp)?),
        Values::Decimal { values, precision, scale } => {
            values.push(numbers::decimal(number_text(value, scratch)?, *precision, *scale)?);
        }
        Values::Text(_) => return Err(Reason::WrongType),
    }
    Ok(true)
}

#[inline]
fn whole<T: TryFrom<i64>>(value: Value<'_>, scratch: &mut Scratch) -> Result<T, Reason> {
    T::try_from(numbers::integer(number_text(value, scratch)?)?).map_err(|_| Reason::OutOfRange)
}

/// The text of a number, be it written as a number or as a string.
#[inline]
fn number_text<'s>(value: Value<'s>, scratch: &'s mut Scratch) -> Result<&'s [u8], Reason> {
    match value {
        Value::Number(number) => Ok(number.as_bytes()),
        Value::Text(text) => Ok(text.resolve(&mut scratch.unescaped).as_bytes().trim_ascii()),
        _ => Err(Reason::WrongType),
    }
}

fn boolean(value: Value<'_>, scratch: &mut Scratch) -> Result<bool, Reason> {
    match value {
        Value::Boolean(b) => Ok(b),
        _ => numbers::boolean(number_text(value, scratch)?),
    }
}

/// A date or a time, which only a text can be.
#[inline]
fn moment<T>(
    value: Value<'_>,
    scratch: &mut Scratch,
    otherwise: Reason,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<T, Reason> {
    match value {
        Value::Text(text) => parse(text.resolve(&mut scratch.unescaped).as_bytes().trim_ascii()).ok_or(otherwise),
        _ => Err(Reason::WrongType),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}
