//! Pipeline versions that no longer serve, until the last of their requests has been answered.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use crate::routes::Entry;

/// What no longer serves and is still held by requests.
#[derive(Default)]
pub struct Retired {
    entries: Mutex<Vec<(Arc<str>, Weak<Entry>)>>,
    /// Told whenever a request has let the last hold of an entry go.
    freed: Condvar,
}

impl Retired {
    /// Follow *entry* until nothing holds it any more.
    pub fn add(&self, entry: &Arc<Entry>) {
        let mut entries = self.lock();
        entries.retain(|(_, entry)| entry.strong_count() > 0);
        entries.push((entry.route.pipeline.clone(), Arc::downgrade(entry)));
    }

    /// Note that an entry has been freed.
    pub fn note_freed(&self) {
        // Whoever has just looked and goes to sleep holds the lock until then.
        drop(self.lock());
        self.freed.notify_all();
    }

    /// Wait until every request of versions of *pipeline* that no longer serve has been answered, at most until *deadline*.
    /// Blocks the thread. Return whether they have.
    pub fn wait_answered(&self, pipeline: &str, deadline: Instant) -> bool {
        let mut entries = self.lock();
        while entries.iter().any(|(name, entry)| **name == *pipeline && entry.strong_count() > 0) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            entries = self.freed.wait_timeout(entries, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<str>, Weak<Entry>)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
