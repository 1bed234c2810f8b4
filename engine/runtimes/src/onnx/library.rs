//! The shared library and its one environment.

use std::ffi::CStr;
use std::path::Path;
use std::ptr::null_mut;

use libloading::Library;
use ort_sys as sys;

use crate::LoadError;

/// ONNX Runtime, opened once and never closed: sessions of one process share its environment.
pub struct OnnxRuntime {
    pub(super) api: &'static sys::OrtApi,
    pub(super) env: *mut sys::OrtEnv,
    pub(super) cpu: *mut sys::OrtMemoryInfo,
    pub(super) allocator: *mut sys::OrtAllocator,
    version: String,
    _library: Library,
}

// SAFETY: the C API is thread-safe for the environment, memory info and default allocator, which are only read here.
unsafe impl Send for OnnxRuntime {}
// SAFETY: as above.
unsafe impl Sync for OnnxRuntime {}

impl OnnxRuntime {
    /// Open the library at *path*.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let failed = |what: &str| LoadError::Runtime(format!("ONNX Runtime at '{}': {what}", path.display()));
        // SAFETY: loading runs the library's initialisers; the path is the operator's, like the program itself.
        let library = unsafe { Library::new(path) }.map_err(|error| failed(&error.to_string()))?;
        // SAFETY: the exported function has this type in every version of the library.
        let base = unsafe {
            let entry = library
                .get::<unsafe extern "system" fn() -> *const sys::OrtApiBase>(b"OrtGetApiBase\0")
                .map_err(|error| failed(&error.to_string()))?;
            &*entry()
        };
        // SAFETY: the string is static in the library.
        let version = unsafe { CStr::from_ptr((base.GetVersionString)()) }.to_string_lossy().into_owned();
        // SAFETY: null when the version is not supported, else a table that lives as long as the library.
        let api = unsafe { (base.GetApi)(sys::ORT_API_VERSION).as_ref() }
            .ok_or_else(|| failed(&format!("version {version} is too old, 1.{} is needed", sys::ORT_API_VERSION)))?;
        let mut runtime = Self { api, env: null_mut(), cpu: null_mut(), allocator: null_mut(), version, _library: library };
        runtime.create_environment().map_err(|message| failed(&message))?;
        Ok(runtime)
    }

    fn create_environment(&mut self) -> Result<(), String> {
        let fatal = sys::OrtLoggingLevel::ORT_LOGGING_LEVEL_FATAL;
        let (kind, memory) = (sys::OrtAllocatorType::OrtArenaAllocator, sys::OrtMemType::OrtMemTypeDefault);
        let (mut env, mut cpu, mut allocator) = (null_mut(), null_mut(), null_mut());
        // SAFETY: out-pointers are valid, the name is a C string. What is created lives as long as the process.
        unsafe {
            self.check((self.api.CreateEnv)(fatal, c"bettong".as_ptr(), &raw mut env))?;
            self.check((self.api.CreateCpuMemoryInfo)(kind, memory, &raw mut cpu))?;
            self.check((self.api.GetAllocatorWithDefaultOptions)(&raw mut allocator))?;
        }
        (self.env, self.cpu, self.allocator) = (env, cpu, allocator);
        Ok(())
    }

    /// Version of the library, for example `"1.31.1"`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Turn a status into its message, and free it.
    #[inline]
    pub(super) fn check(&self, status: sys::OrtStatusPtr) -> Result<(), String> {
        if status.0.is_null() { Ok(()) } else { Err(self.take_message(status)) }
    }

    #[cold]
    fn take_message(&self, status: sys::OrtStatusPtr) -> String {
        // SAFETY: the status is not null and ours to free, its message is a C string that lives as long as it does.
        unsafe {
            let message = CStr::from_ptr((self.api.GetErrorMessage)(status.0)).to_string_lossy().into_owned();
            (self.api.ReleaseStatus)(status.0);
            message
        }
    }
}
