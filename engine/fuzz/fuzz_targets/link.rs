//! Bundles of links; what the generated code takes and gives is the measure, and what is written again is read the same.

#![no_main]

use std::time::Duration;

use bettong_fuzz::check;
use bettong_wire::grpc::{Encoding, MessageReader};
use bettong_wire::link::{Body, BundleWriter, Item, decode, decode_tensors};
use bettong_wire::proto::bettong::internal::v1 as internal;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fn items(bundle: &Bytes) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    decode(bundle, |item| items.push(item)).is_ok().then_some(items)
}

/// Write *items* as the engine does. Numbers that mean nothing (no time left) are written as the least that means something.
fn write(items: &[Item]) -> Vec<Bytes> {
    let mut writer = BundleWriter::default();
    for item in items {
        match item {
            Item::Hello(hello) => writer.put_hello(hello),
            Item::Name { index, pipeline, version } => writer.put_name(*index, pipeline, version),
            Item::Call(head, inputs) => writer.put_call(head, &Body::Raw(inputs.clone())),
            Item::Outcome(head, outputs) => writer.put_outcome(head, Some(&Body::Raw(outputs.clone()))),
            Item::Cancel(sequence) => writer.put_cancel(*sequence),
            Item::Ping(number) => writer.put_ping(*number),
            Item::Pong(number) => writer.put_pong(*number),
            Item::Leaving => writer.put_leaving(),
        }
    }
    let mut reader = MessageReader::new(Encoding::Identity, 1 << 30);
    let mut bundles = Vec::new();
    for piece in writer.take() {
        reader.push(piece);
        while let Some(bundle) = reader.next_message().expect("what we write can be read") {
            bundles.push(bundle);
        }
    }
    assert!(!reader.is_partial());
    bundles
}

/// What an item says, with everything in its canonical form.
fn shown(item: &Item) -> String {
    match item {
        Item::Call(head, inputs) => {
            let mut head = head.clone();
            head.timeout = head.timeout.map(|timeout| timeout.max(Duration::from_micros(1)));
            format!("{head:?} {inputs:?}")
        }
        other => format!("{other:?}"),
    }
}

fuzz_target!(init: bettong_fuzz::seeds::write("link"), |data: &[u8]| {
    let bundle = Bytes::copy_from_slice(data);
    let Some(read) = items(&bundle) else { return };
    for item in &read {
        if let Item::Call(_, raw) | Item::Outcome(_, raw) = item
            && let Ok(tensors) = decode_tensors(raw)
        {
            check(tensors.iter());
        }
    }
    let again: Vec<Item> = write(&read).iter().flat_map(|bundle| items(bundle).expect("what we write can be decoded")).collect();
    assert_eq!(read.iter().map(shown).collect::<Vec<_>>(), again.iter().map(shown).collect::<Vec<_>>());
    if let Ok(generated) = internal::Bundle::decode(&data[..]) {
        let count = |wanted: fn(&Item) -> bool| read.iter().filter(|item| wanted(item)).count();
        assert_eq!(generated.names.len(), count(|item| matches!(item, Item::Name { .. })));
        assert_eq!(generated.cancels.len(), count(|item| matches!(item, Item::Cancel(_))));
        let sequences = |call: bool| -> Vec<u64> {
            let sequence = |item: &Item| match item {
                Item::Call(head, _) if call => Some(head.sequence),
                Item::Outcome(head, _) if !call => Some(head.sequence),
                _ => None,
            };
            read.iter().filter_map(sequence).collect()
        };
        assert_eq!(generated.calls.iter().map(|call| call.sequence).collect::<Vec<_>>(), sequences(true));
        assert_eq!(generated.outcomes.iter().map(|outcome| outcome.sequence).collect::<Vec<_>>(), sequences(false));
    }
});
