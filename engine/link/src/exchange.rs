//! One stream of bundles above HTTP/2.

use std::task::{Context, Poll};

use bettong_frame::{Error, ErrorKind, Result};
use bettong_wire::grpc::{Encoding, MessageReader};
use bettong_wire::link::{Hello, Item, decode};
use bytes::Bytes;
use h2::{RecvStream, SendStream};

use crate::MAX_BUNDLE_BYTES;

/// The bundles that come in.
pub struct Incoming {
    body: RecvStream,
    reader: MessageReader,
}

impl Incoming {
    /// The bundles in *body*.
    pub fn new(body: RecvStream) -> Self {
        Self { body, reader: MessageReader::new(Encoding::Identity, MAX_BUNDLE_BYTES) }
    }

    /// The next bundle; `None` when the other side has ended the stream.
    #[inline]
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        loop {
            match self.reader.next_message() {
                Ok(Some(bundle)) => return Poll::Ready(Some(Ok(bundle))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match self.body.poll_data(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(broken(&error)))),
                Poll::Ready(Some(Ok(chunk))) => {
                    // Given back at once: what is held is bounded by the windows of calls.
                    let _ = self.body.flow_control().release_capacity(chunk.len());
                    self.reader.push(chunk);
                }
            }
        }
    }

    /// What the other side says after its last bundle, if that has come.
    pub fn poll_status(&mut self, context: &mut Context<'_>) -> Option<Error> {
        let Poll::Ready(Ok(Some(trailers))) = self.body.poll_trailers(context) else { return None };
        let message = trailers.get("grpc-message")?.to_str().ok()?;
        Some(Error::new(ErrorKind::Unavailable, message.to_owned()))
    }
}

/// Who sends *bundle*, the first of its side.
pub fn hello_in(bundle: &Bytes) -> Result<Box<Hello>> {
    let mut hello = None;
    decode(bundle, |item| {
        if let Item::Hello(found) = item {
            hello = Some(found);
        }
    })?;
    hello.ok_or_else(|| Error::invalid("the first bundle says not who sends it"))
}

/// Send *pieces* of bundles.
#[inline]
pub fn send(stream: &mut SendStream<Bytes>, pieces: Vec<Bytes>) -> Result<()> {
    for piece in pieces {
        stream.send_data(piece, false).map_err(|error| broken(&error))?;
    }
    Ok(())
}

/// The failure of a connection.
#[cold]
pub fn broken(error: &h2::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the connection broke: {error}"))
}
