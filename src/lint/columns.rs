//! Columns, protocol and properties as the log declares them.
//!
//! The one law: only what the log itself says is judged here; what files hold is judged by their footers.

use std::collections::BTreeMap;

use serde_json::Value;

use super::log::{Column, TableLog};
use super::{Linted, Rule};
use crate::contract::{NAME_BYTES_MAX, is_reserved};

/// Properties that break a promise, with what would keep it; the value is one that does.
const PROPERTIES: [(&str, &str); 4] = [
    ("delta.checkpointPolicy", "classic"),
    ("delta.enableDeletionVectors", "false"),
    ("delta.columnMapping.mode", "none"),
    ("delta.randomizeFilePrefixes", "false"),
];

/// Columns of a file whose ranges a log holds, unless the table says otherwise.
const INDEXED_COLUMNS: usize = 32;

/// Days that removed files and commits have to stay.
const RETENTION_DAYS_MIN: f64 = 7.0;

/// Judges what the log declares.
pub(super) fn check(log: &TableLog, linted: &mut Linted) {
    protocol(log, linted);
    properties(log, linted);
    filters(log, linted);
    for application in log.applications.iter().filter(|id| holds_uuid(id)) {
        linted.find(Rule::Application, application.as_str(), "the application's id holds a UUID");
    }
    let mut folded: BTreeMap<String, &str> = BTreeMap::new();
    for column in &log.columns {
        name(column, linted);
        if let Some(other) = folded.insert(column.name.to_lowercase(), &column.name) {
            linted.find(Rule::ColumnName, column.name.as_str(), format!("in lower case it is `{other}`, too"));
        }
        match &column.data_type {
            Value::String(simple) => simple_type(&column.name, simple, linted),
            other => nested_type(&column.name, other, linted),
        }
    }
}

fn protocol(log: &TableLog, linted: &mut Linted) {
    let protocol = &log.protocol;
    let (reader, writer) = (protocol.min_reader_version, protocol.min_writer_version);
    let mut features: Vec<&str> =
        protocol.reader_features.iter().chain(&protocol.writer_features).map(String::as_str).collect();
    features.sort_unstable();
    features.dedup();
    if reader > 1 || writer > 2 || !features.is_empty() {
        let with = if features.is_empty() { String::new() } else { format!(" with {}", features.join(", ")) };
        linted.find(Rule::Protocol, "protocol", format!("reader {reader}, writer {writer}{with}; at most 1 and 2"));
    }
}

fn properties(log: &TableLog, linted: &mut Linted) {
    for (property, good) in PROPERTIES {
        if let Some(value) = log.properties.get(property).filter(|value| value.as_str() != good) {
            linted.find(Rule::Property, property, format!("it is `{value}`, not `{good}`"));
        }
    }
    if let Some(value) = log.properties.get("delta.setTransactionRetentionDuration") {
        let property = "delta.setTransactionRetentionDuration";
        linted.find(
            Rule::Property,
            property,
            format!("after {value} the log forgets what an application has committed"),
        );
    }
    for property in ["delta.logRetentionDuration", "delta.deletedFileRetentionDuration"] {
        if let Some(value) = log.properties.get(property)
            && days(value).is_some_and(|days| days < RETENTION_DAYS_MIN)
        {
            linted.find(Rule::Property, property, format!("it is `{value}`, less than {RETENTION_DAYS_MIN} days"));
        }
    }
}

/// A table that says what its rows are sorted by says by what queries leave them out.
fn filters(log: &TableLog, linted: &mut Linted) {
    if log.properties.contains_key("delta.dataSkippingStatsColumns") {
        return;
    }
    let said = log.properties.get("delta.dataSkippingNumIndexedCols").and_then(|said| said.parse::<i64>().ok());
    // A negative number is all of them.
    let indexed = said.map_or(INDEXED_COLUMNS, |said| usize::try_from(said).unwrap_or(usize::MAX));
    let stored: Vec<&str> =
        log.columns.iter().map(|column| column.name.as_str()).filter(|name| !is_partition(log, name)).collect();
    for name in log.sort_by() {
        let place = stored.iter().position(|stored| *stored == name);
        if let Some(place) = place.filter(|place| *place >= indexed) {
            let what =
                format!("rows are sorted by it, and it is column {}; the log knows ranges of {indexed}", place + 1);
            linted.find(Rule::FilterColumn, name, what);
        }
    }
}

fn is_partition(log: &TableLog, name: &str) -> bool {
    log.partition_by.iter().any(|column| column == name)
}

/// `interval 7 days`, `interval 1 week`, `interval 36 hours`: in days.
fn days(interval: &str) -> Option<f64> {
    let mut words = interval.split_whitespace().skip_while(|word| word.eq_ignore_ascii_case("interval"));
    let count: f64 = words.next()?.parse().ok()?;
    let unit = match words.next()?.trim_end_matches('s') {
        "second" => 1.0 / 86_400.0,
        "minute" => 1.0 / 1_440.0,
        "hour" => 1.0 / 24.0,
        "day" => 1.0,
        "week" => 7.0,
        _ => return None,
    };
    Some(count * unit)
}

/// Whether an id holds 8-4-4-4-12 hexadecimal digits.
fn holds_uuid(id: &str) -> bool {
    let bytes = id.as_bytes();
    bytes.windows(36).any(|window| std::str::from_utf8(window).is_ok_and(|text| uuid::Uuid::try_parse(text).is_ok()))
}

fn name(column: &Column, linted: &mut Linted) {
    let name = column.name.as_str();
    let plain = name.strip_prefix('_').unwrap_or(name);
    let is_plain = plain.starts_with(|c: char| c.is_ascii_lowercase())
        && plain.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !is_plain {
        linted.find(Rule::ColumnName, name, "it is not of the form [a-z][a-z0-9_]*");
    } else if is_reserved(name) {
        linted.find(Rule::ColumnName, name, "it is a reserved word");
    } else if name.len() > NAME_BYTES_MAX {
        linted.find(Rule::ColumnName, name, format!("it is longer than {NAME_BYTES_MAX} bytes"));
    }
}

fn simple_type(name: &str, data_type: &str, linted: &mut Linted) {
    match data_type {
        "string" | "long" | "integer" | "short" | "boolean" | "double" | "float" | "date" | "timestamp" | "binary" => {}
        "byte" => linted.find(Rule::ColumnType, name, "it is a byte (TINYINT), which Redshift does not have"),
        other => match decimal(other) {
            Some((precision, _)) if precision > 38 => {
                linted.find(Rule::ColumnType, name, format!("it is {other}; 38 digits are the most"));
            }
            Some((precision, _)) if precision <= 18 => linted.find(Rule::SmallDecimal, name, format!("it is {other}")),
            Some(_) => {}
            None => linted.find(Rule::ColumnType, name, format!("it is {other}")),
        },
    }
}

/// Precision and scale of `decimal(p,s)`.
pub(super) fn decimal(data_type: &str) -> Option<(i32, i32)> {
    let (precision, scale) = data_type.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
    Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?))
}

/// An array of scalars, or of structs of scalars, is read everywhere; nothing else that is nested is.
fn nested_type(name: &str, data_type: &Value, linted: &mut Linted) {
    let kind = |value: &Value| value.get("type").and_then(Value::as_str).unwrap_or("unknown").to_owned();
    let element = data_type.get("elementType");
    let is_flat = match element {
        Some(Value::String(_)) => true,
        Some(inner) => {
            let fields = inner.get("fields").and_then(Value::as_array);
            kind(inner) == "struct" && fields.is_some_and(|fields| fields.iter().all(|field| field["type"].is_string()))
        }
        None => false,
    };
    if kind(data_type) != "array" || !is_flat {
        linted.find(Rule::Nested, name, format!("it is a {}", kind(data_type)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_spark_writes_them() {
        for (text, wanted) in [
            ("interval 7 days", Some(7.0)),
            ("interval 1 week", Some(7.0)),
            ("interval 12 hours", Some(0.5)),
            ("interval 1 fortnight", None),
        ] {
            assert_eq!(days(text), wanted, "{text}");
        }
    }

    #[test]
    fn an_id_of_a_run_is_told_from_the_name_of_a_job() {
        assert!(holds_uuid("job-0b9d6f3e-55f1-4c2b-9a3e-6a1f2f0c7d10"));
        assert!(!holds_uuid("lakeward") && !holds_uuid("lakeward-eu-west-1-production-of-cards-2026"));
    }
}
