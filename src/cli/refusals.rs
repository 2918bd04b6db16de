//! Refusals as people read them: the head line, the line of the text with the wrong part underlined, help and notes.
//!
//! The one law: the first line is `file:line:column: sentence` and nothing else, because scripts and editors read it.
//! The picture below it is drawn by rustc's own library; colour is the caller's choice.

use std::collections::BTreeSet;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::error::{Refusal, Refusals, SourceText};

/// Columns of a line shown when the terminal's width is not known; longer lines are cut around what is underlined.
const WIDTH: usize = 120;

/// All of them, an empty line between two, with a count at the end when there are several.
pub(super) fn render(refusals: &Refusals, is_coloured: bool) -> String {
    let renderer = if is_coloured { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.term_width(WIDTH);
    // Files were read in one go and planned in another; the reader mends one file after the other.
    let mut ordered: Vec<&Refusal> = refusals.iter().collect();
    ordered.sort_by_key(|refusal| refusal.text().map(SourceText::name));
    let mut shown: Vec<String> = ordered.into_iter().map(|refusal| renderer.render(&[group(refusal)])).collect();
    if refusals.len() > 1 {
        shown.push(count(refusals));
    }
    shown.join("\n\n")
}

fn group(refusal: &Refusal) -> Group<'_> {
    // What is of no text is said as every other error: with that word in front.
    let level = if refusal.text().is_some() { Level::ERROR.no_name() } else { Level::ERROR };
    let mut group = Group::with_title(level.primary_title(refusal.head()));
    if let Some((text, bytes)) = refusal.excerpt() {
        let snippet = Snippet::source(text.content()).annotation(AnnotationKind::Primary.span(bytes));
        group = group.element(snippet);
    }
    for help in refusal.helps() {
        group = group.element(Level::HELP.message(help));
    }
    for note in refusal.notes() {
        group = group.element(Level::NOTE.message(note));
    }
    group
}

fn count(refusals: &Refusals) -> String {
    let texts: BTreeSet<&str> = refusals.iter().filter_map(|refusal| refusal.text()).map(SourceText::name).collect();
    match texts.len() {
        0 | 1 => format!("{} errors", refusals.len()),
        files => format!("{} errors in {files} files", refusals.len()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::contract::TableContract;
    use crate::error::Error;
    use crate::sql::refusals::{error_of, folder};

    use super::*;

    /// Compares with `tests/sql_errors/rendered/<name>.txt`; `LAKEWARD_BLESS=1` writes it.
    fn assert_rendered(name: &str, error: Error) {
        let Error::Usage(refusals) = error else { panic!("{name} gives {error}") };
        let shown = render(&refusals, false) + "\n";
        let path = folder().join("rendered").join(name).with_extension("txt");
        if std::env::var_os("LAKEWARD_BLESS").is_some() {
            fs::write(&path, &shown).unwrap();
        }
        assert_eq!(shown, fs::read_to_string(&path).unwrap_or_default(), "{name}");
    }

    #[tokio::test]
    async fn pictures_are_as_blessed() {
        for name in
            ["column_unknown_everywhere", "batch_columns", "function_now", "file_create_table_as", "source_join"]
        {
            let file = format!("{name}.sql");
            let text = fs::read_to_string(folder().join(&file)).unwrap();
            assert_rendered(name, error_of(&file, &text).await.unwrap());
        }
    }

    /// Whatever letters a place is among.
    #[tokio::test]
    async fn every_error_there_is_can_be_drawn() {
        let mut drawn = 0;
        for entry in fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.extension().is_some_and(|extension| extension == "sql") {
                let (name, text) = (entry.file_name().unwrap().to_str().unwrap(), fs::read_to_string(&entry).unwrap());
                let Some(Error::Usage(refusals)) = error_of(name, &text).await else { continue };
                assert!(render(&refusals, true).contains(name), "{name}");
                drawn += 1;
            }
        }
        assert!(drawn > 100, "{drawn}");
    }

    #[test]
    fn contracts_are_drawn_as_queries_are() {
        let text = fs::read_to_string(folder().join("rendered/contract.sql")).unwrap();
        assert_rendered("contract", TableContract::parse("contract.sql", &text).unwrap_err());
    }

    #[test]
    fn colour_does_not_change_the_words() {
        let text = SourceText::new("q.sql", "SELECT amnt");
        let at = datafusion::sql::sqlparser::tokenizer::Location::new(1, 8);
        let refusal = Refusal::new(datafusion::sql::sqlparser::tokenizer::Span::new(at, at), "no column `amnt`");
        let Error::Usage(refusals) = refusal.in_text(&text) else { panic!("another error") };
        let plain = render(&refusals, false);
        assert!(plain.starts_with("q.sql:1:8: no column `amnt`\n"), "{plain}");
        assert!(plain.contains("SELECT amnt") && plain.contains("^^^^"), "{plain}");
        let coloured = render(&refusals, true);
        assert_ne!(coloured, plain);
        let mut bare = String::new();
        let mut in_escape = false;
        for letter in coloured.chars() {
            match (in_escape, letter) {
                (false, '\x1b') => in_escape = true,
                (true, 'm') => in_escape = false,
                (true, _) => {}
                (false, letter) => bare.push(letter),
            }
        }
        assert_eq!(bare, plain);
    }

    #[test]
    fn what_is_of_no_text_begins_with_the_word() {
        let Error::Usage(refusals) = Error::usage("`--pace` goes with `--source`") else { panic!("another error") };
        assert_eq!(render(&refusals, false), "error: `--pace` goes with `--source`");
    }
}
