//! The calls that are open on one connection, and how many the peer takes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bettong_wire::link::{BundleWriter, CallHead};
use slab::Slab;

use crate::client::Carry;
use crate::{WINDOW_BYTES, WINDOW_CALLS};

/// Calls that have been made on one connection and have no outcome yet.
pub struct OpenCalls<T> {
    pending: Slab<Pending<T>>,
    /// By index of their name; also the names that the peer knows.
    windows: HashMap<u32, Window, foldhash::fast::FixedState>,
    /// What the peer grants for each pipeline.
    granted: Window,
    /// Calls made so far.
    count: u64,
}

struct Pending<T> {
    sequence: u64,
    name: u32,
    bytes: u64,
    asked: Instant,
    call: T,
}

/// Open calls of one pipeline.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    calls: u32,
    bytes: u64,
}

/// Bits of a sequence that are the place of its call; the rest count, so that a late outcome never meets another call.
const PLACE_BITS: u32 = 20;

/// Calls that were made more recently are not looked over.
const YOUNG: Duration = Duration::from_millis(20);

impl<T> Default for OpenCalls<T> {
    fn default() -> Self {
        let granted = Window { calls: WINDOW_CALLS, bytes: WINDOW_BYTES };
        Self { pending: Slab::new(), windows: HashMap::default(), granted, count: 0 }
    }
}

impl<T: Carry> OpenCalls<T> {
    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Keep to what the peer has said that it takes; 0 says nothing.
    pub fn grant(&mut self, calls: u32, bytes: u64) {
        if calls > 0 {
            self.granted.calls = calls.min(1 << PLACE_BITS);
        }
        if bytes > 0 {
            self.granted.bytes = bytes;
        }
    }

    /// Whether the peer takes another call of *name* with so many *bytes*. One alone may have any size.
    #[inline]
    pub fn has_room(&self, name: u32, bytes: u64) -> bool {
        let Some(window) = self.windows.get(&name) else { return true };
        window.calls == 0 || window.calls < self.granted.calls && window.bytes + bytes <= self.granted.bytes
    }

    /// Note *call* and write it, with its name if the peer does not know that.
    #[inline]
    pub fn put(&mut self, call: T, now: Instant, writer: &mut BundleWriter) {
        let name = call.name().clone();
        let bytes = call.inputs().size_bytes() as u64;
        let window = self.windows.entry(name.index).or_insert_with(|| {
            writer.put_name(name.index, &name.pipeline, &name.version);
            Window::default()
        });
        window.calls += 1;
        window.bytes += bytes;
        self.count += 1;
        let place = self.pending.vacant_entry();
        let sequence = self.count << PLACE_BITS | place.key() as u64;
        let head = CallHead { sequence, name: name.index, ..call.head(now) };
        writer.put_call(&head, call.inputs());
        place.insert(Pending { sequence, name: name.index, bytes, asked: now, call });
    }

    /// Take the call of *sequence*, unless it was given up before.
    #[inline]
    pub fn take(&mut self, sequence: u64) -> Option<T> {
        let place = (sequence & ((1 << PLACE_BITS) - 1)) as usize;
        if self.pending.get(place)?.sequence != sequence {
            return None;
        }
        let pending = self.pending.remove(place);
        if let Some(window) = self.windows.get_mut(&pending.name) {
            window.calls -= 1;
            window.bytes -= pending.bytes;
        }
        Some(pending.call)
    }

    /// Take the calls that are of no more use, with their sequences.
    pub fn sweep(&mut self, now: Instant) -> Vec<(u64, T)> {
        let old = |pending: &Pending<T>| now.duration_since(pending.asked) >= YOUNG;
        let over: Vec<u64> = self
            .pending
            .iter_mut()
            .filter_map(|(_, pending)| (old(pending) && pending.call.is_over(now)).then_some(pending.sequence))
            .collect();
        over.into_iter().filter_map(|sequence| Some((sequence, self.take(sequence)?))).collect()
    }

    /// All that are open: the connection has ended.
    pub fn into_calls(self) -> Vec<T> {
        self.pending.into_iter().map(|(_, pending)| pending.call).collect()
    }
}
