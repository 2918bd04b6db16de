//! What looks like a card number, in text of any kind.

use super::CARD_DIGITS;
use super::mask::separates;

/// Digits of card numbers, shortest and longest in use (one of 11 has lost its leading zero).
const DIGITS: std::ops::RangeInclusive<usize> = 12..=19;

/// Whether a run of digits that stands alone has the length and the check digit of a card number.
///
/// A run next to a letter, a point or more digits is part of something else: a hash, a coordinate.
pub fn holds_card_number(value: &[u8]) -> bool {
    let mut at = 0;
    while let Some(start) = value[at..].iter().position(u8::is_ascii_digit).map(|offset| at + offset) {
        let end = value[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(value.len(), |n| start + n);
        let joined = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'.' | b'_'));
        let alone = !joined(start.checked_sub(1).and_then(|before| value.get(before))) && !joined(value.get(end));
        if alone && DIGITS.contains(&(end - start)) && passes_luhn(&value[start..end]) {
            return true;
        }
        at = end;
    }
    false
}

/// ISO/IEC 7812-1, annex B: every second digit from the right doubled, the sum a multiple of ten.
fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .map(|digit| u32::from(digit - b'0'))
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => digit,
            (_, doubled @ 10..) => doubled - 9,
            (_, doubled) => doubled,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Whether a value reads as one number and nothing else: digits alone, or groups of fewer than eleven with one space or
/// hyphen between two. Of anything else in a card's place nobody can say which digits belong together.
pub(super) fn is_one_number(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
    let groups = || value.split(|&byte| separates(byte));
    let is_short = |group: &[u8]| group.len() < *CARD_DIGITS.start();
    groups().all(|group| !group.is_empty() && group.iter().all(u8::is_ascii_digit))
        && (groups().count() == 1 || groups().all(is_short))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_number_is_known_by_length_and_check_digit() {
        for text in ["4111111111111111", "\"cc_num\":378282246310005,", "card 5555555555554444!"] {
            assert!(holds_card_number(text.as_bytes()), "{text}");
        }
        for text in [
            "4111111111111112",
            "36.4111111111111111",
            "a4111111111111111",
            "41111111111",
            "",
            "tok_1_4111111111111111",
        ] {
            assert!(!holds_card_number(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn one_number_is_digits_in_groups_with_one_separator() {
        for text in ["4111111111111111", "\"4111-1111-1111-1111\"", "4111 1111 1111 1111", "7"] {
            assert!(is_one_number(text.as_bytes()), "{text}");
        }
        for text in
            ["4111  1111  1111  1111", "4111 - 1111", "4111.1111", "49923463980 65154", "\"\"", "[4111,1111]", "4111-"]
        {
            assert!(!is_one_number(text.as_bytes()), "{text}");
        }
    }
}
