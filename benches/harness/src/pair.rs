//! A benchmark and its floor, in turn, in one process: what disturbs the machine disturbs both.

use std::time::{Duration, Instant};

use crate::counting_alloc::is_counting;
use crate::metric::Metric;
use crate::record::{Figure, Paired, Replication, Source};
use crate::rounds::per_op;
use crate::stats;
use crate::suite::{Bench, BenchError, Measured};

/// Fewer pairs of rounds than this give no interval worth the name.
const LEAST_PAIRS: usize = 10;

impl Bench {
    /// Measures this benchmark against another (a physical floor, the same work with something left out) by alternating rounds:
    /// ours, theirs, theirs, ours.
    ///
    /// Each closure does one round and returns the time of its timed part and the operations in it. Recorded are the mean
    /// latency of both (that of the other under `of`) and the ratio theirs / ours, above 1 when ours is faster, with Student's t
    /// interval over the logarithms of the pairs. Returns the number of rounds of each side.
    ///
    /// # Errors
    /// [`BenchError::CountingWhileTiming`] under the counting allocator; [`BenchError::Invalid`] if a round reports no
    /// operations or no time.
    pub fn against(
        &mut self,
        of: &str,
        mut ours: impl FnMut() -> (Duration, u64),
        mut theirs: impl FnMut() -> (Duration, u64),
    ) -> Result<u64, BenchError> {
        if is_counting() {
            return Err(BenchError::CountingWhileTiming);
        }
        let effort = self.effort();
        let mut rounds = 0;
        let warm_up = Instant::now();
        while rounds == 0 || warm_up.elapsed() < effort.warm_up {
            ours();
            theirs();
            rounds += 1;
        }
        let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
        let least = if self.is_test() { 2 } else { LEAST_PAIRS };
        let measuring = Instant::now();
        while our_times.len() < least || measuring.elapsed() < effort.measure {
            our_times.push(per_op(ours())?);
            their_times.push(per_op(theirs())?);
            their_times.push(per_op(theirs())?);
            our_times.push(per_op(ours())?);
            rounds += 2;
        }
        let ratios: Vec<f64> = their_times.iter().zip(&our_times).map(|(t, o)| t / o).collect();
        let (ratio, ci) = stats::ratio_interval(&ratios)
            .ok_or_else(|| BenchError::Invalid("a ratio needs at least two pairs of rounds".to_owned()))?;
        let n = Replication::one_process(our_times.len() as u64);
        let mean = |times: &[f64]| Figure {
            ci: stats::mean_interval(times),
            ..Figure::exact(Metric::LatencyMean, stats::mean(times))
        };
        self.push(Measured {
            paired: vec![Paired { of: of.to_owned(), metric: Metric::LatencyMean, ratio, ci }],
            ..Measured::new(Source::Pair, vec![mean(&our_times)], n)
        });
        self.push(Measured { bench: Some(of.to_owned()), ..Measured::new(Source::Pair, vec![mean(&their_times)], n) });
        Ok(rounds)
    }
}
