//! Nested arrays of values of one dtype, with the shape that their nesting has.

use bettong_frame::{DType, Error, Shape};
use smallvec::SmallVec;

use super::cursor::{Cursor, MAX_DEPTH, Problem};
use super::element::{Bf16, Bool, Element, Exact, Fp16, Fp32, Fp64, Integers, Rounded, Text};

/// What is wrong in an array, and where.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What it is.
    pub problem: Problem,
    /// Index within the outermost array, if that holds arrays.
    pub row: Option<usize>,
    /// Number of the value, over all arrays.
    pub element: usize,
    /// For [`Problem::Ragged`]: how many there are and how many were before.
    pub lengths: (usize, usize),
}

/// How many values are in each array of one level, from the outermost on.
pub type Nesting = SmallVec<[usize; 4]>;

/// How integers for floats are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// Rounded, as numbers of JSON are.
    Rounded,
    /// Refused if the float can't hold them.
    Exact,
}

/// Append the array at *cursor*, nested or not, to *out* as *dtype*.
pub fn read_array(dtype: DType, exactness: Exactness, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<Nesting, Fault> {
    match exactness {
        Exactness::Rounded => by_dtype::<Rounded>(dtype, cursor, out),
        Exactness::Exact => by_dtype::<Exact>(dtype, cursor, out),
    }
}

fn by_dtype<I: Integers>(dtype: DType, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<Nesting, Fault> {
    match dtype {
        DType::Bool => Reader::read::<Bool>(cursor, out),
        DType::Uint8 => Reader::read::<u8>(cursor, out),
        DType::Uint16 => Reader::read::<u16>(cursor, out),
        DType::Uint32 => Reader::read::<u32>(cursor, out),
        DType::Uint64 => Reader::read::<u64>(cursor, out),
        DType::Int8 => Reader::read::<i8>(cursor, out),
        DType::Int16 => Reader::read::<i16>(cursor, out),
        DType::Int32 => Reader::read::<i32>(cursor, out),
        DType::Int64 => Reader::read::<i64>(cursor, out),
        DType::Fp16 => Reader::read::<Fp16<I>>(cursor, out),
        DType::Bf16 => Reader::read::<Bf16<I>>(cursor, out),
        DType::Fp32 => Reader::read::<Fp32<I>>(cursor, out),
        DType::Fp64 => Reader::read::<Fp64<I>>(cursor, out),
        DType::Bytes => Reader::read::<Text>(cursor, out),
    }
}

/// Append the value at *cursor* to *out* as *dtype*. Integers must be exact.
pub fn read_scalar(dtype: DType, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    cursor.token()?;
    match dtype {
        DType::Bool => Bool::read(cursor, out),
        DType::Uint8 => u8::read(cursor, out),
        DType::Uint16 => u16::read(cursor, out),
        DType::Uint32 => u32::read(cursor, out),
        DType::Uint64 => u64::read(cursor, out),
        DType::Int8 => i8::read(cursor, out),
        DType::Int16 => i16::read(cursor, out),
        DType::Int32 => i32::read(cursor, out),
        DType::Int64 => i64::read(cursor, out),
        DType::Fp16 => Fp16::<Exact>::read(cursor, out),
        DType::Bf16 => Bf16::<Exact>::read(cursor, out),
        DType::Fp32 => Fp32::<Exact>::read(cursor, out),
        DType::Fp64 => Fp64::<Exact>::read(cursor, out),
        DType::Bytes => Text::read(cursor, out),
    }
}

/// Walks arrays within arrays without recursion.
#[derive(Default)]
struct Reader {
    /// Values seen in each array that is open.
    counts: SmallVec<[usize; 4]>,
    /// Length that the arrays of each level have; known once the first of them ended.
    lengths: SmallVec<[Option<usize>; 4]>,
    /// Level of the values, once one was seen.
    leaves: Option<usize>,
    elements: usize,
    ragged: (usize, usize),
}

impl Reader {
    fn read<E: Element>(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<Nesting, Fault> {
        let mut reader = Self::default();
        match reader.walk::<E>(cursor, out) {
            Ok(()) => Ok(reader.lengths.into_iter().map(Option::unwrap_or_default).collect()),
            Err(problem) => Err(reader.fault(problem)),
        }
    }

    #[cold]
    fn fault(&self, problem: Problem) -> Fault {
        let is_nested = self.counts.len() > 1 || self.lengths.len() > 1;
        let row = if is_nested { self.counts.first().copied() } else { None };
        Fault { problem, row, element: self.elements, lengths: self.ragged }
    }

    #[inline]
    fn walk<E: Element>(&mut self, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
        cursor.token()?;
        cursor.take(b'[', Problem::NoArray).map_err(|problem| cursor.other_than(problem))?;
        self.counts.push(0);
        self.lengths.push(None);
        loop {
            match cursor.token()? {
                b'[' => self.open(cursor)?,
                b']' => {
                    // An empty array, since values and arrays take the end that follows them.
                    if self.close(cursor)? {
                        return Ok(());
                    }
                }
                _ => {
                    self.run::<E>(cursor, out)?;
                    if self.close(cursor)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Take the opening of an inner array.
    #[inline]
    fn open(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Problem> {
        if self.leaves == Some(self.counts.len()) {
            return Err(Problem::Mixed);
        }
        if self.counts.len() == MAX_DEPTH {
            return Err(Problem::TooDeep);
        }
        cursor.advance(1);
        self.counts.push(0);
        if self.lengths.len() < self.counts.len() {
            self.lengths.push(None);
        }
        Ok(())
    }

    /// Read values up to the end of the array that they are in.
    #[inline]
    fn run<E: Element>(&mut self, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
        let level = self.counts.len();
        let has_arrays = self.lengths.len() > level || self.counts[level - 1] > 0;
        if has_arrays || self.leaves.is_some_and(|leaves| leaves != level) {
            return Err(Problem::Mixed);
        }
        self.leaves = Some(level);
        let (mut count, before) = (0, self.elements);
        loop {
            E::read(cursor, out)?;
            count += 1;
            self.elements = before + count;
            match cursor.token()? {
                b',' => {
                    cursor.advance(1);
                    cursor.token()?;
                }
                b']' => break,
                _ => return Err(Problem::NoComma),
            }
        }
        self.counts[level - 1] = count;
        Ok(())
    }

    /// Take the end of the innermost array and of those that end with it; true when nothing is open any more.
    #[inline]
    fn close(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, Problem> {
        loop {
            let level = self.counts.len() - 1;
            let count = self.counts[level];
            if *self.lengths[level].get_or_insert(count) != count {
                self.ragged = (count, self.lengths[level].unwrap_or_default());
                return Err(Problem::Ragged);
            }
            cursor.advance(1);
            self.counts.pop();
            let Some(outer) = self.counts.last_mut() else { return Ok(true) };
            *outer += 1;
            match cursor.token()? {
                b',' => {
                    cursor.advance(1);
                    return if cursor.token()? == b']' { Err(Problem::NoValue) } else { Ok(false) };
                }
                b']' => {}
                _ => return Err(Problem::NoComma),
            }
        }
    }
}

/// The shape that *nesting* is of, if it is that of *shape*: the same levels, or one flat list of all elements.
pub fn check_nesting(name: &str, shape: &Shape, nesting: &Nesting) -> Result<(), Error> {
    let wanted = bettong_frame::tensor::element_count(shape);
    if let [count] = nesting[..]
        && wanted == Some(count)
    {
        return Ok(());
    }
    let same = nesting.len() == shape.len() && nesting.iter().zip(shape).all(|(&found, &dim)| usize::try_from(dim) == Ok(found));
    if same { Ok(()) } else { Err(other_shape(name, shape, nesting)) }
}

#[cold]
fn other_shape(name: &str, shape: &Shape, nesting: &Nesting) -> Error {
    let wanted = bettong_frame::tensor::element_count(shape);
    let message = match (&nesting[..], wanted) {
        ([count], Some(wanted)) => format!("input '{name}': shape {shape:?} promises {wanted} elements, the data holds {count}"),
        (nesting, Some(_)) => {
            format!("input '{name}': shape {shape:?} does not agree with the data, which is nested as {nesting:?}")
        }
        (_, None) => format!("input '{name}': shape {shape:?} is not valid"),
    };
    Error::invalid_field(name, message)
}

impl Fault {
    /// For people; *cursor* is where it was found, *dtype* what was wanted.
    #[cold]
    pub fn describe(&self, cursor: &mut Cursor<'_>, dtype: DType) -> String {
        match self.problem {
            Problem::Ragged => format!("it has {} values, others have {}", self.lengths.0, self.lengths.1),
            problem => problem.describe(cursor, dtype),
        }
    }
}

impl Problem {
    /// For people; *cursor* is at the value, *dtype* what was wanted.
    #[cold]
    pub fn describe(self, cursor: &mut Cursor<'_>, dtype: DType) -> String {
        match self {
            Self::NotWhole | Self::OutOfRange | Self::Inexact => {
                let number = cursor.number().map_or_else(|_| "the number".into(), String::from_utf8_lossy);
                let shown: String = number.chars().take(40).collect();
                format!("{shown} can't be given as {dtype}: {}", self.text())
            }
            Self::NoNumber | Self::NoBoolean | Self::NoString => format!("{} for {dtype}", self.text()),
            _ => self.text().to_owned(),
        }
    }
}
