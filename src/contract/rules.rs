//! The rules of the lake contract that a table's declaration can break.
//!
//! The one law: a table that passes can be created, read by every reader the lake is for, and filled by the engine.
//! Data and files are not looked at.

use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{ColumnDef, CreateTable, Expr, Ident, Spanned};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::options::{Placed, TableOptions};
use super::reserved::{NAME_BYTES_MAX, is_reserved};
use super::source::Source;
use super::types::type_name;
use super::{Column, Origin, parse, provenance, timestamp_type};
use crate::error::{Refusal, Refusals, Result};
use crate::syntax::look_at_exprs;

/// What a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameOf {
    Table,
    Column,
}

/// A name as declared.
pub(super) fn check_name(source: &Source, of: NameOf, name: &Ident) -> Result<()> {
    bad_name(of, &name.value).map_or(Ok(()), |refusal| Err(source.refuse(refusal.or_at(name.span))))
}

/// What makes a name one that some reader of the lake cannot take; the refusal has no place yet.
pub fn bad_name(of: NameOf, text: &str) -> Option<Refusal> {
    let refuse = |message: String| Some(Refusal::new(Span::empty(), message));
    let what = match of {
        // Crawlers skip what starts with `_`.
        NameOf::Table if text.starts_with('_') => {
            let refusal = refuse(format!("table `{text}`: readers skip folders that start with `_`"));
            return refusal.map(|refusal| refusal.help("choose another name"));
        }
        NameOf::Column if text.starts_with('_') && provenance_type(text).is_none() => {
            let refusal = refuse(format!("`{text}`: a leading `_` marks what the engine fills"));
            return refusal.map(|refusal| refusal.near(text, provenance_names()));
        }
        NameOf::Table => "table",
        NameOf::Column => "column",
    };
    let bare = text.strip_prefix('_').unwrap_or(text);
    let well_formed = bare.starts_with(|c: char| c.is_ascii_lowercase())
        && bare.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    if !well_formed {
        refuse(format!("{what} `{text}`: expected lower-case letters, digits and `_`, a letter first"))
    } else if text.len() > NAME_BYTES_MAX {
        refuse(format!("{what} `{text}`: longer than {NAME_BYTES_MAX} bytes"))
    } else if is_reserved(text) {
        let refusal = refuse(format!("{what} `{text}`: a reserved word of Athena or Redshift"));
        refusal.map(|refusal| refusal.help(format!("take another, like `{text}_value`")))
    } else {
        None
    }
}

/// Checks every column against the others: provenance, tokens, input fields, names inside expressions.
pub(super) fn check_columns(source: &Source, table: &CreateTable, columns: &[Column], stream: bool) -> Result<()> {
    let mut refused = Refusals::default();
    for (index, (definition, column)) in table.columns.iter().zip(columns).enumerate() {
        refused.gather(check_column(source, definition, column, &columns[..index]))?;
        for (clause, expression) in parse::expressions(definition) {
            refused.gather(check_expression(source, columns, column, clause, expression))?;
        }
    }
    if stream {
        let missing = provenance_names().into_iter().filter(|name| columns.iter().all(|c| c.name.as_ref() != *name));
        for name in missing {
            let data_type = provenance_type(name).as_ref().map_or_else(String::new, type_name);
            let message = format!("a stream's table needs the column `{name} {data_type} NOT NULL`");
            refused.push(Refusal::new(table.name.span(), message));
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(source.refuse_all(refused)) }
}

fn check_column(source: &Source, definition: &ColumnDef, column: &Column, before: &[Column]) -> Result<()> {
    let at = definition.name.span;
    if let Some(expected) = provenance_type(&column.name)
        && (column.data_type != expected || column.nullable)
    {
        let message = format!("`{}` is {} NOT NULL in every table", column.name, type_name(&expected));
        return Err(source.error(at, message));
    }
    if let Origin::Field(field) = &column.origin
        && let Some(other) =
            before.iter().find(|other| matches!(&other.origin, Origin::Field(known) if known.name == field.name))
    {
        // Two columns of one field could keep in clear what the other one hides.
        let message = format!("`{}` and `{}` both read the field `{}`", other.name, column.name, field.name);
        return Err(source.error(at, format!("{message}; let one be GENERATED from the other")));
    }
    Ok(())
}

/// An expression names columns a record brings; a generated one no other generated one, so that order does not matter.
fn check_expression(
    source: &Source,
    columns: &[Column],
    column: &Column,
    clause: &str,
    expression: &Expr,
) -> Result<()> {
    let found = look_at_exprs(expression, |part| {
        let ident = match part {
            Expr::Identifier(ident) => ident,
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } | Expr::CompoundIdentifier(_) => {
                let message = format!("{clause} of `{}`: `{part}`: expected an expression over the row", column.name);
                return ControlFlow::Break(source.error(part.span(), message));
            }
            _ => return ControlFlow::Continue(()),
        };
        match columns.iter().find(|c| *c.name == ident.value) {
            None => {
                let names = readable(columns, clause).map(|c| c.name.as_ref());
                let message = format!("no column `{}`", ident.value);
                ControlFlow::Break(source.unknown(ident.span, message, &ident.value, names))
            }
            Some(named) if readable(columns, clause).all(|c| c.name != named.name) => {
                let message = format!("{clause} of `{}` cannot read `{}`: it is filled later", column.name, named.name);
                ControlFlow::Break(source.error(ident.span, message))
            }
            Some(_) => ControlFlow::Continue(()),
        }
    });
    match found {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// The columns an expression of this clause may name.
fn readable<'c>(columns: &'c [Column], clause: &str) -> impl Iterator<Item = &'c Column> {
    let of_record_only = clause == "GENERATED";
    columns.iter().filter(move |column| match column.origin {
        Origin::Field(_) => true,
        Origin::Generated(_) => !of_record_only,
        Origin::Engine => false,
    })
}

/// Checks that the columns which the table's options name exist and are of the right kind.
pub(super) fn check_options(
    source: &Source,
    table: &CreateTable,
    columns: &[Column],
    options: &TableOptions,
) -> Result<()> {
    let required = |option: &str, name: &Placed, data_type: &DataType| -> Result<()> {
        let column = find(source, columns, option, name)?;
        if column.data_type != *data_type || column.nullable {
            let message = format!("`{option}`: `{}` must be {} NOT NULL", name.text, type_name(data_type));
            return Err(source.error(place_of(table, &name.text).unwrap_or(name.at), message));
        }
        Ok(())
    };
    required("partition_by", &options.partition_by, &DataType::Date32)?;
    for (option, names) in [("sort_by", &options.sort_by), ("bloom_filters", &options.bloom_filters)] {
        for name in names {
            find(source, columns, option, name)?;
        }
    }
    if let Some(name) = options.bloom_filters.iter().find(|name| name.text == options.partition_by.text) {
        return Err(source.error(name.at, format!("`bloom_filters`: files do not hold `{}`, folders do", name.text)));
    }
    let of_stream = [
        ("event_time", &options.event_time, timestamp_type()),
        ("identity", &options.identity, DataType::Utf8),
        ("partition_key", &options.partition_key, DataType::Utf8),
    ];
    for (option, name, data_type) in of_stream {
        let Some(name) = name else { continue };
        required(option, name, &data_type)?;
        if find(source, columns, option, name)?.origin == Origin::Engine {
            return Err(source.error(name.at, format!("`{option}`: `{}` must come from the record", name.text)));
        }
    }
    Ok(())
}

fn find<'c>(source: &Source, columns: &'c [Column], option: &str, name: &Placed) -> Result<&'c Column> {
    columns.iter().find(|column| column.name == name.text).ok_or_else(|| {
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_ref()).collect();
        let message = format!("`{option}`: no column `{}`", name.text);
        source.unknown(name.at, message, &name.text, names)
    })
}

fn place_of(table: &CreateTable, column: &str) -> Option<Span> {
    table.columns.iter().find(|definition| definition.name.value == column).map(|d| d.name.span)
}

fn provenance_names() -> [&'static str; 7] {
    use provenance::{ARRIVAL_TIME, EPOCH, LATE, SEQUENCE, SHARD, SOURCE, SUB_SEQUENCE};
    [SOURCE, SHARD, SEQUENCE, SUB_SEQUENCE, ARRIVAL_TIME, EPOCH, LATE]
}

/// The type of a column the engine fills.
fn provenance_type(name: &str) -> Option<DataType> {
    Some(match name {
        provenance::SOURCE | provenance::SHARD | provenance::SEQUENCE => DataType::Utf8,
        provenance::SUB_SEQUENCE => DataType::Int32,
        provenance::ARRIVAL_TIME => timestamp_type(),
        provenance::EPOCH => DataType::Int64,
        provenance::LATE => DataType::Boolean,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::TableContract;

    const STREAM: &str = "CREATE TABLE t (
  at TIMESTAMP NOT NULL OPTIONS (field = 'time'),
  day DATE NOT NULL GENERATED ALWAYS AS (CAST(at AS DATE)),
  id STRING NOT NULL,
  card STRING NOT NULL OPTIONS (token = true, pad = 12),
  amount DECIMAL(20,2) CHECK (amount > 0),
  _source STRING NOT NULL, _shard STRING NOT NULL, _sequence STRING NOT NULL, _sub_sequence INT NOT NULL,
  _arrival_time TIMESTAMP NOT NULL, _epoch BIGINT NOT NULL, _late BOOLEAN NOT NULL
) WITH (format = 'json', event_time = 'at', identity = 'id', partition_key = 'card', partition_by = 'day', sort_by = 'at, id')";

    /// The message for the stream above with a part replaced.
    fn refusal(part: &str, by: &str) -> String {
        assert!(STREAM.contains(part), "no `{part}` in the stream");
        TableContract::parse("lake/t.sql", &STREAM.replacen(part, by, 1)).expect_err(by).to_string()
    }

    #[test]
    fn the_stream_itself_is_fine() {
        let table = TableContract::parse("lake/t.sql", STREAM).unwrap();
        assert_eq!(table.columns.len(), 12);
        assert_eq!(table.sort_by, ["at".into(), "id".into()]);
    }

    #[test]
    fn a_refusal_names_place_and_remedy() {
        let cases = [
            ("(field =", "(feild =", "2:34: unknown option `feild`; did you mean `field`?"),
            ("TIMESTAMP", "TIMESTMP", "2:6: unknown type `TIMESTMP`; did you mean `TIMESTAMP`?"),
            ("STRING", "VARCHAR(3)", "4:6: unknown type `VARCHAR(3)`; did you mean `STRING`?"),
            ("DECIMAL(20,2)", "DECIMAL(10,2)", "6:10: `DECIMAL(10,2)`: expected `DECIMAL(p,s)` with 19 to 38 digits"),
            ("DECIMAL(20,2)", "INT UNSIGNED", "6:10: unknown type `INT UNSIGNED`; did you mean `INT`?"),
            (
                "OPTIONS (field",
                "OPTION (field",
                "2:25: expected ',' or ')' after column definition, found OPTION; did you mean `OPTIONS`?",
            ),
            ("= 'time')", "= time)", "2:42: `field = time`: expected a text in single quotes"),
            ("pad = 12", "pad = 0", "5:53: `pad = 0`: expected a width from 1 to 38"),
            ("pad = 12", "pad = -1", "`pad = -1`: expected a width from 1 to 38"),
            ("token = true", "token = 1", "5:41: `token = 1`: expected `true` or `false`"),
            ("pad = 12", "token = true", "5:47: option `token` is given twice"),
            ("card STRING NOT", "card BIGINT NOT", "5:33: `token` works on text: make `card` a STRING"),
            ("id STRING", "Id STRING", "4:3: column `Id`: expected lower-case letters"),
            ("amount DECIMAL", "timestamp DECIMAL", "6:3: column `timestamp`: a reserved word of Athena or Redshift"),
            ("TABLE t", "TABLE _t", "1:14: table `_t`: readers skip folders that start with `_`"),
            ("TABLE t", "TABLE lake.t", "1:14: table `lake.t`: a name without a dot"),
            ("amount DECIMAL", "id DECIMAL", "6:3: column `id` is declared twice"),
            ("CHECK (amount", "CHECK (amuont", "6:31: no column `amuont`; did you mean `amount`?"),
            ("CHECK (amount", "CHECK (_epoch", "6:31: CHECK of `amount` cannot read `_epoch`: it is filled later"),
            ("CAST(at AS", "CAST(day AS", "3:47: GENERATED of `day` cannot read `day`"),
            ("> 0)", "> 0) CHECK (amount < 9)", "6:3: `amount`: a second `CHECK`"),
            ("> 0)", "> 0) DEFAULT 1", "6:3: `amount`: `DEFAULT 1` is not part of a contract"),
            (
                "card STRING NOT NULL OPTIONS (",
                "card STRING NOT NULL OPTIONS (field = 'id', ",
                "5:3: `id` and `card` both read the field `id`",
            ),
            ("_sub_sequence INT", "_sub_sequence BIGINT", "7:79: `_sub_sequence` is INT NOT NULL in every table"),
            ("_epoch BIGINT NOT NULL", "_epoch BIGINT", "8:37: `_epoch` is BIGINT NOT NULL in every table"),
            (", _late BOOLEAN NOT NULL", "", "1:14: a stream's table needs the column `_late BOOLEAN NOT NULL`"),
            (
                "_late BOOLEAN",
                "_latte BOOLEAN",
                "8:61: `_latte`: a leading `_` marks what the engine fills; did you mean `_late`?",
            ),
            (
                "_late BOOLEAN NOT NULL",
                "_late BOOLEAN NOT NULL CHECK (amount > 1)",
                "8:61: `_late` can have no OPTIONS, CHECK or GENERATED",
            ),
            ("format = 'json'", "format = 'jsn'", "9:18: unknown format `jsn`; did you mean `json`?"),
            ("format = 'json', ", "", "9:22: `event_time` belongs to a stream: add `format = 'json'` or remove it"),
            ("identity = 'id', ", "", "1:14: a stream's table needs `identity = '<column>'` in its WITH (…)"),
            ("identity = 'id'", "identity = 'idd'", "9:56: `identity`: no column `idd`; did you mean `id`?"),
            ("identity = 'id'", "identity = 'amount'", "6:3: `identity`: `amount` must be STRING NOT NULL"),
            ("identity = 'id'", "identity = '_shard'", "9:56: `identity`: `_shard` must come from the record"),
            ("event_time = 'at'", "event_time = 'day'", "3:3: `event_time`: `day` must be TIMESTAMP NOT NULL"),
            ("day DATE NOT NULL", "day DATE", "3:3: `partition_by`: `day` must be DATE NOT NULL"),
            ("partition_by = 'day', ", "", "1:14: a table needs `partition_by = '<column>'`"),
            ("'at, id'", "'at, ic'", "`sort_by`: no column `ic`; did you mean `id`?"),
            ("'at, id'", "'at, at'", "`at, at`: expected different names"),
            ("'at, id')", "'at, id', bloom_filters = 'ic')", "`bloom_filters`: no column `ic`; did you mean `id`?"),
            (
                "'at, id')",
                "'at, id', bloom_filters = 'id, day')",
                "`bloom_filters`: files do not hold `day`, folders do",
            ),
            (
                "'at, id')",
                "'at, id', row_group_rows = '9999')",
                "`row_group_rows = '9999'`: expected a number from 10000",
            ),
            ("'at, id')", "'at, id', sinks = 'delta, spectre')", "unknown sink `spectre`; did you mean `spectrum`?"),
            ("'at, id')", "'at, id', sinks = 'plain')", "`plain`: `delta` is missing"),
            ("sort_by", "sorted_by", "unknown option `sorted_by`; did you mean `sort_by`?"),
            (
                "CREATE TABLE",
                "CREATE TEMPORARY TABLE",
                "a contract is `CREATE TABLE name (columns…) WITH (options…)` and nothing else",
            ),
            ("sort_by = 'at, id')", "sort_by = 'at, id') PARTITION BY day", "1:14: a contract is `CREATE TABLE name"),
            ("'at, id')", "'at, id'); SELECT 1", "1:1: one `CREATE TABLE` is expected, found 2 statements"),
            ("'at, id'", "'at, id", "9:"),
        ];
        let wrong: Vec<String> = cases
            .iter()
            .map(|(part, by, expected)| (refusal(part, by), by, expected))
            .filter(|(message, _, expected)| !message.starts_with("lake/t.sql:") || !message.contains(*expected))
            .map(|(message, by, expected)| format!("{by}\n  {message}\n  {expected}"))
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn names_have_a_longest_form() {
        let name = "n".repeat(128);
        assert!(refusal("amount DECIMAL", &format!("{name} DECIMAL")).contains("longer than 127 bytes"));
    }

    #[test]
    fn a_query_is_no_contract() {
        let error = TableContract::parse("lake/q.sql", "-- a query\nSELECT 1").unwrap_err().to_string();
        assert_eq!(error, "lake/q.sql:2:1: a contract starts with `CREATE TABLE`");
        let error = TableContract::parse("lake/q.sql", "").unwrap_err().to_string();
        assert_eq!(error, "lake/q.sql:1:1: one `CREATE TABLE` is expected, found 0 statements");
    }
}
