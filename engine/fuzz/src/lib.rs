//! What the fuzz targets share: a signature, and everything that follows decoding.

pub mod seeds;

use bettong_frame::bind::{Strictness, bind};
use bettong_frame::{BatchMode, DType, Input, Shape, Signature, Tensor, TensorSpec};
use bettong_wire::arrow::ArrowKind;
use bettong_wire::dataset::Dataset;
use bettong_wire::frames::Frame;
use bettong_wire::reply::{Metadata, ReplyFrame};

/// A pipeline with an input `x` of two floats, also called `tensor` or given as `a` and `b`.
pub fn signature() -> Signature {
    let spec = TensorSpec { name: "x".into(), dtype: DType::Fp32, shape: Shape::from_slice(&[-1, 2]) };
    Signature {
        inputs: vec![Input { spec, aliases: vec!["tensor".into()], parts: vec!["a".into(), "b".into()] }],
        outputs: vec![TensorSpec { name: "y".into(), dtype: DType::Fp32, shape: Shape::from_slice(&[-1, 1]) }],
        batch_mode: BatchMode::Rows,
    }
}

/// Do with a decoded *frame* what a server does: bind it, answer it, and write the reply in every form.
pub fn answer(frame: &Frame) {
    if frame.rows > 1 << 16 {
        return;
    }
    let signature = signature();
    let bound = bind(&signature, &frame.columns, Strictness::Frame);
    if let Ok((_, rows)) = bound {
        assert_eq!(frame.rows, rows);
    }
    let shape = Shape::from_slice(&[frame.rows as i64, 1]);
    let outputs =
        [Tensor::new("y", DType::Fp32, shape, vec![0; 4 * frame.rows].into()).expect("the size follows from the shape")];
    let metadata = Metadata { last_model: "{}", pipeline_version: "1", elapsed_ns: &[1, 2], dropped: &[], partition: "p" };
    let reply = ReplyFrame { time_ms: 0, frame, specs: &signature.outputs, outputs: &outputs, anomaly_counts: &[], metadata };
    // Types that JSON has no words for are refused.
    let _ = reply.write_json(&Dataset::default());
    for kind in [ArrowKind::File, ArrowKind::Stream] {
        let _ = reply.write_arrow(&Dataset::default(), kind);
    }
}

/// Elements of *tensors* must be what their shapes promise.
pub fn check<'t>(tensors: impl Iterator<Item = &'t Tensor>) {
    for tensor in tensors {
        let again = Tensor::new("t", tensor.dtype, tensor.shape.clone(), tensor.data.clone());
        assert!(again.is_ok(), "a decoder gave a tensor that does not fit its shape");
    }
}
