//! Which path means what.

use std::sync::Arc;

use bettong_frame::{Error, ErrorKind, Result};
use bytes::Bytes;
use http::{Method, Response};
use serde_json::json;

use super::{RestRequest, model_json, reply};
use crate::control::{ControlMethod, ask};
use crate::describe;
use crate::grpc::model_ready;
use crate::shared::{Phase, Shared};

/// Answer *request*.
pub async fn serve(shared: &Arc<Shared>, request: &RestRequest) -> Result<Response<Bytes>> {
    let path = request.parts.uri.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments: smallvec::SmallVec<[&str; 8]> = path.split('/').skip(1).collect();
    match segments[..] {
        ["v2", ref rest @ ..] => oip(shared, request, rest).await,
        ["v1", ref rest @ ..] => native(shared, request, rest).await,
        _ => plain(shared, request, &segments),
    }
}

fn allow(request: &RestRequest, method: &Method) -> Result<()> {
    let asked = &request.parts.method;
    // HEAD is GET without the body, which the HTTP layer leaves out.
    if asked == method || (asked == Method::HEAD && method == Method::GET) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::MethodNotAllowed, format!("{asked} is not allowed here; use {method}")))
}

#[cold]
fn no_route(request: &RestRequest) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is nothing at '{}'; see /openapi.json", request.parts.uri.path()))
}

/// `/v2/…`: the Open Inference Protocol.
async fn oip(shared: &Arc<Shared>, request: &RestRequest, path: &[&str]) -> Result<Response<Bytes>> {
    match *path {
        ["models", name, "infer"] => infer_only_post(shared, request, name, "").await,
        ["models", name, "versions", version, "infer"] => infer_only_post(shared, request, name, version).await,
        [] => get(request, || Ok(reply::json(model_json::server(&describe::server(shared)).to_string()))),
        ["health", "live"] => get(request, || Ok(reply::json(json!({"live": true}).to_string()))),
        ["health", "ready"] => get(request, || Ok(ready(shared.is_ready(), "ready"))),
        ["models", "stats"] => get(request, || Ok(reply::json(model_json::stats(&describe::stats(shared, "", "")?).to_string()))),
        ["models", name, "versions", version, ref rest @ ..] => model(shared, request, name, version, rest),
        ["repository", "index"] => {
            allow(request, &Method::POST)?;
            Ok(reply::json(model_json::repository(&describe::repository(shared, only_ready(&request.body)?).await?).to_string()))
        }
        ["repository", "models", name, "load"] => repository(shared, request, ControlMethod::Load, name).await,
        ["repository", "models", name, "unload"] => repository(shared, request, ControlMethod::Unload, name).await,
        ["models", name, ref rest @ ..] => model(shared, request, name, "", rest),
        _ => Err(no_route(request)),
    }
}

async fn infer_only_post(shared: &Arc<Shared>, request: &RestRequest, name: &str, version: &str) -> Result<Response<Bytes>> {
    allow(request, &Method::POST)?;
    super::oip::infer(shared, request, name, version).await
}

fn get(request: &RestRequest, answer: impl FnOnce() -> Result<Response<Bytes>>) -> Result<Response<Bytes>> {
    allow(request, &Method::GET)?;
    answer()
}

fn ready(is_ready: bool, key: &str) -> Response<Bytes> {
    let status = if is_ready { 200 } else { 503 };
    reply::with_status(status, reply::JSON, json!({key: is_ready}).to_string().into())
}

fn model(shared: &Arc<Shared>, request: &RestRequest, name: &str, version: &str, rest: &[&str]) -> Result<Response<Bytes>> {
    match *rest {
        [] => get(request, || Ok(reply::json(model_json::model(&describe::model(&*shared.routes.find(name, version)?)).to_string()))),
        ["ready"] => get(request, || {
            let is_ready = model_ready(shared, name, version)?;
            let body = json!({"name": name, "ready": is_ready}).to_string();
            Ok(reply::with_status(if is_ready { 200 } else { 503 }, reply::JSON, body.into()))
        }),
        ["config"] => get(request, || {
            Ok(reply::json(model_json::config(&describe::config(&*shared.routes.find(name, version)?)).to_string()))
        }),
        ["stats"] => get(request, || Ok(reply::json(model_json::stats(&describe::stats(shared, name, version)?).to_string()))),
        _ => Err(no_route(request)),
    }
}

/// The `ready` member of an index request; an empty body means all.
fn only_ready(body: &[u8]) -> Result<bool> {
    if body.is_empty() {
        return Ok(false);
    }
    let value: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| Error::invalid(format!("the body is not JSON: {error}")))?;
    match value.get("ready") {
        None => Ok(false),
        Some(serde_json::Value::Bool(ready)) => Ok(*ready),
        Some(_) => Err(Error::invalid_field("ready", "'ready' must be true or false")),
    }
}

async fn repository(shared: &Arc<Shared>, request: &RestRequest, method: ControlMethod, name: &str) -> Result<Response<Bytes>> {
    allow(request, &Method::POST)?;
    let body: serde_json::Value = if request.body.is_empty() {
        serde_json::Value::Null
    } else {
        serde_json::from_slice(&request.body).map_err(|error| Error::invalid(format!("the body is not JSON: {error}")))?
    };
    let given = body.get("parameters").and_then(serde_json::Value::as_object);
    if method == ControlMethod::Load && given.is_some_and(|given| !given.is_empty()) {
        let message = "loading with parameters is not supported; upload the model with the SDK or CLI";
        return Err(Error::new(ErrorKind::Unimplemented, message));
    }
    ask(&shared.control, method, name).await?;
    Ok(reply::json(json!({}).to_string()))
}

/// `/v1/…`: the native routes.
async fn native(shared: &Arc<Shared>, request: &RestRequest, path: &[&str]) -> Result<Response<Bytes>> {
    match *path {
        ["pipelines", name, "infer"] => native_infer(shared, request, name, "").await,
        ["pipelines", name, "versions", version, "infer"] => native_infer(shared, request, name, version).await,
        ["pipelines"] => get(request, || Ok(reply::json(pipelines(shared)))),
        ["server"] => get(request, || Ok(reply::json(server(shared)))),
        _ => Err(no_route(request)),
    }
}

async fn native_infer(shared: &Arc<Shared>, request: &RestRequest, name: &str, version: &str) -> Result<Response<Bytes>> {
    allow(request, &Method::POST)?;
    super::native::infer(shared, request, name, version).await
}

fn pipelines(shared: &Shared) -> String {
    let table = shared.routes.table();
    let served = table.entries().into_iter().map(|entry| {
        json!({"name": &*entry.route.pipeline, "version": &*entry.route.version, "status": "Running"})
    });
    let waiting = table.unavailable().map(|name| json!({"name": name, "version": null, "status": "Starting"}));
    json!({"pipelines": served.chain(waiting).collect::<Vec<_>>()}).to_string()
}

fn server(shared: &Shared) -> String {
    let state = match shared.phase() {
        Phase::Starting => "STARTING",
        Phase::Serving => "SERVING",
        Phase::Draining => "DRAINING",
    };
    json!({
        "name": "bettong",
        "version": shared.version,
        "control_address": shared.control_address,
        "metrics_address": shared.metrics_address.get(),
        "state": state,
    })
    .to_string()
}

/// Routes that belong to no API.
fn plain(shared: &Shared, request: &RestRequest, path: &[&str]) -> Result<Response<Bytes>> {
    match *path {
        ["healthz"] => get(request, || Ok(reply::json(json!({"live": true}).to_string()))),
        ["readyz"] => get(request, || Ok(ready(shared.is_ready(), "ready"))),
        ["openapi.json"] => get(request, || Ok(reply::json(String::new()))),
        _ => Err(no_route(request)),
    }
}
