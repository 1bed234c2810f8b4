//! `grpc.health.v1.Health`. A service is the server (`""`), the inference service, or a pipeline by its name.

use std::sync::Arc;

use bettong_frame::{Error, ErrorKind, Result};
use bettong_wire::grpc::framed;
use bettong_wire::proto::grpc::health::v1::{
    HealthCheckRequest, HealthCheckResponse, HealthListResponse, health_check_response::ServingStatus,
};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;

use super::{respond, services};
use crate::head::Head;
use crate::shared::Shared;

const SERVICE: &str = "inference.GRPCInferenceService";

fn status(shared: &Shared, service: &str) -> Option<ServingStatus> {
    let serving = |ready| if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    if service.is_empty() || service == SERVICE {
        return Some(serving(shared.is_ready()));
    }
    match services::model_ready(shared, service, "") {
        Ok(ready) => Some(serving(ready && shared.is_ready())),
        Err(_unknown) => None,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

/// Answer `Check`.
pub fn check(shared: &Shared, request: &HealthCheckRequest) -> Result<Bytes> {
    let status = status(shared, &request.service)
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("service '{}' is not known", request.service)))?;
    Ok(framed(&response(status)))
}

/// Answer `List`.
pub fn list(shared: &Shared) -> Bytes {
    let table = shared.routes.table();
    let names = table.entries().into_iter().map(|entry| entry.route.pipeline.to_string());
    let names = names.chain(table.unavailable().map(str::to_owned)).chain([String::new(), SERVICE.to_owned()]);
    let statuses = names.filter_map(|name| status(shared, &name).map(|status| (name, response(status)))).collect();
    framed(&HealthListResponse { statuses })
}

/// Serve `Watch`: the status now, and again whenever it changes, until the client leaves or the server drains.
pub async fn watch(shared: Arc<Shared>, head: Head, body: RecvStream, mut respond: SendResponse<Bytes>) {
    let request: HealthCheckRequest = match services::request_message(&shared, &head, body).await.and_then(services::decode) {
        Ok(request) => request,
        Err(error) => return respond::fail(&mut respond, &head, &error),
    };
    let mut changes = shared.changes.subscribe();
    let Some(mut stream) = respond::begin(&mut respond, &head) else { return };
    let mut last = None;
    loop {
        changes.borrow_and_update();
        let now = status(&shared, &request.service).unwrap_or(ServingStatus::ServiceUnknown);
        if last != Some(now) {
            last = Some(now);
            if stream.send_data(framed(&response(now)), false).is_err() {
                return;
            }
        }
        if shared.phase() == crate::shared::Phase::Draining {
            // The last word has been said; an open watch must not hold the drain up.
            return respond::end(&mut stream);
        }
        let left = std::future::poll_fn(|context| stream.poll_reset(context));
        tokio::select! {
            outcome = changes.changed() => if outcome.is_err() { return },
            _ = left => return,
        }
    }
}
