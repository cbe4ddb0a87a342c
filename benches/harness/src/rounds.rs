//! The mean time of an operation, by rounds.

use std::time::{Duration, Instant};

use crate::counting_alloc::is_counting;
use crate::metric::Metric;
use crate::record::{Figure, Replication, Source};
use crate::stats;
use crate::suite::{Bench, BenchError, Measured};

/// An interval of the mean needs rounds that differ.
const LEAST_ROUNDS: usize = 3;

impl Bench {
    /// Measures the mean time of an operation that is too short to time alone, or whose rounds need set-up of their own.
    ///
    /// `round` does one round and returns the time of its timed part and the operations in it. Recorded is the mean latency with
    /// Student's t interval over the rounds. Returns the number of rounds, warm-up included.
    ///
    /// # Errors
    /// [`BenchError::CountingWhileTiming`] under the counting allocator; [`BenchError::Invalid`] if a round reports no
    /// operations or no time.
    pub fn rounds(&mut self, mut round: impl FnMut() -> (Duration, u64)) -> Result<u64, BenchError> {
        if is_counting() {
            return Err(BenchError::CountingWhileTiming);
        }
        let effort = self.effort();
        let mut rounds = 0;
        let warm_up = Instant::now();
        while rounds == 0 || warm_up.elapsed() < effort.warm_up {
            round();
            rounds += 1;
        }
        let mut times = Vec::new();
        let measuring = Instant::now();
        while times.len() < LEAST_ROUNDS || measuring.elapsed() < effort.measure {
            times.push(per_op(round())?);
            rounds += 1;
        }
        self.record_rounds(&times);
        Ok(rounds)
    }

    /// Records rounds that another process has timed, in nanoseconds an operation: for what cannot run in this one, such as a
    /// library of another language. That process warms up first, keeps to [`Bench::effort`] and leaves no round out.
    ///
    /// Recorded is what [`Bench::rounds`] records.
    ///
    /// # Errors
    /// [`BenchError::Invalid`] for fewer than three rounds, or if one is not a positive number.
    pub fn rounds_measured(&mut self, per_op_ns: &[f64]) -> Result<(), BenchError> {
        if per_op_ns.len() < LEAST_ROUNDS {
            let found = per_op_ns.len();
            return Err(BenchError::Invalid(format!("a mean needs {LEAST_ROUNDS} rounds, not {found}")));
        }
        if let Some(wrong) = per_op_ns.iter().find(|time| !(time.is_finite() && **time > 0.0)) {
            return Err(BenchError::Invalid(format!("a round of {wrong} ns an operation is no measurement")));
        }
        self.record_rounds(per_op_ns);
        Ok(())
    }

    fn record_rounds(&mut self, times: &[f64]) {
        let mean = Figure { ci: stats::mean_interval(times), ..Figure::exact(Metric::LatencyMean, stats::mean(times)) };
        let n = Replication::one_process(times.len() as u64);
        self.push(Measured::new(Source::Round, vec![mean], n));
    }
}

/// Nanoseconds an operation.
pub(crate) fn per_op((time, operations): (Duration, u64)) -> Result<f64, BenchError> {
    if operations == 0 || time.is_zero() {
        return Err(BenchError::Invalid(format!("a round of {operations} operations in {time:?} is no measurement")));
    }
    Ok(time.as_secs_f64() * 1e9 / operations as f64)
}
