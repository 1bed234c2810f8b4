//! Sends a fixed number of requests of each kind through the whole engine, for counting what one costs.
//!
//! The server is the product's own: its gateway, its lanes, the allocator of the Python module. The client is the main
//! thread of this process and does as little as it can, so that a profiler that tells threads apart sees the engine alone;
//! `bench/gate` runs this program under callgrind, which counts no instruction of the kernel. Callgrind starts to count at
//! [`gate_begin`] and writes down what it has at [`gate_end`]; between the two every case is in its steady state.
//!
//! Prints one line of JSON a case. Usage: `bettong-bench ONNXRUNTIME_LIBRARY MODEL.onnx REQUESTS`.

mod allocations;
mod cases;
mod http1;
mod http2;
mod messages;
mod models;
mod serving;

use std::error::Error;
use std::hint::black_box;
use std::path::Path;

use crate::allocations::Counts;
use crate::cases::{Case, Exchange};
use crate::serving::Server;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

/// Requests before counting: pools, tables and the batch time that lanes learn are settled by then.
const WARM_UP: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    allocations::leave_out_this_thread();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, model, requests] = &arguments[..] else {
        return Err("usage: bettong-bench ONNXRUNTIME_LIBRARY MODEL.onnx REQUESTS".into());
    };
    let requests: usize = requests.parse()?;
    let server = Server::start(Path::new(library), Path::new(model))?;
    for case in cases::all() {
        let exchanges = requests.div_ceil(case.messages);
        let counts = run(&server, &case, exchanges).map_err(|error| format!("{}: {error}", case.name()))?;
        let line = serde_json::json!({
            "case": case.name(),
            "requests": exchanges * case.messages,
            "allocations": counts.allocations,
            "allocated_bytes": counts.bytes,
        });
        println!("{line}");
    }
    Ok(())
}

/// Run *case* and return what the engine allocated in its counted part.
fn run(server: &Server, case: &Case, exchanges: usize) -> Result<Counts, Box<dyn Error>> {
    let expected = server.expected(case.pipeline, case.rows)?;
    let mut exchange = Exchange::open(server, case)?;
    for _ in 0..WARM_UP.div_ceil(case.messages) {
        exchange.once(&expected)?;
    }
    let before = Counts::now();
    gate_begin();
    for _ in 0..exchanges {
        exchange.once(&expected)?;
    }
    gate_end();
    Ok(Counts::now() - before)
}

/// Callgrind sets its counters to zero where this is entered.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn gate_begin() {
    black_box(());
}

/// Callgrind writes its counters where this is entered.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn gate_end() {
    black_box(1);
}
