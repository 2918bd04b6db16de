//! Fields whose content must never be kept: card verification codes, track data, PINs.
//!
//! The one law: PCI DSS 3.3.1 forbids storing sensitive authentication data, so a record that names it is rejected and
//! none of its bytes are. Card numbers are another matter: they become tokens.

/// Names in lower case, `_`, `-` and spaces left out.
const NAMES: [&str; 23] = [
    "cvv",
    "cvv2",
    "cvc",
    "cvc2",
    "cav",
    "cav2",
    "csc",
    "cvn",
    "cvn2",
    "cardverificationvalue",
    "cardverificationcode",
    "cardsecuritycode",
    "securitycode",
    "track1",
    "track2",
    "track3",
    "trackdata",
    "track1data",
    "track2data",
    "magstripe",
    "magneticstripe",
    "pin",
    "pinblock",
];

/// The longest name there is, with room for separators between its words.
const NAME_BYTES_MAX: usize = 32;

/// Whether a field of this name holds sensitive authentication data.
pub(super) fn is_sensitive(name: &str) -> bool {
    if name.len() > NAME_BYTES_MAX {
        return false;
    }
    let mut plain = [0_u8; NAME_BYTES_MAX];
    let mut length = 0;
    for byte in name.bytes().filter(|b| !matches!(b, b'_' | b'-' | b' ' | b'.')) {
        plain[length] = byte.to_ascii_lowercase();
        length += 1;
    }
    NAMES.iter().any(|n| n.as_bytes() == &plain[..length])
}

/// Whether bytes that could not be read as an object seem to name such a field: a word of the list, in quotes or not,
/// with `:` or `=` behind it.
pub(super) fn mentions_sensitive(raw: &[u8]) -> bool {
    let is_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    let mut rest = raw;
    while let Some(start) = rest.iter().position(is_word) {
        let word_on = &rest[start..];
        let end = word_on.iter().position(|b| !is_word(b)).unwrap_or(word_on.len());
        let (word, behind) = word_on.split_at(end);
        let separator = behind.iter().find(|b| !matches!(b, b'"' | b'\'' | b'\\' | b' ' | b'\t' | b'\r' | b'\n'));
        if matches!(separator, Some(b':' | b'=')) && std::str::from_utf8(word).is_ok_and(is_sensitive) {
            return true;
        }
        rest = behind;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_spelling() {
        for name in ["cvv", "CVV", "cvv2", "Track_Data", "track-1", "track2_data", "PIN", "card_verification_value"] {
            assert!(is_sensitive(name), "{name}");
        }
        for name in ["", "cc_num", "tracking", "track", "pinned", "category", "city", "spin", &"cvv".repeat(20)] {
            assert!(!is_sensitive(name), "{name}");
        }
    }

    #[test]
    fn broken_records_are_searched_too() {
        for raw in
            [r#"{"a":1,"cvv": "12"#, r"{'CVV2' : 123}", "{cvc:123", r#"{"x":"{\"track_data\":\"%B4\"}"#, "pin=1234"]
        {
            assert!(mentions_sensitive(raw.as_bytes()), "{raw}");
        }
        for raw in [r#"{"street":"12 Pin Oak"#, r#"{"a":"cvv","b":1"#, "", "\u{1f}\u{0}", "cvv"] {
            assert!(!mentions_sensitive(raw.as_bytes()), "{raw}");
        }
    }
}
