//! Parses `lake/*.sql`: one `CREATE TABLE` becomes a [`TableContract`].
//!
//! The one law: what is accepted is kept, and what cannot be kept is refused; no clause is read over silently.
//! What a contract may say is checked in `rules`; the words of its options are read in `options`.
//!
//! The dialect is what sqlparser's generic dialect reads: columns with `OPTIONS (…)`, `COMMENT`, `CHECK` and
//! `GENERATED ALWAYS AS`, in any order, and the table's `WITH (…)`. `CHECK` and `GENERATED` stay SQL texts, printed from
//! the parsed expression; whoever evaluates them compiles them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::helpers::stmt_create_table::CreateTableBuilder;
use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, CreateTable, CreateTableOptions, Expr, GeneratedAs, Spanned,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::options::{ColumnOptions, TableOptions};
use super::rules::NameOf;
use super::source::Source;
use super::{Column, InputField, Origin, StreamContract, TableContract, rules, types};
use crate::error::{Error, Refusal, Refusals, Result, SourceText};
use crate::syntax;

pub(super) fn folder(folder: &Path) -> Result<BTreeMap<Arc<str>, TableContract>> {
    let unreadable = |error| {
        Error::usage(format!("cannot read the contracts in `{}` (`lake.contracts`): {error}", folder.display()))
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(Error::usage(format!("no contract (`*.sql`) in `{}` (`lake.contracts`)", folder.display())));
    }
    let mut refused = Refusals::default();
    let mut contracts = BTreeMap::new();
    let mut files: BTreeMap<Arc<str>, &Path> = BTreeMap::new();
    for path in &paths {
        let origin = path.display().to_string();
        let sql = syntax::read(path).map_err(|error| Error::usage(format!("cannot read `{origin}`: {error}")))?;
        let Some(contract) = refused.gather(table_contract(&origin, &sql))? else { continue };
        if let Some(other) = files.insert(contract.name.clone(), path) {
            let (name, other) = (&contract.name, other.display());
            let refusal = Refusal::new(Span::empty(), format!("table `{name}` is already declared in `{other}`"));
            refused.push(refusal.help("rename one").of(&SourceText::new(origin, sql)));
            continue;
        }
        contracts.insert(contract.name.clone(), contract);
    }
    refused.or(contracts).map_err(Error::Usage)
}

pub(super) fn table_contract(origin: &str, sql: &str) -> Result<TableContract> {
    let source = Source::read(origin, sql)?;
    let table = source.create_table()?;
    let mut refused = Refusals::default();
    let name = refused.gather(table_name(&source, &table))?;
    let options = refused.gather(TableOptions::read(&source, &table))?;
    // While it is not known whether the table is a stream, its columns may be written as a stream's are.
    let in_stream = options.as_ref().is_none_or(|options| options.format.is_some());

    let mut columns: Vec<Column> = Vec::with_capacity(table.columns.len());
    for definition in &table.columns {
        let column = refused.gather(column(&source, definition, in_stream))?;
        let Some(column) = column else { continue };
        if columns.iter().any(|c| c.name == column.name) {
            let message = format!("column `{}` is declared twice", column.name);
            refused.gather(Err::<(), _>(source.error(definition.name.span, message)))?;
            continue;
        }
        columns.push(column);
    }
    // What the rules say of something left out would be a mere consequence.
    let (Some(name), Some(options), true) = (name, options, refused.is_empty()) else {
        return Err(source.refuse_all(refused));
    };
    refused.gather(rules::check_columns(&source, &table, &columns, in_stream))?;
    refused.gather(rules::check_options(&source, &table, &columns, &options))?;
    if !refused.is_empty() {
        return Err(source.refuse_all(refused));
    }

    let stream = match (options.format, options.event_time, options.identity, options.partition_key) {
        (Some(format), Some(event_time), Some(identity), Some(partition_key)) => Some(StreamContract {
            format,
            event_time: event_time.text,
            identity: identity.text,
            partition_key: partition_key.text,
        }),
        // `TableOptions::read` has refused a stream without one of them, and one of them without a stream.
        _ => None,
    };
    Ok(TableContract {
        name,
        comment: source.leading_comment(),
        columns,
        partition_by: options.partition_by.text,
        sort_by: options.sort_by.into_iter().map(|column| column.text).collect(),
        bloom_filters: options.bloom_filters.into_iter().map(|column| column.text).collect(),
        row_group_rows: options.row_group_rows,
        sinks: options.sinks,
        keep_days: options.keep_days,
        stream,
    })
}

/// The table's name; refuses every clause beside name, columns and `WITH`.
fn table_name(source: &Source, table: &CreateTable) -> Result<Arc<str>> {
    let at = table.name.span();
    let only = CreateTableBuilder::new(table.name.clone())
        .columns(table.columns.clone())
        .table_options(table.table_options.clone())
        .build();
    let plain = matches!(table.table_options, CreateTableOptions::With(_) | CreateTableOptions::None);
    if only != *table || !plain {
        return Err(source.error(at, "a contract is `CREATE TABLE name (columns…) WITH (options…)` and nothing else"));
    }
    let [part] = table.name.0.as_slice() else {
        return Err(source.error(at, format!("table `{}`: a name without a dot is expected", table.name)));
    };
    let Some(ident) = part.as_ident() else {
        return Err(source.error(at, format!("table `{}`: a plain name is expected", table.name)));
    };
    rules::check_name(source, NameOf::Table, ident)?;
    Ok(ident.value.as_str().into())
}

/// What stands after a column's type.
#[derive(Default)]
struct Clauses {
    not_null: bool,
    comment: Option<String>,
    check: Option<String>,
    generated: Option<String>,
    options: Option<ColumnOptions>,
}

fn column(source: &Source, definition: &ColumnDef, in_stream: bool) -> Result<Column> {
    let name = &definition.name;
    rules::check_name(source, NameOf::Column, name)?;
    let data_type = types::arrow_type(source, definition)?;
    let clauses = clauses(source, definition, &data_type)?;
    let engine_filled = !in_stream || name.value.starts_with('_');
    if engine_filled && (clauses.options.is_some() || clauses.check.is_some() || clauses.generated.is_some()) {
        let why = if in_stream { "the engine fills it" } else { "the table is no stream (no `format` in its WITH)" };
        let message = format!("`{}` can have no OPTIONS, CHECK or GENERATED: {why}", name.value);
        return Err(source.error(name.span, message));
    }
    let origin = match (engine_filled, clauses.generated, clauses.options) {
        (true, ..) => Origin::Engine,
        (false, Some(_), Some(_)) => {
            let message = format!("`{}` is GENERATED, so it takes no input field: remove its OPTIONS", name.value);
            return Err(source.error(name.span, message));
        }
        (false, Some(expression), None) => Origin::Generated(expression),
        (false, None, options) => Origin::Field(input_field(&name.value, options.unwrap_or_default())),
    };
    Ok(Column {
        name: name.value.as_str().into(),
        data_type,
        nullable: !clauses.not_null,
        comment: clauses.comment.unwrap_or_default(),
        origin,
        check: clauses.check,
    })
}

fn input_field(column: &str, options: ColumnOptions) -> InputField {
    InputField {
        name: options.field.map_or_else(|| column.into(), |field| field.text),
        pad: options.pad,
        strip_prefix: options.strip_prefix,
        token: options.token,
    }
}

fn clauses(source: &Source, definition: &ColumnDef, data_type: &DataType) -> Result<Clauses> {
    let name = &definition.name;
    let mut clauses = Clauses::default();
    let mut seen: Vec<&str> = Vec::new();
    for clause in &definition.options {
        let word = match &clause.option {
            ColumnOption::NotNull => {
                clauses.not_null = true;
                "NOT NULL"
            }
            ColumnOption::Null => "NULL",
            ColumnOption::Comment(text) => {
                clauses.comment = Some(text.clone());
                "COMMENT"
            }
            ColumnOption::Check(check) if check.enforced.is_none() => {
                clauses.check = Some(check.expr.to_string());
                "CHECK"
            }
            ColumnOption::Generated {
                generated_as: GeneratedAs::Always,
                generation_expr: Some(expression),
                generation_expr_mode: None,
                generated_keyword: true,
                ..
            } => {
                clauses.generated = Some(expression.to_string());
                "GENERATED"
            }
            ColumnOption::Options(list) => {
                clauses.options = Some(ColumnOptions::read(source, list, &name.value, data_type)?);
                "OPTIONS"
            }
            other => {
                let message = format!("`{}`: `{other}` is not part of a contract; {CLAUSES}", name.value);
                return Err(source.error(name.span, message));
            }
        };
        if seen.contains(&word) || (word == "NULL" && clauses.not_null) {
            let message = format!("`{}`: a second `{word}`; write it once (rules are joined by AND)", name.value);
            return Err(source.error(name.span, message));
        }
        if clause.name.is_some() {
            let message = format!("`{}`: a CONSTRAINT name is not part of a contract", name.value);
            return Err(source.error(name.span, message));
        }
        seen.push(word);
    }
    Ok(clauses)
}

const CLAUSES: &str = "a column has NOT NULL, OPTIONS (…), CHECK (…), GENERATED ALWAYS AS (…), COMMENT '…'";

/// The expressions of a column, for the rules on what they may name.
pub(super) fn expressions(definition: &ColumnDef) -> impl Iterator<Item = (&'static str, &Expr)> {
    definition.options.iter().filter_map(|clause| match &clause.option {
        ColumnOption::Check(check) => Some(("CHECK", check.expr.as_ref())),
        ColumnOption::Generated { generation_expr: Some(expression), .. } => Some(("GENERATED", expression)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use datafusion::common::DFSchema;
    use datafusion::logical_expr::ExprSchemable;
    use datafusion::prelude::SessionContext;

    use super::super::{Format, provenance};
    use super::*;

    fn shipped() -> BTreeMap<Arc<str>, TableContract> {
        folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("lake")).unwrap()
    }

    #[test]
    fn every_shipped_contract_parses_and_says_what_it_is_for() {
        let tables = shipped();
        let names: Vec<&str> = tables.keys().map(AsRef::as_ref).collect();
        let expected =
            ["city_minute", "epochs", "fraud_alerts", "fraud_score", "rejects", "state_minute", "transactions"];
        assert!(expected.iter().all(|name| names.contains(name)), "{names:?}");
        for (name, table) in &tables {
            assert!(!table.comment.is_empty(), "{name} has no comment");
            assert!(table.columns.iter().all(|column| !column.comment.is_empty()), "a column of {name} has no comment");
            // Statistics cover the first 32 columns only.
            assert!(table.columns.len() <= 32, "{name}");
            assert_eq!(table.stream.is_some(), name.as_ref() == "transactions");
        }
    }

    #[test]
    fn transactions_are_read_from_the_fields_of_the_data_set() {
        let table = &shipped()["transactions"];
        let fields: Vec<&str> = table
            .columns
            .iter()
            .filter_map(|column| match &column.origin {
                Origin::Field(field) => Some(field.name.as_ref()),
                _ => None,
            })
            .collect();
        let expected = "trans_date_trans_time trans_num cc_num merchant category amt is_fraud city state zip first last \
                        gender street lat long city_pop job dob unix_time merch_lat merch_long";
        assert_eq!(fields, expected.split_whitespace().collect::<Vec<_>>());
        let stream = table.stream.as_ref().unwrap();
        let columns = [&stream.event_time, &stream.identity, &stream.partition_key].map(AsRef::as_ref);
        assert_eq!((stream.format, columns), (Format::Json, ["event_time", "transaction_id", "card_token"]));
        assert_eq!(
            (table.partition_by.as_ref(), table.sort_by.as_slice()),
            ("event_date", ["event_time".into()].as_slice())
        );
        let card = InputField { name: "cc_num".into(), pad: Some(12), strip_prefix: None, token: true };
        assert_eq!(table.column("card_token").unwrap().origin, Origin::Field(card));
        let date = Origin::Generated("CAST(event_time AS DATE)".into());
        assert_eq!(table.column("event_date").unwrap().origin, date);
        assert_eq!(table.column("amount").unwrap().check.as_deref(), Some("amount > 0"));
        assert_eq!(table.column("amount").unwrap().data_type, DataType::Decimal128(20, 2));
        let check = table.column("gender").unwrap().check.as_deref();
        assert_eq!(check, Some("gender IN ('F', 'M')"));
        let required: Vec<&str> =
            table.columns.iter().filter(|c| !c.nullable && !c.name.starts_with('_')).map(|c| c.name.as_ref()).collect();
        let expected = "event_time event_date transaction_id card_token merchant category amount is_fraud city state";
        assert_eq!(required, expected.split_whitespace().collect::<Vec<_>>());
        assert_eq!(table.columns.last().unwrap().name.as_ref(), provenance::LATE);
    }

    #[test]
    fn every_shipped_expression_is_one_datafusion_plans() {
        let session = SessionContext::new();
        let mut count = 0;
        for table in shipped().values() {
            let schema = DFSchema::try_from(table.schema().as_ref().clone()).unwrap();
            for column in &table.columns {
                let (expression, expected) = match (&column.origin, &column.check) {
                    (Origin::Generated(expression), _) => (expression, &column.data_type),
                    (_, Some(check)) => (check, &DataType::Boolean),
                    _ => continue,
                };
                let planned = session.parse_sql_expr(expression, &schema).unwrap();
                assert_eq!(planned.get_type(&schema).unwrap(), *expected, "{expression}");
                count += 1;
            }
        }
        assert_eq!(count, 9, "one date, eight rules");
    }

    #[test]
    fn every_type_is_understood() {
        let table = table_contract(
            "t.sql",
            "-- One of each,\n-- in two lines.\ncreate table t (a STRING, b BOOLEAN NOT NULL, c SMALLINT, d INT, e BIGINT, \
             f FLOAT, g DOUBLE, h DATE NOT NULL, i TIMESTAMP, j DECIMAL(38,6), k BINARY) with (partition_by = 'h');",
        )
        .unwrap();
        let types: Vec<String> = table.columns.iter().map(|column| column.data_type.to_string()).collect();
        let expected =
            "Utf8|Boolean|Int16|Int32|Int64|Float32|Float64|Date32|Timestamp(µs, \"UTC\")|Decimal128(38, 6)|Binary";
        assert_eq!(types.join("|"), expected);
        assert_eq!(table.comment, "One of each, in two lines.");
        assert!(!table.schema().field(1).is_nullable());
        assert!(table.sort_by.is_empty());
    }

    #[test]
    fn two_files_of_one_table_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let sql = "CREATE TABLE t (d DATE NOT NULL) WITH (partition_by = 'd')";
        for file in ["a.sql", "b.sql", "notes.txt"] {
            fs::write(folder.path().join(file), sql).unwrap();
        }
        let error = super::folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("b.sql: table `t` is already declared in"), "{error}");
        fs::remove_file(folder.path().join("b.sql")).unwrap();
        assert_eq!(super::folder(folder.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_folder_without_contracts_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = super::folder(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("no contract (`*.sql`) in"), "{error}");
        let error = super::folder(&folder.path().join("absent")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the contracts in"), "{error}");
    }
}
