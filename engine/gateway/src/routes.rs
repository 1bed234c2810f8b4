//! The table of what is served: read without a lock, replaced as a whole.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use bettong_frame::{Error, ErrorKind, Result, Route};
use bettong_telemetry::{PipelineMetrics, Registry};

use crate::retired::Retired;

/// A served pipeline version.
pub struct Entry {
    /// Where its requests go, and what they must look like.
    pub route: Route,
    /// What is counted of it.
    pub metrics: Arc<PipelineMetrics>,
    /// Name and version of the models of its steps.
    pub models: Vec<(String, u64)>,
    /// Longest batch in rows, for `ModelConfig`.
    pub max_batch_rows: usize,
    /// Who is told when the last request has let it go; set once it no longer serves.
    retired: OnceLock<Arc<Retired>>,
}

impl Entry {
    /// An entry for *route*, whose steps run *models*.
    pub fn new(route: Route, metrics: Arc<PipelineMetrics>, models: Vec<(String, u64)>, max_batch_rows: usize) -> Self {
        Self { route, metrics, models, max_batch_rows, retired: OnceLock::new() }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(retired) = self.retired.get() {
            retired.note_freed();
        }
    }
}

/// One state of the table.
#[derive(Default, Clone)]
pub struct Table {
    /// By the sender's counter.
    pub revision: u64,
    by_name: HashMap<Arc<str>, Arc<Entry>, foldhash::fast::RandomState>,
    unavailable: BTreeMap<String, String>,
}

/// A change of the table.
#[derive(Default)]
pub struct Change {
    /// By the sender's counter.
    pub revision: u64,
    /// Serve from now on, each replacing another version of the same pipeline.
    pub serve: Vec<Entry>,
    /// Names that stop serving.
    pub stop: Vec<String>,
    /// Names that are known but not ready, with the reason.
    pub unavailable: BTreeMap<String, String>,
}

/// The table.
#[derive(Default)]
pub struct Routes {
    current: ArcSwap<Table>,
    changing: Mutex<()>,
    retired: Arc<Retired>,
}

impl Routes {
    /// The entry of *pipeline*, in *version* unless that is empty.
    #[inline]
    pub fn find(&self, pipeline: &str, version: &str) -> Result<Arc<Entry>> {
        let table = self.current.load();
        let Some(entry) = table.by_name.get(pipeline) else { return Err(table.absent(pipeline)) };
        if version.is_empty() || *entry.route.version == *version {
            Ok(entry.clone())
        } else {
            Err(other_version(entry, version))
        }
    }

    /// The table as it is now.
    pub fn table(&self) -> Arc<Table> {
        self.current.load_full()
    }

    /// What no longer serves and is still held by requests.
    pub fn retired(&self) -> &Retired {
        &self.retired
    }

    /// Apply *change* as a whole; requests see the table before or after it. *registry* counts what serves after it, however
    /// many changes come at once.
    pub fn apply(&self, change: Change, registry: &Registry) -> Result<()> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current.load_full();
        if change.revision <= before.revision {
            return Err(Error::invalid(format!("revision {} is not newer than {}", change.revision, before.revision)));
        }
        let mut table = Table::clone(&before);
        table.revision = change.revision;
        let mut replaced: Vec<Arc<Entry>> = Vec::new();
        for name in change.stop {
            table.unavailable.remove(&name);
            registry.forget(&name);
            replaced.extend(table.by_name.remove(name.as_str()));
        }
        for (name, reason) in change.unavailable {
            table.unavailable.insert(name, reason);
        }
        for entry in change.serve {
            table.unavailable.remove(&*entry.route.pipeline);
            registry.keep_only(&entry.metrics);
            replaced.extend(table.by_name.insert(entry.route.pipeline.clone(), Arc::new(entry)));
        }
        self.current.store(Arc::new(table));
        for entry in replaced {
            // First, so that it is told however soon the entry goes.
            let _ = entry.retired.set(self.retired.clone());
            self.retired.add(&entry);
        }
        Ok(())
    }
}

impl Table {
    /// Entries in order of name.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        let mut entries: Vec<Arc<Entry>> = self.by_name.values().cloned().collect();
        entries.sort_by(|a, b| a.route.pipeline.cmp(&b.route.pipeline));
        entries
    }

    /// Names that are known but not served.
    pub fn unavailable(&self) -> impl Iterator<Item = &str> {
        self.unavailable.keys().filter(|name| !self.by_name.contains_key(name.as_str())).map(String::as_str)
    }

    #[cold]
    fn absent(&self, pipeline: &str) -> Error {
        match self.unavailable.get(pipeline) {
            Some(reason) => Error::new(ErrorKind::Unavailable, format!("pipeline '{pipeline}' is not ready: {reason}")),
            None => Error::new(ErrorKind::NotFound, format!("no pipeline '{pipeline}' is deployed")),
        }
    }
}

#[cold]
fn other_version(entry: &Entry, version: &str) -> Error {
    let (name, serving) = (&entry.route.pipeline, &entry.route.version);
    Error::new(ErrorKind::NotFound, format!("pipeline '{name}' is not deployed in version '{version}' but in '{serving}'"))
}
