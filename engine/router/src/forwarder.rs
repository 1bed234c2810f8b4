//! What gateways and routers call: takes requests, and sees them through.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bettong_frame::{Dispatch, Error, Reactors, Request, Result, Signature, Trace};
use bettong_link::client::Endpoint;
use bettong_link::{Calls, Identity, Inbound, LinkTls, Names, ProgramName};
use bettong_telemetry::{PipelineMetrics, Registry};
use bettong_wire::link::Body;

use crate::budget::Budget;
use crate::flight::{Ask, Flight, Pipeline, UnderWay, Waiter};
use crate::peer::Peer;
use crate::table::{PeerAddress, Table, TableUpdate};

/// How calls are tried.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How both sides of a link prove themselves, if they do.
    pub tls: Option<LinkTls>,
    /// A peer that has calls and has not said anything for so long is given up.
    pub silence: Duration,
    /// How often a call may be run at most.
    pub max_attempts: u32,
    /// A call that is not answered for so long is asked of another replica too, if at all.
    pub hedge_after: Option<Duration>,
}

/// How a peer does.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Who it is.
    pub at: PeerAddress,
    /// Links that are up.
    pub links: usize,
    /// Calls that it has not answered.
    pub outstanding: i64,
    /// Whether it is left out because it failed.
    pub ejected: bool,
    /// Rows that it last said wait there.
    pub waiting_rows: u32,
    /// Why it failed last.
    pub last_error: String,
}

/// Counters since the start.
#[derive(Clone, Debug)]
pub struct ForwarderStatus {
    /// All peers of the table.
    pub peers: Vec<PeerStatus>,
    /// Calls sent, each try for itself.
    pub forwarded: u64,
    /// Calls that were tried again.
    pub retried: u64,
    /// Calls that were not tried again because too many had been.
    pub retries_refused: u64,
    /// Calls that were asked of a second peer because the first took long.
    pub hedged: u64,
    /// Those of them that the second peer answered first.
    pub hedges_won: u64,
}

/// Forwards calls to other processes.
pub struct Forwarder {
    core: Arc<Core>,
}

/// What the forwarder shares with its peers.
pub(crate) struct Core {
    pub(crate) registry: Arc<Registry>,
    pub(crate) settings: Settings,
    identity: Arc<Identity>,
    names: Arc<Names>,
    pub(crate) reactors: Arc<dyn Reactors>,
    pub(crate) table: ArcSwap<Table>,
    changing: Mutex<()>,
    pub(crate) budget: Budget,
    pub(crate) parked: AtomicUsize,
    next_peer: AtomicU64,
}

impl Forwarder {
    /// A forwarder on the threads of *reactors* that knows nobody yet.
    pub fn new(
        settings: Settings,
        identity: Arc<Identity>,
        names: Arc<Names>,
        reactors: Arc<dyn Reactors>,
        registry: Arc<Registry>,
    ) -> Self {
        let core = Core {
            registry,
            settings,
            identity,
            names,
            reactors,
            table: ArcSwap::default(),
            changing: Mutex::default(),
            budget: Budget::default(),
            parked: AtomicUsize::new(0),
            next_peer: AtomicU64::new(1),
        };
        Self { core: Arc::new(core) }
    }

    /// Replace what is known. Peers that are in both tables keep their links; others end theirs when their calls are answered.
    ///
    /// # Errors
    /// The update is not newer, or names a peer that it does not have; nothing is changed.
    pub fn apply(&self, update: TableUpdate) -> Result<()> {
        let core = &self.core;
        let _one_at_a_time = core.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = core.table.load_full();
        if update.revision <= before.revision {
            return Err(Error::invalid(format!("revision {} is not newer than {}", update.revision, before.revision)));
        }
        let count = update.peers.len();
        if update.destinations.iter().flat_map(|found| &found.replicas).chain(&update.any).any(|&at| at >= count) {
            return Err(Error::invalid(format!("a replica is not one of the {count} peers")));
        }
        let mut known: HashMap<&PeerAddress, &Arc<Peer>> = before.peers.iter().map(|peer| (&peer.at, peer)).collect();
        let peers: Vec<Arc<Peer>> =
            update.peers.into_iter().map(|at| known.remove(&at).cloned().unwrap_or_else(|| core.peer(at))).collect();
        let by_name = update.destinations.iter().map(|found| {
            let name = core.names.intern(&found.pipeline, &found.version);
            (name.index, (name, found.replicas.iter().map(|&at| peers[at].clone()).collect()))
        });
        let by_name = by_name.collect();
        let any = update.any.iter().map(|&at| peers[at].clone()).collect();
        core.table.store(Arc::new(Table { revision: update.revision, peers, by_name, any }));
        for gone in known.into_values() {
            gone.retire();
        }
        Ok(())
    }

    /// A target that forwards requests for *version* of *pipeline*, which has *signature*.
    pub fn target(
        &self,
        pipeline: &str,
        version: &str,
        signature: &Signature,
        metrics: Arc<PipelineMetrics>,
    ) -> Arc<dyn Dispatch> {
        let name = self.core.names.intern(pipeline, version);
        Arc::new(Target { core: self.core.clone(), name, pipeline: Arc::new(Pipeline::new(signature, metrics)) })
    }

    /// Names of pipeline versions.
    pub fn names(&self) -> Arc<Names> {
        self.core.names.clone()
    }

    /// Who we are.
    pub fn identity(&self) -> Arc<Identity> {
        self.core.identity.clone()
    }

    /// Takes the calls of other processes.
    pub fn calls(&self) -> Arc<dyn Calls> {
        Arc::new(Passing(self.core.clone()))
    }

    /// Counters since the start.
    pub fn status(&self) -> ForwarderStatus {
        let (now, links) = (Instant::now(), &self.core.registry.links);
        let status = |peer: &Arc<Peer>| PeerStatus {
            at: peer.at.clone(),
            links: peer.links(),
            outstanding: peer.outstanding(),
            ejected: peer.is_ejected(now),
            waiting_rows: peer.waiting_rows(),
            last_error: peer.last_error(),
        };
        ForwarderStatus {
            peers: self.core.table.load().peers.iter().map(status).collect(),
            forwarded: links.sent.get(),
            retried: links.retried.get(),
            retries_refused: links.retries_refused.get(),
            hedged: links.hedged.get(),
            hedges_won: links.hedges_won.get(),
        }
    }
}

/// Forwards requests of one pipeline version.
struct Target {
    core: Arc<Core>,
    name: Arc<ProgramName>,
    pipeline: Arc<Pipeline>,
}

impl Dispatch for Target {
    #[inline]
    fn submit(&self, request: Request) {
        let Request { inputs, rows, arrived, deadline, reply } = request;
        let trace = reply.trace();
        let waiter = Waiter::Client { reply, pipeline: self.pipeline.clone() };
        let (name, inputs) = (self.name.clone(), Body::Tensors(inputs));
        self.core.begin(Flight::new(Ask { name, rows: rows as u32, inputs, arrived, deadline, trace }, 0, waiter));
    }
}

/// Passes on the calls of other processes.
struct Passing(Arc<Core>);

impl Calls for Passing {
    #[inline]
    fn take(&self, call: Inbound) {
        let Inbound { name, head, inputs, arrived, answering } = call;
        let waiter = Waiter::Process { answering, _under_way: UnderWay::new(self.0.registry.clone()) };
        let deadline = head.timeout.and_then(|timeout| arrived.checked_add(timeout));
        let trace = Trace { request_id: head.request_id, traceparent: head.traceparent };
        let ask = Ask { name, rows: head.rows, inputs: Body::Raw(inputs), arrived, deadline, trace };
        self.0.begin(Flight::new(ask, head.attempt, waiter));
    }
}

impl Core {
    fn peer(self: &Arc<Self>, at: PeerAddress) -> Arc<Peer> {
        let endpoint = Endpoint {
            address: at.address.clone(),
            member: at.name.clone(),
            tls: self.settings.tls.clone(),
            identity: self.identity.clone(),
            registry: self.registry.clone(),
            silence: self.settings.silence,
        };
        let id = self.next_peer.fetch_add(1, Relaxed);
        Peer::new(at, id, self.reactors.count(), endpoint, &Arc::downgrade(self))
    }
}
