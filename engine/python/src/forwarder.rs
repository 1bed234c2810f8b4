//! `Forwarder`: calls to other processes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bettong_frame::{Error, Result};
use bettong_gateway::Streams;
use bettong_link::{Identity, LinkTls, Service};
use bettong_router::{Destination, PeerAddress, PeerStatus, Settings, TableUpdate};
use bettong_wire::link::PATH;
use bettong_wire::proto::bettong::internal::v1 as internal;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use prost::Message;
use pyo3::prelude::*;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::convert::{decode, or_default};
use crate::errors::from_frame;
use crate::executor::Executor;

const DEFAULT_SILENCE_MS: u32 = 1_500;
const DEFAULT_ATTEMPTS: u32 = 4;

/// See the interface file.
#[pyclass(frozen, module = "bettong_engine")]
pub struct Forwarder {
    pub(crate) forwarder: Arc<bettong_router::Forwarder>,
}

/// Who we are.
pub fn identity(given: internal::Identity) -> Identity {
    Identity::new(given.cluster, given.role, given.member, given.epoch, given.version)
}

/// The certificates of *files*, if they are given.
pub fn link_tls(files: Option<&internal::LinkTls>) -> PyResult<Option<LinkTls>> {
    let path = Path::new;
    let read = |files: &internal::LinkTls| LinkTls::read(path(&files.ca_file), path(&files.cert_file), path(&files.key_file));
    files.map(read).transpose().map_err(|error| from_frame(&error))
}

fn positions(found: &[u32]) -> Vec<usize> {
    found.iter().map(|&at| at as usize).collect()
}

fn update(table: internal::ForwardingTable) -> Result<TableUpdate> {
    if let Some(peer) = table.peers.iter().find(|peer| !peer.address.contains(':')) {
        return Err(Error::invalid(format!("the address '{}' of {} has no port", peer.address, peer.name)));
    }
    let peer = |peer: internal::Peer| PeerAddress { name: peer.name, address: peer.address, epoch: peer.epoch };
    let destination = |found: internal::Replicas| Destination {
        pipeline: found.pipeline,
        version: found.version.to_string(),
        replicas: positions(&found.peers),
    };
    Ok(TableUpdate {
        revision: table.revision,
        peers: table.peers.into_iter().map(peer).collect(),
        destinations: table.replicas.into_iter().map(destination).collect(),
        any: positions(&table.any),
    })
}

fn status(peer: PeerStatus) -> internal::PeerStatus {
    internal::PeerStatus {
        name: peer.at.name,
        address: peer.at.address,
        links: peer.links as u32,
        outstanding: peer.outstanding.max(0) as u32,
        ejected: peer.ejected,
        waiting_rows: peer.waiting_rows,
        last_error: peer.last_error,
    }
}

#[pymethods]
impl Forwarder {
    #[new]
    fn new(executor: &Executor, config: &[u8]) -> PyResult<Self> {
        let config: internal::ForwarderConfig = decode("ForwarderConfig", config).map_err(|error| from_frame(&error))?;
        let core = &executor.core;
        let settings = Settings {
            tls: link_tls(config.tls.as_ref())?,
            silence: Duration::from_millis(u64::from(or_default(config.silence_ms, DEFAULT_SILENCE_MS))),
            max_attempts: or_default(config.max_attempts, DEFAULT_ATTEMPTS),
            hedge_after: (config.hedge_after_ms > 0).then(|| Duration::from_millis(u64::from(config.hedge_after_ms))),
        };
        let (names, reactors) = (core.names.clone(), core.lanes.reactors());
        let identity = Arc::new(identity(config.identity.unwrap_or_default()));
        let forwarder = bettong_router::Forwarder::new(settings, identity, names, reactors, core.registry.clone());
        Ok(Self { forwarder: Arc::new(forwarder) })
    }

    fn apply(&self, py: Python<'_>, table: &[u8]) -> PyResult<()> {
        let change = || self.forwarder.apply(update(decode("ForwardingTable", table)?)?);
        py.detach(change).map_err(|error| from_frame(&error))
    }

    fn status(&self) -> Vec<u8> {
        let found = self.forwarder.status();
        let message = internal::ForwarderStatus {
            peers: found.peers.into_iter().map(status).collect(),
            forwarded: found.forwarded,
            retried: found.retried,
            retries_refused: found.retries_refused,
            hedged: found.hedged,
            hedges_won: found.hedges_won,
        };
        message.encode_to_vec()
    }
}

/// Takes the links of other processes on the data port.
pub struct LinkStreams(pub Arc<Service>);

impl Streams for LinkStreams {
    fn path(&self) -> &str {
        PATH
    }

    fn acceptor(&self) -> Option<&TlsAcceptor> {
        self.0.tls.as_ref().map(|tls| &tls.acceptor)
    }

    fn serve(&self, body: RecvStream, respond: SendResponse<Bytes>, draining: watch::Receiver<bool>) -> bettong_frame::Task {
        Box::pin(self.0.clone().serve(body, respond, draining))
    }
}
