//! Reads one flat JSON object in a single pass, as slices of the text it stands in.
//!
//! The one law: it accepts exactly the objects that `serde_json` accepts as a value (RFC 8259, nothing more), except that
//! nesting ends at [`DEPTH_MAX`] and a nested sensitive name is refused. It builds nothing: what a field means, and
//! whether it stands twice, is for its caller to say.

use super::sensitive::is_sensitive;
use super::text::{Text, hex4};

/// Objects and arrays inside each other. A flat record has 1; the bound keeps the skipping of foreign values off the
/// machine's stack.
pub(super) const DEPTH_MAX: u32 = 64;

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Text(Text<'a>),
    /// A number as it is written.
    Number(&'a str),
    Boolean(bool),
    Null,
    /// An object or an array; checked and skipped.
    Nested,
}

/// The next key of the object.
#[derive(Debug, PartialEq)]
pub(super) enum Key<'a> {
    /// The one that was predicted.
    Predicted,
    Other(Text<'a>),
    /// The object ends.
    End,
}

/// Why a text is no acceptable object, and the byte it was seen at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ScanError {
    pub kind: ScanErrorKind,
    pub at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ScanErrorKind {
    /// This should have stood here.
    Expected(&'static str),
    /// JSON, but another kind of value.
    NotAnObject,
    TooDeep,
    /// A nested object names sensitive authentication data.
    Sensitive,
}

type Scan<T> = Result<T, ScanError>;

/// A position in the text of one object.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    first: bool,
}

impl<'a> Scanner<'a> {
    /// Steps inside the object.
    pub(super) fn open(text: &'a str) -> Scan<Self> {
        let mut scanner = Self { text, at: 0, first: true };
        scanner.skip_space();
        if scanner.peek() == Some(b'{') {
            scanner.at += 1;
            return Ok(scanner);
        }
        scanner.value()?;
        scanner.finish()?;
        Err(ScanError { kind: ScanErrorKind::NotAnObject, at: 0 })
    }

    /// The next key and its colon. `predicted` is a key as it is usually written, quotes and colon included: when it
    /// stands here, nothing has to be looked up. Empty: no prediction.
    #[inline]
    pub(super) fn key(&mut self, predicted: &[u8]) -> Scan<Key<'a>> {
        self.skip_space();
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                return Ok(Key::End);
            }
            Some(b',') if !self.first => {
                self.at += 1;
                self.skip_space();
            }
            _ if self.first => {}
            _ => return self.expected("`,` or `}`"),
        }
        self.first = false;
        if !predicted.is_empty() && self.bytes()[self.at..].starts_with(predicted) {
            self.at += predicted.len();
            return Ok(Key::Predicted);
        }
        let key = self.string()?;
        self.colon()?;
        Ok(Key::Other(key))
    }

    /// The value that stands here, space before it skipped.
    #[inline]
    pub(super) fn value(&mut self) -> Scan<Value<'a>> {
        self.skip_space();
        match self.peek() {
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            Some(b't') => self.literal("true").map(|()| Value::Boolean(true)),
            Some(b'f') => self.literal("false").map(|()| Value::Boolean(false)),
            Some(b'n') => self.literal("null").map(|()| Value::Null),
            Some(b'{' | b'[') => self.nested(2).map(|()| Value::Nested),
            _ => self.expected("a value"),
        }
    }

    /// Where the next byte stands.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Nothing but space may follow the object.
    pub(super) fn finish(&mut self) -> Scan<()> {
        self.skip_space();
        if self.at < self.text.len() { self.expected("the end of the record") } else { Ok(()) }
    }

    #[inline]
    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes().get(self.at).copied()
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    #[cold]
    fn expected<T>(&self, what: &'static str) -> Scan<T> {
        Err(ScanError { kind: ScanErrorKind::Expected(what), at: self.at })
    }

    fn colon(&mut self) -> Scan<()> {
        self.skip_space();
        if self.peek() != Some(b':') {
            return self.expected("`:`");
        }
        self.at += 1;
        Ok(())
    }

    fn literal(&mut self, word: &'static str) -> Scan<()> {
        if !self.bytes()[self.at..].starts_with(word.as_bytes()) {
            return self.expected("a value");
        }
        self.at += word.len();
        Ok(())
    }

    /// A string with its quotes. Escapes are checked here and resolved by whoever wants the text.
    #[inline]
    fn string(&mut self) -> Scan<Text<'a>> {
        if self.peek() != Some(b'"') {
            return self.expected("`\"`");
        }
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at = string_stop(self.bytes(), self.at);
            match self.peek() {
                Some(b'"') => {
                    let raw = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(Text::new(raw, escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.expected("no control character in a text"),
                None => return self.expected("the end of a text"),
            }
        }
    }

    /// One escape, checked: a surrogate must have its other half.
    fn escape(&mut self) -> Scan<()> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                match self.hex4()? {
                    0xD800..=0xDBFF => {
                        if !self.bytes()[self.at..].starts_with(b"\\u") {
                            return self.expected("the second half of a surrogate");
                        }
                        self.at += 2;
                        if !(0xDC00..=0xDFFF).contains(&self.hex4()?) {
                            return self.expected("the second half of a surrogate");
                        }
                    }
                    0xDC00..=0xDFFF => return self.expected("the first half of a surrogate"),
                    _ => {}
                }
            }
            _ => return self.expected("an escape"),
        }
        Ok(())
    }

    fn hex4(&mut self) -> Scan<u16> {
        let Some(value) = self.bytes().get(self.at..self.at + 4).and_then(hex4) else {
            return self.expected("four hex digits");
        };
        self.at += 4;
        Ok(value)
    }

    /// `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`
    #[inline]
    fn number(&mut self) -> Scan<&'a str> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    /// At least one digit.
    #[inline]
    fn digits(&mut self) -> Scan<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { self.expected("a digit") } else { Ok(()) }
    }

    /// An object or an array, checked and skipped; `depth` is its own.
    fn nested(&mut self, depth: u32) -> Scan<()> {
        if depth > DEPTH_MAX {
            return Err(ScanError { kind: ScanErrorKind::TooDeep, at: self.at });
        }
        let is_object = self.peek() == Some(b'{');
        let end = if is_object { b'}' } else { b']' };
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_space();
            if is_object {
                self.nested_key()?;
                self.skip_space();
            }
            match self.peek() {
                Some(b'{' | b'[') => self.nested(depth + 1)?,
                _ => {
                    self.value()?;
                }
            }
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == end => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.expected("`,` or the end of a nested value"),
            }
        }
    }

    fn nested_key(&mut self) -> Scan<()> {
        let at = self.at;
        let key = self.string()?;
        if is_sensitive(key.resolve(&mut String::new())) {
            return Err(ScanError { kind: ScanErrorKind::Sensitive, at });
        }
        self.colon()
    }
}

/// Where the first quote, backslash or control character from `at` on stands; the end when there is none.
///
/// Eight bytes at a time ("has a zero byte" of Mycroft): the lowest flagged byte is always a true one, and a borrow can
/// only flag bytes above it.
#[inline]
fn string_stop(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * b'"' as u64);
        let slash = word ^ (ONES * b'\\' as u64);
        let is_quote = quote.wrapping_sub(ONES) & !quote;
        let is_slash = slash.wrapping_sub(ONES) & !slash;
        let is_control = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (is_quote | is_slash | is_control) & HIGHS;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\') || *byte < 0x20 {
            break;
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;

    /// Reads a whole object: its keys and values, resolved, in order.
    fn scan(text: &str) -> Scan<Vec<(String, Value<'_>)>> {
        let mut scanner = Scanner::open(text)?;
        let mut members = Vec::new();
        while let Key::Other(key) = scanner.key(b"")? {
            members.push((key.resolve(&mut String::new()).to_owned(), scanner.value()?));
        }
        scanner.finish()?;
        Ok(members)
    }

    /// What serde_json says of the same text; `None` where its own limits (a number beyond `f64`) decide.
    fn oracle(text: &str) -> Option<Result<serde_json::Map<String, Json>, ()>> {
        match serde_json::from_str(text) {
            Ok(Json::Object(members)) => Some(Ok(members)),
            Ok(_) => Some(Err(())),
            Err(error) if error.to_string().contains("number out of range") => None,
            Err(_) => Some(Err(())),
        }
    }

    fn agree(text: &str) {
        let scanned = scan(text);
        match (oracle(text), &scanned) {
            (None, _) => {}
            (Some(Err(())), scanned) => assert!(scanned.is_err(), "{text:?}: accepted, serde_json refuses"),
            (Some(Ok(_)), Err(error)) => {
                let own = [ScanErrorKind::TooDeep, ScanErrorKind::Sensitive].contains(&error.kind);
                assert!(own, "{text:?}: {error:?}, serde_json accepts");
            }
            (Some(Ok(expected)), Ok(members)) => {
                let last: std::collections::HashMap<_, _> = members.iter().map(|(k, v)| (k.as_str(), v)).collect();
                assert_eq!(last.len(), expected.len(), "{text:?}");
                for (key, value) in &expected {
                    assert!(
                        same(last[key.as_str()], value),
                        "{text:?}: `{key}`: {:?}, serde_json {value}",
                        last[key.as_str()]
                    );
                }
            }
        }
    }

    fn same(value: &Value<'_>, json: &Json) -> bool {
        match (value, json) {
            (Value::Text(text), Json::String(expected)) => text.resolve(&mut String::new()) == expected,
            // serde_json's own floats may be off by the last bit (its `float_roundtrip` is not on).
            (Value::Number(text), Json::Number(expected)) => {
                let (value, expected) = (text.parse::<f64>().unwrap(), expected.as_f64().unwrap());
                (value - expected).abs() <= expected.abs() * 1e-15
            }
            (Value::Boolean(value), Json::Bool(expected)) => value == expected,
            (Value::Null, Json::Null) | (Value::Nested, Json::Object(_) | Json::Array(_)) => true,
            _ => false,
        }
    }

    #[test]
    fn corners_of_the_grammar() {
        for text in [
            "{}",
            " {\t}\r\n",
            "",
            "{",
            "}",
            "{}{}",
            "{},",
            "[]",
            "null",
            "\"{}\"",
            "{\"a\":1,}",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{'a':1}",
            "{\"a\" : 1 , \"b\" : 2}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":1;\"b\":2}",
            "{\"a\":01}",
            "{\"a\":-}",
            "{\"a\":-0}",
            "{\"a\":0.}",
            "{\"a\":.5}",
            "{\"a\":1e}",
            "{\"a\":1e+}",
            "{\"a\":1E-2}",
            "{\"a\":+1}",
            "{\"a\":0x1}",
            "{\"a\":1_0}",
            "{\"a\":tru}",
            "{\"a\":trueish}",
            "{\"a\":nulll}",
            "{\"a\":NaN}",
            "{\"a\":Infinity}",
            "{\"a\":\"\\u12\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\",
            "{\"a\":\"\\ud83d\\ude00\"}",
            "{\"a\":\"\\ud83d\"}",
            "{\"a\":\"\\ude00\"}",
            "{\"a\":\"\\ud83d\\u0041\"}",
            "{\"a\":\"\\u0000\"}",
            "{\"a\":\"\u{0}\"}",
            "{\"a\":\"\u{7f}é😀\"}",
            "{\"a\":[1,[2,{\"b\":[]}],{}]}",
            "{\"a\":[1,]}",
            "{\"a\":[,1]}",
            "{\"a\":{\"b\":1,}}",
            "{\"a\":{\"b\"}}",
            "{\"a\":[1}]",
            "{\"a\":[}",
            "{\"\":\"\"}",
            "{\"a\":1}\u{0}",
            "{\"a\":1} // c",
            "\u{feff}{}",
            "{\"a\u{a0}\":\u{a0}1}",
            "{\"a\":1e400}",
            "{\"a\":1,\"a\":2}",
            "{\"\\u0061\":1,\"a\":2}",
            "{\"a\":\"12345678\\n90123456\"}",
        ] {
            agree(text);
        }
    }

    #[test]
    fn nesting_ends_at_the_bound() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        let bound = DEPTH_MAX as usize;
        assert!(scan(&nested(bound)).is_ok());
        assert_eq!(scan(&nested(bound + 1)).unwrap_err().kind, ScanErrorKind::TooDeep);
    }

    #[test]
    fn a_predicted_key_is_taken_as_it_is_written() {
        let mut scanner = Scanner::open("{\"a\":1, \"ab\":2, \"c\" :3}").unwrap();
        assert_eq!(scanner.key(b"\"a\":"), Ok(Key::Predicted));
        assert_eq!(scanner.value(), Ok(Value::Number("1")));
        assert_eq!(scanner.key(b"\"a\":"), Ok(Key::Other(Text::new("ab", false))));
        assert_eq!(scanner.value(), Ok(Value::Number("2")));
        assert_eq!(scanner.key(b"\"c\":"), Ok(Key::Other(Text::new("c", false))));
        assert_eq!(scanner.value(), Ok(Value::Number("3")));
        assert_eq!(scanner.key(b"\"c\":"), Ok(Key::End));
    }

    /// The plain search the eight-byte one must equal.
    fn stop_plainly(bytes: &[u8], at: usize) -> usize {
        let is_stop = |b: &u8| *b < 0x20 || matches!(b, b'"' | b'\\');
        bytes[at..].iter().position(is_stop).map_or(bytes.len(), |found| at + found)
    }

    fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<f64>().prop_map(Json::from),
            ".{0,24}".prop_map(Json::from),
            "[\u{0}-\u{30}\"\\\\]{0,12}".prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::hash_map(".{0,6}", inner, 0..4).prop_map(|m| Json::Object(m.into_iter().collect())),
            ]
        })
    }

    fn object() -> impl Strategy<Value = String> {
        let members = prop::collection::hash_map(".{0,8}", json(), 0..8);
        (members, any::<bool>()).prop_map(|(members, pretty)| {
            let object = Json::Object(members.into_iter().collect());
            if pretty { format!("{object:#}") } else { object.to_string() }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn objects_are_read_as_serde_json_reads_them(text in object()) {
            agree(&text);
        }

        #[test]
        fn mutated_objects_are_judged_as_serde_json_judges_them(
            text in object(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..3, "[\\[\\]{}:,\"\\\\0-9eE.+tfnu \u{1}é-]"), 1..4),
        ) {
            let mut characters: Vec<char> = text.chars().collect();
            for (at, edit, by) in edits {
                let at = at.index(characters.len() + 1);
                match edit {
                    0 => characters.splice(at..at, by.chars()).for_each(drop),
                    1 => characters.truncate(at),
                    _ => { if at < characters.len() { characters.remove(at); } }
                }
            }
            agree(&characters.into_iter().collect::<String>());
        }

        #[test]
        fn words_of_the_grammar_in_any_order(text in "\\{\"a\":[\\[\\]{}:,\"a0-9eE.+ -]{0,12}\\}?") {
            agree(&text);
        }

        #[test]
        fn eight_bytes_at_a_time_stop_where_one_would(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), 0x1e_u8..0x24, 0x7f_u8..0x82], 0..40), at in 0_usize..40) {
            let at = at.min(bytes.len());
            prop_assert_eq!(string_stop(&bytes, at), stop_plainly(&bytes, at));
        }
    }
}
