//! Text becomes numbers.
//!
//! The one law: a number is taken exactly or not at all. Money never passes through a float and nothing is rounded to fit.
//! Which column a number belongs to is not known here.

use std::str::FromStr;

use super::rejects::Reason;

/// Digits of an `i128` that are always exact: 10^38 < 2^127.
const DECIMAL_DIGITS_MAX: u32 = 38;

/// Digits a number may have to be taken on the short way: 10^18 fits an `i64`.
const SHORT_DIGITS_MAX: usize = 18;

/// Integers up to this are exact in an `f64` (2^53).
const EXACT_F64_MAX: u64 = 1 << 53;

/// Powers of ten that are exact in an `f64`: up to 10^22 all are, a short number has 18 decimals at most.
const POWERS_F64: [f64; 19] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];

/// Powers of ten up to 10^38.
const POWERS: [i128; 39] = {
    let mut powers = [1_i128; 39];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// A decimal number as the integer `number × 10^scale`, exactly.
///
/// # Errors
/// [`Reason::InvalidNumber`] for text that is no number, [`Reason::InexactDecimal`] for digits beyond the scale,
/// [`Reason::OutOfRange`] for more than `precision` digits.
pub(super) fn decimal(text: &[u8], precision: u8, scale: u8) -> Result<i128, Reason> {
    let Some(short) = Short::read(text) else {
        return Long::read(text).ok_or(Reason::InvalidNumber)?.decimal(precision, scale);
    };
    let scale = usize::from(scale);
    let magnitude = if short.decimals <= scale {
        // Nearly all products fit 64 bits, where they cost a tenth.
        let power = POWERS[scale - short.decimals];
        match u64::try_from(power).ok().and_then(|power| short.digits.checked_mul(power)) {
            Some(product) => i128::from(product),
            None => i128::from(short.digits).checked_mul(power).ok_or(Reason::OutOfRange)?,
        }
    } else {
        let excess = POWERS[short.decimals - scale];
        if i128::from(short.digits) % excess != 0 {
            return Err(Reason::InexactDecimal);
        }
        i128::from(short.digits) / excess
    };
    if magnitude >= POWERS[usize::from(precision)] {
        return Err(Reason::OutOfRange);
    }
    Ok(if short.negative { -magnitude } else { magnitude })
}

/// A whole number; `12.0` and `1e3` are whole.
///
/// # Errors
/// [`Reason::InvalidNumber`], [`Reason::NotAnInteger`], or [`Reason::OutOfRange`] beyond 64 bits.
pub(super) fn integer(text: &[u8]) -> Result<i64, Reason> {
    if let Some(Short { negative, digits, decimals: 0 }) = Short::read(text) {
        let magnitude = i64::try_from(digits).map_err(|_| Reason::OutOfRange)?;
        return Ok(if negative { -magnitude } else { magnitude });
    }
    let value = decimal(text, 38, 0).map_err(|reason| match reason {
        Reason::InexactDecimal => Reason::NotAnInteger,
        other => other,
    })?;
    i64::try_from(value).map_err(|_| Reason::OutOfRange)
}

/// The double nearest to a number.
///
/// # Errors
/// [`Reason::InvalidNumber`] (`NaN` and `Infinity` are no numbers), [`Reason::OutOfRange`] where only infinity is near.
pub(super) fn double(text: &[u8]) -> Result<f64, Reason> {
    // Clinger's fast path: both operands are exact, so one correctly rounded division gives the nearest double.
    if let Some(short) = Short::read(text)
        && short.digits <= EXACT_F64_MAX
    {
        let magnitude = short.digits as f64 / POWERS_F64[short.decimals];
        return Ok(if short.negative { -magnitude } else { magnitude });
    }
    finite(text, f64::is_finite)
}

/// The single-precision float nearest to a number.
///
/// # Errors
/// As [`double`].
pub(super) fn float(text: &[u8]) -> Result<f32, Reason> {
    finite(text, f32::is_finite)
}

/// The standard library's parse (correctly rounded), of what is a number by our grammar.
fn finite<T: FromStr + Copy>(text: &[u8], is_finite: impl Fn(T) -> bool) -> Result<T, Reason> {
    Long::read(text).ok_or(Reason::InvalidNumber)?;
    let value = std::str::from_utf8(text).ok().and_then(|t| t.parse::<T>().ok()).ok_or(Reason::InvalidNumber)?;
    if is_finite(value) { Ok(value) } else { Err(Reason::OutOfRange) }
}

/// `true`, `false`, `1`, `0`, in any case.
pub(super) fn boolean(text: &[u8]) -> Result<bool, Reason> {
    match text {
        b"1" => Ok(true),
        b"0" => Ok(false),
        _ if text.eq_ignore_ascii_case(b"true") => Ok(true),
        _ if text.eq_ignore_ascii_case(b"false") => Ok(false),
        _ => Err(Reason::InvalidBoolean),
    }
}

/// A number of at most 18 digits and no exponent: nearly all there are.
struct Short {
    negative: bool,
    /// All digits, the point left out.
    digits: u64,
    /// How many of them stand behind the point.
    decimals: usize,
}

impl Short {
    /// `None` for everything else, be it a number or not.
    #[inline]
    fn read(text: &[u8]) -> Option<Self> {
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        if text.len() > SHORT_DIGITS_MAX {
            return None;
        }
        let mut digits = 0_u64;
        let mut point = None;
        for (at, byte) in text.iter().enumerate() {
            let digit = byte.wrapping_sub(b'0');
            if digit < 10 {
                digits = digits * 10 + u64::from(digit);
            } else if *byte == b'.' && point.is_none() {
                point = Some(at);
            } else {
                return None;
            }
        }
        match point {
            None if !text.is_empty() => Some(Self { negative, digits, decimals: 0 }),
            Some(at) if at > 0 && at + 1 < text.len() => Some(Self { negative, digits, decimals: text.len() - at - 1 }),
            _ => None,
        }
    }
}

/// Any number: an optional sign, digits, optional decimals, an optional exponent.
struct Long<'a> {
    negative: bool,
    integer: &'a [u8],
    decimals: &'a [u8],
    exponent: i64,
}

impl<'a> Long<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let (integer, rest) = digits(text)?;
        let (decimals, rest) = match rest {
            [b'.', rest @ ..] => digits(rest)?,
            _ => (&[][..], rest),
        };
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', rest @ ..] => exponent(rest)?,
            _ => return None,
        };
        Some(Self { negative, integer, decimals, exponent })
    }

    fn decimal(&self, precision: u8, scale: u8) -> Result<i128, Reason> {
        let mut magnitude = 0_i128;
        let mut significant = 0_u32;
        let mut zeros = 0_u32;
        for byte in self.integer.iter().chain(self.decimals) {
            if *byte == b'0' {
                zeros += u32::from(significant > 0);
                continue;
            }
            significant = significant.saturating_add(zeros).saturating_add(1);
            if significant <= DECIMAL_DIGITS_MAX {
                magnitude = magnitude * POWERS[zeros as usize + 1] + i128::from(byte - b'0');
            }
            zeros = 0;
        }
        if significant == 0 {
            return Ok(0);
        }
        // The number is `magnitude × 10^shift` in units of the last decimal, and the last digit of `magnitude` is not 0.
        let decimals = i64::try_from(self.decimals.len()).unwrap_or(i64::MAX);
        let shift = self.exponent.saturating_sub(decimals).saturating_add(i64::from(zeros) + i64::from(scale));
        if shift < 0 {
            return Err(Reason::InexactDecimal);
        }
        if shift.saturating_add(i64::from(significant)) > i64::from(precision) {
            return Err(Reason::OutOfRange);
        }
        let shift = usize::try_from(shift).map_err(|_| Reason::OutOfRange)?;
        let magnitude = magnitude * POWERS[shift];
        Ok(if self.negative { -magnitude } else { magnitude })
    }
}

/// The digits in front, at least one, and what follows them.
fn digits(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    (length > 0).then(|| text.split_at(length))
}

/// The value of an exponent; one beyond any sense stays beyond any sense.
fn exponent(text: &[u8]) -> Option<i64> {
    let (sign, text) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    };
    let (digits, rest) = digits(text)?;
    let magnitude = digits.iter().fold(0_i64, |value, b| (value * 10 + i64::from(b - b'0')).min(1_000_000_000));
    rest.is_empty().then_some(sign * magnitude)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn money_is_exact_or_refused() {
        let money = |text: &str| decimal(text.as_bytes(), 20, 2);
        for (text, cents) in [
            ("107.23", 10_723),
            ("45.0", 4_500),
            ("45", 4_500),
            ("-0.01", -1),
            ("1e2", 10_000),
            ("1.5e-1", 15),
            ("0", 0),
            ("-0.0", 0),
            ("1.2300000000000000000000000000000000000000000000000", 123),
            ("000000000000000000000000000000000000000001.5", 150),
            ("0e999999999999999999999", 0),
            ("123456789012345678.99", 12_345_678_901_234_567_899),
            ("+5", 500),
            ("15E+1", 15_000),
            ("0.00000000000000000000000000000000000000000000012e46", 120),
        ] {
            assert_eq!(money(text), Ok(cents), "{text}");
        }
        for text in ["1.005", "0.001", "1e-3", "123456789012345678.991", "1e-999999999999999999999"] {
            assert_eq!(money(text), Err(Reason::InexactDecimal), "{text}");
        }
        for text in [
            "1234567890123456789",
            "1e18",
            "1e999999999999999999999",
            "99999999999999999999999999999999999999999999999",
        ] {
            assert_eq!(money(text), Err(Reason::OutOfRange), "{text}");
        }
        for text in
            ["", "-", ".", "1.", ".5", "1e", "1e+", "1,5", "$1", "NaN", "inf", "0x10", "1 2", "--1", "1_000", "é"]
        {
            assert_eq!(money(text), Err(Reason::InvalidNumber), "{text}");
        }
        assert_eq!(decimal(b"999999999999999999", 38, 38), Err(Reason::OutOfRange));
        assert_eq!(decimal(b"0.5", 38, 38), Ok(5 * POWERS[37]));
    }

    #[test]
    fn whole_numbers_may_be_written_as_others() {
        for (text, value) in
            [("12", 12), ("-007", -7), ("12.000", 12), ("1e3", 1000), ("-9223372036854775808", i64::MIN)]
        {
            assert_eq!(integer(text.as_bytes()), Ok(value), "{text}");
        }
        assert_eq!(integer(b"12.5"), Err(Reason::NotAnInteger));
        assert_eq!(integer(b"9223372036854775808"), Err(Reason::OutOfRange));
        assert_eq!(integer(b"twelve"), Err(Reason::InvalidNumber));
    }

    #[test]
    fn floats_are_finite() {
        for text in ["NaN", "inf", "-Infinity", "", "nan", "1e", "infinity"] {
            assert_eq!(double(text.as_bytes()), Err(Reason::InvalidNumber), "{text}");
            assert_eq!(float(text.as_bytes()), Err(Reason::InvalidNumber), "{text}");
        }
        assert_eq!(double(b"1e309"), Err(Reason::OutOfRange));
        assert_eq!(float(b"1e39"), Err(Reason::OutOfRange));
        assert_eq!(double(b"-0").map(f64::is_sign_negative), Ok(true));
    }

    /// The value of a number by plain integer arithmetic: `digits × 10^-decimals × 10^exponent` in units of `10^-scale`.
    fn oracle(digits: i128, decimals: i32, exponent: i32, precision: u32, scale: i32) -> Result<i128, Reason> {
        let shift = exponent - decimals + scale;
        let value = if shift >= 0 {
            (0..shift).try_fold(digits, |value, _| value.checked_mul(10)).ok_or(Reason::OutOfRange)?
        } else {
            let divisor = 10_i128.pow(shift.unsigned_abs());
            if digits % divisor != 0 {
                return Err(Reason::InexactDecimal);
            }
            digits / divisor
        };
        if value.abs() < 10_i128.pow(precision) { Ok(value) } else { Err(Reason::OutOfRange) }
    }

    proptest! {
        #[test]
        fn decimals_agree_with_integer_arithmetic(
            digits in prop_oneof![any::<i32>().prop_map(i128::from), any::<i64>().prop_map(|d| i128::from(d) * 1000)],
            decimals in 0_i32..12, exponent in -8_i32..8, precision in 1_u8..38, scale in 0_u8..8, plain in any::<bool>(),
        ) {
            let exponent = if plain { 0 } else { exponent };
            let width = usize::try_from(decimals).unwrap() + 1;
            let magnitude = format!("{:0width$}", digits.abs());
            let (whole, fraction) = magnitude.split_at(magnitude.len() + 1 - width);
            let sign = if digits < 0 { "-" } else { "" };
            let point = if fraction.is_empty() { "" } else { "." };
            let power = if plain { String::new() } else { format!("e{exponent}") };
            let text = format!("{sign}{whole}{point}{fraction}{power}");
            let scale = scale.min(precision);
            let expected = oracle(digits, decimals, exponent, precision.into(), scale.into());
            prop_assert_eq!(decimal(text.as_bytes(), precision, scale), expected, "{}", text);
        }

        #[test]
        fn doubles_are_the_nearest(text in "-?(0|[1-9][0-9]{0,18})(\\.[0-9]{1,18})?(e-?[0-9]{1,2})?") {
            prop_assert_eq!(double(text.as_bytes()).unwrap().to_bits(), text.parse::<f64>().unwrap().to_bits());
        }

        #[test]
        fn doubles_survive_being_printed(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            prop_assert_eq!(double(format!("{value}").as_bytes()).unwrap().to_bits(), value.to_bits());
            prop_assert_eq!(double(format!("{value:e}").as_bytes()).unwrap().to_bits(), value.to_bits());
        }

        #[test]
        fn no_text_is_a_panic(text in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'0'), Just(b'9'), Just(b'.'), Just(b'e'), Just(b'-')], 0..60)) {
            let is_number = Long::read(&text).is_some();
            prop_assert_eq!(decimal(&text, 38, 9) == Err(Reason::InvalidNumber), !is_number);
            prop_assert_eq!(double(&text) == Err(Reason::InvalidNumber), !is_number);
            prop_assert_eq!(integer(&text) == Err(Reason::InvalidNumber), !is_number);
        }
    }
}
