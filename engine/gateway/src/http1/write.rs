//! Heads of replies.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::head::Ending;
use crate::head::Head;
use crate::rest::Reply;

/// Bodies of at least this many bytes are sent from where they are; smaller ones are copied behind their head.
const APART_BYTES: usize = 16 << 10;

/// Whether the body of *reply* is sent from where it is.
fn is_apart(reply: &Reply) -> bool {
    reply.body.len() >= APART_BYTES
}

/// The body of *reply* if it is sent from where it is, else nothing.
pub fn apart(reply: &Reply) -> Bytes {
    if is_apart(reply) { reply.body.clone() } else { Bytes::new() }
}

/// Append the head of *reply*, and its body unless that is sent from where it is.
#[inline]
pub fn put(output: &mut BytesMut, reply: &Reply, head: &Head, ending: Ending, now: Instant) {
    output.reserve(256 + if is_apart(reply) { 0 } else { reply.body.len() });
    if reply.status == 200 {
        output.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        put_status(output, reply.status);
    }
    if !reply.content_type.is_empty() {
        output.extend_from_slice(b"content-type: ");
        output.extend_from_slice(reply.content_type.as_bytes());
        output.extend_from_slice(b"\r\n");
    }
    for (name, value) in &reply.headers {
        put_header(output, name.as_bytes(), value.as_bytes());
    }
    for (name, value) in head.echoed() {
        put_header(output, name.as_bytes(), &value);
    }
    if let Some(connection) = ending.connection {
        put_header(output, b"connection", connection.as_bytes());
    }
    output.extend_from_slice(b"content-length: ");
    put_number(output, reply.body.len());
    output.extend_from_slice(b"\r\ndate: ");
    put_date(output, now);
    output.extend_from_slice(b"\r\n\r\n");
    if !ending.without_body && !is_apart(reply) {
        output.extend_from_slice(&reply.body);
    }
}

fn put_header(output: &mut BytesMut, name: &[u8], value: &[u8]) {
    output.extend_from_slice(name);
    output.extend_from_slice(b": ");
    output.extend_from_slice(value);
    output.extend_from_slice(b"\r\n");
}

#[cold]
fn put_status(output: &mut BytesMut, status: u16) {
    let reason =
        StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Client Closed Request");
    output.extend_from_slice(format!("HTTP/1.1 {status} {reason}\r\n").as_bytes());
}

fn put_number(output: &mut BytesMut, mut number: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    output.extend_from_slice(&digits[at..]);
}

/// The date, written anew once a second on each thread.
fn put_date(output: &mut BytesMut, now: Instant) {
    thread_local! {
        /// With the time until which it is right.
        static WRITTEN: RefCell<Option<(Instant, String)>> = const { RefCell::new(None) };
    }
    WRITTEN.with_borrow_mut(|written| {
        if written.as_ref().is_none_or(|(until, _)| now >= *until) {
            *written = Some((now + Duration::from_secs(1), httpdate::fmt_http_date(SystemTime::now())));
        }
        if let Some((_, text)) = written {
            output.extend_from_slice(text.as_bytes());
        }
    });
}
