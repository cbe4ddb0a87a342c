//! What reading the clock costs, so that nobody times an operation that is shorter.

use std::time::{Duration, Instant};

/// An operation must last this many timer readings before it is timed alone: the reading is then at most 5 % of the figure.
pub const LEAST_TIMER_MULTIPLE: u32 = 20;

/// The median time between two adjacent clock readings, over 10,000 pairs: what every timed interval contains at least.
#[must_use]
pub fn timer_cost() -> Duration {
    let mut pairs: Vec<Duration> = (0..10_000)
        .map(|_| {
            let start = Instant::now();
            start.elapsed()
        })
        .collect();
    pairs.sort_unstable();
    pairs[pairs.len() / 2].max(Duration::from_nanos(1))
}
