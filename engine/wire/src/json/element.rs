//! One JSON value as one dtype.

use std::borrow::Cow;

use bettong_frame::tensor::push_byte_element;
use half::{bf16, f16};

use super::cursor::{Cursor, Problem};

/// A type that JSON values can be read as, straight into its little-endian bytes.
pub trait Element {
    /// Append the value at *cursor*, which has gone past white space, to *out*.
    fn read(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Problem>;
}

/// How integers that a float can't hold are taken.
pub trait Integers {
    /// Whether they are refused; else they are rounded, as JSON's own numbers are.
    const EXACT: bool;
}

/// Integers are rounded to the float.
pub struct Rounded;

/// Integers that the float can't hold are refused.
pub struct Exact;

impl Integers for Rounded {
    const EXACT: bool = false;
}

impl Integers for Exact {
    const EXACT: bool = true;
}

/// A double.
pub struct Fp64<I>(std::marker::PhantomData<I>);
/// A single.
pub struct Fp32<I>(std::marker::PhantomData<I>);
/// A half.
pub struct Fp16<I>(std::marker::PhantomData<I>);
/// A brain float.
pub struct Bf16<I>(std::marker::PhantomData<I>);
/// A boolean as one byte; 0 and 1 are fine too.
pub struct Bool;
/// A string, length-prefixed.
pub struct Text;

/// The double at *cursor*.
///
/// Narrower floats are rounded from it, not from the text: clients write doubles, and the same double must give the same
/// float whether it comes as JSON, Arrow or a tensor.
#[inline]
fn double(cursor: &mut Cursor<'_>) -> Result<f64, Problem> {
    let text = cursor.rest();
    if !begins_a_number(text) {
        return Err(not_a_number(cursor));
    }
    let Ok((value, len)) = fast_float2::parse_partial::<f64, _>(text) else { return Err(not_a_number(cursor)) };
    if value.is_infinite() {
        return Err(Problem::OutOfRange);
    }
    cursor.advance(len);
    Ok(value)
}

/// Whether *text* is what JSON takes for a number, up to its first fraction digit. The parser takes more: plus signs, bare
/// points, leading zeros, words. From there on it takes just what JSON does.
#[inline]
fn begins_a_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        [b'0'..=b'9', b'.', fraction, ..] => fraction.is_ascii_digit(),
        [b'0', b'0'..=b'9', ..] => false,
        [b'0'..=b'9', rest @ ..] => {
            let point = rest.iter().position(|byte| !byte.is_ascii_digit());
            point.is_none_or(|at| rest[at] != b'.' || rest.get(at + 1).is_some_and(u8::is_ascii_digit))
        }
        _ => false,
    }
}

#[cold]
fn not_a_number(cursor: &Cursor<'_>) -> Problem {
    let problem = cursor.other_than(Problem::NoNumber);
    let looks_like_one = cursor.rest().first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-');
    if problem == Problem::NoNumber && looks_like_one { Problem::BadNumber } else { problem }
}

/// The double at *cursor*, no larger than *max*, whose integers have at most *bits* bits if they must be exact.
#[inline]
fn float<I: Integers>(cursor: &mut Cursor<'_>, bits: u32, max: f64) -> Result<f64, Problem> {
    let (before, rest) = (cursor.at(), cursor.rest());
    let value = double(cursor)?;
    let fits = value.abs() <= max;
    // 256 fits every float type.
    if fits && (!I::EXACT || value.abs() <= 256.0 || is_exact(&rest[..cursor.at() - before], bits)) {
        return Ok(value);
    }
    cursor.go_to(before);
    Err(if fits { Problem::Inexact } else { Problem::OutOfRange })
}

/// Whether the number *text* is not an integer, or one of at most *bits* significant bits.
fn is_exact(text: &[u8], bits: u32) -> bool {
    if text.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return true;
    }
    let integer = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i128>().ok());
    integer.is_some_and(|integer| {
        let magnitude = integer.unsigned_abs();
        magnitude.checked_shr(magnitude.trailing_zeros()).unwrap_or(0) < 1 << bits
    })
}

macro_rules! float_element {
    ($name:ident, $bits:expr, $max:expr, $convert:expr) => {
        impl<I: Integers> Element for $name<I> {
            #[inline]
            fn read(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
                let value = float::<I>(cursor, $bits, $max)?;
                out.extend_from_slice(&$convert(value).to_le_bytes());
                Ok(())
            }
        }
    };
}
float_element!(Fp64, 53, f64::MAX, |value: f64| value);
float_element!(Fp32, 24, f64::from(f32::MAX), |value: f64| value as f32);
float_element!(Fp16, 11, 65_504.0, f16::from_f64);
float_element!(Bf16, 8, f64::from(bf16::MAX), bf16::from_f64);

/// The whole number at *cursor*. One with a point or exponent is fine as long as it is whole and a double holds it exactly.
#[inline]
fn integer(cursor: &mut Cursor<'_>) -> Result<i128, Problem> {
    let text = cursor.rest();
    let start = usize::from(text.first() == Some(&b'-'));
    let (mut at, mut magnitude) = (start, 0_u64);
    while let Some(digit) = text.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit <= 9) {
        let grown = magnitude.checked_mul(10).and_then(|ten| ten.checked_add(u64::from(digit)));
        magnitude = grown.ok_or(Problem::OutOfRange)?;
        at += 1;
    }
    if at == start || (at > start + 1 && text[start] == b'0') {
        return Err(not_a_number(cursor));
    }
    if matches!(text.get(at), Some(b'.' | b'e' | b'E')) {
        return whole_double(cursor);
    }
    cursor.advance(at);
    Ok(if start == 1 { -i128::from(magnitude) } else { i128::from(magnitude) })
}

#[cold]
fn whole_double(cursor: &mut Cursor<'_>) -> Result<i128, Problem> {
    // From 2^53 on, a double stands for more than one integer.
    const LIMIT: f64 = 9_007_199_254_740_992.0;
    let before = cursor.at();
    let value = double(cursor)?;
    if value.fract() == 0.0 && value.abs() < LIMIT {
        return Ok(value as i128);
    }
    cursor.go_to(before);
    Err(if value.fract() == 0.0 { Problem::OutOfRange } else { Problem::NotWhole })
}

macro_rules! integer_element {
    ($($type:ty),*) => {$(
        impl Element for $type {
            #[inline]
            fn read(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
                let before = cursor.at();
                let value = integer(cursor)?;
                let Ok(value) = <$type>::try_from(value) else {
                    cursor.go_to(before);
                    return Err(Problem::OutOfRange);
                };
                out.extend_from_slice(&value.to_le_bytes());
                Ok(())
            }
        }
    )*};
}
integer_element!(u8, u16, u32, u64, i8, i16, i32, i64);

impl Element for Bool {
    #[inline]
    fn read(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
        let value = match cursor.token()? {
            b'0' if cursor.word(b"0") => false,
            b'1' if cursor.word(b"1") => true,
            _ => cursor.boolean()?,
        };
        out.push(u8::from(value));
        Ok(())
    }
}

impl Element for Text {
    #[inline]
    fn read(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
        if cursor.token()? != b'"' {
            return Err(cursor.other_than(Problem::NoString));
        }
        let text: Cow<'_, str> = cursor.string()?;
        push_byte_element(out, text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<f64> {
        let mut cursor = Cursor::new(text.as_bytes());
        let value = double(&mut cursor).ok()?;
        (cursor.at() == text.trim_end_matches([',', ']']).len()).then_some(value)
    }

    proptest! {
        #[test]
        fn decimals_are_the_doubles_that_are_nearest(text in "-?(0|[1-9][0-9]{0,19})(\\.[0-9]{1,24})?([eE][+-]?[0-9]{1,2})?[,\\]]") {
            let number = &text[..text.len() - 1];
            let expected: f64 = number.parse().unwrap();
            prop_assert_eq!(Some(expected.to_bits()), read(&text).map(f64::to_bits), "{}", number);
        }

        #[test]
        fn doubles_come_back_as_they_were(value in proptest::num::f64::NORMAL | proptest::num::f64::ZERO) {
            let text = format!("{value:?},");
            prop_assert_eq!(Some(value.to_bits()), read(&text).map(f64::to_bits), "{}", text);
        }
    }

    #[test]
    fn what_json_does_not_take_for_a_number_is_refused() {
        for text in ["", "-", "+1", ".5", "1.", "01", "-01.5", "1.e5", "1e", "0x1", "NaN", "1e999", "12345678901."] {
            assert_eq!(None, read(&format!("{text},")), "{text}");
        }
    }
}
