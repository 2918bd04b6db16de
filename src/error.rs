//! Errors, sorted by who has to act.
//!
//! The one law: a variant says what the reader of the message would do differently, never which library failed.
//! A bad row is not an error here; it is a row of `rejects`.

use std::process::ExitCode;

use datafusion::sql::sqlparser::tokenizer::Span;

mod refusal;

pub use refusal::{Refusal, Refusals, SourceText, nearest};

/// The result of everything in Lakeward that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by who acts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user changes the command line, the configuration, a contract or a query. Never retried. Exit code 2.
    #[error("{0}")]
    Usage(Refusals),
    /// Another writer owns the lake now. Never retried: it would fight. Exit code 75.
    #[error("{0}")]
    Fenced(String),
    /// The world did not answer: a store, a stream, a file. Retrying, or waiting, may help. Exit code 1.
    #[error("{what}: {source}")]
    External { what: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// The data in the lake or the stream contradicts itself; going on could lose or double rows. Exit code 1.
    #[error("{0}")]
    Broken(String),
}

/// A reason inside a library's error that the user can mend: denied, misspelled, expired. [`Error::external`] finds it
/// however deep it lies and makes it [`Error::Usage`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Mendable(pub String);

impl Mendable {
    /// The one that an error holds.
    pub fn inside<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        causes(error).find_map(|error| error.downcast_ref())
    }
}

/// An error and what caused it, outermost first.
pub fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

impl Error {
    /// An error the user can mend; `message` says what, where, and what to try.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(Refusal::new(Span::empty(), message).into())
    }

    /// A failure of the world around; `what` names the action that failed. One that holds a [`Mendable`] is the user's.
    pub fn external(what: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let (what, source) = (what.into(), source.into());
        match Mendable::inside(source.as_ref()) {
            Some(reason) => Self::usage(format!("{what}: {reason}")),
            None => Self::External { what, source },
        }
    }

    /// A broken invariant of the protocol.
    pub fn broken(message: impl Into<String>) -> Self {
        Self::Broken(message.into())
    }

    /// The exit code scripts rely on: 1 failure, 2 usage or config, 75 fenced by another writer.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) => 2,
            Self::Fenced(_) => 75,
            Self::External { .. } | Self::Broken(_) => 1,
        })
    }
}

/// Names the action that failed, so that a library's error becomes ours with `?`.
pub trait Context<T> {
    /// Turns the error into [`Error::External`] naming the action that failed.
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::external(what(), source))
    }
}
