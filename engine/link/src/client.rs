//! The side of a link that makes calls: one link for each lane and peer, used from the thread of that lane only.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use bettong_frame::{Error, ErrorKind, Result};
use bettong_telemetry::Registry;
use bettong_wire::link::{Body, BundleWriter, CallHead, Item, OutcomeHead, PATH, decode};
use bytes::Bytes;
use h2::SendStream;
use h2::client::Connection;
use http::{Request, header};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::exchange::{Incoming, broken, hello_in, send};
use crate::names::ProgramName;
use crate::open_calls::OpenCalls;
use crate::tls::{LinkTls, Stream};
use crate::{IDLE_BEAT, Identity, MAX_FRAME_BYTES, STREAM_WINDOW_BYTES};

/// A call as its owner keeps it until it is answered.
pub trait Carry: Send + 'static {
    /// What it asks for.
    fn name(&self) -> &Arc<ProgramName>;

    /// What it says; its sequence and name are set by the link.
    fn head(&self, now: Instant) -> CallHead;

    /// Its inputs.
    fn inputs(&self) -> &Body;

    /// Whether its outcome is of no more use: its client has left, or its deadline has passed.
    fn is_over(&mut self, now: Instant) -> bool;
}

/// What becomes of calls.
pub trait Events<T>: Send + Sync {
    /// A call was answered.
    fn outcome(&self, call: T, head: OutcomeHead, outputs: Bytes);

    /// The peer went away before it answered. `reached`: it may have begun to run it.
    fn lost(&self, call: T, error: &Error, reached: bool);

    /// The outcome of a call is of no more use; the peer has been told.
    fn over(&self, call: T);

    /// The link has ended.
    fn ended(&self, end: End<'_>);
}

/// How a link has ended.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// By itself: everything has been answered.
    Done,
    /// The peer went away, or was not reached.
    Lost(&'a Error),
    /// The two must not talk, whatever is tried. No call was sent.
    Refused(&'a Error),
}

/// Why a link does not take a call now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// As many calls of the pipeline are open as the peer takes.
    Full,
    /// The peer takes no more calls, or is not wanted any more.
    Leaving,
}

/// Where a link leads.
#[derive(Debug)]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// Role and name of the member that we mean.
    pub member: String,
    /// How both sides prove themselves, if they do.
    pub tls: Option<LinkTls>,
    /// Who we are.
    pub identity: Arc<Identity>,
    /// What is counted.
    pub registry: Arc<Registry>,
    /// A peer that has calls and has not said anything for so long is given up.
    pub silence: Duration,
}

/// A link to one peer.
pub struct Link<T> {
    endpoint: Arc<Endpoint>,
    state: Mutex<State<T>>,
    waker: AtomicWaker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not connected; the next call connects.
    Down,
    /// A task connects, or has.
    Up,
    /// The peer takes no more calls on this connection.
    Leaving,
    /// The peer is not wanted any more.
    Retired,
}

struct State<T> {
    phase: Phase,
    /// Whether the peer has said that it is the one we mean. Calls are sent from then on, and may have reached it.
    open: bool,
    writer: BundleWriter,
    calls: OpenCalls<T>,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How often calls are looked over for those that are of no more use.
const SWEEP: Duration = Duration::from_millis(50);

impl<T: Carry> Link<T> {
    /// A link that connects with its first call.
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        let state = State { phase: Phase::Down, open: false, writer: BundleWriter::default(), calls: OpenCalls::default() };
        Self { endpoint, state: Mutex::new(state), waker: AtomicWaker::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is connected or connecting.
    pub fn is_up(&self) -> bool {
        self.lock().phase == Phase::Up
    }

    /// Make *call*, or give it back if its window is full or the peer takes no more. *events* hears of its outcome.
    #[inline]
    pub fn submit(self: &Arc<Self>, call: T, now: Instant, events: &Arc<dyn Events<T>>) -> std::result::Result<(), (T, Busy)> {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Leaving | Phase::Retired) {
            return Err((call, Busy::Leaving));
        }
        if !state.calls.has_room(call.name().index, call.inputs().size_bytes() as u64) {
            return Err((call, Busy::Full));
        }
        if state.phase == Phase::Down {
            state.phase = Phase::Up;
            tokio::spawn(self.clone().run(events.clone()));
        }
        let State { writer, calls, .. } = &mut *state;
        calls.put(call, now, writer);
        drop(state);
        self.endpoint.registry.links.sent.add(1);
        self.waker.wake();
        Ok(())
    }

    /// Take no more calls, and end when those that are open have been answered.
    pub fn retire(&self) {
        self.lock().phase = Phase::Retired;
        self.waker.wake();
    }

    async fn run(self: Arc<Self>, events: Arc<dyn Events<T>>) {
        let ended = match self.connect_in_time(&*events).await {
            Ok(mut exchange) => {
                self.endpoint.registry.links.links.add(1);
                let ended = poll_fn(|context| exchange.poll(context, &*events)).await;
                self.endpoint.registry.links.links.add(-1);
                ended
            }
            Err(error) => Err(error),
        };
        let (calls, reached) = self.lock().end();
        events.ended(match &ended {
            Ok(()) => End::Done,
            Err(error) if !reached && error.kind != ErrorKind::Unavailable => End::Refused(error),
            Err(error) => End::Lost(error),
        });
        let error = ended.err().unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "the peer has left"));
        for call in calls {
            self.endpoint.registry.links.lost.add(1);
            events.lost(call, &error, reached);
        }
    }

    /// Hear who the peer is. *bundle* is its first.
    fn greet(&self, bundle: &Bytes) -> Result<()> {
        let Endpoint { identity, address, member, .. } = &*self.endpoint;
        let hello = hello_in(bundle)?;
        identity.check("the peer", &hello)?;
        let found = format!("{}/{}", hello.role, hello.member);
        if found != *member {
            return Err(Error::invalid(format!("{address} is {found}, not {member}")));
        }
        let mut state = self.lock();
        state.calls.grant(hello.window_calls, hello.window_bytes);
        state.open = true;
        Ok(())
    }

    /// Connect, and let calls go meanwhile that are of no more use.
    async fn connect_in_time(self: &Arc<Self>, events: &dyn Events<T>) -> Result<Exchange<T>> {
        let mut connecting = std::pin::pin!(tokio::time::timeout(CONNECT_TIMEOUT, self.connect()));
        let connected = loop {
            match tokio::time::timeout(SWEEP, &mut connecting).await {
                Ok(connected) => break connected,
                Err(_not_yet) => {
                    let over = self.lock().sweep(Instant::now());
                    for call in over {
                        events.over(call);
                    }
                }
            }
        };
        connected.unwrap_or_else(|_late| {
            Err(Error::new(ErrorKind::Unavailable, format!("{} did not answer in time", self.endpoint.address)))
        })
    }

    async fn connect(self: &Arc<Self>) -> Result<Exchange<T>> {
        let address = &self.endpoint.address;
        let unreachable = |error: &dyn std::fmt::Display| Error::new(ErrorKind::Unavailable, format!("{address}: {error}"));
        let stream = TcpStream::connect(address).await.map_err(|error| unreachable(&error))?;
        let _ = stream.set_nodelay(true);
        if stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback()) {
            // As for connections that come in: no model of the path is needed where nothing is lost.
            let _ = socket2::SockRef::from(&stream).set_tcp_congestion(b"reno");
        }
        let stream = match &self.endpoint.tls {
            None => Stream::Plain(stream),
            Some(tls) => tls.connect(address, stream).await.map_err(|error| unreachable(&error))?,
        };
        let (mut sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(STREAM_WINDOW_BYTES)
            .max_frame_size(MAX_FRAME_BYTES)
            .handshake(stream)
            .await
            .map_err(|error| broken(&error))?;
        let request = Request::post(format!("http://{address}{PATH}"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(())
            .map_err(|error| unreachable(&error))?;
        let (response, mut outgoing) = sender.send_request(request, false).map_err(|error| broken(&error))?;
        let mut writer = BundleWriter::default();
        writer.put_hello(&self.endpoint.identity.hello());
        send(&mut outgoing, writer.take())?;
        Ok(Exchange {
            link: self.clone(),
            connection: Box::new(connection),
            _sender: sender,
            response: Some(Box::pin(response)),
            incoming: None,
            outgoing,
            greeted: false,
            heard: Instant::now(),
            pinged: None,
            beats: 0,
            beat: Box::pin(tokio::time::sleep(SWEEP)),
            sweeping: true,
        })
    }
}

impl<T: Carry> State<T> {
    /// Calls that are of no more use; the peer is told.
    fn sweep(&mut self, now: Instant) -> Vec<T> {
        let over = self.calls.sweep(now);
        over.into_iter()
            .map(|(sequence, call)| {
                self.writer.put_cancel(sequence);
                call
            })
            .collect()
    }

    /// Make no more calls on this connection: the peer takes none.
    fn leave(&mut self) {
        if self.phase == Phase::Up {
            self.phase = Phase::Leaving;
        }
    }

    /// Forget the connection. Return the calls that were open, and whether they may have reached the peer.
    fn end(&mut self) -> (Vec<T>, bool) {
        let reached = std::mem::take(&mut self.open);
        if self.phase != Phase::Retired {
            self.phase = Phase::Down;
        }
        self.writer = BundleWriter::default();
        (std::mem::take(&mut self.calls).into_calls(), reached)
    }
}

/// One connection of a link.
struct Exchange<T> {
    link: Arc<Link<T>>,
    connection: Box<Connection<Stream, Bytes>>,
    /// Held, because a connection ends when its last sender goes.
    _sender: h2::client::SendRequest<Bytes>,
    response: Option<Pin<Box<h2::client::ResponseFuture>>>,
    incoming: Option<Incoming>,
    outgoing: SendStream<Bytes>,
    /// Whether the peer has said who it is.
    greeted: bool,
    /// When something came last.
    heard: Instant,
    /// When a sign of life was asked for that has not come.
    pinged: Option<Instant>,
    beats: u64,
    beat: Pin<Box<Sleep>>,
    /// Whether the next beat comes soon, because calls are open.
    sweeping: bool,
}

impl<T: Carry> Exchange<T> {
    /// Ready when the link has ended.
    fn poll(&mut self, context: &mut Context<'_>, events: &dyn Events<T>) -> Poll<Result<()>> {
        // First, so that what comes after the looks below wakes this task again.
        self.link.waker.register(context.waker());
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut *self.connection).poll(context) {
                // What the peer said before it ended has been read by then.
                let status = if self.read(context, events)? { self.status(context) } else { None };
                return status.map_or_else(|| ended.map_err(|error| broken(&error)), Err).into();
            }
            if self.read(context, events)? {
                return Poll::Ready(self.status(context).map_or(Ok(()), Err));
            }
            self.keep_time(context, events)?;
            let (pieces, done) = {
                let mut state = self.link.lock();
                // Calls wait until it is known to whom they go.
                let silent = !state.open || state.writer.is_empty();
                let pieces = if silent { Vec::new() } else { state.writer.take() };
                (pieces, state.phase == Phase::Retired && state.calls.is_empty())
            };
            if pieces.is_empty() {
                return if done { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            self.link.endpoint.registry.links.bundles.add(1);
            send(&mut self.outgoing, pieces)?;
        }
    }

    /// Why the peer ended the stream, if it says so. Before its hello that is a refusal.
    fn status(&mut self, context: &mut Context<'_>) -> Option<Error> {
        let said = self.incoming.as_mut().and_then(|incoming| incoming.poll_status(context))?;
        Some(if self.greeted { said } else { refusal(&said.message) })
    }

    /// Take what has come. Return whether the peer has ended the stream.
    fn read(&mut self, context: &mut Context<'_>, events: &dyn Events<T>) -> Result<bool> {
        if let Some(response) = &mut self.response {
            let Poll::Ready(response_) = response.as_mut().poll(context) else { return Ok(false) };
            let response = response_.map_err(|error| broken(&error))?;
            self.response = None;
            if response.status() != http::StatusCode::OK || response.headers().contains_key("grpc-status") {
                return Err(refused(response.headers()));
            }
            self.incoming = Some(Incoming::new(response.into_body()));
        }
        let Some(incoming) = &mut self.incoming else { return Ok(false) };
        while let Poll::Ready(bundle) = incoming.poll_next(context) {
            let Some(bundle) = bundle else { return Ok(true) };
            let bundle = bundle?;
            (self.heard, self.pinged) = (Instant::now(), None);
            if !self.greeted {
                self.link.greet(&bundle)?;
                self.greeted = true;
                continue;
            }
            let link = &self.link;
            decode(&bundle, |item| match item {
                Item::Outcome(head, outputs) => {
                    let call = link.lock().calls.take(head.sequence);
                    if let Some(call) = call {
                        events.outcome(call, head, outputs);
                    }
                }
                Item::Leaving => link.lock().leave(),
                Item::Ping(number) => link.lock().writer.put_pong(number),
                Item::Hello(_) | Item::Pong(_) | Item::Name { .. } | Item::Call(..) | Item::Cancel(_) => {}
            })?;
        }
        Ok(false)
    }

    /// Look over the calls from time to time, and ask a silent peer for a sign of life.
    fn keep_time(&mut self, context: &mut Context<'_>, events: &dyn Events<T>) -> Result<()> {
        let busy = !self.link.lock().calls.is_empty();
        if busy && !self.sweeping {
            self.set_beat(SWEEP);
        }
        while self.beat.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let (over, open) = {
                let mut state = self.link.lock();
                (state.sweep(now), !state.calls.is_empty())
            };
            for call in over {
                events.over(call);
            }
            self.look_for_silence(now)?;
            self.set_beat(if open { SWEEP } else { IDLE_BEAT });
        }
        Ok(())
    }

    fn set_beat(&mut self, after: Duration) {
        self.sweeping = after == SWEEP;
        self.beat.as_mut().reset(tokio::time::Instant::now() + after);
    }

    fn look_for_silence(&mut self, now: Instant) -> Result<()> {
        let silence = self.link.endpoint.silence;
        if let Some(pinged) = self.pinged {
            if now.duration_since(pinged) >= silence {
                let message = format!("{} has not said anything for {} ms", self.link.endpoint.address, silence.as_millis());
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
        } else if now.duration_since(self.heard) >= silence / 4 {
            self.beats += 1;
            self.pinged = Some(now);
            self.link.lock().writer.put_ping(self.beats);
        }
        Ok(())
    }
}

/// The refusal in *headers*.
#[cold]
fn refused(headers: &http::HeaderMap) -> Error {
    let message = headers.get("grpc-message").and_then(|message| message.to_str().ok()).unwrap_or("it takes no links");
    refusal(message)
}

#[cold]
fn refusal(message: &str) -> Error {
    Error::invalid(format!("the peer refused the link: {message}"))
}
