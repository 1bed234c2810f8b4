//! One run: borrowed inputs in, owned outputs out.

use std::ffi::c_char;
use std::ptr::{null, null_mut};
use std::sync::Arc;

use bettong_frame::tensor::{byte_elements, element_count, push_byte_element};
use bettong_frame::{DType, Error, Result, Shape, Tensor};
use bytes::Bytes;
use ort_sys as sys;
use smallvec::SmallVec;

use super::OnnxRuntime;
use super::session::{OnnxModel, element};
use crate::View;

/// Outputs of at least this many bytes stay where the runtime put them; smaller ones are cheaper to copy than to track.
const KEEP_BYTES: usize = 16 * 1024;

/// A value of the runtime, freed when it is dropped.
struct Value {
    pointer: *mut sys::OrtValue,
    runtime: Arc<OnnxRuntime>,
}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: the value is ours; freeing null does nothing.
        unsafe { (self.runtime.api.ReleaseValue)(self.pointer) }
    }
}

/// A large output, read in place.
struct Kept {
    data: *const u8,
    len: usize,
    _value: Value,
}

// SAFETY: the memory belongs to the value, which this owns and nobody writes to.
unsafe impl Send for Kept {}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the runtime gave this pointer and length for the value that lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

fn failed(message: impl std::fmt::Display) -> Error {
    Error::internal(format!("the model failed: {message}"))
}

impl OnnxModel {
    pub(super) fn run_session(&self, inputs: &[View<'_>]) -> Result<SmallVec<[Tensor; 2]>> {
        let mut values: SmallVec<[Value; 4]> = SmallVec::new();
        for view in inputs {
            values.push(if view.dtype == DType::Bytes { self.strings(view)? } else { self.borrowed(view)? });
        }
        let given: SmallVec<[*const sys::OrtValue; 4]> = values.iter().map(|value| value.pointer.cast_const()).collect();
        let mut outputs: SmallVec<[*mut sys::OrtValue; 4]> = smallvec::smallvec![null_mut(); self.output_names.pointers.len()];
        // SAFETY: names and values have the lengths given; inputs outlive the call; outputs are taken over below.
        let status = unsafe {
            (self.runtime.api.Run)(
                self.session,
                null(),
                self.input_names.pointers.as_ptr(),
                given.as_ptr(),
                given.len(),
                self.output_names.pointers.as_ptr(),
                outputs.len(),
                outputs.as_mut_ptr(),
            )
        };
        let outputs: SmallVec<[Value; 4]> = outputs.into_iter().map(|pointer| self.own(pointer)).collect();
        self.runtime.check(status).map_err(failed)?;
        outputs.into_iter().map(|value| self.read(value)).collect()
    }

    fn own(&self, pointer: *mut sys::OrtValue) -> Value {
        Value { pointer, runtime: self.runtime.clone() }
    }

    /// A tensor over the caller's memory.
    #[inline]
    fn borrowed(&self, view: &View<'_>) -> Result<Value> {
        let mut pointer = null_mut();
        // SAFETY: the runtime only reads inputs; the memory outlives the run, which ends before the caller's borrow.
        let status = unsafe {
            (self.runtime.api.CreateTensorWithDataAsOrtValue)(
                self.runtime.cpu,
                view.data.as_ptr().cast_mut().cast(),
                view.data.len(),
                view.shape.as_ptr(),
                view.shape.len(),
                element(view.dtype),
                &raw mut pointer,
            )
        };
        self.runtime.check(status).map_err(failed)?;
        Ok(self.own(pointer))
    }

    /// A string tensor with a copy of each element.
    fn strings(&self, view: &View<'_>) -> Result<Value> {
        let api = self.runtime.api;
        let mut pointer = null_mut();
        // SAFETY: shape and out-pointer are valid.
        let status = unsafe {
            let (allocator, shape) = (self.runtime.allocator, view.shape);
            (api.CreateTensorAsOrtValue)(allocator, shape.as_ptr(), shape.len(), element(DType::Bytes), &raw mut pointer)
        };
        self.runtime.check(status).map_err(failed)?;
        let value = self.own(pointer);
        for (index, bytes) in byte_elements(view.data).enumerate() {
            let mut buffer: *mut c_char = null_mut();
            // SAFETY: the view has as many elements as its shape says; the buffer holds the length asked for.
            unsafe {
                let status = (api.GetResizedStringTensorElementBuffer)(pointer, index, bytes.len(), &raw mut buffer);
                self.runtime.check(status).map_err(failed)?;
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.cast(), bytes.len());
            }
        }
        Ok(value)
    }

    fn read(&self, value: Value) -> Result<Tensor> {
        let api = self.runtime.api;
        let mut kind = sys::ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
        let (mut dims, mut rank) = (null(), 0);
        // SAFETY: the value is an output tensor; the dimensions are a part of it.
        let shape = unsafe {
            let status =
                (api.GetTensorElementTypeAndShapeDataReference)(value.pointer, &raw mut kind, &raw mut dims, &raw mut rank);
            self.runtime.check(status).map_err(failed)?;
            if rank == 0 { Shape::new() } else { Shape::from_slice(std::slice::from_raw_parts(dims, rank)) }
        };
        let dtype = super::session::dtype(kind).ok_or_else(|| failed(format!("an output has element type {kind:?}")))?;
        let count = element_count(&shape).ok_or_else(|| failed(format!("an output has shape {shape:?}")))?;
        let data = match dtype.size() {
            Some(size) => self.fixed_size_data(value, count * size)?,
            None => self.string_data(&value, count)?,
        };
        Ok(Tensor { dtype, shape, data })
    }

    fn fixed_size_data(&self, value: Value, len: usize) -> Result<Bytes> {
        if len == 0 {
            return Ok(Bytes::new());
        }
        let mut data = null_mut();
        // SAFETY: the value is a tensor of fixed-size elements.
        let status = unsafe { (self.runtime.api.GetTensorMutableData)(value.pointer, &raw mut data) };
        self.runtime.check(status).map_err(failed)?;
        let kept = Kept { data: data.cast_const().cast(), len, _value: value };
        Ok(if len < KEEP_BYTES { Bytes::copy_from_slice(kept.as_ref()) } else { Bytes::from_owner(kept) })
    }

    fn string_data(&self, value: &Value, count: usize) -> Result<Bytes> {
        let api = self.runtime.api;
        let mut total = 0;
        let mut offsets = vec![0_usize; count];
        // SAFETY: the buffers have the lengths that the runtime asks for.
        let text = unsafe {
            self.runtime.check((api.GetStringTensorDataLength)(value.pointer, &raw mut total)).map_err(failed)?;
            let mut text = vec![0_u8; total];
            let (into, starts) = (text.as_mut_ptr().cast(), offsets.as_mut_ptr());
            let status = (api.GetStringTensorContent)(value.pointer, into, total, starts, count);
            self.runtime.check(status).map_err(failed)?;
            text
        };
        let mut data = Vec::with_capacity(total + 4 * count);
        for (index, &start) in offsets.iter().enumerate() {
            let end = offsets.get(index + 1).copied().unwrap_or(total);
            push_byte_element(&mut data, &text[start..end]);
        }
        Ok(data.into())
    }
}
