//! Frames as Arrow IPC: what is read without a copy, and what is refused.

mod support;

use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, Float32Builder, ListBuilder};
use arrow_array::types::{Float32Type, Int8Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array,
    LargeListArray, ListArray, RecordBatch, StringArray, StringViewArray, StructArray, TimestampMillisecondArray,
};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{DataType, Field, Schema};
use bettong_frame::bind::{Strictness, bind};
use bettong_frame::{DType, Error, ErrorKind};
use bettong_wire::arrow::{ArrowKind, decode};
use bettong_wire::frames::Frame;
use bytes::Bytes;
use proptest::prelude::*;
use support::{fixture, signature, singles};

const KINDS: [ArrowKind; 2] = [ArrowKind::File, ArrowKind::Stream];

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect()).unwrap()
}

fn written(batches: &[RecordBatch], kind: ArrowKind) -> Bytes {
    let (mut out, schema) = (Vec::new(), batches[0].schema());
    match kind {
        ArrowKind::File => {
            let mut writer = FileWriter::try_new(&mut out, &schema).unwrap();
            batches.iter().try_for_each(|batch| writer.write(batch)).unwrap();
            writer.finish().unwrap();
        }
        ArrowKind::Stream => {
            let mut writer = StreamWriter::try_new(&mut out, &schema).unwrap();
            batches.iter().try_for_each(|batch| writer.write(batch)).unwrap();
            writer.finish().unwrap();
        }
    }
    out.into()
}

fn read(batches: &[RecordBatch], dtype: DType, shape: &[i64]) -> Result<Frame, Error> {
    let [file, stream] = KINDS.map(|kind| decode(&written(batches, kind), kind, &signature(dtype, shape, &["tensor"], &[])));
    assert_eq!(file.as_ref().map(|frame| &frame.columns).ok(), stream.as_ref().map(|frame| &frame.columns).ok());
    stream
}

fn refused(columns: Vec<(&str, ArrayRef)>) -> String {
    read(&[batch(columns)], DType::Fp32, &[-1, 2]).unwrap_err().message.into_owned()
}

fn fixed(rows: usize, width: i32) -> ArrayRef {
    let mut lists = FixedSizeListBuilder::new(Float32Builder::new(), width);
    for row in 0..rows {
        (0..width).for_each(|at| lists.values().append_value((row * 10) as f32 + at as f32));
        lists.append(true);
    }
    Arc::new(lists.finish())
}

fn lists(rows: &[Option<Vec<Option<f32>>>]) -> ArrayRef {
    Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows.to_vec()))
}

#[test]
fn a_batch_is_read_without_a_copy() {
    for kind in KINDS {
        let body = written(&[batch(vec![("x", fixed(3, 2))])], kind);
        let frame = decode(&body, kind, &signature(DType::Fp32, &[-1, 2], &[], &[])).unwrap();
        let tensor = &frame.columns[0].1;
        assert_eq!((3, &[3, 2][..]), (frame.rows, &tensor.shape[..]));
        assert_eq!(vec![0.0, 1.0, 10.0, 11.0, 20.0, 21.0], singles(tensor));
        assert!(body.as_ptr_range().contains(&tensor.data.as_ptr()));
    }
}

#[test]
fn batches_are_joined_in_order() {
    let frame = read(
        &[batch(vec![("x", fixed(2, 1))]), batch(vec![("x", fixed(0, 1))]), batch(vec![("x", fixed(1, 1))])],
        DType::Fp32,
        &[-1, 1],
    )
    .unwrap();
    assert_eq!((3, vec![0.0, 10.0, 0.0]), (frame.rows, singles(&frame.columns[0].1)));
}

#[test]
fn slices_are_read_from_their_offset() {
    let whole = batch(vec![("x", fixed(4, 2))]);
    let frame = read(&[whole.slice(1, 2)], DType::Fp32, &[-1, 2]).unwrap();
    assert_eq!(vec![10.0, 11.0, 20.0, 21.0], singles(&frame.columns[0].1));
}

#[test]
fn lists_of_equal_length_are_rows() {
    let some = |row: &[f32]| Some(row.iter().map(|&value| Some(value)).collect::<Vec<_>>());
    let frame = read(&[batch(vec![("tensor", lists(&[some(&[1.0, 2.0]), some(&[3.0, 4.0])]))])], DType::Fp32, &[-1, 2]).unwrap();
    assert_eq!(vec![1.0, 2.0, 3.0, 4.0], singles(&frame.columns[0].1));

    let large = LargeListArray::from_iter_primitive::<Float32Type, _, _>([some(&[1.0]), some(&[2.0])]);
    let frame = read(&[batch(vec![("x", Arc::new(large))])], DType::Fp32, &[-1, 1]).unwrap();
    assert_eq!([2, 1], frame.columns[0].1.shape[..]);
}

#[test]
fn lists_within_lists_are_dimensions() {
    let mut outer = ListBuilder::new(FixedSizeListBuilder::new(Float32Builder::new(), 2));
    for row in 0..2 {
        for item in 0..3 {
            outer.values().values().append_slice(&[row as f32, item as f32]);
            outer.values().append(true);
        }
        outer.append(true);
    }
    let frame = read(&[batch(vec![("x", Arc::new(outer.finish()))])], DType::Fp32, &[-1, 3, 2]).unwrap();
    assert_eq!([2, 3, 2], frame.columns[0].1.shape[..]);
    assert_eq!(vec![0.0, 0.0, 0.0, 1.0, 0.0, 2.0, 1.0, 0.0, 1.0, 1.0, 1.0, 2.0], singles(&frame.columns[0].1));
}

#[test]
fn strings_and_bytes_become_length_prefixed() {
    let arrays: [ArrayRef; 3] = [
        Arc::new(StringArray::from(vec!["a", ""])),
        Arc::new(StringViewArray::from(vec!["a", ""])),
        Arc::new(BinaryArray::from_vec(vec![b"a", b""])),
    ];
    for array in arrays {
        let frame = read(&[batch(vec![("x", array)])], DType::Bytes, &[-1]).unwrap();
        assert_eq!(b"\x01\0\0\0a\0\0\0\0"[..], frame.columns[0].1.data[..]);
    }
}

#[test]
fn booleans_become_bytes() {
    let frame = read(&[batch(vec![("x", Arc::new(BooleanArray::from(vec![true, false, true])))])], DType::Bool, &[-1]).unwrap();
    assert_eq!([1, 0, 1], frame.columns[0].1.data[..]);
}

#[test]
fn columns_that_are_no_tensors_pass() {
    let labels: DictionaryArray<Int8Type> = vec!["a", "b"].into_iter().collect();
    let times = TimestampMillisecondArray::from(vec![1, 2]);
    let frame =
        read(&[batch(vec![("at", Arc::new(times)), ("x", fixed(2, 2)), ("label", Arc::new(labels))])], DType::Fp32, &[-1, 2])
            .unwrap();
    assert_eq!(vec!["x"], frame.columns.iter().map(|(name, _)| name.as_ref()).collect::<Vec<_>>());
}

#[test]
fn scalar_parts_are_bound() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("b", Arc::new(Float64Array::from(vec![2.0, 4.0]))),
        ("id", Arc::new(StringArray::from(vec!["r", "s"]))),
        ("a", Arc::new(Int64Array::from(vec![1, 3]))),
    ];
    let signature = signature(DType::Fp32, &[-1, 2], &[], &["a", "b"]);
    let frame = decode(&written(&[batch(columns)], ArrowKind::File), ArrowKind::File, &signature).unwrap();
    let (inputs, _) = bind(&signature, &frame.columns, Strictness::Frame).unwrap();
    assert_eq!(vec![1.0, 2.0, 3.0, 4.0], singles(&inputs[0]));
}

#[test]
fn nulls_and_ragged_rows_are_refused_by_column_and_row() {
    let full = || Some(vec![Some(1.0), Some(2.0)]);
    let cases: [(ArrayRef, &str); 5] = [
        (Arc::new(Float32Array::from(vec![Some(1.0), None])), "column 'x', row 1: null is not allowed"),
        (lists(&[full(), None]), "column 'x', row 1: null is not allowed"),
        (lists(&[full(), full(), Some(vec![Some(1.0), None])]), "column 'x', row 2: null is not allowed"),
        (lists(&[full(), Some(vec![Some(1.0)])]), "column 'x', row 1: it is a list of 1, others have 2 values"),
        (Arc::new(StringArray::from(vec![Some("a"), None])), "column 'x', row 1: null is not allowed"),
    ];
    for (array, message) in cases {
        let rows = array.len();
        assert_eq!(message, refused(vec![("x", array.clone())]));
        // It does not matter whether the column is an input.
        assert_eq!(message, refused(vec![("tensor", fixed(rows, 2)), ("x", array)]));
    }
}

#[test]
fn lists_of_one_length_in_each_batch_only_are_refused() {
    let some = |row: &[f32]| lists(&[Some(row.iter().map(|&value| Some(value)).collect::<Vec<_>>())]);
    let error =
        read(&[batch(vec![("x", some(&[1.0, 2.0]))]), batch(vec![("x", some(&[3.0]))])], DType::Fp32, &[-1, 2]).unwrap_err();
    assert_eq!("column 'x', row 1: it is a list of 1, others have 2 values", error.message);
}

#[test]
fn what_is_missing_doubled_or_of_no_use_is_refused() {
    assert_eq!("input 'x' is missing; given: [\"a\", \"b\"]", refused(vec![("b", fixed(1, 2)), ("a", fixed(1, 2))]));
    assert_eq!("column 'x' is there twice", refused(vec![("x", fixed(1, 2)), ("x", fixed(1, 2))]));
    assert_eq!("the frame has zero rows", refused(vec![("x", fixed(0, 2))]));
    let time: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1]));
    assert_eq!("column 'x': the Arrow type Timestamp(ms) can't be the input of a model", refused(vec![("x", time)]));
    let fields = vec![(Arc::new(Field::new("a", DataType::Int64, true)), Arc::new(Int64Array::from(vec![1])) as ArrayRef)];
    assert!(refused(vec![("x", Arc::new(StructArray::from(fields)))]).starts_with("column 'x': the Arrow type Struct"));
}

#[test]
fn the_other_kind_is_named() {
    let body = written(&[batch(vec![("x", fixed(1, 2))])], ArrowKind::File);
    let signature = signature(DType::Fp32, &[-1, 2], &[], &[]);
    let error = decode(&body, ArrowKind::Stream, &signature).unwrap_err();
    assert!(
        error.message.contains("it is an Arrow file") && error.message.contains("application/vnd.apache.arrow.file"),
        "{error}"
    );
    let body = written(&[batch(vec![("x", fixed(1, 2))])], ArrowKind::Stream);
    let error = decode(&body, ArrowKind::File, &signature).unwrap_err();
    assert!(
        error.message.contains("does not begin with ARROW1") && error.message.contains("application/vnd.apache.arrow.stream"),
        "{error}"
    );
}

#[test]
fn a_lone_column_of_another_name_is_the_lone_input() {
    assert!(read(&[batch(vec![("other", fixed(1, 2))])], DType::Fp32, &[-1, 2]).is_ok());
    assert!(
        refused(vec![("other", fixed(1, 2)), ("at", Arc::new(TimestampMillisecondArray::from(vec![1])))]).contains("is missing")
    );
}

fn sample(kind: ArrowKind) -> Vec<u8> {
    let labels: DictionaryArray<Int8Type> = vec!["a", "b", "a"].into_iter().collect();
    let some = |row: &[f32]| Some(row.iter().map(|&value| Some(value)).collect::<Vec<_>>());
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("x", fixed(3, 2)),
        ("l", lists(&[some(&[1.0]), some(&[2.0]), some(&[3.0])])),
        ("s", Arc::new(StringArray::from(vec!["a", "bb", ""]))),
        ("v", Arc::new(StringViewArray::from(vec!["a", "a string that is too long to be inline", ""]))),
        ("d", Arc::new(labels)),
        ("b", Arc::new(BooleanArray::from(vec![true, false, true]))),
    ];
    written(&[batch(columns)], kind).to_vec()
}

#[test]
fn every_prefix_is_read_or_refused() {
    let signature = signature(DType::Fp32, &[-1, 2], &[], &[]);
    for kind in KINDS {
        let body = Bytes::from(sample(kind));
        for len in 0..body.len() {
            let _ = decode(&body.slice(..len), kind, &signature);
        }
    }
}

#[test]
fn every_single_damage_is_read_or_refused() {
    let signature = signature(DType::Fp32, &[-1, 2], &[], &[]);
    for kind in KINDS {
        let body = sample(kind);
        for at in 0..body.len() {
            for byte in [0, 1, 0x7F, 0x80, 0xFF, body[at].wrapping_add(1), body[at] ^ 0x40] {
                let mut damaged = body.clone();
                damaged[at] = byte;
                let _ = decode(&Bytes::from(damaged), kind, &signature);
            }
        }
    }
}

#[test]
fn fixtures_are_read_whole() {
    let Some(body) = fixture("ccfraud/cc_data_10k.arrow") else { return };
    let signature = signature(DType::Fp32, &[-1, 29], &["tensor"], &[]);
    let frame = decode(&body, ArrowKind::File, &signature).unwrap();
    assert_eq!((10_254, &[10_254, 29][..]), (frame.rows, &frame.columns[0].1.shape[..]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn many_damages_are_read_or_refused(damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), is_file: bool) {
        let kind = KINDS[usize::from(!is_file)];
        let mut body = sample(kind);
        for (at, byte) in damages {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let _ = decode(&Bytes::from(body), kind, &signature(DType::Fp32, &[-1, 2], &[], &[]));
    }

    #[test]
    fn any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..100)) {
        for kind in KINDS {
            let _ = decode(&Bytes::from(data.clone()), kind, &signature(DType::Fp32, &[-1, 2], &[], &[]));
        }
    }

    #[test]
    fn values_survive(rows in 1_usize..20, width in 1_i32..5, cut in 0_usize..20) {
        let whole = fixed(rows, width);
        let cut = cut % rows;
        let list: &FixedSizeListArray = whole.as_any().downcast_ref().unwrap();
        let expected = list.values().as_any().downcast_ref::<Float32Array>().unwrap().values().to_vec();
        let whole = batch(vec![("x", whole)]);
        let frame = read(&[whole.slice(0, cut), whole.slice(cut, rows - cut)], DType::Fp32, &[-1, i64::from(width)]).unwrap();
        prop_assert_eq!(expected, singles(&frame.columns[0].1));
    }
}

#[test]
fn texts_that_are_named_many_times_are_not_written_out_without_a_bound() {
    let long = "a".repeat(1 << 20);
    let views = StringViewArray::from(vec![long.as_str()]);
    let many = StringViewArray::new(vec![views.views()[0]; 300].into(), views.data_buffers().to_vec(), None);
    let body = written(&[batch(vec![("x", Arc::new(many))])], ArrowKind::Stream);
    assert!(body.len() < 1 << 21);
    let error = decode(&body, ArrowKind::Stream, &signature(DType::Bytes, &[-1], &[], &[])).unwrap_err();
    assert_eq!((ErrorKind::TooLarge, Some("x")), (error.kind, error.field.as_deref()));
}
