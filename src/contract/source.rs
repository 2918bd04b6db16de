//! One contract file as text and tokens, and the errors that point into it.
//!
//! The one law: an error names file, line and column, and the nearest right word when there is one.

use datafusion::sql::sqlparser::ast::{CreateTable, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, Whitespace};

use crate::error::{Error, Refusal, Refusals, Result, SourceText, nearest};

/// What may follow a column's type: the words a misspelt clause is compared with.
const CLAUSE_WORDS: [&str; 6] = ["NOT", "NULL", "OPTIONS", "CHECK", "COMMENT", "GENERATED"];

/// A contract file, read into tokens.
pub(super) struct Source {
    text: SourceText,
    tokens: Vec<TokenWithSpan>,
}

impl Source {
    pub(super) fn read(origin: &str, sql: &str) -> Result<Self> {
        let text = SourceText::new(origin, sql);
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location();
        let tokens =
            tokens.map_err(|error| Refusal::new(point(error.location), error.message.to_lowercase()).in_text(&text))?;
        Ok(Self { text, tokens })
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
    pub(super) fn error(&self, at: Span, message: impl Into<String>) -> Error {
        self.refuse(Refusal::new(at, message))
    }

    /// An error at this place, with the known word `word` was meant to be.
    pub(super) fn unknown<'w>(
        &self,
        at: Span,
        message: impl Into<String>,
        word: &str,
        known: impl IntoIterator<Item = &'w str>,
    ) -> Error {
        self.refuse(Refusal::new(at, message).near(word, known))
    }

    /// This refusal as an error of this file.
    pub(super) fn refuse(&self, refusal: Refusal) -> Error {
        refusal.or_at(point(Location::new(1, 1))).in_text(&self.text)
    }

    /// All of these as one error of this file.
    pub(super) fn refuse_all(&self, refused: Refusals) -> Error {
        refused.in_text(&self.text)
    }

    /// Where the token after this span stands.
    pub(super) fn place_after(&self, span: Span) -> Span {
        let next = self.meaningful().find(|token| token.span.start >= span.end);
        next.map_or(span, |token| token.span)
    }

    fn first_place(&self) -> Span {
        self.meaningful().next().map_or(point(Location::new(1, 1)), |token| token.span)
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
        let refusal = Refusal::new(point(at), message);
        self.refuse(match self.clause_meant(at) {
            Some((word, clause)) => refusal.near(&word, [clause]),
            None => refusal,
        })
    }

    /// The word at this place and the clause of a column it nearly is.
    fn clause_meant(&self, at: Location) -> Option<(String, &'static str)> {
        let word = self.meaningful().find_map(|token| match &token.token {
            Token::Word(word) if token.span.start == at => Some(word.value.to_uppercase()),
            _ => None,
        });
        word.and_then(|word| nearest(&word, CLAUSE_WORDS).map(|near| (word, near)))
    }
}

fn location(place: &str) -> Option<Location> {
    let (line, column) = place.split_once(", Column: ")?;
    Some(Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
}

fn point(at: Location) -> Span {
    Span::new(at, at)
}
