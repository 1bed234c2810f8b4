//! Infer requests as JSON, with binary tensors behind it.

#![no_main]

use bettong_fuzz::{check, signature};
use bettong_wire::oip_json::{decode, wanted_outputs};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: bettong_fuzz::seeds::write("oip_json"), |data: &[u8]| {
    let [low, high, body @ ..] = data else { return };
    let body = Bytes::copy_from_slice(body);
    let json_len = usize::from(u16::from_le_bytes([*low, *high]));
    for json_len in [Some(json_len), None] {
        if let Ok(request) = decode(&body, json_len) {
            check(request.columns.iter().map(|(_, tensor)| tensor));
            let _ = (request.timeout(), wanted_outputs(&request, &signature().outputs));
        }
    }
});
