//! Infer requests and responses over HTTP: what is read, refused and written.

use std::time::Duration;

use bettong_frame::{DType, ErrorKind, Shape, Tensor, TensorSpec};
use bettong_wire::oip_json::{self, OipRequest, Parameter, ReplyHead, Wanted, decode, wanted_outputs};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

fn body(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

fn input(datatype: &str, shape: &[i64], data: &Value) -> Value {
    json!({"inputs": [{"name": "x", "shape": shape, "datatype": datatype, "data": data}]})
}

fn refused(text: &str) -> String {
    let body = Bytes::copy_from_slice(text.as_bytes());
    let error = decode(&body, None).expect_err(text);
    assert_eq!(ErrorKind::InvalidArgument, error.kind);
    error.message.into_owned()
}

fn refused_data(datatype: &str, data: &str) -> String {
    refused(&format!(r#"{{"inputs": [{{"name": "x", "shape": [2], "datatype": "{datatype}", "data": {data}}}]}}"#))
}

fn singles(tensor: &Tensor) -> Vec<f32> {
    tensor.data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[test]
fn members_may_come_in_any_order() {
    let text = r#" { "outputs" : [ {"name":"y"} ], "inputs":[{"data" : [1, 2.5 ,-3e0, 4] ,"shape":[2,2],"unknown":{"a":[{}, [], null, "\""]},
        "datatype":"FP32","name":"x"}],"parameters":{"a":"\u00e9\ud83d\ude00","b":true,"c":-1,"d":18446744073709551615,"e":0.5,"f":null},"id":"7"} "#;
    let body = Bytes::copy_from_slice(text.as_bytes());
    let request = decode(&body, None).unwrap();
    assert_eq!(Some("7"), request.id.as_deref());
    assert_eq!("x", request.columns[0].0);
    assert_eq!(vec![1.0, 2.5, -3.0, 4.0], singles(&request.columns[0].1));
    assert_eq!("y", request.outputs[0].name);
    let wanted = [
        ("a", Parameter::String("é😀".into())),
        ("b", Parameter::Bool(true)),
        ("c", Parameter::Int(-1)),
        ("d", Parameter::Uint(u64::MAX)),
        ("e", Parameter::Double(0.5)),
    ];
    assert_eq!(wanted.map(|(name, value)| (name.into(), value)).to_vec(), request.parameters.to_vec());
}

#[test]
fn text_is_borrowed_from_the_body() {
    let body = body(&input("FP32", &[1], &json!([1])));
    let request = decode(&body, None).unwrap();
    assert!(body.as_ptr_range().contains(&request.columns[0].0.as_ptr()));
}

#[test]
fn nested_and_flat_data_are_the_same_tensor() {
    let flat = body(&input("INT16", &[2, 1, 3], &json!([1, 2, 3, 4, 5, 6])));
    let nested = body(&input("INT16", &[2, 1, 3], &json!([[[1, 2, 3]], [[4, 5, 6]]])));
    assert_eq!(decode(&flat, None).unwrap().columns, decode(&nested, None).unwrap().columns);
}

#[test]
fn empty_tensors_are_read_as_their_shape_says() {
    for (shape, data) in [(&[0_i64, 3][..], json!([])), (&[2, 0], json!([[], []])), (&[0], json!([]))] {
        let body = body(&input("FP32", shape, &data));
        assert_eq!(shape, &decode(&body, None).unwrap().columns[0].1.shape[..]);
    }
}

#[test]
fn nesting_that_disagrees_with_the_shape_is_refused() {
    for (shape, data) in [
        (&[2_i64, 3][..], json!([[1, 2], [3, 4], [5, 6]])),
        (&[6, 1], json!([[1, 2, 3, 4, 5, 6]])),
        (&[2, 3], json!([[[1, 2, 3]], [[4, 5, 6]]])),
        (&[2, 3], json!([1, 2, 3, 4, 5])),
        (&[2, 3], json!([])),
    ] {
        let error = decode(&body(&input("FP32", shape, &data)), None).unwrap_err();
        assert_eq!(Some("x"), error.field.as_deref(), "{data}: {error}");
    }
}

#[test]
fn ragged_rows_are_refused_by_row() {
    let error = decode(&body(&input("FP32", &[3, 2], &json!([[1, 2], [3], [4, 5]]))), None).unwrap_err();
    assert_eq!("input 'x', row 1: it has 1 values, others have 2", error.message);
    let error = decode(&body(&input("FP32", &[2, 1], &json!([[1], 2]))), None).unwrap_err();
    assert_eq!("input 'x', row 1: values and arrays are mixed", error.message);
    for data in ["[1, [2]]", "[[], [[]]]", "[[[1]], [2]]", "[[1], [[2]]]", "[[], 1]"] {
        assert!(refused_data("FP32", data).starts_with("input 'x', "), "{data}");
    }
}

#[test]
fn values_that_do_not_fit_are_refused_by_element_with_what_was_sent() {
    assert_eq!(
        "input 'x', element 1: 256 can't be given as UINT8: the number is out of range",
        refused_data("UINT8", "[1, 256]")
    );
    assert_eq!("input 'x', element 0: 1.5 can't be given as INT32: it is not a whole number", refused_data("INT32", "[1.5, 2]"));
    assert_eq!("input 'x', element 1: null is not allowed", refused_data("FP32", "[1, null]"));
    assert_eq!("input 'x', row 1: null is not allowed", refused_data("FP32", "[[1], [null]]"));
    for (datatype, data) in [
        ("UINT8", "[-1, 0]"),
        ("INT64", "[9223372036854775808, 0]"),
        ("UINT64", "[18446744073709551616, 0]"),
        ("INT64", "[9007199254740993.0, 0]"),
        ("FP32", "[1e39, 0]"),
        ("FP64", "[1e309, 0]"),
        ("FP32", "[\"1\", 0]"),
        ("FP32", "[true, 0]"),
        ("BOOL", "[2, 0]"),
        ("BOOL", "[10, 0]"),
        ("BYTES", "[1, 0]"),
        ("BYTES", "[null, 0]"),
    ] {
        assert!(refused_data(datatype, data).starts_with("input 'x', element 0: "), "{datatype} {data}");
    }
}

#[test]
fn not_a_number_tokens_are_refused_with_a_way_out() {
    for token in ["NaN", "Infinity", "-Infinity", "nan", "inf"] {
        let message = refused_data("FP32", &format!("[{token}, 1]"));
        assert!(message.contains("NaN and Infinity are not JSON; send them as binary data"), "{message}");
    }
}

#[test]
fn numbers_that_json_does_not_know_are_refused() {
    for number in ["01", "-01", "+1", ".5", "1.", "1.e5", "1e", "1e+", "-", "0x10", "1_000", "1 2", "--1", "1.5.5"] {
        for datatype in ["FP32", "FP64", "INT32"] {
            refused_data(datatype, &format!("[{number}, 1]"));
        }
        refused(&format!(r#"{{"a": {number}, "inputs": []}}"#));
    }
}

#[test]
fn halves_are_only_taken_as_binary_data() {
    for datatype in ["FP16", "BF16"] {
        assert!(refused_data(datatype, "[1, 2]").contains("can only be sent as binary data"));
    }
}

#[test]
fn booleans_may_be_words_or_bits() {
    let body = body(&input("BOOL", &[4], &json!([true, false, 1, 0])));
    assert_eq!([1, 0, 1, 0], decode(&body, None).unwrap().columns[0].1.data[..]);
}

#[test]
fn strings_become_length_prefixed_bytes() {
    let body = body(&input("BYTES", &[3], &json!(["a\n", "", "é"])));
    assert_eq!(b"\x02\0\0\0a\n\0\0\0\0\x02\0\0\0\xc3\xa9"[..], decode(&body, None).unwrap().columns[0].1.data[..]);
}

#[test]
fn whole_numbers_may_be_written_as_floats() {
    let body = Bytes::from_static(br#"{"inputs":[{"name":"x","datatype":"INT32","shape":[3],"data":[1.0,2e2,-0]}]}"#);
    let expected: Vec<u8> = [1_i32, 200, 0].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(expected, decode(&body, None).unwrap().columns[0].1.data);
}

#[test]
fn negative_zero_keeps_its_sign() {
    let body = body(&input("FP32", &[2], &json!([-0.0, 0.0])));
    assert_eq!([0, 0, 0, 128, 0, 0, 0, 0], decode(&body, None).unwrap().columns[0].1.data[..]);
}

#[test]
fn missing_doubled_and_misplaced_members_are_refused_by_name() {
    let cases = [
        ("{}", "'inputs' is missing"),
        (r#"{"inputs": [], "inputs": []}"#, "'inputs' is given twice"),
        (r#"{"inputs": [{"shape": [1], "datatype": "FP32", "data": [1]}]}"#, "input 'inputs[0]': 'name' is missing"),
        (r#"{"inputs": [{"name": "x", "datatype": "FP32", "data": [1]}]}"#, "input 'x': 'shape' is missing"),
        (r#"{"inputs": [{"name": "x", "shape": [1], "data": [1]}]}"#, "input 'x': 'datatype' is missing"),
        (r#"{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]}"#, "input 'x' has neither data nor binary_data_size"),
        (r#"{"inputs": [{"name": "x", "datatype": "FP8"}]}"#, "input 'x': datatype 'FP8' is not one of the protocol's"),
        (
            r#"{"inputs": [{"name": "x", "shape": [-1]}]}"#,
            "input 'x': the shape is not valid: each dimension must be a whole number from 0 on (byte 38)",
        ),
        (r#"{"inputs": [], "outputs": [{}]}"#, "outputs[0]: 'name' is missing"),
        (r#"{"inputs": {}}"#, "'inputs' is not valid at byte 11: an array is expected"),
        (r#"{"id": 7, "inputs": []}"#, "'id' is not valid at byte 7: a string is expected"),
    ];
    for (text, message) in cases {
        assert_eq!(message, refused(text), "{text}");
    }
}

#[test]
fn broken_json_is_refused_with_its_place() {
    assert_eq!("the JSON is not valid at byte 14: ',' or '}' is expected", refused(r#"{"inputs": [] "a"}"#));
    for text in [
        "",
        " ",
        "{",
        "[]",
        "nul",
        r#"{"inputs": []} x"#,
        r#"{"inputs": [],}"#,
        r#"{"inputs": [{},]}"#,
        r#"{"a": "\x"}"#,
        "{\"a\": \"\n\"}",
        r#"{"a": "\ud800"}"#,
    ] {
        refused(text);
    }
    for data in ["[1", "[1,", "[1,]", "[1 2]", "[[1],]", "[[1]", "1", "{}", "\"a\""] {
        refused_data("FP32", data);
    }
}

#[test]
fn depth_is_bounded_everywhere() {
    let deep = "[".repeat(1_000_000);
    assert!(refused(&format!(r#"{{"a": {deep}"#)).contains("nested too deeply"));
    assert!(refused_data("FP32", &deep).contains("nested too deeply"));
    assert!(refused(&format!(r#"{{"parameters": {{"a": {deep}"#)).contains("nested too deeply"));
}

#[test]
fn a_shape_that_claims_much_allocates_little() {
    let error = decode(&body(&input("FP64", &[1 << 40], &json!([1]))), None).unwrap_err();
    assert_eq!("input 'x': shape [1099511627776] promises 1099511627776 elements, the data holds 1", error.message);
    assert!(decode(&body(&input("FP64", &[1 << 40, 1 << 40], &json!([1]))), None).is_err());
}

/// A JSON part with these binary sizes, and its length.
fn binary_body(sizes: &[usize], tail: &[u8]) -> (Bytes, usize) {
    let inputs: Vec<Value> = sizes
        .iter()
        .enumerate()
        .map(|(at, size)| json!({"name": format!("x{at}"), "shape": [size / 4], "datatype": "FP32", "parameters": {"binary_data_size": size}}))
        .collect();
    let text = json!({"inputs": inputs, "parameters": {"binary_data_output": true}}).to_string();
    let len = text.len();
    ([text.as_bytes(), tail].concat().into(), len)
}

#[test]
fn binary_tensors_are_slices_of_the_body() {
    let (body, len) = binary_body(&[8, 4], &[7; 12]);
    let request = decode(&body, Some(len)).unwrap();
    assert_eq!(body[len..].as_ptr(), request.columns[0].1.data.as_ptr());
    assert_eq!(body[len + 8..].as_ptr(), request.columns[1].1.data.as_ptr());
    assert!(request.binary_data_output);
}

#[test]
fn binary_sizes_must_match_exactly() {
    for (sizes, tail) in [(&[8_usize, 4][..], 11), (&[8, 4], 13), (&[6, 4], 10)] {
        let (body, len) = binary_body(sizes, &vec![7; tail]);
        assert!(decode(&body, Some(len)).is_err(), "{sizes:?} {tail}");
    }
    let (body, len) = binary_body(&[8], &[7; 8]);
    assert!(decode(&body, Some(body.len() + 1)).unwrap_err().message.contains("Inference-Header-Content-Length"));
    assert!(decode(&body, None).is_err());
    let both =
        r#"{"inputs": [{"name": "x", "shape": [1], "datatype": "UINT8", "data": [1], "parameters": {"binary_data_size": 1}}]}"#;
    assert_eq!("input 'x' has both data and binary_data_size", refused(both));
    assert!(decode(&body.slice(..len), Some(len)).is_err());
}

#[test]
fn what_is_not_supported_says_so() {
    for parameters in [json!({"shared_memory_region": "r"}), json!({"classification": 3})] {
        let value = json!({"inputs": [], "outputs": [{"name": "y", "parameters": parameters}]});
        assert_eq!(ErrorKind::Unimplemented, decode(&body(&value), None).unwrap_err().kind);
    }
}

fn request(text: &str) -> OipRequest<'static> {
    let body: &'static Bytes = Box::leak(Box::new(Bytes::copy_from_slice(text.as_bytes())));
    decode(body, None).unwrap()
}

#[test]
fn the_timeout_is_in_microseconds() {
    let timeout = |value: &str| request(&format!(r#"{{"inputs": [], "parameters": {{"timeout": {value}}}}}"#)).timeout();
    assert_eq!(Some(Duration::from_micros(1500)), timeout("1500").unwrap());
    assert_eq!(None, timeout("0").unwrap());
    assert!(timeout("-1").is_err());
    assert!(timeout("\"1\"").is_err());
}

fn specs() -> Vec<TensorSpec> {
    [("y", DType::Fp32), ("label", DType::Bytes), ("half", DType::Fp16)]
        .map(|(name, dtype)| TensorSpec { name: name.into(), dtype, shape: Shape::from_slice(&[-1, 1]) })
        .to_vec()
}

fn tensors() -> Vec<Tensor> {
    let shape = Shape::from_slice(&[2, 1]);
    let floats: Bytes = [0.1_f32, f32::NAN].iter().flat_map(|value| value.to_le_bytes()).collect();
    vec![
        Tensor { dtype: DType::Fp32, shape: shape.clone(), data: floats },
        Tensor { dtype: DType::Bytes, shape: shape.clone(), data: Bytes::from_static(b"\x02\0\0\0a\"\0\0\0\0") },
        Tensor { dtype: DType::Fp16, shape, data: Bytes::from_static(&[0, 60, 0, 64]) },
    ]
}

#[test]
fn only_wanted_outputs_come_in_the_order_wanted() {
    let wanted = wanted_outputs(&request(r#"{"inputs":[],"outputs":[{"name":"label"},{"name":"y"}]}"#), &specs()).unwrap();
    let parameters = [("a".into(), Parameter::Int(1)), ("b".into(), Parameter::String("\u{1}".into()))];
    let head = ReplyHead { model_name: "m", model_version: "2", id: Some("i"), parameters: &parameters };
    let (body, json_len) = oip_json::encode(&head, &specs(), &tensors(), &wanted).unwrap();
    assert_eq!(None, json_len);
    let expected = concat!(
        r#"{"model_name":"m","model_version":"2","id":"i","parameters":{"a":1,"b":"\u0001"},"outputs":["#,
        r#"{"name":"label","datatype":"BYTES","shape":[2,1],"data":["a\"",""]},"#,
        r#"{"name":"y","datatype":"FP32","shape":[2,1],"data":[0.1,null]}]}"#
    );
    assert_eq!(expected, std::str::from_utf8(&body).unwrap());
}

#[test]
fn unknown_outputs_and_halves_as_json_are_refused_by_name() {
    for (name, message) in [
        ("z", "output 'z' is not one of this pipeline's outputs: [\"y\", \"label\", \"half\"]"),
        ("half", "output 'half' is FP16, which JSON can't hold; ask for binary_data"),
    ] {
        let request = request(&format!(r#"{{"inputs":[],"outputs":[{{"name":"{name}"}}]}}"#));
        let error = wanted_outputs(&request, &specs()).unwrap_err();
        assert_eq!((message, Some(name)), (&*error.message, error.field.as_deref()));
    }
}

#[test]
fn outputs_are_binary_where_they_or_the_request_say_so() {
    let text = r#"{"inputs":[],"parameters":{"binary_data_output":true},"outputs":[{"name":"half"},{"name":"y","parameters":{"binary_data":false}},{"name":"label"}]}"#;
    let wanted = wanted_outputs(&request(text), &specs()).unwrap();
    let binaries: Vec<bool> = wanted.iter().map(|wanted| wanted.binary).collect();
    assert_eq!(vec![true, false, true], binaries);

    let head = ReplyHead { model_name: "m", model_version: "2", id: None, parameters: &[] };
    let (body, json_len) = oip_json::encode(&head, &specs(), &tensors(), &wanted).unwrap();
    let (json, binary) = body.split_at(json_len.unwrap());
    let json: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json!(4), json["outputs"][0]["parameters"]["binary_data_size"]);
    assert_eq!(json!([0.1, null]), json["outputs"][1]["data"]);
    assert_eq!([&tensors()[2].data[..], &tensors()[1].data[..]].concat(), binary);
}

#[test]
fn bytes_that_are_not_text_can_only_be_binary() {
    let tensor = Tensor { dtype: DType::Bytes, shape: Shape::from_slice(&[1]), data: Bytes::from_static(b"\x01\0\0\0\xff") };
    let head = ReplyHead { model_name: "m", model_version: "2", id: None, parameters: &[] };
    let spec = &specs()[1..2];
    assert!(oip_json::encode(&head, spec, std::slice::from_ref(&tensor), &[Wanted { at: 0, binary: false }]).is_err());
    assert!(oip_json::encode(&head, spec, &[tensor], &[Wanted { at: 0, binary: true }]).is_ok());
}

/// Bytes of *values* as numpy would make them of parsed JSON.
fn oracle(datatype: &str, text: &str) -> Option<Vec<u8>> {
    let values: Vec<Value> = serde_json::from_str(text).ok()?;
    let mut data = Vec::new();
    for value in values {
        match datatype {
            "FP32" => {
                let double = value.as_f64()?;
                if double.abs() > f64::from(f32::MAX) {
                    return None;
                }
                data.extend_from_slice(&(double as f32).to_le_bytes());
            }
            "FP64" => data.extend_from_slice(&value.as_f64()?.to_le_bytes()),
            "INT64" => data.extend_from_slice(&value.as_i64()?.to_le_bytes()),
            _ => data.extend_from_slice(&u8::try_from(value.as_u64()?).ok()?.to_le_bytes()),
        }
    }
    Some(data)
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(|value| format!("{value:?}")),
        any::<f32>().prop_filter("finite", |value| value.is_finite()).prop_map(|value| format!("{:?}", f64::from(value))),
        (-1e6_f64..1e6, 0_usize..20).prop_map(|(value, digits)| format!("{value:.digits$}")),
        any::<i64>().prop_map(|value| value.to_string()),
        (0_u64..300).prop_map(|value| value.to_string()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][-+]?[0-9]{1,3})?",
    ]
}

proptest! {
    #[test]
    fn numbers_are_what_another_parser_reads(numbers in prop::collection::vec(number(), 1..8), datatype in prop::sample::select(vec!["FP32", "FP64"])) {
        let text = format!("[{}]", numbers.join(", "));
        let body = Bytes::from(format!(r#"{{"inputs":[{{"name":"x","shape":[{}],"datatype":"{datatype}","data":{text}}}]}}"#, numbers.len()));
        let found = decode(&body, None).ok().map(|request| request.columns[0].1.data.to_vec());
        prop_assert_eq!(oracle(datatype, &text), found, "{}", text);
    }

    #[test]
    fn integers_are_what_another_parser_reads(numbers in prop::collection::vec(prop_oneof!["-?[0-9]{1,20}", "-?[0-9]{1,3}"], 1..4), datatype in prop::sample::select(vec!["INT64", "UINT8"])) {
        let text = format!("[{}]", numbers.join(","));
        let body = Bytes::from(format!(r#"{{"inputs":[{{"name":"x","shape":[{}],"datatype":"{datatype}","data":{text}}}]}}"#, numbers.len()));
        let found = decode(&body, None).ok().map(|request| request.columns[0].1.data.to_vec());
        // The oracle makes a double of minus zero, which is no integer to it.
        if !numbers.iter().any(|number| number == "-0") {
            prop_assert_eq!(oracle(datatype, &text), found, "{}", text);
        }
    }

    #[test]
    fn what_is_written_is_read_back(values in prop::collection::vec(any::<f32>().prop_filter("finite", |value| value.is_finite()), 0..50),
                                    texts in prop::collection::vec(".*", 0..5), binary: bool) {
        let mut strings = Vec::new();
        for text in &texts {
            bettong_frame::tensor::push_byte_element(&mut strings, text.as_bytes());
        }
        let floats: Bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensors = [
            Tensor { dtype: DType::Fp32, shape: Shape::from_slice(&[values.len() as i64, 1]), data: floats },
            Tensor { dtype: DType::Bytes, shape: Shape::from_slice(&[texts.len() as i64]), data: strings.into() },
        ];
        let wanted = [Wanted { at: 0, binary }, Wanted { at: 1, binary: false }];
        let head = ReplyHead { model_name: "m\\", model_version: "2", id: Some("\t"), parameters: &[] };
        let (body, json_len) = oip_json::encode(&head, &specs(), &tensors, &wanted).unwrap();
        // A response has the form of a request, but for the name of the list.
        let text = body[..json_len.unwrap_or(body.len())].to_vec();
        let text = String::from_utf8(text).unwrap().replacen("\"outputs\":[", "\"inputs\":[", 1);
        let json_len = json_len.map(|_| text.len());
        let again = Bytes::from([text.as_bytes(), if binary { &tensors[0].data[..] } else { &[] }].concat());
        let request = decode(&again, json_len).unwrap();
        prop_assert_eq!(Some("\t"), request.id.as_deref());
        for (tensor, (_, found)) in tensors.iter().zip(&request.columns) {
            prop_assert_eq!(tensor, found);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..200), json_len in prop::option::of(0_usize..200)) {
        let _ = decode(&Bytes::from(data), json_len);
    }

    #[test]
    fn damaged_requests_are_read_or_refused(at in 0_usize..1000, byte: u8, cut in 0_usize..1000) {
        let (body, len) = binary_body(&[8, 4], &[7; 12]);
        let mut data = body.to_vec();
        let at = at % data.len();
        data[at] = byte;
        data.truncate(cut.max(1));
        let _ = decode(&Bytes::from(data), Some(len));
    }

    #[test]
    fn only_json_is_taken_for_json(text in r#"[\[\]{}",:0-9.eE\-+ntrufalse\\ ]{0,40}"#) {
        let body = Bytes::from(format!(r#"{{"inputs":[],"a":{text}}}"#));
        let expected = serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok();
        // Another "inputs" within the text is refused here, and fine there.
        prop_assert_eq!(expected, decode(&body, None).is_ok(), "{}", text);
    }
}
