//! `Local`: one program in the caller's process.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bettong_executor::{ProgramSpec, Tensors, run_local};
use bettong_frame::Result;
use bettong_frame::bind::{Columns, Strictness, bind};
use bettong_runtimes::Model;
use bettong_wire::arrow::{self, ArrowKind};
use bettong_wire::dataset::Dataset;
use bettong_wire::proto::bettong::internal::v1 as internal;
use bettong_wire::reply::{Metadata, ReplyFrame};
use bytes::Bytes;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::arrays;
use crate::convert::{DEFAULT_BATCH_ROWS, decode, last_model, program};
use crate::errors::{from_frame, from_load};
use crate::executor::load_onnx;
use crate::runtime;

/// See the interface file.
#[pyclass(frozen, module = "bettong_engine")]
pub struct Local {
    spec: ProgramSpec,
    version: String,
    last_model: String,
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
                let spec =
                    internal::ModelSpec { id: id.clone(), path, framework: 1, batch_mode: message.batch_mode, checked: true };
                loaded.insert(id, load_onnx(&runtime, &spec)?);
            }
            self::program(&message, &loaded, DEFAULT_BATCH_ROWS).map_err(|error| from_frame(&error))
        })?;
        Ok(Self { spec, version: message.version.to_string(), last_model: last_model(&message) })
    }

    fn infer_arrays<'py>(&self, given: &Bound<'py, PyDict>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let py = given.py();
        let Some(columns) = arrays::columns(given)? else { return Ok(None) };
        let outputs = py.detach(|| self.run(&columns)).map_err(|error| from_frame(&error))?;
        arrays::reply(given, &self.spec.signature.outputs, &outputs)
    }

    fn infer_arrow<'py>(
        &self,
        py: Python<'py>,
        stream: &Bound<'py, PyAny>,
        dataset: Vec<String>,
        exclude: Vec<String>,
        separator: String,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let arrived = Instant::now();
        let body = Bytes::from(PyBuffer::<u8>::get(stream)?.to_vec(py)?);
        let dataset = Dataset::new(dataset, exclude, Some(separator));
        let reply = py.detach(|| self.run_arrow(&body, &dataset, arrived)).map_err(|error| from_frame(&error))?;
        Ok(PyBytes::new(py, &reply))
    }
}

impl Local {
    fn run(&self, columns: &Columns<'_>) -> Result<Tensors> {
        let (inputs, rows) = bind(&self.spec.signature, columns, Strictness::Frame)?;
        run_local(&self.spec, &inputs, rows).map(|(outputs, _)| outputs)
    }

    fn run_arrow(&self, body: &Bytes, dataset: &Dataset, arrived: Instant) -> Result<Bytes> {
        let kind = if body.starts_with(b"ARROW1") { ArrowKind::File } else { ArrowKind::Stream };
        let frame = arrow::decode(body, kind, &self.spec.signature)?;
        let parse_ns = arrived.elapsed().as_nanos() as u64;
        let (inputs, rows) = bind(&self.spec.signature, &frame.columns, Strictness::Frame)?;
        let (outputs, steps_ns) = run_local(&self.spec, &inputs, rows)?;
        let mut elapsed_ns = vec![parse_ns];
        elapsed_ns.extend_from_slice(&steps_ns);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let reply = ReplyFrame {
            time_ms: now.as_millis() as i64,
            frame: &frame,
            specs: &self.spec.signature.outputs,
            outputs: &outputs,
            anomaly_counts: &[],
            metadata: Metadata {
                last_model: &self.last_model,
                pipeline_version: &self.version,
                elapsed_ns: &elapsed_ns,
                dropped: &[],
                partition: "local",
            },
        };
        reply.write_arrow(dataset, ArrowKind::Stream)
    }
}
