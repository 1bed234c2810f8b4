//! Snapshots as the engine's own types.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bettong_executor::{ProgramSpec, Source, StepSpec};
use bettong_frame::{BatchMode, DType, Error, Input, Result, Shape, Signature, TensorSpec};
use bettong_runtimes::{Model, ModelInfo};
use bettong_wire::proto::bettong::internal::v1 as internal;
use bettong_wire::proto::bettong::v1 as public;
use prost::Message;

/// Longest batch in rows when nothing says otherwise.
pub const DEFAULT_BATCH_ROWS: u32 = 256;

/// Decode a snapshot.
pub fn decode<M: Message + Default>(name: &str, data: &[u8]) -> Result<M> {
    M::decode(data).map_err(|error| Error::invalid(format!("{name} can't be decoded: {error}")))
}

/// *value* unless it is 0.
pub fn or_default(value: u32, default: u32) -> u32 {
    if value == 0 { default } else { value }
}

/// The batch mode that is asked for; `None` when it is left to the model.
pub fn batch_mode(value: i32) -> Option<BatchMode> {
    match public::BatchMode::try_from(value) {
        Ok(public::BatchMode::Rows) => Some(BatchMode::Rows),
        Ok(public::BatchMode::Single) => Some(BatchMode::Single),
        Ok(public::BatchMode::Whole) => Some(BatchMode::Whole),
        _ => None,
    }
}

/// What a loaded model says of itself.
pub fn signature_to_pb(info: &ModelInfo) -> public::Signature {
    let spec = |spec: &TensorSpec| public::TensorSpec {
        name: spec.name.to_string(),
        datatype: spec.dtype.name().to_owned(),
        shape: spec.shape.to_vec(),
    };
    let mode = match info.batch_mode {
        BatchMode::Rows => public::BatchMode::Rows,
        BatchMode::Single => public::BatchMode::Single,
        BatchMode::Whole => public::BatchMode::Whole,
    };
    public::Signature {
        inputs: info.inputs.iter().map(spec).collect(),
        outputs: info.outputs.iter().map(spec).collect(),
        batch_mode: mode.into(),
    }
}

fn tensor_spec(spec: Option<public::TensorSpec>) -> Result<TensorSpec> {
    let spec = spec.ok_or_else(|| Error::invalid("an input or output of the program has no spec"))?;
    let dtype = DType::from_name(spec.datatype.as_bytes())
        .ok_or_else(|| Error::invalid(format!("'{}' has the unknown datatype '{}'", spec.name, spec.datatype)))?;
    Ok(TensorSpec { name: spec.name.into(), dtype, shape: Shape::from_vec(spec.shape) })
}

fn source(source: internal::Source) -> Source {
    match source.step {
        0 => Source::Input(source.index as usize),
        step => Source::Step { step: step as usize - 1, output: source.index as usize },
    }
}

/// What a program takes and gives.
pub fn signature(program: &internal::Program) -> Result<Signature> {
    let inputs = program.inputs.iter().map(program_input).collect::<Result<Vec<Input>>>()?;
    let outputs = program.outputs.iter().map(|output| tensor_spec(output.spec.clone())).collect::<Result<Vec<TensorSpec>>>()?;
    let batch_mode = batch_mode(program.batch_mode).ok_or_else(|| Error::invalid("the program has no batch mode"))?;
    Ok(Signature { inputs, outputs, batch_mode })
}

/// A program with the models that it names.
pub fn program(program: &internal::Program, models: &HashMap<String, Arc<dyn Model>>, batch_rows: u32) -> Result<ProgramSpec> {
    let steps = program.steps.iter().map(|step| program_step(step, models)).collect::<Result<Vec<StepSpec>>>()?;
    let sources = program.outputs.iter().map(|output| source(output.source.unwrap_or_default())).collect();
    let spec = ProgramSpec {
        signature: signature(program)?,
        steps,
        outputs: sources,
        max_batch_rows: or_default(program.max_batch_rows, batch_rows) as usize,
        max_batch_delay: Duration::from_micros(u64::from(program.max_batch_delay_us)),
    };
    spec.check()?;
    Ok(spec)
}

fn program_step(step: &internal::ProgramStep, models: &HashMap<String, Arc<dyn Model>>) -> Result<StepSpec> {
    let model = models.get(&step.model_id).cloned();
    let model = model.ok_or_else(|| Error::invalid(format!("model '{}' ({}) is not loaded", step.model_name, step.model_id)))?;
    Ok(StepSpec { model, inputs: step.inputs.iter().copied().map(source).collect() })
}

fn program_input(input: &internal::ProgramInput) -> Result<Input> {
    let names = |names: &[String]| names.iter().map(|name| Arc::from(name.as_str())).collect();
    Ok(Input { spec: tensor_spec(input.spec.clone())?, aliases: names(&input.aliases), parts: names(&input.parts) })
}

/// Name and SHA-256 of the last step's model, as the JSON text of `metadata.last_model`.
pub fn last_model(program: &internal::Program) -> String {
    program.steps.last().map_or_else(String::new, |step| {
        serde_json::json!({"model_name": step.model_name, "model_sha": step.model_sha256}).to_string()
    })
}
