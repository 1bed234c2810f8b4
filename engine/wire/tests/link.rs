//! The hand-written codec of links against the generated one.

use std::time::Duration;

use bettong_frame::{DType, Error, ErrorKind, Shape, Tensor};
use bettong_wire::grpc::{Encoding, MessageReader};
use bettong_wire::link::{Body, BundleWriter, CallHead, Failure, Hello, Item, OutcomeHead, Tensors, decode, decode_tensors};
use bettong_wire::proto::bettong::internal::v1 as internal;
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

fn bundles(writer: &mut BundleWriter) -> Vec<Bytes> {
    let mut reader = MessageReader::new(Encoding::Identity, 1 << 30);
    let mut found = Vec::new();
    for piece in writer.take() {
        reader.push(piece);
        while let Some(message) = reader.next_message().unwrap() {
            found.push(message);
        }
    }
    assert!(!reader.is_partial());
    found
}

fn items(bundle: &Bytes) -> Vec<Item> {
    let mut items = Vec::new();
    decode(bundle, |item| items.push(item)).unwrap();
    items
}

fn tensor(values: &[f32]) -> Tensor {
    let data: Bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::new("x", DType::Fp32, Shape::from_slice(&[1, values.len() as i64]), data).unwrap()
}

fn tensors(all: Vec<Tensor>) -> Tensors {
    Tensors::from_vec(all)
}

fn call(sequence: u64) -> CallHead {
    CallHead {
        sequence,
        name: 3,
        rows: 1,
        timeout: Some(Duration::from_micros(1500)),
        attempt: 1,
        request_id: Bytes::from_static(b"abc"),
        traceparent: Bytes::from_static(b"00-11-22-01"),
    }
}

#[test]
fn a_call_is_what_the_generated_codec_reads() {
    let mut writer = BundleWriter::default();
    writer.put_name(3, "fraud", "7");
    writer.put_call(&call(9), &Body::Tensors(tensors(vec![tensor(&[1.0, 2.0]), tensor(&[3.0])])));

    let read = internal::Bundle::decode(bundles(&mut writer).remove(0)).unwrap();

    assert_eq!(("fraud", "7", 3), (&*read.names[0].pipeline, &*read.names[0].version, read.names[0].index));
    let found = &read.calls[0];
    assert_eq!((9, 3, 1, 1500, 1), (found.sequence, found.name, found.rows, found.timeout_us, found.attempt));
    assert_eq!(("abc", "00-11-22-01"), (&*found.request_id, &*found.traceparent));
    let inputs = &found.inputs.as_ref().unwrap().tensors;
    assert_eq!((11, vec![1, 2]), (inputs[0].datatype, inputs[0].shape.clone()));
    assert_eq!(tensor(&[3.0]).data, inputs[1].data);
}

#[test]
fn tensors_come_back_as_slices_of_their_bundle_and_pass_on_as_they_are() {
    let mut writer = BundleWriter::default();
    writer.put_call(&call(1), &Body::Tensors(tensors(vec![tensor(&[1.0, 2.0])])));
    let bundle = bundles(&mut writer).remove(0);
    let Item::Call(head, raw) = items(&bundle).remove(0) else { panic!("a call was sent") };
    assert_eq!(call(1), head);
    assert!(bundle.as_ptr_range().contains(&decode_tensors(&raw).unwrap()[0].data.as_ptr()));

    let mut onward = BundleWriter::default();
    onward.put_call(&head, &Body::Raw(raw));

    assert_eq!(bundle, bundles(&mut onward).remove(0));
}

#[test]
fn large_data_is_sent_without_a_copy_and_long_bundles_are_ended() {
    let large = Tensor::new("x", DType::Uint8, Shape::from_slice(&[1, 1 << 20]), Bytes::from(vec![7; 1 << 20])).unwrap();
    let mut writer = BundleWriter::default();
    for sequence in 1..=3 {
        writer.put_call(&call(sequence), &Body::Tensors(tensors(vec![large.clone()])));
    }
    writer.put_ping(5);

    let pieces = writer.take();
    assert_eq!(3, pieces.iter().filter(|piece| piece.as_ptr() == large.data.as_ptr()).count());

    let mut reader = MessageReader::new(Encoding::Identity, 4 << 20);
    let mut seen = Vec::new();
    for piece in pieces {
        reader.push(piece);
        while let Some(bundle) = reader.next_message().unwrap() {
            seen.push(items(&bundle).len());
        }
    }
    assert_eq!(vec![1, 1, 1, 1], seen);
    assert!(writer.is_empty());
}

#[test]
fn failures_keep_kind_field_and_hint() {
    let kinds = [
        ErrorKind::InvalidArgument,
        ErrorKind::NotFound,
        ErrorKind::Unavailable,
        ErrorKind::ResourceExhausted,
        ErrorKind::TooLarge,
        ErrorKind::DeadlineExceeded,
        ErrorKind::Cancelled,
        ErrorKind::Unimplemented,
        ErrorKind::Internal,
    ];
    for (at, kind) in kinds.into_iter().enumerate() {
        let error = Error { field: Some("x".into()), retry_after: Some(Duration::from_millis(3)), ..Error::new(kind, "why") };
        let head = OutcomeHead { sequence: 4, failure: Some(Failure { error, not_run: at % 2 == 0 }), ..Default::default() };
        let mut writer = BundleWriter::default();
        writer.put_outcome(&head, None);
        let Item::Outcome(read, outputs) = items(&bundles(&mut writer).remove(0)).remove(0) else { panic!("an outcome") };
        assert_eq!((head, 0), (read, outputs.len()));
    }
}

#[test]
fn control_items_come_in_order() {
    let hello = Hello { protocol: 1, cluster: "c".into(), role: "router".into(), window_bytes: 1 << 40, ..Default::default() };
    let mut writer = BundleWriter::default();
    writer.put_hello(&hello);
    writer.put_cancel(0);
    writer.put_ping(0);
    writer.put_pong(u64::MAX);
    writer.put_leaving();
    let found = items(&bundles(&mut writer).remove(0));
    assert!(matches!(&found[0], Item::Hello(read) if **read == hello));
    assert!(matches!(found[1..], [Item::Cancel(0), Item::Ping(0), Item::Pong(u64::MAX), Item::Leaving]));
}

proptest! {
    #[test]
    fn whatever_is_written_is_what_is_read(
        sizes in prop::collection::vec(prop::collection::vec(0_usize..5_000, 0..4), 1..6),
        numbers in prop::collection::vec((any::<u64>(), any::<u32>(), any::<u64>(), prop::collection::vec(any::<u64>(), 0..3)), 6),
    ) {
        let mut writer = BundleWriter::default();
        let mut wanted = Vec::new();
        for (sizes, (sequence, rows, queue_ns, steps)) in sizes.iter().zip(&numbers) {
            let outputs = tensors(sizes.iter().map(|&size| tensor(&vec![1.5; size])).collect());
            let head = OutcomeHead {
                sequence: *sequence,
                queue_ns: *queue_ns,
                batch_rows: *rows,
                steps_ns: steps.iter().copied().collect(),
                ..Default::default()
            };
            writer.put_outcome(&head, Some(&Body::Tensors(outputs.clone())));
            wanted.push((head, outputs));
        }
        let mut found = Vec::new();
        for bundle in bundles(&mut writer) {
            prop_assert!(internal::Bundle::decode(bundle.clone()).is_ok());
            decode(&bundle, |item| {
                let Item::Outcome(head, raw) = item else { panic!("an outcome") };
                found.push((head, decode_tensors(&raw).unwrap()));
            }).unwrap();
        }
        prop_assert_eq!(wanted, found);
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic(mut data in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&Bytes::from(data.clone()), |item| {
            if let Item::Call(_, raw) | Item::Outcome(_, raw) = item {
                let _ = decode_tensors(&raw);
            }
        });
        let mut writer = BundleWriter::default();
        writer.put_call(&call(9), &Body::Tensors(tensors(vec![tensor(&[1.0, 2.0])])));
        let mut bundle = bundles(&mut writer).remove(0).to_vec();
        for (at, byte) in data.drain(..).enumerate().take(8) {
            let place = (at * 31 + usize::from(byte)) % bundle.len();
            bundle[place] ^= byte;
        }
        let _ = decode(&Bytes::from(bundle), |item| {
            if let Item::Call(_, raw) = item {
                let _ = decode_tensors(&raw);
            }
        });
    }
}
