//! One contract file as text and tokens, and the errors that point into it.
//!
//! The one law: an error names file, line and column, and the nearest right word when there is one.

use std::fmt::Display;

use datafusion::sql::sqlparser::ast::{CreateTable, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, Whitespace};

use crate::error::{Error, Result};

/// What may follow a column's type: the words a misspelt clause is compared with.
const CLAUSE_WORDS: [&str; 6] = ["NOT", "NULL", "OPTIONS", "CHECK", "COMMENT", "GENERATED"];

/// A contract file, read into tokens.
pub(super) struct Source<'a> {
    origin: &'a str,
    tokens: Vec<TokenWithSpan>,
}

impl<'a> Source<'a> {
    pub(super) fn read(origin: &'a str, sql: &str) -> Result<Self> {
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location();
        let tokens = tokens.map_err(|error| {
            let Location { line, column } = error.location;
            Error::usage(format!("{origin}:{line}:{column}: {}", error.message.to_lowercase()))
        })?;
        Ok(Self { origin, tokens })
    }

    /// The file's one statement.
    pub(super) fn create_table(&self) -> Result<CreateTable> {
        let mut parser = Parser::new(&GenericDialect {}).with_tokens_with_locations(self.tokens.clone());
        let statements = parser.parse_statements().map_err(|error| self.parser_error(&error))?;
        match <[Statement; 1]>::try_from(statements) {
            Ok([Statement::CreateTable(table)]) => Ok(table),
            Ok(_) => Err(self.error(self.first_place(), "a contract starts with `CREATE TABLE`")),
            Err(statements) => {
                let message = format!("one `CREATE TABLE` is expected, found {} statements", statements.len());
                Err(self.error(self.first_place(), message))
            }
        }
    }

    /// The comment before the statement, its lines joined by spaces.
    pub(super) fn leading_comment(&self) -> String {
        let mut lines: Vec<&str> = Vec::new();
        for token in &self.tokens {
            match &token.token {
                Token::Whitespace(Whitespace::SingleLineComment { comment, .. }) => lines.push(comment.trim()),
                Token::Whitespace(Whitespace::MultiLineComment(comment)) => {
                    lines.extend(comment.lines().map(str::trim));
                }
                Token::Whitespace(_) => {}
                _ => break,
            }
        }
        lines.retain(|line| !line.is_empty());
        lines.join(" ")
    }

    /// An error at this place.
    pub(super) fn error(&self, at: Location, message: impl Display) -> Error {
        Error::usage(format!("{}:{}:{}: {message}", self.origin, at.line.max(1), at.column.max(1)))
    }

    /// Where the token after this span stands.
    pub(super) fn place_after(&self, span: Span) -> Location {
        let next = self.meaningful().find(|token| token.span.start >= span.end);
        next.map_or(span.start, |token| token.span.start)
    }

    fn first_place(&self) -> Location {
        self.meaningful().next().map_or(Location { line: 1, column: 1 }, |token| token.span.start)
    }

    fn meaningful(&self) -> impl Iterator<Item = &TokenWithSpan> {
        self.tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)))
    }

    /// The parser tells the place only inside its message, as ` at Line: 4, Column: 12`; without one the text has ended.
    fn parser_error(&self, error: &ParserError) -> Error {
        let text = match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
            ParserError::RecursionLimitExceeded => "an expression is nested too deeply",
        };
        let (message, at) = match text.rsplit_once(" at Line: ") {
            Some((message, place)) => (message, location(place)),
            None => (text, None),
        };
        let end = || self.tokens.last().map_or(Location { line: 1, column: 1 }, |token| token.span.end);
        let at = at.unwrap_or_else(end);
        let message = message.replacen("Expected:", "expected", 1).replace(", found:", ", found");
        self.error(at, format!("{message}{}", self.clause_hint(at)))
    }

    /// `; did you mean …?` when the word at this place is nearly a column's clause.
    fn clause_hint(&self, at: Location) -> String {
        let word = self.meaningful().find_map(|token| match &token.token {
            Token::Word(word) if token.span.start == at => Some(word.value.to_uppercase()),
            _ => None,
        });
        word.and_then(|word| nearest(&word, &CLAUSE_WORDS))
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
    }
}

fn location(place: &str) -> Option<Location> {
    let (line, column) = place.split_once(", Column: ")?;
    Some(Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
}

/// `; did you mean …?` with the nearest of the known words, else what there is to choose from.
pub(super) fn did_you_mean<S: AsRef<str>>(word: &str, known: &[S]) -> String {
    if let Some(near) = nearest(word, known) {
        return format!("; did you mean `{near}`?");
    }
    let known: Vec<String> = known.iter().map(|word| format!("`{}`", word.as_ref())).collect();
    format!("; known are {}", known.join(", "))
}

/// The known word nearest to this one, if a third of its letters or less must change.
fn nearest<'w, S: AsRef<str>>(word: &str, known: &'w [S]) -> Option<&'w str> {
    let allowed = (word.chars().count() / 3).max(1);
    let distances = known.iter().map(|known| (strsim::damerau_levenshtein(word, known.as_ref()), known.as_ref()));
    distances.filter(|(distance, _)| (1..=allowed).contains(distance)).min().map(|(_, known)| known)
}
