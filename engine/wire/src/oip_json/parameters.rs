//! Parameters of requests, inputs and outputs.

use std::borrow::Cow;

use bettong_frame::{Error, ErrorKind};
use smallvec::SmallVec;

use crate::json::cursor::{Cursor, Problem};
use crate::json::write::{put_bool, put_double, put_integer, put_string};

/// Value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter<'a> {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that `Int` can't hold.
    Uint(u64),
    /// Any other number.
    Double(f64),
    /// Text.
    String(Cow<'a, str>),
}

/// Parameters by name.
pub type Parameters<'a> = SmallVec<[(Cow<'a, str>, Parameter<'a>); 2]>;

/// Whether *name* means something to the server, so that it is not echoed.
pub fn is_reserved(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "sequence_id",
        "sequence_start",
        "sequence_end",
        "priority",
        "timeout",
        "headers",
        "binary_data_output",
        "binary_data_size",
    ];
    NAMES.contains(&name) || name.starts_with("triton_")
}

/// Read an object of parameters. Those that are null, objects or arrays have no meaning here and are left out.
pub fn read_parameters<'a>(cursor: &mut Cursor<'a>) -> Result<Parameters<'a>, Problem> {
    let mut parameters = Parameters::new();
    cursor.take(b'{', Problem::NoObject)?;
    let mut first = true;
    while let Some(name) = cursor.member(&mut first)? {
        if let Some(value) = read_value(cursor)? {
            parameters.push((name, value));
        }
    }
    Ok(parameters)
}

fn read_value<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Parameter<'a>>, Problem> {
    Ok(match cursor.token()? {
        b'"' => Some(Parameter::String(cursor.string()?)),
        b't' | b'f' => Some(Parameter::Bool(cursor.boolean()?)),
        b'n' | b'{' | b'[' => {
            cursor.skip_value()?;
            None
        }
        _ => Some(number(cursor)?),
    })
}

fn number(cursor: &mut Cursor<'_>) -> Result<Parameter<'static>, Problem> {
    let before = cursor.at();
    // RFC 8259's numbers are ASCII.
    let text = std::str::from_utf8(cursor.number()?).map_err(|_| Problem::BadNumber)?;
    if let Ok(int) = text.parse() {
        return Ok(Parameter::Int(int));
    }
    if let Ok(uint) = text.parse() {
        return Ok(Parameter::Uint(uint));
    }
    match text.parse::<f64>() {
        Ok(double) if double.is_finite() => Ok(Parameter::Double(double)),
        _ => {
            cursor.go_to(before);
            Err(Problem::OutOfRange)
        }
    }
}

/// The parameter called *name*.
pub fn find<'p, 'a>(parameters: &'p Parameters<'a>, name: &str) -> Option<&'p Parameter<'a>> {
    parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// The flag called *name*, if it is given.
pub fn flag(parameters: &Parameters<'_>, name: &str) -> Result<Option<bool>, Error> {
    match find(parameters, name) {
        None => Ok(None),
        Some(&Parameter::Bool(value)) => Ok(Some(value)),
        Some(_) => Err(Error::invalid_field(name, format!("parameter '{name}' must be true or false"))),
    }
}

/// Refuse parameters that ask for what is not done here; *of* is the input or output that has them.
pub fn refuse_unsupported(of: impl FnOnce() -> String, parameters: &Parameters<'_>) -> Result<(), Error> {
    let is_unsupported = |name: &str| name.starts_with("shared_memory_") || name == "classification";
    match parameters.iter().find(|(name, _)| is_unsupported(name)) {
        None => Ok(()),
        Some((name, _)) => Err(unsupported(&of(), name)),
    }
}

#[cold]
fn unsupported(of: &str, name: &str) -> Error {
    let what = if name == "classification" { "classification" } else { "shared memory" };
    let message = format!("'{of}': {what} is not supported");
    Error { field: Some(name.into()), ..Error::new(ErrorKind::Unimplemented, message) }
}

/// Append `"name":value,` for each of *parameters*, without the last comma.
pub fn put_parameters(out: &mut Vec<u8>, parameters: &[(Cow<'_, str>, Parameter<'_>)]) {
    for (at, (name, value)) in parameters.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        put_string(out, name);
        out.push(b':');
        match value {
            Parameter::Bool(value) => put_bool(out, *value),
            Parameter::Int(value) => put_integer(out, *value),
            Parameter::Uint(value) => put_integer(out, *value),
            Parameter::Double(value) => put_double(out, *value),
            Parameter::String(value) => put_string(out, value),
        }
    }
}
