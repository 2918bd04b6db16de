//! Where in a file something is wrong, and how it is said.
//!
//! The one law: every message about SQL text reads `file:line:column: sentence`, with the nearest right word where there
//! is one. Nothing here decides what is wrong.

use datafusion::common::{Column, Diagnostic, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use crate::error::Error;

/// Something a statement may not do, and where it does it.
#[derive(Debug)]
pub(super) struct Refusal {
    at: Location,
    message: String,
}

impl Refusal {
    pub(super) fn new(at: Span, message: impl Into<String>) -> Self {
        Self { at: at.start, message: message.into() }
    }

    /// Moves a refusal that has no position to `fallback`.
    pub(super) fn or_at(mut self, fallback: Span) -> Self {
        if self.at.line == 0 {
            self.at = fallback.start;
        }
        self
    }

    /// The error a user sees; `path` is the file as the user knows it.
    pub(super) fn in_file(self, path: &str) -> Error {
        match self.at.line {
            0 => Error::usage(format!("{path}: {}", self.message)),
            line => Error::usage(format!("{path}:{line}:{}: {}", self.at.column, self.message)),
        }
    }

    /// What DataFusion's parser or planner found, with the position it knows, or that of the call it speaks of.
    ///
    /// `tables` are the names one may have meant, `calls` the functions the statement calls.
    pub(super) fn planner(error: &DataFusionError, tables: &[String], calls: &[(String, Span)]) -> Self {
        match error.find_root() {
            DataFusionError::SchemaError(schema_error, _) => return Self::schema(schema_error, error.diagnostic()),
            DataFusionError::SQL(parser_error, _) => return Self::parser(&parser_error.to_string()),
            _ => {}
        }
        let Some(diagnostic) = error.diagnostic() else {
            let text = error.strip_backtrace();
            let is_of = |name: &str| text.contains(&format!("'{name}'")) || text.contains(&format!("'{name}("));
            let at = calls.iter().find(|(name, _)| is_of(name)).map_or_else(Location::empty, |(_, at)| at.start);
            return Self { at, message: wrong_arguments(&text).unwrap_or_else(|| sentence(error.find_root())) };
        };
        if let Some(table) = between(&diagnostic.message, "table '", "' not found") {
            let table = table.rsplit('.').next().unwrap_or(table);
            let hint = did_you_mean(table, tables.iter().map(String::as_str));
            return Self { at: position(diagnostic), message: format!("no table `{table}`{hint}") };
        }
        if let Some(column) = between(&diagnostic.message, "'", "' must appear in GROUP BY") {
            let column = column.rsplit('.').next().unwrap_or(column);
            let message =
                format!("`{column}` is neither grouped nor aggregated; add it to GROUP BY, or take `min({column})`");
            return Self { at: position(diagnostic), message };
        }
        let mut message = lower_first(&diagnostic.message);
        let notes = diagnostic.notes.iter().map(|note| &note.message);
        for more in notes.chain(diagnostic.helps.iter().map(|help| &help.message)) {
            message.push_str("; ");
            message.push_str(&lower_first(more));
        }
        Self { at: position(diagnostic), message }
    }

    fn schema(error: &SchemaError, diagnostic: Option<&Diagnostic>) -> Self {
        let of = |column: &Column| {
            let at = column.spans().first().map(|span| Location::new(span.start.line, span.start.column));
            at.or_else(|| diagnostic.map(position)).unwrap_or_else(Location::empty)
        };
        match error {
            SchemaError::FieldNotFound { field, valid_fields } => Self {
                at: of(field),
                message: format!(
                    "no column `{}`{}",
                    field.name(),
                    did_you_mean(field.name(), valid_fields.iter().map(Column::name))
                ),
            },
            SchemaError::AmbiguousReference { field } => Self {
                at: of(field),
                message: format!("column `{}` is in more than one table; qualify it", field.name()),
            },
            SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
                let at = diagnostic.map_or_else(Location::empty, position);
                // The planner names a CAST like what it casts, so `GROUP BY t, CAST(t AS DATE)` has two columns `t`.
                let hint = "rename one with AS, or leave a CAST of a grouped column out of GROUP BY";
                Self { at, message: format!("two columns are called `{name}`; {hint}") }
            }
        }
    }

    /// The parser ends its sentences with ` at Line: 3, Column: 7`.
    pub(super) fn parser(text: &str) -> Self {
        let text = text.strip_prefix("sql parser error: ").unwrap_or(text);
        let Some((message, place)) = text.rsplit_once(" at Line: ") else {
            return Self { at: Location::empty(), message: lower_first(text) };
        };
        let mut numbers = place.split(", Column: ").map(|n| n.trim().parse().unwrap_or(0));
        let at = Location::new(numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Self { at, message: lower_first(message) }
    }
}

fn position(diagnostic: &Diagnostic) -> Location {
    diagnostic.span.map_or_else(Location::empty, |span| Location::new(span.start.line, span.start.column))
}

/// The text between `before` and the `after` that follows it.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    Some(&rest[..rest.find(after)?])
}

/// A call whose arguments have the wrong types, in place of the planner's list of every signature.
fn wrong_arguments(text: &str) -> Option<String> {
    let call = between(text, "No function matches the given name and argument types '", "'. You might need")?;
    let (name, types) = call.split_once('(')?;
    Some(format!("`{name}` does not take ({types}; CAST the arguments"))
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

/// The known name nearest to `word`, unless none is near.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// A word is near when about every third letter of it is wrong (`amnt` is `amount` with two letters missing).
    const LETTERS_PER_MISTAKE: usize = 3;
    let word = word.to_lowercase();
    let mistakes_max = word.chars().count().div_ceil(LETTERS_PER_MISTAKE);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&word, &name.to_lowercase()), name))
        .filter(|(mistakes, _)| *mistakes <= mistakes_max)
        .min()
        .map(|(_, name)| name)
}

/// `; did you mean `x`?`, or the whole choice when nothing is near and the choice is short, or nothing.
pub(super) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    /// As many names as one reads at a glance.
    const LISTED_MAX: usize = 6;
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(name) = nearest(word, known.iter().copied()) {
        return format!("; did you mean `{name}`?");
    }
    if known.is_empty() || known.len() > LISTED_MAX {
        return String::new();
    }
    format!("; there is `{}`", known.join("`, `"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        assert_eq!(nearest("amnt", ["account", "amount", "state"]), Some("amount"));
        assert_eq!(nearest("zzz", ["account", "amount"]), None);
        assert_eq!(did_you_mean("zzz", ["a"]), "; there is `a`");
    }

    #[test]
    fn a_parser_error_keeps_its_position() {
        let error = Refusal::parser("sql parser error: Expected: SELECT, found: FROM at Line: 3, Column: 7");
        assert_eq!(error.in_file("q.sql").to_string(), "q.sql:3:7: expected: SELECT, found: FROM");
    }
}
