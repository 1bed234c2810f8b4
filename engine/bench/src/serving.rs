//! The engine, started as the product starts it, on one lane.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bettong_executor::{Config, Executor, ProgramSpec, Source, StepSpec};
use bettong_frame::{DType, Input, Route, Signature};
use bettong_gateway::routes::{Change, Entry};
use bettong_gateway::{Gateway, GatewayConfig};
use bettong_runtimes::onnx::{OnnxModel, OnnxRuntime};
use bettong_runtimes::{Model, View};
use bettong_telemetry::Registry;

use crate::messages;
use crate::models::{FEATURES, MAX_BATCH_ROWS, NoOp, Steady};

/// A gateway on a free port with both pipelines.
pub struct Server {
    /// Of the data port.
    pub address: SocketAddr,
    models: Vec<(&'static str, Arc<dyn Model>)>,
    gateway: Gateway,
    executor: Executor,
}

impl Server {
    /// Serve the model file at *model* as `fraud`, and a model that does nothing as `noop`.
    pub fn start(library: &Path, model: &Path) -> Result<Self, Box<dyn Error>> {
        let executor = Executor::start(&Config {
            lanes: 1,
            compute_threads: 1,
            slow_model: Duration::from_secs(1),
            spin: Duration::ZERO,
            max_queue_rows: 65_536,
        })?;
        let registry = Arc::new(Registry::default());
        let gateway = Gateway::new(gateway_config(), registry.clone(), executor.reactors(), Box::new(drop), None);
        let fraud = OnnxModel::load(Arc::new(OnnxRuntime::open(library)?), model, None, false)?;
        let models: Vec<(&'static str, Arc<dyn Model>)> =
            vec![("noop", Arc::new(NoOp::new())), ("fraud", Arc::new(Steady::new(fraud)))];
        let serve = models.iter().map(|(name, model)| entry(name, model, &registry, &executor)).collect::<Result<_, _>>()?;
        gateway.apply(Change { revision: 1, serve, ..Change::default() }).map_err(|error| error.message)?;
        gateway.bind().map_err(|error| error.error)?;
        gateway.set_ready(true);
        let (address, _metrics) = gateway.addresses().ok_or("the gateway has no address")?;
        Ok(Self { address, models, gateway, executor })
    }

    /// Call *mark* on the lane's thread, between requests, and wait until it has returned.
    pub fn on_lane(&self, mark: extern "C" fn()) -> Result<(), Box<dyn Error>> {
        let (done, wait) = mpsc::channel();
        let task = async move {
            mark();
            // The receiver waits for nothing else.
            let _ = done.send(());
        };
        self.executor.reactors().spawn(0, Box::pin(task));
        Ok(wait.recv()?)
    }

    /// What *pipeline* answers to *rows* rows, by its model alone.
    pub fn expected(&self, pipeline: &str, rows: usize) -> Result<Vec<f32>, Box<dyn Error>> {
        let (_, model) = self.models.iter().find(|(name, _)| *name == pipeline).ok_or("no such pipeline")?;
        let data = messages::row_bytes(rows);
        let view = View { dtype: DType::Fp32, shape: &[rows as i64, FEATURES as i64], data: &data };
        let outputs = model.run(&[view]).map_err(|error| error.message)?;
        Ok(messages::floats(&outputs[0].data))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.gateway.close();
        self.executor.close();
    }
}

fn gateway_config() -> GatewayConfig {
    GatewayConfig {
        data_address: ("127.0.0.1".to_owned(), 0),
        metrics_address: ("127.0.0.1".to_owned(), 0),
        control_address: String::new(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        max_request_bytes: 512 << 20,
        max_in_flight_bytes: 2 << 30,
        max_in_flight: 65_536,
        max_connections: 64,
        // Far away: a simulated machine must not run into them.
        keep_alive: Duration::from_secs(3_600),
        read_timeout: Duration::from_secs(3_600),
    }
}

fn entry(name: &str, model: &Arc<dyn Model>, registry: &Registry, executor: &Executor) -> Result<Entry, Box<dyn Error>> {
    let info = model.info();
    let signature = Signature {
        inputs: info.inputs.iter().map(|spec| Input { spec: spec.clone(), aliases: vec![], parts: vec![] }).collect(),
        outputs: info.outputs.clone(),
        batch_mode: info.batch_mode,
    };
    let spec = ProgramSpec {
        signature: signature.clone(),
        steps: vec![StepSpec { model: model.clone(), inputs: vec![Source::Input(0)] }],
        outputs: vec![Source::Step { step: 0, output: 0 }],
        max_batch_rows: MAX_BATCH_ROWS,
        max_batch_delay: Duration::ZERO,
    };
    let models = vec![(name.to_owned(), 1)];
    let metrics = registry.pipeline(name, "1", &models);
    let target = executor.program(spec, metrics.clone()).map_err(|error| error.message)?;
    let last_model = serde_json::json!({"model_name": name, "model_sha": ""}).to_string().into();
    let route = Route { pipeline: name.into(), version: "1".into(), signature, last_model, target };
    Ok(Entry::new(route, metrics, models, MAX_BATCH_ROWS))
}
