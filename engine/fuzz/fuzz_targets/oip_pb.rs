//! Infer requests as protobuf; what the generated code takes and gives is the measure for names.

#![no_main]

use bettong_fuzz::check;
use bettong_wire::oip_pb::decode;
use bettong_wire::proto::inference::ModelInferRequest;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(init: bettong_fuzz::seeds::write("oip_pb"), |data: &[u8]| {
    let message = Bytes::copy_from_slice(data);
    let Ok(request) = decode(&message) else { return };
    check(request.columns.iter().map(|(_, tensor)| tensor));
    if let Ok(generated) = ModelInferRequest::decode(&message[..]) {
        assert_eq!((&*generated.model_name, &*generated.model_version, &*generated.id), (request.model_name, request.model_version, request.id));
        assert_eq!(generated.inputs.len(), request.columns.len());
    }
});
