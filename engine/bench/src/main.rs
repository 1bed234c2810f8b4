//! Sends a fixed number of requests of each kind through the whole engine, for counting what one costs.
//!
//! The server is the product's own: its gateway, its lanes, the allocator of the Python module. The client is the main
//! thread of this process, which is not counted: `bench/gate` runs this program under callgrind, which tells threads apart and
//! sees no instruction of the kernel. For the thread that enters them, callgrind begins to count at [`gate_begin`] and writes
//! down what it has at [`gate_end`]; the engine's lane enters both, and between the two every case is in its steady state.
//!
//! Prints one line of JSON a case. Usage: `bettong-bench ONNXRUNTIME_LIBRARY MODEL.onnx ROWS
//! [CASE]`.

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

/// So that what happens once in a while counts little.
const FEWEST_EXCHANGES: usize = 50;

/// Exchanges until a lane must have settled.
const LONGEST_WARM_UP: usize = 10_000;

/// How often a case that was disturbed is counted again.
const ATTEMPTS: usize = 5;

/// A case's counted part.
struct Counted {
    requests: usize,
    allocated: Counts,
    /// Whether the machine paused so long that something else than the lane's work was counted.
    disturbed: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    allocations::leave_out_this_thread();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ([library, model, rows, wanted @ ..], 3..=4) = (&arguments[..], arguments.len()) else {
        return Err("usage: bettong-bench ONNXRUNTIME_LIBRARY MODEL.onnx ROWS [CASE]".into());
    };
    let rows: usize = rows.parse()?;
    let server = Server::start(Path::new(library), Path::new(model))?;
    server.on_lane(models::this_is_the_lane)?;
    for case in cases::all().into_iter().filter(|case| wanted.first().is_none_or(|wanted| *wanted == case.name())) {
        for _ in 0..ATTEMPTS {
            let counted = run(&server, &case, rows).map_err(|error| format!("{}: {error}", case.name()))?;
            println!("{}", describe(&case, &counted));
            if !counted.disturbed {
                break;
            }
        }
    }
    Ok(())
}

fn describe(case: &Case, counted: &Counted) -> serde_json::Value {
    serde_json::json!({
        "case": case.name(),
        "requests": counted.requests,
        "allocations": counted.allocated.allocations,
        "allocated_bytes": counted.allocated.bytes,
        "disturbed": counted.disturbed,
    })
}

/// Run *case* until it is settled, and then over about *rows* rows while it is counted.
fn run(server: &Server, case: &Case, rows: usize) -> Result<Counted, Box<dyn Error>> {
    let expected = server.expected(case.pipeline, case.rows)?;
    let mut exchange = Exchange::open(server, case)?;
    settle(&mut exchange, &expected)?;
    let exchanges = rows.div_ceil(case.messages * case.rows).max(FEWEST_EXCHANGES);
    let elsewhere = models::runs_elsewhere();
    server.on_lane(gate_begin)?;
    let before = Counts::now();
    for _ in 0..exchanges {
        exchange.once(&expected)?;
    }
    let allocated = Counts::now() - before;
    server.on_lane(gate_end)?;
    let disturbed = models::runs_elsewhere() != elsewhere;
    Ok(Counted { requests: exchanges * case.messages, allocated, disturbed })
}

/// Exchange until the last [`WARM_UP`] ones ran on the lane.
fn settle(exchange: &mut Exchange, expected: &[f32]) -> Result<(), Box<dyn Error>> {
    let (mut in_a_row, mut elsewhere) = (0, models::runs_elsewhere());
    for _ in 0..LONGEST_WARM_UP {
        exchange.once(expected)?;
        let now = models::runs_elsewhere();
        in_a_row = if now == elsewhere { in_a_row + 1 } else { 0 };
        elsewhere = now;
        if in_a_row == WARM_UP {
            return Ok(());
        }
    }
    Err("the lane hands its work to compute threads all the time".into())
}

/// Callgrind sets its counters to zero where this is entered.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn gate_begin() {
    black_box(());
}

/// Callgrind writes its counters where this is entered.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn gate_end() {
    black_box(1);
}
