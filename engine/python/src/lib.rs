//! The engine as a Python module: protobuf snapshots in, counters out.
//!
//! Every call releases the GIL while it works. The types are documented in `bettong_engine/__init__.pyi`.

mod arrays;
mod convert;
mod errors;
mod executor;
mod forwarder;
mod gateway;
mod local;
mod runtime;

use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The module.
#[pymodule]
mod bettong_engine {
    #[pymodule_export]
    use super::errors::{AddressInUseError, EngineError, InvalidModelError};
    #[pymodule_export]
    use super::executor::Executor;
    #[pymodule_export]
    use super::forwarder::Forwarder;
    #[pymodule_export]
    use super::gateway::{ControlReply, Gateway};
    #[pymodule_export]
    use super::local::Local;
    #[pymodule_export]
    use super::{build_version, record_crashes, set_log_level};
}

/// Return the version of the engine.
#[pyfunction]
fn build_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Set the level of the engine's own log lines: debug, info, warning or error.
#[pyfunction]
fn set_log_level(level: &str) -> PyResult<()> {
    if bettong_telemetry::log::set_level(level) {
        return Ok(());
    }
    Err(errors::engine_error("INVALID_ARGUMENT", &format!("log level '{level}' is not one of debug, info, warning, error")))
}

/// Append to the file at *path* what a thread of this process was running when it brings the process down.
#[pyfunction]
fn record_crashes(path: &str) -> PyResult<()> {
    let said = |error: std::io::Error| errors::engine_error("UNAVAILABLE", &format!("{path}: {error}"));
    bettong_executor::crash::record_to(std::path::Path::new(path)).map_err(said)
}
