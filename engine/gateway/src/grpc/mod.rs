//! gRPC over HTTP/2: routing by path.

mod health;
mod infer;
mod reflection;
mod respond;
mod services;

pub use services::{NO_SHARED_MEMORY, model_ready};
mod stream;

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::request::Parts;

use crate::head::Head;
use crate::shared::Shared;

/// Take a gRPC call. Runs on the connection's task, so it must not wait.
#[inline]
pub fn accept(shared: &Arc<Shared>, parts: &Parts, body: RecvStream, mut respond: SendResponse<Bytes>) {
    let head = match Head::read(&parts.headers) {
        Ok(head) => head,
        Err(error) => return respond::fail(&mut respond, &Head::default(), &error),
    };
    match parts.uri.path() {
        "/inference.GRPCInferenceService/ModelInfer" => infer::accept(shared, head, body, respond),
        "/inference.GRPCInferenceService/ModelStreamInfer" => {
            tokio::spawn(stream::serve(shared.clone(), head, body, respond));
        }
        path if shared.streams.as_deref().is_some_and(|streams| streams.path() == path) => {
            if let Some(streams) = &shared.streams {
                tokio::spawn(streams.serve(body, respond, shared.stop.subscribe()));
            }
        }
        path => {
            tokio::spawn(services::serve(shared.clone(), path.to_owned(), head, body, respond));
        }
    }
}
