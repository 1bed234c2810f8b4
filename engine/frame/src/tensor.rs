//! Contiguous bytes with a dtype and a shape.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{DType, Error, Result};

/// Dimensions of a tensor, first the rows.
pub type Shape = SmallVec<[i64; 4]>;

/// A row-major, little-endian tensor. Its bytes are shared, never copied to be sliced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Element type.
    pub dtype: DType,
    /// Dimensions; none is negative.
    pub shape: Shape,
    /// Elements; for [`DType::Bytes`] each is a 4-byte length and the bytes.
    pub data: Bytes,
}

/// Product of *dims*; `None` when one is negative or the product does not fit.
#[inline]
pub fn element_count(dims: &[i64]) -> Option<usize> {
    let mut count: usize = 1;
    for &dim in dims {
        count = count.checked_mul(usize::try_from(dim).ok()?)?;
    }
    Some(count)
}

impl Tensor {
    /// A tensor whose *data* fits its *shape*.
    ///
    /// `name` is what errors call it.
    pub fn new(name: &str, dtype: DType, shape: Shape, data: Bytes) -> Result<Self> {
        check_bytes(name, dtype, &shape, &data)?;
        Ok(Self { dtype, shape, data })
    }

    /// First dimension; 1 for a scalar.
    #[inline]
    pub fn rows(&self) -> usize {
        self.shape.first().map_or(1, |&rows| rows as usize)
    }

    /// Elements of one row.
    #[inline]
    pub fn row_elements(&self) -> usize {
        self.shape.iter().skip(1).map(|&dim| dim as usize).product()
    }

    /// Rows `[start, start + count)` without a copy.
    ///
    /// Linear in the number of elements before the end for [`DType::Bytes`], constant for all others.
    #[must_use]
    pub fn slice_rows(&self, start: usize, count: usize) -> Self {
        let mut shape = self.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows = count as i64;
        }
        let per_row = self.row_elements();
        let (from, to) = if let Some(size) = self.dtype.size() {
            (start * per_row * size, (start + count) * per_row * size)
        } else {
            let from = bytes_offset(&self.data, 0, start * per_row);
            (from, bytes_offset(&self.data, from, count * per_row))
        };
        Self { dtype: self.dtype, shape, data: self.data.slice(from..to) }
    }
}

/// Offset after skipping *elements* length-prefixed strings from *from*. The data was checked when it was made.
fn bytes_offset(data: &[u8], from: usize, elements: usize) -> usize {
    let mut at = from;
    for _ in 0..elements {
        at += 4 + read_len(data, at);
    }
    at
}

fn read_len(data: &[u8], at: usize) -> usize {
    u32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]) as usize
}

/// Iterate over the elements of length-prefixed *data* that [`check_bytes`] accepted.
pub fn byte_elements(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= data.len() {
            return None;
        }
        let len = read_len(data, at);
        let element = &data[at + 4..at + 4 + len];
        at += 4 + len;
        Some(element)
    })
}

/// Append one element to length-prefixed *data*.
pub fn push_byte_element(data: &mut Vec<u8>, element: &[u8]) {
    data.extend_from_slice(&(element.len() as u32).to_le_bytes());
    data.extend_from_slice(element);
}

/// Refuse bytes that are not exactly the elements that *shape* promises.
#[inline]
pub fn check_bytes(name: &str, dtype: DType, shape: &[i64], data: &[u8]) -> Result<()> {
    let count = element_count(shape).ok_or_else(|| bad_shape(name, shape))?;
    let Some(size) = dtype.size() else {
        return check_byte_elements(name, count, data);
    };
    if count.checked_mul(size) == Some(data.len()) { Ok(()) } else { Err(wrong_size(name, dtype, shape, data.len())) }
}

fn check_byte_elements(name: &str, count: usize, data: &[u8]) -> Result<()> {
    let (mut at, mut seen) = (0_usize, 0_usize);
    while at < data.len() {
        let end = (data.len() - at >= 4).then(|| read_len(data, at)).and_then(|len| at.checked_add(4)?.checked_add(len));
        match end {
            Some(end) if end <= data.len() => at = end,
            _ => {
                return Err(Error::invalid_field(
                    name,
                    format!("input '{name}': BYTES element {seen} runs past the end of the data"),
                ));
            }
        }
        seen += 1;
    }
    if seen == count {
        return Ok(());
    }
    Err(Error::invalid_field(name, format!("input '{name}': the shape promises {count} BYTES elements, the data holds {seen}")))
}

#[cold]
fn bad_shape(name: &str, shape: &[i64]) -> Error {
    let what = if shape.iter().any(|&dim| dim < 0) { "a dimension is negative" } else { "its size does not fit in memory" };
    Error::invalid_field(name, format!("input '{name}': shape {shape:?} is not valid: {what}"))
}

#[cold]
fn wrong_size(name: &str, dtype: DType, shape: &[i64], found: usize) -> Error {
    let wanted = element_count(shape).and_then(|count| count.checked_mul(dtype.size()?));
    match wanted {
        Some(wanted) => {
            Error::invalid_field(name, format!("input '{name}': shape {shape:?} of {dtype} needs {wanted} bytes, got {found}"))
        }
        None => bad_shape(name, shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(elements: &[&str]) -> Bytes {
        let mut data = Vec::new();
        for element in elements {
            push_byte_element(&mut data, element.as_bytes());
        }
        data.into()
    }

    #[test]
    fn rows_are_sliced_without_a_copy() {
        let data = Bytes::from((0_u8..24).collect::<Vec<_>>());
        let tensor = Tensor::new("x", DType::Fp32, Shape::from_slice(&[3, 2]), data.clone()).unwrap();

        let middle = tensor.slice_rows(1, 1);

        assert_eq!(&[1, 2][..], &middle.shape[..]);
        assert_eq!(&data[8..16], &middle.data[..]);
        assert_eq!(data[8..].as_ptr(), middle.data.as_ptr());
    }

    #[test]
    fn byte_strings_are_sliced_by_row() {
        let tensor = Tensor::new("x", DType::Bytes, Shape::from_slice(&[3, 1]), strings(&["a", "", "ccc"])).unwrap();

        assert_eq!(strings(&["", "ccc"]), tensor.slice_rows(1, 2).data);
    }

    #[test]
    fn a_size_that_does_not_match_is_refused_with_both_figures() {
        let error = Tensor::new("x", DType::Fp32, Shape::from_slice(&[2, 3]), Bytes::from_static(&[0; 20])).unwrap_err();

        assert_eq!("input 'x': shape [2, 3] of FP32 needs 24 bytes, got 20", error.message);
        assert_eq!(Some("x"), error.field.as_deref());
    }

    #[test]
    fn overflowing_and_negative_shapes_are_refused() {
        for shape in [vec![i64::MAX, 8], vec![-1, 4], vec![1 << 31, 1 << 31, 1 << 31]] {
            assert!(Tensor::new("x", DType::Fp64, Shape::from_vec(shape), Bytes::new()).is_err());
        }
    }

    #[test]
    fn byte_strings_that_run_over_or_are_too_few_are_refused() {
        let cut = strings(&["abc"]).slice(0..5);
        assert!(check_bytes("x", DType::Bytes, &[1], &cut).unwrap_err().message.contains("element 0 runs past"));
        assert!(check_bytes("x", DType::Bytes, &[2], &strings(&["abc"])).unwrap_err().message.contains("promises 2"));
        assert!(check_bytes("x", DType::Bytes, &[1], &[255, 255, 255, 255]).is_err());
    }
}
