//! Latency of single operations, one after the other (a closed loop).
//!
//! The latency of a service under load is another thing: there the queue before it counts, and requests arrive whether or not the
//! last one has finished. That is open-loop load, not this module's.

use std::hint::black_box;
use std::time::{Duration, Instant};

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2Serializer};

use crate::counting_alloc::is_counting;
use crate::metric::Metric;
use crate::record::{Figure, Interval, Replication, Source};
use crate::stats::{self, CONFIDENCE};
use crate::suite::{Bench, BenchError, Measured};
use crate::timer::{LEAST_TIMER_MULTIPLE, timer_cost};

/// Largest latency that the histogram tells apart; a longer one is counted as this.
const LONGEST: Duration = Duration::from_secs(60);
/// An interval of the mean needs rounds that differ.
const LEAST_ROUNDS: usize = 3;
/// Percentiles that are recorded once enough samples stand behind them.
const PERCENTILES: [(Metric, f64); 4] =
    [(Metric::LatencyP90, 0.90), (Metric::LatencyP95, 0.95), (Metric::LatencyP99, 0.99), (Metric::LatencyP999, 0.999)];

impl Bench {
    /// Times every call of `op`.
    ///
    /// Work goes in rounds: `set_up` makes a fresh state outside the clock, `op(&mut state, i)` is timed for `i` in
    /// `0..per_round`, `check` takes the state apart outside the clock and returns what it found, which adds up in
    /// [`Bench::observed`]. Rounds repeat until the effort is spent; the number of rounds is returned, warm-up included.
    ///
    /// Every call is timed by itself and goes into a histogram (3 significant digits, 1 ns to 60 s) when it lasts at least 20
    /// times the clock's own reading. A shorter one is timed in groups of as many calls as reach that length; then only the mean and
    /// the median of the groups are recorded, and the record says so. Intervals: of the mean, Student's t over the means of rounds;
    /// of percentiles, by order statistics. A percentile is recorded only when the samples bound it from above with 95 %
    /// confidence (59 for the 95th, 299 for the 99th).
    ///
    /// # Errors
    /// [`BenchError::CountingWhileTiming`] under the counting allocator; [`BenchError::Invalid`] if `per_round` is 0.
    pub fn ops<S, T>(
        &mut self,
        per_round: u64,
        mut set_up: impl FnMut() -> S,
        mut op: impl FnMut(&mut S, u64) -> T,
        mut check: impl FnMut(S) -> u64,
    ) -> Result<u64, BenchError> {
        if is_counting() {
            return Err(BenchError::CountingWhileTiming);
        }
        if per_round == 0 {
            return Err(BenchError::Invalid("a round needs at least one operation".to_owned()));
        }
        let effort = self.effort();
        let mut rounds = 0;

        // The warm-up tells how long one operation takes, without a clock reading inside the round.
        let warm_up = Instant::now();
        let mut estimates = Vec::new();
        while estimates.is_empty() || warm_up.elapsed() < effort.warm_up {
            let mut state = set_up();
            let start = Instant::now();
            for i in 0..per_round {
                black_box(op(&mut state, i));
            }
            estimates.push(start.elapsed().as_secs_f64() * 1e9 / per_round as f64);
            self.observe(check(state));
            rounds += 1;
        }
        estimates.sort_unstable_by(f64::total_cmp);
        let estimate = stats::quantile(&estimates, 0.5).max(0.01);
        let timer = timer_cost().as_nanos() as f64;
        let least = f64::from(LEAST_TIMER_MULTIPLE) * timer;
        let group = if estimate >= least { 1 } else { ((least / estimate).ceil() as u64).min(per_round) };

        let mut samples = Samples::new(group);
        let measuring = Instant::now();
        while samples.rounds.len() < LEAST_ROUNDS || measuring.elapsed() < effort.measure {
            let mut state = set_up();
            samples.round(per_round, |i| black_box(op(&mut state, i)));
            self.observe(check(state));
            rounds += 1;
        }
        let mut measured = samples.measured();
        measured.notes.push(format!("closed loop; one clock reading takes {timer:.0} ns"));
        self.push(measured);
        Ok(rounds)
    }
}

/// What was timed: single operations, or groups of `group` operations each.
struct Samples {
    group: u64,
    histogram: Histogram<u64>,
    /// Nanoseconds an operation, one value a group; empty when single operations are timed.
    groups: Vec<f64>,
    /// Mean of each round, nanoseconds an operation.
    rounds: Vec<f64>,
    total: Welford,
}

impl Samples {
    fn new(group: u64) -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3)
            .expect("1 ns to 60 s with 3 digits is a range that the histogram supports");
        Self { group, histogram, groups: Vec::new(), rounds: Vec::new(), total: Welford::default() }
    }

    fn round<T>(&mut self, per_round: u64, mut op: impl FnMut(u64) -> T) {
        let mut sum = 0.0;
        let mut next = 0;
        let mut timed = 0;
        while next + self.group <= per_round {
            let start = Instant::now();
            for i in next..next + self.group {
                op(i);
            }
            let elapsed = start.elapsed().as_nanos() as u64;
            next += self.group;
            timed += self.group;
            sum += elapsed as f64;
            if self.group == 1 {
                self.histogram.saturating_record(elapsed.max(1));
                self.total.add(elapsed as f64);
            } else {
                self.groups.push(elapsed as f64 / self.group as f64);
            }
        }
        // What does not fill a group is done, so that the round's proof holds, and not timed.
        for i in next..per_round {
            op(i);
        }
        self.rounds.push(sum / timed as f64);
    }

    fn measured(self) -> Measured {
        if self.group == 1 { self.single() } else { self.grouped() }
    }

    fn single(self) -> Measured {
        let histogram = &self.histogram;
        let n = histogram.len();
        let level = CONFIDENCE;
        // Percentile intervals: the values at the ranks between which the percentile lies.
        let at_rank = |rank: u64| histogram.value_at_quantile(rank as f64 / n as f64) as f64;
        let percentile = |q: f64| {
            let (lo, hi) = stats::quantile_ranks(n, q);
            let value = histogram.value_at_quantile(q) as f64;
            (value, Interval { lo: at_rank(lo).min(value), hi: at_rank(hi).max(value), level })
        };
        let mean = self.total.mean;
        let mean_interval = stats::mean_interval(&self.rounds).map(|i| Interval {
            lo: mean - (i.hi - i.lo) / 2.0,
            hi: mean + (i.hi - i.lo) / 2.0,
            level: i.level,
        });
        let (median, median_interval) = percentile(0.5);
        let mut figures = vec![
            Figure::exact(Metric::LatencyMin, histogram.min() as f64),
            Figure { ci: mean_interval, ..Figure::exact(Metric::LatencyMean, mean) },
            Figure::sampled(Metric::LatencyMedian, median, median_interval),
        ];
        for (metric, q) in PERCENTILES {
            if n >= stats::samples_needed(q) {
                let (value, interval) = percentile(q);
                figures.push(Figure::sampled(metric, value, interval));
            }
        }
        figures.push(Figure::exact(Metric::LatencyMax, histogram.max() as f64));
        figures.push(Figure::exact(Metric::LatencyStddev, self.total.stddev()));
        let mut bytes = Vec::new();
        let encoded = V2Serializer::new().serialize(histogram, &mut bytes).is_ok();
        Measured {
            histogram: encoded.then(|| base64::engine::general_purpose::STANDARD.encode(bytes)),
            ..Measured::new(Source::Op, figures, Replication::one_process(n))
        }
    }

    fn grouped(mut self) -> Measured {
        self.groups.sort_unstable_by(f64::total_cmp);
        let n = self.groups.len() as u64;
        let (lo, hi) = stats::quantile_ranks(n, 0.5);
        let interval =
            Interval { lo: self.groups[lo as usize - 1], hi: self.groups[hi as usize - 1], level: CONFIDENCE };
        let median = stats::quantile(&self.groups, 0.5);
        let mean = stats::mean(&self.rounds);
        let figures = vec![
            Figure::sampled(Metric::LatencyMedian, median, interval),
            Figure { ci: stats::mean_interval(&self.rounds), ..Figure::exact(Metric::LatencyMean, mean) },
        ];
        let mut measured = Measured::new(Source::Group, figures, Replication::one_process(n));
        measured.notes.push(format!(
            "mean and median of groups of {} operations: one is shorter than {LEAST_TIMER_MULTIPLE} clock readings, so there are no \
             percentiles of single operations",
            self.group
        ));
        measured
    }
}

/// Running mean and variance (Welford, "Note on a method for calculating corrected sums of squares and products", 1962).
#[derive(Default)]
struct Welford {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Welford {
    fn add(&mut self, value: f64) {
        self.count += 1;
        let step = value - self.mean;
        self.mean += step / self.count as f64;
        self.squares += step * (value - self.mean);
    }

    fn stddev(&self) -> f64 {
        if self.count < 2 { 0.0 } else { (self.squares / (self.count - 1) as f64).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(measured: &Measured, metric: Metric) -> Option<f64> {
        measured.figures.iter().find(|f| f.metric == metric).map(|f| f.value)
    }

    #[test]
    fn one_slow_call_in_fifty_shows_in_the_99th_percentile_and_not_in_the_median() {
        let mut samples = Samples::new(1);
        for value in (0..1_000).map(|i| if i % 50 == 0 { 100_000 } else { 1_000 }) {
            samples.histogram.saturating_record(value);
            samples.total.add(value as f64);
        }
        samples.rounds = vec![2_980.0, 2_980.0];
        let measured = samples.measured();
        let p99 = figure(&measured, Metric::LatencyP99).expect("1,000 samples bound the 99th percentile");
        assert!((99_000.0..=101_000.0).contains(&p99), "p99 {p99}");
        let median = figure(&measured, Metric::LatencyMedian).expect("always recorded");
        assert!((999.0..=1_001.0).contains(&median), "median {median}");
        assert_eq!(figure(&measured, Metric::LatencyP999), None, "1,000 samples do not bound the 99.9th percentile");
    }

    #[test]
    fn groups_record_mean_and_median_alone_and_say_so() {
        let mut samples = Samples::new(10);
        let mut calls = 0;
        samples.round(25, |_| calls += 1);
        assert_eq!(calls, 25, "what does not fill a group is done all the same");
        assert_eq!(samples.groups.len(), 2);
        let measured = samples.measured();
        assert_eq!(measured.source, Source::Group);
        assert_eq!(measured.figures.len(), 2);
        assert!(measured.notes[0].contains("groups of 10"));
    }

    #[test]
    fn running_variance_agrees_with_the_definition() {
        let values = [3.0, 5.0, 8.0, 13.0];
        let mut running = Welford::default();
        values.iter().for_each(|v| running.add(*v));
        assert!((running.stddev() - stats::stddev(&values)).abs() < 1e-12);
    }
}
