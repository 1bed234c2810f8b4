//! Frames as JSON records.

#![no_main]

use bettong_fuzz::{answer, check, signature};
use bettong_wire::records::decode;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: bettong_fuzz::seeds::write("records"), |data: &[u8]| {
    if let Ok(frame) = decode(&Bytes::copy_from_slice(data), &signature()) {
        check(frame.columns.iter().map(|(_, tensor)| tensor));
        answer(&frame);
    }
});
