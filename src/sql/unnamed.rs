//! Columns that came to the stream after a query was written, and that it does not name.
//!
//! The one law: a query is the same query, and goes on where it was, whether such a column is there or not. Windows carry
//! every column of their rows along, so the plan lists them; this takes out of its text what nobody asked for. A column
//! that is named anywhere stays everywhere: then it is another query.

use super::standing::input_schema;
use crate::contract::TableContract;

/// The text of a plan without the stream's added columns that it only carries along.
pub(super) fn without_unnamed(plan: &str, stream: &TableContract) -> String {
    let mut text = plan.to_owned();
    let schema = input_schema(stream);
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    // The last one first: each is carried along behind the one before it.
    for added in stream.added_columns().map(|column| column.name.as_ref()).collect::<Vec<_>>().into_iter().rev() {
        let before = columns.iter().position(|column| *column == added).and_then(|at| columns.get(at.checked_sub(1)?));
        let Some(before) = before else { continue };
        let without = without_run(&text, before, added);
        if !names(&without, added) {
            text = without;
        }
    }
    text
}

/// Without `, q.added` wherever that stands behind `q.before`.
fn without_run(text: &str, before: &str, added: &str) -> String {
    let (carried, mut out, mut rest) = (format!(".{before}, "), String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(&carried) {
        let end = at + carried.len();
        let relation = rest[..at].rfind(|c| !is_of_name(c)).map_or(&rest[..at], |space| &rest[space + 1..at]);
        let next = format!("{relation}.{added}");
        let is_next = rest[end..].strip_prefix(&next).is_some_and(|behind| !behind.starts_with(is_of_name));
        match is_next && !relation.is_empty() {
            true => {
                out.push_str(&rest[..end - ", ".len()]);
                rest = &rest[end + next.len()..];
            }
            false => {
                out.push_str(&rest[..end]);
                rest = &rest[end..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Whether a text holds this name as a word.
fn names(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let (before, behind) = (&text[..at], &text[at + name.len()..]);
        !before.ends_with(is_of_name) && !behind.starts_with(is_of_name)
    })
}

fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    use super::super::testing::{plan, transactions};
    use super::super::{Catalog, QueryFile, StandingQuery};

    /// The query's fingerprint over the stream with these columns more.
    async fn fingerprint(text: &str, added: &[&str]) -> String {
        let mut stream = transactions();
        for name in added {
            let city = stream.column("latitude").unwrap().clone();
            stream.columns.push(crate::contract::Column { name: (*name).into(), ..city });
        }
        let catalog = Catalog::new(Arc::new(stream), BTreeMap::new()).unwrap();
        let file = QueryFile::parse(Path::new("queries/q.sql"), text).unwrap();
        StandingQuery::plan(&file, &catalog).await.unwrap().fingerprint().to_owned()
    }

    fn view(columns: &str, window: &str, tail: &str) -> String {
        format!(
            "CREATE MATERIALIZED VIEW q AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, \
             {columns} FROM {window} {tail}"
        )
    }

    #[tokio::test]
    async fn a_query_that_does_not_name_an_added_column_is_the_query_it_was() {
        let grouped = "GROUP BY window_start, window_end";
        for window in [
            "TUMBLE(transactions, event_time, INTERVAL '5 minutes')",
            "HOP(transactions, event_time, INTERVAL '1 minute', INTERVAL '5 minutes')",
            "CUMULATE(transactions, event_time, INTERVAL '1 minute', INTERVAL '5 minutes')",
            "SESSION(transactions, event_time, INTERVAL '5 minutes')",
        ] {
            let text = view("count(*) AS n", window, grouped);
            let before = plan(&text).await.unwrap().fingerprint().to_owned();
            assert_eq!(fingerprint(&text, &["level"]).await, before, "{window}");
            assert_eq!(fingerprint(&text, &["level", "level_2"]).await, before, "{window}");
            // One that names the first is not changed by the second, and the other way round.
            for (named, other) in [("level", "level_2"), ("level_2", "level")] {
                let text = view(&format!("max({named}) AS m"), window, grouped);
                let alone = fingerprint(&text, &[named]).await;
                assert_ne!(alone, before, "{window}");
                let both = if named == "level" { [named, other] } else { [other, named] };
                assert_eq!(fingerprint(&text, &both).await, alone, "{window}: {named}");
            }
        }
        let stateless =
            "CREATE MATERIALIZED VIEW q AS SELECT event_time, event_date, amount FROM transactions WHERE amount > 1";
        assert_eq!(fingerprint(stateless, &["level"]).await, plan(stateless).await.unwrap().fingerprint());
    }
}
