//! Card numbers become tokens.
//!
//! The one law: a card number goes in, a keyed token comes out, and no number leaves this module: not in an error, not in
//! `Debug`, not in what [`Tokenizer::mask`] returns. (In memory, the cards last seen stand beside their tokens.)
//! It decides nothing about records: which fields are cards, the contract says; what is rejected, the decoder.
//!
//! A token is `tok_<version>_<32 lower-case hex digits>`: the first 128 bits of HMAC-SHA256(key, `"<version>:" + number`).
//! The number has at least 12 digits: one of 11 has lost its leading zero somewhere, and gets it back first, so that
//! producer, decoder and mask make one token of one card.

mod key;
mod mask;
mod number;
mod plain;
mod record;

use std::fmt;
use std::ops::RangeInclusive;

use ahash::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::contract::TableContract;

pub use key::{KeyOrigin, TokenKey};
pub use number::holds_card_number;
pub use record::{TokenFields, Tokenized};

/// Digits of what is taken for a card number: 12 to 19 (ISO/IEC 7812), and 11 where a leading zero was lost.
pub(crate) const CARD_DIGITS: RangeInclusive<usize> = 11..=19;

/// Digits a card number has at least; shorter ones are padded with zeros.
const CARD_DIGITS_PADDED: usize = 12;

/// Cards remembered with their tokens (about 8 MB). Far more than the cards active in a shard within minutes; when it is
/// full everything is dropped, which costs one HMAC (about half a microsecond) for each card that comes again.
const CACHE_CARDS_MAX: usize = 65_536;

/// Bytes of the HMAC that a token shows, as twice as many hex digits.
const TOKEN_BYTES: usize = 16;

const TOKEN_PREFIX: &[u8] = b"tok_";

/// Turns card numbers into tokens, remembering those it made last.
#[derive(Clone)]
pub struct Tokenizer {
    key: TokenKey,
    cache: HashMap<Card, Box<str>, RandomState>,
    /// What [`Tokenizer::token`] lends out when it is not in the cache.
    other: String,
}

/// A card number as a number, and its count of digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Card {
    number: u64,
    digits: u8,
}

impl Card {
    /// `None` unless the text is all digits, up to 19 of them.
    fn read(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > *CARD_DIGITS.end() || !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        // Nineteen digits are below 10^19, which is below 2^64.
        let number = text.iter().fold(0, |number: u64, digit| number * 10 + u64::from(digit - b'0'));
        let digits = text.len().max(CARD_DIGITS_PADDED);
        Some(Self { number, digits: u8::try_from(digits).unwrap_or(u8::MAX) })
    }
}

impl Tokenizer {
    /// A tokenizer that knows no card yet.
    pub fn new(key: TokenKey) -> Self {
        Self { key, cache: HashMap::default(), other: String::new() }
    }

    /// The key's version, as in the tokens.
    pub fn version(&self) -> u32 {
        self.key.version()
    }

    /// `tok_<version>_<32 hex>` of a card number, or the text itself when it already is a token.
    ///
    /// A number of less than 12 digits is padded with zeros. Text that is no card number has a token too (of the text
    /// as it is): whoever must refuse it asks [`Tokenizer::is_card_number`] first.
    pub fn token(&mut self, card_number: &str) -> &str {
        let Some(card) = Card::read(card_number.as_bytes()) else {
            self.other.clear();
            if Self::is_token(card_number.as_bytes()) {
                self.other.push_str(card_number);
            } else {
                self.other.push_str(&make(&self.key, card_number));
            }
            return &self.other;
        };
        if self.cache.len() == CACHE_CARDS_MAX && !self.cache.contains_key(&card) {
            self.cache.clear();
        }
        match self.cache.entry(card) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let Card { number, digits } = card;
                free.insert(make(&self.key, &format!("{number:0width$}", width = usize::from(digits))).into())
            }
        }
    }

    /// Whether the text has the form of a token, of any version.
    pub fn is_token(text: &[u8]) -> bool {
        token_at(text) == Some(text.len())
    }

    /// Whether the text is all digits and as long as card numbers are: 11 to 19.
    pub fn is_card_number(text: &[u8]) -> bool {
        CARD_DIGITS.contains(&text.len()) && text.iter().all(u8::is_ascii_digit)
    }

    /// Whether the text of a card's field reads as one number: [`Tokenizer::mask`] then makes one token of it. If not,
    /// every digit of the field has to be hidden.
    pub fn reads_as_one_number(value: &[u8]) -> bool {
        number::is_one_number(value)
    }

    /// Hides every card number of a record that is kept as it arrived, whatever its bytes are: broken JSON and invalid
    /// UTF-8 included.
    ///
    /// - A run of 11 to 19 digits becomes its token, in quotes where it stood bare as the value of a JSON member: so a
    ///   repaired record keeps its card. Groups of digits with single spaces or hyphens between count as one run, and
    ///   digits escaped as `\u003N` are digits.
    /// - Every digit of a longer run becomes `*`: the card within could start anywhere, and a token of the whole would
    ///   later pass for a card that does not exist.
    /// - So do the digits of a shorter run that the end of the record cuts off.
    /// - Tokens stay as they are, and so does the value of a member named in `exempt` (the contract's identity and event
    ///   time; names as in the input), as long as it looks like an id or a time.
    pub fn mask(&mut self, raw: &[u8], exempt: &[&str]) -> Vec<u8> {
        let mut masked = Vec::with_capacity(raw.len() + 2 * TOKEN_BYTES);
        mask::mask(self, raw, exempt, mask::Cut::Possible, &mut masked);
        masked
    }

    /// What a producer sends: the JSON object (or the lines of them) with each card number in a token field of the
    /// contract replaced by its token as a JSON string, every other byte as it was.
    ///
    /// The value may be a number or a string; it is never read as a float. A value that is no card number is masked,
    /// the decoder will say what is wrong with it. JSON that cannot be parsed is masked as a whole.
    pub fn tokenize_record(&mut self, contract: &TableContract, json: &[u8]) -> Vec<u8> {
        record::tokenize(self, contract, json)
    }

    /// The same in one walk for a record that is one flat object without escapes, as nearly all are; and where the values of
    /// the members of these names stand in what is sent (of a name that occurs twice, the last). `None` when it is not so
    /// plain.
    pub fn tokenize_plain(&mut self, fields: &TokenFields, json: &[u8], names: [&str; 2]) -> Option<Tokenized> {
        record::tokenize_plain(self, fields, json, names)
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("key", &self.key).field("cards", &self.cache.len()).finish_non_exhaustive()
    }
}

fn make(key: &TokenKey, number: &str) -> String {
    let version = key.version();
    let mut hmac = Hmac::<Sha256>::new_from_slice(key.bytes()).expect("HMAC takes a key of any length");
    hmac.update(format!("{version}:").as_bytes());
    hmac.update(number.as_bytes());
    let digest = hmac.finalize().into_bytes();
    format!("tok_{version}_{}", hex::encode(&digest[..TOKEN_BYTES]))
}

/// The length of the token this text starts with.
fn token_at(text: &[u8]) -> Option<usize> {
    let rest = text.strip_prefix(TOKEN_PREFIX)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let version = std::str::from_utf8(&rest[..digits]).ok()?;
    // One spelling of a version only: otherwise equal cards could have unequal tokens.
    if version.parse::<u32>().is_err() || (version.starts_with('0') && version != "0") {
        return None;
    }
    let shown = rest[digits..].strip_prefix(b"_")?.get(..2 * TOKEN_BYTES)?;
    let well_formed = shown.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    well_formed.then_some(TOKEN_PREFIX.len() + digits + 1 + 2 * TOKEN_BYTES)
}

/// Whether a token, of any version, stands anywhere in the text.
pub fn holds_token(text: &str) -> bool {
    let prefix = std::str::from_utf8(TOKEN_PREFIX).unwrap_or_default();
    text.match_indices(prefix).any(|(at, _)| token_at(&text.as_bytes()[at..]).is_some())
}

#[cfg(test)]
pub(crate) mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const STREAM: &str = "CREATE TABLE t (
        at TIMESTAMP NOT NULL OPTIONS (field = 'time'), day DATE NOT NULL GENERATED ALWAYS AS (CAST(at AS DATE)),
        id STRING NOT NULL, card STRING NOT NULL OPTIONS (field = 'cc_num', pad = 12, token = true),
        _source STRING NOT NULL, _shard STRING NOT NULL, _sequence STRING NOT NULL, _sub_sequence INT NOT NULL,
        _arrival_time TIMESTAMP NOT NULL, _epoch BIGINT NOT NULL, _late BOOLEAN NOT NULL
        ) WITH (format = 'json', event_time = 'at', identity = 'id', partition_key = 'card', partition_by = 'day')";

    pub(crate) fn contract() -> TableContract {
        TableContract::parse("t.sql", STREAM).unwrap()
    }

    /// Its key is the bytes 0 to 31.
    pub(crate) fn tokenizer() -> Tokenizer {
        let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        Tokenizer::new(TokenKey::from_hex(1, hex).unwrap())
    }

    /// Computed with Python's `hmac` module.
    pub(crate) const KNOWN: [(&str, &str); 2] = [
        ("4992346398065154184", "tok_1_24938f9a9679fe70c7d98144da818bed"),
        ("060416207185", "tok_1_29bf1c0b0e97e461edfb80067e5c929c"),
    ];

    #[test]
    fn a_token_is_found_wherever_it_stands() {
        let (_, token) = KNOWN[0];
        for text in [token.to_owned(), format!("a,{token},b"), format!("tok_{token}"), format!("tok_x {token}0")] {
            assert!(holds_token(&text), "{text}");
        }
        for text in ["", "tok_", "tok_1_", "tok_01_24938f9a9679fe70c7d98144da818bed", &token[..token.len() - 1]] {
            assert!(!holds_token(text), "{text}");
        }
    }

    #[test]
    fn tokens_are_the_hmac_of_version_and_number() {
        let mut tokenizer = tokenizer();
        for (number, token) in KNOWN {
            assert_eq!(tokenizer.token(number), token);
            assert_eq!(tokenizer.token(number), token, "the second time");
            assert_eq!(tokenizer.token(token), token, "a token is its own");
        }
    }

    #[test]
    fn a_lost_zero_is_found_again() {
        let (with_zero, token) = KNOWN[1];
        assert_eq!(tokenizer().token(&with_zero[1..]), token);
        assert_ne!(tokenizer().token(&format!("0{with_zero}")), token, "of a number of 13 digits");
    }

    #[test]
    fn another_version_makes_another_token() {
        let key = "00".repeat(32);
        let token =
            |version| Tokenizer::new(TokenKey::from_hex(version, &key).unwrap()).token("4000000000000002").to_owned();
        let (one, two) = (token(1), token(2));
        assert!(one.starts_with("tok_1_") && two.starts_with("tok_2_"));
        assert_ne!(one[6..], two[6..]);
    }

    #[test]
    fn only_tokens_look_like_tokens() {
        let token = KNOWN[0].1;
        assert!(Tokenizer::is_token(token.as_bytes()));
        assert!(Tokenizer::is_token(token.replace("_1_", "_4294967295_").as_bytes()));
        let wrong = [
            "",
            "tok_",
            "4992346398065154184",
            &token[1..],
            &token[..37],
            &format!("{token}0"),
            &token.to_uppercase(),
            &token.replace("_1_", "_01_"),
            &token.replace("_1_", "__"),
            &token.replace("_1_", "_4294967296_"),
            &token.replace("_1_", "_4992346398065154184_"),
            &token.replace('f', "g"),
        ];
        for text in wrong {
            assert!(!Tokenizer::is_token(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn card_numbers_have_11_to_19_digits() {
        let digits = "12345678901234567890";
        for length in 0..=20 {
            assert_eq!(
                Tokenizer::is_card_number(&digits.as_bytes()[..length]),
                (11..=19).contains(&length),
                "{length}"
            );
        }
        assert!(!Tokenizer::is_card_number(b"4992346398065154.0"));
    }

    #[test]
    fn a_full_cache_is_dropped_and_tokens_stay() {
        let mut tokenizer = tokenizer();
        for number in 0..CACHE_CARDS_MAX as u64 {
            let free = Card { number, digits: 12 };
            tokenizer.cache.insert(free, "".into());
        }
        assert_eq!(tokenizer.token(KNOWN[0].0), KNOWN[0].1);
        assert_eq!(tokenizer.cache.len(), 1);
        assert_eq!(tokenizer.token(KNOWN[0].0), KNOWN[0].1);
    }

    #[test]
    fn debug_shows_neither_key_nor_cards() {
        let mut tokenizer = tokenizer();
        tokenizer.token(KNOWN[0].0);
        let shown = format!("{tokenizer:?}");
        assert_eq!(shown, "Tokenizer { key: TokenKey { version: 1, bytes: \"redacted\" }, cards: 1, .. }");
    }

    /// Ten thousand card numbers, as they are written in records, whole and broken.
    #[test]
    fn no_card_number_survives() {
        let (mut tokenizer, contract) = (tokenizer(), contract());
        let fields = TokenFields::of(&contract);
        let mut random = ChaCha8Rng::seed_from_u64(20_261_123);
        for _ in 0..10_000 {
            let length = random.random_range(CARD_DIGITS_PADDED..=*CARD_DIGITS.end());
            let mut digits: Vec<u8> = (0..length).map(|_| random.random_range(b'0'..=b'9')).collect();
            // Of leading zeros, real numbers have one at most.
            digits[1] = random.random_range(b'1'..=b'9');
            let number = String::from_utf8(digits).unwrap();
            let spaced: Vec<&str> =
                number.as_bytes().chunks(4).map(|part| std::str::from_utf8(part).unwrap()).collect();
            let escaped: String = number.chars().map(|digit| format!("\\u003{digit}")).collect();
            let bare = number.trim_start_matches('0');

            let sent = [
                format!(r#"{{"id":"a","cc_num":"{number}","amt":1.5}}"#),
                format!(r#"{{"id":"a","cc_num":1{number},"amt":1.5}}"#),
                format!(r#"{{ "cc_num" : {bare} }}"#),
                format!(r#"{{"cc_num":"{escaped}"}}"#),
                format!(r#"{{"cc_num":"{}"}}"#, spaced.join(" ")),
                format!(r#"{{"cc_num":{bare}.0}}"#),
                format!("{{\"id\":1}}\n{{\"cc_num\":\"{number}\",\"cc_num\":[\"{number}\"]}}"),
                format!(r#"{{"cc_num":{{"number":"{number}"}}}}"#),
            ];
            let broken = [
                format!(r#"{{"cc_num":{number}"#),
                format!(r#"{{"id":"a,"cc_num":{number},"amt":1}}"#),
                format!(r#"{{"cc_num":"{}-x"#, spaced.join("-")),
                format!("card {number}, 12345678 {}", spaced.join(" ")),
                format!("{{\"\u{fffd}\":\"{escaped}\""),
                format!("7{number}7{number}"),
            ];
            for record in sent.iter().chain(&broken) {
                let mut outputs = vec![tokenizer.tokenize_record(&contract, record.as_bytes())];
                let plain = tokenizer.tokenize_plain(&fields, record.as_bytes(), ["id", "cc_num"]);
                outputs.extend(plain.map(|plain| plain.json));
                outputs.push(tokenizer.mask(record.as_bytes(), &["id", "time"]));
                // The same behind a byte that is no UTF-8, and cut within the number.
                outputs.push(tokenizer.mask(&[&[0xff], record.as_bytes()].concat(), &["id", "time"]));
                for output in outputs {
                    let text = String::from_utf8_lossy(&output).replace([' ', '-'], "").replace("\\u003", "");
                    assert!(!text.contains(bare), "{record}\n{text}");
                }
            }
            let cut = random.random_range(1..=number.len());
            let record = format!(r#"{{"amt":1.5,"cc_num":"{}"#, &number[..cut]);
            let output = tokenizer.mask(record.as_bytes(), &[]);
            let tail = &output[record.len() - cut..];
            assert!(tail.starts_with(b"tok_") || tail.iter().all(|byte| *byte == b'*'), "{record}");
        }
    }
}
