//! Infer requests.

use std::borrow::Cow;
use std::time::Duration;

use bettong_frame::tensor::element_count;
use bettong_frame::{Columns, DType, Error, Result, Shape, Tensor};
use bytes::Bytes;
use smallvec::SmallVec;

use super::parameters::{Parameter, Parameters, find, flag, read_parameters, refuse_unsupported};
use crate::json::array::{Exactness, Fault, Nesting, check_nesting, read_array};
use crate::json::cursor::{Cursor, Problem};

/// An output that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedOutput<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Whether as binary data; the request's own parameter decides when it is not said.
    pub binary: Option<bool>,
}

/// A decoded request; its text is borrowed from the body, its binary tensors are slices of it.
#[derive(Debug, Default)]
pub struct OipRequest<'a> {
    /// To be echoed.
    pub id: Option<Cow<'a, str>>,
    /// Of the request as a whole.
    pub parameters: Parameters<'a>,
    /// Inputs, whose bytes fit their shapes.
    pub columns: Columns<'a>,
    /// The outputs that are wanted; empty for all.
    pub outputs: SmallVec<[RequestedOutput<'a>; 4]>,
    /// Whether outputs are to be binary unless they say otherwise.
    pub binary_data_output: bool,
}

impl OipRequest<'_> {
    /// What `timeout`, in microseconds, grants; zero grants everything.
    pub fn timeout(&self) -> Result<Option<Duration>> {
        match find(&self.parameters, "timeout") {
            None | Some(Parameter::Int(0)) => Ok(None),
            Some(&Parameter::Int(micros)) if micros > 0 => Ok(Some(Duration::from_micros(micros as u64))),
            Some(&Parameter::Uint(micros)) => Ok(Some(Duration::from_micros(micros))),
            Some(_) => Err(Error::invalid_field("timeout", "parameter 'timeout' must be a positive number of microseconds")),
        }
    }
}

/// What an input says, before its bytes are known.
#[derive(Default)]
struct Input<'a> {
    name: Option<Cow<'a, str>>,
    dtype: Option<DType>,
    shape: Option<Shape>,
    binary_size: Option<usize>,
    data: Data,
}

/// Where the values of an input are.
#[derive(Default)]
enum Data {
    #[default]
    None,
    /// Still in the text, from this offset on: the datatype came later.
    At(usize),
    /// Read.
    Read(Vec<u8>, Nesting),
}

/// Decode the body of an infer request.
///
/// `json_len` is the value of the header `Inference-Header-Content-Length`, if it was sent: what follows is binary.
pub fn decode(body: &Bytes, json_len: Option<usize>) -> Result<OipRequest<'_>> {
    let json = body.get(..json_len.unwrap_or(body.len())).ok_or_else(|| header_too_large(body.len()))?;
    let mut cursor = Cursor::new(json);
    let mut request = OipRequest::default();
    let mut inputs: SmallVec<[Input<'_>; 2]> = SmallVec::new();
    read_request(&mut cursor, &mut request, &mut inputs)?;
    cursor.end().map_err(|problem| syntax(&cursor, problem))?;
    let mut binary = body.slice(json.len()..);
    for (at, input) in inputs.into_iter().enumerate() {
        request.columns.push(column(&mut cursor, input, at, &mut binary)?);
    }
    if !binary.is_empty() {
        return Err(Error::invalid(format!("{} bytes after the JSON belong to no input (binary_data_size)", binary.len())));
    }
    request.binary_data_output = flag(&request.parameters, "binary_data_output")?.unwrap_or(false);
    Ok(request)
}

/// Refuse a member that was there before.
macro_rules! once {
    ($slot:expr, $name:literal, $value:expr) => {{
        if $slot.is_some() {
            return Err(twice($name));
        }
        $slot = Some($value);
    }};
}

fn read_request<'a>(cursor: &mut Cursor<'a>, request: &mut OipRequest<'a>, inputs: &mut SmallVec<[Input<'a>; 2]>) -> Result<()> {
    let (mut first, mut seen) = (true, (None, None, None));
    cursor.take(b'{', Problem::NoObject).map_err(|problem| syntax(cursor, problem))?;
    while let Some(name) = cursor.member(&mut first).map_err(|problem| syntax(cursor, problem))? {
        match &*name {
            "id" => once!(request.id, "id", text(cursor, "id")?),
            "parameters" => {
                once!(seen.0, "parameters", ());
                request.parameters = read_parameters(cursor).map_err(|problem| misplaced(cursor, "parameters", problem))?;
            }
            "inputs" => {
                once!(seen.1, "inputs", ());
                each(cursor, "inputs", |cursor, at| read_input(cursor, at).map(|input| inputs.push(input)))?;
            }
            "outputs" => {
                once!(seen.2, "outputs", ());
                each(cursor, "outputs", |cursor, at| read_output(cursor, at).map(|output| request.outputs.push(output)))?;
            }
            _ => cursor.skip_value().map_err(|problem| syntax(cursor, problem))?,
        }
    }
    if seen.1.is_none() {
        return Err(Error::invalid_field("inputs", "'inputs' is missing"));
    }
    Ok(())
}

/// Call *read* for each element of the array at *cursor*.
#[inline]
fn each<'a>(cursor: &mut Cursor<'a>, of: &'static str, mut read: impl FnMut(&mut Cursor<'a>, usize) -> Result<()>) -> Result<()> {
    cursor.take(b'[', Problem::NoArray).map_err(|problem| misplaced(cursor, of, problem))?;
    let (mut first, mut at) = (true, 0);
    while cursor.element(&mut first).map_err(|problem| syntax(cursor, problem))? {
        read(cursor, at)?;
        at += 1;
    }
    Ok(())
}

fn read_input<'a>(cursor: &mut Cursor<'a>, at: usize) -> Result<Input<'a>> {
    let mut input = Input::default();
    let mut first = true;
    cursor.take(b'{', Problem::NoObject).map_err(|problem| misplaced(cursor, "inputs", problem))?;
    while let Some(member) = cursor.member(&mut first).map_err(|problem| syntax(cursor, problem))? {
        match &*member {
            "name" => once!(input.name, "name", text(cursor, "name")?),
            "datatype" => once!(input.dtype, "datatype", read_datatype(cursor, &input, at)?),
            "shape" => once!(input.shape, "shape", read_shape(cursor, &input, at)?),
            "parameters" => input.binary_size = read_binary_size(cursor, &input, at)?,
            "data" if matches!(input.data, Data::None) => input.data = read_data(cursor, &input, at)?,
            "data" => return Err(twice("data")),
            _ => cursor.skip_value().map_err(|problem| syntax(cursor, problem))?,
        }
    }
    Ok(input)
}

/// What errors call an input.
fn called(input: &Input<'_>, at: usize) -> String {
    input.name.as_deref().map_or_else(|| format!("inputs[{at}]"), str::to_owned)
}

fn read_datatype(cursor: &mut Cursor<'_>, input: &Input<'_>, at: usize) -> Result<DType> {
    let datatype = text(cursor, "datatype")?;
    DType::from_name(datatype.as_bytes()).ok_or_else(|| {
        let name = called(input, at);
        Error::invalid_field(&name, format!("input '{name}': datatype '{datatype}' is not one of the protocol's"))
    })
}

fn read_shape(cursor: &mut Cursor<'_>, input: &Input<'_>, at: usize) -> Result<Shape> {
    let bad = |cursor: &Cursor<'_>, problem: Problem| {
        let name = called(input, at);
        let what = if problem.is_value() { "each dimension must be a whole number from 0 on" } else { problem.text() };
        Error::invalid_field(&name, format!("input '{name}': the shape is not valid: {what} (byte {})", cursor.at()))
    };
    let mut shape = Shape::new();
    cursor.take(b'[', Problem::NoArray).map_err(|problem| bad(cursor, problem))?;
    let mut first = true;
    while cursor.element(&mut first).map_err(|problem| bad(cursor, problem))? {
        let digits = cursor.number().map_err(|problem| bad(cursor, problem))?;
        let dim = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<i64>().ok());
        shape.push(dim.filter(|&dim| dim >= 0).ok_or_else(|| bad(cursor, Problem::OutOfRange))?);
    }
    Ok(shape)
}

fn read_binary_size(cursor: &mut Cursor<'_>, input: &Input<'_>, at: usize) -> Result<Option<usize>> {
    let parameters = read_parameters(cursor).map_err(|problem| misplaced(cursor, "inputs.parameters", problem))?;
    refuse_unsupported(|| called(input, at), &parameters)?;
    match find(&parameters, "binary_data_size") {
        None => Ok(None),
        Some(&Parameter::Int(size)) if size >= 0 => Ok(Some(size as usize)),
        Some(_) => {
            let name = called(input, at);
            Err(Error::invalid_field(&name, format!("input '{name}': binary_data_size must be a whole number from 0 on")))
        }
    }
}

/// Read the values now if their type is known, else note where they are.
#[inline]
fn read_data(cursor: &mut Cursor<'_>, input: &Input<'_>, at: usize) -> Result<Data> {
    if let Some(dtype) = input.dtype {
        return parse_data(cursor, input, at, dtype);
    }
    let data = Data::At(cursor.at());
    cursor.skip_value().map_err(|problem| syntax(cursor, problem))?;
    Ok(data)
}

#[inline]
fn parse_data(cursor: &mut Cursor<'_>, input: &Input<'_>, at: usize, dtype: DType) -> Result<Data> {
    if matches!(dtype, DType::Fp16 | DType::Bf16) {
        let name = called(input, at);
        return Err(Error::invalid_field(
            &name,
            format!("input '{name}': {dtype} can only be sent as binary data (binary_data_size)"),
        ));
    }
    // Two bytes of text are the least for an element, whatever the shape claims.
    let most = cursor.rest().len() / 2 + 1;
    let count = input.shape.as_ref().and_then(|shape| element_count(shape)).unwrap_or(16).min(most);
    let mut data = Vec::with_capacity(count * dtype.size().unwrap_or(8));
    let nesting = read_array(dtype, Exactness::Rounded, cursor, &mut data);
    match nesting {
        Ok(nesting) => Ok(Data::Read(data, nesting)),
        Err(fault) => Err(bad_data(cursor, input, at, dtype, fault)),
    }
}

fn read_output<'a>(cursor: &mut Cursor<'a>, at: usize) -> Result<RequestedOutput<'a>> {
    let (mut name, mut parameters, mut first) = (None, Parameters::new(), true);
    cursor.take(b'{', Problem::NoObject).map_err(|problem| misplaced(cursor, "outputs", problem))?;
    while let Some(member) = cursor.member(&mut first).map_err(|problem| syntax(cursor, problem))? {
        match &*member {
            "name" => once!(name, "name", text(cursor, "name")?),
            "parameters" => {
                parameters = read_parameters(cursor).map_err(|problem| misplaced(cursor, "outputs.parameters", problem))?;
            }
            _ => cursor.skip_value().map_err(|problem| syntax(cursor, problem))?,
        }
    }
    let name = name.ok_or_else(|| Error::invalid_field("outputs", format!("outputs[{at}]: 'name' is missing")))?;
    refuse_unsupported(|| name.to_string(), &parameters)?;
    let binary = flag(&parameters, "binary_data")?;
    Ok(RequestedOutput { name, binary })
}

/// The input as a column; takes its bytes from *binary* if they are there.
fn column<'a>(cursor: &mut Cursor<'a>, mut input: Input<'a>, at: usize, binary: &mut Bytes) -> Result<(Cow<'a, str>, Tensor)> {
    let dtype = input.dtype.ok_or_else(|| missing(&input, at, "datatype"))?;
    if let Data::At(offset) = input.data {
        cursor.go_to(offset);
        input.data = parse_data(cursor, &input, at, dtype)?;
    }
    let shape = input.shape.take().ok_or_else(|| missing(&input, at, "shape"))?;
    let data = std::mem::take(&mut input.data);
    let name = input.name.take().ok_or_else(|| missing(&input, at, "name"))?;
    let bytes = match (data, input.binary_size) {
        (Data::Read(data, nesting), None) => {
            check_nesting(&name, &shape, &nesting)?;
            return Ok((name, Tensor { dtype, shape, data: data.into() }));
        }
        (Data::None, Some(size)) if size <= binary.len() => binary.split_to(size),
        (Data::None, Some(size)) => return Err(too_few_bytes(&name, size, binary.len())),
        (Data::None, None) => {
            return Err(Error::invalid_field(&name, format!("input '{name}' has neither data nor binary_data_size")));
        }
        (_, Some(_)) => return Err(Error::invalid_field(&name, format!("input '{name}' has both data and binary_data_size"))),
        (Data::At(_), None) => return Err(Error::internal("an input's data was left unread")),
    };
    let tensor = Tensor::new(&name, dtype, shape, bytes)?;
    Ok((name, tensor))
}

#[inline]
fn text<'a>(cursor: &mut Cursor<'a>, member: &'static str) -> Result<Cow<'a, str>> {
    cursor.string().map_err(|problem| misplaced(cursor, member, problem))
}

#[cold]
fn syntax(cursor: &Cursor<'_>, problem: Problem) -> Error {
    Error::invalid(format!("the JSON is not valid at byte {}: {}", cursor.at(), problem.text()))
}

/// The wrong kind of value for a member.
#[cold]
fn misplaced(cursor: &Cursor<'_>, member: &str, problem: Problem) -> Error {
    Error::invalid_field(member, format!("'{member}' is not valid at byte {}: {}", cursor.at(), problem.text()))
}

#[cold]
fn twice(member: &'static str) -> Error {
    Error::invalid_field(member, format!("'{member}' is given twice"))
}

#[cold]
fn missing(input: &Input<'_>, at: usize, member: &str) -> Error {
    let name = called(input, at);
    Error::invalid_field(&name, format!("input '{name}': '{member}' is missing"))
}

#[cold]
fn header_too_large(body: usize) -> Error {
    let header = "Inference-Header-Content-Length";
    Error::invalid_field(header, format!("{header} is larger than the body of {body} bytes"))
}

#[cold]
fn too_few_bytes(name: &str, wanted: usize, left: usize) -> Error {
    let hint = "the JSON's length must be in the header Inference-Header-Content-Length";
    Error::invalid_field(
        name,
        format!("input '{name}': binary_data_size is {wanted}, {left} bytes are left after the JSON; {hint}"),
    )
}

#[cold]
fn bad_data(cursor: &mut Cursor<'_>, input: &Input<'_>, at: usize, dtype: DType, fault: Fault) -> Error {
    let name = called(input, at);
    if !fault.problem.is_value() {
        return Error::invalid_field(
            &name,
            format!("input '{name}': the JSON is not valid at byte {}: {}", cursor.at(), fault.problem.text()),
        );
    }
    let place = fault.row.map_or_else(|| format!("element {}", fault.element), |row| format!("row {row}"));
    let what = fault.describe(cursor, dtype);
    Error::invalid_field(&name, format!("input '{name}', {place}: {what}"))
}
