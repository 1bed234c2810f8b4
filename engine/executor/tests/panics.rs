//! A thread of the engine that panics ends its process, and says why.
//!
//! Each case runs this file's `child` in a process of its own.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::time::Duration;

use bettong_executor::crash;

use support::{Client, MADNESS, Setup};

const CASE: &str = "BETTONG_TEST_PANIC_CASE";

/// Long enough for the process to end before it.
const PATIENCE: Duration = Duration::from_secs(20);

fn run_a_model(row_time: Duration) {
    let served = Setup { row_time: Some(row_time), lanes: 1, ..Setup::default() }.serve();
    let client = Client::new();
    served.target.submit(client.request(0, &[MADNESS]));
    let _ = client.outcomes.recv_timeout(PATIENCE);
}

fn run_a_connection() {
    let served = Setup { lanes: 1, ..Setup::default() }.serve();
    let (sender, done) = mpsc::channel::<()>();
    let connection = async move {
        let _sender = sender;
        panic!("the connection went mad")
    };
    served.executor.reactors().spawn(0, Box::pin(connection));
    let _ = done.recv_timeout(PATIENCE);
}

/// What the processes of the other tests do; nothing when it runs as a test.
#[test]
fn child() {
    let Ok(case) = std::env::var(CASE) else { return };
    crash::abort_on_panic();
    match &*case {
        "lane" => run_a_model(Duration::from_micros(1)),
        "compute" => run_a_model(Duration::from_secs(1)),
        "task" => run_a_connection(),
        _ => assert!(std::thread::spawn(|| panic!("a thread of the user's")).join().is_err()),
    }
}

fn process(case: &str) -> (Output, Vec<String>) {
    let command = std::env::current_exe().unwrap();
    let done = Command::new(command).args(["child", "--exact", "--nocapture"]).env(CASE, case).output().unwrap();
    let lines = String::from_utf8_lossy(&done.stderr).lines().map(str::to_owned).collect();
    (done, lines)
}

#[test]
fn a_panic_of_a_lane_or_compute_thread_ends_the_process_with_one_line() {
    for (case, thread, reason, running) in [
        ("lane", "bettong-lane-0", "the model went mad", "run p 1"),
        ("compute", "bettong-compute-", "the model went mad", "run p 1"),
        ("task", "bettong-lane-0", "the connection went mad", ""),
    ] {
        let (done, lines) = process(case);
        assert_eq!(Some(libc::SIGABRT), done.status.signal(), "{case}: {lines:?}");
        let [line] = &lines[..] else { panic!("{case}: {lines:?}") };
        for (name, value) in [("event", "engine_panicked"), ("reason", reason), ("running", running)] {
            assert!(line.contains(&format!("\"{name}\":\"{value}\"")), "{name}: {line}");
        }
        assert!(line.contains(&format!("\"thread\":\"{thread}")), "{line}");
        assert!(line.contains("\"level\":\"ERROR\"") && line.contains(".rs:"), "{line}");
    }
}

#[test]
fn a_panic_of_another_thread_is_left_to_its_owner() {
    let (done, lines) = process("other");
    assert!(done.status.success(), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("a thread of the user's")), "{lines:?}");
}
