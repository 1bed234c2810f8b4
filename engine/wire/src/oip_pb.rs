//! `ModelInferRequest` and `ModelInferResponse` on the hot path.
//!
//! Decoded by hand, so that names are borrowed and tensor bytes are slices of the message; the generated types are the
//! oracle of the tests. Field numbers: `protos/inference/grpc_service.proto`.

use std::borrow::Cow;

use bettong_frame::bind::Columns;
use bettong_frame::{DType, Error, ErrorKind, Result, Shape, Tensor, TensorSpec};
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use crate::contents::{Contents, read_contents};
use crate::pb::{Reader, field_len, put_bytes, put_head, put_len_head, put_varint, varint_len};

/// Value of a request parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Parameter<'a> {
    /// `bool_param`.
    Bool(bool),
    /// `int64_param`.
    Int(i64),
    /// `uint64_param`.
    Uint(u64),
    /// `double_param`.
    Double(f64),
    /// `string_param`.
    String(&'a str),
}

/// Request parameters, by name.
pub type Parameters<'a> = SmallVec<[(&'a str, Parameter<'a>); 2]>;

/// A decoded request; names are slices of the message.
#[derive(Debug, Default)]
pub struct InferRequest<'a> {
    /// Name of the model, which is a pipeline here.
    pub model_name: &'a str,
    /// Its version; empty for the one that serves.
    pub model_version: &'a str,
    /// To be echoed.
    pub id: &'a str,
    /// Of the request as a whole.
    pub parameters: Parameters<'a>,
    /// Inputs, whose bytes fit their shapes.
    pub columns: Columns<'a>,
    /// Names of the outputs that are wanted; empty for all.
    pub outputs: SmallVec<[&'a str; 4]>,
}

impl<'a> InferRequest<'a> {
    /// The parameter called *name*.
    pub fn parameter(&self, name: &str) -> Option<Parameter<'a>> {
        self.parameters.iter().find(|(known, _)| *known == name).map(|&(_, value)| value)
    }
}

/// An input before its bytes are known.
#[derive(Default)]
struct Input<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: Shape,
    contents: Option<Contents>,
}

/// Decode a `ModelInferRequest`.
pub fn decode(message: &Bytes) -> Result<InferRequest<'_>> {
    let mut request = InferRequest::default();
    let mut inputs: SmallVec<[Input<'_>; 2]> = SmallVec::new();
    let mut raw: SmallVec<[Bytes; 2]> = SmallVec::new();
    let mut reader = Reader::new(message);
    while let Some((field, wire)) = reader.tag()? {
        match (field, wire) {
            (1, 2) => request.model_name = reader.string("model_name")?,
            (2, 2) => request.model_version = reader.string("model_version")?,
            (3, 2) => request.id = reader.string("id")?,
            (4, 2) => request.parameters.push(read_parameter(reader.slice()?)?),
            (5, 2) => inputs.push(read_input(message, reader.slice()?)?),
            (6, 2) => request.outputs.push(read_output(reader.slice()?)?),
            (7, 2) => raw.push(message.slice_ref(reader.slice()?)),
            _ => reader.skip(wire)?,
        }
    }
    request.columns = columns(inputs, &raw)?;
    Ok(request)
}

fn columns<'a>(inputs: SmallVec<[Input<'a>; 2]>, raw: &[Bytes]) -> Result<Columns<'a>> {
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(Error::invalid_field(
            "raw_input_contents",
            format!("raw_input_contents has {} entries for {} inputs", raw.len(), inputs.len()),
        ));
    }
    let mut columns = Columns::new();
    for (at, input) in inputs.into_iter().enumerate() {
        let dtype = DType::from_name(input.datatype.as_bytes()).ok_or_else(|| unknown_datatype(&input))?;
        let data = match (raw.get(at), input.contents) {
            (Some(data), None) => data.clone(),
            (None, Some(contents)) => contents.into_bytes(input.name, dtype)?,
            (None, None) => Bytes::new(),
            (Some(_), Some(_)) => return Err(both_contents(input.name)),
        };
        columns.push((Cow::Borrowed(input.name), Tensor::new(input.name, dtype, input.shape, data)?));
    }
    Ok(columns)
}

#[cold]
fn unknown_datatype(input: &Input<'_>) -> Error {
    Error::invalid_field(
        input.name,
        format!("input '{}': datatype '{}' is not one of the protocol's", input.name, input.datatype),
    )
}

#[cold]
fn both_contents(name: &str) -> Error {
    Error::invalid_field(name, format!("input '{name}': contents must be empty when raw_input_contents is used"))
}

fn read_input<'a>(message: &Bytes, data: &'a [u8]) -> Result<Input<'a>> {
    let mut input = Input::default();
    let mut reader = Reader::new(data);
    while let Some((field, wire)) = reader.tag()? {
        match (field, wire) {
            (1, 2) => input.name = reader.string("inputs.name")?,
            (2, 2) => input.datatype = reader.string("inputs.datatype")?,
            (3, 2) => {
                let mut dims = Reader::new(reader.slice()?);
                while !dims.is_empty() {
                    input.shape.push(dims.varint()? as i64);
                }
            }
            (3, 0) => input.shape.push(reader.varint()? as i64),
            (4, 2) => refuse_shared_memory(input.name, read_parameter(reader.slice()?)?.0)?,
            (5, 2) => read_contents(message, reader.slice()?, input.contents.get_or_insert_default())?,
            _ => reader.skip(wire)?,
        }
    }
    Ok(input)
}

fn refuse_shared_memory(input: &str, parameter: &str) -> Result<()> {
    if !parameter.starts_with("shared_memory_") {
        return Ok(());
    }
    let message = format!("input '{input}': shared memory is not supported; send the data in the request");
    Err(Error { field: Some(parameter.into()), ..Error::new(ErrorKind::Unimplemented, message) })
}

fn read_output(data: &[u8]) -> Result<&str> {
    let mut name = "";
    let mut reader = Reader::new(data);
    while let Some((field, wire)) = reader.tag()? {
        match (field, wire) {
            (1, 2) => name = reader.string("outputs.name")?,
            (2, 2) => refuse_shared_memory(name, read_parameter(reader.slice()?)?.0)?,
            _ => reader.skip(wire)?,
        }
    }
    Ok(name)
}

/// One entry of a `map<string, InferParameter>`.
fn read_parameter(data: &[u8]) -> Result<(&str, Parameter<'_>)> {
    let (mut name, mut value) = ("", Parameter::Bool(false));
    let mut reader = Reader::new(data);
    while let Some((field, wire)) = reader.tag()? {
        match (field, wire) {
            (1, 2) => name = reader.string("parameters.key")?,
            (2, 2) => value = read_parameter_value(reader.slice()?)?,
            _ => reader.skip(wire)?,
        }
    }
    Ok((name, value))
}

fn read_parameter_value(data: &[u8]) -> Result<Parameter<'_>> {
    let mut value = Parameter::Bool(false);
    let mut reader = Reader::new(data);
    while let Some((field, wire)) = reader.tag()? {
        match (field, wire) {
            (1, 0) => value = Parameter::Bool(reader.varint()? != 0),
            (2, 0) => value = Parameter::Int(reader.varint()? as i64),
            (3, 2) => value = Parameter::String(reader.string("parameters.value")?),
            (4, 1) => value = Parameter::Double(f64::from_bits(reader.fixed64()?)),
            (5, 0) => value = Parameter::Uint(reader.varint()?),
            _ => reader.skip(wire)?,
        }
    }
    Ok(value)
}

/// What a response says besides its tensors.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// As the request named it.
    pub model_name: &'a str,
    /// The version that answered.
    pub model_version: &'a str,
    /// The request's.
    pub id: &'a str,
    /// Whether to add `triton_final_response: true`.
    pub final_response: bool,
}

/// `triton_final_response` → true, as an entry of the parameters map.
const FINAL_RESPONSE: &[u8] = b"\x0a\x15triton_final_response\x12\x02\x08\x01";

fn tensor_len(spec: &TensorSpec, tensor: &Tensor) -> usize {
    let shape: usize = tensor.shape.iter().map(|&dim| varint_len(dim as u64)).sum();
    field_len(spec.name.len()) + field_len(tensor.dtype.name().len()) + if shape == 0 { 0 } else { field_len(shape) }
}

fn body_len(head: &ResponseHead<'_>, outputs: &[(&TensorSpec, &Tensor)]) -> usize {
    let texts = [head.model_name, head.model_version, head.id];
    let texts: usize = texts.iter().filter(|text| !text.is_empty()).map(|text| field_len(text.len())).sum();
    let parameters = if head.final_response { field_len(FINAL_RESPONSE.len()) } else { 0 };
    let tensors: usize =
        outputs.iter().map(|(spec, tensor)| field_len(tensor_len(spec, tensor)) + field_len(tensor.data.len())).sum();
    texts + parameters + tensors
}

fn put_body(buffer: &mut BytesMut, head: &ResponseHead<'_>, outputs: &[(&TensorSpec, &Tensor)]) {
    for (field, text) in [(1, head.model_name), (2, head.model_version), (3, head.id)] {
        if !text.is_empty() {
            put_bytes(buffer, field, text.as_bytes());
        }
    }
    if head.final_response {
        put_bytes(buffer, 4, FINAL_RESPONSE);
    }
    for (spec, tensor) in outputs {
        put_len_head(buffer, 5, tensor_len(spec, tensor));
        put_bytes(buffer, 1, spec.name.as_bytes());
        put_bytes(buffer, 2, tensor.dtype.name().as_bytes());
        let shape: usize = tensor.shape.iter().map(|&dim| varint_len(dim as u64)).sum();
        if shape > 0 {
            put_len_head(buffer, 3, shape);
            for &dim in &tensor.shape {
                put_varint(buffer, dim as u64);
            }
        }
    }
    for (_, tensor) in outputs {
        put_bytes(buffer, 6, &tensor.data);
    }
}

/// Append a framed `ModelInferResponse` with raw contents.
pub fn encode_response(buffer: &mut BytesMut, head: &ResponseHead<'_>, outputs: &[(&TensorSpec, &Tensor)]) {
    let len = body_len(head, outputs);
    buffer.reserve(5 + len);
    crate::grpc::put_frame_head(buffer, len);
    put_body(buffer, head, outputs);
}

/// Append a framed `ModelStreamInferResponse` with an answer.
pub fn encode_stream_response(buffer: &mut BytesMut, head: &ResponseHead<'_>, outputs: &[(&TensorSpec, &Tensor)]) {
    let len = body_len(head, outputs);
    buffer.reserve(5 + field_len(len));
    crate::grpc::put_frame_head(buffer, field_len(len));
    put_len_head(buffer, 2, len);
    put_body(buffer, head, outputs);
}

/// Append a framed `ModelStreamInferResponse` with an error; the request's *id* goes along, so that clients can match it.
pub fn encode_stream_error(buffer: &mut BytesMut, id: &str, message: &str) {
    let response = if id.is_empty() { 0 } else { field_len(id.len()) };
    let len = field_len(message.len()) + field_len(response);
    buffer.reserve(5 + len);
    crate::grpc::put_frame_head(buffer, len);
    put_bytes(buffer, 1, message.as_bytes());
    put_head(buffer, 2, 2);
    put_varint(buffer, response as u64);
    if response > 0 {
        put_bytes(buffer, 3, id.as_bytes());
    }
}
