//! `Gateway`: the data and metrics ports of one process.

use std::collections::BTreeMap;
use std::io::ErrorKind as IoErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bettong_frame::{Dispatch, Error, ErrorKind, Route, Signature};
use bettong_gateway::routes::{Change, Entry};
use bettong_gateway::{BindError, ControlCall, Streams};
use bettong_link::service::Refusals;
use bettong_link::{Calls, Service};
use bettong_wire::proto::bettong::internal::v1 as internal;
use bytes::Bytes;
use prost::Message;
use pyo3::prelude::*;

use crate::convert::{decode, last_model, or_default, signature};
use crate::errors::{address_in_use, engine_error, from_frame};
use crate::executor::{Compiled, Core, Executor};
use crate::forwarder::{Forwarder, LinkStreams, identity, link_tls};

const DEFAULT_REQUEST_BYTES: u64 = 512 << 20;
const DEFAULT_IN_FLIGHT_BYTES: u64 = 2 << 30;
const DEFAULT_IN_FLIGHT: u32 = 65_536;
const DEFAULT_CONNECTIONS: u32 = 8_192;
const DEFAULT_KEEP_ALIVE_S: u32 = 120;
const DEFAULT_READ_TIMEOUT_S: u32 = 30;

/// See the interface file.
#[pyclass(frozen, module = "bettong_engine")]
pub struct ControlReply {
    call: Mutex<Option<ControlCall>>,
}

#[pymethods]
impl ControlReply {
    fn send(&self, code: i32, message: String, payload: &[u8]) {
        let Some(call) = self.call.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        call.answer(if code == 0 { Ok(Bytes::copy_from_slice(payload)) } else { Err(Error::new(kind(code), message)) });
    }
}

/// The engine's kind for a gRPC status of the control plane.
fn kind(code: i32) -> ErrorKind {
    match code {
        1 => ErrorKind::Cancelled,
        3 | 6 | 9 | 11 => ErrorKind::InvalidArgument,
        4 => ErrorKind::DeadlineExceeded,
        5 => ErrorKind::NotFound,
        8 => ErrorKind::ResourceExhausted,
        12 => ErrorKind::Unimplemented,
        14 => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

/// Hand *call* to the Python callable. Runs on an engine thread.
fn forward(on_control: &Py<PyAny>, call: ControlCall) {
    Python::attach(|py| {
        let (method, model) = (call.method.name(), call.model.clone());
        let reply = ControlReply { call: Mutex::new(Some(call)) };
        if let Err(error) = on_control.call1(py, (method, model, reply)) {
            // The reply was dropped with the call, which has told the client.
            error.write_unraisable(py, None);
        }
    });
}

/// See the interface file.
#[pyclass(frozen, module = "bettong_engine")]
pub struct Gateway {
    server: bettong_gateway::Gateway,
    core: Arc<Core>,
    forwarder: Option<Arc<bettong_router::Forwarder>>,
}

fn host(given: &str) -> String {
    if given.is_empty() { "127.0.0.1".to_owned() } else { given.to_owned() }
}

fn port(given: u32) -> PyResult<u16> {
    u16::try_from(given).map_err(|_| engine_error("INVALID_ARGUMENT", &format!("port {given} is not between 0 and 65535")))
}

fn config(config: internal::GatewayConfig) -> PyResult<bettong_gateway::GatewayConfig> {
    let or = |value: u64, default: u64| if value == 0 { default } else { value };
    let seconds = |value: u32, default: u32| Duration::from_secs(u64::from(or_default(value, default)));
    Ok(bettong_gateway::GatewayConfig {
        data_address: (host(&config.data_host), port(config.data_port)?),
        metrics_address: (host(&config.metrics_host), port(config.metrics_port)?),
        max_request_bytes: or(config.max_request_bytes, DEFAULT_REQUEST_BYTES) as usize,
        max_in_flight_bytes: or(config.max_in_flight_bytes, DEFAULT_IN_FLIGHT_BYTES),
        max_in_flight: or_default(config.max_in_flight, DEFAULT_IN_FLIGHT),
        max_connections: or_default(config.max_connections, DEFAULT_CONNECTIONS),
        keep_alive: seconds(config.keep_alive_s, DEFAULT_KEEP_ALIVE_S),
        read_timeout: seconds(config.read_timeout_s, DEFAULT_READ_TIMEOUT_S),
        control_address: config.control_address,
        version: config.version,
    })
}

fn route(program: &internal::Program, version: String, signature: Signature, target: Arc<dyn Dispatch>) -> Route {
    Route {
        pipeline: program.pipeline.as_str().into(),
        version: version.into(),
        signature,
        last_model: last_model(program).into(),
        target,
    }
}

/// The links that the data port takes.
fn streams(
    config: &internal::GatewayConfig,
    core: &Core,
    forwarder: Option<&bettong_router::Forwarder>,
) -> PyResult<Option<Box<dyn Streams>>> {
    let calls: Arc<dyn Calls> = match config.links() {
        internal::LinkService::None => return Ok(None),
        internal::LinkService::Executor => core.host.clone(),
        internal::LinkService::Router => {
            let message = "a port that forwards the calls of other processes needs a forwarder";
            forwarder.ok_or_else(|| engine_error("INVALID_ARGUMENT", message))?.calls()
        }
    };
    let tls = link_tls(config.link_tls.as_ref())?;
    let identity = Arc::new(identity(config.identity.clone().unwrap_or_default()));
    let (names, registry) = (core.names.clone(), core.registry.clone());
    let refusals = Refusals::default();
    Ok(Some(Box::new(LinkStreams(Arc::new(Service { identity, names, calls, registry, tls, refusals })))))
}

impl Gateway {
    /// An entry for a program that runs on our lanes.
    fn entry(&self, program: &internal::Program) -> bettong_frame::Result<Entry> {
        let Compiled { version, models, metrics, signature, max_batch_rows, target } = self.core.compile(program)?;
        let route = route(program, version, signature, target);
        Ok(Entry::new(route, metrics, models, max_batch_rows))
    }

    /// An entry for a program that other processes run.
    fn forwarded(&self, program: &internal::Program) -> bettong_frame::Result<Entry> {
        let forwarder = self.forwarder.as_ref();
        let forwarder = forwarder.ok_or_else(|| Error::invalid("this gateway forwards nothing: it has no forwarder"))?;
        let signature = signature(program)?;
        let (models, version, metrics) = self.core.counted(program);
        let target = forwarder.target(&program.pipeline, &version, &signature, metrics.clone());
        let max_batch_rows = or_default(program.max_batch_rows, self.core.batch_rows) as usize;
        Ok(Entry::new(route(program, version, signature, target), metrics, models, max_batch_rows))
    }

    fn change(&self, update: internal::RoutingUpdate) -> bettong_frame::Result<()> {
        let serve = update
            .serve
            .iter()
            .map(|program| self.entry(program))
            .chain(update.forward.iter().map(|program| self.forwarded(program)));
        let serve = serve.collect::<bettong_frame::Result<Vec<Entry>>>()?;
        let unavailable: BTreeMap<String, String> = update.unavailable.into_iter().collect();
        self.server.apply(Change { revision: update.revision, serve, stop: update.stop, unavailable })
    }
}

fn bind_error(error: &BindError) -> PyErr {
    match error.error.kind() {
        IoErrorKind::AddrInUse => address_in_use(&error.address),
        _ => engine_error("INVALID_ARGUMENT", &format!("{} can't be bound: {}", error.address, error.error)),
    }
}

#[pymethods]
impl Gateway {
    #[new]
    #[pyo3(signature = (executor, config, on_control, forwarder = None))]
    fn new(executor: &Executor, config: &[u8], on_control: Py<PyAny>, forwarder: Option<&Forwarder>) -> PyResult<Self> {
        let message = decode("GatewayConfig", config).map_err(|error| from_frame(&error))?;
        let core = executor.core.clone();
        let forwarder = forwarder.map(|forwarder| forwarder.forwarder.clone());
        let streams = streams(&message, &core, forwarder.as_deref())?;
        let control = Box::new(move |call| forward(&on_control, call));
        let config = self::config(message)?;
        let server = bettong_gateway::Gateway::new(config, core.registry.clone(), core.lanes.reactors(), control, streams);
        Ok(Self { server, core, forwarder })
    }

    fn bind(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.server.bind()).map_err(|error| bind_error(&error))
    }

    fn apply(&self, py: Python<'_>, update: &[u8]) -> PyResult<()> {
        py.detach(|| self.change(decode("RoutingUpdate", update)?)).map_err(|error| from_frame(&error))
    }

    fn set_ready(&self, ready: bool) {
        self.server.set_ready(ready);
    }

    fn wait_answered(&self, py: Python<'_>, pipeline: &str, timeout_s: f64) -> bool {
        let timeout = Duration::try_from_secs_f64(timeout_s).unwrap_or_default();
        py.detach(|| self.server.wait_answered(pipeline, timeout))
    }

    fn drain(&self, py: Python<'_>, timeout_s: f64) -> bool {
        py.detach(|| self.server.drain(Duration::try_from_secs_f64(timeout_s).unwrap_or_default()))
    }

    fn close(&self) {
        self.server.close();
    }

    fn status(&self) -> Vec<u8> {
        let (status, addresses) = (self.server.status(), self.server.addresses());
        let (data, metrics) = addresses.map_or_else(Default::default, |(data, metrics)| (data.to_string(), metrics.to_string()));
        let lanes = self.core.lanes.reactors().count() as u32;
        let message = internal::GatewayStatus {
            answered: status.answered,
            refused: status.refused,
            failed: status.failed,
            in_flight: status.in_flight,
            connections: status.connections,
            lanes,
            data_address: data,
            metrics_address: metrics,
        };
        message.encode_to_vec()
    }

    fn metrics(&self, py: Python<'_>) -> String {
        py.detach(|| self.server.metrics())
    }
}
