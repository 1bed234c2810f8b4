//! `Local`: one program in the caller's process.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bettong_executor::{ProgramSpec, run_local};
use bettong_frame::bind::{Columns, Strictness, bind};
use bettong_frame::{DType, Error, Result, Shape, Tensor};
use bettong_runtimes::Model;
use bettong_wire::proto::bettong::internal::v1 as internal;
use bytes::Bytes;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::convert::{DEFAULT_BATCH_ROWS, decode, program};
use crate::errors::{from_frame, from_load};
use crate::executor::load_onnx;
use crate::runtime;

/// See the interface file.
#[pyclass(frozen, module = "bettong_engine")]
pub struct Local {
    spec: ProgramSpec,
}

/// A column as Python gives it: name, datatype, shape, bytes.
type Given = (String, String, Vec<i64>, PyBuffer<u8>);

/// A column as Python gets it.
type Returned<'py> = (String, &'static str, Vec<i64>, Bound<'py, PyBytes>);

fn column(py: Python<'_>, given: Given) -> Result<(Cow<'static, str>, Tensor)> {
    let (name, datatype, shape, buffer) = given;
    let dtype = DType::from_name(datatype.as_bytes())
        .ok_or_else(|| Error::invalid_field(&name, format!("column '{name}': datatype '{datatype}' is not known")))?;
    let data = buffer.to_vec(py).map_err(|error| Error::invalid_field(&name, format!("column '{name}': {error}")))?;
    let tensor = Tensor::new(&name, dtype, Shape::from_vec(shape), Bytes::from(data))?;
    Ok((Cow::Owned(name), tensor))
}

#[pymethods]
impl Local {
    #[new]
    fn new(py: Python<'_>, program: &[u8], models: HashMap<String, String>, onnxruntime_library: &str) -> PyResult<Self> {
        let message: internal::Program = decode("Program", program).map_err(|error| from_frame(&error))?;
        let spec = py.detach(|| {
            let runtime = runtime::onnx(Path::new(onnxruntime_library)).map_err(|error| from_load(&error))?;
            let mut loaded: HashMap<String, Arc<dyn Model>> = HashMap::new();
            for (id, path) in models {
                // The id ends with the batch mode that the program was compiled for, which the file itself implies.
                let spec = internal::ModelSpec { id: id.clone(), path, framework: 1, batch_mode: message.batch_mode };
                loaded.insert(id, load_onnx(&runtime, &spec)?);
            }
            self::program(&message, &loaded, DEFAULT_BATCH_ROWS).map_err(|error| from_frame(&error))
        })?;
        Ok(Self { spec })
    }

    fn infer<'py>(&self, py: Python<'py>, columns: Vec<Given>) -> PyResult<Vec<Returned<'py>>> {
        let columns = columns.into_iter().map(|given| column(py, given)).collect::<Result<Columns<'_>>>();
        let columns = columns.map_err(|error| from_frame(&error))?;
        let outputs = py.detach(|| {
            let (inputs, rows) = bind(&self.spec.signature, &columns, Strictness::Frame)?;
            run_local(&self.spec, &inputs, rows).map(|(outputs, _)| outputs)
        });
        let outputs = outputs.map_err(|error| from_frame(&error))?;
        let named = self.spec.signature.outputs.iter().zip(outputs);
        Ok(named
            .map(|(spec, tensor)| {
                (spec.name.to_string(), tensor.dtype.name(), tensor.shape.to_vec(), PyBytes::new(py, &tensor.data))
            })
            .collect())
    }
}
