//! What the server and its pipelines say of themselves, for gRPC and REST alike.

use std::sync::Arc;

use bettong_frame::{BatchMode, DType, Result, TensorSpec};
use bettong_telemetry::{Histogram, PipelineMetrics};
use bettong_wire::proto::bettong::internal::v1::RepositoryIndex;
use bettong_wire::proto::inference::{
    DataType, InferStatistics, ModelConfig, ModelInput, ModelMetadataResponse, ModelOutput, ModelStatistics,
    ModelStatisticsResponse, RepositoryIndexResponse, ServerMetadataResponse, StatisticDuration,
    model_metadata_response::TensorMetadata, repository_index_response::ModelIndex,
};
use prost::Message;

use crate::control::{ControlMethod, ask};
use crate::routes::Entry;
use crate::shared::Shared;

/// The platform name that clients know ONNX Runtime by.
const PLATFORM: &str = "onnxruntime_onnx";

/// Extensions of the protocol that are served, by Triton's names.
const EXTENSIONS: [&str; 5] = ["binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics"];

/// Name, version and extensions of the server.
pub fn server(shared: &Shared) -> ServerMetadataResponse {
    let extensions = EXTENSIONS.iter().map(|&name| name.to_owned()).collect();
    ServerMetadataResponse { name: "bettong".to_owned(), version: shared.version.clone(), extensions }
}

fn tensor(spec: &TensorSpec) -> TensorMetadata {
    TensorMetadata { name: spec.name.to_string(), datatype: spec.dtype.name().to_owned(), shape: spec.shape.to_vec() }
}

/// Inputs and outputs of a pipeline.
pub fn model(entry: &Entry) -> ModelMetadataResponse {
    let signature = &entry.route.signature;
    ModelMetadataResponse {
        name: entry.route.pipeline.to_string(),
        versions: vec![entry.route.version.to_string()],
        platform: PLATFORM.to_owned(),
        inputs: signature.inputs.iter().map(|input| tensor(&input.spec)).collect(),
        outputs: signature.outputs.iter().map(tensor).collect(),
    }
}

fn data_type(dtype: DType) -> DataType {
    match dtype {
        DType::Bool => DataType::TypeBool,
        DType::Uint8 => DataType::TypeUint8,
        DType::Uint16 => DataType::TypeUint16,
        DType::Uint32 => DataType::TypeUint32,
        DType::Uint64 => DataType::TypeUint64,
        DType::Int8 => DataType::TypeInt8,
        DType::Int16 => DataType::TypeInt16,
        DType::Int32 => DataType::TypeInt32,
        DType::Int64 => DataType::TypeInt64,
        DType::Fp16 => DataType::TypeFp16,
        DType::Bf16 => DataType::TypeBf16,
        DType::Fp32 => DataType::TypeFp32,
        DType::Fp64 => DataType::TypeFp64,
        DType::Bytes => DataType::TypeString,
    }
}

/// A pipeline's configuration in Triton's terms. Dimensions leave the batch out when rows are joined.
pub fn config(entry: &Entry) -> ModelConfig {
    let signature = &entry.route.signature;
    let batched = signature.batch_mode == BatchMode::Rows;
    let dims = |spec: &TensorSpec| if batched { spec.row_shape().to_vec() } else { spec.shape.to_vec() };
    let input = |spec: &TensorSpec| ModelInput {
        name: spec.name.to_string(),
        data_type: data_type(spec.dtype).into(),
        dims: dims(spec),
        ..ModelInput::default()
    };
    let output = |spec: &TensorSpec| ModelOutput {
        name: spec.name.to_string(),
        data_type: data_type(spec.dtype).into(),
        dims: dims(spec),
        ..ModelOutput::default()
    };
    ModelConfig {
        name: entry.route.pipeline.to_string(),
        platform: PLATFORM.to_owned(),
        backend: "onnxruntime".to_owned(),
        max_batch_size: if batched { entry.max_batch_rows as i32 } else { 0 },
        input: signature.inputs.iter().map(|input_| input(&input_.spec)).collect(),
        output: signature.outputs.iter().map(output).collect(),
        ..ModelConfig::default()
    }
}

fn duration(histogram: &Histogram) -> StatisticDuration {
    StatisticDuration { count: histogram.cumulative().1, ns: histogram.sum() }
}

fn statistics(metrics: &PipelineMetrics) -> ModelStatistics {
    let runs: (u64, u64) = metrics.steps.iter().fold((0, 0), |(count, ns), step| {
        let seen = step.run.cumulative().1;
        (count.max(seen), ns + step.run.sum())
    });
    let none = Some(StatisticDuration { count: runs.0, ns: 0 });
    ModelStatistics {
        name: metrics.pipeline.clone(),
        version: metrics.version.clone(),
        last_inference: metrics.last_inference_ms.get().max(0) as u64,
        inference_count: metrics.rows.get(),
        execution_count: metrics.batch_rows.cumulative().1,
        inference_stats: Some(InferStatistics {
            success: Some(duration(&metrics.total)),
            fail: Some(StatisticDuration { count: metrics.failures(), ns: 0 }),
            queue: Some(duration(&metrics.queue)),
            compute_input: none,
            compute_infer: Some(StatisticDuration { count: runs.0, ns: runs.1 }),
            compute_output: none,
            ..InferStatistics::default()
        }),
        ..ModelStatistics::default()
    }
}

/// Counts and times of one pipeline, or of all when *name* is empty.
pub fn stats(shared: &Shared, name: &str, version: &str) -> Result<ModelStatisticsResponse> {
    let entries: Vec<Arc<Entry>> =
        if name.is_empty() { shared.routes.table().entries() } else { vec![shared.routes.find(name, version)?] };
    Ok(ModelStatisticsResponse { model_stats: entries.iter().map(|entry| statistics(&entry.metrics)).collect() })
}

/// Everything that is or could be deployed, as the control plane knows it.
pub async fn repository(shared: &Shared, only_ready: bool) -> Result<RepositoryIndexResponse> {
    let payload = ask(shared, ControlMethod::RepositoryIndex, "").await?;
    let index = RepositoryIndex::decode(payload)
        .map_err(|error| bettong_frame::Error::internal(format!("the repository index can't be read: {error}")))?;
    let entries = index.entries.into_iter().filter(|entry| !only_ready || entry.state == "READY");
    let model = |entry: bettong_wire::proto::bettong::internal::v1::RepositoryEntry| ModelIndex {
        name: entry.name,
        version: if entry.version == 0 { String::new() } else { entry.version.to_string() },
        state: entry.state,
        reason: entry.reason,
    };
    Ok(RepositoryIndexResponse { models: entries.map(model).collect() })
}
