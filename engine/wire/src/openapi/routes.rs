//! Paths, their operations, and what they share.

use serde_json::{Map, Value, json};

use crate::arrow::ArrowKind;

/// Statuses that any route may answer with.
const ANYWHERE: [&str; 2] = ["405", "500"];
/// Statuses of what finds a pipeline.
const FINDS: [&str; 3] = ["400", "404", "503"];
/// Statuses of what runs a pipeline.
const RUNS: [&str; 9] = ["400", "404", "413", "415", "429", "499", "501", "503", "504"];
/// Statuses of what asks the control plane.
const ASKS: [&str; 7] = ["400", "404", "413", "429", "501", "503", "504"];

fn reference(kind: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{kind}/{name}")})
}

fn schema(name: &str) -> Value {
    reference("schemas", name)
}

/// An operation that is being described.
struct Operation {
    tag: &'static str,
    id: String,
    summary: &'static str,
    parameters: Vec<&'static str>,
    body: Option<Value>,
    /// Content of the answer.
    answer: Value,
    statuses: Vec<&'static str>,
    /// The answer of what is not ready, which comes with 503.
    unready: Option<&'static str>,
}

impl Operation {
    fn new(tag: &'static str, id: impl Into<String>, summary: &'static str, answer: &str) -> Self {
        let answer = json!({"application/json": {"schema": schema(answer)}});
        Self {
            tag,
            id: id.into(),
            summary,
            parameters: Vec::new(),
            body: None,
            answer,
            statuses: ANYWHERE.to_vec(),
            unready: None,
        }
    }

    fn with_parameters(mut self, parameters: &[&'static str]) -> Self {
        self.parameters.extend(parameters);
        self
    }

    fn with_statuses(mut self, statuses: &[&'static str]) -> Self {
        self.statuses.extend(statuses);
        self
    }

    /// A question of readiness: 503 answers it with the same body.
    fn or_unready(mut self, answer: &'static str) -> Self {
        self.unready = Some(answer);
        self
    }

    fn with_body(mut self, content: &Value, required: bool) -> Self {
        self.body = Some(json!({"required": required, "content": content}));
        self
    }

    fn describe(self) -> Value {
        let mut responses = Map::new();
        responses.insert("200".to_owned(), json!({"description": "Done.", "content": self.answer}));
        let family = if self.tag == "protocol" { "protocol" } else { "frames" };
        for status in self.statuses {
            responses.insert(status.to_owned(), reference("responses", &format!("{family}_{status}")));
        }
        if let Some(answer) = self.unready {
            let content = json!({"application/json": {"schema": {"anyOf": [schema(answer), schema("ProtocolError")]}}});
            responses.insert("503".to_owned(), json!({"description": "It is not ready.", "content": content}));
        }
        let mut operation = json!({"tags": [self.tag], "operationId": self.id, "summary": self.summary, "responses": responses});
        if !self.parameters.is_empty() {
            operation["parameters"] = self.parameters.iter().map(|name| reference("parameters", name)).collect();
        }
        if let Some(body) = self.body {
            operation["requestBody"] = body;
        }
        operation
    }
}

/// All paths.
pub fn paths() -> Value {
    let mut paths = Map::new();
    add_protocol(&mut paths);
    for (suffix, parameters) in [("", &["path_name"][..]), ("/versions/{version}", &["path_name", "path_version"])] {
        add_model(&mut paths, suffix, parameters);
        add_frames(&mut paths, suffix, parameters);
    }
    add_repository(&mut paths);
    add_server(&mut paths);
    Value::Object(paths)
}

fn add(paths: &mut Map<String, Value>, path: String, method: &str, operation: Operation) {
    paths.insert(path, json!({method: operation.describe()}));
}

fn add_protocol(paths: &mut Map<String, Value>) {
    let get = |id, summary, answer| Operation::new("protocol", id, summary, answer);
    add(paths, "/v2".into(), "get", get("serverMetadata", "Name, version and extensions of the server", "ServerMetadata"));
    add(paths, "/v2/health/live".into(), "get", get("serverLive", "Whether the server is alive", "Live"));
    add(paths, "/v2/health/ready".into(), "get", get("serverReady", "Whether the server is ready", "Ready").or_unready("Ready"));
    add(paths, "/v2/models/stats".into(), "get", get("allModelStatistics", "Counts and times of all models", "ModelStatistics"));
}

fn add_model(paths: &mut Map<String, Value>, suffix: &str, parameters: &[&'static str]) {
    let form = if suffix.is_empty() { "" } else { "Version" };
    let base = format!("/v2/models/{{name}}{suffix}");
    let get = |id: &str, summary, answer| {
        Operation::new("protocol", format!("model{form}{id}"), summary, answer).with_parameters(parameters).with_statuses(&FINDS)
    };
    add(paths, base.clone(), "get", get("Metadata", "Inputs and outputs of a model", "ModelMetadata"));
    let ready = Operation::new("protocol", format!("model{form}Ready"), "Whether a model is ready", "ModelReady");
    let ready = ready.with_parameters(parameters).with_statuses(&["400", "404"]).or_unready("ModelReady");
    add(paths, format!("{base}/ready"), "get", ready);
    add(paths, format!("{base}/config"), "get", get("Config", "Configuration of a model in Triton's terms", "ModelConfig"));
    add(paths, format!("{base}/stats"), "get", get("Statistics", "Counts and times of a model", "ModelStatistics"));
    let binary = json!({"schema": {"type": "string", "contentMediaType": "application/octet-stream"}});
    let mut infer = Operation::new("protocol", format!("model{form}Infer"), "Infer", "InferResponse")
        .with_parameters(parameters)
        .with_parameters(&["header_json_length", "header_timeout"])
        .with_statuses(&RUNS)
        .with_body(&json!({"application/json": {"schema": schema("InferRequest")}, "application/octet-stream": binary}), true);
    infer.answer["application/octet-stream"] = binary;
    add(paths, format!("{base}/infer"), "post", infer);
}

fn add_frames(paths: &mut Map<String, Value>, suffix: &str, parameters: &[&'static str]) {
    let form = if suffix.is_empty() { "" } else { "Version" };
    let content = |name: &str| {
        let arrow = |kind: ArrowKind| json!({"schema": {"type": "string", "contentMediaType": kind.media_type()}});
        json!({
            "application/json": {"schema": schema(name)},
            ArrowKind::File.media_type(): arrow(ArrowKind::File),
            ArrowKind::Stream.media_type(): arrow(ArrowKind::Stream),
        })
    };
    let mut infer = Operation::new("frames", format!("pipeline{form}Infer"), "Infer with every row of a frame", "Reply")
        .with_parameters(parameters)
        .with_parameters(&["query_dataset", "query_exclude", "query_separator", "header_timeout"])
        .with_statuses(&RUNS)
        .with_statuses(&["406"])
        .with_body(&content("Frame"), true);
    infer.answer = content("Reply");
    add(paths, format!("/v1/pipelines/{{name}}{suffix}/infer"), "post", infer);
}

fn add_repository(paths: &mut Map<String, Value>) {
    let post = |id: &str, summary, answer, body| {
        Operation::new("protocol", id, summary, answer)
            .with_statuses(&ASKS)
            .with_body(&json!({"application/json": {"schema": schema(body)}}), false)
    };
    let index = post("repositoryIndex", "Everything that is or could be deployed", "RepositoryIndex", "RepositoryIndexRequest");
    add(paths, "/v2/repository/index".into(), "post", index);
    for (verb, summary) in [("load", "Deploy a pipeline that is known"), ("unload", "Undeploy a pipeline")] {
        let operation =
            post(&format!("repository_{verb}"), summary, "Empty", "RepositoryRequest").with_parameters(&["path_name"]);
        add(paths, format!("/v2/repository/models/{{name}}/{verb}"), "post", operation);
    }
}

fn add_server(paths: &mut Map<String, Value>) {
    let get = |id, summary, answer| Operation::new("server", id, summary, answer);
    add(paths, "/v1/pipelines".into(), "get", get("pipelines", "Pipelines that are deployed", "Pipelines"));
    add(paths, "/v1/server".into(), "get", get("server", "Version, state and addresses of the server", "Server"));
    add(paths, "/healthz".into(), "get", get("healthz", "Whether the server is alive", "Live"));
    add(paths, "/readyz".into(), "get", get("readyz", "Whether the server is ready", "Ready").or_unready("Ready"));
    add(paths, "/openapi.json".into(), "get", get("openapi", "This document", "OpenApi"));
}

/// What each status means.
const MEANINGS: [(&str, &str); 12] = [
    ("400", "The request is wrong and will stay wrong."),
    ("404", "No such pipeline, version or route."),
    ("405", "The route does not know the method."),
    ("406", "None of the media types in Accept can be written."),
    ("413", "The body is larger than the server takes."),
    ("415", "The body's media type or encoding can't be read."),
    ("429", "The server has too much to do."),
    ("499", "The client left before the answer."),
    ("500", "The model failed on valid input, or the server is broken."),
    ("501", "The protocol knows it, this server does not do it."),
    ("503", "The pipeline or the server is not ready."),
    ("504", "The deadline passed before the answer."),
];

/// Error answers of both families of routes.
pub fn responses() -> Value {
    let mut responses = Map::new();
    for (family, body) in [("protocol", "ProtocolError"), ("frames", "FrameError")] {
        for (status, meaning) in MEANINGS {
            if family == "protocol" && status == "406" {
                continue;
            }
            let mut response = json!({"description": meaning, "content": {"application/json": {"schema": schema(body)}}});
            if status == "429" || status == "503" {
                let header = json!({"description": "Seconds after which trying again may succeed.", "schema": {"type": "integer", "minimum": 0}});
                response["headers"] = json!({"Retry-After": header});
            }
            responses.insert(format!("{family}_{status}"), response);
        }
    }
    Value::Object(responses)
}

fn parameter(place: &str, name: &str, description: &str, required: bool, schema: &Value) -> Value {
    json!({"in": place, "name": name, "description": description, "required": required, "schema": schema})
}

/// Parameters, by where they are.
pub fn parameters() -> Value {
    let name = json!({"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63});
    let texts = json!({"type": "array", "items": {"type": "string"}});
    json!({
        "path_name": parameter("path", "name", "Name of a pipeline.", true, &name),
        "path_version": parameter("path", "version", "Version of the pipeline.", true, &json!({"type": "string", "pattern": "^[1-9][0-9]*$"})),
        "query_dataset": parameter("query", "dataset[]", "Columns or groups that are wanted; all by default.", false, &texts),
        "query_exclude": parameter("query", "dataset.exclude[]", "Columns or groups that are not wanted.", false, &texts),
        "query_separator": parameter("query", "dataset.separator", "Flat column names with this between group and name; JSON is nested without it.", false, &json!({"type": "string"})),
        "header_json_length": parameter("header", "Inference-Header-Content-Length", "Bytes of JSON before binary tensors.", false, &json!({"type": "integer", "minimum": 0})),
        "header_timeout": parameter("header", "X-Request-Timeout-Ms", "Milliseconds after which the answer is of no more use.", false, &json!({"type": "integer", "minimum": 1})),
    })
}
