//! Replies of the native routes, as JSON records and as Arrow.

#![allow(clippy::float_cmp, reason = "values are copied, not computed")]

mod support;

use std::io::Cursor;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, DictionaryArray, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow_buffer::BooleanBuffer;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{Field, Schema};
use bettong_frame::{DType, ErrorKind, Shape, Tensor, TensorSpec};
use bettong_wire::arrow::ArrowKind;
use bettong_wire::dataset::Dataset;
use bettong_wire::frames::Frame;
use bettong_wire::reply::{Metadata, ReplyFrame};
use bettong_wire::{arrow, records};
use bytes::Bytes;
use serde_json::{Value, json};
use support::{counting, fixture, signature};

const METADATA: Metadata<'_> = Metadata {
    last_model: r#"{"model_name":"m"}"#,
    pipeline_version: "3",
    elapsed_ns: &[5, 7],
    dropped: &["in.big"],
    partition: "engine-1",
};

fn spec(name: &str) -> TensorSpec {
    TensorSpec { name: name.into(), dtype: DType::Fp32, shape: Shape::from_slice(&[-1, 1]) }
}

fn frame(text: &str) -> Frame {
    records::decode(&Bytes::copy_from_slice(text.as_bytes()), &signature(DType::Fp32, &[-1, 2], &["tensor"], &[])).unwrap()
}

fn two_rows() -> Frame {
    frame(r#"[{"tensor": [0.1, 2], "id": "a"}, {"tensor": [3, 4], "id": "b"}]"#)
}

fn reply<'a>(frame: &'a Frame, specs: &'a [TensorSpec], outputs: &'a [Tensor]) -> ReplyFrame<'a> {
    ReplyFrame { time_ms: 1_752_612_113_814, frame, specs, outputs, anomaly_counts: &[], metadata: METADATA }
}

fn dataset(query: &str) -> Dataset {
    Dataset::from_query(query).unwrap()
}

fn text(reply: &ReplyFrame<'_>, query: &str) -> String {
    String::from_utf8(reply.write_json(&dataset(query)).unwrap().to_vec()).unwrap()
}

#[test]
fn records_are_nested_by_group_without_a_separator() {
    let (frame, specs, outputs) = (two_rows(), [spec("y")], [counting(&[2, 1])]);
    let expected = concat!(
        r#"[{"time":1752612113814,"in":{"tensor":[0.1,2.0],"id":"a"},"out":{"y":[0.0]},"anomaly":{"count":0},"metadata":{"last_model":"{\"model_name\":\"m\"}","pipeline_version":"3","elapsed":[5,7],"dropped":["in.big"],"partition":"engine-1"}},"#,
        r#"{"time":1752612113814,"in":{"tensor":[3.0,4.0],"id":"b"},"out":{"y":[1.0]},"anomaly":{"count":0},"metadata":{"last_model":"{\"model_name\":\"m\"}","pipeline_version":"3","elapsed":[5,7],"dropped":["in.big"],"partition":"engine-1"}}]"#
    );
    assert_eq!(expected, text(&reply(&frame, &specs, &outputs), ""));
}

#[test]
fn records_are_flat_with_a_separator() {
    let (frame, specs, outputs) = (two_rows(), [spec("y")], [counting(&[2, 1])]);
    let expected =
        r#"[{"time":1752612113814,"out_y":[0.0],"anomaly_count":0},{"time":1752612113814,"out_y":[1.0],"anomaly_count":0}]"#;
    assert_eq!(
        expected,
        text(&reply(&frame, &specs, &outputs), "dataset[]=time&dataset[]=out&dataset[]=anomaly&dataset.separator=_")
    );
}

#[test]
fn groups_close_wherever_the_selection_ends() {
    let (frame, specs, outputs) = (two_rows(), [spec("y"), spec("z")], [counting(&[2, 1]), counting(&[2])]);
    let reply = reply(&frame, &specs, &outputs);
    assert_eq!(r#"[{"out":{"z":0.0}},{"out":{"z":1.0}}]"#, text(&reply, "dataset[]=out.z"));
    assert_eq!(r#"[{"time":1752612113814},{"time":1752612113814}]"#, text(&reply, "dataset[]=time"));
    assert_eq!(
        r#"[{"in":{"id":"a"},"out":{"y":[0.0]}},{"in":{"id":"b"},"out":{"y":[1.0]}}]"#,
        text(&reply, "dataset[]=in.id&dataset[]=out.y")
    );
    assert_eq!("[{},{}]", text(&reply, "dataset.exclude[]=*"));
    assert!(reply.write_json(&dataset("dataset[]=out.nothing")).is_err());
}

#[test]
fn every_rank_is_written_as_lists_within_lists() {
    let (frame, specs) = (two_rows(), [spec("s"), spec("m"), spec("e")]);
    let outputs = [counting(&[2]), counting(&[2, 2, 2]), counting(&[2, 0])];
    let reply = reply(&frame, &specs, &outputs);
    let expected = r#"[{"out":{"s":0.0,"m":[[0.0,1.0],[2.0,3.0]],"e":[]}},{"out":{"s":1.0,"m":[[4.0,5.0],[6.0,7.0]],"e":[]}}]"#;
    assert_eq!(expected, text(&reply, "dataset[]=out"));

    let batch = batches(&reply, "dataset[]=out", ArrowKind::File).remove(0);
    let (scalars, matrices) = (batch.column(0).as_primitive::<Float32Type>(), batch.column(1).as_list::<i32>());
    assert_eq!(&[0.0, 1.0], &scalars.values()[..]);
    let inner = matrices.value(1);
    assert_eq!(&[6.0, 7.0], &inner.as_list::<i32>().value(1).as_primitive::<Float32Type>().values()[..]);
    assert_eq!(0, batch.column(2).as_list::<i32>().value_length(1));
}

#[test]
fn strings_are_written_row_by_row() {
    let mut data = Vec::new();
    for text in ["a", "\"", "", "d"] {
        bettong_frame::tensor::push_byte_element(&mut data, text.as_bytes());
    }
    let labels = |shape: &[i64]| Tensor { dtype: DType::Bytes, shape: Shape::from_slice(shape), data: data.clone().into() };
    let (frame, specs, outputs) = (two_rows(), [spec("l"), spec("m")], [labels(&[2, 2]), labels(&[2, 2, 1])]);
    let reply = reply(&frame, &specs, &outputs);
    let expected = r#"[{"out":{"l":["a","\""],"m":[["a"],["\""]]}},{"out":{"l":["","d"],"m":[[""],["d"]]}}]"#;
    assert_eq!(expected, text(&reply, "dataset[]=out"));
}

#[test]
fn anomalies_are_counted_by_row() {
    let (frame, specs, outputs) = (two_rows(), [spec("y")], [counting(&[2, 1])]);
    let reply = ReplyFrame { anomaly_counts: &[0, 2], ..reply(&frame, &specs, &outputs) };
    assert_eq!(r#"[{"anomaly":{"count":0}},{"anomaly":{"count":2}}]"#, text(&reply, "dataset[]=anomaly"));
    let batch = batches(&reply, "dataset[]=anomaly", ArrowKind::Stream).remove(0);
    assert_eq!(&[0, 2], &batch.column(0).as_primitive::<UInt32Type>().values()[..]);
}

#[test]
fn outputs_that_are_not_row_by_row_are_refused() {
    let (frame, specs) = (two_rows(), [spec("y")]);
    for shape in [&[3, 1][..], &[]] {
        let outputs = [counting(shape)];
        let error = reply(&frame, &specs, &outputs).write_json(&Dataset::default()).unwrap_err();
        assert_eq!((ErrorKind::Unimplemented, Some("y")), (error.kind, error.field.as_deref()));
    }
}

fn batches(reply: &ReplyFrame<'_>, query: &str, kind: ArrowKind) -> Vec<RecordBatch> {
    let body = Cursor::new(reply.write_arrow(&dataset(query), kind).unwrap());
    match kind {
        ArrowKind::File => FileReader::try_new(body, None).unwrap().map(Result::unwrap).collect(),
        ArrowKind::Stream => StreamReader::try_new(body, None).unwrap().map(Result::unwrap).collect(),
    }
}

#[test]
fn the_arrow_schema_is_the_platforms() {
    let (frame, specs, outputs) = (two_rows(), [spec("y")], [counting(&[2, 1])]);
    for kind in [ArrowKind::File, ArrowKind::Stream] {
        let batch = batches(&reply(&frame, &specs, &outputs), "", kind).remove(0);
        let shown: Vec<String> = batch
            .schema_ref()
            .fields()
            .iter()
            .map(|field| format!("{}: {}{}", field.name(), field.data_type(), if field.is_nullable() { "" } else { " not null" }))
            .collect();
        let expected = [
            "time: Timestamp(ms)",
            "in.tensor: List(Float32)",
            "in.id: Utf8",
            "out.y: List(non-null Float32, field: 'inner') not null",
            "anomaly.count: UInt32 not null",
            "metadata.last_model: Utf8",
            "metadata.pipeline_version: Utf8",
            "metadata.elapsed: List(UInt64)",
            "metadata.dropped: List(Utf8)",
            "metadata.partition: Utf8",
        ];
        assert_eq!(expected.to_vec(), shown);
        let elapsed = batch.column(7).as_list::<i32>().value(1);
        assert_eq!(&[5, 7], &elapsed.as_primitive::<UInt64Type>().values()[..]);
        assert_eq!("engine-1", batch.column(9).as_string::<i32>().value(1));
    }
}

fn arrow_frame() -> (Vec<RecordBatch>, Frame) {
    let batch = |rows: std::ops::Range<i64>| {
        let labels: DictionaryArray<arrow_array::types::Int8Type> =
            rows.clone().map(|row| if row % 2 == 0 { "even" } else { "odd" }).collect();
        let values: Vec<f32> = rows.clone().flat_map(|row| [row as f32, 0.5]).collect();
        let lists = arrow_array::FixedSizeListArray::try_new(
            Arc::new(Field::new("item", arrow_schema::DataType::Float32, true)),
            2,
            Arc::new(arrow_array::Float32Array::from(values)),
            None,
        );
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("tensor", Arc::new(lists.unwrap())),
            ("at", Arc::new(TimestampMillisecondArray::from_iter_values(rows))),
            ("label", Arc::new(labels)),
        ];
        let fields: Vec<Field> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect()).unwrap()
    };
    let batches = vec![batch(0..3), batch(3..5)];
    let mut body = Vec::new();
    let mut writer = StreamWriter::try_new(&mut body, &batches[0].schema()).unwrap();
    batches.iter().try_for_each(|batch| writer.write(batch)).unwrap();
    writer.finish().unwrap();
    let signature = signature(DType::Fp32, &[-1, 2], &["tensor"], &[]);
    (batches, arrow::decode(&body.into(), ArrowKind::Stream, &signature).unwrap())
}

#[test]
fn what_came_as_arrow_goes_back_as_it_came() {
    let (given, frame) = arrow_frame();
    let (specs, outputs) = ([spec("y")], [counting(&[5, 1])]);
    let found = batches(&reply(&frame, &specs, &outputs), "dataset[]=in&dataset[]=out", ArrowKind::Stream);
    assert_eq!(vec![3, 2], found.iter().map(RecordBatch::num_rows).collect::<Vec<_>>());
    for (given, found) in given.iter().zip(&found) {
        assert_eq!(given.columns(), &found.columns()[..3]);
        assert_eq!("in.tensor", found.schema_ref().field(0).name());
    }
    let last = found[1].column(3).as_list::<i32>().value(0);
    assert_eq!(&[3.0], &last.as_primitive::<Float32Type>().values()[..]);
}

#[test]
fn what_came_as_arrow_can_go_back_as_json() {
    let (_, frame) = arrow_frame();
    let (specs, outputs) = ([spec("y")], [counting(&[5, 1])]);
    let records: Value = serde_json::from_str(&text(&reply(&frame, &specs, &outputs), "dataset[]=in")).unwrap();
    assert_eq!(json!({"in": {"tensor": [4.0, 0.5], "at": "1970-01-01T00:00:00.004", "label": "even"}}), records[4]);
}

#[test]
fn what_came_as_json_can_go_back_as_arrow() {
    let (frame, specs, outputs) = (two_rows(), [spec("y")], [counting(&[2, 1])]);
    let batch = batches(&reply(&frame, &specs, &outputs), "dataset[]=in", ArrowKind::File).remove(0);
    assert_eq!(&[3.0, 4.0], &batch.column(0).as_list::<i32>().value(1).as_primitive::<Float32Type>().values()[..]);
    assert_eq!(&StringArray::from(vec!["a", "b"]), batch.column(1).as_string::<i32>());
}

#[test]
fn misaligned_outputs_are_written_right() {
    let aligned = counting(&[2, 1]);
    let padded: Bytes = [&[0][..], &aligned.data].concat().into();
    let (frame, specs, outputs) = (two_rows(), [spec("y")], [Tensor { data: padded.slice(1..), ..aligned }]);
    let batch = batches(&reply(&frame, &specs, &outputs), "dataset[]=out", ArrowKind::File).remove(0);
    assert_eq!(&[1.0], &batch.column(0).as_list::<i32>().value(1).as_primitive::<Float32Type>().values()[..]);
}

#[test]
fn large_frames_are_cut_into_batches_that_texts_fit_in() {
    let rows = (1 << 20) + 5;
    let ids: Vec<String> = (0..rows).map(|row| format!(r#"{{"i":{}}}"#, row % 10)).collect();
    let frame = frame(&format!("[{}]", ids.join(",")));
    let (specs, outputs) = ([spec("y")], [counting(&[rows])]);
    let found = batches(&reply(&frame, &specs, &outputs), "dataset.exclude[]=metadata.last_model", ArrowKind::Stream);
    assert_eq!(vec![1 << 20, 5], found.iter().map(RecordBatch::num_rows).collect::<Vec<_>>());
    assert_eq!(((rows - 1) % 10) as f32, found[1].column(1).as_primitive::<Float32Type>().value(4));
    assert_eq!((rows - 1) as f32, found[1].column(2).as_primitive::<Float32Type>().value(4));
}

#[test]
fn a_reply_that_repeats_its_metadata_too_often_is_refused_before_it_is_written() {
    let rows = 12_000_000;
    let bits: ArrayRef = Arc::new(BooleanArray::from(BooleanBuffer::new_set(rows)));
    let batch = RecordBatch::try_from_iter([("x", bits)]).unwrap();
    let mut body = Vec::new();
    let mut writer = StreamWriter::try_new(&mut body, &batch.schema()).unwrap();
    writer.write(&batch).and_then(|()| writer.finish()).unwrap();
    assert!(body.len() < 1 << 21);
    let frame = arrow::decode(&body.into(), ArrowKind::Stream, &signature(DType::Bool, &[-1], &[], &[])).unwrap();
    let outputs = [frame.columns[0].1.clone()];
    let (specs, long) = ([spec("y")], "m".repeat(200));
    let reply = ReplyFrame { metadata: Metadata { last_model: &long, ..METADATA }, ..reply(&frame, &specs, &outputs) };
    let (json, arrow) = (reply.write_json(&Dataset::default()), reply.write_arrow(&Dataset::default(), ArrowKind::Stream));
    assert_eq!([ErrorKind::TooLarge; 2], [json.unwrap_err().kind, arrow.unwrap_err().kind]);
    assert!(reply.write_arrow(&dataset("dataset[]=out"), ArrowKind::Stream).is_ok());
}

#[test]
fn golden_replies_are_written_as_a_real_server_wrote_them() {
    for (input, expected, column) in [
        ("ccfraud/cc_data_1k.df.json", "ccfraud/expected_edge_xgboost_10k.df.json", "tensor"),
        ("aloha/data_1k.df.json", "aloha/expected_edge_curl_response_1k.df.json", "text_input"),
    ] {
        let (Some(body), Some(expected)) = (fixture(input), fixture(expected)) else { return };
        let expected: Vec<Value> = serde_json::from_slice(&expected).unwrap();
        let width = expected[0]["in"][column].as_array().unwrap().len() as i64;
        let frame = records::decode(&body, &signature(DType::Fp32, &[-1, width], &[column], &[])).unwrap();
        let specs: Vec<TensorSpec> = expected[0]["out"].as_object().unwrap().keys().map(|name| spec(name)).collect();
        let outputs: Vec<Tensor> = specs
            .iter()
            .map(|spec| {
                let values = expected.iter().map(|record| record["out"][&*spec.name][0].as_f64().unwrap() as f32);
                let data: Bytes = values.flat_map(f32::to_le_bytes).collect();
                Tensor::new("y", DType::Fp32, Shape::from_slice(&[expected.len() as i64, 1]), data).unwrap()
            })
            .collect();
        let text = |name: &str| expected[0]["metadata"][name].as_str().unwrap();
        let elapsed: Vec<u64> =
            expected[0]["metadata"]["elapsed"].as_array().unwrap().iter().map(|ns| ns.as_u64().unwrap()).collect();
        let metadata = Metadata {
            last_model: text("last_model"),
            pipeline_version: text("pipeline_version"),
            elapsed_ns: &elapsed,
            dropped: &[],
            partition: text("partition"),
        };
        let time_ms = expected[0]["time"].as_i64().unwrap();
        let reply = ReplyFrame { time_ms, metadata, ..reply(&frame, &specs, &outputs) };
        let found: Vec<Value> = serde_json::from_slice(&reply.write_json(&Dataset::default()).unwrap()).unwrap();
        assert_eq!(expected, found);
    }
}
