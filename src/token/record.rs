//! Tokens for what producers send.
//!
//! The one law: besides the values of token fields no byte changes, and no record leaves with a card number in one of
//! them. The JSON is walked once and no value is built, so that a number is only ever seen as its text.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::mask::{Cut, mask};
use super::number::is_one_number;
use super::plain::members;
use super::{CARD_DIGITS, Tokenizer};
use crate::contract::{InputField, Origin, TableContract};

/// A token is longer than the number it stands for: room for two of them.
const TOKENS_BYTES: usize = 64;

/// The fields of a contract whose values are tokens.
#[derive(Clone, Debug)]
pub struct TokenFields(Vec<InputField>);

/// A record as it is sent, and where the values of the members asked for stand in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokenized {
    pub json: Vec<u8>,
    pub values: [Option<Range<usize>>; 2],
}

impl TokenFields {
    pub fn of(contract: &TableContract) -> Self {
        let token_field = |origin: &Origin| match origin {
            Origin::Field(field) if field.token => Some(field.clone()),
            _ => None,
        };
        Self(contract.columns.iter().filter_map(|column| token_field(&column.origin)).collect())
    }
}

/// See [`Tokenizer::tokenize_record`].
pub(super) fn tokenize(tokenizer: &mut Tokenizer, contract: &TableContract, json: &[u8]) -> Vec<u8> {
    let TokenFields(fields) = TokenFields::of(contract);
    let Ok(values) = find(&fields, json) else {
        return tokenizer.mask(json, &exempt(contract));
    };
    let mut out = Vec::with_capacity(json.len() + TOKENS_BYTES);
    let mut copied = 0;
    for value in values {
        let text = value.text.get();
        // The text is borrowed from `json`: its place there is the distance of the two.
        let start = text.as_ptr().addr() - json.as_ptr().addr();
        out.extend_from_slice(&json[copied..start]);
        replace(tokenizer, value.field, text, &mut out);
        copied = start + text.len();
    }
    out.extend_from_slice(&json[copied..]);
    out
}

/// See [`Tokenizer::tokenize_plain`].
pub(super) fn tokenize_plain(
    tokenizer: &mut Tokenizer,
    TokenFields(fields): &TokenFields,
    json: &[u8],
    names: [&str; 2],
) -> Option<Tokenized> {
    let mut out = Vec::with_capacity(json.len() + TOKENS_BYTES);
    let (mut copied, mut values) = (0, [None, None]);
    members(json, |name, value| {
        let place = match fields.iter().find(|field| field.name.as_bytes() == name) {
            Some(field) => {
                let text = std::str::from_utf8(&json[value.clone()]).ok()?;
                out.extend_from_slice(&json[copied..value.start]);
                let start = out.len();
                replace(tokenizer, field, text, &mut out);
                copied = value.end;
                start..out.len()
            }
            None => {
                let start = out.len() + (value.start - copied);
                start..start + value.len()
            }
        };
        for (wanted, value) in names.iter().zip(&mut values) {
            if wanted.as_bytes() == name {
                *value = Some(place.clone());
            }
        }
        Some(())
    })?;
    out.extend_from_slice(&json[copied..]);
    Some(Tokenized { json: out, values })
}

/// The input fields of identity and event time: their digits are no card's.
fn exempt(contract: &TableContract) -> Vec<&str> {
    let columns = contract.stream.iter().flat_map(|stream| [&stream.identity, &stream.event_time]);
    let origins = columns.filter_map(|name| contract.column(name).map(|column| &column.origin));
    origins
        .filter_map(|origin| match origin {
            Origin::Field(field) if !field.token => Some(field.name.as_ref()),
            _ => None,
        })
        .collect()
}

/// Appends a token field's value, given as the text of a JSON value.
fn replace(tokenizer: &mut Tokenizer, field: &InputField, text: &str, out: &mut Vec<u8>) {
    let content = match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(content) if content.contains('\\') => {
            serde_json::from_str(text).map_or(Cow::Borrowed(content), Cow::Owned)
        }
        Some(content) => Cow::Borrowed(content),
        None => Cow::Borrowed(text),
    };
    if Tokenizer::is_card_number(content.as_bytes()) {
        let width = field.pad.unwrap_or(0).min(*CARD_DIGITS.end());
        out.push(b'"');
        if content.len() < width {
            out.extend_from_slice(tokenizer.token(&format!("{content:0>width$}")).as_bytes());
        } else {
            out.extend_from_slice(tokenizer.token(&content).as_bytes());
        }
        out.push(b'"');
        return;
    }
    let start = out.len();
    let digits = content.bytes().filter(u8::is_ascii_digit).count();
    let is_short = digits < *CARD_DIGITS.start();
    if is_short || is_one_number(text.as_bytes()) || Tokenizer::is_token(content.as_bytes()) {
        mask(tokenizer, text.as_bytes(), &[], Cut::No, out);
    } else {
        hide_digits(text, &content, out);
    }
    let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    if is_number && out[start..] != *text.as_bytes() {
        // A number with something hidden is no number any more; as a string the record stays JSON.
        out.insert(start, b'"');
        out.push(b'"');
    }
}

/// Which digits belong together nobody can say: none of them passes. A text stays a text.
fn hide_digits(text: &str, content: &str, out: &mut Vec<u8>) {
    let hide = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "*");
    if text.starts_with('"') {
        out.extend_from_slice(serde_json::Value::String(hide(content)).to_string().as_bytes());
    } else {
        out.extend_from_slice(hide(text).as_bytes());
    }
}

/// The value of a token field, as it stands in the record.
struct TokenValue<'f, 'j> {
    field: &'f InputField,
    text: &'j RawValue,
}

/// The token fields' values of one JSON object, or of several with white space between, in their order.
fn find<'f, 'j>(fields: &'f [InputField], json: &'j [u8]) -> serde_json::Result<Vec<TokenValue<'f, 'j>>> {
    let mut found = Vec::new();
    let mut parser = serde_json::Deserializer::from_slice(json);
    while parser.end().is_err() {
        Object { fields, found: &mut found }.deserialize(&mut parser)?;
    }
    Ok(found)
}

struct Object<'v, 'f, 'j> {
    fields: &'f [InputField],
    found: &'v mut Vec<TokenValue<'f, 'j>>,
}

impl<'j> DeserializeSeed<'j> for Object<'_, '_, 'j> {
    type Value = ();

    fn deserialize<D: Deserializer<'j>>(self, parser: D) -> Result<(), D::Error> {
        parser.deserialize_map(self)
    }
}

impl<'j> Visitor<'j> for Object<'_, '_, 'j> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'j>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(field) = members.next_key_seed(Name(self.fields))? {
            match field {
                Some(field) => self.found.push(TokenValue { field, text: members.next_value()? }),
                None => members.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        Ok(())
    }
}

/// Reads a member's name as the token field of that name.
struct Name<'f>(&'f [InputField]);

impl<'j, 'f> DeserializeSeed<'j> for Name<'f> {
    type Value = Option<&'f InputField>;

    fn deserialize<D: Deserializer<'j>>(self, parser: D) -> Result<Self::Value, D::Error> {
        parser.deserialize_str(self)
    }
}

impl<'f> Visitor<'_> for Name<'f> {
    type Value = Option<&'f InputField>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|field| field.name.as_ref() == name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::super::tests::{KNOWN, contract, tokenizer};
    use super::{TokenFields, Tokenized};

    fn sent(json: &str) -> String {
        String::from_utf8(tokenizer().tokenize_record(&contract(), json.as_bytes())).unwrap()
    }

    #[test]
    fn only_the_card_changes() {
        let [(number, token), (with_zero, short)] = KNOWN;
        let cases = [
            (
                format!(r#"{{"id":"x", "cc_num" : {number} ,"amt":45.0}}"#),
                format!(r#"{{"id":"x", "cc_num" : "{token}" ,"amt":45.0}}"#),
            ),
            (format!(r#"{{"cc_num":"{number}"}}"#), format!(r#"{{"cc_num":"{token}"}}"#)),
            (format!(r#"{{"cc_num":{}}}"#, &with_zero[1..]), format!(r#"{{"cc_num":"{short}"}}"#)),
            (format!(r#"{{"cc\u005fnum":"\u0030{}"}}"#, &with_zero[1..]), format!(r#"{{"cc\u005fnum":"{short}"}}"#)),
            (format!(r#"{{"cc_num":"{token}"}}"#), format!(r#"{{"cc_num":"{token}"}}"#)),
            (
                format!("{{\"cc_num\":{number}}}\n\n{{\"cc_num\":\"{with_zero}\"}}\n"),
                format!("{{\"cc_num\":\"{token}\"}}\n\n{{\"cc_num\":\"{short}\"}}\n"),
            ),
            // Another field is not the producer's to change, and a number elsewhere may be an id.
            (format!(r#"{{"id":{number},"x":{{"cc_num":1}}}}"#), format!(r#"{{"id":{number},"x":{{"cc_num":1}}}}"#)),
        ];
        for (json, expected) in cases {
            assert_eq!(sent(&json), expected);
        }
        for same in [
            "",
            "{}",
            r#"{"cc_num":null}"#,
            r#"{"cc_num":true}"#,
            r#"{"cc_num":"abc"}"#,
            r#"{"cc_num":123}"#,
            r#"{"cc_num":4.9e15}"#,
        ] {
            assert_eq!(sent(same), same);
        }
    }

    #[test]
    fn of_what_is_no_card_number_no_digit_passes() {
        let (number, _) = KNOWN[0];
        let stars = "*".repeat(number.len());
        let cases = [
            (format!(r#"{{"cc_num":{number}.5}}"#), format!(r#"{{"cc_num":"{stars}.*"}}"#)),
            (format!(r#"{{"cc_num":-{number}}}"#), format!(r#"{{"cc_num":"-{stars}"}}"#)),
            (format!(r#"{{"cc_num":"no. {number}"}}"#), format!(r#"{{"cc_num":"no. {stars}"}}"#)),
            (r#"{"cc_num":"4992  3463  9806  5154"}"#.into(), r#"{"cc_num":"****  ****  ****  ****"}"#.into()),
            (format!(r#"{{"cc_num":1{number}}}"#), format!(r#"{{"cc_num":"{}"}}"#, "*".repeat(20))),
        ];
        for (json, expected) in cases {
            assert_eq!(sent(&json), expected);
            serde_json::from_str::<Value>(&sent(&json)).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_parsed_is_masked_but_for_identity_and_time() {
        let (number, token) = KNOWN[0];
        let raw = format!(r#"{{"id":"12345678901234","time":1577836800000,"street":"{number}","cc_num":{number},]"#);
        let expected = raw.replacen(number, token, 1).replace(number, &format!("\"{token}\""));
        assert_eq!(sent(&raw), expected);
        assert_eq!(sent(&format!("[{{\"cc_num\":{number}}}]")), format!("[{{\"cc_num\":\"{token}\"}}]"));
        let invalid = [b"{\"cc_num\":\"\xff".as_slice(), number.as_bytes(), b"\"}"].concat();
        let out = tokenizer().tokenize_record(&contract(), &invalid);
        assert_eq!(out, [b"{\"cc_num\":\"\xff".as_slice(), token.as_bytes(), b"\"}"].concat());
    }

    /// Values as they stand in records, cards whole and broken among them.
    fn plain_value() -> impl Strategy<Value = String> {
        prop_oneof![
            (10_000_000_000_u64..9_999_999_999_999_999_999).prop_map(|card| card.to_string()),
            (10_000_000_000_u64..9_999_999_999_999_999_999).prop_map(|card| format!("\"{card}\"")),
            "\"[0-9 -]{0,24}\"",
            "\"[ -!#-Z^-~ä]{0,20}\"",
            any::<f64>().prop_filter_map("finite", |x| x.is_finite().then(|| x.to_string())),
            prop::sample::select(vec![
                "true",
                "false",
                "null",
                "\"tok_1_24938f9a9679fe70c7d98144da818bed\"",
                "[1]",
                "\"\\n\""
            ])
            .prop_map(str::to_owned),
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            // Quarters, which are read as they were written: serde_json's own floats may be off by one digit.
            any::<i32>().prop_map(|quarters| Value::from(f64::from(quarters) / 4.0)),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..4).prop_map(Value::from_iter),
            ]
        })
    }

    proptest! {
        /// Against `serde_json`'s values: the members before and after are equal, the card is its token.
        #[test]
        fn the_record_is_equal_but_for_the_card(
            before in prop::collection::btree_map("[^c].*", value(), 0..4),
            after in prop::collection::btree_map("[^c].*", value(), 0..4),
            card in 10_000_000_000_u64..9_999_999_999_999_999_999,
            as_text: bool,
            pretty: bool,
        ) {
            let mut record: Map<String, Value> = before.into_iter().collect();
            record.insert("cc_num".into(), if as_text { Value::from(card.to_string()) } else { Value::from(card) });
            record.extend(after);
            let mut expected = record.clone();
            let token = tokenizer().token(&format!("{card:012}")).to_owned();
            expected.insert("cc_num".into(), Value::from(token.clone()));

            let write = |record| if pretty { serde_json::to_string_pretty(record) } else { serde_json::to_string(record) };
            let out = sent(&write(&record).unwrap());
            prop_assert_eq!(&serde_json::from_str::<Map<String, Value>>(&out).unwrap(), &expected);
            prop_assert_eq!(out, write(&expected).unwrap());
        }

        /// In one walk or by the parser: the same bytes are sent, and the members asked for are those it finds in them.
        #[test]
        fn one_walk_sends_what_the_parser_would(
            members in prop::collection::vec((prop::sample::select(vec!["cc_num", "time", "id", "x"]), plain_value()), 0..6),
        ) {
            let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
            let json = format!("{{{}}}", members.join(","));
            let fields = TokenFields::of(&contract());
            let walked = tokenizer().tokenize_plain(&fields, json.as_bytes(), ["cc_num", "time"]);
            let Some(Tokenized { json: out, values }) = walked else {
                prop_assert!(json.contains(['\\', '[']), "{}", json);
                return Ok(());
            };
            prop_assert_eq!(std::str::from_utf8(&out).unwrap(), sent(&json));
            let last = |name: &str| {
                let all: Vec<(String, String)> = super::super::plain::tests::parse(&out).unwrap();
                all.into_iter().rfind(|(other, _)| other == name).map(|(_, value)| value)
            };
            let found = values.map(|value| value.map(|value| String::from_utf8(out[value].to_vec()).unwrap()));
            prop_assert_eq!(found, [last("cc_num"), last("time")]);
        }

        /// Any bytes: no panic, and what a JSON parser refuses is masked.
        #[test]
        fn any_bytes_are_taken(raw in prop::collection::vec(any::<u8>(), 0..200)) {
            let out = tokenizer().tokenize_record(&contract(), &raw);
            if serde_json::from_slice::<Map<String, Value>>(&raw).is_err() && !raw.trim_ascii().is_empty() {
                prop_assert_eq!(out, tokenizer().mask(&raw, &["id", "time"]));
            }
        }
    }
}
