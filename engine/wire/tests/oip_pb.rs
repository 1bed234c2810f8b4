//! The hand-written codec of infer messages against the generated one.

use bettong_frame::{DType, Shape, Tensor, TensorSpec};
use bettong_wire::oip_pb::{self, Parameter, ResponseHead};
use bettong_wire::proto::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
    infer_parameter::ParameterChoice,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message;

fn request(rows: i64, raw: bool) -> ModelInferRequest {
    let values: Vec<f32> = (0..rows * 3).map(|i| i as f32).collect();
    let bytes: Bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let contents = InferTensorContents { fp32_contents: values, ..Default::default() };
    ModelInferRequest {
        model_name: "fraud".into(),
        model_version: "2".into(),
        id: "abc".into(),
        parameters: [("timeout".to_owned(), InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(5)) })].into(),
        inputs: vec![InferInputTensor {
            name: "x".into(),
            datatype: "FP32".into(),
            shape: vec![rows, 3],
            contents: (!raw).then_some(contents),
            ..Default::default()
        }],
        outputs: vec![InferRequestedOutputTensor { name: "y".into(), ..Default::default() }],
        raw_input_contents: if raw { vec![bytes] } else { vec![] },
    }
}

#[test]
fn raw_and_typed_contents_decode_to_the_same_tensor() {
    let (raw, typed) = (Bytes::from(request(4, true).encode_to_vec()), Bytes::from(request(4, false).encode_to_vec()));
    let (raw, typed) = (oip_pb::decode(&raw).unwrap(), oip_pb::decode(&typed).unwrap());
    assert_eq!(raw.columns, typed.columns);
    assert_eq!(("fraud", "2", "abc"), (raw.model_name, raw.model_version, raw.id));
    assert_eq!(Some(Parameter::Int(5)), raw.parameter("timeout"));
    assert_eq!(&["y"][..], &raw.outputs[..]);
}

#[test]
fn raw_bytes_are_not_copied() {
    let message = Bytes::from(request(4, true).encode_to_vec());
    let range = message.as_ptr_range();
    let request = oip_pb::decode(&message).unwrap();
    assert!(range.contains(&request.columns[0].1.data.as_ptr()));
}

#[test]
fn every_typed_field_is_read_for_its_dtypes() {
    let cases = [
        ("BOOL", InferTensorContents { bool_contents: vec![true, false], ..Default::default() }, vec![1, 0]),
        ("INT8", InferTensorContents { int_contents: vec![-1, 2], ..Default::default() }, vec![255, 2]),
        ("UINT16", InferTensorContents { uint_contents: vec![1, 256], ..Default::default() }, vec![1, 0, 0, 1]),
        (
            "BYTES",
            InferTensorContents { bytes_contents: vec![Bytes::from_static(b"a"), Bytes::new()], ..Default::default() },
            vec![1, 0, 0, 0, 97, 0, 0, 0, 0],
        ),
    ];
    for (datatype, contents, expected) in cases {
        let mut message = request(1, false);
        message.inputs[0].datatype = datatype.into();
        message.inputs[0].shape = vec![2];
        message.inputs[0].contents = Some(contents);
        let message = Bytes::from(message.encode_to_vec());
        assert_eq!(expected, oip_pb::decode(&message).unwrap().columns[0].1.data.to_vec(), "{datatype}");
    }
}

#[test]
fn values_that_the_dtype_cannot_hold_are_refused_by_element() {
    let mut message = request(1, false);
    message.inputs[0].datatype = "INT8".into();
    message.inputs[0].shape = vec![2];
    message.inputs[0].contents = Some(InferTensorContents { int_contents: vec![1, 300], ..Default::default() });
    let error = oip_pb::decode(&message.encode_to_vec().into()).unwrap_err();
    assert_eq!("input 'x': element 1 is 300, which INT8 can't hold", error.message);
}

#[test]
fn mixed_missing_or_misplaced_contents_are_refused() {
    let mut both = request(1, true);
    both.inputs[0].contents = Some(InferTensorContents::default());
    let mut unmatched = request(1, true);
    unmatched.raw_input_contents.push(Bytes::new());
    let mut misplaced = request(1, false);
    misplaced.inputs[0].datatype = "FP64".into();
    let mut half = request(1, false);
    half.inputs[0].datatype = "FP16".into();
    let mut empty = request(1, false);
    empty.inputs[0].contents = None;
    for bad in [both, unmatched, misplaced, half, empty] {
        assert!(oip_pb::decode(&bad.encode_to_vec().into()).is_err(), "{bad:?}");
    }
}

fn outputs() -> (TensorSpec, Tensor) {
    let spec = TensorSpec { name: "dense_1".into(), dtype: DType::Fp32, shape: Shape::from_slice(&[-1, 1]) };
    (spec, Tensor::new("t", DType::Fp32, Shape::from_slice(&[300, 1]), Bytes::from(vec![7; 1200])).unwrap())
}

#[test]
fn responses_are_what_the_generated_code_reads() {
    let (spec, tensor) = outputs();
    for (id, final_response) in [("", false), ("x", true)] {
        let head = ResponseHead { model_name: "m", model_version: "1", id, final_response };
        let mut buffer = BytesMut::new();
        oip_pb::encode_response(&mut buffer, &head, &[(&spec, &tensor)]);
        assert_eq!(buffer.len() - 5, u32::from_be_bytes(buffer[1..5].try_into().unwrap()) as usize);
        let plain = ModelInferResponse::decode(&buffer[5..]).unwrap();
        assert_eq!((id, "dense_1", &vec![300, 1]), (&*plain.id, &*plain.outputs[0].name, &plain.outputs[0].shape));
        assert_eq!(tensor.data, plain.raw_output_contents[0]);
        assert_eq!(final_response, plain.parameters.contains_key("triton_final_response"));

        let mut buffer = BytesMut::new();
        oip_pb::encode_stream_response(&mut buffer, &head, &[(&spec, &tensor)]);
        let stream = ModelStreamInferResponse::decode(&buffer[5..]).unwrap();
        assert_eq!(Some(plain), stream.infer_response);
    }
}

#[test]
fn stream_errors_carry_the_id() {
    let mut buffer = BytesMut::new();
    oip_pb::encode_stream_error(&mut buffer, "7", "no such input");
    let response = ModelStreamInferResponse::decode(&buffer[5..]).unwrap();
    assert_eq!(("no such input", "7"), (&*response.error_message, &*response.infer_response.unwrap().id));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = oip_pb::decode(&Bytes::from(data));
    }

    #[test]
    fn damaged_requests_are_read_or_refused(at in 0_usize..120, byte: u8, raw: bool) {
        let mut data = request(4, raw).encode_to_vec();
        let at = at % data.len();
        data[at] = byte;
        let _ = oip_pb::decode(&Bytes::from(data));
    }
}
