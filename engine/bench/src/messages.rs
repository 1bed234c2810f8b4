//! Requests as clients write them, and what their replies say.

use std::error::Error;

use bettong_wire::proto::inference::model_infer_request::InferInputTensor;
use bettong_wire::proto::inference::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use prost::Message;
use serde_json::{Value, json};

use crate::models::FEATURES;

/// The same made-up rows on every machine: numbers between -4 and 4 with ten decimals, as scaled features have.
fn row_values(rows: usize) -> Vec<f64> {
    let mut state: u64 = 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 16) % 80_000_000_000
    };
    (0..rows * FEATURES).map(|_| (next() as f64 - 4e10) / 1e10).collect()
}

/// [`row_values`] as little-endian 32-bit floats.
pub fn row_bytes(rows: usize) -> Vec<u8> {
    row_values(rows).into_iter().flat_map(|value| (value as f32).to_le_bytes()).collect()
}

/// *bytes* as little-endian floats.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&chunk| f32::from_le_bytes(chunk)).collect()
}

/// A length-prefixed `ModelInferRequest` with raw contents.
pub fn grpc_request(pipeline: &str, rows: usize) -> Vec<u8> {
    let input = InferInputTensor {
        name: "features".to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![rows as i64, FEATURES as i64],
        ..InferInputTensor::default()
    };
    let message = ModelInferRequest {
        model_name: pipeline.to_owned(),
        inputs: vec![input],
        raw_input_contents: vec![row_bytes(rows).into()],
        ..ModelInferRequest::default()
    };
    let encoded = message.encode_to_vec();
    let mut framed = vec![0];
    framed.extend_from_slice(&(encoded.len() as u32).to_be_bytes());
    framed.extend_from_slice(&encoded);
    framed
}

/// Scores in the one message of a unary reply.
pub fn unary_scores(body: &[u8]) -> Result<Vec<f32>, Box<dyn Error>> {
    let (message, rest) = split_message(body)?;
    if !rest.is_empty() {
        return Err("a unary call was answered by more than one message".into());
    }
    scores(&ModelInferResponse::decode(message)?)
}

/// Scores in each message of a stream.
pub fn stream_scores(mut body: &[u8]) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let mut found = Vec::new();
    while !body.is_empty() {
        let (message, rest) = split_message(body)?;
        let reply = ModelStreamInferResponse::decode(message)?;
        let response = reply.infer_response.filter(|_| reply.error_message.is_empty()).ok_or(reply.error_message)?;
        found.push(scores(&response)?);
        body = rest;
    }
    Ok(found)
}

/// The first message, and what follows it.
fn split_message(body: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let (&[_, a, b, c, d], rest) = body.split_first_chunk().ok_or("the call was answered without a message")?;
    rest.split_at_checked(u32::from_be_bytes([a, b, c, d]) as usize).ok_or("a message is cut short")
}

fn scores(response: &ModelInferResponse) -> Result<Vec<f32>, Box<dyn Error>> {
    Ok(floats(response.raw_output_contents.first().ok_or("a reply has no raw contents")?))
}

/// A REST body with its rows as JSON numbers.
pub fn json_request(rows: usize) -> Vec<u8> {
    let tensor = json!({"name": "features", "datatype": "FP32", "shape": [rows, FEATURES], "data": row_values(rows)});
    json!({"inputs": [tensor]}).to_string().into_bytes()
}

/// A REST body with its rows behind the JSON, and the length of that.
pub fn binary_request(rows: usize) -> (Vec<u8>, usize) {
    let raw = row_bytes(rows);
    let parameters = json!({"binary_data_size": raw.len()});
    let tensor = json!({"name": "features", "datatype": "FP32", "shape": [rows, FEATURES], "parameters": parameters});
    let mut body = json!({"inputs": [tensor], "parameters": {"binary_data_output": true}}).to_string().into_bytes();
    let head = body.len();
    body.extend_from_slice(&raw);
    (body, head)
}

/// Scores of a REST reply, in its JSON or behind it.
pub fn rest_scores(body: &[u8], json_bytes: Option<usize>) -> Result<Vec<f32>, Box<dyn Error>> {
    if let Some(json_bytes) = json_bytes {
        return Ok(floats(body.get(json_bytes..).ok_or("the reply is shorter than its JSON")?));
    }
    let reply: Value = serde_json::from_slice(body)?;
    let data = reply["outputs"][0]["data"].as_array().ok_or("the reply has no data")?;
    data.iter().map(|value| Ok(value.as_f64().ok_or("a score is not a number")? as f32)).collect()
}
