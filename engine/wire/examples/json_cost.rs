//! What it costs to read and write JSON: `cargo run --release -p bettong-wire --example json_cost [ROUNDS]`.
//!
//! Under `valgrind --tool=callgrind` with a fixed number of rounds it counts instructions.

use std::hint::black_box;
use std::time::Instant;

use bettong_frame::{DType, Shape, Tensor, TensorSpec};
use bettong_wire::oip_json::{self, ReplyHead, decode, wanted_outputs};
use bytes::Bytes;

/// A request as Python's `json.dumps` writes it, with *width* doubles of *digits* decimals.
fn request(width: usize, digits: usize) -> Bytes {
    let mut state = 88_172_645_463_325_252_u64;
    let mut values = Vec::new();
    for _ in 0..width {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        values.push(format!("{:.digits$}", (state >> 11) as f64 / (1_u64 << 53) as f64 * 8.0 - 4.0));
    }
    let data = values.join(", ");
    format!(
        r#"{{"inputs": [{{"name": "dense_input", "shape": [1, {width}], "datatype": "FP32", "data": [{data}]}}], "id": "17"}}"#
    )
    .into()
}

/// Print the least time of one *work*, in nanoseconds.
fn cost(name: &str, rounds: usize, mut work: impl FnMut()) {
    let mut least = f64::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        for _ in 0..rounds {
            work();
        }
        least = least.min(start.elapsed().as_secs_f64() / rounds as f64);
    }
    println!("{name}: {:.0} ns", least * 1e9);
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(20_000);
    for (width, digits) in [(29, 10), (29, 16), (29 * 128, 10)] {
        let body = request(width, digits);
        let scale = width.div_ceil(29);
        cost(&format!("decode {width} floats of {digits} decimals"), (rounds / scale).max(1), || {
            drop(black_box(decode(black_box(&body), None)));
        });
    }
    let spec = TensorSpec { name: "dense_1".into(), dtype: DType::Fp32, shape: Shape::from_slice(&[-1, 1]) };
    for rows in [1, 128] {
        let data: Bytes = (0..rows).flat_map(|row| (0.993_003_25_f32 / (row as f32 + 1.0)).to_le_bytes()).collect();
        let tensor = Tensor { dtype: DType::Fp32, shape: Shape::from_slice(&[rows, 1]), data };
        let body = request(29, 10);
        let decoded = decode(&body, None).expect("the request is valid");
        cost(&format!("encode {rows} rows"), (rounds / rows as usize).max(1), || {
            let wanted = wanted_outputs(&decoded, std::slice::from_ref(&spec)).expect("the outputs are there");
            let head = ReplyHead { model_name: "ccfraud", model_version: "1", id: decoded.id.as_deref(), parameters: &[] };
            let body = oip_json::encode(&head, std::slice::from_ref(&spec), std::slice::from_ref(&tensor), &wanted);
            drop(black_box(body));
        });
    }
}
