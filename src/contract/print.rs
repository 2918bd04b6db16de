//! A contract written out again as the file it would be read from.
//!
//! The one law: what is printed parses to the very contract it was printed from (the lines of its comment become one, as
//! in every file). Layout is this file's own: one column a
//! line, names and types in columns. Nothing here reads or writes a file.

use arrow::datatypes::DataType;

use super::{Column, Format, InputField, Origin, Sink, TableContract, type_name};

/// The whole file.
pub(super) fn table(contract: &TableContract) -> String {
    let mut text = String::new();
    for line in contract.comment.lines().map(str::trim).filter(|line| !line.is_empty()) {
        text.push_str(&format!("-- {line}\n"));
    }
    let name_width = widest(contract.columns.iter().map(|column| column.name.to_string()));
    let type_width = widest(contract.columns.iter().map(typed));
    let columns: Vec<String> = contract
        .columns
        .iter()
        .map(|column| {
            let clauses = clauses(column);
            format!("  {:<name_width$} {:<type_width$} {clauses}", column.name, typed(column)).trim_end().to_owned()
        })
        .collect();
    text.push_str(&format!("CREATE TABLE {} (\n{}\n) WITH (", contract.name, columns.join(",\n")));
    text.push_str(&options(contract).join(", "));
    text.push_str(");\n");
    text
}

fn widest(texts: impl Iterator<Item = String>) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or(0)
}

fn typed(column: &Column) -> String {
    let null = if column.nullable { "" } else { " NOT NULL" };
    format!("{}{null}", type_name(&column.data_type))
}

fn clauses(column: &Column) -> String {
    let mut clauses = Vec::new();
    match &column.origin {
        Origin::Field(field) => clauses.extend(field_options(&column.name, &column.data_type, field)),
        Origin::Generated(expression) => clauses.push(format!("GENERATED ALWAYS AS ({expression})")),
        Origin::Engine => {}
    }
    clauses.extend(column.check.as_ref().map(|check| format!("CHECK ({check})")));
    clauses.push(format!("COMMENT {}", quoted(&column.comment)));
    clauses.join(" ")
}

fn field_options(column: &str, data_type: &DataType, field: &InputField) -> Option<String> {
    let mut options = Vec::new();
    if *field.name != *column {
        options.push(format!("field = {}", quoted(&field.name)));
    }
    if *data_type == DataType::Utf8 {
        options.extend(field.pad.map(|width| format!("pad = {width}")));
        options.extend(field.strip_prefix.as_ref().map(|prefix| format!("strip_prefix = {}", quoted(prefix))));
        options.extend(field.token.then(|| "token = true".to_owned()));
    }
    (!options.is_empty()).then(|| format!("OPTIONS ({})", options.join(", ")))
}

fn options(contract: &TableContract) -> Vec<String> {
    let option = |name: &str, value: &str| format!("{name} = {}", quoted(value));
    let mut options = Vec::new();
    if let Some(stream) = &contract.stream {
        options.push(option(
            "format",
            match stream.format {
                Format::Json => "json",
            },
        ));
        options.push(option("event_time", &stream.event_time));
        options.push(option("identity", &stream.identity));
        options.push(option("partition_key", &stream.partition_key));
    }
    options.push(option("partition_by", &contract.partition_by));
    if !contract.sort_by.is_empty() {
        options.push(option("sort_by", &contract.sort_by.join(", ")));
    }
    if !contract.bloom_filters.is_empty() {
        options.push(option("bloom_filters", &contract.bloom_filters.join(", ")));
    }
    options.extend(contract.row_group_rows.map(|rows| option("row_group_rows", &rows.to_string())));
    if contract.sinks != Sink::usual() {
        options.push(option("sinks", &contract.sinks.iter().map(|sink| sink.name()).collect::<Vec<_>>().join(", ")));
    }
    options.extend(contract.keep_days.map(|days| option("keep", &format!("{days}d"))));
    options
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::read_folder;
    use super::*;

    #[test]
    fn every_shipped_contract_reads_the_same_when_printed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("lake");
        let contracts = read_folder(&folder).unwrap();
        assert!(contracts.len() >= 10, "only {} contracts", contracts.len());
        for contract in contracts.values() {
            let printed = contract.to_sql();
            let again = TableContract::parse("printed.sql", &printed).unwrap_or_else(|e| panic!("{e}\n{printed}"));
            assert_eq!(&again, contract, "{printed}");
        }
    }

    #[test]
    fn quotes_sinks_keep_and_empty_comments_survive() {
        let sql = "-- It's a table.\nCREATE TABLE t (\n  day DATE NOT NULL COMMENT 'the day''s \\ date',\n  \
                   n   BIGINT        COMMENT ''\n) WITH (partition_by = 'day', bloom_filters = 'n', \
                   row_group_rows = '10000', sinks = 'delta, plain', keep = '400d');\n";
        let contract = TableContract::parse("t.sql", sql).unwrap();
        assert_eq!(contract.columns[0].comment, "the day's \\ date");
        assert_eq!((contract.sinks.as_slice(), contract.keep_days), ([Sink::Delta, Sink::Plain].as_slice(), Some(400)));
        assert_eq!(
            (contract.bloom_filters.as_slice(), contract.row_group_rows),
            (["n".into()].as_slice(), Some(10_000))
        );
        assert_eq!(contract.to_sql(), sql);
    }
}
