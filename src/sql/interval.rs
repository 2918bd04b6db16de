//! Lengths of time as SQL writes them: `INTERVAL '1 minute'`, `'10 seconds'`.
//!
//! The one law: a length is a whole number of microseconds. Months and years have no such length and are refused.

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use datafusion::sql::sqlparser::ast::{Expr, Interval, Spanned, Value};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::place::Refusal;
use crate::clock::{MICROS_PER_SECOND, Micros};

const MICROS_PER_DAY: Micros = 24 * 60 * 60 * MICROS_PER_SECOND;
/// The units a length is shown in, greatest first.
const UNITS: [(&str, Micros); 6] = [
    ("day", MICROS_PER_DAY),
    ("hour", 60 * 60 * MICROS_PER_SECOND),
    ("minute", 60 * MICROS_PER_SECOND),
    ("second", MICROS_PER_SECOND),
    ("millisecond", MICROS_PER_SECOND / 1_000),
    ("microsecond", 1),
];
const NANOS_PER_MICRO: i64 = 1_000;

/// The length of an `INTERVAL '…'` literal; `what` names it in a refusal ("the window's size").
pub(super) fn interval_literal(expr: &Expr, what: &str) -> Result<Micros, Refusal> {
    let refuse = || {
        Refusal::new(expr.span(), format!("{what} is a literal, not `{expr}`"))
            .help("write one like `INTERVAL '1 minute'`")
    };
    let Expr::Interval(Interval { value, leading_field, last_field: None, .. }) = expr else { return Err(refuse()) };
    let Expr::Value(literal) = value.as_ref() else { return Err(refuse()) };
    let number = match &literal.value {
        Value::SingleQuotedString(text) => text.clone(),
        Value::Number(number, _) => number.clone(),
        _ => return Err(refuse()),
    };
    let text = leading_field.as_ref().map_or_else(|| number.clone(), |unit| format!("{number} {unit}"));
    duration(&text, what, literal.span)
}

/// The length of `'10 seconds'`, `'1 hour 30 minutes'`, `'2 days'` (days have 24 hours); `what` and `at` are for a refusal.
pub(super) fn duration(text: &str, what: &str, at: Span) -> Result<Micros, Refusal> {
    let refuse = |why: &str| Refusal::new(at, format!("{what}: `{text}` {why}"));
    let parsed = text
        .chars()
        .any(char::is_alphabetic)
        .then(|| parse_interval_month_day_nano(text).ok())
        .flatten()
        .ok_or_else(|| refuse("is no length of time").help("write one like '10 seconds'"))?;
    if parsed.months != 0 {
        return Err(refuse("has no fixed length").help("write it in days, hours, minutes or seconds"));
    }
    if parsed.nanoseconds % NANOS_PER_MICRO != 0 {
        return Err(refuse("is finer than a microsecond"));
    }
    Micros::from(parsed.days)
        .checked_mul(MICROS_PER_DAY)
        .and_then(|days| days.checked_add(parsed.nanoseconds / NANOS_PER_MICRO))
        .ok_or_else(|| refuse("is too long"))
}

/// A length of time as SQL would write it: `1 hour 30 minutes`.
pub(super) fn show_duration(length: Micros) -> String {
    let mut left = length;
    let mut words = Vec::new();
    for (unit, size) in UNITS {
        let count = left / size;
        left %= size;
        if count != 0 {
            words.push(format!("{count} {unit}{}", if count.abs() == 1 { "" } else { "s" }));
        }
    }
    if words.is_empty() { "0 seconds".into() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duration(text: &str) -> Result<Micros, String> {
        super::duration(text, "it", Span::empty()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn lengths_are_shown_as_they_are_written() {
        for text in ["10 seconds", "1 hour 30 minutes", "2 days", "250 milliseconds", "1 day 1 microsecond"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        assert_eq!(show_duration(0), "0 seconds");
    }

    #[test]
    fn lengths_are_microseconds() {
        assert_eq!(duration("10 seconds"), Ok(10_000_000));
        assert_eq!(duration("1 hour 30 minutes"), Ok(5_400_000_000));
        assert_eq!(duration("2 days"), Ok(2 * MICROS_PER_DAY));
        assert_eq!(duration("250 milliseconds"), Ok(250_000));
    }

    #[test]
    fn lengths_that_are_none_are_refused() {
        assert!(duration("10").unwrap_err().contains("no length of time"));
        assert!(duration("ten seconds").is_err());
        assert!(duration("1 month").unwrap_err().contains("no fixed length"));
        assert!(duration("1 nanosecond").unwrap_err().contains("finer"));
    }
}
