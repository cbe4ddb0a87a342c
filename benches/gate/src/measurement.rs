//! What was measured, as the verdicts see it: one figure of one benchmark, whatever wrote it.

use harness::metric::Metric;
use harness::record::{Interval, Replication};

/// Everything that the sources found in one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measurements {
    /// Usable figures. Several of one benchmark and metric come from separate processes or sources.
    pub figures: Vec<Measurement>,
    /// Comparisons by alternating rounds in one process.
    pub paired: Vec<PairedRatio>,
    /// Results that exist and cannot be used.
    pub problems: Vec<Problem>,
    /// Statistics and distributions for reports, one a benchmark and source.
    pub summaries: Vec<Summary>,
}

/// One figure of one benchmark.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// Benchmark id.
    pub bench: String,
    /// Which figure.
    pub metric: Metric,
    /// The estimate in the canonical unit of the metric ([`Metric::unit`]).
    pub value: f64,
    /// Interval in the same unit; `None` for exact figures.
    pub ci: Option<Interval>,
    /// How often it was repeated.
    pub n: Replication,
    /// Where it comes from, as reports print it: `op`, `alloc`, `criterion (of batch means)`.
    pub source: String,
    /// Remarks that every report repeats.
    pub notes: Vec<String>,
    /// Why this machine cannot tell, if it cannot.
    pub inconclusive: Option<String>,
    /// For a speed-up: how many threads shared the work.
    pub threads: Option<u64>,
}

/// `bench` measured against `of` by alternating rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedRatio {
    /// Benchmark id of ours.
    pub bench: String,
    /// Benchmark id of the floor or rival.
    pub of: String,
    /// Which figure was compared.
    pub metric: Metric,
    /// How many times better ours is.
    pub ratio: f64,
    /// Its interval.
    pub ci: Interval,
    /// How often it was repeated.
    pub n: Replication,
}

/// A result that exists and cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Benchmark id, or the file's name where the id could not be read.
    pub bench: String,
    /// The figure, or `None` when the whole record is unusable.
    pub metric: Option<Metric>,
    /// How it is judged.
    pub kind: ProblemKind,
    /// Why, in one line.
    pub reason: String,
}

/// How an unusable result is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// ERROR: the result is wrong in itself (NaN, infinity, no samples, wrong unit, malformed file).
    Error,
    /// MISSING: there is no valid result (stale, unproved, refused by its source).
    Missing,
}

/// The statistics of one benchmark in one source, in nanoseconds an operation unless `unit` says otherwise; names and
/// definitions are those of pytest-benchmark.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Benchmark id.
    pub bench: String,
    /// Where it comes from.
    pub source: String,
    /// Unit of the figures.
    pub unit: String,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation (n − 1; 0 for one sample).
    pub stddev: f64,
    /// Median.
    pub median: f64,
    /// Interquartile range.
    pub iqr: f64,
    /// `a;b`: beyond one standard deviation of the mean; beyond 1.5 interquartile ranges of the quartiles.
    pub outliers: String,
    /// Operations a second: 1 / mean.
    pub ops: f64,
    /// Samples.
    pub rounds: u64,
    /// Further percentiles `(0.99, value)` where single operations were timed.
    pub percentiles: Vec<(f64, f64)>,
    /// How many were how long, for a picture.
    pub distribution: Vec<Bin>,
}

/// A stretch of a distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// From this value on.
    pub from: f64,
    /// Up to this one.
    pub to: f64,
    /// How many.
    pub count: u64,
}

/// Bins of a distribution, of equal width on a logarithmic axis.
const BINS: usize = 40;

impl Bin {
    /// The distribution of values from `min` to `max`, of which `count(from, to)` lie from `from` up to, and without, `to`.
    pub(crate) fn of(min: f64, max: f64, count: impl Fn(f64, f64) -> u64) -> Vec<Self> {
        let (lo, hi) = (min.max(0.1), max.max(0.1) * 1.001);
        if ![lo, hi].iter().all(|edge| edge.is_finite()) {
            return Vec::new();
        }
        let edge = |index: usize| lo * (hi / lo).powf(index as f64 / BINS as f64);
        let bin = |index: usize| {
            let (from, to) = (edge(index), edge(index + 1));
            let below = if index == 0 { 0.0 } else { from };
            let above = if index + 1 == BINS { f64::INFINITY } else { to };
            Self { from, to, count: count(below, above) }
        };
        (0..BINS).map(bin).collect()
    }
}
