//! Bodies of requests and replies.

use bettong_frame::DType;
use serde_json::{Map, Value, json};

fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn list(of: &Value) -> Value {
    json!({"type": "array", "items": of})
}

/// An object whose members, all of them, are always there.
fn record(members: &Value) -> Value {
    let required: Vec<String> = members.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    json!({"type": "object", "properties": members, "required": required})
}

/// All schemas.
pub fn schemas() -> Value {
    let mut all = Map::new();
    for part in [protocol(), infer(), model(), repository(), frames(), server()] {
        if let Value::Object(part) = part {
            all.extend(part);
        }
    }
    Value::Object(all)
}

fn protocol() -> Value {
    let datatypes: Vec<&str> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
    json!({
        "Datatype": {"type": "string", "enum": datatypes},
        "Shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "description": "Dimensions, first the rows."},
        "Parameters": {"type": "object", "description": "Texts, numbers and booleans by name; others have no meaning."},
        "ProtocolError": record(&json!({"error": text()})),
    })
}

fn infer() -> Value {
    let mut all = infer_request();
    if let (Some(all), Value::Object(response)) = (all.as_object_mut(), infer_response()) {
        all.extend(response);
    }
    all
}

fn infer_request() -> Value {
    let name = json!({"type": "string", "description": "As the model's metadata spells it."});
    json!({
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string", "description": "Comes back with the answer."},
                "parameters": schema("RequestParameters"),
                "inputs": list(&schema("RequestInput")),
                "outputs": list(&schema("RequestOutput")),
            },
        },
        "RequestParameters": {
            "type": "object",
            "properties": {
                "binary_data_output": {"type": "boolean", "description": "Answer with binary tensors unless an output says otherwise."},
                "timeout": {"type": "integer", "minimum": 0, "description": "Microseconds after which the answer is of no more use."},
            },
        },
        "RequestInput": {
            "type": "object",
            "required": ["name", "shape", "datatype"],
            "properties": {
                "name": name,
                "shape": schema("Shape"),
                "datatype": schema("Datatype"),
                "parameters": {
                    "type": "object",
                    "properties": {"binary_data_size": {"type": "integer", "minimum": 0, "description": "Bytes of this tensor after the JSON."}},
                },
                "data": {"type": "array", "description": "Values, flat or nested row by row. FP16 and BF16 can only be sent as binary data."},
            },
        },
        "RequestOutput": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": name,
                "parameters": {"type": "object", "properties": {"binary_data": {"type": "boolean"}}},
            },
        },
    })
}

fn infer_response() -> Value {
    json!({
        "InferResponse": {
            "type": "object",
            "required": ["model_name", "model_version", "outputs"],
            "properties": {
                "model_name": text(),
                "model_version": text(),
                "id": text(),
                "parameters": schema("Parameters"),
                "outputs": list(&schema("ResponseOutput")),
            },
        },
        "ResponseOutput": {
            "type": "object",
            "required": ["name", "shape", "datatype"],
            "properties": {
                "name": text(),
                "shape": schema("Shape"),
                "datatype": schema("Datatype"),
                "parameters": schema("Parameters"),
                "data": {"type": "array", "description": "Values, flat. NaN and infinities are null."},
            },
        },
    })
}

fn model() -> Value {
    let dims = json!({"type": "array", "items": {"type": "integer"}, "description": "-1 is a free dimension."});
    let config_tensor = list(&record(&json!({"name": text(), "data_type": text(), "dims": dims})));
    let duration = schema("Duration");
    let durations = record(&json!({
        "success": duration, "fail": duration, "queue": duration,
        "compute_input": duration, "compute_infer": duration, "compute_output": duration,
    }));
    let count = json!({"type": "integer", "minimum": 0});
    json!({
        "TensorMetadata": record(&json!({"name": text(), "datatype": schema("Datatype"), "shape": dims})),
        "ModelMetadata": record(&json!({
            "name": text(),
            "versions": list(&text()),
            "platform": text(),
            "inputs": list(&schema("TensorMetadata")),
            "outputs": list(&schema("TensorMetadata")),
        })),
        "ModelReady": record(&json!({"name": text(), "ready": {"type": "boolean"}})),
        "ModelConfig": record(&json!({
            "name": text(), "platform": text(), "backend": text(), "max_batch_size": count, "input": config_tensor, "output": config_tensor,
        })),
        "Duration": record(&json!({"count": count, "ns": count})),
        "ModelStatistics": record(&json!({"model_stats": list(&record(&json!({
            "name": text(), "version": text(), "last_inference": count, "inference_count": count, "execution_count": count,
            "inference_stats": durations, "batch_stats": {"type": "array"},
        })))})),
    })
}

fn repository() -> Value {
    json!({
        "RepositoryIndexRequest": {"type": "object", "properties": {"ready": {"type": "boolean", "description": "Only what is ready."}}},
        "RepositoryIndex": list(&record(&json!({"name": text(), "version": text(), "state": text(), "reason": text()}))),
        "RepositoryRequest": {"type": "object", "properties": {"parameters": {"type": "object"}}},
        "Empty": {"type": "object"},
    })
}

fn frames() -> Value {
    let row = json!({"type": "object", "minProperties": 1, "additionalProperties": schema("Cell")});
    json!({
        "Cell": {
            "description": "A value, or lists of values of equal length in every row.",
            "type": ["number", "string", "boolean", "array"],
        },
        "Row": row,
        "Frame": {"oneOf": [{"type": "array", "minItems": 1, "items": schema("Row")}, schema("Row")]},
        "Reply": {
            "type": "array",
            "description": "A record for each row: time, in, out, anomaly and metadata, nested, or flat where a separator is asked for.",
            "items": {"type": "object"},
        },
        "FrameError": record(&json!({
            "error": text(), "code": {"type": "integer"}, "status": {"const": "error"}, "source": text(),
        })),
    })
}

fn server() -> Value {
    let address = json!({"type": ["string", "null"], "description": "host:port"});
    json!({
        "Live": record(&json!({"live": {"type": "boolean"}})),
        "Ready": record(&json!({"ready": {"type": "boolean"}})),
        "ServerMetadata": record(&json!({"name": text(), "version": text(), "extensions": list(&text())})),
        "Server": record(&json!({
            "name": text(), "version": text(), "control_address": address, "metrics_address": address,
            "state": {"enum": ["STARTING", "SERVING", "DRAINING"]},
        })),
        "Pipelines": record(&json!({"pipelines": list(&record(&json!({
            "name": text(), "version": {"type": ["string", "null"]}, "status": text(),
        })))})),
        "OpenApi": {"type": "object", "required": ["openapi", "info", "paths"]},
    })
}
