//! The side of a link that takes calls: one task for each stream.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bettong_frame::{Error, ErrorKind, Result};
use bettong_telemetry::Registry;
use bettong_wire::grpc::encode_message;
use bettong_wire::link::{BundleWriter, CallHead, Hello, Item, decode};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response, header};
use tokio::sync::watch;
use tokio::time::Sleep;

use crate::exchange::{Incoming, broken, hello_in, send};
use crate::names::{Names, ProgramName};
use crate::outbox::{Answering, NAMELESS, Outbox};
use crate::tls::LinkTls;
use crate::{IDLE_BEAT, Identity};

/// A call that has come in.
pub struct Inbound {
    /// What it asks for.
    pub name: Arc<ProgramName>,
    /// What it says besides.
    pub head: CallHead,
    /// Its inputs: the content of a `Tensors` message.
    pub inputs: Bytes,
    /// When it came.
    pub arrived: Instant,
    /// Who waits.
    pub answering: Answering,
}

/// Takes calls.
pub trait Calls: Send + Sync {
    /// Take *call*, or answer it with the reason why not. Never blocks.
    fn take(&self, call: Inbound);

    /// Rows that wait here, for choosing among replicas.
    fn waiting_rows(&self) -> u32 {
        0
    }
}

/// What all links that come in share.
pub struct Service {
    /// Who we are.
    pub identity: Arc<Identity>,
    /// Names of pipeline versions.
    pub names: Arc<Names>,
    /// Takes the calls.
    pub calls: Arc<dyn Calls>,
    /// What is counted.
    pub registry: Arc<Registry>,
    /// How both sides prove themselves, if they do.
    pub tls: Option<LinkTls>,
    /// What has been said of those that were refused.
    pub refusals: Refusals,
}

/// Why links were refused, each reason logged once: those that are refused come back.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashSet<Box<str>>>);

/// Reasons that are remembered. They hold what strangers say, so that there may be many.
const KEPT_REASONS: usize = 64;

impl Refusals {
    fn is_news(&self, reason: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.len() < KEPT_REASONS && known.insert(reason.into())
    }
}

/// A link whose other side has not said anything for so long is given up: it says something every [`IDLE_BEAT`].
const SILENCE: Duration = Duration::from_secs(4 * IDLE_BEAT.as_secs());

/// The time for the first bundle to come.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

impl Service {
    /// Serve one stream until either side ends it. When *draining* becomes true, no more calls are taken, and the stream ends
    /// when those that came before have been answered.
    pub async fn serve(self: Arc<Self>, body: RecvStream, mut respond: SendResponse<Bytes>, mut draining: watch::Receiver<bool>) {
        let mut response = Response::new(());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let Ok(mut stream) = respond.send_response(response, false) else { return };
        let mut incoming = Incoming::new(body);
        let greeted = tokio::time::timeout(HELLO_TIMEOUT, self.greet(&mut incoming, &mut stream)).await;
        let hello = match greeted.unwrap_or_else(|_late| Err(Error::invalid("the first bundle did not come in time"))) {
            Ok(hello) => hello,
            // Code 9 is FAILED_PRECONDITION: the two must not talk, whatever is tried.
            Err(error) => return self.refuse(&mut stream, 9, &error),
        };
        let (cluster, role, member, round) = (&*hello.cluster, &*hello.role, &*hello.member, hello.round);
        tracing::debug!(event = "link_opened", cluster, role, member, round);
        self.registry.links.links.add(1);
        let drained = async move {
            // A sender that is gone never drains.
            if draining.wait_for(|&draining| draining).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let mut side = Side {
            service: &self,
            outbox: Arc::default(),
            names: HashMap::default(),
            incoming,
            stream,
            heard: Instant::now(),
            ended: false,
            leaving: false,
            drained: Box::pin(drained),
            beat: Box::pin(tokio::time::sleep(SILENCE)),
        };
        let ended = poll_fn(|context| side.poll(context)).await;
        side.outbox.close();
        self.registry.links.links.add(-1);
        if let Err(error) = &ended
            && error.kind != ErrorKind::Unavailable
        {
            // What came can't be read: the other side should know, because it will not get better by itself.
            self.refuse(&mut side.stream, error.kind.grpc_code(), error);
        }
        let reason = ended.err().map(|error| error.message).unwrap_or_default();
        tracing::debug!(event = "link_closed", role, member, round, reason = &*reason);
    }

    /// Hear who the other side is, and say who we are.
    async fn greet(&self, incoming: &mut Incoming, stream: &mut SendStream<Bytes>) -> Result<Box<Hello>> {
        let bundle = poll_fn(|context| incoming.poll_next(context)).await;
        let bundle = bundle.unwrap_or_else(|| Err(Error::invalid("the stream ended before its first bundle")))?;
        let hello = hello_in(&bundle)?;
        self.identity.check("the caller", &hello)?;
        let mut writer = BundleWriter::default();
        writer.put_hello(&self.identity.hello());
        send(stream, writer.take())?;
        Ok(hello)
    }

    /// End *stream* with the reason.
    #[cold]
    fn refuse(&self, stream: &mut SendStream<Bytes>, code: u8, error: &Error) {
        let reason = &*error.message;
        if self.refusals.is_news(reason) {
            tracing::warn!(event = "link_refused", reason);
        } else {
            tracing::debug!(event = "link_refused", reason);
        }
        let mut trailers = HeaderMap::with_capacity(2);
        trailers.insert("grpc-status", HeaderValue::from(u16::from(code)));
        if let Ok(message) = HeaderValue::try_from(encode_message(reason)) {
            trailers.insert("grpc-message", message);
        }
        let _ = stream.send_trailers(trailers);
    }
}

/// Our side of one link.
struct Side<'a> {
    service: &'a Service,
    outbox: Arc<Outbox>,
    /// By the other side's index.
    names: KnownNames,
    incoming: Incoming,
    stream: SendStream<Bytes>,
    /// When something came last.
    heard: Instant,
    /// The other side has nothing more to say.
    ended: bool,
    /// We have said that no more calls are taken.
    leaving: bool,
    drained: Pin<Box<dyn Future<Output = ()> + Send>>,
    beat: Pin<Box<Sleep>>,
}

impl Side<'_> {
    /// Ready when the link has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        // First, so that what comes after the looks below wakes this task again.
        self.outbox.register(context);
        if !self.leaving && self.drained.as_mut().poll(context).is_ready() {
            self.leaving = true;
            self.outbox.write(BundleWriter::put_leaving);
        }
        if !self.ended {
            self.ended = self.read(context)?;
        }
        let (pieces, idle) = self.outbox.take();
        if !pieces.is_empty() {
            self.service.registry.links.bundles.add(1);
            send(&mut self.stream, pieces)?;
        }
        if idle && (self.leaving || self.ended) {
            let mut trailers = HeaderMap::with_capacity(1);
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            return Poll::Ready(self.stream.send_trailers(trailers).map_err(|error| broken(&error)));
        }
        if self.ended && self.stream.poll_reset(context).is_ready() {
            return Poll::Ready(Err(Error::new(ErrorKind::Unavailable, "the other side has left")));
        }
        self.look_for_silence(context)
    }

    /// Take what has come. Return whether the other side has ended the stream.
    fn read(&mut self, context: &mut Context<'_>) -> Result<bool> {
        while let Poll::Ready(bundle) = self.incoming.poll_next(context) {
            let Some(bundle) = bundle else { return Ok(true) };
            self.heard = Instant::now();
            let bundle = bundle?;
            let (service, outbox, names, arrived) = (self.service, &self.outbox, &mut self.names, self.heard);
            decode(&bundle, |item| match item {
                Item::Call(head, inputs) => service.take(outbox, names, head, inputs, arrived),
                Item::Name { index, pipeline, version } => {
                    introduce(outbox, names, index, service.names.intern(&pipeline, &version));
                }
                Item::Cancel(sequence) => outbox.cancel(sequence),
                Item::Ping(number) => outbox.write(|writer| writer.put_pong(number)),
                Item::Hello(_) | Item::Outcome(..) | Item::Pong(_) | Item::Leaving => {}
            })?;
        }
        Ok(false)
    }

    fn look_for_silence(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        while self.beat.as_mut().poll(context).is_ready() {
            let silent = self.heard.elapsed();
            if silent >= SILENCE {
                return Poll::Ready(Err(Error::new(ErrorKind::Unavailable, "the other side has fallen silent")));
            }
            self.beat.as_mut().reset(tokio::time::Instant::now() + SILENCE.saturating_sub(silent));
        }
        Poll::Pending
    }
}

type KnownNames = HashMap<u32, Known, foldhash::fast::FixedState>;

/// A pipeline version that the other side has introduced.
struct Known {
    name: Arc<ProgramName>,
    /// Where its open calls are counted.
    window: u32,
}

/// Note that *index* stands for *name* on this link. A name has one window, whatever indices it is given.
fn introduce(outbox: &Outbox, names: &mut KnownNames, index: u32, name: Arc<ProgramName>) {
    let same = names.values().find(|known| Arc::ptr_eq(&known.name, &name)).or_else(|| names.get(&index));
    let window = same.map_or_else(|| outbox.add_window(), |known| known.window);
    names.insert(index, Known { name, window });
}

/// Why a call is refused whose caller does not keep to what it was granted.
const OVERRUN: &str = "more calls of this pipeline are open on this link than its caller was granted";

impl Service {
    #[inline]
    fn take(&self, outbox: &Arc<Outbox>, names: &KnownNames, head: CallHead, inputs: Bytes, arrived: Instant) {
        self.registry.links.taken.add(1);
        let known = names.get(&head.name);
        let (answering, fits) = outbox.open(head.sequence, known.map_or(NAMELESS, |known| known.window), inputs.len() as u64);
        match known {
            Some(known) if fits => self.calls.take(Inbound { name: known.name.clone(), head, inputs, arrived, answering }),
            Some(_) => answering.fail(Error::new(ErrorKind::ResourceExhausted, OVERRUN), true, self.calls.waiting_rows()),
            None => answering.fail(Error::internal("a call has a name that was not introduced"), true, 0),
        }
    }
}
