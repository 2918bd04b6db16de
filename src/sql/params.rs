//! Parameters of batch statements: `--param day=2020-06-21` fills `$day`.
//!
//! The one law: a parameter is a typed value, never text pasted into SQL. A missing one and an unused one are errors.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use arrow::datatypes::Date32Type;
use datafusion::common::ScalarValue;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{Value, ValueWithSpan};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::place::{Refusal, Refusals, nearest};
use crate::error::{Error, Result};
use crate::syntax::{Look, look};

/// Parameters by name.
pub type Params = BTreeMap<String, ScalarValue>;

/// Reads `name=value` assignments.
///
/// A value is the first of these it can be read as: `'text'`, `null`, `true`/`false`, a whole number, a decimal, a date
/// (`2020-06-21`), a time (`2020-06-21T12:00:00Z`), text. Numbers with a leading zero (zip codes) are text.
///
/// # Errors
/// [`Error::Usage`] for an assignment without `=`, or a name given twice.
pub fn parse_params(assignments: &[String]) -> Result<Params> {
    let mut params = Params::new();
    for assignment in assignments {
        let (name, value) = assignment
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Error::usage(format!("`--param {assignment}`: expected `name=value`")))?;
        if params.insert(name.to_owned(), literal(value)).is_some() {
            return Err(Error::usage(format!("`--param {name}` is given twice")));
        }
    }
    Ok(params)
}

fn literal(text: &str) -> ScalarValue {
    if let Some(quoted) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return ScalarValue::from(quoted.replace("''", "'").as_str());
    }
    match text {
        "null" => return ScalarValue::Null,
        "true" => return ScalarValue::from(true),
        "false" => return ScalarValue::from(false),
        _ => {}
    }
    number(text).or_else(|| time(text)).unwrap_or_else(|| ScalarValue::from(text))
}

fn number(text: &str) -> Option<ScalarValue> {
    /// Digits a 128-bit decimal holds.
    const DIGITS_MAX: usize = 38;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = !whole.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let has_leading_zero = whole.len() > 1 && whole.starts_with('0');
    if !is_number || has_leading_zero || digits.ends_with('.') || fraction.contains('.') {
        return None;
    }
    if fraction.is_empty() {
        return text.parse::<i64>().ok().map(ScalarValue::from);
    }
    let precision = whole.len() + fraction.len();
    let value = text.replace('.', "").parse::<i128>().ok().filter(|_| precision <= DIGITS_MAX)?;
    Some(ScalarValue::Decimal128(Some(value), u8::try_from(precision).ok()?, i8::try_from(fraction.len()).ok()?))
}

fn time(text: &str) -> Option<ScalarValue> {
    if let Ok(date) = text.parse::<chrono::NaiveDate>() {
        return Some(ScalarValue::Date32(Some(Date32Type::from_naive_date(date))));
    }
    let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    Some(ScalarValue::TimestampMicrosecond(Some(time.timestamp_micros()), Some("UTC".into())))
}

/// Checks that the statement's `$names` and the given parameters are the same names.
pub(super) fn check(statement: &Statement, params: &Params) -> std::result::Result<(), Refusals> {
    let placeholders = placeholders(statement);
    let mut refused = Refusals::default();
    for (name, at) in &placeholders {
        if !params.contains_key(name) {
            let refusal = Refusal::new(*at, format!("`${name}` has no value"));
            let refusal = match nearest(name, params.keys().map(String::as_str)) {
                Some(given) => refusal.help(format!("`--param {given}` is given; did you mean `${given}`?")),
                None => refusal,
            };
            refused.push(refusal.help(format!("give one with `--param {name}=…`")));
        }
    }
    for name in params.keys() {
        if !placeholders.iter().any(|(used, _)| used == name) {
            let known = placeholders.iter().map(|(used, _)| used.as_str());
            let refusal = Refusal::new(Span::empty(), format!("`--param {name}`: the statement has no `${name}`"));
            refused.push(refusal.near(name, known));
        }
    }
    refused.or(())
}

/// The `$names` of a statement, in order.
pub(super) fn placeholders(statement: &Statement) -> Vec<(String, Span)> {
    let mut found = Placeholders(Vec::new());
    let _: ControlFlow<()> = match statement {
        Statement::Statement(statement) => look(statement, &mut found),
        Statement::CopyTo(copy) => match &copy.source {
            CopyToSource::Query(query) => look(query, &mut found),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        Statement::Explain(explain) => return placeholders(&explain.statement),
        Statement::CreateExternalTable(_) | Statement::Reset(_) => ControlFlow::Continue(()),
    };
    found.0
}

struct Placeholders(Vec<(String, Span)>);

impl Look for Placeholders {
    type Break = ();

    fn value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        if let Value::Placeholder(name) = &value.value {
            self.0.push((name.trim_start_matches('$').to_owned(), value.span));
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        format!("{:?}", literal(text))
    }

    #[test]
    fn values_have_types() {
        assert_eq!(literal("42"), ScalarValue::Int64(Some(42)));
        assert_eq!(literal("-1.50"), ScalarValue::Decimal128(Some(-150), 3, 2));
        assert_eq!(literal("true"), ScalarValue::Boolean(Some(true)));
        assert_eq!(literal("01257"), ScalarValue::Utf8(Some("01257".into())));
        assert_eq!(literal("'42'"), ScalarValue::Utf8(Some("42".into())));
        assert_eq!(literal("SC"), ScalarValue::Utf8(Some("SC".into())));
        assert_eq!(literal("1970-01-02"), ScalarValue::Date32(Some(1)));
        assert_eq!(
            literal("1970-01-01T00:00:01Z"),
            ScalarValue::TimestampMicrosecond(Some(1_000_000), Some("UTC".into()))
        );
        assert!(shown("1.2.3").contains("Utf8"), "{}", shown("1.2.3"));
    }

    #[test]
    fn assignments_need_a_name_and_come_once() {
        assert!(parse_params(&["x".into()]).is_err());
        assert!(parse_params(&["a=1".into(), "a=2".into()]).unwrap_err().to_string().contains("twice"));
    }
}
