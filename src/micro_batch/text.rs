//! The text of a JSON string.
//!
//! The one law: what the scanner has accepted resolves without loss; nothing is checked twice.

/// A JSON string without its quotes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    /// `escaped`: there is a backslash in it.
    pub(super) fn new(raw: &'a str, escaped: bool) -> Self {
        Self { raw, escaped }
    }

    /// Nothing between the quotes.
    pub(super) fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The text with its escapes resolved; `space` is used when there are any.
    #[inline]
    pub(super) fn resolve<'s>(&self, space: &'s mut String) -> &'s str
    where
        'a: 's,
    {
        if !self.escaped {
            return self.raw;
        }
        space.clear();
        unescape(self.raw, space);
        space
    }
}

/// Resolves escapes that the scanner has checked.
fn unescape(raw: &str, out: &mut String) {
    let mut rest = raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let (unit, used) = match escape.as_bytes() {
            [b'u', hex @ ..] => unescape_unicode(hex),
            [byte, ..] => (simple_escape(*byte), 1),
            [] => break,
        };
        out.push(unit);
        rest = &escape[used..];
    }
    out.push_str(rest);
}

fn simple_escape(byte: u8) -> char {
    match byte {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        other => char::from(other),
    }
}

/// The character of `XXXX` or of a pair `XXXX\uXXXX`, and how many bytes after the first backslash it takes.
fn unescape_unicode(hex: &[u8]) -> (char, usize) {
    let unit = |at: usize| hex.get(at..at + 4).and_then(hex4).unwrap_or(0xFFFD);
    let first = unit(0);
    if !(0xD800..=0xDBFF).contains(&first) {
        return (char::from_u32(u32::from(first)).unwrap_or(char::REPLACEMENT_CHARACTER), 5);
    }
    let pair = [first, unit(6)];
    let character = char::decode_utf16(pair).next().and_then(Result::ok).unwrap_or(char::REPLACEMENT_CHARACTER);
    (character, 11)
}

/// The number four hex digits make.
pub(super) fn hex4(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0_u16, |value, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        Some(value << 4 | u16::try_from(digit).ok()?)
    })
}
