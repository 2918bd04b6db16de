//! Fields whose content must never be kept: card verification codes, track data, PINs.
//!
//! The one law: PCI DSS 3.3.1 forbids storing sensitive authentication data, so a record that names it is rejected and
//! none of its bytes are. Card numbers are another matter: they become tokens.

/// Names in lower case, separators left out.
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

/// Names that tell as one word of several, at the end or with a word of [`TAILS`] behind: `card_cvv`, `cvv2_code`.
const WORDS: [&str; 12] =
    ["cvv", "cvv2", "cvc", "cvc2", "cav2", "csc", "cvn", "cvn2", "track1", "track2", "trackdata", "pin"];

/// Words that change nothing about the one before.
const TAILS: [&str; 7] = ["code", "value", "number", "no", "data", "block", "hash"];

/// Whether a field of this name holds sensitive authentication data: the whole name, separators or not, or the last of
/// its words (`cardCvv`, `payment.pin`).
pub(super) fn is_sensitive(name: &str) -> bool {
    if name.len() > NAME_BYTES_MAX {
        return false;
    }
    let mut plain = [0_u8; NAME_BYTES_MAX];
    let mut length = 0;
    for byte in name.bytes().filter(|b| !is_separator(*b)) {
        plain[length] = byte.to_ascii_lowercase();
        length += 1;
    }
    NAMES.iter().any(|n| n.as_bytes() == &plain[..length]) || ends_in_a_word(name)
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'_' | b'-' | b' ' | b'.')
}

/// Whether the last word of the name, words of [`TAILS`] aside, is one of [`WORDS`].
fn ends_in_a_word(name: &str) -> bool {
    let bytes = name.as_bytes();
    let starts_word = |at: usize| bytes[at].is_ascii_uppercase() && bytes[at - 1].is_ascii_lowercase();
    let mut end = bytes.len();
    while end > 0 {
        let start = (1..end).rev().find(|&at| is_separator(bytes[at - 1]) || starts_word(at)).unwrap_or(0);
        let word = &name[start..end];
        if WORDS.iter().any(|w| word.eq_ignore_ascii_case(w)) {
            return true;
        }
        if !word.is_empty() && !TAILS.iter().any(|tail| word.eq_ignore_ascii_case(tail)) {
            return false;
        }
        end = if start > 0 && is_separator(bytes[start - 1]) { start - 1 } else { start };
    }
    false
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
        for name in
            ["card_cvv", "cardCvv", "cvv_code", "card-cvv2-value", "payment.pin", "cardPIN", "pin_hash", "x__cvc"]
        {
            assert!(is_sensitive(name), "{name}");
        }
        for name in [
            "",
            "cc_num",
            "tracking",
            "track",
            "pinned",
            "category",
            "city",
            "spin",
            "pin_count",
            "shopping",
            "cvv_present",
            "é_code",
            "_",
            "code",
            "pincode_area",
            &"cvv".repeat(20),
        ] {
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
