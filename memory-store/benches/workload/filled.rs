//! Stores that hold what the suites ask for.

use std::sync::Arc;

use memory_store::{Config, ConfigBuilder, Dedup, ManualClock, Memory, MemoryStore, RetentionClass};

use super::{Lines, now, seen};

/// Dimensions of the vectors, but for those rows that say otherwise.
pub(crate) const DIMENSIONS: usize = 384;
/// Kinds of lines.
pub(crate) const TEMPLATES: usize = 1_000;

pub(crate) type Store = MemoryStore<(), ManualClock>;

/// A store without duplicate detection.
pub(crate) fn empty(dimensions: usize, configure: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Store {
    let config = configure(Config::builder(dimensions).dedup(None)).build().expect("a configuration");
    MemoryStore::with_clock(config, ManualClock::new(now())).expect("a store")
}

/// What every line of a store is seen as: one in 50 is of a high class, one in 200 recurs often.
pub(crate) fn fill(store: &Store, dimensions: usize, memories: usize) {
    let payload = Arc::new(());
    let mut lines = Lines::new(1, dimensions, TEMPLATES);
    let mut vector = Vec::new();
    for i in 0..memories {
        lines.next(&mut vector);
        let class = if i % 50 == 0 { RetentionClass::High } else { RetentionClass::Medium };
        let memory = Memory::shared(&vector, Arc::clone(&payload)).at(seen(i, memories)).class(class);
        store.write(memory).expect("a good memory");
    }
}

pub(crate) fn filled(dimensions: usize, memories: usize) -> Store {
    let store = empty(dimensions, |config| config);
    fill(&store, dimensions, memories);
    store
}

/// Queries: lines that are not stored, of the templates that are.
pub(crate) fn queries(dimensions: usize, count: usize) -> Vec<Vec<f32>> {
    let mut lines = Lines::new(2, dimensions, TEMPLATES);
    (0..count).map(|_| lines.vector()).collect()
}

pub(crate) fn dedup() -> Dedup {
    Dedup::default()
}
