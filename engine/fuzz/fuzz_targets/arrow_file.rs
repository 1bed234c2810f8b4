//! Frames as Arrow IPC, file.

#![no_main]

use bettong_fuzz::{answer, check, signature};
use bettong_wire::arrow::{ArrowKind, decode};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: bettong_fuzz::seeds::write("arrow_file"), |data: &[u8]| {
    if let Ok(frame) = decode(&Bytes::copy_from_slice(data), ArrowKind::File, &signature()) {
        check(frame.columns.iter().map(|(_, tensor)| tensor));
        answer(&frame);
    }
});
