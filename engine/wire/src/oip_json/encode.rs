//! Infer responses.

use std::borrow::Cow;

use bettong_frame::{DType, Error, Result, Tensor, TensorSpec};
use bytes::Bytes;
use smallvec::SmallVec;

use super::decode::OipRequest;
use super::parameters::{Parameter, put_parameters};
use crate::json::write::{put_elements, put_integer, put_string};

/// What a response says besides its tensors.
#[derive(Clone, Copy, Debug)]
pub struct ReplyHead<'a> {
    /// As the request named it.
    pub model_name: &'a str,
    /// The version that answered.
    pub model_version: &'a str,
    /// The request's, if it had one.
    pub id: Option<&'a str>,
    /// To be echoed.
    pub parameters: &'a [(Cow<'a, str>, Parameter<'a>)],
}

/// An output that is wanted, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its place in the signature.
    pub at: u16,
    /// As bytes after the JSON, not as JSON.
    pub binary: bool,
}

/// The outputs that *request* wants of those that there are, in its order; all of them if it names none.
pub fn wanted_outputs(request: &OipRequest<'_>, specs: &[TensorSpec]) -> Result<SmallVec<[Wanted; 4]>> {
    let whole = request.binary_data_output;
    let all = || specs.iter().enumerate().map(|(at, spec)| want(spec, at, whole)).collect();
    if request.outputs.is_empty() {
        return all();
    }
    let find = |name: &str| specs.iter().position(|spec| *spec.name == *name).ok_or_else(|| unknown(name, specs));
    let outputs = request.outputs.iter();
    outputs.map(|output| find(&output.name).and_then(|at| want(&specs[at], at, output.binary.unwrap_or(whole)))).collect()
}

fn want(spec: &TensorSpec, at: usize, binary: bool) -> Result<Wanted> {
    if !binary && matches!(spec.dtype, DType::Fp16 | DType::Bf16) {
        let (name, dtype) = (&spec.name, spec.dtype);
        return Err(Error::invalid_field(
            name,
            format!("output '{name}' is {dtype}, which JSON can't hold; ask for binary_data"),
        ));
    }
    Ok(Wanted { at: at as u16, binary })
}

#[cold]
fn unknown(name: &str, specs: &[TensorSpec]) -> Error {
    let known: Vec<&str> = specs.iter().map(|spec| spec.name.as_ref()).collect();
    Error::invalid_field(name, format!("output '{name}' is not one of this pipeline's outputs: {known:?}"))
}

/// A response body; with the length of its JSON if binary tensors follow that.
pub fn encode(
    head: &ReplyHead<'_>,
    specs: &[TensorSpec],
    tensors: &[Tensor],
    wanted: &[Wanted],
) -> Result<(Bytes, Option<usize>)> {
    let mut out = Vec::with_capacity(capacity(head, specs, tensors, wanted));
    put_head(&mut out, head);
    out.extend_from_slice(b"\"outputs\":[");
    for (at, wanted) in wanted.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        put_output(&mut out, &specs[wanted.at as usize], &tensors[wanted.at as usize], wanted.binary)?;
    }
    out.extend_from_slice(b"]}");
    if !wanted.iter().any(|wanted| wanted.binary) {
        return Ok((out.into(), None));
    }
    let json_len = out.len();
    for wanted in wanted.iter().filter(|wanted| wanted.binary) {
        out.extend_from_slice(&tensors[wanted.at as usize].data);
    }
    Ok((out.into(), Some(json_len)))
}

/// A guess that is nearly always enough.
fn capacity(head: &ReplyHead<'_>, specs: &[TensorSpec], tensors: &[Tensor], wanted: &[Wanted]) -> usize {
    let texts = head.model_name.len() + head.model_version.len() + head.id.map_or(0, str::len);
    let outputs = wanted.iter().map(|wanted| {
        let (spec, tensor) = (&specs[wanted.at as usize], &tensors[wanted.at as usize]);
        let text = if wanted.binary { 1 } else { 3 };
        spec.name.len() + 112 + tensor.data.len() * text
    });
    96 + texts + 64 * head.parameters.len() + outputs.sum::<usize>()
}

#[inline]
fn put_head(out: &mut Vec<u8>, head: &ReplyHead<'_>) {
    out.extend_from_slice(b"{\"model_name\":");
    put_string(out, head.model_name);
    out.extend_from_slice(b",\"model_version\":");
    put_string(out, head.model_version);
    out.push(b',');
    if let Some(id) = head.id {
        out.extend_from_slice(b"\"id\":");
        put_string(out, id);
        out.push(b',');
    }
    if !head.parameters.is_empty() {
        out.extend_from_slice(b"\"parameters\":{");
        put_parameters(out, head.parameters);
        out.extend_from_slice(b"},");
    }
}

#[inline]
fn put_output(out: &mut Vec<u8>, spec: &TensorSpec, tensor: &Tensor, binary: bool) -> Result<()> {
    out.extend_from_slice(b"{\"name\":");
    put_string(out, &spec.name);
    out.extend_from_slice(b",\"datatype\":\"");
    out.extend_from_slice(tensor.dtype.name().as_bytes());
    out.extend_from_slice(b"\",\"shape\":[");
    for (at, &dim) in tensor.shape.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        put_integer(out, dim);
    }
    if binary {
        out.extend_from_slice(b"],\"parameters\":{\"binary_data_size\":");
        put_integer(out, tensor.data.len());
        out.extend_from_slice(b"}}");
    } else {
        out.extend_from_slice(b"],\"data\":[");
        put_elements(out, &spec.name, tensor.dtype, &tensor.data)?;
        out.extend_from_slice(b"]}");
    }
    Ok(())
}
