//! Hides card numbers in bytes of any kind.
//!
//! The one law: no run of 11 or more digits passes, whatever the bytes around it are; doubt is decided for hiding.
//! It does not parse: a record that came here is broken more often than not, so members are known by their looks only.

use super::{CARD_DIGITS, Tokenizer, token_at};

/// Longest value of an exempt member: the longest id in use (a UUID has 36) with room; a longer one is masked.
const EXEMPT_BYTES_MAX: usize = 128;

/// Whether the bytes may end within a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// A whole record, which may have lost its end.
    Possible,
    /// A value that is known to be whole.
    No,
}

/// Appends `raw` to `out`, masked.
pub(super) fn mask(tokenizer: &mut Tokenizer, raw: &[u8], exempt: &[&str], cut: Cut, out: &mut Vec<u8>) {
    let mut at = 0;
    while at < raw.len() {
        let kept = match raw[at] {
            b'"' => exempt_member(&raw[at..], exempt),
            b't' => token_at(&raw[at..]),
            _ if digit(raw, at).is_some() => {
                at = mask_run(tokenizer, raw, at, cut, out);
                continue;
            }
            _ => None,
        };
        let kept = kept.unwrap_or(1);
        out.extend_from_slice(&raw[at..at + kept]);
        at += kept;
    }
}

/// Digits that may be one number, and where they end.
struct Run {
    digits: usize,
    end: usize,
}

/// Masks, or copies, the run that starts here; returns where it ends.
fn mask_run(tokenizer: &mut Tokenizer, raw: &[u8], start: usize, cut: Cut, out: &mut Vec<u8>) -> usize {
    let run = run(raw, start);
    let is_cut =
        cut == Cut::Possible && (run.end == raw.len() || (run.end + 1 == raw.len() && separates(raw[run.end])));
    if run.digits > *CARD_DIGITS.end() || (run.digits < *CARD_DIGITS.start() && is_cut) {
        hide(raw, start, run.end, out);
        return run.end;
    }
    if run.digits < *CARD_DIGITS.start() {
        let end = group(raw, start).end;
        out.extend_from_slice(&raw[start..end]);
        return end;
    }
    let number: String = digits(raw, start, run.end).map(char::from).collect();
    let bare = is_bare_value(raw, start, run.end);
    out.extend(bare.then_some(b'"'));
    out.extend_from_slice(tokenizer.token(&number).as_bytes());
    out.extend(bare.then_some(b'"'));
    run.end
}

/// The digits from here on: a long group alone, else short groups with one space or hyphen between.
fn run(raw: &[u8], start: usize) -> Run {
    let mut run = group(raw, start);
    if run.digits >= *CARD_DIGITS.start() {
        return run;
    }
    while run.end + 1 < raw.len() && separates(raw[run.end]) && digit(raw, run.end + 1).is_some() {
        let next = group(raw, run.end + 1);
        if next.digits >= *CARD_DIGITS.start() {
            break;
        }
        run = Run { digits: run.digits + next.digits, end: next.end };
    }
    run
}

/// The digits from here on without anything between.
fn group(raw: &[u8], start: usize) -> Run {
    let mut run = Run { digits: 0, end: start };
    while let Some((_, width)) = digit(raw, run.end) {
        run = Run { digits: run.digits + 1, end: run.end + width };
    }
    run
}

/// The digit at this place and its width in bytes: itself, or escaped as JSON may.
fn digit(raw: &[u8], at: usize) -> Option<(u8, usize)> {
    match raw.get(at)? {
        digit @ b'0'..=b'9' => Some((*digit, 1)),
        b'\\' => match raw.get(at..at + 6)? {
            [_, b'u', b'0', b'0', b'3', digit @ b'0'..=b'9'] => Some((*digit, 6)),
            _ => None,
        },
        _ => None,
    }
}

fn digits(raw: &[u8], start: usize, end: usize) -> impl Iterator<Item = u8> {
    let mut at = start;
    std::iter::from_fn(move || {
        while at < end {
            if let Some((digit, width)) = digit(raw, at) {
                at += width;
                return Some(digit);
            }
            at += 1;
        }
        None
    })
}

pub(super) fn separates(byte: u8) -> bool {
    matches!(byte, b' ' | b'-')
}

/// One `*` a digit; what separates them stays.
fn hide(raw: &[u8], start: usize, end: usize, out: &mut Vec<u8>) {
    let mut at = start;
    while at < end {
        let (shown, width) = digit(raw, at).map_or((raw[at], 1), |(_, width)| (b'*', width));
        out.push(shown);
        at += width;
    }
}

/// Whether the bytes between are a JSON member's value without quotes: `"name": …,` or `"name": …}`.
fn is_bare_value(raw: &[u8], start: usize, end: usize) -> bool {
    let before = raw[..start].trim_ascii_end();
    let named = before.strip_suffix(b":").is_some_and(|name| name.trim_ascii_end().ends_with(b"\""));
    named && matches!(raw[end..].trim_ascii_start().first(), Some(b',' | b'}'))
}

/// The length of `"name": value` when the text starts with an exempt member whose value looks like an id or a time.
fn exempt_member(text: &[u8], exempt: &[&str]) -> Option<usize> {
    let after_quote = &text[1..];
    let name = exempt.iter().find_map(|name| after_quote.strip_prefix(name.as_bytes())?.strip_prefix(b"\""))?;
    let value = name.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let (value, quoted) = value.strip_prefix(b"\"").map_or((value, false), |value| (value, true));
    let harmless = |byte: &&u8| match **byte {
        b' ' => quoted,
        byte => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'.' | b'+' | b'/'),
    };
    let length = value.iter().take(EXEMPT_BYTES_MAX + 1).take_while(harmless).count();
    let rest = &value[length..];
    let ends = match rest.first() {
        None => true,
        Some(b'"') => quoted,
        Some(byte) => !quoted && (matches!(byte, b',' | b'}') || byte.is_ascii_whitespace()),
    };
    (ends && length <= EXEMPT_BYTES_MAX).then_some(text.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{KNOWN, tokenizer};
    use super::*;

    fn masked(raw: &str) -> String {
        String::from_utf8(tokenizer().mask(raw.as_bytes(), &["id", "time"])).unwrap()
    }

    #[test]
    fn numbers_become_tokens_where_they_stand() {
        let [(number, token), (with_zero, short)] = KNOWN;
        let spaced = "4992 3463 9806 5154 184";
        let escaped: String = number.chars().map(|digit| format!("\\u003{digit}")).collect();
        let cases = [
            (format!(r#"{{"cc_num":{number},"amt":-1}}"#), format!(r#"{{"cc_num":"{token}","amt":-1}}"#)),
            (format!(r#"{{"cc_num" : {number} }}"#), format!(r#"{{"cc_num" : "{token}" }}"#)),
            (format!(r#"{{"cc_num":"{number}"}}"#), format!(r#"{{"cc_num":"{token}"}}"#)),
            (format!(r#"{{"cc_num":"{spaced}"}}"#), format!(r#"{{"cc_num":"{token}"}}"#)),
            (format!(r#"{{"cc_num":"{escaped}"}}"#), format!(r#"{{"cc_num":"{token}"}}"#)),
            (format!("card={number};"), format!("card={token};")),
            (format!("a{number}b{with_zero}"), format!("a{token}b{short}")),
            (format!("{}.0", &with_zero[1..]), format!("{short}.*")),
            (format!("12 {number}!"), format!("12 {token}!")),
            // What is a token already stays one, though its hex may hold a long run of digits.
            ("x tok_1_00000000001111111111222222222233 y".into(), "x tok_1_00000000001111111111222222222233 y".into()),
        ];
        for (raw, expected) in cases {
            assert_eq!(masked(&raw), expected);
        }
    }

    #[test]
    fn longer_runs_and_cut_runs_lose_their_digits() {
        let cases = [
            ("x 12345678901234567890 y", "x ******************** y"),
            ("1234 5678 9012 3456 7890!", "**** **** **** **** ****!"),
            (r#"{"cc_num":49923463"#, r#"{"cc_num":********"#),
            (r#"{"cc_num":"4992 3463 "#, r#"{"cc_num":"**** **** "#),
            (r#"{"cc_num":"\u0034\u0039"#, r#"{"cc_num":"**"#),
            (r#"{"cc_num":"4992 3463"}"#, r#"{"cc_num":"4992 3463"}"#),
        ];
        for (raw, expected) in cases {
            assert_eq!(masked(raw), expected);
        }
    }

    #[test]
    fn exempt_members_stay_and_only_they() {
        let (number, token) = KNOWN[0];
        let kept = [
            r#"{"id":"12345678901234567890123456789012","time":1577836800000000}"#,
            r#"{"id" : 12345678901234, "time": "2020-01-01 00:00:00.000000000000"}"#,
            r#"{"dob":"1988-03-09","amt":12.5,"unix_time":1325376018,"zip":"29209"}"#,
            r#"{"id":"1234567890123"#,
        ];
        for raw in kept {
            assert_eq!(masked(raw), raw);
        }
        let hidden = [
            (format!(r#"{{"idd":"{number}"}}"#), format!(r#"{{"idd":"{token}"}}"#)),
            // A value that lost its end does not shelter what follows.
            (format!(r#"{{"id":"abc,"cc_num":{number},"a":1}}"#), format!(r#"{{"id":"abc,"cc_num":"{token}","a":1}}"#)),
            (format!(r#"{{"id":,{number},"a":1}}"#), format!(r#"{{"id":,{token},"a":1}}"#)),
            (format!(r#"{{"id":[{number}]}}"#), format!(r#"{{"id":[{token}]}}"#)),
            (format!(r#"{{"id":"{}{number}"}}"#, "x".repeat(128)), format!(r#"{{"id":"{}{token}"}}"#, "x".repeat(128))),
        ];
        for (raw, expected) in hidden {
            assert_eq!(masked(&raw), expected);
        }
    }

    proptest! {
        /// Whatever the bytes: no run of eleven digits is left outside a token, and what holds no digit is not touched.
        #[test]
        fn any_bytes_are_masked(raw in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'7'), Just(b'1'), Just(b'"')], 0..200)) {
            let out = tokenizer().mask(&raw, &[]);
            let mut at = 0;
            while at < out.len() {
                if let Some(length) = token_at(&out[at..]) {
                    at += length;
                    continue;
                }
                let run = group(&out, at);
                prop_assert!(run.digits < 11, "{:?}", String::from_utf8_lossy(&out));
                at = run.end.max(at + 1);
            }
            if !raw.iter().any(u8::is_ascii_digit) {
                prop_assert_eq!(out, raw);
            }
        }
    }
}
