//! Dictionaries of numpy arrays straight into a program, without Arrow or copies of names in between.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use bettong_frame::bind::Columns;
use bettong_frame::{DType, Shape, Tensor, TensorSpec};
use bytes::Bytes;
use numpy::datetime::{Datetime, units::Milliseconds};
use numpy::{Element, PyArray1, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// The element type of a numpy array, if it is one of plain numbers in this machine's byte order.
fn dtype_of(array: &Bound<'_, PyUntypedArray>) -> Option<DType> {
    let descr = array.dtype();
    if descr.is_native_byteorder() == Some(false) {
        return None;
    }
    Some(match (descr.kind(), descr.itemsize()) {
        (b'f', 4) => DType::Fp32,
        (b'f', 8) => DType::Fp64,
        (b'f', 2) => DType::Fp16,
        (b'i', 1) => DType::Int8,
        (b'i', 2) => DType::Int16,
        (b'i', 4) => DType::Int32,
        (b'i', 8) => DType::Int64,
        (b'u', 1) => DType::Uint8,
        (b'u', 2) => DType::Uint16,
        (b'u', 4) => DType::Uint32,
        (b'u', 8) => DType::Uint64,
        (b'b', 1) => DType::Bool,
        _ => return None,
    })
}

/// The bytes of a contiguous array.
fn bytes_of(array: &Bound<'_, PyUntypedArray>, size: usize) -> Bytes {
    let len = array.len() * size;
    if len == 0 {
        return Bytes::new();
    }
    // SAFETY: the array is C-contiguous, so that its elements are `len` bytes from its first; the GIL is held.
    let data = unsafe { std::slice::from_raw_parts((*array.as_array_ptr()).fields.data.cast::<u8>(), len) };
    Bytes::copy_from_slice(data)
}

/// The columns of *given*; `None` when one is not a contiguous array of numbers.
pub fn columns(given: &Bound<'_, PyDict>) -> PyResult<Option<Columns<'static>>> {
    let mut columns = Columns::new();
    for (name, value) in given.iter() {
        let Ok(array) = value.cast::<PyUntypedArray>() else { return Ok(None) };
        let Some(dtype) = dtype_of(array) else { return Ok(None) };
        if array.ndim() == 0 || !array.is_c_contiguous() {
            return Ok(None);
        }
        let shape: Shape = array.shape().iter().map(|&dim| dim as i64).collect();
        let data = bytes_of(array, array.dtype().itemsize());
        columns.push((Cow::Owned(name.extract()?), Tensor { dtype, shape, data }));
    }
    Ok(Some(columns))
}

/// The columns of a reply: `time`, `in.*` as they were given, `out.*`, `anomaly.count`.
pub fn reply<'py>(given: &Bound<'py, PyDict>, specs: &[TensorSpec], outputs: &[Tensor]) -> PyResult<Option<Bound<'py, PyDict>>> {
    let py = given.py();
    let rows = outputs.first().map_or(0, Tensor::rows);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = Datetime::<Milliseconds>::from(now.as_millis() as i64);
    let reply = PyDict::new(py);
    reply.set_item(intern!(py, "time"), PyArray1::from_vec(py, vec![time; rows]))?;
    for (name, value) in given.iter() {
        reply.set_item(prefixed(py, "in.", name.cast::<PyString>()?.to_str()?), value)?;
    }
    for (spec, tensor) in specs.iter().zip(outputs) {
        let Some(array) = array(py, tensor) else { return Ok(None) };
        reply.set_item(prefixed(py, "out.", &spec.name), array)?;
    }
    reply.set_item(intern!(py, "anomaly.count"), PyArray1::<u32>::zeros(py, rows, false))?;
    Ok(Some(reply))
}

fn prefixed<'py>(py: Python<'py>, prefix: &str, name: &str) -> Bound<'py, PyString> {
    let mut text = String::with_capacity(prefix.len() + name.len());
    text.push_str(prefix);
    text.push_str(name);
    PyString::new(py, &text)
}

/// *tensor* as an array of its own; `None` for element types that numpy lacks.
fn array<'py>(py: Python<'py>, tensor: &Tensor) -> Option<Bound<'py, PyAny>> {
    Some(match tensor.dtype {
        DType::Fp32 => typed::<f32>(py, tensor),
        DType::Fp64 => typed::<f64>(py, tensor),
        DType::Int8 => typed::<i8>(py, tensor),
        DType::Int16 => typed::<i16>(py, tensor),
        DType::Int32 => typed::<i32>(py, tensor),
        DType::Int64 => typed::<i64>(py, tensor),
        DType::Uint8 => typed::<u8>(py, tensor),
        DType::Uint16 => typed::<u16>(py, tensor),
        DType::Uint32 => typed::<u32>(py, tensor),
        DType::Uint64 => typed::<u64>(py, tensor),
        DType::Bool => typed::<bool>(py, tensor),
        DType::Fp16 | DType::Bf16 | DType::Bytes => return None,
    })
}

fn typed<'py, T: Element>(py: Python<'py>, tensor: &Tensor) -> Bound<'py, PyAny> {
    let dims: smallvec::SmallVec<[usize; 4]> = tensor.shape.iter().map(|&dim| dim as usize).collect();
    // SAFETY: every element is written before anybody sees the array: its bytes are exactly those of the tensor, whose
    // values are valid for the type (booleans come out of a model as 0 or 1).
    unsafe {
        let array = PyArrayDyn::<T>::new(py, &dims[..], false);
        std::ptr::copy_nonoverlapping(tensor.data.as_ptr(), array.data().cast::<u8>(), tensor.data.len());
        array.into_any()
    }
}
