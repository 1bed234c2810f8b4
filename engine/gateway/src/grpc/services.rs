//! Calls off the hot path: metadata, readiness, repository, health, reflection.

use std::future::poll_fn;
use std::sync::Arc;

use bettong_frame::{Error, ErrorKind, Result};
use bettong_wire::grpc::{MessageReader, framed};
use bettong_wire::proto::inference::{
    ModelConfigRequest, ModelConfigResponse, ModelMetadataRequest, ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest,
    RepositoryIndexRequest, RepositoryModelLoadRequest, RepositoryModelLoadResponse, RepositoryModelUnloadRequest,
    RepositoryModelUnloadResponse, ServerLiveResponse, ServerReadyResponse,
};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use prost::Message;

use super::{health, reflection, respond};
use crate::control::{ControlMethod, ask};
use crate::describe;
use crate::head::Head;
use crate::http2::BodyReader;
use crate::shared::Shared;

/// The refusal of the shared memory extensions.
pub const NO_SHARED_MEMORY: &str = "shared memory is not supported; send the data in the request";

const HEALTH: &str = "/grpc.health.v1.Health/";
const INFERENCE: &str = "/inference.GRPCInferenceService/";

/// Serve the call to *path*.
pub async fn serve(shared: Arc<Shared>, path: String, head: Head, body: RecvStream, mut respond: SendResponse<Bytes>) {
    match path.as_str() {
        "/grpc.health.v1.Health/Watch" => return health::watch(shared, head, body, respond).await,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => {
            return reflection::serve(shared, head, body, respond).await;
        }
        // At once: a stream of a service that is not here may never end its request.
        path if !path.starts_with(INFERENCE) && !path.starts_with(HEALTH) => {
            return respond::fail(&mut respond, &head, &unimplemented(path));
        }
        _ => {}
    }
    let limit = head.timeout.map_or(shared.read_timeout, |timeout| timeout.min(shared.read_timeout));
    let answer = match tokio::time::timeout(limit, request_message(&shared, &head, body)).await {
        Ok(Ok(message)) => unary(&shared, &path, message).await,
        Ok(Err(error)) => Err(error),
        Err(_elapsed) => Err(Error::new(ErrorKind::DeadlineExceeded, "the request did not arrive in time")),
    };
    match answer {
        Ok(message) => respond::message(&mut respond, &head, message),
        Err(error) => respond::fail(&mut respond, &head, &error),
    }
}

/// The one message of a unary or server-streaming call.
pub async fn request_message(shared: &Shared, head: &Head, body: RecvStream) -> Result<Bytes> {
    let mut reader = BodyReader::new(body, shared.max_request_bytes.saturating_add(5));
    let body = poll_fn(|context| reader.poll_read(context)).await;
    let body = body.map_err(|_left| Error::new(ErrorKind::Cancelled, "the client left"))??;
    let mut messages = MessageReader::new(head.encoding()?, shared.max_request_bytes);
    messages.push(body);
    messages.next_message()?.ok_or_else(|| Error::invalid("the call ended before its message was complete"))
}

/// Decode a request of the type that the call takes.
pub fn decode<M: Message + Default>(message: Bytes) -> Result<M> {
    M::decode(message).map_err(|error| Error::invalid(format!("the protobuf message can't be read: {error}")))
}

async fn unary(shared: &Arc<Shared>, path: &str, message: Bytes) -> Result<Bytes> {
    if path == "/grpc.health.v1.Health/Check" {
        return health::check(shared, &decode(message)?);
    }
    if path == "/grpc.health.v1.Health/List" {
        return Ok(health::list(shared));
    }
    match path.strip_prefix(INFERENCE) {
        Some(method) => inference(shared, method, message).await,
        None => Err(unimplemented(path)),
    }
}

async fn inference(shared: &Arc<Shared>, method: &str, message: Bytes) -> Result<Bytes> {
    match method {
        "ServerLive" => Ok(framed(&ServerLiveResponse { live: true })),
        "ServerReady" => Ok(framed(&ServerReadyResponse { ready: shared.is_ready() })),
        "ServerMetadata" => Ok(framed(&describe::server(shared))),
        "ModelReady" => {
            let request: ModelReadyRequest = decode(message)?;
            Ok(framed(&ModelReadyResponse { ready: model_ready(shared, &request.name, &request.version)? }))
        }
        "ModelMetadata" => {
            let request: ModelMetadataRequest = decode(message)?;
            Ok(framed(&describe::model(&*shared.routes.find(&request.name, &request.version)?)))
        }
        "ModelConfig" => {
            let request: ModelConfigRequest = decode(message)?;
            let entry = shared.routes.find(&request.name, &request.version)?;
            Ok(framed(&ModelConfigResponse { config: Some(describe::config(&entry)) }))
        }
        "ModelStatistics" => {
            let request: ModelStatisticsRequest = decode(message)?;
            Ok(framed(&describe::stats(shared, &request.name, &request.version)?))
        }
        _ => repository(shared, method, message).await,
    }
}

/// Whether a pipeline answers; an unknown one is an error, one that is not ready is not.
pub fn model_ready(shared: &Shared, name: &str, version: &str) -> Result<bool> {
    match shared.routes.find(name, version) {
        Ok(_) => Ok(true),
        Err(error) if error.kind == ErrorKind::Unavailable => Ok(false),
        Err(error) => Err(error),
    }
}

async fn repository(shared: &Arc<Shared>, method: &str, message: Bytes) -> Result<Bytes> {
    match method {
        "RepositoryIndex" => {
            let request: RepositoryIndexRequest = decode(message)?;
            Ok(framed(&describe::repository(shared, request.ready).await?))
        }
        "RepositoryModelLoad" => {
            let request: RepositoryModelLoadRequest = decode(message)?;
            if !request.parameters.is_empty() {
                let message = "loading with parameters is not supported; upload the model with the SDK or CLI";
                return Err(Error::new(ErrorKind::Unimplemented, message));
            }
            ask(shared, ControlMethod::Load, &request.model_name).await?;
            Ok(framed(&RepositoryModelLoadResponse {}))
        }
        "RepositoryModelUnload" => {
            let request: RepositoryModelUnloadRequest = decode(message)?;
            ask(shared, ControlMethod::Unload, &request.model_name).await?;
            Ok(framed(&RepositoryModelUnloadResponse {}))
        }
        other if other.contains("SharedMemory") => Err(Error::new(ErrorKind::Unimplemented, NO_SHARED_MEMORY)),
        other => Err(unimplemented(other)),
    }
}

#[cold]
fn unimplemented(method: &str) -> Error {
    Error::new(ErrorKind::Unimplemented, format!("method '{method}' is not served here"))
}
