//! What it costs to read frames and write replies: `cargo run --release -p bettong-wire --example frame_cost`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{Array, ArrayRef, FixedSizeListArray, Float32Array, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema};
use bettong_frame::{BatchMode, DType, Input, Shape, Signature, Tensor, TensorSpec};
use bettong_wire::arrow::{self, ArrowKind};
use bettong_wire::dataset::Dataset;
use bettong_wire::frames::Frame;
use bettong_wire::records;
use bettong_wire::reply::{Metadata, ReplyFrame};
use bytes::Bytes;

const WIDTH: usize = 29;

fn signature() -> Signature {
    let spec = TensorSpec { name: "x".into(), dtype: DType::Fp32, shape: Shape::from_slice(&[-1, WIDTH as i64]) };
    let output = TensorSpec { name: "y".into(), dtype: DType::Fp32, shape: Shape::from_slice(&[-1, 1]) };
    let input = Input { spec, aliases: vec!["tensor".into()], parts: Vec::new() };
    Signature { inputs: vec![input], outputs: vec![output], batch_mode: BatchMode::Rows }
}

fn value(at: usize) -> f32 {
    (at * 7919 % 10_007) as f32 / 1009.0 - 5.0
}

fn json(rows: usize) -> Bytes {
    let row = |row: usize| (0..WIDTH).map(|at| format!("{:.10}", value(row * WIDTH + at))).collect::<Vec<_>>().join(",");
    let rows: Vec<String> = (0..rows).map(|at| format!(r#"{{"tensor":[{}]}}"#, row(at))).collect();
    format!("[{}]", rows.join(",")).into()
}

fn stream(rows: usize) -> Bytes {
    let values = Float32Array::from_iter_values((0..rows * WIDTH).map(value));
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let lists = FixedSizeListArray::new(item, WIDTH as i32, Arc::new(values), None);
    let schema = Arc::new(Schema::new(vec![Field::new("tensor", lists.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(lists) as ArrayRef]).expect("there is one column");
    let mut out = Vec::new();
    let mut writer = StreamWriter::try_new(&mut out, &schema).expect("the schema can be written");
    writer.write(&batch).and_then(|()| writer.finish()).expect("the batch can be written");
    out.into()
}

/// Print the least time of one *work* in millions of rows a second.
fn rate<T>(name: &str, rows: usize, mut work: impl FnMut() -> T) {
    let mut least = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        black_box(work());
        least = least.min(start.elapsed().as_secs_f64());
    }
    println!("{name}: {:.2} M rows/s, {:.0} ns a row", rows as f64 / least / 1e6, least * 1e9 / rows as f64);
}

fn reply(name: &str, frame: &Frame, queries: &[&str]) {
    let rows = frame.rows;
    let data: Bytes = (0..rows).flat_map(|row| value(row).to_le_bytes()).collect();
    let outputs = [Tensor { dtype: DType::Fp32, shape: Shape::from_slice(&[rows as i64, 1]), data }];
    let specs = signature().outputs;
    let metadata = Metadata { last_model: "{}", pipeline_version: "1", elapsed_ns: &[1, 2], dropped: &[], partition: "engine" };
    let reply = ReplyFrame { time_ms: 0, frame, specs: &specs, outputs: &outputs, anomaly_counts: &[], metadata };
    for query in queries {
        let dataset = Dataset::from_query(query).expect("the query is valid");
        rate(&format!("{name}: reply as Arrow, {query}"), rows, || reply.write_arrow(&dataset, ArrowKind::Stream));
        if rows <= 10_000 {
            rate(&format!("{name}: reply as JSON, {query}"), rows, || reply.write_json(&dataset));
        }
    }
}

fn main() {
    let signature = signature();
    let queries = ["dataset[]=out", "dataset.exclude[]=metadata", ""];
    let body = json(1_000);
    rate("1,000 rows: JSON records", 1_000, || records::decode(&body, &signature));
    reply("1,000 rows", &records::decode(&body, &signature).expect("the body is valid"), &queries);
    let body = stream(1_000_000);
    rate("1 M rows: Arrow stream", 1_000_000, || arrow::decode(&body, ArrowKind::Stream, &signature));
    let frame = arrow::decode(&body, ArrowKind::Stream, &signature).expect("the body is valid");
    reply("1 M rows", &frame, &queries);
}
