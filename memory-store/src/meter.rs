//! Counters and gauges for whoever collects them, by the `metrics` facade; nothing without the feature.
//!
//! | name | kind | what |
//! |---|---|---|
//! | `memory_store_entries`, `memory_store_size_bytes` | gauge | memories, and what they take as capacities count, after each change |
//! | `memory_store_writes_total{outcome="inserted"\|"merged"}` | counter | writes that were acknowledged |
//! | `memory_store_retrievals_total` | counter | queries that were answered |
//! | `memory_store_prunings_total`, `memory_store_pruned_total` | counter | prunes, and the memories that they removed |
//! | `memory_store_evictions_total` | counter | memories that had to go for others |

/// Levels after a change. Called under no lock.
pub(crate) fn levels(memories: usize, bytes: u64, evicted: u64) {
    #[cfg(feature = "metrics")]
    {
        metrics::gauge!("memory_store_entries").set(memories as f64);
        metrics::gauge!("memory_store_size_bytes").set(bytes as f64);
        if evicted > 0 {
            metrics::counter!("memory_store_evictions_total").increment(evicted);
        }
    }
    #[cfg(not(feature = "metrics"))]
    let _ = (memories, bytes, evicted);
}

pub(crate) fn written(is_merged: bool) {
    #[cfg(feature = "metrics")]
    metrics::counter!("memory_store_writes_total", "outcome" => if is_merged { "merged" } else { "inserted" })
        .increment(1);
    #[cfg(not(feature = "metrics"))]
    let _ = is_merged;
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
