//! Reads what criterion 0.8 wrote: `benchmark.json`, `estimates.json` and `sample.json`, never its standard output.
//!
//! A benchmark is known by `full_id`, not by its folder, whose name is cut and sanitised. A sample is the mean of a batch of
//! iterations, so there is a mean and a median (of batch means), and no percentile of single operations.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use harness::metric::Metric;
use harness::record::{Interval, Replication};
use harness::stats;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::measurement::{Bin, Measurement, Measurements, Problem, ProblemKind, Summary};

/// The label of every figure from here.
pub const LABEL: &str = "criterion (of batch means)";

/// Reads every result below `home` (one `$CRITERION_HOME`) that is not older than `started`.
///
/// What cannot be used becomes a [`Problem`]: ERROR for what is wrong in itself (not JSON, not a finite number, no samples),
/// MISSING for what is stale.
pub fn collect(home: &Path, started: SystemTime, found: &mut Measurements) {
    for folder in result_folders(home) {
        match read(&folder, started) {
            Ok((figures, summary)) => {
                found.figures.extend(figures);
                found.summaries.push(summary);
            }
            Err(problem) if problem.bench.is_empty() => {
                // The folder's own name and its parent's: what leads there says nothing about the benchmark.
                let names: Vec<_> = folder.iter().rev().take(3).map(|name| name.to_string_lossy()).collect();
                let bench = names.into_iter().rev().collect::<Vec<_>>().join("/");
                found.problems.push(Problem { bench, ..problem });
            }
            Err(problem) => found.problems.push(problem),
        }
    }
}

fn read(folder: &Path, started: SystemTime) -> Result<(Vec<Measurement>, Summary), Problem> {
    let file = |name: &str| fs::read(folder.join(name)).map_err(|e| error(format!("criterion's {name}: {e}")));
    let benchmark = file("benchmark.json")?;
    let result = refuse_stale(&folder.join("estimates.json"), started)
        .and_then(|()| parse(&benchmark, &file("estimates.json")?, &file("sample.json")?));
    result.map_err(|problem| match json::<Benchmark>("benchmark.json", &benchmark) {
        Ok(benchmark) => Problem { bench: benchmark.full_id, ..problem },
        Err(_) => problem,
    })
}

/// The figures and statistics in the bytes of criterion's three files.
///
/// # Errors
/// A [`Problem`] of kind ERROR that says what is wrong; its benchmark is empty when `benchmark.json` cannot be read.
pub fn parse(benchmark: &[u8], estimates: &[u8], sample: &[u8]) -> Result<(Vec<Measurement>, Summary), Problem> {
    let benchmark: Benchmark = json("benchmark.json", benchmark)?;
    let result = json("estimates.json", estimates)
        .and_then(|estimates| figures(&benchmark, &estimates, &json("sample.json", sample)?));
    result.map_err(|problem| Problem { bench: benchmark.full_id, ..problem })
}

/// Every folder named `new` that holds a `benchmark.json`, in a fixed order.
fn result_folders(home: &Path) -> Vec<PathBuf> {
    let mut pending = vec![home.to_owned()];
    let mut results = Vec::new();
    while let Some(folder) = pending.pop() {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()).filter(|path| path.is_dir()) {
            if path.file_name().is_some_and(|name| name == "new") && path.join("benchmark.json").is_file() {
                results.push(path);
            } else {
                pending.push(path);
            }
        }
    }
    results.sort();
    results
}

#[derive(Debug, Deserialize)]
struct Benchmark {
    full_id: String,
    #[serde(default)]
    throughput: Option<Throughput>,
}

/// The kinds of throughput that criterion knows; counts are those of one iteration.
#[derive(Debug, Clone, Copy, Deserialize)]
enum Throughput {
    Bits(u64),
    Bytes(u64),
    BytesDecimal(u64),
    Elements(u64),
    ElementsAndBytes { elements: u64, bytes: u64 },
}

impl Throughput {
    /// The units of work in one iteration and their name.
    fn work(self) -> (u64, &'static str) {
        match self {
            Self::Bits(count) => (count, "bits"),
            Self::Bytes(count) | Self::BytesDecimal(count) => (count, "bytes"),
            Self::Elements(count) | Self::ElementsAndBytes { elements: count, .. } => (count, "elements"),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Estimates {
    mean: Estimate,
    median: Estimate,
}

// NaN and infinity arrive as `null`: an `Option` tells them from a malformed file.
#[derive(Debug, Deserialize)]
struct Estimate {
    confidence_interval: ConfidenceInterval,
    point_estimate: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct ConfidenceInterval {
    confidence_level: Option<f64>,
    lower_bound: Option<f64>,
    upper_bound: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Sample {
    iters: Vec<Option<f64>>,
    times: Vec<Option<f64>>,
}

fn error(reason: impl Into<String>) -> Problem {
    Problem { bench: String::new(), metric: None, kind: ProblemKind::Error, reason: reason.into() }
}

fn json<T: DeserializeOwned>(name: &str, text: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(text).map_err(|e| error(format!("criterion's {name}: {e}")))
}

impl Estimate {
    fn finite(&self, name: &str) -> Result<(f64, Interval), Problem> {
        let finite = |value: Option<f64>| {
            value
                .filter(|v| v.is_finite())
                .ok_or_else(|| error(format!("criterion's estimate of the {name} is not a finite number")))
        };
        let interval = Interval {
            lo: finite(self.confidence_interval.lower_bound)?,
            hi: finite(self.confidence_interval.upper_bound)?,
            level: finite(self.confidence_interval.confidence_level)?,
        };
        if interval.lo > interval.hi || interval.hi < 0.0 {
            return Err(error(format!("criterion's interval of the {name} is none")));
        }
        if (interval.level - stats::CONFIDENCE).abs() > 1e-9 {
            let level = interval.level;
            return Err(error(format!(
                "criterion's interval of the {name} has a confidence of {level}, not {}",
                stats::CONFIDENCE
            )));
        }
        Ok((finite(self.point_estimate)?, interval))
    }
}

impl Sample {
    /// Nanoseconds an iteration of each batch.
    fn batch_means(&self) -> Result<Vec<f64>, Problem> {
        if self.times.is_empty() {
            return Err(error("criterion's sample has no batches"));
        }
        if self.times.len() != self.iters.len() {
            return Err(error(format!(
                "criterion's sample has {} times for {} counts",
                self.times.len(),
                self.iters.len()
            )));
        }
        let batches = self.times.iter().zip(&self.iters);
        let mean = |(time, count): (&Option<f64>, &Option<f64>)| {
            let mean = time.unwrap_or(f64::NAN) / count.unwrap_or(f64::NAN);
            (mean.is_finite() && mean >= 0.0)
                .then_some(mean)
                .ok_or_else(|| error("criterion's sample holds what is no time"))
        };
        batches.map(mean).collect()
    }
}

fn figures(
    benchmark: &Benchmark,
    estimates: &Estimates,
    sample: &Sample,
) -> Result<(Vec<Measurement>, Summary), Problem> {
    let means = sample.batch_means()?;
    let (mean, mean_interval) = estimates.mean.finite("mean")?;
    let (median, median_interval) = estimates.median.finite("median")?;
    let figure = |metric, value, ci| Measurement {
        bench: benchmark.full_id.clone(),
        metric,
        value,
        ci: Some(ci),
        n: Replication::one_process(means.len() as u64),
        source: LABEL.to_owned(),
        notes: Vec::new(),
        inconclusive: None,
        threads: None,
    };
    let mut figures =
        vec![figure(Metric::LatencyMean, mean, mean_interval), figure(Metric::LatencyMedian, median, median_interval)];
    if let Some(throughput) = benchmark.throughput {
        let (count, unit) = throughput.work();
        let rate = |nanoseconds: f64| count as f64 * 1e9 / nanoseconds;
        let interval = Interval { lo: rate(mean_interval.hi), hi: rate(mean_interval.lo), level: mean_interval.level };
        if !interval.lo.is_finite() || !interval.hi.is_finite() {
            return Err(error("criterion's mean of zero gives no throughput"));
        }
        let mut figure = figure(Metric::Throughput, rate(mean), interval);
        figure.notes.push(format!("{unit} a second"));
        if let Throughput::ElementsAndBytes { bytes, .. } = throughput {
            figure.notes.push(format!("{:.0} bytes a second", bytes as f64 * 1e9 / mean));
        }
        figures.push(figure);
    }
    Ok((figures, summary(&benchmark.full_id, means)))
}

fn refuse_stale(file: &Path, started: SystemTime) -> Result<(), Problem> {
    let written =
        fs::metadata(file).and_then(|m| m.modified()).map_err(|e| error(format!("criterion's result: {e}")))?;
    if written >= started {
        return Ok(());
    }
    let age = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    Err(Problem {
        kind: ProblemKind::Missing,
        ..error(format!("STALE: criterion's result is {} s older than the run", age(started) - age(written)))
    })
}

fn summary(bench: &str, mut means: Vec<f64>) -> Summary {
    means.sort_unstable_by(f64::total_cmp);
    let (mean, stddev) = (stats::mean(&means), stats::stddev(&means));
    let (q1, q3) = (stats::quantile(&means, 0.25), stats::quantile(&means, 0.75));
    let iqr = q3 - q1;
    let beyond = |lo: f64, hi: f64| means.iter().filter(|&&v| v < lo || v > hi).count();
    Summary {
        bench: bench.to_owned(),
        source: LABEL.to_owned(),
        unit: "ns".to_owned(),
        min: means[0],
        max: means[means.len() - 1],
        mean,
        stddev,
        median: stats::quantile(&means, 0.5),
        iqr,
        outliers: format!("{};{}", beyond(mean - stddev, mean + stddev), beyond(q1 - 1.5 * iqr, q3 + 1.5 * iqr)),
        ops: 1e9 / mean,
        rounds: means.len() as u64,
        percentiles: Vec::new(),
        distribution: Bin::of(means[0], means[means.len() - 1], |from, to| {
            means.iter().filter(|&&mean| from <= mean && mean < to).count() as u64
        }),
    }
}
