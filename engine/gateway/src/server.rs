//! Binding, accepting, draining.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bettong_frame::{Reactors, Result};
use bettong_telemetry::Registry;
use tokio::sync::watch;

use crate::admission::Limits;
use crate::control::Control;
use crate::routes::Change;
use crate::shared::{Phase, Registered, Settings, Shared};
use crate::streams::Streams;
use crate::{connection, http1};

/// Addresses and bounds of a gateway.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// `host:port` of the data port; port 0 is any free one.
    pub data_address: (String, u16),
    /// `host:port` of the metrics port.
    pub metrics_address: (String, u16),
    /// Announced at `GET /v1/server`.
    pub control_address: String,
    /// The product's version.
    pub version: String,
    /// Largest body of one request.
    pub max_request_bytes: usize,
    /// Bytes of all requests under way.
    pub max_in_flight_bytes: u64,
    /// Requests under way.
    pub max_in_flight: u32,
    /// Connections open at once.
    pub max_connections: u32,
    /// Idle HTTP/1.1 connections are closed after this.
    pub keep_alive: Duration,
    /// Time for a client to send a head, and again for a body.
    pub read_timeout: Duration,
}

/// A port can't be bound.
#[derive(Debug)]
pub struct BindError {
    /// The address as it was given.
    pub address: String,
    /// Why.
    pub error: std::io::Error,
}

/// Counters since the start.
#[derive(Clone, Debug)]
pub struct GatewayStatus {
    /// Requests answered.
    pub answered: u64,
    /// Requests refused by a bound.
    pub refused: u64,
    /// Requests that failed otherwise.
    pub failed: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Connections open.
    pub connections: u32,
}

/// The data and metrics ports of one process.
pub struct Gateway {
    config: GatewayConfig,
    shared: Arc<Shared>,
    reactors: Arc<dyn Reactors>,
    bound: Mutex<Option<Bound>>,
}

#[derive(Clone, Copy)]
struct Bound {
    data: SocketAddr,
    metrics: SocketAddr,
}

impl Gateway {
    /// A gateway that does not listen yet. *streams* are those of other processes, if they are taken.
    pub fn new(
        config: GatewayConfig,
        registry: Arc<Registry>,
        reactors: Arc<dyn Reactors>,
        control: Control,
        streams: Option<Box<dyn Streams>>,
    ) -> Self {
        let settings = Settings {
            limits: Limits { requests: i64::from(config.max_in_flight), bytes: config.max_in_flight_bytes as i64 },
            max_request_bytes: config.max_request_bytes,
            read_timeout: config.read_timeout,
            keep_alive: config.keep_alive,
            version: config.version.clone(),
            control_address: config.control_address.clone(),
            engine_name: format!("engine-{}", std::process::id()),
            conversions: reactors.count().max(1),
        };
        let shared = Arc::new(Shared::new(settings, registry, control, streams));
        Self { config, shared, reactors, bound: Mutex::new(None) }
    }

    /// Bind both ports and begin to accept.
    ///
    /// # Errors
    /// The address of the port that can't be bound, with the reason.
    pub fn bind(&self) -> std::result::Result<(), BindError> {
        let data = listen(&self.config.data_address)?;
        let metrics = listen(&self.config.metrics_address)?;
        let address = |listener: &TcpListener| {
            listener.local_addr().map_err(|error| BindError { address: "the bound socket".to_owned(), error })
        };
        let bound = Bound { data: address(&data)?, metrics: address(&metrics)? };
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner) = Some(bound);
        let _ = self.shared.metrics_address.set(bound.metrics.to_string());
        let loads = Arc::new((0..self.reactors.count()).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>());
        let max = i64::from(self.config.max_connections);
        let acceptor = Acceptor { shared: self.shared.clone(), reactors: self.reactors.clone(), loads, max };
        self.reactors.spawn(0, Box::pin(acceptor.accept(data, self.shared.stop.subscribe())));
        self.reactors.spawn(0, Box::pin(http1::serve_metrics(self.shared.clone(), metrics, self.shared.stop.subscribe())));
        Ok(())
    }

    /// Addresses of the data and metrics ports, once they are bound.
    pub fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).map(|bound| (bound.data, bound.metrics))
    }

    /// Change what is served.
    pub fn apply(&self, change: Change) -> Result<()> {
        self.shared.routes.apply(change, &self.shared.registry)?;
        self.shared.announce();
        Ok(())
    }

    /// Wait until every request of versions of *pipeline* that no longer serve has been answered. Return whether they have in
    /// *timeout*.
    pub fn wait_answered(&self, pipeline: &str, timeout: Duration) -> bool {
        self.shared.routes.retired().wait_answered(pipeline, Instant::now() + timeout)
    }

    /// Set what readiness answers. After a drain has begun it stays "not ready".
    pub fn set_ready(&self, ready: bool) {
        if self.shared.phase() != Phase::Draining {
            self.shared.set_phase(if ready { Phase::Serving } else { Phase::Starting });
        }
    }

    /// Stop accepting, tell clients to go, and wait until every connection has ended. Return whether they did in *timeout*.
    pub fn drain(&self, timeout: Duration) -> bool {
        self.shared.set_phase(Phase::Draining);
        self.shared.stop.send_replace(true);
        let connections = &self.shared.connections;
        connections.finish_all();
        let begun = Instant::now();
        let end = begun + timeout;
        // Clients that never say a whole request, or do not hear that they should go, must not hold the drain up: when
        // nothing has been under way for a moment, and nothing has come or gone, what is still open is dropped. Not before the
        // grace is over: the next request of a client may be on its way, and its reply says that there will be no other.
        let mut quiet_since = begun;
        while Instant::now() < end {
            if connections.wait_until_none((Instant::now() + DRAIN_LOOK).min(end)) {
                return true;
            }
            if connections.have_moved() || self.shared.is_at_work() {
                quiet_since = Instant::now();
            } else if quiet_since.elapsed() >= DRAIN_QUIET && begun.elapsed() >= DRAIN_GRACE {
                connections.stop_all();
            }
        }
        connections.wait_until_none(end)
    }

    /// Stop accepting at once.
    pub fn close(&self) {
        self.shared.set_phase(Phase::Draining);
        self.shared.stop.send_replace(true);
    }

    /// Counters since the start.
    pub fn status(&self) -> GatewayStatus {
        let gateway = &self.shared.registry.gateway;
        GatewayStatus {
            answered: gateway.answered.get(),
            refused: gateway.refused.get(),
            failed: gateway.failed.get(),
            in_flight: gateway.in_flight.get().max(0) as u64,
            connections: gateway.connections.get().max(0) as u32,
        }
    }

    /// All metrics in the Prometheus text format.
    pub fn metrics(&self) -> String {
        bettong_telemetry::text::render(&self.shared.registry, &self.shared.version)
    }
}

/// How often a drain looks whether anything is under way.
const DRAIN_LOOK: Duration = Duration::from_millis(50);

/// How long nothing must have been under way before a drain drops what is still open.
const DRAIN_QUIET: Duration = Duration::from_millis(500);

/// How long a drain leaves idle connections open, so that their clients are told to go and not cut off.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

fn listen((host, port): &(String, u16)) -> std::result::Result<TcpListener, BindError> {
    let failed = |error| BindError { address: format!("{host}:{port}"), error };
    let address = (host.as_str(), *port).to_socket_addrs().map_err(failed)?.next();
    let address = address.ok_or_else(|| failed(std::io::ErrorKind::AddrNotAvailable.into()))?;
    let bind = || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        // A restart must not wait for connections of the process before; a second server is still refused.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    bind().map_err(failed)
}

/// Set the options of an accepted connection.
fn prepare(stream: &std::net::TcpStream, peer: SocketAddr) -> std::io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    if peer.ip().is_loopback() {
        // Nothing is ever lost or delayed on loopback, so that the model of the path which some algorithms keep (BBR, a
        // common default) is work for nothing. Where the kernel refuses, its default is fine.
        let _ = socket2::SockRef::from(stream).set_tcp_congestion(b"reno");
    }
    Ok(())
}

struct Acceptor {
    shared: Arc<Shared>,
    reactors: Arc<dyn Reactors>,
    /// Connections of each reactor.
    loads: Arc<Vec<AtomicUsize>>,
    max: i64,
}

/// Waited after the system refused a connection (no more file descriptors, for example).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Wait, because the system refused a connection on *port*: trying again at once would only burn the lane.
pub async fn pause_accepting(port: &'static str, error: &std::io::Error) {
    tracing::warn!(event = "accept_failed", port, %error);
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

impl Acceptor {
    /// Accept until told to stop; each connection goes to the reactor with the fewest.
    async fn accept(self, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|&stop| stop) => break,
            };
            let taken = accepted.and_then(|(stream, peer)| {
                let stream = stream.into_std()?;
                prepare(&stream, peer).map(|()| stream)
            });
            match taken {
                Ok(stream) => self.place(stream),
                Err(error) => pause_accepting("data", &error).await,
            }
        }
        if let Ok(listener) = listener.into_std() {
            self.accept_backlog(&listener);
        }
    }

    /// Take who is connected already and may have sent a request: closing the port would reset it.
    fn accept_backlog(&self, listener: &TcpListener) {
        loop {
            match listener.accept() {
                Ok((stream, peer)) => {
                    if prepare(&stream, peer).is_ok() {
                        self.place(stream);
                    }
                }
                // One that has left already.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(_none_left) => return,
            }
        }
    }

    fn place(&self, stream: std::net::TcpStream) {
        if self.shared.registry.gateway.connections.get() >= self.max {
            self.shared.registry.gateway.connections_refused.add(1);
            return;
        }
        let loads = self.loads.iter().map(|load| load.load(Ordering::Relaxed));
        let index = loads.enumerate().min_by_key(|&(_, load)| load).map_or(0, |(at, _)| at);
        let place = Place { loads: self.loads.clone(), index };
        self.loads[index].fetch_add(1, Ordering::Relaxed);
        let (shared, registered) = (self.shared.clone(), Registered::new(&self.shared));
        self.reactors.spawn(
            index,
            Box::pin(async move {
                let _place = place;
                connection::serve(shared, stream, registered).await;
            }),
        );
    }
}

/// Counts a connection on its reactor while it lives.
struct Place {
    loads: Arc<Vec<AtomicUsize>>,
    index: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.loads[self.index].fetch_sub(1, Ordering::Relaxed);
    }
}
