//! A few valid messages for each target, to begin with.

use std::path::Path;
use std::sync::Arc;

use arrow_array::types::{Float32Type, Int8Type};
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float32Array, ListArray, RecordBatch, StringArray, StringViewArray,
    TimestampMillisecondArray,
};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{Field, Schema};
use bettong_wire::proto::bettong::internal::v1 as internal;
use bettong_wire::proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use bettong_wire::proto::inference::{InferTensorContents, ModelInferRequest};
use prost::Message;

/// Write the seeds of *target* into its corpus, unless they are there.
///
/// # Panics
///
/// If they can't be written.
pub fn write(target: &str) {
    let folder = Path::new("corpus").join(target);
    std::fs::create_dir_all(&folder).expect("the corpus folder can be made");
    for (at, seed) in seeds(target).into_iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{at}")), seed).expect("the corpus folder can be written to");
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let framed = || {
        let request = protobuf();
        [&[0][..], &(request.len() as u32).to_be_bytes(), &request].concat()
    };
    match target {
        "oip_json" => json(),
        "oip_pb" => vec![protobuf()],
        "grpc_messages" => vec![[&[3, 0][..], &framed(), &framed()].concat()],
        "records" => texts(&[
            r#"[{"x": [1, 2.5], "id": "a"}, {"x": [-3e0, 4], "id": "\u00e9"}]"#,
            r#"{"a": 1, "b": 2, "c": [[true], [false]]}"#,
        ]),
        "arrow_file" => columns().iter().map(file).collect(),
        "arrow_stream" => columns().iter().map(stream).collect(),
        "link" => bundles(),
        _ => texts(&["dataset[]=out&dataset%5B%5D=time&dataset.exclude[]=out.y&dataset.separator=%2E"]),
    }
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The first two bytes say how long the JSON is.
fn json() -> Vec<Vec<u8>> {
    let plain = r#"{"id": "7", "parameters": {"timeout": 5, "a": 0.5}, "inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2.5], [-3e0, 4]]}, {"data": ["a", "\u00e9"], "shape": [2], "datatype": "BYTES", "name": "s"}], "outputs": [{"name": "y", "parameters": {"binary_data": false}}]}"#;
    let binary = r#"{"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}], "parameters": {"binary_data_output": true}}"#;
    let with_len = |text: &str, tail: &[u8]| [&(text.len() as u16).to_le_bytes()[..], text.as_bytes(), tail].concat();
    vec![with_len(plain, &[]), with_len(binary, &[0; 8])]
}

fn protobuf() -> Vec<u8> {
    let input = |name: &str, contents| InferInputTensor {
        name: name.into(),
        datatype: "FP32".into(),
        shape: vec![1, 2],
        contents,
        ..Default::default()
    };
    let contents = InferTensorContents { fp32_contents: vec![1.0, 2.0], ..Default::default() };
    let request = ModelInferRequest {
        model_name: "m".into(),
        model_version: "1".into(),
        id: "7".into(),
        inputs: vec![input("x", Some(contents))],
        outputs: vec![InferRequestedOutputTensor { name: "y".into(), ..Default::default() }],
        ..Default::default()
    };
    request.encode_to_vec()
}

/// What each side says first, and a bundle of everything besides.
fn bundles() -> Vec<Vec<u8>> {
    let tensor = |datatype, data: &[u8]| internal::Tensor { datatype, shape: vec![1, 1], data: data.to_vec().into() };
    let tensors = internal::Tensors { tensors: vec![tensor(11, &[0, 0, 128, 63]), tensor(13, &[1, 0, 0, 0, 65])] };
    let hello = internal::Hello {
        protocol: 1,
        cluster: "c".into(),
        role: "gateway".into(),
        member: "m".into(),
        epoch: 7,
        version: "1".into(),
        round: 1,
        window_calls: 4096,
        window_bytes: 1 << 28,
    };
    let call = internal::Call {
        sequence: 1 << 20,
        name: 3,
        rows: 1,
        timeout_us: 1500,
        attempt: 1,
        request_id: "id".into(),
        traceparent: "00-1-2-01".into(),
        inputs: Some(tensors.clone()),
    };
    let failure = internal::Failure {
        code: 8,
        message: "full".into(),
        field: "x".into(),
        retry_after_us: 9,
        not_run: true,
        too_large: true,
    };
    let outcome = internal::Outcome {
        sequence: 1 << 20,
        failure: None,
        queue_ns: 5,
        steps_ns: vec![6, 1 << 40],
        batch_rows: 2,
        waiting_rows: 3,
        outputs: Some(tensors),
    };
    let failed = internal::Outcome { sequence: 2, failure: Some(failure), ..Default::default() };
    let rest = internal::Bundle {
        names: vec![internal::Name { index: 3, pipeline: "p".into(), version: "1".into() }],
        calls: vec![call],
        outcomes: vec![outcome, failed],
        cancels: vec![1, 300],
        ping: 4,
        pong: 5,
        leaving: true,
        ..Default::default()
    };
    [internal::Bundle { hello: Some(hello), ..Default::default() }, rest].map(|bundle| bundle.encode_to_vec()).to_vec()
}

/// One batch of everything, and one of the plainest.
fn columns() -> [RecordBatch; 2] {
    let row = |value: f32| Some(vec![Some(value), Some(0.5)]);
    let labels: DictionaryArray<Int8Type> = vec!["a", "b"].into_iter().collect();
    let x: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>([row(1.0), row(2.0)]));
    let rich: Vec<(&str, ArrayRef)> = vec![
        ("x", x),
        ("s", Arc::new(StringArray::from(vec!["a", ""]))),
        ("v", Arc::new(StringViewArray::from(vec!["a", "a text that is too long to be inline"]))),
        ("d", Arc::new(labels)),
        ("b", Arc::new(BooleanArray::from(vec![true, false]))),
        ("t", Arc::new(TimestampMillisecondArray::from(vec![1, 2]))),
    ];
    let plain: Vec<(&str, ArrayRef)> =
        vec![("a", Arc::new(Float32Array::from(vec![1.0]))), ("b", Arc::new(Float32Array::from(vec![2.0])))];
    [rich, plain].map(|columns| {
        let fields: Vec<Field> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("the columns are of one length")
    })
}

fn file(batch: &RecordBatch) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = FileWriter::try_new(&mut out, &batch.schema()).expect("the schema can be written");
    writer.write(batch).and_then(|()| writer.finish()).expect("the batch can be written");
    out
}

fn stream(batch: &RecordBatch) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = StreamWriter::try_new(&mut out, &batch.schema()).expect("the schema can be written");
    writer.write(batch).and_then(|()| writer.finish()).expect("the batch can be written");
    out
}
