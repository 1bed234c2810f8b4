//! `Executor`: loaded models and the lanes that run them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bettong_executor::{Config, crash};
use bettong_frame::{Dispatch, Error, Signature};
use bettong_link::{Host, Hosted, Names};
use bettong_runtimes::Model;
use bettong_runtimes::onnx::{OnnxModel, OnnxRuntime};
use bettong_telemetry::{PipelineMetrics, Registry};
use bettong_wire::proto::bettong::internal::v1 as internal;
use prost::Message;
use pyo3::prelude::*;

use crate::convert::{DEFAULT_BATCH_ROWS, batch_mode, decode, or_default, program, signature_to_pb};
use crate::errors::{engine_error, from_frame, from_load};
use crate::runtime;

const DEFAULT_SLOW_MODEL_US: u32 = 1_000;
const DEFAULT_QUEUE_ROWS: u32 = 65_536;

/// Calls of other processes under way at most.
const DEFAULT_CALLS: i64 = 65_536;

/// What an executor and the gateways on it share.
pub struct Core {
    pub lanes: bettong_executor::Executor,
    pub registry: Arc<Registry>,
    pub batch_rows: u32,
    /// Names of pipeline versions on links.
    pub names: Arc<Names>,
    /// Runs the calls of other processes.
    pub host: Arc<Host>,
    runtime: Arc<OnnxRuntime>,
    models: Mutex<HashMap<String, Arc<dyn Model>>>,
}

impl Core {
    fn start(config: &internal::ExecutorConfig) -> PyResult<Self> {
        let library = PathBuf::from(&config.onnxruntime_library);
        let runtime = runtime::onnx(&library).map_err(|error| from_load(&error))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
        let lanes = or_default(config.lanes, cores);
        let config_ = Config {
            lanes: lanes as usize,
            compute_threads: or_default(config.compute_threads, lanes) as usize,
            slow_model: Duration::from_micros(u64::from(or_default(config.slow_model_us, DEFAULT_SLOW_MODEL_US))),
            spin: Duration::from_micros(u64::from(config.spin_us)),
            max_queue_rows: or_default(config.max_queue_rows, DEFAULT_QUEUE_ROWS) as usize,
        };
        let lanes = bettong_executor::Executor::start(&config_)
            .map_err(|error| engine_error("RESOURCE_EXHAUSTED", &format!("the lanes can't be started: {error}")))?;
        let batch_rows = or_default(config.max_batch_rows, DEFAULT_BATCH_ROWS);
        let (registry, names): (Arc<Registry>, Arc<Names>) = Default::default();
        let host = Arc::new(Host::new(names.clone(), registry.clone(), DEFAULT_CALLS));
        Ok(Self { lanes, registry, batch_rows, names, host, runtime, models: Mutex::default() })
    }

    /// The loaded models, by id.
    pub fn models(&self) -> MutexGuard<'_, HashMap<String, Arc<dyn Model>>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, spec: &internal::ModelSpec) -> PyResult<Arc<dyn Model>> {
        if let Some(model) = self.models().get(&spec.id) {
            return Ok(model.clone());
        }
        let line = format!("load {}\n", spec.id);
        let _running = crash::running(&line);
        let model = load_onnx(&self.runtime, spec)?;
        Ok(self.models().entry(spec.id.clone()).or_insert(model).clone())
    }
}

/// What a program serves by: its parts, compiled for the lanes.
pub struct Compiled {
    pub version: String,
    pub models: Vec<(String, u64)>,
    pub metrics: Arc<PipelineMetrics>,
    pub signature: Signature,
    pub max_batch_rows: usize,
    pub target: Arc<dyn Dispatch>,
}

impl Core {
    /// *`program_`* on these lanes; its models must be loaded.
    pub fn compile(&self, program_: &internal::Program) -> bettong_frame::Result<Compiled> {
        let spec = program(program_, &self.models(), self.batch_rows)?;
        let (models, version, metrics) = self.counted(program_);
        let (signature, max_batch_rows) = (spec.signature.clone(), spec.max_batch_rows);
        let target = self.lanes.program(spec, metrics.clone())?;
        Ok(Compiled { version, models, metrics, signature, max_batch_rows, target })
    }

    /// Models and version of *`program_`*, and what is counted of it.
    pub fn counted(&self, program_: &internal::Program) -> (Vec<(String, u64)>, String, Arc<PipelineMetrics>) {
        let models: Vec<(String, u64)> =
            program_.steps.iter().map(|step| (step.model_name.clone(), step.model_version)).collect();
        let version = program_.version.to_string();
        let metrics = self.registry.pipeline(&program_.pipeline, &version, &models);
        (models, version, metrics)
    }

    fn change_hosted(&self, update: &internal::HostUpdate) -> bettong_frame::Result<()> {
        let hosted = |program_: &internal::Program| {
            let Compiled { version, signature, target, metrics, .. } = self.compile(program_)?;
            Ok((program_.pipeline.clone(), version, Hosted { signature, target, metrics }))
        };
        let serve = update.serve.iter().map(hosted).collect::<bettong_frame::Result<Vec<_>>>()?;
        let stop: Vec<(String, String)> = update.stop.iter().map(|key| (key.pipeline.clone(), key.version.to_string())).collect();
        self.host.change(serve, &stop);
        Ok(())
    }
}

/// Load the file that *spec* names.
pub fn load_onnx(runtime: &Arc<OnnxRuntime>, spec: &internal::ModelSpec) -> PyResult<Arc<dyn Model>> {
    if spec.framework() != bettong_wire::proto::bettong::v1::Framework::Onnx {
        return Err(from_frame(&Error::invalid("the framework is not one that this engine runs")));
    }
    let model = OnnxModel::load(runtime.clone(), Path::new(&spec.path), batch_mode(spec.batch_mode), spec.checked);
    Ok(Arc::new(model.map_err(|error| from_load(&error))?))
}

/// See the interface file.
#[pyclass(frozen, module = "bettong_engine")]
pub struct Executor {
    pub(crate) core: Arc<Core>,
}

#[pymethods]
impl Executor {
    #[new]
    fn new(py: Python<'_>, config: &[u8]) -> PyResult<Self> {
        let config: internal::ExecutorConfig = decode("ExecutorConfig", config).map_err(|error| from_frame(&error))?;
        // Here, because only servers make one: a program in a user's own process (`Local`) has no threads of ours.
        crash::abort_on_panic();
        py.detach(|| Core::start(&config)).map(|core| Self { core: Arc::new(core) })
    }

    fn load_model(&self, py: Python<'_>, spec: &[u8]) -> PyResult<Vec<u8>> {
        let spec: internal::ModelSpec = decode("ModelSpec", spec).map_err(|error| from_frame(&error))?;
        let model = py.detach(|| self.core.load(&spec))?;
        Ok(signature_to_pb(model.info()).encode_to_vec())
    }

    fn unload_model(&self, py: Python<'_>, model_id: &str) -> bool {
        // Freeing a large model takes a while, so it is not done under the GIL.
        py.detach(|| {
            let removed = self.core.models().remove(model_id);
            removed.is_some()
        })
    }

    fn host(&self, py: Python<'_>, update: &[u8]) -> PyResult<()> {
        let change = || self.core.change_hosted(&decode("HostUpdate", update)?);
        py.detach(change).map_err(|error| from_frame(&error))
    }

    fn runtimes(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([("onnxruntime", self.core.runtime.version().to_owned())])
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.core.lanes.close());
    }
}
