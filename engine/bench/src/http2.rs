//! A client for one HTTP/2 connection (RFC 9113), one call at a time, with the frames that gRPC clients send.

use std::error::Error;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Largest frame that every server takes.
const FRAME_BYTES: usize = 16_384;

/// The server may always send: windows are not what is counted here.
const WINDOW: u32 = 1 << 30;

/// Makes the same call again and again.
pub struct Http2 {
    stream: BufReader<TcpStream>,
    body: Vec<u8>,
    /// Header block of the first call, which fills the server's table, and of the others, which point into it.
    first: Vec<u8>,
    others: Vec<u8>,
    next_stream: u32,
    received: Vec<u8>,
}

impl Http2 {
    /// Connect to *address* and exchange settings.
    pub fn connect(address: SocketAddr, path: &str, body: Vec<u8>) -> Result<Self, Box<dyn Error>> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let (first, others) = header_blocks(path, &address.to_string());
        let mut client = Self { stream: BufReader::new(stream), body, first, others, next_stream: 1, received: Vec::new() };
        client.greet()?;
        Ok(client)
    }

    fn greet(&mut self) -> Result<(), Box<dyn Error>> {
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut initial_window = vec![0, 4];
        initial_window.extend_from_slice(&WINDOW.to_be_bytes());
        put_frame(&mut hello, SETTINGS, 0, 0, &initial_window);
        put_frame(&mut hello, WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
        self.stream.get_mut().write_all(&hello)?;
        while self.read_frame()?.kind != SETTINGS {}
        let mut accepted = Vec::new();
        put_frame(&mut accepted, SETTINGS, ACK, 0, &[]);
        Ok(self.stream.get_mut().write_all(&accepted)?)
    }

    /// Make the call and return what the server sent until it ended the stream.
    pub fn exchange(&mut self) -> Result<&[u8], Box<dyn Error>> {
        let stream = self.next_stream;
        self.next_stream += 2;
        let block = if stream == 1 { &self.first } else { &self.others };
        let mut request = Vec::with_capacity(self.body.len() + 256);
        put_frame(&mut request, HEADERS, END_HEADERS, stream, block);
        let mut pieces = self.body.chunks(FRAME_BYTES).peekable();
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() { END_STREAM } else { 0 };
            put_frame(&mut request, DATA, flags, stream, piece);
        }
        self.stream.get_mut().write_all(&request)?;
        self.received.clear();
        loop {
            let frame = self.read_frame()?;
            if frame.kind == DATA {
                self.received.extend_from_slice(&frame.payload);
            }
            if frame.kind == GOAWAY || (frame.stream == stream && !matches!(frame.kind, DATA | HEADERS | WINDOW_UPDATE)) {
                return Err(format!("the server sent a frame of type {} instead of an answer", frame.kind).into());
            }
            if frame.stream == stream && frame.kind != WINDOW_UPDATE && frame.flags & END_STREAM != 0 {
                return Ok(&self.received);
            }
        }
    }

    fn read_frame(&mut self) -> Result<Frame, Box<dyn Error>> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let [high, middle, low, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        self.stream.read_exact(&mut payload)?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn put_frame(output: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    output.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    output.extend_from_slice(&[kind, flags]);
    output.extend_from_slice(&stream.to_be_bytes());
    output.extend_from_slice(payload);
}

/// Header blocks (RFC 7541) of the first call on a connection and of the others.
fn header_blocks(path: &str, authority: &str) -> (Vec<u8>, Vec<u8>) {
    // `:method: POST` and `:scheme: http` are in everybody's table.
    const POST_AND_HTTP: [u8; 2] = [0x80 | 3, 0x80 | 6];
    // Places in that table of `:path`, `:authority` and `content-type`.
    let known_names = [(4, path), (1, authority), (31, "application/grpc")];
    let mut first = POST_AND_HTTP.to_vec();
    for (name, value) in known_names {
        first.push(0x40 | name);
        put_text(&mut first, value);
    }
    first.push(0x40);
    put_text(&mut first, "te");
    put_text(&mut first, "trailers");
    // What was added last is at place 62.
    let mut others = POST_AND_HTTP.to_vec();
    others.extend((62..=65).rev().map(|place| 0x80 | place));
    (first, others)
}

/// A text of fewer than 127 bytes, as it is.
fn put_text(output: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() < 127, "longer texts need a longer length");
    output.push(text.len() as u8);
    output.extend_from_slice(text.as_bytes());
}
