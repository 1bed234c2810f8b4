//! Lanes: reactors that batch requests and run pipelines.
//!
//! * [`executor`]: starts and stops the threads.
//! * [`program`]: a compiled pipeline, which takes requests.
//! * [`lane`]: one thread: its connections, its queues, its batches.
//! * [`pool`]: compute threads for what would hold a lane up.
//! * [`crash`]: what ran when a thread brought the process down.
//! * [`batch`]: joining requests, running steps, splitting answers.

mod batch;
mod buffer;
pub mod crash;
pub mod executor;
mod lane;
mod pool;
pub mod program;
mod queue;

pub use batch::{StepTimes, Tensors};
pub use executor::{Config, Executor};
pub use program::{Program, ProgramSpec, Source, StepSpec, run_local};
