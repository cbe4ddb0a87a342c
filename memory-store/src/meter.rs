//! Counters and gauges for whoever collects them, by the `metrics` facade; nothing without the feature.
//!
//! | name | kind | what |
//! |---|---|---|
//! | `memory_store_entries`, `memory_store_size_bytes` | gauge | memories, and what they take as capacities count, after each change |
//! | `memory_store_writes_total{outcome="inserted"\|"merged"}` | counter | writes that were acknowledged |
//! | `memory_store_retrievals_total` | counter | queries that were answered |
//! | `memory_store_prunings_total`, `memory_store_pruned_total` | counter | prunes, and the memories that they removed |
//! | `memory_store_evictions_total` | counter | memories that had to go for others |

use crate::memory::Written;

/// Levels after a change, memories and bytes. Called under no lock, so that another may change them, and tell of it, between the look at them
/// and the word of them: whoever speaks last has looked again.
pub(crate) fn levels(present: impl Fn() -> (usize, u64), evicted: u64) {
    #[cfg(feature = "metrics")]
    {
        let mut told = None;
        loop {
            let levels = present();
            if told.replace(levels) == Some(levels) {
                break;
            }
            metrics::gauge!("memory_store_entries").set(levels.0 as f64);
            metrics::gauge!("memory_store_size_bytes").set(levels.1 as f64);
        }
        if evicted > 0 {
            metrics::counter!("memory_store_evictions_total").increment(evicted);
        }
    }
    #[cfg(not(feature = "metrics"))]
    let _ = (present, evicted);
}

pub(crate) fn written(acknowledged: &[Written]) {
    #[cfg(feature = "metrics")]
    for (outcome, is_merged) in [("inserted", false), ("merged", true)] {
        let writes = acknowledged.iter().filter(|written| written.is_merged() == is_merged).count();
        if writes > 0 {
            metrics::counter!("memory_store_writes_total", "outcome" => outcome).increment(writes as u64);
        }
    }
    #[cfg(not(feature = "metrics"))]
    let _ = acknowledged;
}

pub(crate) fn retrieved(queries: u64) {
    #[cfg(feature = "metrics")]
    metrics::counter!("memory_store_retrievals_total").increment(queries);
    #[cfg(not(feature = "metrics"))]
    let _ = queries;
}

pub(crate) fn pruned(memories: u64) {
    #[cfg(feature = "metrics")]
    {
        metrics::counter!("memory_store_prunings_total").increment(1);
        metrics::counter!("memory_store_pruned_total").increment(memories);
    }
    #[cfg(not(feature = "metrics"))]
    let _ = memories;
}
