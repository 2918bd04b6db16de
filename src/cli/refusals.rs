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
    let mut shown: Vec<String> = refusals.iter().map(|refusal| renderer.render(&[group(refusal)])).collect();
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
