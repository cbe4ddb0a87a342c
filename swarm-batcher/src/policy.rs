//! When a batch may leave.

use std::sync::Arc;
use std::time::Duration;

/// When a batch may leave. Whatever the policy, it leaves when it is full by items or weight, when a [`flush`](crate::Batcher::flush) or a
/// shutdown asks for it, and never before one of the permits of [`max_in_flight`](crate::BatcherBuilder::max_in_flight) is free.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Policy {
    /// At once, if a permit is free: a lone caller waits for nothing. Batches form while others run, as in a group commit.
    #[default]
    Natural,
    /// When its oldest item has waited this long, to the precision of the machine's timer (tens of microseconds; the wheel of the
    /// runtime, which counts milliseconds, is not used). From 1 us to 1 h. An item with a deadline waits for at most half of the time that
    /// it has.
    Linger(Duration),
    /// When one of these numbers of items is there, the largest of them that is; fewer leave when the oldest has waited for `linger`. For
    /// handlers that were compiled for some sizes.
    Preferred {
        /// From small to large, each from 1 to `max_batch_items`.
        sizes: Arc<[usize]>,
        /// How long fewer than the smallest wait. Zero: not at all.
        linger: Duration,
    },
    /// Waits, and lets batches run beside each other, as far as that lowers the 99th percentile of a call's time, which is kept below the
    /// goal where it can be. It learns what the handler costs, `a + b n` for `n` items, and how fast items come.
    Adaptive {
        /// The goal, from 10 us to 1 h. There is no other knob.
        target_p99: Duration,
    },
}

impl Policy {
    /// [`Policy::Preferred`] of a list of sizes.
    #[must_use]
    pub fn preferred(sizes: &[usize], linger: Duration) -> Self {
        Self::Preferred { sizes: sizes.into(), linger }
    }
}

/// What is done with an item for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnFull {
    /// [`call`](crate::Batcher::call) and [`push`](crate::Batcher::push) wait, in the order in which they came; what cannot wait is
    /// rejected.
    #[default]
    Wait,
    /// It is rejected.
    Reject,
    /// It takes the place of the oldest item of the lowest level in its lane that has not started (in another lane, if its own has
    /// none); that one is answered [`Reason::Shed`](crate::Reason::Shed). Rejected if everything has started.
    ShedOldest,
}

/// Who polls a handler first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Executor {
    /// The caller whose item starts the batch, once; if the handler is not ready then, a task of the batcher's goes on. Nothing is
    /// cheaper for a handler that is done at once.
    #[default]
    Inline,
    /// A task of the batcher's. For handlers that compute for long before they wait: the caller's task is then free.
    Spawn,
}
