//! Two fields of a record, found without decoding it: what the replayer must know before it sends.
//!
//! The one law: leniency. A record whose fields cannot be found is sent all the same; the decoder says what is wrong.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::clock::Micros;
use crate::micro_batch::timestamp;

/// The raw JSON values of two top-level fields of an object; `None` for one that is not there, both when it is no
/// object. Of a name that occurs twice the last counts.
pub(super) fn find<'a>(json: &'a [u8], names: [&str; 2]) -> [Option<&'a str>; 2] {
    let mut found = [None; 2];
    let seed = Fields { names, found: &mut found };
    // Whatever follows the object is the decoder's business.
    let _ = seed.deserialize(&mut serde_json::Deserializer::from_slice(json));
    found
}

struct Fields<'n, 'f, 'a> {
    names: [&'n str; 2],
    found: &'f mut [Option<&'a str>; 2],
}

impl<'a> DeserializeSeed<'a> for Fields<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Fields<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(name) = map.next_key::<Name<'a>>()? {
            let wanted: Vec<usize> = (0..2).filter(|&index| self.names[index] == name.0).collect();
            if wanted.is_empty() {
                map.next_value::<IgnoredAny>()?;
            } else {
                let value: &'a RawValue = map.next_value()?;
                wanted.into_iter().for_each(|index| self.found[index] = Some(value.get()));
            }
        }
        Ok(())
    }
}

/// A name, borrowed unless it holds an escape.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The text of a raw JSON string that holds no escape.
pub(super) fn text(raw: &str) -> Option<&str> {
    let text = raw.strip_prefix('"')?.strip_suffix('"')?;
    (!text.contains('\\')).then_some(text)
}

/// A time as the decoder reads it, or the low mark would not hold back for it. Microseconds UTC.
pub(super) fn event_time(text: &str) -> Option<Micros> {
    timestamp(text.as_bytes().trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_at_the_top() {
        let table: [(&str, [Option<&str>; 2]); 8] = [
            (r#"{"a":1,"b":"x"}"#, [Some("1"), Some("\"x\"")]),
            (r#" { "b" : [1,{"a":2}] , "c":{"a":3} } "#, [None, Some(r#"[1,{"a":2}]"#)]),
            (r#"{"a":1,"a":2}"#, [Some("2"), None]),
            (r#"{"\u0061":7}"#, [Some("7"), None]),
            (r#"{"a":12345678901234567890123}"#, [Some("12345678901234567890123"), None]),
            (r#"{"a":1,"b":"#, [Some("1"), None]),
            ("[1]", [None, None]),
            ("", [None, None]),
        ];
        for (json, expected) in table {
            assert_eq!(find(json.as_bytes(), ["a", "b"]), expected, "{json}");
        }
        assert_eq!(find(b"\xff{\"a\":1}", ["a", "b"]), [None, None]);
        assert_eq!(find(br#"{"a":1}"#, ["a", "a"]), [Some("1"), Some("1")]);
    }

    #[test]
    fn times_in_all_their_forms() {
        let noon = 1_546_344_000_000_000;
        for (text, expected) in [
            ("2019-01-01 12:00:00", Some(noon)),
            ("2019-01-01T12:00:00", Some(noon)),
            ("2019-01-01T12:00:00Z", Some(noon)),
            ("2019-01-01 12:00:00.25", Some(noon + 250_000)),
            ("2019-01-01T14:00:00+02:00", Some(noon)),
            ("2019-01-01 14:00:00+02:00", Some(noon)),
            ("2019-01-01", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(event_time(text), expected, "{text}");
        }
        assert_eq!(text("\"a\""), Some("a"));
        assert_eq!((text("1"), text("\"a\\u0062\""), text("\"")), (None, None, None));
    }
}
