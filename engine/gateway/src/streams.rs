//! Streams of other processes, which the data port takes besides the calls of clients.

use bettong_frame::Task;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// Serves one path with streams that last.
pub trait Streams: Send + Sync {
    /// Path of the gRPC method.
    fn path(&self) -> &str;

    /// How both sides prove themselves on every connection of the port, if they must.
    fn acceptor(&self) -> Option<&TlsAcceptor>;

    /// Serve one stream. When *draining* becomes true, it ends as soon as what has begun on it is done.
    fn serve(&self, body: RecvStream, respond: SendResponse<Bytes>, draining: watch::Receiver<bool>) -> Task;
}
