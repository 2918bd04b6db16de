//! Whether this process may do what its job needs: what was asked, and what came back.
//!
//! The one law: asking changes nothing that stays. Who answers nothing has not refused.

use serde::Serialize;

use crate::error::{Error, Result};

/// One permission, as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Permission {
    /// `kinesis:GetRecords`.
    pub action: String,
    /// The ARN, or what else it is about.
    pub on: String,
    #[serde(flatten)]
    pub answer: Answer,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", content = "says", rename_all = "snake_case")]
pub enum Answer {
    Granted,
    /// With what mends it.
    Refused(String),
    /// Nobody said; what happened.
    Failed(String),
    /// It could not be asked for; why.
    NotAsked(String),
}

impl Permission {
    /// What the result of a call says.
    pub fn of<T>(action: &str, on: &str, asked: &Result<T>) -> Self {
        let answer = match asked {
            Ok(_) => Answer::Granted,
            Err(error @ Error::Usage(_)) => Answer::Refused(error.to_string()),
            Err(error) => Answer::Failed(error.to_string()),
        };
        Self { action: action.to_owned(), on: on.to_owned(), answer }
    }

    /// One that could not be asked for.
    pub fn not_asked(action: &str, on: &str, why: &str) -> Self {
        Self { action: action.to_owned(), on: on.to_owned(), answer: Answer::NotAsked(why.to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_nothing_has_not_refused() {
        let of = |asked: Result<()>| Permission::of("s3:GetObject", "arn:aws:s3:::b/*", &asked);
        assert_eq!(of(Ok(())).answer, Answer::Granted);
        assert_eq!(of(Err(Error::usage("denied"))).answer, Answer::Refused("denied".into()));
        let silent = of(Err(Error::external("reading", "no answer")));
        assert_eq!(silent.answer, Answer::Failed("reading: no answer".into()));
        let json = serde_json::to_value(&silent).unwrap();
        assert_eq!((&json["answer"], &json["says"]), (&"failed".into(), &"reading: no answer".into()));
    }
}
