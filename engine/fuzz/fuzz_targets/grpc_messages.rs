//! Messages of a gRPC stream, cut anywhere.

#![no_main]

use bettong_wire::grpc::{Encoding, MessageReader};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

/// Messages up to the first that is refused.
fn read(encoding: Encoding, pieces: &[&[u8]]) -> Vec<Bytes> {
    let (mut reader, mut messages) = (MessageReader::new(encoding, 1 << 16), Vec::new());
    for piece in pieces {
        reader.push(Bytes::copy_from_slice(piece));
        while let Ok(Some(message)) = reader.next_message() {
            messages.push(message);
        }
    }
    messages
}

fuzz_target!(init: bettong_fuzz::seeds::write("grpc_messages"), |data: &[u8]| {
    let [cut, encoding, stream @ ..] = data else { return };
    let encoding = [Encoding::Identity, Encoding::Gzip, Encoding::Deflate][usize::from(encoding % 3)];
    let (head, tail) = stream.split_at(usize::from(*cut).min(stream.len()));
    let mut reader = MessageReader::new(encoding, 1 << 16);
    reader.push(Bytes::copy_from_slice(stream));
    let mut is_whole = true;
    loop {
        match reader.next_message() {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) => {
                is_whole = false;
                break;
            }
        }
    }
    let pieces = read(encoding, &[head, tail]);
    if is_whole {
        assert_eq!(read(encoding, &[stream]), pieces);
    }
});
