//! Structured log lines: JSON objects on standard error, written by one thread, dropped (and counted) when it lags.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;

/// Lines that may wait for the writer.
const BUFFERED_LINES: usize = 8192;

static LEVEL: AtomicU8 = AtomicU8::new(INFO);
static INSTALLED: AtomicBool = AtomicBool::new(false);
static WRITER: OnceLock<WorkerGuard> = OnceLock::new();
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

const DEBUG: u8 = 0;
const INFO: u8 = 1;
const WARNING: u8 = 2;
const ERROR: u8 = 3;

/// Whether debug lines are wanted: one relaxed load, so that a request costs nothing when they are not.
#[inline]
pub fn debug_enabled() -> bool {
    LEVEL.load(Relaxed) == DEBUG
}

/// Lines that were dropped because the writer lagged.
pub fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |counter| counter.dropped_lines() as u64)
}

/// Set the level: debug, info, warning or error. Returns false for anything else.
pub fn set_level(level: &str) -> bool {
    let level = match level {
        "debug" => DEBUG,
        "info" => INFO,
        "warning" => WARNING,
        "error" => ERROR,
        _ => return false,
    };
    install();
    LEVEL.store(level, Relaxed);
    // What each place in the code was told before, it keeps otherwise.
    tracing::callsite::rebuild_interest_cache();
    true
}

/// Start the writer, once a process.
fn install() {
    if INSTALLED.swap(true, Relaxed) {
        return;
    }
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(BUFFERED_LINES).lossy(true).finish(std::io::stderr());
    let writer_drops = writer.error_counter();
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer);
    // Libraries may only speak up when something is wrong: their debug lines tell nothing about a request.
    let _ = DROPPED.set(writer_drops);
    let wanted = filter_fn(|metadata| {
        let ours = metadata.target().starts_with("bettong");
        rank(*metadata.level()) >= if ours { LEVEL.load(Relaxed) } else { WARNING.max(LEVEL.load(Relaxed)) }
    });
    let subscriber = tracing_subscriber::registry().with(tracing_subscriber::Layer::with_filter(lines, wanted));
    // Another subscriber can only be there when this library is embedded twice; then its lines go there.
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let _ = WRITER.set(guard);
    }
}

/// Write what *say* logs at once, from this thread: for the last words of a process, which the writer would not get to.
pub fn at_once(say: impl FnOnce()) {
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), say);
}

fn rank(level: tracing::Level) -> u8 {
    match level {
        tracing::Level::ERROR => ERROR,
        tracing::Level::WARN => WARNING,
        tracing::Level::INFO => INFO,
        _ => DEBUG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_counts_for_lines_that_were_looked_at_before() {
        let wanted = || tracing::enabled!(tracing::Level::INFO);
        for (level, expected) in [("error", false), ("info", true), ("warning", false), ("debug", true)] {
            assert!(set_level(level));
            assert_eq!(expected, wanted(), "{level}");
        }
    }
}
