//! Frames as Arrow IPC, stream.

#![no_main]

use bettong_fuzz::{answer, check, signature};
use bettong_wire::arrow::{ArrowKind, decode};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: bettong_fuzz::seeds::write("arrow_stream"), |data: &[u8]| {
    if let Ok(frame) = decode(&Bytes::copy_from_slice(data), ArrowKind::Stream, &signature()) {
        check(frame.columns.iter().map(|(_, tensor)| tensor));
        answer(&frame);
    }
});
