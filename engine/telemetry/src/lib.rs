//! Counters, histograms and log lines of the engine.
//!
//! * [`metrics`]: what is counted on the hot path, without locks.
//! * [`text`]: the Prometheus text format.
//! * [`log`]: structured lines, written by one thread.

pub mod log;
pub mod metrics;
pub mod text;

pub use metrics::{Counter, GatewayMetrics, Gauge, Histogram, LinkMetrics, PipelineMetrics, Registry, StepMetrics};
