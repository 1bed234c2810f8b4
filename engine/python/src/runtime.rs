//! ONNX Runtime, opened once a process for each library path.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bettong_runtimes::LoadError;
use bettong_runtimes::onnx::OnnxRuntime;

/// The runtime in the library at *path*.
pub fn onnx(path: &Path) -> Result<Arc<OnnxRuntime>, LoadError> {
    static OPEN: OnceLock<Mutex<HashMap<PathBuf, Arc<OnnxRuntime>>>> = OnceLock::new();
    let mut open = OPEN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = open.get(path) {
        return Ok(runtime.clone());
    }
    let runtime = Arc::new(OnnxRuntime::open(path)?);
    open.insert(path.to_owned(), runtime.clone());
    Ok(runtime)
}
