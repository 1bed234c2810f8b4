//! A position in JSON text, and the tokens that can be read from it.

use std::borrow::Cow;

/// Arrays and objects within each other at most.
pub const MAX_DEPTH: usize = 64;

/// What is wrong with the text at the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The text ends within a value.
    End,
    /// No value begins here.
    NoValue,
    /// Neither a comma nor the end of the array.
    NoComma,
    /// Neither a comma nor the end of the object.
    NoCommaInObject,
    /// A member without its colon.
    NoColon,
    /// Not a string.
    NoString,
    /// Not an object.
    NoObject,
    /// Not an array.
    NoArray,
    /// Not a number.
    NoNumber,
    /// Not a boolean.
    NoBoolean,
    /// A number as JSON does not write it.
    BadNumber,
    /// An unknown escape, or half a surrogate pair.
    BadEscape,
    /// A control character within a string.
    Control,
    /// A string that is not UTF-8.
    NotUtf8,
    /// Too many levels.
    TooDeep,
    /// Something after the end.
    Trailing,
    /// A null where a value must be.
    Null,
    /// A token for a number that is not finite.
    NotFinite,
    /// A number with a fraction where an integer must be.
    NotWhole,
    /// A number that the type can't hold.
    OutOfRange,
    /// An integer that a float can't hold exactly.
    Inexact,
    /// Arrays and values side by side, or arrays of different depth.
    Mixed,
    /// An array that has another length than its neighbours.
    Ragged,
}

impl Problem {
    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::End => "it ends too early",
            Self::NoValue => "a value is expected",
            Self::NoComma => "',' or ']' is expected",
            Self::NoCommaInObject => "',' or '}' is expected",
            Self::NoColon => "':' is expected",
            Self::NoString => "a string is expected",
            Self::NoObject => "an object is expected",
            Self::NoArray => "an array is expected",
            Self::NoNumber => "a number is expected",
            Self::NoBoolean => "true or false is expected",
            Self::BadNumber => "the number is not written as JSON wants it",
            Self::BadEscape => "the escape sequence is not valid",
            Self::Control => "a control character in a string must be escaped",
            Self::NotUtf8 => "the string is not UTF-8",
            Self::TooDeep => "it is nested too deeply",
            Self::Trailing => "something follows the end",
            Self::Null => "null is not allowed",
            Self::NotFinite => "NaN and Infinity are not JSON; send them as binary data or Arrow",
            Self::NotWhole => "it is not a whole number",
            Self::OutOfRange => "the number is out of range",
            Self::Inexact => "the integer can't be held exactly",
            Self::Mixed => "values and arrays are mixed",
            Self::Ragged => "its length differs",
        }
    }

    /// Whether the text is valid JSON, but its value is not what must be given.
    pub const fn is_value(self) -> bool {
        matches!(
            self,
            Self::Null
                | Self::NotFinite
                | Self::NotWhole
                | Self::OutOfRange
                | Self::Inexact
                | Self::Mixed
                | Self::Ragged
                | Self::NoNumber
                | Self::NoBoolean
                | Self::NoString
        )
    }
}

/// A position in JSON text.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the start of *text*.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Offset of the next byte.
    #[inline]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Go to an offset that [`Self::at`] gave.
    pub fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    /// What is left.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Go on by *count* bytes of what is left.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        self.at += count;
    }

    /// The next byte that is not white space, which stays.
    #[inline]
    pub fn token(&mut self) -> Result<u8, Problem> {
        while let Some(&byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err(Problem::End)
    }

    /// Take *wanted*, or report *problem*.
    #[inline]
    pub fn take(&mut self, wanted: u8, problem: Problem) -> Result<(), Problem> {
        if self.token()? != wanted {
            return Err(problem);
        }
        self.at += 1;
        Ok(())
    }

    /// Nothing but white space may be left.
    pub fn end(&mut self) -> Result<(), Problem> {
        match self.token() {
            Err(_) => Ok(()),
            Ok(_) => Err(Problem::Trailing),
        }
    }

    /// The name of the next member of an object whose brace was taken; `None` after its last. `first` is true at first.
    #[inline]
    pub fn member(&mut self, first: &mut bool) -> Result<Option<Cow<'a, str>>, Problem> {
        let byte = self.token()?;
        if byte == b'}' {
            self.at += 1;
            return Ok(None);
        }
        if !std::mem::take(first) {
            self.take(b',', Problem::NoCommaInObject)?;
        }
        let name = self.string()?;
        self.take(b':', Problem::NoColon)?;
        Ok(Some(name))
    }

    /// Whether another element of an array whose bracket was taken follows; else its end is taken. `first` is true at first.
    #[inline]
    pub fn element(&mut self, first: &mut bool) -> Result<bool, Problem> {
        let byte = self.token()?;
        if byte == b']' {
            self.at += 1;
            return Ok(false);
        }
        if !std::mem::take(first) {
            self.take(b',', Problem::NoComma)?;
            if self.token()? == b']' {
                return Err(Problem::NoValue);
            }
        }
        Ok(true)
    }

    /// A string, borrowed unless it has escapes.
    #[inline]
    pub fn string(&mut self) -> Result<Cow<'a, str>, Problem> {
        if self.token()? != b'"' {
            return Err(Problem::NoString);
        }
        self.at += 1;
        let start = self.at;
        let stop = self.string_stop()?;
        if stop != b'"' {
            return self.escaped_string(start);
        }
        let text = &self.text[start..self.at];
        self.at += 1;
        std::str::from_utf8(text).map(Cow::Borrowed).map_err(|_| self.back(start, Problem::NotUtf8))
    }

    /// Go to the quote or backslash that comes next.
    #[inline]
    fn string_stop(&mut self) -> Result<u8, Problem> {
        while let Some(eight) = self.text.get(self.at..self.at + 8) {
            let found =
                stops(u64::from_le_bytes([eight[0], eight[1], eight[2], eight[3], eight[4], eight[5], eight[6], eight[7]]));
            if found != 0 {
                self.at += (found.trailing_zeros() / 8) as usize;
                break;
            }
            self.at += 8;
        }
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'"' | b'\\' => return Ok(byte),
                0..0x20 => return Err(Problem::Control),
                _ => self.at += 1,
            }
        }
        Err(Problem::End)
    }

    #[cold]
    fn back(&mut self, at: usize, problem: Problem) -> Problem {
        self.at = at;
        problem
    }

    #[cold]
    fn escaped_string(&mut self, start: usize) -> Result<Cow<'a, str>, Problem> {
        let mut out = String::new();
        let mut from = start;
        loop {
            let stop = self.string_stop()?;
            let plain = std::str::from_utf8(&self.text[from..self.at]).map_err(|_| Problem::NotUtf8)?;
            out.push_str(plain);
            self.at += 1;
            if stop == b'"' {
                return Ok(Cow::Owned(out));
            }
            out.push(self.escape()?);
            from = self.at;
        }
    }

    /// The character after a backslash.
    fn escape(&mut self) -> Result<char, Problem> {
        let byte = *self.text.get(self.at).ok_or(Problem::End)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(Problem::BadEscape),
        })
    }

    fn unicode_escape(&mut self) -> Result<char, Problem> {
        let first = self.hex4()?;
        if !(0xD800..0xDC00).contains(&first) {
            return char::from_u32(first).ok_or(Problem::BadEscape);
        }
        if !self.rest().starts_with(b"\\u") {
            return Err(Problem::BadEscape);
        }
        self.at += 2;
        let second = self.hex4()?;
        if !(0xDC00..0xE000).contains(&second) {
            return Err(Problem::BadEscape);
        }
        char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)).ok_or(Problem::BadEscape)
    }

    fn hex4(&mut self) -> Result<u32, Problem> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(Problem::End)?;
        let value = digits.iter().try_fold(0, |sum, &digit| Some(sum * 16 + char::from(digit).to_digit(16)?));
        self.at += 4;
        value.ok_or(Problem::BadEscape)
    }

    /// True or false.
    pub fn boolean(&mut self) -> Result<bool, Problem> {
        self.token()?;
        for (word, value) in [(&b"true"[..], true), (b"false", false)] {
            if self.word(word) {
                return Ok(value);
            }
        }
        Err(self.other_than(Problem::NoBoolean))
    }

    /// Take *word* if it comes next.
    #[inline]
    pub fn word(&mut self, word: &[u8]) -> bool {
        let found = self.rest().starts_with(word) && !self.rest().get(word.len()).is_some_and(u8::is_ascii_alphanumeric);
        if found {
            self.at += word.len();
        }
        found
    }

    /// What to say of a value that is not the *wanted* one.
    #[cold]
    pub fn other_than(&self, wanted: Problem) -> Problem {
        let rest = self.rest();
        let starts = |words: &[&str]| words.iter().any(|word| rest.starts_with(word.as_bytes()));
        if starts(&["null"]) {
            Problem::Null
        } else if starts(&["NaN", "nan", "Inf", "inf", "-Inf", "-inf"]) {
            Problem::NotFinite
        } else if rest.first().is_some_and(|byte| b"[{\"tf-0123456789".contains(byte)) {
            wanted
        } else {
            Problem::NoValue
        }
    }

    /// The number that comes next, as text; what it must look like is RFC 8259's.
    #[inline]
    pub fn number(&mut self) -> Result<&'a [u8], Problem> {
        self.token()?;
        let rest = self.rest();
        let len = number_len(rest).ok_or_else(|| self.other_than(Problem::NoNumber))?;
        self.at += len;
        Ok(&rest[..len])
    }

    /// Go past a value, whatever it is.
    pub fn skip_value(&mut self) -> Result<(), Problem> {
        let mut open = Open::default();
        loop {
            let opened = self.skip_begin(&mut open)?;
            if !opened && self.skip_end(&mut open)? {
                return Ok(());
            }
        }
    }

    /// Take a scalar or the opening of a container; true when a value must follow.
    fn skip_begin(&mut self, open: &mut Open) -> Result<bool, Problem> {
        let byte = self.token()?;
        match byte {
            b'{' | b'[' => {
                self.at += 1;
                open.push(byte == b'{')?;
                if self.token()? == byte + 2 {
                    return Ok(false);
                }
                if byte == b'{' {
                    self.skip_name()?;
                }
                return Ok(true);
            }
            b'"' => drop(self.string()?),
            b't' | b'f' => drop(self.boolean()?),
            b'n' if self.word(b"null") => {}
            _ => drop(self.number().map_err(|problem| if problem == Problem::NoNumber { Problem::BadNumber } else { problem })?),
        }
        Ok(false)
    }

    /// Close what ends here; true when nothing is open any more, false when another value must follow.
    fn skip_end(&mut self, open: &mut Open) -> Result<bool, Problem> {
        loop {
            let Some(is_object) = open.top() else { return Ok(true) };
            match (self.token()?, is_object) {
                (b',', _) => {
                    self.at += 1;
                    if is_object {
                        self.skip_name()?;
                    }
                    return Ok(false);
                }
                (b'}', true) | (b']', false) => {
                    self.at += 1;
                    open.depth -= 1;
                }
                (_, true) => return Err(Problem::NoCommaInObject),
                (_, false) => return Err(Problem::NoComma),
            }
        }
    }

    fn skip_name(&mut self) -> Result<(), Problem> {
        self.string()?;
        self.take(b':', Problem::NoColon)
    }
}

/// Kinds of the containers that are open, one bit each.
#[derive(Default)]
struct Open {
    objects: u64,
    depth: usize,
}

impl Open {
    fn push(&mut self, is_object: bool) -> Result<(), Problem> {
        if self.depth == MAX_DEPTH {
            return Err(Problem::TooDeep);
        }
        self.objects = self.objects & !(1 << self.depth) | u64::from(is_object) << self.depth;
        self.depth += 1;
        Ok(())
    }

    fn top(&self) -> Option<bool> {
        let last = self.depth.checked_sub(1)?;
        Some(self.objects >> last & 1 == 1)
    }
}

/// High bits of the bytes of *word* that are a quote, a backslash or a control character (exact up to the first).
#[inline]
fn stops(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let quote = zeros(word ^ (ONES * 0x22));
    let backslash = zeros(word ^ (ONES * 0x5C));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | backslash | control) & HIGHS
}

/// Length of the JSON number at the start of *text*.
#[inline]
fn number_len(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(text.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && text[at] == b'0') {
        return None;
    }
    at += whole;
    if text.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at);
        if exponent == 0 {
            return None;
        }
        at += exponent;
    }
    Some(at)
}
