//! What is said when a row makes a query fail.
//!
//! The one law: only what is wrong with a value, and so with the query that takes it, is the user's to mend; a lack of memory
//! or a bug stays what it is.

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::tokenizer::Span;

use super::place::Refusal;
use crate::error::{Context, Error, Result};

const HELP: &str = "a row makes it fail: write `nullif(…, 0)` under a division, `TRY_CAST(…)` for what may not fit, and start \
                    again: nothing is lost";

/// Adds to an error of running a plan what was done, and what to do.
pub(super) trait OnRows<T> {
    /// # Errors
    /// [`Error::Usage`] when a value is at fault, else [`Error::External`].
    fn on_rows<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T> OnRows<T> for datafusion::error::Result<T> {
    fn on_rows<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.or_else(|error| match wrong_value(&error) {
            Some(why) => {
                let message = format!("{}: {why}", what().into());
                Err(Error::Usage(Refusal::new(Span::empty(), message).help(HELP).into()))
            }
            None => Err(error).context(what),
        })
    }
}

/// What is wrong with a value, if that is it.
fn wrong_value(error: &DataFusionError) -> Option<String> {
    match error.find_root() {
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::DivideByZero => Some("a division by zero".into()),
            ArrowError::CastError(why) | ArrowError::ParseError(why) | ArrowError::ComputeError(why) => {
                Some(why.clone())
            }
            ArrowError::ArithmeticOverflow(why) | ArrowError::InvalidArgumentError(why) => Some(why.clone()),
            _ => None,
        },
        DataFusionError::Execution(why) => Some(why.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_value_is_the_users_and_a_lack_of_memory_is_not() {
        let of = |error: DataFusionError| Err::<(), _>(error).on_rows(|| "running `q`").unwrap_err();
        let divided = of(DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None).context("in a plan"));
        assert!(matches!(&divided, Error::Usage(_)), "{divided:?}");
        let said = divided.to_string();
        assert!(said.starts_with("running `q`: a division by zero") && said.contains("nullif"), "{said}");
        let full = of(DataFusionError::ResourcesExhausted("no room".into()));
        assert!(matches!(&full, Error::External { .. }), "{full:?}");
    }
}
