//! Which path means what.

use std::sync::Arc;

use bettong_frame::{Error, ErrorKind, Result};
use bytes::Bytes;
use serde_json::json;

use super::{Asked, Client, Reply, model_json};
use crate::control::{ControlMethod, ask};
use crate::describe;
use crate::grpc::{NO_SHARED_MEMORY, model_ready};
use crate::shared::{Phase, Shared};

/// Answer *request*.
pub async fn serve(shared: &Arc<Shared>, asked: &Asked<'_>, body: Bytes, client: &mut impl Client) -> Result<Reply> {
    let path = asked.path.strip_suffix('/').unwrap_or(asked.path);
    let segments: smallvec::SmallVec<[&str; 8]> = path.split('/').skip(1).collect();
    match segments[..] {
        ["v2", ref rest @ ..] => oip(shared, asked, body, client, rest).await,
        ["v1", ref rest @ ..] => native(shared, asked, body, client, rest).await,
        _ => plain(shared, asked, &segments),
    }
}

/// Refuse any method but *method*.
fn allow(asked: &Asked<'_>, method: &'static str) -> Result<()> {
    let given = asked.method.as_str();
    // HEAD is GET without the body, which the HTTP layer leaves out.
    if given == method || (given == "HEAD" && method == "GET") {
        return Ok(());
    }
    let error = Error::new(ErrorKind::MethodNotAllowed(method), format!("{given} is not allowed here; use {method}"));
    Err(error)
}

#[cold]
fn no_route(asked: &Asked<'_>) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is nothing at '{}'; see /openapi.json", asked.path))
}

/// `/v2/…`: the Open Inference Protocol.
async fn oip(shared: &Arc<Shared>, asked: &Asked<'_>, body: Bytes, client: &mut impl Client, path: &[&str]) -> Result<Reply> {
    match *path {
        ["models", _, "infer"] | ["models", _, "versions", _, "infer"] => {
            allow(asked, "POST")?;
            super::oip::infer(shared, asked, body, client).await
        }
        [] => get(asked, || Ok(Reply::value(200, &model_json::server(&describe::server(shared))))),
        ["health", "live"] => get(asked, || Ok(Reply::value(200, &json!({"live": true})))),
        ["health", "ready"] => get(asked, || Ok(ready(shared.is_ready(), "ready"))),
        ["models", "stats"] => get(asked, || Ok(Reply::value(200, &model_json::stats(&describe::stats(shared, "", "")?)))),
        ["models", name, "versions", version, ref rest @ ..] => model(shared, asked, name, version, rest),
        ["repository", "index"] => {
            allow(asked, "POST")?;
            Ok(Reply::value(200, &model_json::repository(&describe::repository(shared, only_ready(&body)?).await?)))
        }
        ["repository", "models", name, "load"] => repository(shared, asked, &body, ControlMethod::Load, name).await,
        ["repository", "models", name, "unload"] => repository(shared, asked, &body, ControlMethod::Unload, name).await,
        ["models", name, ref rest @ ..] => model(shared, asked, name, "", rest),
        ["systemsharedmemory" | "cudasharedmemory", ..] => Err(Error::new(ErrorKind::Unimplemented, NO_SHARED_MEMORY)),
        _ => Err(no_route(asked)),
    }
}

/// Where the name and the version of the model are in the path of an infer request of the protocol.
pub fn infer_target(path: &str) -> Option<(&str, &str)> {
    let segments: smallvec::SmallVec<[&str; 8]> = path.strip_suffix('/').unwrap_or(path).split('/').skip(1).collect();
    match segments[..] {
        ["v2", "models", name, "infer"] => Some((name, "")),
        ["v2", "models", name, "versions", version, "infer"] => Some((name, version)),
        _ => None,
    }
}

fn get(asked: &Asked<'_>, answer: impl FnOnce() -> Result<Reply>) -> Result<Reply> {
    allow(asked, "GET")?;
    answer()
}

fn ready(is_ready: bool, key: &str) -> Reply {
    let status = if is_ready { 200 } else { 503 };
    Reply::value(status, &json!({key: is_ready}))
}

fn model(shared: &Arc<Shared>, asked: &Asked<'_>, name: &str, version: &str, rest: &[&str]) -> Result<Reply> {
    match *rest {
        [] => get(asked, || Ok(Reply::value(200, &model_json::model(&describe::model(&*shared.routes.find(name, version)?))))),
        ["ready"] => get(asked, || {
            let is_ready = model_ready(shared, name, version)?;
            Ok(Reply::value(if is_ready { 200 } else { 503 }, &json!({"name": name, "ready": is_ready})))
        }),
        ["config"] => {
            get(asked, || Ok(Reply::value(200, &model_json::config(&describe::config(&*shared.routes.find(name, version)?)))))
        }
        ["stats"] => get(asked, || Ok(Reply::value(200, &model_json::stats(&describe::stats(shared, name, version)?)))),
        _ => Err(no_route(asked)),
    }
}

/// The members of a request whose body is an object or nothing.
fn members(body: &[u8]) -> Result<serde_json::Map<String, serde_json::Value>> {
    if body.is_empty() {
        return Ok(serde_json::Map::new());
    }
    serde_json::from_slice(body).map_err(|error| Error::invalid(format!("the body is not a JSON object: {error}")))
}

/// The `ready` member of an index request; none means all.
fn only_ready(body: &[u8]) -> Result<bool> {
    match members(body)?.get("ready") {
        None => Ok(false),
        Some(serde_json::Value::Bool(ready)) => Ok(*ready),
        Some(_) => Err(Error::invalid_field("ready", "'ready' must be true or false")),
    }
}

async fn repository(shared: &Arc<Shared>, asked: &Asked<'_>, body: &[u8], method: ControlMethod, name: &str) -> Result<Reply> {
    allow(asked, "POST")?;
    match members(body)?.get("parameters") {
        None => {}
        Some(serde_json::Value::Object(given)) if given.is_empty() || method == ControlMethod::Unload => {}
        Some(serde_json::Value::Object(_)) => {
            let message = "loading with parameters is not supported; upload the model with the SDK or CLI";
            return Err(Error::new(ErrorKind::Unimplemented, message));
        }
        Some(_) => return Err(Error::invalid_field("parameters", "'parameters' must be an object")),
    }
    ask(shared, method, name).await?;
    Ok(Reply::value(200, &json!({})))
}

/// `/v1/…`: the native routes.
async fn native(shared: &Arc<Shared>, asked: &Asked<'_>, body: Bytes, client: &mut impl Client, path: &[&str]) -> Result<Reply> {
    match *path {
        ["pipelines", name, "infer"] => post_native(shared, asked, body, client, (name, "")).await,
        ["pipelines", name, "versions", version, "infer"] => post_native(shared, asked, body, client, (name, version)).await,
        ["pipelines"] => get(asked, || Ok(Reply::json(pipelines(shared)))),
        ["server"] => get(asked, || Ok(Reply::json(server(shared)))),
        _ => Err(no_route(asked)),
    }
}

async fn post_native(
    shared: &Arc<Shared>,
    asked: &Asked<'_>,
    body: Bytes,
    client: &mut impl Client,
    of: (&str, &str),
) -> Result<Reply> {
    allow(asked, "POST")?;
    Ok(super::native::infer(shared, asked, body, client, of).await)
}

fn pipelines(shared: &Shared) -> String {
    let table = shared.routes.table();
    let served = table
        .entries()
        .into_iter()
        .map(|entry| json!({"name": &*entry.route.pipeline, "version": &*entry.route.version, "status": "Running"}));
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
fn plain(shared: &Shared, asked: &Asked<'_>, path: &[&str]) -> Result<Reply> {
    match *path {
        ["healthz"] => get(asked, || Ok(Reply::value(200, &json!({"live": true})))),
        ["readyz"] => get(asked, || Ok(ready(shared.is_ready(), "ready"))),
        ["openapi.json"] => get(asked, || Ok(Reply::json(openapi(shared)))),
        _ => Err(no_route(asked)),
    }
}

/// The description of all routes, written once.
fn openapi(shared: &Shared) -> bytes::Bytes {
    shared.openapi.get_or_init(|| bettong_wire::openapi::document(&shared.version).to_string().into()).clone()
}
