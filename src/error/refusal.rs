//! What a text may not say: where it says so, what would be right, and why.
//!
//! The one law: a refusal keeps its place, its help and its notes apart until somebody shows it; its head line reads
//! `file:line:column: sentence`. Nothing here decides what is wrong, and nothing prints (see `cli::refusals`).

use std::fmt::{self, Display, Formatter};
use std::ops::Range;
use std::sync::Arc;

use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use super::{Error, Result};

/// A text under the name its messages call it by: a file as it was opened, or what stands in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    name: Arc<str>,
    content: Arc<str>,
}

impl SourceText {
    /// The text `content`, called `name`.
    pub fn new(name: impl Into<Arc<str>>, content: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), content: content.into() }
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole of it.
    pub fn content(&self) -> &str {
        &self.content
    }

    /// The bytes a span covers: its first line of them if it goes over several, the word there if it is a mere point.
    fn bytes(&self, span: Span) -> Option<Range<usize>> {
        let number = usize::try_from(span.start.line).ok()?.checked_sub(1)?;
        let line = self.content.split('\n').nth(number)?;
        let offset: usize = self.content.split('\n').take(number).map(|line| line.len() + 1).sum();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let byte = |column: u64| {
            let letters = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1);
            line.char_indices().nth(letters).map_or(line.len(), |(byte, _)| byte)
        };
        let start = byte(span.start.column);
        let end = match span.end {
            end if end.line > span.start.line => line.trim_end().len(),
            end if end.column > span.start.column => byte(end.column),
            _ => {
                let is_word = |c: char| c.is_alphanumeric() || c == '_';
                let letter = line[start..].chars().next().map_or(1, char::len_utf8);
                start + line[start..].find(|c| !is_word(c)).unwrap_or(line.len() - start).max(letter)
            }
        };
        Some(offset + start..offset + end.clamp(start, line.len().max(start)))
    }
}

/// Something a text may not say.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    at: Span,
    message: String,
    /// Apart, so that a result is small where nothing was refused.
    more: Box<More>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct More {
    helps: Vec<String>,
    notes: Vec<String>,
    meant: Option<String>,
    text: Option<SourceText>,
}

impl Refusal {
    /// Refuses what stands at `at` (line 0: no place is known); `message` says what is wrong and not what to do about it.
    pub fn new(at: Span, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), more: Box::default() }
    }

    /// Adds what to write instead.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.more.helps.push(help.into());
        self
    }

    /// Adds why, or what else is good to know.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.more.notes.push(note.into());
        self
    }

    /// Adds the known name `word` was meant to be, or all of them when none is near and the choice is short.
    pub fn near<'a>(mut self, word: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        /// As many names as one reads at a glance.
        const LISTED_MAX: usize = 12;
        let known: Vec<&str> = known.into_iter().collect();
        self.more.meant = nearest(word, known.iter().copied()).map(str::to_owned);
        match &self.more.meant {
            Some(name) => self.more.helps.push(format!("did you mean `{name}`?")),
            None if (1..=LISTED_MAX).contains(&known.len()) => {
                self.more.helps.push(format!("there is `{}`", known.join("`, `")));
            }
            None => {}
        }
        self
    }

    /// Moves a refusal that has no place to `fallback`.
    pub fn or_at(mut self, fallback: Span) -> Self {
        if self.at.start.line == 0 {
            self.at = fallback;
        }
        self
    }

    /// Says which text it is about, unless that is known.
    pub fn of(mut self, text: &SourceText) -> Self {
        self.more.text.get_or_insert_with(|| text.clone());
        self
    }

    /// The error a user sees.
    pub fn in_text(self, text: &SourceText) -> Error {
        Refusals::from(self).in_text(text)
    }

    /// What it is about; line 0 when that is not known.
    pub fn span(&self) -> Span {
        self.at
    }

    /// Where it begins; line 0 when that is not known.
    pub fn at(&self) -> Location {
        self.at.start
    }

    /// `file:line:column: sentence`, as far as these are known.
    pub fn head(&self) -> String {
        match (&self.more.text, self.at.start) {
            (None, _) => self.message.clone(),
            (Some(text), Location { line: 0, .. }) => format!("{}: {}", text.name, self.message),
            (Some(text), Location { line, column }) => format!("{}:{line}:{column}: {}", text.name, self.message),
        }
    }

    /// The text it is about, if it is about one.
    pub fn text(&self) -> Option<&SourceText> {
        self.more.text.as_ref()
    }

    /// The text and the bytes of it this is about.
    pub fn excerpt(&self) -> Option<(&SourceText, Range<usize>)> {
        let text = self.more.text.as_ref()?;
        Some((text, text.bytes(self.at)?))
    }

    /// The known name that was found near, if one was.
    pub fn meant(&self) -> Option<&str> {
        self.more.meant.as_deref()
    }

    /// What to write instead.
    pub fn helps(&self) -> &[String] {
        &self.more.helps
    }

    /// Why, or what else is good to know.
    pub fn notes(&self) -> &[String] {
        &self.more.notes
    }
}

/// On one line, for logs: the head, then help and notes.
impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head())?;
        self.more.helps.iter().chain(&self.more.notes).try_for_each(|more| write!(f, "; {more}"))
    }
}

/// Everything that was found wrong, in the order of places.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refusals(Vec<Refusal>);

impl Refusals {
    /// Adds one; a second one at the same place saying the same is dropped.
    pub fn push(&mut self, refusal: Refusal) {
        let is_same = |other: &Refusal| other.head() == refusal.head() && other.at.start == refusal.at.start;
        if !self.0.iter().any(is_same) {
            self.0.push(refusal);
        }
    }

    /// Adds those of others.
    pub fn extend(&mut self, others: impl IntoIterator<Item = Refusal>) {
        others.into_iter().for_each(|refusal| self.push(refusal));
    }

    /// The value, or nothing and what was refused in its place.
    pub fn keep<T, E: Into<Self>>(&mut self, result: std::result::Result<T, E>) -> Option<T> {
        result.map_err(|refused| self.extend(refused.into())).ok()
    }

    /// As [`Refusals::keep`] for a whole file or query: other errors than [`Error::Usage`] end the work at once.
    ///
    /// # Errors
    /// Every other error than [`Error::Usage`].
    pub fn gather<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Usage(refused)) => {
                self.extend(refused);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// `value`, if nothing was refused.
    ///
    /// # Errors
    /// All of these.
    pub fn or<T>(self, value: T) -> std::result::Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Moves those without a place to `fallback`.
    pub fn or_at(self, fallback: Span) -> Self {
        Self(self.0.into_iter().map(|refusal| refusal.or_at(fallback)).collect())
    }

    /// The error a user sees: all of them, in the order of places in `text`.
    pub fn in_text(self, text: &SourceText) -> Error {
        let mut all: Vec<Refusal> = self.0.into_iter().map(|refusal| refusal.of(text)).collect();
        all.sort_by_key(|Refusal { at, .. }| (at.start.line == 0, at.start.line, at.start.column));
        Error::Usage(Self(all))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Refusal> {
        self.0.iter()
    }

    /// Whether one of them says this.
    pub fn contains(&self, words: &str) -> bool {
        self.to_string().contains(words)
    }
}

/// A line each.
impl Display for Refusals {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, refusal) in self.0.iter().enumerate() {
            write!(f, "{}{refusal}", if index > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl From<Refusal> for Refusals {
    fn from(refusal: Refusal) -> Self {
        Self(vec![refusal])
    }
}

impl IntoIterator for Refusals {
    type Item = Refusal;
    type IntoIter = std::vec::IntoIter<Refusal>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The known name nearest to `word`, unless none is near or it is the word itself.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// A word is near when about every third letter of it is wrong (`amnt` is `amount` with two letters missing).
    const LETTERS_PER_MISTAKE: usize = 3;
    let (wanted, mistakes_max) = (word.to_lowercase(), word.chars().count().div_ceil(LETTERS_PER_MISTAKE));
    known
        .into_iter()
        .filter(|name| *name != word)
        .map(|name| (strsim::damerau_levenshtein(&wanted, &name.to_lowercase()), name))
        .filter(|(mistakes, _)| *mistakes <= mistakes_max)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(line: u64, from: u64, to: u64) -> Span {
        Span::new(Location::new(line, from), Location::new(line, to))
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        assert_eq!(nearest("amnt", ["account", "amount", "state"]), Some("amount"));
        assert_eq!(nearest("zzz", ["account", "amount"]), None);
        let near = |word: &str, known: &[&str]| {
            Refusal::new(Span::empty(), "no").near(word, known.iter().copied()).to_string()
        };
        assert_eq!(near("zzz", &["a", "b"]), "no; there is `a`, `b`");
        assert_eq!(near("zz", &["zzz", "b"]), "no; did you mean `zzz`?");
        assert_eq!(near("zzz", &[]), "no");
    }

    #[test]
    fn a_span_is_its_bytes_whatever_the_letters() {
        let text = SourceText::new("q.sql", "select 1\r\n\tsélect\u{3000}'日本' amnt + 1,\nx");
        let at = |span| text.bytes(span).map(|bytes| &text.content()[bytes]);
        assert_eq!(at(span(1, 8, 9)), Some("1"));
        assert_eq!(at(span(2, 9, 13)), Some("'日本'"));
        // A point is the word there, or one letter; several lines are the first of them.
        assert_eq!(at(span(2, 14, 14)), Some("amnt"));
        assert_eq!(at(span(2, 19, 19)), Some("+"));
        assert_eq!(at(span(2, 8, 8)), Some("\u{3000}"));
        assert_eq!(at(Span::new(Location::new(2, 19), Location::new(3, 2))), Some("+ 1,"));
        // The end of the text, and beyond.
        assert_eq!(at(span(3, 2, 2)), Some(""));
        assert_eq!(at(span(9, 1, 2)), None);
        assert_eq!(at(Span::empty()), None);
    }

    #[test]
    fn refusals_stand_in_the_order_of_places_each_once() {
        let text = SourceText::new("q.sql", "a\nb");
        let mut refusals = Refusals::default();
        refusals.push(Refusal::new(span(2, 1, 2), "second").near("amnt", ["amount"]));
        refusals.push(Refusal::new(span(1, 1, 2), "first").help("write it").note("so it is"));
        refusals.push(Refusal::new(span(1, 1, 2), "first").help("write it").note("so it is"));
        assert_eq!(
            refusals.in_text(&text).to_string(),
            "q.sql:1:1: first; write it; so it is\nq.sql:2:1: second; did you mean `amount`?"
        );
    }
}
