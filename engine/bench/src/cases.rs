//! What is sent: each protocol with each model.

use std::error::Error;

use crate::http1::Http1;
use crate::http2::Http2;
use crate::messages;
use crate::serving::Server;

/// How a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One `ModelInfer` call.
    Unary,
    /// One `ModelStreamInfer` call of many messages.
    Stream,
    /// REST with numbers.
    Json,
    /// REST with the binary tensor extension.
    Binary,
}

/// One kind of request.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// How it is sent.
    pub protocol: Protocol,
    /// To which pipeline.
    pub pipeline: &'static str,
    /// Rows of a request.
    pub rows: usize,
    /// Requests of one exchange.
    pub messages: usize,
}

/// As many rows as come whole in one read of the server: how the kernel cuts larger bodies depends on the moment.
const JSON_ROWS: usize = 32;

/// Messages of one stream.
const STREAM_MESSAGES: usize = 100;

impl Case {
    /// As it is called in the budgets.
    pub fn name(&self) -> String {
        let protocol = match self.protocol {
            Protocol::Unary => "grpc-unary",
            Protocol::Stream => "grpc-stream",
            Protocol::Json => "rest-json",
            Protocol::Binary => "rest-binary",
        };
        format!("{}-{protocol}-{}", self.pipeline, self.rows)
    }
}

/// Every case, in the order of the table.
pub fn all() -> Vec<Case> {
    let kinds = [
        (Protocol::Unary, 1, 1),
        (Protocol::Unary, 128, 1),
        (Protocol::Stream, 1, STREAM_MESSAGES),
        (Protocol::Json, 1, 1),
        (Protocol::Json, JSON_ROWS, 1),
        (Protocol::Binary, 1, 1),
    ];
    ["noop", "fraud"]
        .into_iter()
        .flat_map(|pipeline| kinds.map(|(protocol, rows, messages)| Case { protocol, pipeline, rows, messages }))
        .collect()
}

/// One connection with what is sent on it again and again.
pub struct Exchange {
    protocol: Protocol,
    messages: usize,
    connection: Connection,
}

enum Connection {
    Http1(Http1),
    Http2(Http2),
}

impl Exchange {
    /// Connect to *server*.
    pub fn open(server: &Server, case: &Case) -> Result<Self, Box<dyn Error>> {
        let grpc = |method: &str| {
            let body = messages::grpc_request(case.pipeline, case.rows).repeat(case.messages);
            Http2::connect(server.address, &format!("/inference.GRPCInferenceService/{method}"), body)
        };
        let path = format!("/v2/models/{}/infer", case.pipeline);
        let connection = match case.protocol {
            Protocol::Unary => Connection::Http2(grpc("ModelInfer")?),
            Protocol::Stream => Connection::Http2(grpc("ModelStreamInfer")?),
            Protocol::Json => Connection::Http1(Http1::connect(server.address, &path, &messages::json_request(case.rows), None)?),
            Protocol::Binary => {
                let (body, json_bytes) = messages::binary_request(case.rows);
                Connection::Http1(Http1::connect(server.address, &path, &body, Some(json_bytes))?)
            }
        };
        Ok(Self { protocol: case.protocol, messages: case.messages, connection })
    }

    /// Send once, wait for everything that comes back, and compare it with *expected*.
    pub fn once(&mut self, expected: &[f32]) -> Result<(), Box<dyn Error>> {
        let replies = match &mut self.connection {
            Connection::Http1(http1) => {
                let json_bytes = http1.exchange()?;
                vec![messages::rest_scores(http1.body(), json_bytes)?]
            }
            Connection::Http2(http2) => {
                let body = http2.exchange()?;
                match self.protocol {
                    Protocol::Stream => messages::stream_scores(body)?,
                    _ => vec![messages::unary_scores(body)?],
                }
            }
        };
        if replies.len() != self.messages {
            return Err(format!("{} requests got {} replies", self.messages, replies.len()).into());
        }
        replies.iter().try_for_each(|scores| compare(scores, expected))
    }
}

/// Rows that ride in another batch may differ in their last bits.
const TOLERANCE: f32 = 1e-5;

fn compare(scores: &[f32], expected: &[f32]) -> Result<(), Box<dyn Error>> {
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE;
    if scores.len() == expected.len() && scores.iter().zip(expected).all(close) {
        return Ok(());
    }
    Err(format!("the model gives {expected:?}, the server answered {scores:?}").into())
}
