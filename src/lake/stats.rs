//! Statistics of data files as Delta's log holds them: rows, nulls, lowest and highest values, in JSON.
//!
//! The one law: a bound never lies inside the data. Where a value does not fit its JSON form (microseconds, long text),
//! the lower bound is rounded down and the upper one up; where that is impossible there is no bound.
//!
//! deltalake's own statistics are not used: they cut upper bounds of times down to the millisecond, pass decimals through
//! f64, and are private.

use std::cmp::Ordering;
use std::fmt::Write;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Schema, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, NaiveDate};

use crate::clock::Micros;
use crate::error::{Context, Result};
use crate::token::holds_token;

/// Delta's `delta.dataSkippingNumIndexedCols` is 32 unless set.
const COLUMNS_MAX: usize = 32;
/// Text bounds keep so many characters, as Spark writes them.
const TEXT_CHARS_MAX: usize = 32;
/// Microseconds in a millisecond, the finest time the log's JSON holds.
pub(super) const MILLI: Micros = 1_000;

/// Collects the statistics of one file, batch by batch.
#[derive(Debug)]
pub(super) struct FileStats {
    rows: u64,
    columns: Vec<ColumnStats>,
}

#[derive(Debug)]
struct ColumnStats {
    name: String,
    data_type: DataType,
    nulls: u64,
    bounds: Bounds,
}

#[derive(Debug)]
enum Bounds {
    /// No value seen yet.
    Empty,
    Between(Bound, Bound),
    /// A type or a value that has no bounds in JSON (binary, boolean, not a number).
    Unbounded,
}

/// A value in the order of its type.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Bound {
    /// Integers, days, microseconds, unscaled decimals.
    Whole(i128),
    /// With the shorter text of its own precision: 0.1f32 is not 0.10000000149011612.
    Float(f64, String),
    Text(String),
}

impl FileStats {
    /// For a file of this schema (without the partition column).
    pub(super) fn new(schema: &Schema) -> Self {
        let columns = schema.fields().iter().take(COLUMNS_MAX).map(|field| ColumnStats {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            nulls: 0,
            bounds: Bounds::Empty,
        });
        Self { rows: 0, columns: columns.collect() }
    }

    /// Takes in a batch of the file's schema.
    pub(super) fn observe(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        for (column, values) in self.columns.iter_mut().zip(batch.columns()) {
            column.nulls += values.null_count() as u64;
            if values.null_count() < values.len() {
                column.bounds.widen(bounds_of(values)?);
            }
        }
        Ok(())
    }

    /// Rows seen.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The `stats` of an Add action.
    pub(super) fn to_json(&self) -> String {
        let bound = |pick: fn(&ColumnStats) -> Option<String>| {
            object(self.columns.iter().filter_map(|column| Some((column.name.as_str(), pick(column)?))))
        };
        let min = bound(|c| if let Bounds::Between(min, _) = &c.bounds { min.lower(&c.data_type) } else { None });
        let max = bound(|c| if let Bounds::Between(_, max) = &c.bounds { max.upper(&c.data_type) } else { None });
        let nulls = object(self.columns.iter().map(|column| (column.name.as_str(), column.nulls.to_string())));
        format!(r#"{{"numRecords":{},"minValues":{min},"maxValues":{max},"nullCount":{nulls}}}"#, self.rows)
    }
}

impl Bounds {
    fn widen(&mut self, seen: Self) {
        let before = std::mem::replace(self, Self::Unbounded);
        *self = match (before, seen) {
            (Self::Empty, seen) => seen,
            (Self::Between(a, b), Self::Between(c, d)) => {
                Self::Between(pick(a, c, Ordering::Less), pick(b, d, Ordering::Greater))
            }
            _ => Self::Unbounded,
        };
    }
}

fn pick(a: Bound, b: Bound, wanted: Ordering) -> Bound {
    if b.partial_cmp(&a) == Some(wanted) { b } else { a }
}

/// Bounds of a column with at least one value.
fn bounds_of(values: &ArrayRef) -> Result<Bounds> {
    macro_rules! whole {
        ($type:ty) => {{
            let values = values.as_primitive::<$type>();
            compute::min(values)
                .zip(compute::max(values))
                .map(|(a, b)| (Bound::Whole(a.into()), Bound::Whole(b.into())))
        }};
    }
    macro_rules! float {
        ($type:ty) => {{
            let values = values.as_primitive::<$type>();
            // JSON knows neither NaN, which sorts above all numbers here, nor infinity.
            let finite = compute::min(values).zip(compute::max(values)).filter(|(a, b)| a.is_finite() && b.is_finite());
            let literal = |v| serde_json::to_string(&v).context(|| "a finite number has no JSON form");
            match finite {
                Some((a, b)) => Some((Bound::Float(a.into(), literal(a)?), Bound::Float(b.into(), literal(b)?))),
                None => None,
            }
        }};
    }
    let found = match values.data_type() {
        DataType::Int16 => whole!(Int16Type),
        DataType::Int32 => whole!(Int32Type),
        DataType::Int64 => whole!(Int64Type),
        DataType::Date32 => whole!(Date32Type),
        DataType::Timestamp(TimeUnit::Microsecond, _) => whole!(TimestampMicrosecondType),
        DataType::Decimal128(..) => whole!(Decimal128Type),
        DataType::Float32 => float!(Float32Type),
        DataType::Float64 => float!(Float64Type),
        DataType::Utf8 => {
            let values = values.as_string::<i32>();
            let text = |text: &str| Bound::Text(text.to_owned());
            let bounds = compute::min_string(values).zip(compute::max_string(values));
            // Statistics outlive the rows, in slots and logs; and tokens are random, so that no file is left out by them.
            bounds.filter(|(a, b)| ![a, b].iter().any(|text| holds_token(text))).map(|(a, b)| (text(a), text(b)))
        }
        // Spark keeps no bounds of these either.
        _ => None,
    };
    Ok(found.map_or(Bounds::Unbounded, |(min, max)| Bounds::Between(min, max)))
}

impl Bound {
    /// A JSON literal that is not above the value.
    fn lower(&self, data_type: &DataType) -> Option<String> {
        match self {
            Self::Whole(value) => whole_literal(*value, data_type, i64::div_euclid),
            Self::Float(_, literal) => Some(literal.clone()),
            Self::Text(text) => quoted(text.char_indices().nth(TEXT_CHARS_MAX).map_or(text, |(end, _)| &text[..end])),
        }
    }

    /// A JSON literal that is not below the value.
    fn upper(&self, data_type: &DataType) -> Option<String> {
        match self {
            Self::Whole(value) => whole_literal(*value, data_type, |v, unit| -(-v).div_euclid(unit)),
            Self::Float(_, literal) => Some(literal.clone()),
            Self::Text(text) => match text.char_indices().nth(TEXT_CHARS_MAX) {
                None => quoted(text),
                // Spark's rule: the prefix and a character above whatever follows.
                Some((end, next)) if next < '\u{7f}' => quoted(&format!("{}\u{7f}", &text[..end])),
                Some((end, next)) if next < char::MAX => quoted(&format!("{}{}", &text[..end], char::MAX)),
                Some(_) => None,
            },
        }
    }
}

fn whole_literal(value: i128, data_type: &DataType, to_millis: fn(i64, i64) -> i64) -> Option<String> {
    match data_type {
        DataType::Date32 => {
            let date = NaiveDate::from_epoch_days(i32::try_from(value).ok()?)?;
            (0..=9999).contains(&date.year()).then(|| format!("\"{}\"", date.format("%Y-%m-%d")))
        }
        DataType::Timestamp(..) => {
            let micros = i64::try_from(value).ok().filter(|micros| *micros != i64::MIN)?;
            let time = DateTime::from_timestamp_millis(to_millis(micros, MILLI))?;
            (0..=9999).contains(&time.year()).then(|| format!("\"{}\"", time.format("%Y-%m-%dT%H:%M:%S%.3fZ")))
        }
        DataType::Decimal128(_, scale) => Some(decimal_literal(value, usize::try_from(*scale).ok()?)),
        _ => Some(value.to_string()),
    }
}

/// All digits: JSON numbers are text, and a reader that wants them exact gets them so.
fn decimal_literal(unscaled: i128, scale: usize) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    if scale == 0 {
        return unscaled.to_string();
    }
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

fn quoted(text: &str) -> Option<String> {
    serde_json::to_string(text).ok()
}

fn object<'a>(members: impl Iterator<Item = (&'a str, String)>) -> String {
    let mut json = String::from("{");
    for (name, literal) in members {
        let separator = if json.len() > 1 { "," } else { "" };
        // Column names are plain words by contract; quoting anyway costs nothing.
        let name = quoted(name).unwrap_or_default();
        write!(json, "{separator}{name}:{literal}").unwrap_or_default();
    }
    json.push('}');
    json
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, *};
    use serde_json::Value;

    use super::*;

    fn stats_of(columns: &[(&str, Vec<ArrayRef>)]) -> Value {
        let batches = columns[0].1.len();
        let batch =
            |i: usize| RecordBatch::try_from_iter(columns.iter().map(|(n, c)| (*n, Arc::clone(&c[i])))).unwrap();
        let mut stats = FileStats::new(&batch(0).schema());
        (0..batches).for_each(|i| stats.observe(&batch(i)).unwrap());
        serde_json::from_str(&stats.to_json()).unwrap()
    }

    fn micros(values: &[i64]) -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(values.to_vec()).with_timezone("UTC"))
    }

    #[test]
    fn times_are_rounded_outwards_to_the_millisecond() {
        // 2026-11-23T10:00:00.000001Z and .000999Z; then before 1970, where truncation would round the wrong way.
        let stats = stats_of(&[("t", vec![micros(&[1_795_428_000_000_001]), micros(&[1_795_428_000_000_999])])]);
        assert_eq!(stats["minValues"]["t"], "2026-11-23T10:00:00.000Z");
        assert_eq!(stats["maxValues"]["t"], "2026-11-23T10:00:00.001Z");
        let stats = stats_of(&[("t", vec![micros(&[-1_500])])]);
        assert_eq!(stats["minValues"]["t"], "1969-12-31T23:59:59.998Z");
        assert_eq!(stats["maxValues"]["t"], "1969-12-31T23:59:59.999Z");
        let stats = stats_of(&[("t", vec![micros(&[i64::MIN, i64::MAX])])]);
        assert_eq!(stats["minValues"], serde_json::json!({}));
        assert_eq!(stats["maxValues"], serde_json::json!({}));
    }

    #[test]
    fn decimals_keep_every_digit() {
        assert_eq!(decimal_literal(123_456_789_012_345_678_901_234_567_890, 2), "1234567890123456789012345678.90");
        assert_eq!(decimal_literal(-5, 2), "-0.05");
        assert_eq!(decimal_literal(0, 2), "0.00");
        assert_eq!(decimal_literal(-100, 0), "-100");
        let values = Decimal128Array::from(vec![-5, 9_007_199_254_740_993]).with_precision_and_scale(20, 2).unwrap();
        let mut stats =
            FileStats::new(&Schema::new(vec![arrow::datatypes::Field::new("d", values.data_type().clone(), false)]));
        stats.observe(&RecordBatch::try_from_iter([("d", Arc::new(values) as ArrayRef)]).unwrap()).unwrap();
        let json = stats.to_json();
        assert!(json.contains(r#""minValues":{"d":-0.05},"maxValues":{"d":90071992547409.93}"#), "{json}");
    }

    #[test]
    fn long_text_is_cut_and_still_bounds() {
        let long = "x".repeat(40);
        let umlauts = "ä".repeat(40);
        let text = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        let stats = stats_of(&[
            ("a", vec![text(&[&long, &long])]),
            ("b", vec![text(&[&umlauts, "short \" quote"])]),
            ("c", vec![text(&[&char::MAX.to_string().repeat(40), "a"])]),
        ]);
        for column in ["a", "b"] {
            let (min, max) =
                (stats["minValues"][column].as_str().unwrap(), stats["maxValues"][column].as_str().unwrap());
            let (lowest, highest) = if column == "a" { (&*long, &*long) } else { ("short \" quote", &*umlauts) };
            assert!(min <= lowest && highest <= max, "{min} {max}");
            assert!(max.chars().count() <= TEXT_CHARS_MAX + 1);
        }
        assert_eq!(stats["minValues"]["a"].as_str().unwrap(), "x".repeat(32));
        assert_eq!(stats["maxValues"].get("c"), None);
    }

    #[test]
    fn a_token_bounds_nothing() {
        let text = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        let token = "tok_1_24938f9a9679fe70c7d98144da818bed";
        let stats = stats_of(&[
            ("card", vec![text(&[token]), text(&["a"])]),
            ("list", vec![text(&["b"]), text(&[&format!("{token}, {token}")])]),
            ("city", vec![text(&["b"]), text(&["a"])]),
        ]);
        assert_eq!(stats["minValues"], serde_json::json!({"city": "a"}));
        assert_eq!(stats["maxValues"], serde_json::json!({"city": "b"}));
    }

    #[test]
    fn what_has_no_bound_has_none_and_nulls_are_counted_over_batches() {
        let stats = stats_of(&[
            ("null", vec![Arc::new(Int32Array::from(vec![None, None])), Arc::new(Int32Array::from(vec![None, None]))]),
            (
                "some",
                vec![Arc::new(Int32Array::from(vec![None, None])), Arc::new(Int32Array::from(vec![Some(-3), None]))],
            ),
            (
                "nan",
                vec![Arc::new(Float64Array::from(vec![1.0, 2.0])), Arc::new(Float64Array::from(vec![f64::NAN, 0.5]))],
            ),
            (
                "real",
                vec![Arc::new(Float64Array::from(vec![1.0, 2.0])), Arc::new(Float64Array::from(vec![-0.25, 1e300]))],
            ),
            (
                "yes",
                vec![Arc::new(BooleanArray::from(vec![true, false])), Arc::new(BooleanArray::from(vec![true, true]))],
            ),
        ]);
        assert_eq!(
            stats,
            serde_json::json!({
                "numRecords": 4,
                "minValues": {"some": -3, "real": -0.25},
                "maxValues": {"some": -3, "real": 1e300},
                "nullCount": {"null": 4, "some": 3, "nan": 0, "real": 0, "yes": 0},
            })
        );
    }

    #[test]
    fn only_the_first_columns_are_counted() {
        let one = || Arc::new(Int32Array::from(vec![1])) as ArrayRef;
        let names: Vec<String> = (0..40).map(|i| format!("c{i}")).collect();
        let stats = stats_of(&names.iter().map(|name| (name.as_str(), vec![one()])).collect::<Vec<_>>());
        assert_eq!(stats["nullCount"].as_object().unwrap().len(), COLUMNS_MAX);
    }
}
