//! Heads of requests: what they ask, and how long their body is.

use std::sync::Arc;

use bettong_frame::{Error, ErrorKind, Result};
use bytes::{Buf, Bytes, BytesMut};
use http::Method;

use crate::head::Head;
use crate::rest::InferTarget;

/// Headers of one request.
pub const MAX_HEADERS: usize = 100;

/// Bytes of one head.
pub const MAX_HEAD_BYTES: usize = 64 << 10;

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body.
    #[default]
    None,
    /// `content-length`.
    Known(u64),
    /// `transfer-encoding: chunked`.
    Chunked,
}

/// What a request asks.
#[derive(Debug, Default)]
pub struct RequestLine {
    /// GET, POST, …
    pub method: Method,
    /// Path and query, as they came.
    target: Bytes,
    /// Where the path ends.
    path_end: usize,
    /// Whether the client waits to be told to send its body.
    pub expects_continue: bool,
    /// How the end of the body is known.
    pub body: BodyLength,
    /// What its reply depends on.
    pub manner: Manner,
}

/// How a request wants its reply to end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Whether the connection stays open.
    pub keep_alive: bool,
    /// HTTP/1.0, whose connections close unless both sides say otherwise.
    is_old: bool,
    /// The body is left out (HEAD).
    without_body: bool,
}

/// How a reply ends.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// What the `connection` header says, if it is needed.
    pub connection: Option<&'static str>,
    /// Whether the body is left out (HEAD).
    pub without_body: bool,
    /// Whether the connection is closed.
    pub closes: bool,
}

impl Manner {
    /// Whether the client understands what comes before a reply.
    #[inline]
    pub fn takes_interim(self) -> bool {
        !self.is_old
    }

    /// How the reply ends; *closing* when the server wants connections to end.
    #[inline]
    pub fn ending(self, closing: bool) -> Ending {
        let closes = closing || !self.keep_alive;
        let connection = match (closes, self.is_old) {
            (true, _) => Some("close"),
            (false, true) => Some("keep-alive"),
            (false, false) => None,
        };
        Ending { connection, without_body: self.without_body, closes }
    }
}

impl RequestLine {
    /// The path; `/` when there is none.
    pub fn path(&self) -> &str {
        // The target was checked to be ASCII when it was parsed.
        std::str::from_utf8(&self.target[..self.path_end]).unwrap_or("/")
    }

    /// The query, without the question mark; empty when there is none.
    pub fn query(&self) -> &str {
        let query = self.target.get(self.path_end + 1..).unwrap_or_default();
        std::str::from_utf8(query).unwrap_or_default()
    }
}

/// A head that was read.
#[derive(Debug, Default)]
pub struct Parsed {
    /// As it came.
    raw: Bytes,
    /// What it asks.
    pub line: RequestLine,
    /// Headers that matter.
    pub head: Arc<Head>,
    /// What it wants inferred.
    pub infer: Option<InferTarget>,
}

/// Take a head from the front of *input*; `None` when it is not complete.
fn parse_head(input: &mut BytesMut) -> Result<Option<Parsed>> {
    let mut headers = [const { std::mem::MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(input, &mut headers) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if input.len() < MAX_HEAD_BYTES => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => return Err(too_large()),
        Err(error) => return Err(Error::invalid(format!("the request is not HTTP: {error}"))),
    };
    // Ranges instead of references, because the parts are slices of the copy.
    let base = input.as_ptr() as usize;
    let range = |part: &[u8]| {
        let start = part.as_ptr() as usize - base;
        start..start + part.len()
    };
    let target = range(request.path.unwrap_or("/").as_bytes());
    let fields: smallvec::SmallVec<[_; 16]> =
        request.headers.iter().map(|header| (range(header.name.as_bytes()), range(header.value))).collect();
    let method = Method::from_bytes(request.method.unwrap_or_default().as_bytes())
        .map_err(|_| Error::invalid("the method is not one of HTTP's"))?;
    let minor = request.version.unwrap_or(1);
    // A copy, because it is kept longer than what comes after it.
    let whole = Bytes::copy_from_slice(&input[..length]);
    input.advance(length);
    let mut framing = Framing::new(minor);
    let mut head = Head::default();
    for (name, value) in fields {
        framing.add(&whole[name.clone()], &whole[value.clone()])?;
        head.add(&whole[name], &whole[value], |value| whole.slice_ref(value))?;
    }
    let target = origin_form(whole.slice(target));
    let path_end = target.iter().position(|&byte| byte == b'?').unwrap_or(target.len());
    framing.check(minor)?;
    let manner = Manner { keep_alive: framing.keep_alive, is_old: minor == 0, without_body: method == Method::HEAD };
    let (expects_continue, body) = (framing.expects_continue, framing.body);
    let line = RequestLine { method, target, path_end, expects_continue, body, manner };
    let infer = InferTarget::of(&line.method, line.path());
    Ok(Some(Parsed { raw: whole, line, head: Arc::new(head), infer }))
}

/// Reads the heads of one connection. Clients send the same head again and again: one that is the same, byte for byte, as the
/// one before is not parsed anew.
#[derive(Default)]
pub struct Heads {
    last: Parsed,
}

impl Heads {
    /// Take a head from the front of *input*; false when it is not complete.
    #[inline]
    pub fn take(&mut self, input: &mut BytesMut) -> Result<bool> {
        // It ends with an empty line, so it is never the start of another.
        if !self.last.raw.is_empty() && input.starts_with(&self.last.raw) {
            input.advance(self.last.raw.len());
            return Ok(true);
        }
        let Some(parsed) = parse_head(input)? else { return Ok(false) };
        self.last = parsed;
        Ok(true)
    }

    /// The head that was taken last.
    #[inline]
    pub fn last(&self) -> &Parsed {
        &self.last
    }
}

/// *target* without the scheme and authority that proxies send (RFC 9112, 3.2.2).
fn origin_form(target: Bytes) -> Bytes {
    if target.first() == Some(&b'/') {
        return target;
    }
    let after_scheme = target.windows(3).position(|part| part == b"://").map(|at| at + 3);
    let slash = after_scheme.and_then(|from| target[from..].iter().position(|&byte| byte == b'/').map(|at| from + at));
    slash.map_or_else(|| Bytes::from_static(b"/"), |at| target.slice(at..))
}

#[cold]
fn too_large() -> Error {
    Error::new(ErrorKind::TooLarge, "the head of the request is larger than 64 KiB or has more than 100 headers")
}

/// What the headers say about the message itself.
struct Framing {
    keep_alive: bool,
    expects_continue: bool,
    body: BodyLength,
    has_host: bool,
}

impl Framing {
    fn new(minor: u8) -> Self {
        Self { keep_alive: minor > 0, expects_continue: false, body: BodyLength::None, has_host: false }
    }

    fn add(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            4 if is("host") && self.has_host => return Err(Error::invalid_field("host", "a request has one host header")),
            4 if is("host") => self.has_host = true,
            6 if is("expect") => self.expects_continue = value.eq_ignore_ascii_case(b"100-continue"),
            10 if is("connection") => self.connection(value),
            14 if is("content-length") => self.content_length(value)?,
            17 if is("transfer-encoding") => self.transfer_encoding(value)?,
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.keep_alive = false;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            }
        }
    }

    /// One length, in digits only. Two ways to read a length are how requests are smuggled, so both are refused.
    fn content_length(&mut self, value: &[u8]) -> Result<()> {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let length = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
        let length = length.ok_or_else(|| Error::invalid_field("content-length", "content-length is not a number"))?;
        match self.body {
            BodyLength::Known(other) if other == length => Ok(()),
            BodyLength::None => {
                self.body = BodyLength::Known(length);
                Ok(())
            }
            _ => Err(ambiguous()),
        }
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<()> {
        if self.body != BodyLength::None {
            return Err(ambiguous());
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Error::new(ErrorKind::Unimplemented, "the only transfer-encoding that is read here is 'chunked'"));
        }
        self.body = BodyLength::Chunked;
        Ok(())
    }

    fn check(&self, minor: u8) -> Result<()> {
        if minor > 0 && !self.has_host {
            return Err(Error::invalid_field("host", "an HTTP/1.1 request must have a host header"));
        }
        if minor == 0 && self.body == BodyLength::Chunked {
            return Err(Error::invalid_field("transfer-encoding", "an HTTP/1.0 request can't be chunked"));
        }
        Ok(())
    }
}

#[cold]
fn ambiguous() -> Error {
    Error::invalid_field("content-length", "the length of the body is given twice")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Parsed>> {
        parse_head(&mut BytesMut::from(text))
    }

    #[test]
    fn a_head_is_taken_and_the_body_left() {
        let mut input = BytesMut::from("POST /v2/x?a=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nAccept: a/b\r\n\r\nabc");
        let Parsed { line, head, .. } = parse_head(&mut input).unwrap().unwrap();
        assert_eq!((Method::POST, "/v2/x", "a=1"), (line.method.clone(), line.path(), line.query()));
        assert_eq!((BodyLength::Known(3), true), (line.body, line.manner.keep_alive));
        assert_eq!(Some(&b"a/b"[..]), head.accept.as_deref());
        assert_eq!(b"abc", &input[..]);
    }

    #[test]
    fn a_head_like_the_one_before_is_taken_and_another_is_read() {
        let one = "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n";
        let other = "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 31\r\n\r\n";
        let mut heads = Heads::default();
        for (text, length) in [(one, 3), (one, 3), (other, 31), (one, 3)] {
            let mut input = BytesMut::from(text);
            assert!(!heads.take(&mut input.split_to(text.len() - 1)).unwrap());
            let mut input = BytesMut::from(&*format!("{text}abc"));
            assert!(heads.take(&mut input).unwrap());
            assert_eq!((BodyLength::Known(length), &b"abc"[..]), (heads.last().line.body, &input[..]));
            assert_eq!(InferTarget::of(&Method::POST, "/v2/models/m/infer"), heads.last().infer);
        }
    }

    #[test]
    fn an_incomplete_head_waits_until_it_is_too_large() {
        assert!(parse("GET / HTTP/1.1\r\nHost: h\r\n").unwrap().is_none());
        let long = format!("GET / HTTP/1.1\r\nHost: {}", "h".repeat(MAX_HEAD_BYTES));
        assert_eq!(ErrorKind::TooLarge, parse(&long).unwrap_err().kind);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(ErrorKind::TooLarge, parse(&many).unwrap_err().kind);
    }

    #[test]
    fn two_ways_to_read_a_length_are_refused() {
        for headers in [
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: 99999999999999999999999\r\n",
        ] {
            assert!(parse(&format!("POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n")).is_err(), "{headers}");
        }
    }

    #[test]
    fn connections_stay_open_as_their_version_and_header_say() {
        let keeps = |text: &str| parse(text).unwrap().unwrap().line.manner.keep_alive;
        assert!(keeps("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nHost: h\r\nConnection: foo, Close\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn a_host_is_required_and_an_absolute_target_is_understood() {
        assert!(parse("GET / HTTP/1.1\r\n\r\n").is_err());
        let Parsed { line, .. } = parse("GET http://h:1/a/b?c HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().unwrap();
        assert_eq!(("/a/b", "c"), (line.path(), line.query()));
    }
}
