//! Names and texts as each dialect quotes them, and scripts put together from statements.
//!
//! The one law: no name and no text goes into a script but through here; what they hold cannot end their quotes.

use std::fmt::Display;

/// A name in SQL's own quotes: Trino (Athena's queries and views), Redshift, DuckDB.
pub(super) fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name in Hive's quotes: Athena's DDL, Spark.
pub(super) fn hive_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text in which only the quote is special: Trino, DuckDB.
pub(super) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A text in which the backslash escapes: Redshift, where a quote is doubled.
pub(super) fn redshift_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A text in which the backslash escapes, quotes too: Athena's DDL, Spark.
pub(super) fn hive_text(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n").replace('\r', "\\r");
    format!("'{escaped}'")
}

/// The longest comment Glue's catalog takes for a column, in characters.
pub(super) const COMMENT_MAX: usize = 255;

/// A text on one line, with an ellipsis where something is missing.
pub(super) fn cut(text: &str, characters_max: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(characters_max) {
        None => line,
        Some(_) => line.chars().take(characters_max - 1).chain(['…']).collect(),
    }
}

/// Statements and the comments between them.
#[derive(Debug, Default)]
pub(super) struct Script(String);

impl Script {
    /// A script that begins by saying what it is.
    pub(super) fn new(head: &str) -> Self {
        let mut script = Self::default();
        script.comment(head);
        script
    }

    /// A paragraph of comment, every line of it. Without semicolons: there are clients that cut scripts at them, blindly.
    pub(super) fn comment(&mut self, comment: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        for line in comment.lines().map(str::trim_end) {
            self.0.push_str(&format!("-- {line}").trim_end().replace('\r', " ").replace(';', ","));
            self.0.push('\n');
        }
    }

    /// One statement, without its semicolon.
    pub(super) fn statement(&mut self, statement: impl Display) {
        self.0.push_str(&format!("{statement};\n"));
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Items a line each, indented, separated by commas.
pub(super) fn lines(items: impl IntoIterator<Item = String>) -> String {
    items.into_iter().map(|item| format!("  {item}")).collect::<Vec<_>>().join(",\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_its_own_quotes() {
        assert_eq!(name("a\"b"), "\"a\"\"b\"");
        assert_eq!(hive_name("a`b"), "`a``b`");
        assert_eq!(text("it's \\ a"), "'it''s \\ a'");
        assert_eq!(redshift_text("it's \\ a"), "'it''s \\\\ a'");
        assert_eq!(hive_text("it's \\ a\n"), "'it\\'s \\\\ a\\n'");
    }

    #[test]
    fn comments_are_cut_to_what_the_catalog_takes() {
        assert_eq!(cut("two\n lines", 255), "two lines");
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde…");
    }

    #[test]
    fn a_comment_stays_a_comment() {
        let mut script = Script::new("one\ntwo; DROP TABLE x");
        script.comment("three");
        script.statement("SELECT 1");
        assert_eq!(script.finish(), "-- one\n-- two, DROP TABLE x\n\n-- three\nSELECT 1;\n");
    }
}
