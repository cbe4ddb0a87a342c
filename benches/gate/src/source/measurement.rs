//! Reads the measurement files of `harness`.

use std::fs;
use std::path::{Path, PathBuf};

use harness::metric::Metric;
use harness::record::{Figure, Record, Source};
use harness::stats::CONFIDENCE;

use crate::measurement::{Bin, Measurement, Measurements, PairedRatio, Problem, ProblemKind, Summary};

/// Reads every record in `folder` itself that belongs to `run`; returns the benchmarks whose criterion results are proved.
pub fn collect(folder: &Path, run: &str, found: &mut Measurements) -> Vec<String> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json") && !path.ends_with("run.json"));
    paths.sort();
    let mut proved = Vec::new();
    for path in paths {
        match Record::read(&path) {
            Ok(record) if record.source == Source::Proof && record.run == run => {
                if record.proof.as_ref().is_some_and(|proof| proof.holds()) {
                    proved.push(record.bench);
                }
            }
            Ok(record) => interpret(&record, run, found),
            Err(error) => {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                let bench = name.rsplit_once('.').map_or(&*name, |(bench, _)| bench).replace('+', "/");
                let reason = error.to_string();
                found.problems.push(Problem { bench, metric: None, kind: ProblemKind::Error, reason });
            }
        }
    }
    proved
}

/// Adds what `record` holds to `found`, or why it cannot be used.
pub fn interpret(record: &Record, run: &str, found: &mut Measurements) {
    let problem = |metric, kind, reason| Problem { bench: record.bench.clone(), metric, kind, reason };
    if record.run != run {
        let reason = format!("STALE: measured in run {}, not in {run}", record.run);
        return found.problems.push(problem(None, ProblemKind::Missing, reason));
    }
    match &record.proof {
        None => {
            let reason = "unproved: the benchmark did not state what its work produced".to_owned();
            return found.problems.push(problem(None, ProblemKind::Missing, reason));
        }
        Some(proof) if !proof.holds() => {
            let reason = format!("unproved: expected {}, observed {}", proof.expected, proof.observed);
            return found.problems.push(problem(None, ProblemKind::Missing, reason));
        }
        Some(_) => {}
    }
    if record.n.samples == 0 {
        return found.problems.push(problem(None, ProblemKind::Error, "no samples".to_owned()));
    }
    for figure in &record.metrics {
        match fault(figure) {
            Some(reason) => found.problems.push(problem(Some(figure.metric), ProblemKind::Error, reason)),
            None => found.figures.push(Measurement {
                bench: record.bench.clone(),
                metric: figure.metric,
                value: figure.value,
                ci: figure.ci,
                n: record.n,
                source: record.source.name().to_owned(),
                notes: record.notes.clone(),
                inconclusive: figure.inconclusive.clone(),
                threads: figure.threads,
            }),
        }
    }
    for paired in &record.paired {
        let ends = [paired.ratio, paired.ci.lo, paired.ci.hi];
        if ends.iter().any(|v| !v.is_finite() || *v <= 0.0) || paired.ci.lo > paired.ci.hi {
            let reason = format!("the ratio to {} is no positive number", paired.of);
            found.problems.push(problem(Some(paired.metric), ProblemKind::Error, reason));
            continue;
        }
        found.paired.push(PairedRatio {
            bench: record.bench.clone(),
            of: paired.of.clone(),
            metric: paired.metric,
            ratio: paired.ratio,
            ci: paired.ci,
            n: record.n,
        });
    }
    found.summaries.extend(summary(record));
}

fn fault(figure: &Figure) -> Option<String> {
    let ends = figure.ci.map_or([figure.value; 2], |ci| [ci.lo, ci.hi]);
    if ![figure.value, ends[0], ends[1]].iter().all(|v| v.is_finite()) {
        return Some(format!("{} is not a finite number", figure.metric));
    }
    if ends[0] > ends[1] {
        return Some(format!("the interval of {} ends before it begins", figure.metric));
    }
    if figure.value < 0.0 && !may_shrink(figure.metric) {
        return Some(format!("{} is below 0", figure.metric));
    }
    if let Some(ci) = figure.ci.filter(|ci| (ci.level - CONFIDENCE).abs() > 1e-9) {
        return Some(format!("the interval of {} has a confidence of {}, not {CONFIDENCE}", figure.metric, ci.level));
    }
    (figure.unit != figure.metric.unit())
        .then(|| format!("{} in `{}` instead of `{}`", figure.metric, figure.unit, figure.metric.unit()))
}

/// Growth may be negative, and so may what an item takes above its content; an exponent may, too.
fn may_shrink(metric: Metric) -> bool {
    use Metric::{MemoryGrowth, MemoryGrowthPerHour, MemoryGrowthPerOp, MemoryPerItem, ScalingExponent, ScalingLinear};
    matches!(
        metric,
        MemoryGrowth | MemoryGrowthPerHour | MemoryGrowthPerOp | MemoryPerItem | ScalingExponent | ScalingLinear
    )
}

/// The distribution of single operations, where there is one.
fn summary(record: &Record) -> Option<Summary> {
    let histogram = record.distribution()?;
    let at = |q: f64| histogram.value_at_quantile(q) as f64;
    let (mean, stddev) = (histogram.mean(), histogram.stdev());
    let (q1, q3) = (at(0.25), at(0.75));
    let iqr = q3 - q1;
    let beyond = |lo: f64, hi: f64| {
        let inside = if hi < 0.0 { 0 } else { histogram.count_between(lo.max(0.0).ceil() as u64, hi as u64) };
        histogram.len().saturating_sub(inside)
    };
    Some(Summary {
        bench: record.bench.clone(),
        source: record.source.name().to_owned(),
        unit: "ns".to_owned(),
        min: histogram.min() as f64,
        max: histogram.max() as f64,
        mean,
        stddev,
        median: at(0.5),
        iqr,
        outliers: format!("{};{}", beyond(mean - stddev, mean + stddev), beyond(q1 - 1.5 * iqr, q3 + 1.5 * iqr)),
        ops: 1e9 / mean,
        rounds: histogram.len(),
        percentiles: [0.5, 0.9, 0.95, 0.99, 0.999].map(|q| (q, at(q))).to_vec(),
        distribution: Bin::of(histogram.min() as f64, histogram.max() as f64, |from, to| {
            let (from, to) = (from.ceil() as u64, to.ceil() as u64);
            if from < to { histogram.count_between(from, to - 1) } else { 0 }
        }),
    })
}
