//! The statistics of a data file as scans use them: rows, and ranges of the columns that files are left out by.
//!
//! The one law: a range is never narrower than the data, whoever wrote the statistics; what cannot be read is not known.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Schema, TimeUnit};
use chrono::{DateTime, Datelike, NaiveDate};
use serde::Deserialize;
use serde_json::Value;

use super::stats::MILLI;

/// What scans use of a file's statistics.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Known {
    pub(super) rows: Option<u64>,
    /// Of columns of whole numbers, days and microseconds: (index in the schema, (lowest, highest)).
    pub(super) ranges: Vec<(usize, (i64, i64))>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatsJson {
    num_records: Option<u64>,
    #[serde(default)]
    min_values: HashMap<String, Value>,
    #[serde(default)]
    max_values: HashMap<String, Value>,
}

/// Reads the `stats` of an Add action, anybody's. What cannot be read is not known; nothing depends on it but speed.
pub(super) fn read(schema: &Schema, stats: Option<&str>) -> Known {
    let Some(stats) = stats.and_then(|stats| serde_json::from_str::<StatsJson>(stats).ok()) else {
        return Known::default();
    };
    let ranges = schema.fields().iter().enumerate().filter_map(|(index, field)| {
        let value = |values: &HashMap<String, Value>| whole_value(field.data_type(), values.get(field.name())?);
        let (min, max) = (value(&stats.min_values)?, value(&stats.max_values)?);
        // Other writers cut upper bounds down to the millisecond.
        let time = matches!(field.data_type(), DataType::Timestamp(..));
        Some((index, (min, if time { max.saturating_add(MILLI - 1) } else { max })))
    });
    Known { rows: stats.num_records, ranges: ranges.collect() }
}

fn whole_value(data_type: &DataType, value: &Value) -> Option<i64> {
    match data_type {
        DataType::Int16 | DataType::Int32 | DataType::Int64 => value.as_i64(),
        DataType::Date32 => value.as_str().and_then(parse_date).map(i64::from),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            DateTime::parse_from_rfc3339(value.as_str()?).ok().map(|time| time.timestamp_micros())
        }
        _ => None,
    }
}

/// Days since 1970-01-01 of `YYYY-MM-DD`.
pub(super) fn parse_date(text: &str) -> Option<i32> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|date| date.to_epoch_days())
}

/// `YYYY-MM-DD` of days since 1970-01-01; none outside the years 0 to 9999, which no reader of a path understands.
pub(super) fn format_date(days: i32) -> Option<String> {
    let date = NaiveDate::from_epoch_days(days).filter(|date| (0..=9999).contains(&date.year()))?;
    Some(date.format("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::*;

    use super::super::stats::FileStats;
    use super::*;

    #[test]
    fn ranges_are_read_back_no_narrower_than_the_data() {
        let times =
            TimestampMicrosecondArray::from(vec![1_795_428_000_000_001, 1_795_428_000_500_001]).with_timezone("UTC");
        let batch = RecordBatch::try_from_iter([
            ("t", Arc::new(times) as ArrayRef),
            ("n", Arc::new(Int64Array::from(vec![i64::MAX, i64::MIN])) as ArrayRef),
            ("s", Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef),
        ])
        .unwrap();
        let mut stats = FileStats::new(&batch.schema());
        stats.observe(&batch).unwrap();
        let known = read(&batch.schema(), Some(&stats.to_json()));
        assert_eq!(known.rows, Some(2));
        assert_eq!(known.ranges[1], (1, (i64::MIN, i64::MAX)));
        let (0, (min, max)) = known.ranges[0] else { panic!("{known:?}") };
        assert!(min <= 1_795_428_000_000_001 && 1_795_428_000_500_001 <= max);
        assert_eq!(known.ranges.len(), 2);
        assert_eq!(read(&batch.schema(), Some("no JSON")), Known::default());
        assert_eq!(read(&batch.schema(), None), Known::default());
    }

    #[test]
    fn dates_survive_the_path() {
        assert_eq!(format_date(20_780).as_deref(), Some("2026-11-23"));
        assert_eq!(parse_date("2026-11-23"), Some(20_780));
        assert_eq!(format_date(i32::MAX), None);
        assert_eq!(parse_date("__HIVE_DEFAULT_PARTITION__"), None);
    }
}
