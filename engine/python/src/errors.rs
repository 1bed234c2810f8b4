//! The engine's errors as Python exceptions.

use bettong_frame::Error;
use bettong_runtimes::LoadError;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(bettong_engine, EngineError, PyException, "Base of everything that the engine raises on purpose.");
create_exception!(bettong_engine, InvalidModelError, EngineError, "The file is not a model that the runtime can load.");
create_exception!(bettong_engine, AddressInUseError, EngineError, "Another process listens on the address.");

fn with_code(error: PyErr, code: &str) -> PyErr {
    Python::attach(|py| match error.value(py).setattr("code", code) {
        Ok(()) => error,
        Err(failure) => failure,
    })
}

/// An `EngineError` with a gRPC status name.
pub fn engine_error(code: &str, message: &str) -> PyErr {
    with_code(EngineError::new_err(message.to_owned()), code)
}

/// A failure of the engine as an exception.
pub fn from_frame(error: &Error) -> PyErr {
    engine_error(error.kind.name(), &error.message)
}

/// A failure to load as an exception.
pub fn from_load(error: &LoadError) -> PyErr {
    match error {
        LoadError::InvalidModel(message) => with_code(InvalidModelError::new_err(message.clone()), "INVALID_ARGUMENT"),
        LoadError::Runtime(message) => engine_error("INTERNAL", message),
    }
}

/// A taken address as an exception.
pub fn address_in_use(address: &str) -> PyErr {
    let message = format!("{address} is already in use by another process");
    with_code(AddressInUseError::new_err(message), "UNAVAILABLE")
}
