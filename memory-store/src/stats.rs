//! What a store holds, in numbers.

use std::time::Duration;

use crate::capacity::is_protected;
use crate::clock::Clock;
use crate::store::MemoryStore;

/// What a store holds. Counters begin when it is opened, and are taken a moment before the rest.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// Memories.
    pub memories: usize,
    /// By class: low, medium, high, critical.
    pub by_class: [usize; 4],
    /// Critical or pinned ones, which are never evicted.
    pub protected: usize,
    /// The sum of their recurrences: the writes that stand behind them.
    pub recurrences: u64,
    /// The highest recurrence of any.
    pub max_recurrence: u32,
    /// Their average age, in ticks counted as microseconds.
    pub average_age: Duration,
    /// What they take as the capacity counts.
    pub bytes: u64,
    /// Memories evicted so far.
    pub evicted: u64,
    /// The recurrences of those that were evicted so far.
    pub evicted_recurrences: u64,
    /// Dead rows whose memory has not been given back.
    pub dead: usize,
    /// How often, at the opening and after snapshots, files of before stayed behind because the disk refused to remove them. The next
    /// snapshot tries again.
    pub cleanups_failed: u64,
}

impl<P: Send + Sync, C: Clock> MemoryStore<P, C> {
    /// What the store holds. Costs a look at every row, and waits for the write that goes on.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &*self.shared;
        let now = shared.clock.now();
        let (view, mut stats) = shared.alone(|writer| (shared.view.load_full(), writer.counts()));
        stats.cleanups_failed = shared.disk.as_ref().map_or(0, crate::persist::Disk::cleanups_failed);
        let mut ages = 0u128;
        for (rows, row) in view.now().iter() {
            let standing = crate::writer::standing(&shared.config, &rows, row);
            stats.memories += 1;
            stats.by_class[usize::from(standing.class)] += 1;
            stats.protected += usize::from(is_protected(standing.class, rows.is_pinned(row)));
            stats.recurrences += u64::from(standing.recurrence);
            stats.max_recurrence = stats.max_recurrence.max(standing.recurrence);
            ages += u128::from(now.age_of(standing.seen));
        }
        if stats.memories > 0 {
            stats.average_age = Duration::from_micros((ages / stats.memories as u128) as u64);
        }
        stats
    }
}
