//! A client for one HTTP/1.1 connection.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Sends the same request again and again.
pub struct Http1 {
    stream: TcpStream,
    request: Vec<u8>,
    received: Vec<u8>,
    body_start: usize,
}

impl Http1 {
    /// Connect to *address*. With `json_bytes`, the body is JSON of that length with binary data behind it.
    pub fn connect(address: SocketAddr, path: &str, body: &[u8], json_bytes: Option<usize>) -> Result<Self, Box<dyn Error>> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let content = match json_bytes {
            None => "content-type: application/json".to_owned(),
            Some(length) => format!("content-type: application/octet-stream\r\ninference-header-content-length: {length}"),
        };
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nuser-agent: bench\r\naccept: */*\r\n{content}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        Ok(Self { stream, request, received: Vec::new(), body_start: 0 })
    }

    /// Send the request and read its reply. Return the length of the reply's JSON if binary data is behind it.
    pub fn exchange(&mut self) -> Result<Option<usize>, Box<dyn Error>> {
        self.stream.write_all(&self.request)?;
        self.received.clear();
        self.body_start = self.read_head()?;
        let head = std::str::from_utf8(&self.received[..self.body_start])?.to_ascii_lowercase();
        let length = header(&head, "content-length").ok_or("a reply without a length")?;
        while self.received.len() < self.body_start + length {
            self.read_some()?;
        }
        if !head.starts_with("http/1.1 200 ") {
            return Err(format!("{head}{}", String::from_utf8_lossy(self.body())).into());
        }
        Ok(header(&head, "inference-header-content-length"))
    }

    /// Body of the last reply.
    pub fn body(&self) -> &[u8] {
        &self.received[self.body_start..]
    }

    fn read_head(&mut self) -> Result<usize, Box<dyn Error>> {
        loop {
            if let Some(at) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok(at + 4);
            }
            self.read_some()?;
        }
    }

    fn read_some(&mut self) -> Result<(), Box<dyn Error>> {
        let mut buffer = [0; 16 << 10];
        let read = self.stream.read(&mut buffer)?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        self.received.extend_from_slice(&buffer[..read]);
        Ok(())
    }
}

fn header(head: &str, name: &str) -> Option<usize> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}
