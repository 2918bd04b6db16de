//! Results on standard output, everything else on standard error.

use std::ffi::OsStr;
use std::io::{IsTerminal, Write};

use arrow::array::{AsArray, RecordBatch};
use arrow::util::pretty::pretty_format_batches;

use super::{OutputFormat, refusals};
use crate::clock::Micros;
use crate::error::{Context, Error, Result};

/// Prints an error the way it is meant to be read: what, where, and what to try.
pub(super) fn complain(error: &Error) {
    let is_coloured = is_coloured(std::io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref());
    match error {
        Error::Usage(refusals) => say(&refusals::render(refusals, is_coloured)),
        other if is_coloured => say(&format!("\x1b[31merror:\x1b[0m {other}")),
        other => say(&format!("error: {other}")),
    }
}

/// Colour is for terminals, unless `NO_COLOR` says anything (no-color.org).
fn is_coloured(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

/// One line on standard error. (A closed standard error is nobody's loss.)
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// One result line on standard output.
///
/// # Errors
/// [`Error::External`] when standard output is closed.
pub(super) fn answer(line: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context(|| "writing to standard output")
}

/// Prints rows in the asked form; an empty result still shows its columns.
///
/// # Errors
/// [`Error::External`] when standard output is closed or a value cannot be shown.
pub(super) fn print_rows(rows: &[RecordBatch], format: OutputFormat) -> Result<()> {
    let out = std::io::stdout().lock();
    match format {
        OutputFormat::Table => {
            let text = match plans(rows) {
                Some(plans) => plans,
                None => pretty_format_batches(rows).context(|| "formatting rows")?.to_string(),
            };
            return answer_locked(out, &text);
        }
        OutputFormat::Csv => {
            let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(out);
            for batch in rows {
                writer.write(batch).context(|| "writing rows as csv")?;
            }
        }
        OutputFormat::Json => {
            let mut writer = arrow::json::LineDelimitedWriter::new(out);
            for batch in rows {
                writer.write(batch).context(|| "writing rows as json")?;
            }
            writer.finish().context(|| "writing rows as json")?;
        }
    }
    Ok(())
}

/// The answer of an EXPLAIN as text: a table's frame around many long lines would only be in the way.
fn plans(rows: &[RecordBatch]) -> Option<String> {
    let mut text = Vec::new();
    for batch in rows {
        let names = batch.schema_ref().fields().iter().map(|field| field.name().as_str());
        if !names.eq(["plan_type", "plan"]) {
            return None;
        }
        let (kinds, plans) = (batch.column(0).as_string_opt::<i32>()?, batch.column(1).as_string_opt::<i32>()?);
        for (kind, plan) in kinds.iter().zip(plans) {
            let lines = plan.unwrap_or_default().trim_end().lines().map(|line| format!("  {line}"));
            text.push(format!("{}\n{}", kind.unwrap_or_default(), lines.collect::<Vec<_>>().join("\n")));
        }
    }
    Some(text.join("\n\n"))
}

fn answer_locked(mut out: impl Write, text: &str) -> Result<()> {
    writeln!(out, "{text}").context(|| "writing to standard output")
}

/// A whole number, `12345678`, as `12,345,678`.
pub(super) fn thousands(number: impl std::fmt::Display) -> String {
    let digits = format!("{number:.0}");
    let mut shown = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A time as people read it, to the second, UTC.
pub(super) fn time(micros: Option<Micros>) -> String {
    micros
        .and_then(chrono::DateTime::from_timestamp_micros)
        .map_or_else(|| "-".into(), |time| time.format("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};

    use super::*;

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        assert!(is_coloured(true, None));
        assert!(is_coloured(true, Some(OsStr::new(""))));
        assert!(!is_coloured(true, Some(OsStr::new("1"))));
        assert!(!is_coloured(false, None));
    }

    #[test]
    fn the_answer_of_an_explain_is_text() {
        let column = |lines: &[&str]| -> ArrayRef { Arc::new(StringArray::from(lines.to_vec())) };
        let rows = RecordBatch::try_from_iter([
            ("plan_type", column(&["logical_plan", "physical_plan"])),
            ("plan", column(&["Projection\n  Values", "Exec\n"])),
        ]);
        let text = plans(&[rows.unwrap()]);
        assert_eq!(text.as_deref(), Some("logical_plan\n  Projection\n    Values\n\nphysical_plan\n  Exec"));
        let other = RecordBatch::try_from_iter([("plan", column(&["x"]))]).unwrap();
        assert_eq!(plans(&[other]), None);
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(12_345_678), "12,345,678");
    }
}
