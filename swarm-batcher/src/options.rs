//! What a batcher was built with.

use std::time::Instant;

use crate::adaptive::Adaptive;
use crate::breaker::{BreakerPolicy, Counts};
use crate::dead_letter::Sink;
use crate::error::Reply;
use crate::key::KeyOf;
use crate::policy::{OnFull, Policy};
use crate::retry::RetryPolicy;

/// Checked by the builder.
pub(crate) struct Options<I, O, E> {
    pub(crate) max_batch_items: usize,
    pub(crate) max_weight: u32,
    pub(crate) weigh: Option<Measure<I>>,
    pub(crate) max_items: usize,
    pub(crate) max_bytes: u64,
    pub(crate) size: Option<Measure<I>>,
    pub(crate) on_full: OnFull,
    pub(crate) policy: Policy,
    /// How many items need not linger, and how long fewer do, in nanoseconds.
    pub(crate) seal_at: usize,
    pub(crate) linger: u64,
    pub(crate) levels: u8,
    pub(crate) max_in_flight: usize,
    /// Whether callers begin batches.
    pub(crate) inline: bool,
    pub(crate) default_deadline: Option<u64>,
    pub(crate) retry: Option<RetryPolicy<E>>,
    pub(crate) bisect: bool,
    pub(crate) breaker: Option<BreakerPolicy>,
    pub(crate) breaker_counts: Option<Counts<E>>,
    pub(crate) dead_letter: Option<Sink<I, E>>,
    pub(crate) key_by: Option<Box<dyn KeyOf<I>>>,
    pub(crate) share: Option<Share<I, O, E>>,
    /// The batcher's time begins here.
    pub(crate) clock: Instant,
    /// Whether one item is like another: no keys, levels, weights or sizes, nothing is shared, and no breaker turns callers away.
    pub(crate) plain: bool,
    /// Whether more follows from how a batch went than that its callers are answered.
    pub(crate) counts_outcomes: bool,
    /// Whether anybody asks how long batches run.
    pub(crate) timed: bool,
}

/// Weight or size of an item.
pub(crate) type Measure<I> = Box<dyn Fn(&I) -> u32 + Send + Sync>;

/// How equal items share a run.
pub(crate) struct Share<I, O, E> {
    pub(crate) key: Box<dyn KeyOf<I>>,
    pub(crate) clone: fn(&Reply<O, E>) -> Reply<O, E>,
}

impl<I, O, E> Options<I, O, E> {
    /// Nanoseconds since the batcher was built.
    pub(crate) fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    pub(crate) fn adaptive(&self) -> Option<Adaptive> {
        match self.policy {
            Policy::Adaptive { target_p99 } => {
                Some(Adaptive::new(target_p99, self.max_batch_items, self.max_in_flight))
            }
            _ => None,
        }
    }
}
