//! Pipeline versions by a short index, which calls carry instead of their names.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A pipeline version.
#[derive(Debug)]
pub struct ProgramName {
    /// Unique in this process.
    pub index: u32,
    /// Name of the pipeline.
    pub pipeline: Box<str>,
    /// Its version.
    pub version: Box<str>,
    /// Of the pipeline's name, the same in every process: orders the routers that share the work.
    pub hash: u64,
}

type ByName = HashMap<(Box<str>, Box<str>), Weak<ProgramName>>;

/// The names that are in use.
#[derive(Debug, Default)]
pub struct Names {
    inner: Mutex<(u32, ByName)>,
}

impl Names {
    /// The name of *version* of *pipeline*, the same one while anybody holds it.
    pub fn intern(&self, pipeline: &str, version: &str) -> Arc<ProgramName> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, by_name) = &mut *inner;
        let key = (Box::from(pipeline), Box::from(version));
        if let Some(name) = by_name.get(&key).and_then(Weak::upgrade) {
            return name;
        }
        if by_name.len() >= 1024 && by_name.len().is_power_of_two() {
            by_name.retain(|_, name| name.strong_count() > 0);
        }
        *count += 1;
        let hash = hash_name(pipeline);
        let name = Arc::new(ProgramName { index: *count, pipeline: pipeline.into(), version: version.into(), hash });
        by_name.insert(key, Arc::downgrade(&name));
        name
    }
}

/// A hash of *text* that every process computes alike.
pub fn hash_name(text: &str) -> u64 {
    foldhash::quality::FixedState::with_seed(0).hash_one(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_while_it_is_held_and_its_index_is_never_given_again() {
        let names = Names::default();
        let first = names.intern("a", "1");
        assert!(Arc::ptr_eq(&first, &names.intern("a", "1")));
        assert_ne!(first.index, names.intern("a", "2").index);
        let index = first.index;
        drop(first);
        assert_ne!(index, names.intern("a", "1").index);
    }
}
