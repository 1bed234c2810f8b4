//! Loading a file, and reading its signature.

use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::Arc;

use bettong_frame::{BatchMode, DType, Result, Shape, Tensor, TensorSpec};
use ort_sys as sys;
use smallvec::SmallVec;
use sys::ONNXTensorElementDataType as Element;

use super::OnnxRuntime;
use crate::probe::{Declared, probe};
use crate::{LoadError, Model, ModelInfo, View};

/// A session with its names, ready to run on any thread.
pub struct OnnxModel {
    pub(super) runtime: Arc<OnnxRuntime>,
    pub(super) session: *mut sys::OrtSession,
    pub(super) input_names: Names,
    pub(super) output_names: Names,
    info: ModelInfo,
}

// SAFETY: `OrtSession::Run` is thread-safe on one session; everything else is immutable after loading.
unsafe impl Send for OnnxModel {}
// SAFETY: as above.
unsafe impl Sync for OnnxModel {}

/// C strings with the pointers that the API takes.
pub(super) struct Names {
    pub(super) pointers: Vec<*const c_char>,
    _owned: Vec<CString>,
}

impl Names {
    fn new(names: Vec<CString>) -> Self {
        Self { pointers: names.iter().map(|name| name.as_ptr()).collect(), _owned: names }
    }
}

/// Which end of the model.
#[derive(Clone, Copy)]
enum End {
    Input,
    Output,
}

impl OnnxModel {
    /// Load the file at *path* and try it with made-up rows. *mode* overrides how rows may be joined; `checked`: the model is
    /// known to allow it, and is not tried again.
    pub fn load(
        runtime: Arc<OnnxRuntime>,
        path: &Path,
        mode: Option<BatchMode>,
        checked: bool,
    ) -> std::result::Result<Self, LoadError> {
        let invalid = |message: String| LoadError::InvalidModel(reason(&message, path));
        let info = ModelInfo { inputs: vec![], outputs: vec![], batch_mode: BatchMode::Whole, row_time: None };
        let names = || Names::new(vec![]);
        // From here on the model owns the session, so that every early return frees it.
        let mut model = Self { runtime, session: null_mut(), input_names: names(), output_names: names(), info };
        model.create_session(path).map_err(invalid)?;
        let (input_names, inputs) = model.read_end(End::Input).map_err(invalid)?;
        let (output_names, outputs) = model.read_end(End::Output).map_err(invalid)?;
        model.input_names = Names::new(input_names);
        model.output_names = Names::new(output_names);
        let (inputs, outputs): (Vec<Declared>, Vec<Declared>) = (inputs, outputs);
        let probed = probe(&model, &inputs, &outputs, mode.filter(|_| checked));
        let spec = |declared: Vec<Declared>| declared.into_iter().map(|d| d.spec).collect();
        let batch_mode = allowed(mode, probed.batch_mode).map_err(LoadError::InvalidModel)?;
        model.info = ModelInfo { inputs: spec(inputs), outputs: spec(outputs), batch_mode, row_time: probed.row_time };
        Ok(model)
    }

    fn create_session(&mut self, path: &Path) -> std::result::Result<(), String> {
        use std::os::unix::ffi::OsStrExt;
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| "the path contains a NUL byte".to_owned())?;
        let (runtime, api) = (&self.runtime, self.runtime.api);
        let mut options = null_mut();
        // SAFETY: pointers are valid for the calls; the options are freed whatever happened in between.
        unsafe {
            runtime.check((api.CreateSessionOptions)(&raw mut options))?;
            let configured = self.configure(options);
            let created = configured
                .and_then(|()| runtime.check((api.CreateSession)(runtime.env, path.as_ptr(), options, &raw mut self.session)));
            (api.ReleaseSessionOptions)(options);
            created
        }
    }

    /// One thread a run (lanes are the parallelism), nothing printed (errors are returned), all optimisations.
    unsafe fn configure(&self, options: *mut sys::OrtSessionOptions) -> std::result::Result<(), String> {
        let (runtime, api) = (&self.runtime, self.runtime.api);
        // SAFETY: the options are valid.
        unsafe {
            runtime.check((api.SetIntraOpNumThreads)(options, 1))?;
            runtime.check((api.SetInterOpNumThreads)(options, 1))?;
            runtime.check((api.SetSessionLogSeverityLevel)(options, 4))?;
            runtime.check((api.SetSessionGraphOptimizationLevel)(options, sys::GraphOptimizationLevel::ORT_ENABLE_ALL))
        }
    }

    fn read_end(&self, end: End) -> std::result::Result<(Vec<CString>, Vec<Declared>), String> {
        let (runtime, api) = (&self.runtime, self.runtime.api);
        let mut count = 0;
        // SAFETY: the session is open; out-pointers are valid.
        unsafe {
            runtime.check(match end {
                End::Input => (api.SessionGetInputCount)(self.session, &raw mut count),
                End::Output => (api.SessionGetOutputCount)(self.session, &raw mut count),
            })?;
        }
        let (mut names, mut declared) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for index in 0..count {
            let name = self.read_name(end, index)?;
            declared.push(self.read_type(end, index, &name.to_string_lossy())?);
            names.push(name);
        }
        Ok((names, declared))
    }

    fn read_name(&self, end: End, index: usize) -> std::result::Result<CString, String> {
        let (runtime, api) = (&self.runtime, self.runtime.api);
        let mut name = null_mut();
        // SAFETY: the index is below the count; the string is copied and then freed by the allocator that made it.
        unsafe {
            runtime.check(match end {
                End::Input => (api.SessionGetInputName)(self.session, index, runtime.allocator, &raw mut name),
                End::Output => (api.SessionGetOutputName)(self.session, index, runtime.allocator, &raw mut name),
            })?;
            let owned = CStr::from_ptr(name).to_owned();
            runtime.check((api.AllocatorFree)(runtime.allocator, name.cast()))?;
            Ok(owned)
        }
    }

    fn read_type(&self, end: End, index: usize, name: &str) -> std::result::Result<Declared, String> {
        let (runtime, api) = (&self.runtime, self.runtime.api);
        let mut info = null_mut();
        // SAFETY: the index is below the count; the type is freed after what is read from it was copied.
        unsafe {
            runtime.check(match end {
                End::Input => (api.SessionGetInputTypeInfo)(self.session, index, &raw mut info),
                End::Output => (api.SessionGetOutputTypeInfo)(self.session, index, &raw mut info),
            })?;
            let declared = self.read_tensor_type(info, name);
            (api.ReleaseTypeInfo)(info);
            declared
        }
    }

    unsafe fn read_tensor_type(&self, info: *const sys::OrtTypeInfo, name: &str) -> std::result::Result<Declared, String> {
        let (runtime, api) = (&self.runtime, self.runtime.api);
        let (mut tensor, mut element, mut rank) = (null(), Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, 0);
        // SAFETY: the info is valid; the tensor info is a part of it; the arrays hold `rank` elements.
        unsafe {
            runtime.check((api.CastTypeInfoToTensorInfo)(info, &raw mut tensor))?;
            if tensor.is_null() {
                return Err(format!("'{name}' is not a tensor (a scikit-learn classifier must be exported with zipmap=False)"));
            }
            runtime.check((api.GetTensorElementType)(tensor, &raw mut element))?;
            runtime.check((api.GetDimensionsCount)(tensor, &raw mut rank))?;
            let mut shape: Shape = smallvec::smallvec![0; rank];
            runtime.check((api.GetDimensions)(tensor, shape.as_mut_ptr(), rank))?;
            let mut symbols: Vec<*const c_char> = vec![null(); rank];
            runtime.check((api.GetSymbolicDimensions)(tensor, symbols.as_mut_ptr(), rank))?;
            let rows = symbols.first().filter(|symbol| !symbol.is_null()).map(|&symbol| CStr::from_ptr(symbol));
            let rows_symbol = rows.map(|symbol| symbol.to_string_lossy().into_owned()).filter(|symbol| !symbol.is_empty());
            let dtype = dtype(element).ok_or_else(|| format!("'{name}' has element type {element:?}, which is not served"))?;
            Ok(Declared { spec: TensorSpec { name: name.into(), dtype, shape }, rows_symbol })
        }
    }
}

impl Drop for OnnxModel {
    fn drop(&mut self) {
        if !self.session.is_null() {
            // SAFETY: the session is ours and no run is going on, since each holds the model.
            unsafe { (self.runtime.api.ReleaseSession)(self.session) }
        }
    }
}

impl Model for OnnxModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn run(&self, inputs: &[View<'_>]) -> Result<SmallVec<[Tensor; 2]>> {
        self.run_session(inputs)
    }
}

/// The mode to use: what was asked for, if the model can do that.
fn allowed(asked: Option<BatchMode>, found: BatchMode) -> std::result::Result<BatchMode, String> {
    match (asked, found) {
        (None, found) => Ok(found),
        (Some(BatchMode::Rows), found) if found != BatchMode::Rows => {
            Err("rows can't be joined: the model's first dimension is fixed or is not the batch".to_owned())
        }
        (Some(BatchMode::Single), BatchMode::Whole) => {
            Err("rows can't be run one by one: the model's first dimension is not the batch".to_owned())
        }
        (Some(asked), _) => Ok(asked),
    }
}

/// The runtime's reason without the server's own path, under a line that says what it is about.
fn reason(message: &str, path: &Path) -> String {
    let message = message.replace(&*path.to_string_lossy(), "");
    let message = message.trim_start_matches("Load model from").trim_start().trim_start_matches("failed:").trim();
    format!("it is not a model that ONNX Runtime can load: {message}")
}

pub(super) fn dtype(element: Element) -> Option<DType> {
    Some(match element {
        Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL => DType::Bool,
        Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 => DType::Uint8,
        Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16 => DType::Uint16,
        Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32 => DType::Uint32,
        Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64 => DType::Uint64,
        Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 => DType::Int8,
        Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16 => DType::Int16,
        Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 => DType::Int32,
        Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 => DType::Int64,
        Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 => DType::Fp16,
        Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16 => DType::Bf16,
        Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT => DType::Fp32,
        Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE => DType::Fp64,
        Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING => DType::Bytes,
        _ => return None,
    })
}

/// ONNX's name for *dtype*.
#[inline]
pub(super) fn element(dtype: DType) -> Element {
    match dtype {
        DType::Bool => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
        DType::Uint8 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        DType::Uint16 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,
        DType::Uint32 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,
        DType::Uint64 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,
        DType::Int8 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
        DType::Int16 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
        DType::Int32 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        DType::Int64 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        DType::Fp16 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        DType::Bf16 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
        DType::Fp32 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        DType::Fp64 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
        DType::Bytes => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
    }
}
