//! `POST /v1/pipelines/{name}/infer`: frames as JSON records or Arrow, in and out independently.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bettong_frame::bind::Strictness;
use bettong_frame::{Answer, Error, ErrorKind, Result};
use bettong_wire::arrow::{self, ArrowKind};
use bettong_wire::dataset::Dataset;
use bettong_wire::frames::Frame;
use bettong_wire::records;
use bettong_wire::reply::{Metadata, ReplyFrame};
use bytes::Bytes;
use smallvec::SmallVec;

use super::infer::{Infer, LARGE_BYTES, admitted, is_heavy};
use super::reply::{JSON, failure};
use super::{Asked, Client, Reply};
use crate::account::Account;
use crate::routes::Entry;
use crate::shared::Shared;

/// How a frame is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    Records,
    Arrow(ArrowKind),
}

impl Media {
    const ALL: [Self; 3] = [Self::Records, Self::Arrow(ArrowKind::File), Self::Arrow(ArrowKind::Stream)];

    const fn media_type(self) -> &'static str {
        match self {
            Self::Records => JSON,
            Self::Arrow(kind) => kind.media_type(),
        }
    }

    /// The format that a media type without its parameters names.
    fn named(essence: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|media| media.media_type().eq_ignore_ascii_case(essence))
    }

    /// The format of a body; JSON when nothing is said, as `curl -d` sends it.
    fn of_body(content_type: Option<&Bytes>) -> Result<Self> {
        let Some(value) = content_type else { return Ok(Self::Records) };
        let text = String::from_utf8_lossy(value);
        let essence = text.split(';').next().unwrap_or_default().trim();
        if essence.is_empty() || essence == "application/x-www-form-urlencoded" {
            return Ok(Self::Records);
        }
        Self::named(essence).ok_or_else(|| {
            Error::new(ErrorKind::UnsupportedMediaType, format!("content-type '{essence}' is not read here; send {}", known()))
        })
    }

    /// The first format that the client takes; that of the body when it takes any.
    fn of_reply(accept: Option<&Bytes>, body: Self) -> Result<Self> {
        let Some(value) = accept else { return Ok(body) };
        let text = String::from_utf8_lossy(value);
        let mut best = (0.0, None);
        for range in text.split(',') {
            let (essence, weight) = weighted(range);
            let any = matches!(essence, "*/*" | "application/*" | "");
            let media = if any { Some(body) } else { Self::named(essence) };
            if media.is_some() && weight > best.0 {
                best = (weight, media);
            }
        }
        if let (_, Some(media)) = best {
            return Ok(media);
        }
        Err(Error::new(ErrorKind::NotAcceptable, format!("none of '{text}' can be written here; accept {}", known())))
    }

    fn decode(self, body: &Bytes, entry: &Entry) -> Result<Frame> {
        match self {
            Self::Records => records::decode(body, &entry.route.signature),
            Self::Arrow(kind) => arrow::decode(body, kind, &entry.route.signature),
        }
    }
}

/// A media range of an `accept` header with its weight (RFC 9110, 12.4.2).
fn weighted(range: &str) -> (&str, f64) {
    let mut parts = range.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    (essence, weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
}

fn known() -> String {
    Media::ALL.map(Media::media_type).join(", ")
}

/// Run one request.
pub async fn infer(
    shared: &Arc<Shared>,
    asked: &Asked<'_>,
    body: Bytes,
    client: &mut impl Client,
    (name, version): (&str, &str),
) -> Reply {
    let account = |entry| Account { protocol: "native", entry, head: asked.head };
    let entry = match shared.routes.find(name, version) {
        Ok(entry) => entry,
        Err(error) => return failure(shared, &account(None), &error, asked.path),
    };
    match run(shared, asked, body, client, &entry).await {
        Ok((reply, answer)) => {
            account(Some(&entry)).answered(shared, &answer, reply.body.len());
            reply
        }
        Err(error) => failure(shared, &account(Some(&entry)), &error, asked.path),
    }
}

async fn run(
    shared: &Arc<Shared>,
    asked: &Asked<'_>,
    body: Bytes,
    client: &mut impl Client,
    entry: &Arc<Entry>,
) -> Result<(Reply, Arc<Answer>)> {
    let from = Media::of_body(asked.head.content_type.as_ref())?;
    let to = Media::of_reply(asked.head.accept.as_ref(), from)?;
    let dataset = Dataset::from_query(asked.query)?;
    let mut permit = shared.admit(body.len())?;
    let (is_heavy, decoding) = (is_heavy(asked.head, body.len()), (shared.clone(), asked.head.clone(), entry.clone()));
    let decode = move || {
        let (shared, head, entry) = decoding;
        let body = admitted(&shared, &head, body, &mut permit)?;
        Ok((permit, body.len(), from.decode(&body, &entry)?))
    };
    let (permit, bytes, frame) = maybe_apart(shared, is_heavy, decode).await?;
    entry.metrics.request_bytes.add(bytes as u64);
    let parsed = Instant::now();
    let infer = Infer { entry, asked, columns: &frame.columns, strictness: Strictness::Frame, timeout: None };
    let answer = Arc::new(infer.run(client).await?);
    let written = Written {
        entry: entry.clone(),
        frame,
        answer: answer.clone(),
        parse_ns: (parsed - asked.arrived).as_nanos() as u64,
        partition: shared.engine_name.clone(),
    };
    let body = maybe_apart(shared, bytes >= LARGE_BYTES, move || written.write(to, &dataset)).await?;
    Ok((Reply { content_type: to.media_type(), body, permit: Some(permit), ..Reply::default() }, answer))
}

/// Do *work* here, or on another thread when it *is heavy*.
async fn maybe_apart<T: Send + 'static>(
    shared: &Shared,
    is_heavy: bool,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if is_heavy { shared.apart(work).await? } else { work() }
}

/// Everything that a reply is written from.
struct Written {
    entry: Arc<Entry>,
    frame: Frame,
    answer: Arc<Answer>,
    parse_ns: u64,
    partition: String,
}

impl Written {
    fn write(&self, to: Media, dataset: &Dataset) -> Result<Bytes> {
        let (route, timing) = (&self.entry.route, &self.answer.timing);
        let mut elapsed_ns: SmallVec<[u64; 8]> = smallvec::smallvec![self.parse_ns + timing.queue_ns];
        elapsed_ns.extend_from_slice(&timing.steps_ns);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let reply = ReplyFrame {
            time_ms: now.as_millis() as i64,
            frame: &self.frame,
            specs: &route.signature.outputs,
            outputs: &self.answer.outputs,
            anomaly_counts: &[],
            metadata: Metadata {
                last_model: &route.last_model,
                pipeline_version: &route.version,
                elapsed_ns: &elapsed_ns,
                dropped: &[],
                partition: &self.partition,
            },
        };
        match to {
            Media::Records => reply.write_json(dataset),
            Media::Arrow(kind) => reply.write_arrow(dataset, kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn reply_formats_follow_accept_and_not_the_body() {
        let stream = Media::Arrow(ArrowKind::Stream);
        let cases = [
            ("application/json; format=pandas-records", Media::Records),
            ("text/html, application/vnd.apache.arrow.file", Media::Arrow(ArrowKind::File)),
            ("*/*", stream),
            ("application/json;q=0.1, application/vnd.apache.arrow.file;q=0.5", Media::Arrow(ArrowKind::File)),
            ("application/json;q=0, application/vnd.apache.arrow.file", Media::Arrow(ArrowKind::File)),
        ];
        for (accept, expected) in cases {
            assert_eq!(expected, Media::of_reply(Some(&media(accept)), stream).unwrap(), "{accept}");
        }
        assert_eq!(ErrorKind::NotAcceptable, Media::of_reply(Some(&media("text/html")), stream).unwrap_err().kind);
        assert_eq!(stream, Media::of_reply(None, stream).unwrap());
    }

    #[test]
    fn unknown_bodies_are_refused_by_their_type() {
        assert_eq!(ErrorKind::UnsupportedMediaType, Media::of_body(Some(&media("text/csv"))).unwrap_err().kind);
        assert_eq!(Media::Records, Media::of_body(None).unwrap());
    }
}
