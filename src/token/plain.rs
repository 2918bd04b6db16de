//! Plain records: one JSON object whose members are strings without escapes, numbers, `true`, `false` or `null`.
//!
//! The one law: what is walked here to its end is JSON, and has the members that a JSON parser finds in it. Of anything else
//! nothing is said: it is left to the parser.
//!
//! Nearly every record of a stream is plain, and a producer needs three of its members at most; a parser's care for the rest
//! is most of what sending a record costs.

use std::ops::Range;

/// Calls `member` with the name and the place of each member's value, in their order; whether the record is plain. Names
/// are ASCII; values may hold invalid UTF-8 within strings.
pub(super) fn members<'j>(json: &'j [u8], mut member: impl FnMut(&'j [u8], Range<usize>) -> Option<()>) -> Option<()> {
    let mut at = expect(json, 0, b'{')?;
    if let Some(end) = expect(json, at, b'}') {
        return is_end(json, end);
    }
    loop {
        let start = expect(json, at, b'"')?;
        let end = string_end(json, start)?;
        let name = &json[start..end];
        if !name.is_ascii() {
            return None;
        }
        let value = skip_space(json, expect(json, end + 1, b':')?);
        at = value_end(json, value)?;
        member(name, value..at)?;
        match expect(json, at, b',') {
            Some(next) => at = next,
            None => return is_end(json, expect(json, at, b'}')?),
        }
    }
}

fn is_end(json: &[u8], at: usize) -> Option<()> {
    (skip_space(json, at) == json.len()).then_some(())
}

/// Behind this byte, which may have white space before it.
fn expect(json: &[u8], at: usize, byte: u8) -> Option<usize> {
    let at = skip_space(json, at);
    (json.get(at) == Some(&byte)).then_some(at + 1)
}

fn skip_space(json: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = json.get(at) {
        at += 1;
    }
    at
}

fn value_end(json: &[u8], at: usize) -> Option<usize> {
    match json.get(at)? {
        b'"' => string_end(json, at + 1).map(|end| end + 1),
        b'-' | b'0'..=b'9' => number_end(json, at),
        b't' => json[at..].starts_with(b"true").then_some(at + 4),
        b'f' => json[at..].starts_with(b"false").then_some(at + 5),
        b'n' => json[at..].starts_with(b"null").then_some(at + 4),
        _ => None,
    }
}

/// Where the quote stands that ends the string whose content begins at `at`; `None` when an escape or a control character
/// comes before it.
fn string_end(json: &[u8], mut at: usize) -> Option<usize> {
    while let Some((eight, _)) = json.get(at..).and_then(<[u8]>::split_first_chunk::<8>) {
        let special = specials(u64::from_le_bytes(*eight));
        if special != 0 {
            at += special.trailing_zeros() as usize / 8;
            return (json[at] == b'"').then_some(at);
        }
        at += 8;
    }
    let rest = json.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '))?;
    (json[at + rest] == b'"').then_some(at + rest)
}

/// The high bit of each byte that is a quote, a backslash or below a space; bits above the lowest one may be wrong. After
/// "Determine if a word has a byte less than n" of Anderson's Bit Twiddling Hacks.
fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES * 0x80;
    let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word & HIGHS;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    is(b'"') | is(b'\\') | below(word, u64::from(b' '))
}

/// RFC 8259, section 6.
fn number_end(json: &[u8], at: usize) -> Option<usize> {
    let digits = |at: usize| at + json[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let some_digits = |at: usize| Some(digits(at)).filter(|end| *end > at);
    let start = at + usize::from(json[at] == b'-');
    let mut end = some_digits(start)?;
    if json[start] == b'0' && end > start + 1 {
        return None;
    }
    if json.get(end) == Some(&b'.') {
        end = some_digits(end + 1)?;
    }
    if let Some(b'e' | b'E') = json.get(end) {
        let sign = usize::from(matches!(json.get(end + 1), Some(b'+' | b'-')));
        end = (end + 1 + sign <= json.len()).then(|| some_digits(end + 1 + sign))??;
    }
    Some(end)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    pub type Members = Vec<(String, String)>;

    fn walk(json: &[u8]) -> Option<Members> {
        let mut found = Vec::new();
        members(json, |name, value| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            found.push((text(name), text(&json[value])));
            Some(())
        })?;
        Some(found)
    }

    /// Every member, duplicates too, as `serde_json` finds them.
    struct Parsed(Members);

    impl<'de> serde::Deserialize<'de> for Parsed {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct All;
            impl<'de> serde::de::Visitor<'de> for All {
                type Value = Members;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                    let mut all = Vec::new();
                    while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                        all.push((name, value.get().to_owned()));
                    }
                    Ok(all)
                }
            }
            deserializer.deserialize_map(All).map(Self)
        }
    }

    pub fn parse(json: &[u8]) -> Option<Members> {
        serde_json::from_slice(json).ok().map(|Parsed(members)| members)
    }

    #[test]
    fn plain_records_are_walked_to_their_end() {
        for json in [
            "{}",
            " { } ",
            r#"{"a":1}"#,
            r#"{"a":"","long name of a member":"a text of more than sixteen bytes, \u007f","a":-0.5e+10}"#,
            "{ \"a\" :\t\"x\" ,\r\n\"b\" : true, \"c\":false,\"d\":null , \"e\":0 } \n",
            r#"{"a":"Straße","b":12345678901234567890123,"c":1E5,"d":-0}"#,
        ] {
            let json = json.replace("\\u007f", "\u{7f}");
            assert_eq!(walk(json.as_bytes()), Some(parse(json.as_bytes()).unwrap()), "{json}");
        }
        assert_eq!(
            walk(b"{\"a\":\"\xff\"}"),
            Some(vec![("a".into(), "\"\u{fffd}\"".into())]),
            "as a parser that skips it"
        );
    }

    #[test]
    fn of_anything_else_nothing_is_said() {
        for json in [
            "",
            "{",
            "[]",
            "1",
            "{\"a\":1",
            "{\"a\":1,}",
            "{\"a\":1}{\"a\":2}",
            "{\"a\" 1}",
            "{a:1}",
            "{\"a\":}",
            "{\"a\":[1]}",
            "{\"a\":{}}",
            "{\"a\":\"x\\ny\"}",
            "{\"\\u0061\":1}",
            "{\"ä\":1}",
            "{\"a\":\"tab\there, and more\"}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":1e}",
            "{\"a\":1e",
            "{\"a\":-}",
            "{\"a\":+1}",
            "{\"a\":truth}",
            "{\"a\":nul",
            "{\"a\":NaN}",
        ] {
            assert_eq!(walk(json.as_bytes()), None, "{json}");
        }
    }

    proptest! {
        /// Text near JSON: what is walked is parsed to the same members.
        #[test]
        fn what_is_walked_is_what_a_parser_finds(
            parts in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "\"", ":", ",", "\"name\"", "\"a b c d e f g h i\"", "1", "-0", "0.25", "e5", "E-1", "true", "null", " ",
                "\n", "\\", "[", "]", "ä", "\u{1}", "\"x\":\"y\"", "\"cc_num\":4992346398065154184", ",\"k\":\"\"",
            ]), 0..14),
            closed: bool,
        ) {
            let json = if closed { format!("{{{}}}", parts.concat()) } else { parts.concat() };
            if let Some(members) = walk(json.as_bytes()) {
                prop_assert_eq!(Some(members), parse(json.as_bytes()), "{}", json);
            }
        }
    }
}
