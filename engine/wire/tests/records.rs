//! Frames as JSON records: what is read and what is refused.

mod support;

use bettong_frame::bind::{Strictness, bind};
use bettong_frame::{DType, Shape, Tensor};
use bettong_wire::records::decode;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use support::{doubles, fixture, signature, singles};

fn read(text: &str) -> bettong_frame::Result<bettong_wire::frames::Frame> {
    decode(&Bytes::copy_from_slice(text.as_bytes()), &signature(DType::Fp32, &[-1, 2], &["tensor"], &[]))
}

fn column(text: &str, name: &str) -> Tensor {
    let frame = read(text).unwrap();
    frame.columns.iter().find(|(known, _)| known == name).unwrap().1.clone()
}

fn refused(text: &str) -> String {
    read(text).expect_err(text).message.into_owned()
}

#[test]
fn a_column_that_is_an_input_is_read_as_the_inputs_dtype() {
    for name in ["x", "tensor", "whatever"] {
        let text = format!(r#"[{{"{name}": [1, 2.5]}}, {{"{name}": [-3, 4e0]}}]"#);
        let frame = read(&text).unwrap();
        assert_eq!((2, DType::Fp32, &[2, 2][..]), (frame.rows, frame.columns[0].1.dtype, &frame.columns[0].1.shape[..]));
        assert_eq!(vec![1.0, 2.5, -3.0, 4.0], singles(&frame.columns[0].1));
    }
}

#[test]
fn scalar_parts_of_an_input_are_read_as_its_dtype_and_joined() {
    let signature = signature(DType::Fp32, &[-1, 2], &[], &["a", "b"]);
    let body = Bytes::from_static(br#"[{"a": 1, "id": "r1", "b": 2}, {"a": 3, "id": "r2", "b": 4}]"#);
    let frame = decode(&body, &signature).unwrap();
    assert_eq!(DType::Fp32, frame.columns[0].1.dtype);
    let (inputs, rows) = bind(&signature, &frame.columns, Strictness::Frame).unwrap();
    assert_eq!((2, vec![1.0, 2.0, 3.0, 4.0]), (rows, singles(&inputs[0])));
}

#[test]
fn other_columns_pass_with_the_dtype_of_their_values() {
    let text = r#"[{"x": [1, 2], "i": 7, "f": 0.5, "b": true, "s": "a", "l": [1, 2]}]"#;
    let dtypes = ["i", "f", "b", "s", "l"].map(|name| column(text, name).dtype);
    assert_eq!([DType::Int64, DType::Fp64, DType::Bool, DType::Bytes, DType::Int64], dtypes);
    assert_eq!([1], column(text, "i").shape[..]);
    assert_eq!([1, 2], column(text, "l").shape[..]);
}

#[test]
fn a_guessed_integer_column_widens_to_doubles() {
    let text = r#"[{"x": [1, 2], "v": 1}, {"x": [1, 2], "v": 2.5}, {"x": [1, 2], "v": 3}]"#;
    assert_eq!(vec![1.0, 2.5, 3.0], doubles(&column(text, "v")));
    let text = r#"[{"x": [1, 2], "v": [1, 2.5]}]"#;
    assert_eq!(vec![1.0, 2.5], doubles(&column(text, "v")));
    let text = r#"[{"x": [1, 2], "v": 9007199254740993}, {"x": [1, 2], "v": 2.5}]"#;
    assert!(refused(text).starts_with("column 'v', row 0: "), "the first can't be widened without changing it");
}

#[test]
fn members_may_come_in_another_order_in_each_record() {
    let text = r#"[{"x": [1, 2], "a": 1, "b": 2}, {"b": 4, "x": [3, 4], "a": 3}]"#;
    assert_eq!(vec![1.0, 2.0, 3.0, 4.0], singles(&column(text, "x")));
    assert_eq!(column(r#"[{"a": 1}, {"a": 3}]"#, "a").rows(), 2);
}

#[test]
fn one_object_is_one_row() {
    assert_eq!(1, read(r#" {"x": [1, 2]} "#).unwrap().rows);
}

#[test]
fn values_that_do_not_fit_are_refused_by_column_and_row() {
    let cases = [
        (r#"[{"x": [1, 2]}, {"x": [1, null]}]"#, "column 'x', row 1: null is not allowed"),
        (r#"[{"x": [1, 2]}, {"x": null}]"#, "column 'x', row 1: null is not allowed"),
        (r#"[{"x": [1, 16777217]}]"#, "column 'x', row 0: 16777217 can't be given as FP32: the integer can't be held exactly"),
        (r#"[{"x": [1, 1e39]}]"#, "column 'x', row 0: 1e39 can't be given as FP32: the number is out of range"),
        (r#"[{"x": [1, "a"]}]"#, "column 'x', row 0: a number is expected for FP32"),
        (r#"[{"x": {"a": 1}}]"#, "column 'x', row 0: an object can't be the value of a column"),
        (r#"[{"x": [1, 2]}, {"x": [1]}]"#, "column 'x', row 1: it is a list of 1, in row 0 it is a list of 2"),
        (r#"[{"x": [1, 2]}, {"x": 1}]"#, "column 'x', row 1: it is a single value, in row 0 it is a list of 2"),
        (r#"[{"x": [[1], [2, 3]]}]"#, "column 'x', row 0: it has 2 values, others have 1"),
        (r#"[{"x": [NaN, 1]}]"#, "column 'x', row 0: NaN and Infinity are not JSON; send them as binary data or Arrow"),
    ];
    for (text, message) in cases {
        assert_eq!(message, refused(text), "{text}");
    }
}

#[test]
fn records_with_other_columns_are_refused_by_row_and_column() {
    let cases = [
        (r#"[{"x": 1, "y": 2}, {"x": 1}]"#, "row 1: column 'y' is missing"),
        (r#"[{"x": 1}, {"x": 1, "y": 2}]"#, "row 1: column 'y' is not in row 0"),
        (r#"[{"x": 1}, {"y": 1}]"#, "row 1: column 'y' is not in row 0"),
        (r#"[{"x": 1, "x": 2}]"#, "row 0: column 'x' is given twice"),
        (r#"[{"x": 1, "y": 1}, {"x": 1, "x": 2}]"#, "row 1: column 'x' is given twice"),
        ("[{}]", "row 0 has no columns"),
        ("[]", "the frame has zero rows"),
        ("7", "the body must be a JSON array of records, one object for each row"),
    ];
    for (text, message) in cases {
        assert_eq!(message, refused(text), "{text}");
    }
}

#[test]
fn broken_json_is_refused() {
    for text in [
        "",
        "[",
        "[{",
        r#"[{"x"}]"#,
        r#"[{"x": 1},]"#,
        r#"[{"x": 1} {"x": 1}]"#,
        r#"[{"x": 1}] 7"#,
        r#"[{"x": [1,]}]"#,
        r#"[{"x": 01}]"#,
        "[7]",
    ] {
        refused(text);
    }
    refused(&format!(r#"[{{"x": {}"#, "[".repeat(100_000)));
}

#[test]
fn rows_of_the_fixtures_are_read_whole() {
    let Some(body) = fixture("ccfraud/cc_data_1k.df.json") else { return };
    let signature = signature(DType::Fp32, &[-1, 29], &["tensor"], &[]);
    let frame = decode(&body, &signature).unwrap();
    let (inputs, rows) = bind(&signature, &frame.columns, Strictness::Frame).unwrap();
    assert_eq!(1001, rows);
    assert!((singles(&inputs[0])[0] + 1.060_329_8).abs() < 1e-6);
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(|value| json!(value)),
        (-1e9_f64..1e9).prop_map(|value| json!(value)),
        any::<bool>().prop_map(|value| json!(value)),
        ".{0,5}".prop_map(|value| json!(value))
    ]
}

/// What a column of *values* must be read as, if it can be.
fn oracle(values: &[Value]) -> Option<(DType, Vec<u8>)> {
    let mut data = Vec::new();
    if values.iter().all(Value::is_i64) {
        data.extend(values.iter().flat_map(|value| value.as_i64().unwrap().to_le_bytes()));
        return Some((DType::Int64, data));
    }
    if values.iter().all(Value::is_number) {
        for value in values {
            let exact = value.as_i64().is_none_or(|int| int as f64 as i128 == i128::from(int));
            data.extend_from_slice(&value.as_f64().filter(|_| exact)?.to_le_bytes());
        }
        return Some((DType::Fp64, data));
    }
    if values.iter().all(Value::is_string) {
        for value in values {
            bettong_frame::tensor::push_byte_element(&mut data, value.as_str().unwrap().as_bytes());
        }
        return Some((DType::Bytes, data));
    }
    values
        .iter()
        .all(Value::is_boolean)
        .then(|| (DType::Bool, values.iter().map(|value| u8::from(value.as_bool().unwrap())).collect()))
}

proptest! {
    #[test]
    fn columns_are_what_another_parser_reads(columns in prop::collection::vec((".{0,4}", prop::collection::vec(value(), 3)), 2..5)) {
        let records: Vec<Value> = (0..3).map(|row| Value::Object(columns.iter().map(|(name, values)| (name.clone(), values[row].clone())).collect::<Map<_, _>>())).collect();
        let by_name: std::collections::BTreeMap<_, _> = columns.iter().map(|(name, values)| (name, values)).collect();
        let body = Bytes::from(Value::Array(records).to_string());
        let expected: Option<Vec<_>> = by_name.values().map(|values| oracle(values)).collect();
        let signature = signature(DType::Fp32, &[-1, 2], &[], &[]);
        let found = decode(&body, &signature).ok();
        // A column of integers and booleans may be read by neither; a column that is alone is an input.
        if by_name.len() > 1 && !by_name.contains_key(&"x".to_owned()) {
            let mut found: Option<Vec<_>> = found.map(|frame| frame.columns.iter().map(|(name, tensor)| (name.to_string(), tensor.dtype, tensor.data.to_vec())).collect());
            if let Some(found) = &mut found {
                found.sort_by(|a, b| a.0.cmp(&b.0));
            }
            let expected: Option<Vec<_>> = expected.map(|expected| by_name.keys().zip(expected).map(|(name, (dtype, data))| ((*name).clone(), dtype, data)).collect());
            prop_assert_eq!(expected, found, "{:?}", body);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in r#"[\[\]{}",:0-9.eE\-+ntrufalsex\\ ]{0,60}"#) {
        let _ = read(&format!(r#"[{{"x":{text}}}]"#));
        let _ = read(&text);
    }
}

#[test]
fn an_empty_shape_of_rows_is_kept() {
    let tensor = column(r#"[{"x": [], "y": 1}, {"x": [], "y": 2}]"#, "x");
    assert_eq!(Shape::from_slice(&[2, 0]), tensor.shape);
}
