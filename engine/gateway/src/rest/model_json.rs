//! Metadata, configuration and statistics as JSON.

use bettong_wire::proto::inference::{
    DataType, ModelConfig, ModelMetadataResponse, ModelStatisticsResponse, RepositoryIndexResponse, ServerMetadataResponse,
    StatisticDuration, model_metadata_response::TensorMetadata,
};
use serde_json::{Value, json};

/// `GET /v2`.
pub fn server(metadata: &ServerMetadataResponse) -> Value {
    json!({"name": metadata.name, "version": metadata.version, "extensions": metadata.extensions})
}

fn tensor(tensor: &TensorMetadata) -> Value {
    json!({"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape})
}

/// `GET /v2/models/{name}`.
pub fn model(metadata: &ModelMetadataResponse) -> Value {
    json!({
        "name": metadata.name,
        "versions": metadata.versions,
        "platform": metadata.platform,
        "inputs": metadata.inputs.iter().map(tensor).collect::<Vec<_>>(),
        "outputs": metadata.outputs.iter().map(tensor).collect::<Vec<_>>(),
    })
}

fn data_type(value: i32) -> &'static str {
    DataType::try_from(value).unwrap_or(DataType::TypeInvalid).as_str_name()
}

/// `GET /v2/models/{name}/config`.
pub fn config(config: &ModelConfig) -> Value {
    let inputs =
        config.input.iter().map(|input| json!({"name": input.name, "data_type": data_type(input.data_type), "dims": input.dims}));
    let outputs = config
        .output
        .iter()
        .map(|output| json!({"name": output.name, "data_type": data_type(output.data_type), "dims": output.dims}));
    json!({
        "name": config.name,
        "platform": config.platform,
        "backend": config.backend,
        "max_batch_size": config.max_batch_size,
        "input": inputs.collect::<Vec<_>>(),
        "output": outputs.collect::<Vec<_>>(),
    })
}

fn duration(duration: Option<&StatisticDuration>) -> Value {
    let (count, ns) = duration.map_or((0, 0), |duration| (duration.count, duration.ns));
    json!({"count": count, "ns": ns})
}

/// `GET /v2/models/stats` and `GET /v2/models/{name}/stats`.
pub fn stats(stats: &ModelStatisticsResponse) -> Value {
    let one = |model: &bettong_wire::proto::inference::ModelStatistics| {
        let inference = model.inference_stats.unwrap_or_default();
        json!({
            "name": model.name,
            "version": model.version,
            "last_inference": model.last_inference,
            "inference_count": model.inference_count,
            "execution_count": model.execution_count,
            "inference_stats": {
                "success": duration(inference.success.as_ref()),
                "fail": duration(inference.fail.as_ref()),
                "queue": duration(inference.queue.as_ref()),
                "compute_input": duration(inference.compute_input.as_ref()),
                "compute_infer": duration(inference.compute_infer.as_ref()),
                "compute_output": duration(inference.compute_output.as_ref()),
            },
            "batch_stats": [],
        })
    };
    json!({"model_stats": stats.model_stats.iter().map(one).collect::<Vec<_>>()})
}

/// `POST /v2/repository/index`.
pub fn repository(index: &RepositoryIndexResponse) -> Value {
    let model = |model: &bettong_wire::proto::inference::repository_index_response::ModelIndex| json!({"name": model.name, "version": model.version, "state": model.state, "reason": model.reason});
    Value::Array(index.models.iter().map(model).collect())
}
