//! What DataFusion's parser and planner say of a text, as refusals of ours.
//!
//! The one law: every message about SQL text has a place, one sentence, and the nearest right word where there is one.
//! Nothing here decides what is wrong.

use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::{Column, Diagnostic, Location as DataFusionLocation, SchemaError, Span as DataFusionSpan};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast::{
    Expr, JoinConstraint, JoinOperator, Query, SelectItem, SetExpr, Spanned, Value, ValueWithSpan, Visit,
};
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use super::file::normal;
use crate::contract::{timestamp_type, type_name};
pub(super) use crate::error::{Refusal, Refusals, nearest};
use crate::syntax::{Look, look};

/// How the planner says that WHERE has an aggregate.
const AGGREGATE_IN_WHERE: &str = "Aggregate functions are not allowed in the WHERE clause";

/// How the planner says that a condition is neither true nor false.
const NO_CONDITION: &str = "Cannot create filter with non-boolean predicate '";

impl Refusal {
    /// What DataFusion's parser or planner found, with the place it knows, or that of the `words` it speaks of.
    ///
    /// `tables` are the names one may have meant.
    pub(super) fn planner(error: &DataFusionError, tables: &[String], words: &Words) -> Self {
        match error.find_root() {
            DataFusionError::SchemaError(schema_error, _) => {
                return Self::schema(schema_error, error.diagnostic(), words);
            }
            DataFusionError::SQL(parser_error, _) => return Self::parser(&parser_error.to_string()),
            _ => {}
        }
        let text = error.strip_backtrace();
        let without_place = Self::no_condition(&text).or_else(|| Self::no_value(&text, words));
        if let Some(refusal) =
            without_place.or_else(|| Self::aggregate_of_rows(&text)).or_else(|| Self::twice(&text, words))
        {
            return refusal;
        }
        let Some(diagnostic) = error.diagnostic() else {
            let is_of = |name: &str| text.contains(&format!("'{name}'")) || text.contains(&format!("'{name}("));
            let at = words.calls.iter().find(|(name, _)| is_of(name)).map_or_else(Span::empty, |(_, at)| *at);
            return Self::wrong_arguments(at, &text).unwrap_or_else(|| Self::new(at, sentence(error.find_root())));
        };
        let at = diagnostic.span.map_or_else(Span::empty, ours);
        if let Some(table) = between(&diagnostic.message, "table '", "' not found") {
            let table = table.rsplit('.').next().unwrap_or(table);
            return Self::new(at, format!("no table `{table}`")).near(table, tables.iter().map(String::as_str));
        }
        if let Some(column) = between(&diagnostic.message, "'", "' must appear in GROUP BY") {
            let column = column.rsplit('.').next().unwrap_or(column);
            return Self::new(at, format!("`{column}` is neither grouped nor aggregated"))
                .help(format!("add it to GROUP BY, or take `min({column})`"));
        }
        if let Some(name) = between(&text, "Invalid function '", "'") {
            let refusal = Self::new(at, format!("no function `{name}`"));
            return match between(&text, "Did you mean '", "'") {
                Some(meant) => refusal.near(name, [meant]),
                None => refusal,
            };
        }
        let types = diagnostic.notes.iter().filter_map(|note| note.message.strip_prefix("has type "));
        if let [one, other] = types.map(shown_type).collect::<Vec<_>>().as_slice() {
            return Self::new(at, format!("a value of {one} and one of {other} do not go together"))
                .help("CAST one of them");
        }
        let mut refusal = Self::new(at, lower_first(&diagnostic.message));
        for note in &diagnostic.notes {
            refusal = refusal.note(lower_first(&note.message));
        }
        for help in &diagnostic.helps {
            refusal = refusal.help(lower_first(&help.message));
        }
        refusal
    }

    fn schema(error: &SchemaError, diagnostic: Option<&Diagnostic>, words: &Words) -> Self {
        let of_statement = || diagnostic.and_then(|diagnostic| diagnostic.span).map_or_else(Span::empty, ours);
        let of = |column: &Column| column.spans().first().map_or_else(of_statement, ours);
        match error {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let mut known: Vec<&str> = valid_fields.iter().map(Column::name).collect();
                known.dedup();
                let at = place_of(&words.used, field.name());
                Self::new(of(field), format!("no column `{}`", field.name())).near(field.name(), known).or_at(at)
            }
            SchemaError::AmbiguousReference { field } => {
                Self::new(of(field), format!("column `{}` is in more than one table", field.name()))
                    .help(format!("qualify it: `table.{}`", field.name()))
            }
            SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
                // The planner names a CAST like what it casts, so `GROUP BY t, CAST(t AS DATE)` has two columns `t`.
                Self::new(of_statement(), format!("two columns are called `{name}`"))
                    .help("rename one with AS, or leave a CAST of a grouped column out of GROUP BY")
            }
        }
    }

    /// The parser ends its sentences with ` at Line: 3, Column: 7`.
    pub(super) fn parser(text: &str) -> Self {
        let text = text.strip_prefix("sql parser error: ").unwrap_or(text);
        let Some((message, place)) = text.rsplit_once(" at Line: ") else {
            return Self::new(Span::empty(), lower_first(text));
        };
        let mut numbers = place.split(", Column: ").map(|n| n.trim().parse().unwrap_or(0));
        let at = Location::new(numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Self::new(Span::new(at, at), lower_first(message))
    }

    /// A WHERE or HAVING that is neither true nor false; the planner keeps no place of it.
    fn no_condition(text: &str) -> Option<Self> {
        let condition = between(text, NO_CONDITION, "'")?;
        let found = text.split_once("' returning ").map_or("", |(_, rest)| rest.lines().next().unwrap_or_default());
        let name = condition.rsplit('.').next().filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_'));
        let name = name.unwrap_or(condition);
        let message = format!("`{name}` is {}, and not true or false", shown_type(found));
        Some(Self::new(Span::empty(), message).help(format!("compare it with something: `{name} > …`")))
    }

    /// Text that is no value of the type it is compared with or cast to.
    fn no_value(text: &str, words: &Words) -> Option<Self> {
        let (value, shown) = match between(text, "Cannot cast string '", "' to value of ") {
            Some(value) => (value, shown_type(between(text, "' to value of ", " type")?)),
            None => (between(text, "Error parsing timestamp from '", "': ")?, type_name(&timestamp_type())),
        };
        Some(Self::new(place_of(&words.texts, value), format!("`'{value}'` is no {shown}")))
    }

    /// An aggregate in WHERE; the planner keeps no place of it.
    fn aggregate_of_rows(text: &str) -> Option<Self> {
        text.contains(AGGREGATE_IN_WHERE).then(|| {
            Self::new(Span::empty(), "an aggregate in WHERE, which looks at one row at a time")
                .help("write it in HAVING, behind GROUP BY")
        })
    }

    /// One name for two columns of a SELECT.
    fn twice(text: &str, words: &Words) -> Option<Self> {
        let column =
            between(text, " and \"", "\" at position ").filter(|_| text.contains("require unique expression names"))?;
        let column = column.rsplit(" AS ").next().unwrap_or(column);
        let name = column.rsplit('.').next().unwrap_or(column);
        let at = words.columns.iter().rfind(|(known, _)| known == name).map_or_else(Span::empty, |(_, at)| *at);
        Some(Self::new(at, format!("two columns are called `{name}`")).help("rename one with AS"))
    }

    /// A call whose arguments have the wrong types, in place of the planner's list of every signature.
    fn wrong_arguments(at: Span, text: &str) -> Option<Self> {
        let call = between(text, "No function matches the given name and argument types '", "'. You might need")?;
        let (name, types) = call.split_once('(')?;
        Some(Self::new(at, format!("`{name}` does not take ({types}")).help("CAST the arguments"))
    }
}

/// What a statement says and where, as far as the planner keeps no place of it.
#[derive(Default)]
pub(super) struct Words {
    /// Functions that are called.
    calls: Vec<(String, Span)>,
    /// Texts in quotes.
    texts: Vec<(String, Span)>,
    /// Columns joined by USING.
    used: Vec<(String, Span)>,
    /// What the columns of a SELECT are called.
    columns: Vec<(String, Span)>,
}

impl Words {
    pub(super) fn of(statement: &impl Visit) -> Self {
        let mut words = Self::default();
        let _: ControlFlow<()> = look(statement, &mut words);
        words
    }
}

impl Look for Words {
    type Break = ();

    fn query(&mut self, query: &Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = query.body.as_ref() else { return ControlFlow::Continue(()) };
        for join in select.from.iter().flat_map(|from| &from.joins) {
            if let Some(JoinConstraint::Using(columns)) = constraint(&join.join_operator) {
                let names = columns.iter().filter_map(|column| column.0.last()?.as_ident());
                self.used.extend(names.map(|name| (normal(name), name.span)));
            }
        }
        let names = select.projection.iter().filter_map(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(alias),
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last(),
            _ => None,
        });
        self.columns.extend(names.map(|name| (normal(name), name.span)));
        ControlFlow::Continue(())
    }

    fn expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(call) = expr {
            self.calls.push((call.name.to_string().to_lowercase(), call.name.span()));
        }
        ControlFlow::Continue(())
    }

    fn value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        if let Value::SingleQuotedString(text) = &value.value {
            self.texts.push((text.clone(), value.span));
        }
        ControlFlow::Continue(())
    }
}

/// Where a word stands first, if it does.
fn place_of(words: &[(String, Span)], word: &str) -> Span {
    words.iter().find(|(known, _)| known == word).map_or_else(Span::empty, |(_, at)| *at)
}

/// What a join demands, if it may be in a standing query.
fn constraint(join: &JoinOperator) -> Option<&JoinConstraint> {
    match join {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::FullOuter(constraint) => Some(constraint),
        _ => None,
    }
}

/// Whether the planner was given an aggregate of rows that are not grouped yet.
pub(super) fn is_aggregate_in_where(error: &DataFusionError) -> bool {
    error.strip_backtrace().contains(AGGREGATE_IN_WHERE)
}

/// Whether the planner knows no column or function of a name: what stands there could have been anything.
pub(super) fn is_unknown_name(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::SchemaError(schema_error, _) => matches!(**schema_error, SchemaError::FieldNotFound { .. }),
        root => root.strip_backtrace().contains("Invalid function '"),
    }
}

/// Whether the planner was given a condition that is none.
pub(super) fn is_no_condition(error: &DataFusionError) -> bool {
    error.strip_backtrace().contains(NO_CONDITION)
}

/// A type as the planner writes it, as contracts do.
fn shown_type(text: &str) -> String {
    text.trim().parse::<DataType>().map_or_else(|_| text.to_owned(), |known| type_name(&known))
}

fn ours(span: DataFusionSpan) -> Span {
    let place = |at: DataFusionLocation| Location::new(at.line, at.column);
    Span::new(place(span.start), place(span.end))
}

/// The text between `before` and the `after` that follows it.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    Some(&rest[..rest.find(after)?])
}

/// A library's message as one line in our style.
fn sentence(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let text = text.split("This issue was likely caused by").next().unwrap_or_default();
    let text = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    let text =
        ["Error during planning: ", "Execution error: ", "Internal error: ", "This feature is not implemented: "]
            .iter()
            .fold(text.as_str(), |text, prefix| text.strip_prefix(prefix).unwrap_or(text));
    lower_first(text.trim_end_matches('.'))
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        // An acronym stays as it is.
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SourceText;

    #[test]
    fn a_parser_error_keeps_its_position() {
        let error = Refusal::parser("sql parser error: Expected: SELECT, found: FROM at Line: 3, Column: 7");
        let error = error.in_text(&SourceText::new("q.sql", "")).to_string();
        assert_eq!(error, "q.sql:3:7: expected: SELECT, found: FROM");
    }
}
