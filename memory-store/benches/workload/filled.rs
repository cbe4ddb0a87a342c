//! Stores that hold what the suites ask for.

use std::sync::Arc;

use memory_store::{
    Config, ConfigBuilder, Dedup, ManualClock, MatchPick, Memory, MemoryStore, MergePolicy, RetentionClass,
};

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

/// Nothing but the same vector again is merged.
const SAME: Dedup = Dedup { threshold: 0.999_999, pick: MatchPick::First, merge: MergePolicy::KeepFirst };

/// How often line `i` of a store is seen: one in 200, at most 500 of them, recurs up to 16 times.
pub(crate) fn times(i: usize, memories: usize) -> u32 {
    let apart = (memories / 500).max(200);
    if i.is_multiple_of(apart) { 2 + (i / apart % 15) as u32 } else { 1 }
}

/// Every line is seen once; one in 50 is of a high class.
pub(crate) fn fill(store: &Store, dimensions: usize, memories: usize) {
    see(store, dimensions, memories, |_| 1);
}

fn see(store: &Store, dimensions: usize, memories: usize, times: impl Fn(usize) -> u32) {
    let payload = Arc::new(());
    let mut lines = Lines::new(1, dimensions, TEMPLATES);
    let mut vector = Vec::new();
    for i in 0..memories {
        lines.next(&mut vector);
        let class = if i % 50 == 0 { RetentionClass::High } else { RetentionClass::Medium };
        let memory = || Memory::shared(&vector, Arc::clone(&payload)).at(seen(i, memories)).class(class);
        store.write(memory().distinct()).expect("a good memory");
        for _ in 1..times(i) {
            assert!(store.write(memory()).expect("a good memory").is_merged(), "the same again");
        }
    }
}

/// A store without duplicate detection, whose memories were seen once.
pub(crate) fn filled(dimensions: usize, memories: usize) -> Store {
    let store = empty(dimensions, |config| config);
    fill(&store, dimensions, memories);
    store
}

/// A store whose memories recur. It merges what is written again, but for what is said to be distinct.
pub(crate) fn recurring(
    dimensions: usize,
    memories: usize,
    configure: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
) -> Store {
    let store = empty(dimensions, |config| configure(config).dedup(SAME));
    see(&store, dimensions, memories, |i| times(i, memories));
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
