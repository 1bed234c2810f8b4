//! `POST /v2/models/{name}/infer`.

use std::sync::Arc;

use bettong_frame::bind::Strictness;
use bettong_frame::{Answer, Result};
use bettong_wire::oip_json::{self, ReplyHead};
use bytes::Bytes;

use super::infer::{Infer, inflated};
use super::reply::JSON;
use super::{Asked, Client, Reply};
use crate::account::Account;
use crate::routes::Entry;
use crate::shared::Shared;

/// Bytes of JSON before binary tensors, in replies as in requests.
const JSON_LENGTH: &str = "inference-header-content-length";

/// Run one request.
pub async fn infer(
    shared: &Arc<Shared>,
    asked: &Asked<'_>,
    body: Bytes,
    client: &mut impl Client,
    (name, version): (&str, &str),
) -> Result<Reply> {
    let account = |entry| Account { protocol: "rest", entry, head: asked.head };
    let entry = shared.routes.find(name, version).inspect_err(|error| account(None).failed(shared, error))?;
    let outcome = run(shared, asked, body, client, &entry).await;
    match outcome {
        Ok((reply, answer)) => {
            account(Some(&entry)).answered(shared, &answer, reply.body.len());
            Ok(reply)
        }
        Err(error) => {
            account(Some(&entry)).failed(shared, &error);
            Err(error)
        }
    }
}

async fn run(
    shared: &Arc<Shared>,
    asked: &Asked<'_>,
    body: Bytes,
    client: &mut impl Client,
    entry: &Entry,
) -> Result<(Reply, Answer)> {
    let body = inflated(asked.head, body, shared.max_request_bytes)?;
    let request = oip_json::decode(&body, asked.head.json_len)?;
    let outputs = &entry.route.signature.outputs;
    let wanted = oip_json::wanted_outputs(&request, outputs)?;
    let infer = Infer {
        shared,
        entry,
        asked,
        bytes: body.len(),
        columns: &request.columns,
        strictness: Strictness::Exact,
        timeout: request.timeout()?,
    };
    let answer = infer.run(client).await?;
    let head = ReplyHead {
        model_name: &entry.route.pipeline,
        model_version: &entry.route.version,
        id: request.id.as_deref(),
        parameters: &[],
    };
    let (body, json_len) = oip_json::encode(&head, outputs, &answer.outputs, &wanted)?;
    let mut reply = Reply { content_type: JSON, body, ..Reply::default() };
    if let Some(json_len) = json_len {
        reply.content_type = "application/octet-stream";
        reply.headers.push((JSON_LENGTH, json_len.to_string()));
    }
    Ok((reply, answer))
}
