//! Signatures, values and fixtures that several tests use.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bettong_frame::{BatchMode, DType, Input, Shape, Signature, Tensor, TensorSpec};
use bytes::Bytes;

/// A signature of one input `x` and one output `y`.
pub fn signature(dtype: DType, shape: &[i64], aliases: &[&str], parts: &[&str]) -> Signature {
    let names = |names: &[&str]| names.iter().map(|&name| Arc::from(name)).collect();
    let spec = TensorSpec { name: "x".into(), dtype, shape: Shape::from_slice(shape) };
    let output = TensorSpec { name: "y".into(), dtype: DType::Fp32, shape: Shape::from_slice(&[-1, 1]) };
    Signature {
        inputs: vec![Input { spec, aliases: names(aliases), parts: names(parts) }],
        outputs: vec![output],
        batch_mode: BatchMode::Rows,
    }
}

/// The values of an FP32 tensor.
pub fn singles(tensor: &Tensor) -> Vec<f32> {
    assert_eq!(DType::Fp32, tensor.dtype);
    tensor.data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// The values of an FP64 tensor.
pub fn doubles(tensor: &Tensor) -> Vec<f64> {
    assert_eq!(DType::Fp64, tensor.dtype);
    tensor.data.chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// A file of the private fixtures; says so when it is not there.
pub fn fixture(name: &str) -> Option<Bytes> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    let root = std::env::var_os("BETTONG_FIXTURES").map_or(beside, PathBuf::from);
    match std::fs::read(root.join(name)) {
        Ok(data) => Some(data.into()),
        Err(error) => {
            eprintln!("skipped: fixture {name} can't be read: {error}");
            None
        }
    }
}

/// An FP32 tensor of *shape* that counts from 0.
pub fn counting(shape: &[i64]) -> Tensor {
    let count: i64 = shape.iter().product();
    let data: Bytes = (0..count).flat_map(|value| (value as f32).to_le_bytes()).collect();
    Tensor::new("t", DType::Fp32, Shape::from_slice(shape), data).unwrap()
}
