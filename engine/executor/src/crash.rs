//! What ran when a thread brought the process down, so that the next process can leave it alone.
//!
//! A model's native code can end the process. The handlers here write what the dying thread was running to a file that is
//! open already, and let the signal do its work. A process that is killed from outside leaves no trace: nothing was at fault.
//!
//! A lane or compute thread that panics ends the process as well, where that is asked for: without it the process would serve
//! less, and requests of that thread would wait for ever.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::IntoRawFd;
use std::panic::PanicHookInfo;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// Signals by which a thread brings its own process down.
const FATAL: [libc::c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT];

/// The open file; -1 while nothing is recorded.
static RECORD: AtomicI32 = AtomicI32::new(-1);

thread_local! {
    /// Start and length of the line to write if this thread dies now.
    static LINE: Cell<(*const u8, usize)> = const { Cell::new((std::ptr::null(), 0)) };

    /// Whether this thread is a lane or a compute thread.
    static IS_ENGINE: Cell<bool> = const { Cell::new(false) };
}

/// Notes what this thread runs, until it is dropped.
pub struct Running<'a> {
    before: (*const u8, usize),
    _line: std::marker::PhantomData<&'a str>,
}

/// Note that this thread runs what *line* says; it ends with a line feed.
#[inline]
pub fn running(line: &str) -> Running<'_> {
    let before = LINE.replace((line.as_ptr(), line.len()));
    Running { before, _line: std::marker::PhantomData }
}

impl Drop for Running<'_> {
    #[inline]
    fn drop(&mut self) {
        LINE.set(self.before);
    }
}

/// Append to the file at *path* from now on. Call it once a process; later calls change nothing.
///
/// # Errors
/// The file can't be opened, or a handler can't be installed.
pub fn record_to(path: &Path) -> io::Result<()> {
    if RECORD.load(Relaxed) >= 0 {
        return Ok(());
    }
    let file: File = OpenOptions::new().create(true).append(true).open(path)?;
    RECORD.store(file.into_raw_fd(), Relaxed);
    for signal in FATAL {
        // SAFETY: the structure is plain data, and the handler does only what a handler may.
        let installed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fatal as *const () as usize;
            // The signal comes again as soon as the handler returns, and then ends the process.
            action.sa_flags = libc::SA_RESETHAND | libc::SA_NODEFER | libc::SA_ONSTACK;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        };
        if installed != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Note that this thread is one that the engine cannot do without.
pub fn note_engine_thread() {
    IS_ENGINE.set(true);
}

/// From now on, end the process when a lane or compute thread panics; whoever watches over it starts another. Panics of other
/// threads are left to the hook that was there before.
pub fn abort_on_panic() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_ENGINE.try_with(Cell::get).unwrap_or(false) {
                return before(panic);
            }
            bettong_telemetry::log::at_once(|| log_panic(panic));
            std::process::abort();
        }));
    });
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or_default();
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let reason = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    let running = running_line();
    tracing::error!(event = "engine_panicked", thread, place, reason, running = running.trim_end());
}

/// What this thread runs.
fn running_line() -> String {
    let (line, len) = LINE.get();
    if line.is_null() {
        return String::new();
    }
    // SAFETY: the line is borrowed by whoever noted it, and this thread is still in there.
    String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(line, len) }).into_owned()
}

extern "C" fn on_fatal(signal: libc::c_int) {
    let (line, len) = LINE.get();
    let file = RECORD.load(Relaxed);
    if !line.is_null() && file >= 0 {
        // SAFETY: the line is borrowed by whoever noted it, and this thread is still in there. `write` may be called here.
        unsafe { libc::write(file, line.cast(), len) };
    }
    // A signal that another process sent would not come again by itself.
    // SAFETY: `raise` may be called here; the handler has been reset.
    unsafe { libc::raise(signal) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_noted_in_layers() {
        let outer = running("run a 1\n");
        let outer_line = LINE.get();
        drop(running("run b 1\n"));
        assert_eq!(outer_line, LINE.get());
        drop(outer);
        assert!(LINE.get().0.is_null());
    }

    #[test]
    fn a_thread_that_dies_leaves_what_it_ran() {
        let path = std::env::temp_dir().join(format!("bettong-crash-{}", std::process::id()));
        // SAFETY: the child does only what may be done after a fork: system calls, and then it dies.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let _running = running("run fraud 3\n");
            let _ = record_to(&path);
            // SAFETY: as above.
            unsafe { libc::abort() }
        }
        let mut status = 0;
        // SAFETY: the child is ours.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(&path);
        assert_eq!((libc::SIGABRT, "run fraud 3\n"), (libc::WTERMSIG(status), &*written));
    }
}
