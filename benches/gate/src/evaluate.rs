//! Holds measurements against limits. Pure: no files, no clock.

use std::collections::{BTreeMap, BTreeSet};

use harness::metric::{Dimension, Metric};
use harness::record::Interval;
use harness::stats;
use statrs::distribution::{Beta, ContinuousCDF as _};

use crate::measurement::{Measurement, Measurements, Problem, ProblemKind};
use crate::outcome::{GateReport, Row};
use crate::quantity::{Bound, Operator};
use crate::rivals::Rivals;
use crate::thresholds::{
    BenchLimits, Class, Limit, Pattern, Place, Profile, Thresholds, UnknownBench, Versus, did_you_mean,
};
use crate::verdict::{Estimate, Verdict, judge};

/// Which rows count, and what is known of the run that measured.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The profile.
    pub profile: Profile,
    /// A part of an id, or a glob; everything without one.
    pub filter: Option<String>,
    /// The benchmarks that exist; `None` if nobody asked.
    pub known: Option<BTreeSet<String>>,
    /// Benchmarks that failed, and why.
    pub failures: Vec<(String, String)>,
    /// Why no result of the run counts, if none does.
    pub stale: Option<String>,
}

impl Selection {
    /// Everything, in the profile `name`.
    #[must_use]
    pub fn everything(profile: Profile) -> Self {
        Self { profile, filter: None, known: None, failures: Vec::new(), stale: None }
    }

    /// Whether `bench` counts.
    #[must_use]
    pub fn selects(&self, bench: &str) -> bool {
        let filtered = self.filter.as_deref().is_none_or(|filter| match Pattern::new(filter) {
            Ok(pattern) if pattern.is_glob() => pattern.matches(bench),
            _ => bench.contains(filter),
        });
        filtered && self.profile.selects(bench)
    }
}

/// Judges every limit of `thresholds`.
#[must_use]
pub fn evaluate(thresholds: &Thresholds, measurements: &Measurements, selection: &Selection) -> GateReport {
    let evaluation = Evaluation { thresholds, measurements, selection };
    let mut rows = Vec::new();
    let mut warnings = Vec::new();
    for bench in evaluation.ids() {
        match thresholds.limits_for(&bench) {
            Some(limits) => rows.extend(evaluation.rows(&bench, limits)),
            None if is_only_compared_with(thresholds, measurements, &bench) || !selection.selects(&bench) => {}
            None => match thresholds.settings.unknown_bench {
                UnknownBench::Ignore => {}
                UnknownBench::Warn => warnings.push(format!("{bench} has no limits in {}", thresholds.path.display())),
                UnknownBench::Fail => {
                    let row = row_of(&bench, None, None, String::new(), None);
                    rows.push(Row { reason: "it has no limits".to_owned(), ..row });
                }
            },
        }
    }
    // A result that is wrong in itself counts also where no limit asks for it.
    for problem in measurements.problems.iter().filter(|problem| problem.kind == ProblemKind::Error) {
        let is_told = rows
            .iter()
            .any(|row| row.bench == problem.bench && row.verdict == Verdict::Error && row.reason == problem.reason);
        if !is_told && selection.selects(&problem.bench) {
            let row = row_of(&problem.bench, problem.metric, None, String::new(), None);
            rows.push(Row { verdict: Verdict::Error, reason: problem.reason.clone(), ..row });
        }
    }
    let nothing_selected = !rows.iter().any(|row| row.verdict != Verdict::NotSelected);
    rows.sort_by_key(|row| (row.verdict, row.place));
    let settings = &thresholds.settings;
    let mut relaxed = Vec::new();
    if !settings.missing_fails {
        relaxed.push("on_missing = \"warn\": a limit that was not measured does not fail".to_owned());
    }
    if !settings.inconclusive_fails {
        relaxed.push("on_inconclusive = \"warn\": a limit that could not be told does not fail".to_owned());
    }
    GateReport {
        rows,
        warnings,
        nothing_selected,
        profile: selection.profile.name.clone(),
        relaxed,
        thresholds: thresholds.path.display().to_string(),
        env: None,
        run: None,
        revision: None,
        summaries: measurements.summaries.clone(),
        rivals: Rivals::default(),
        missing_fails: settings.missing_fails,
        inconclusive_fails: settings.inconclusive_fails && selection.profile.name != "quick",
    }
}

/// Whether the whole interval is below `least`: a ratio itself, or the share of a limit in figures that is reached.
fn is_below(row: &Row, least: f64) -> bool {
    let (Some(estimate), Some(bound)) = (row.estimate, row.bound) else { return false };
    if row.is_ratio {
        return estimate.hi < least;
    }
    match bound.operator {
        Operator::Below | Operator::AtMost => bound.value < estimate.lo * least,
        Operator::Above | Operator::AtLeast => estimate.hi < bound.value * least,
        Operator::Equal => true,
    }
}

struct Evaluation<'a> {
    thresholds: &'a Thresholds,
    measurements: &'a Measurements,
    selection: &'a Selection,
}

impl Evaluation<'_> {
    /// Every benchmark that exists, was measured, or has limits of its own.
    fn ids(&self) -> BTreeSet<String> {
        let measured = self.measurements.figures.iter().map(|figure| &figure.bench);
        let limited = self.thresholds.benches.iter().filter(|limits| !limits.pattern.is_glob());
        let limited = limited.map(|limits| limits.pattern.as_str().to_owned());
        self.selection.known.iter().flatten().chain(measured).cloned().chain(limited).collect()
    }

    fn rows(&self, bench: &str, limits: &BenchLimits) -> Vec<Row> {
        let waiver = limits.waiver.as_ref();
        let absolute = limits.limits.iter().map(|limit| (self.judge_limit(bench, limit), waiver));
        let relative = limits.versus.iter().map(|versus| (self.judge_versus(bench, versus), versus.waiver.as_ref()));
        let mut rows = Vec::new();
        for (mut row, waiver) in absolute.chain(relative) {
            if !self.selection.selects(bench) {
                row.verdict = Verdict::NotSelected;
                row.reason = "outside the filter or the profile".to_owned();
                row.next = String::new();
                rows.push(row);
                continue;
            }
            // What was not measured is not let pass: a waiver is for a known miss.
            let is_miss = matches!(row.verdict, Verdict::Fail | Verdict::Inconclusive);
            if let (true, Some(waiver)) = (is_miss, waiver) {
                match waiver.down_to.filter(|least| is_below(&row, *least)) {
                    Some(least) if row.is_ratio => {
                        row.reason += &format!("; it is waived down to {least} times only");
                    }
                    Some(least) => row.reason += &format!("; it is waived down to {least} of the limit only"),
                    None => {
                        row.reason = format!(
                            "{} waived until {}: {} ({})",
                            row.verdict, waiver.until, waiver.reason, row.reason
                        );
                        row.verdict = Verdict::Waived;
                    }
                }
            }
            rows.push(row);
        }
        rows
    }

    fn judge_limit(&self, bench: &str, limit: &Limit) -> Row {
        let metric = limit.metric;
        let row = row_of(bench, Some(metric), Some(limit.class), limit.bound.display(metric), Some(limit.place));
        let combined =
            match self.combined(bench, metric).or_else(|error| self.growth_per_hour(bench, limit).ok_or(error)) {
                Ok(combined) => combined,
                Err((verdict, reason)) => return Row { verdict, reason, ..row },
            };
        if let Some(threads) = limit.threads.filter(|threads| combined.threads != Some(*threads)) {
            let measured = combined.threads.map_or("an unknown number of".to_owned(), |threads| threads.to_string());
            return Row { reason: format!("measured with {measured} threads, not with {threads}"), ..row };
        }
        let estimate = combined.estimate;
        let band = self.thresholds.settings.warn_band;
        let (mut verdict, headroom) = judge(estimate, limit.bound, metric, band);
        if verdict == Verdict::Pass && limit.monitor_above.is_some_and(|above| estimate.hi > above) {
            verdict = Verdict::Warn;
        }
        let row = Row {
            estimate: Some(estimate),
            bound: Some(limit.bound),
            verdict,
            headroom,
            source: combined.source.clone(),
            samples: combined.samples,
            processes: combined.processes,
            notes: combined.notes.clone(),
            ..row
        };
        self.explained(row, &combined.inconclusive, limit.bound)
    }

    /// Growth an hour at the rate that the limit states, where growth an operation was measured.
    fn growth_per_hour(&self, bench: &str, limit: &Limit) -> Option<Combined> {
        let per_hour = limit.ops_per_second? * 3_600.0;
        let combined = self.combined(bench, Metric::MemoryGrowthPerOp).ok()?;
        let Estimate { lo, value, hi } = combined.estimate;
        let estimate = Estimate { lo: lo * per_hour, value: value * per_hour, hi: hi * per_hour };
        Some(Combined { estimate, ..combined })
    }

    fn judge_versus(&self, bench: &str, versus: &Versus) -> Row {
        let limit = format!("{} {}", versus.wording, versus.of);
        let row = Row {
            is_ratio: true,
            ..row_of(bench, Some(versus.metric), Some(Class::Versus), limit, Some(versus.place))
        };
        if versus.of.starts_with("peers/") && self.selection.profile.name != "peers" {
            return Row {
                verdict: Verdict::NotSelected,
                reason: "not in this profile".to_owned(),
                next: String::new(),
                ..row
            };
        }
        let ratio = match self.ratio(bench, versus) {
            Ok(ratio) => ratio,
            Err((verdict, reason)) => return Row { verdict, reason, ..row },
        };
        let bound = Bound { operator: Operator::AtLeast, value: versus.at_least };
        let (verdict, headroom) = judge(ratio.estimate, bound, Metric::Ratio, self.thresholds.settings.warn_band);
        let row = Row {
            estimate: Some(ratio.estimate),
            bound: Some(bound),
            verdict,
            headroom,
            source: ratio.source,
            samples: ratio.samples,
            processes: ratio.processes,
            ..row
        };
        self.explained(row, &ratio.inconclusive, bound)
    }

    /// Puts the verdict into words.
    fn explained(&self, mut row: Row, inconclusive: &Option<String>, bound: Bound) -> Row {
        let path = self.thresholds.path.display();
        let place = row.place.map(|place| format!("{path}:{}", place.line)).unwrap_or_default();
        if let Some(why) = inconclusive.as_ref().filter(|_| row.verdict != Verdict::Error) {
            row.verdict = Verdict::Inconclusive;
            row.reason = why.clone();
            row.next = "cargo gate doctor".to_owned();
            return row;
        }
        let shown = format!("{} {}", row.value_text(), row.interval_text());
        let shown = shown.trim_end();
        let origin = format!("{place}, n = {}, source {}", row.samples, row.source);
        match row.verdict {
            Verdict::Pass | Verdict::NotSelected => row.next = String::new(),
            Verdict::Warn => {
                let left = row.headroom.unwrap_or(0.0) * 100.0;
                row.reason = format!("{shown} meets {}, headroom {left:.0} % ({origin})", row.limit);
            }
            Verdict::Fail => {
                let by = row.estimate.map(|e| e.value / bound.value - 1.0).filter(|by| by.is_finite());
                let by = by.map(|by| format!("{:+.0} %, ", by * 100.0)).unwrap_or_default();
                row.reason = format!("{shown} misses {} ({by}{origin})", row.limit);
            }
            Verdict::Inconclusive => {
                row.reason = format!("{shown} straddles {} ({origin})", row.limit);
                row.next = format!("cargo gate {}", row.bench);
            }
            Verdict::Error => row.reason = format!("{shown} is no figure that could be judged ({origin})"),
            Verdict::Missing | Verdict::Waived => {}
        }
        row
    }

    /// The ratio of `bench` to the other one, above 1 where ours is better.
    fn ratio(&self, bench: &str, versus: &Versus) -> Result<Combined, (Verdict, String)> {
        self.usable(bench)?;
        let paired = self
            .measurements
            .paired
            .iter()
            .filter(|p| p.bench == bench && p.of == versus.of && p.metric == versus.metric);
        let alternating: Vec<Measurement> = paired
            .map(|paired| Measurement {
                bench: paired.bench.clone(),
                metric: Metric::Ratio,
                value: paired.ratio,
                ci: Some(paired.ci),
                n: paired.n,
                source: "pair".to_owned(),
                notes: Vec::new(),
                inconclusive: None,
                threads: None,
            })
            .collect();
        if !alternating.is_empty() {
            return Ok(combine(&alternating.iter().collect::<Vec<_>>()));
        }
        let ours = self.combined(bench, versus.metric)?;
        let theirs = self
            .combined(&versus.of, versus.metric)
            .map_err(|(verdict, reason)| (verdict, format!("{} to compare with: {reason}", versus.of)))?;
        let lower_is_better = versus.metric.direction() == harness::metric::Direction::Lower;
        let (better, worse) =
            if lower_is_better { (theirs.estimate, ours.estimate) } else { (ours.estimate, theirs.estimate) };
        let estimate =
            Estimate { lo: better.lo / worse.hi, value: better.value / worse.value, hi: better.hi / worse.lo };
        Ok(Combined { estimate, inconclusive: ours.inconclusive.or(theirs.inconclusive), ..ours })
    }

    /// Whether results of `bench` count at all; otherwise why not.
    fn usable(&self, bench: &str) -> Result<(), (Verdict, String)> {
        if let Some(stale) = &self.selection.stale {
            return Err((Verdict::Missing, stale.clone()));
        }
        if let Some((_, why)) = self.selection.failures.iter().find(|(failed, _)| failed == bench) {
            return Err((Verdict::Missing, format!("the benchmark {why}")));
        }
        Ok(())
    }

    fn combined(&self, bench: &str, metric: Metric) -> Result<Combined, (Verdict, String)> {
        self.usable(bench)?;
        let same = [Metric::LatencyMedian, Metric::LatencyP50];
        let is_wanted = |own: Metric| own == metric || same.contains(&own) && same.contains(&metric);
        let of_bench: Vec<&Measurement> = self.measurements.figures.iter().filter(|f| f.bench == bench).collect();
        let wanted = of_bench.iter().copied().filter(|figure| is_wanted(figure.metric));
        // A median of batches is the median of something else than p50.
        let wanted: Vec<&Measurement> =
            wanted.filter(|figure| figure.metric == metric || !is_of_batches(figure)).collect();
        let problem = |kind: ProblemKind| {
            let of_metric = |p: &&Problem| p.metric.is_none_or(&is_wanted);
            self.measurements.problems.iter().filter(|p| p.bench == bench && p.kind == kind).find(of_metric)
        };
        if let Some(error) = problem(ProblemKind::Error) {
            return Err((Verdict::Error, error.reason.clone()));
        }
        if wanted.is_empty() {
            return Err((Verdict::Missing, self.absence(bench, metric, &of_bench, problem(ProblemKind::Missing))));
        }
        let decisive = decisive(wanted);
        if decisive.iter().any(|figure| !is_sound(figure)) {
            return Err((Verdict::Error, format!("{metric} is not a finite number, or has no samples")));
        }
        Ok(combine(&decisive))
    }

    fn absence(&self, bench: &str, metric: Metric, of_bench: &[&Measurement], problem: Option<&Problem>) -> String {
        if let Some(problem) = problem {
            return problem.reason.clone();
        }
        if let Some(known) = self.selection.known.as_ref().filter(|known| !known.contains(bench) && of_bench.is_empty())
        {
            let hint = did_you_mean(bench, known.iter().map(String::as_str));
            return format!(
                "no benchmark has this name{}",
                hint.map(|h| format!("; did you mean {h}?")).unwrap_or_default()
            );
        }
        if !of_bench.is_empty()
            && of_bench.iter().all(|figure| is_of_batches(figure))
            && metric.dimension() == Dimension::Time
        {
            return format!(
                "criterion times batches, which have no {metric} of single operations; measure with `Bench::ops`"
            );
        }
        if of_bench.is_empty() {
            return "not measured in this run".to_owned();
        }
        let metrics: BTreeSet<&str> = of_bench.iter().map(|figure| figure.metric.name()).collect();
        format!("not measured; there is {}", metrics.into_iter().collect::<Vec<_>>().join(", "))
    }
}

/// Whether `bench` is a floor: measured beside a benchmark, it needs no limits of its own.
pub(crate) fn is_only_compared_with(thresholds: &Thresholds, measurements: &Measurements, bench: &str) -> bool {
    thresholds.benches.iter().flat_map(|limits| &limits.versus).any(|versus| versus.of == bench)
        || measurements.paired.iter().any(|paired| paired.of == bench)
}

/// A row that says MISSING until more is known.
fn row_of(bench: &str, metric: Option<Metric>, class: Option<Class>, limit: String, place: Option<Place>) -> Row {
    let next = format!("cargo gate explain {bench}");
    Row { metric, class, limit, place, next, ..Row::about(bench.to_owned(), Verdict::Missing, String::new()) }
}

fn is_of_batches(figure: &Measurement) -> bool {
    figure.source.starts_with("criterion")
}

/// Single operations say more than groups, groups more than batches and rounds, and a row of its own more than a side of a pair.
fn rank(figure: &Measurement) -> u8 {
    match figure.source.as_str() {
        "group" => 1,
        "round" => 2,
        "pair" => 3,
        _ if is_of_batches(figure) => 2,
        _ => 0,
    }
}

fn is_sound(figure: &Measurement) -> bool {
    let ends = figure.ci.map_or([figure.value; 2], |ci| [ci.lo, ci.hi]);
    figure.n.samples > 0 && figure.value.is_finite() && ends.iter().all(|end| end.is_finite()) && ends[0] <= ends[1]
}

/// Of several figures those that count: of the best source, and of these what the machine could tell, if it could anything.
fn decisive(figures: Vec<&Measurement>) -> Vec<&Measurement> {
    let best = figures.iter().map(|figure| rank(figure)).min();
    let best: Vec<&Measurement> = figures.into_iter().filter(|figure| Some(rank(figure)) == best).collect();
    // A repeat on a quieter machine settles what a busy one could not tell; a figure that is none is not passed over.
    let told = |figure: &&Measurement| figure.inconclusive.is_none() || !is_sound(figure);
    let told: Vec<&Measurement> = best.iter().copied().filter(told).collect();
    if told.is_empty() { best } else { told }
}

/// One figure of everything that was measured of a benchmark's metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Combined {
    /// Benchmark id.
    pub bench: String,
    /// Which figure.
    pub metric: Metric,
    /// The figure with its interval, in the canonical unit of the metric.
    pub estimate: Estimate,
    /// Samples over all processes.
    pub samples: u64,
    /// Fresh processes.
    pub processes: u64,
    /// Where it comes from.
    pub source: String,
    /// Remarks of the measurement.
    pub notes: Vec<String>,
    /// Why this machine cannot tell, if it cannot.
    pub inconclusive: Option<String>,
    /// For a speed-up: how many threads shared the work.
    pub threads: Option<u64>,
}

/// One process speaks by its own interval, two by the hull of both; from three on the interval is Student's t over the processes.
/// Exact figures that differ speak by the worse end, as an interval.
fn combine(figures: &[&Measurement]) -> Combined {
    let ends = |figure: &Measurement| {
        let shares = [Metric::ErrorRate, Metric::SuccessRate].contains(&figure.metric);
        match figure.ci {
            Some(ci) => ci,
            None if figure.metric == Metric::ErrorRate => clopper_pearson(figure.value, figure.n.samples),
            None => {
                Interval { lo: figure.value, hi: figure.value, level: if shares { 1.0 } else { stats::CONFIDENCE } }
            }
        }
    };
    let values: Vec<f64> = figures.iter().map(|figure| figure.value).collect();
    let hull = figures
        .iter()
        .map(|figure| ends(figure))
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), ci| (lo.min(ci.lo), hi.max(ci.hi)));
    let is_sampled = figures.iter().any(|figure| figure.ci.is_some());
    // Twice as good and half as good are as far from even: ratios are averaged by their logarithms.
    let is_ratio = figures[0].metric == Metric::Ratio && values.iter().all(|&value| value > 0.0);
    let mean = if is_ratio { stats::ratio_interval(&values) } else { None };
    let (value, interval) = match mean {
        Some((value, interval)) => (value, Some(interval)),
        None => (stats::mean(&values), stats::mean_interval(&values)),
    };
    let (lo, hi) = match interval {
        Some(interval) if figures.len() >= 3 && is_sampled => (interval.lo, interval.hi),
        _ => hull,
    };
    let mut notes: Vec<String> = figures.iter().flat_map(|figure| figure.notes.iter().cloned()).collect();
    notes.sort();
    notes.dedup();
    Combined {
        bench: figures[0].bench.clone(),
        metric: figures[0].metric,
        estimate: Estimate { lo, value, hi },
        samples: figures.iter().map(|figure| figure.n.samples).sum(),
        processes: figures.iter().map(|figure| figure.n.processes).sum(),
        source: figures[0].source.clone(),
        notes,
        inconclusive: figures.iter().find_map(|figure| figure.inconclusive.clone()),
        threads: figures[0].threads,
    }
}

/// The exact interval of a share of `n` trials (Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the
/// case of the binomial", 1934): 0 failures of 1,000 do not prove less than 0.1 %.
fn clopper_pearson(share: f64, n: u64) -> Interval {
    let tail = (1.0 - stats::CONFIDENCE) / 2.0;
    let (trials, successes) = (n as f64, (share * n as f64).round());
    let quantile = |a: f64, b: f64, q: f64| Beta::new(a, b).map_or(f64::NAN, |beta| beta.inverse_cdf(q));
    let lo = if successes > 0.0 { quantile(successes, trials - successes + 1.0, tail) } else { 0.0 };
    // One-sided where nothing failed: the whole error stands above.
    let upper = if successes > 0.0 { 1.0 - tail } else { stats::CONFIDENCE };
    let hi = if successes < trials { quantile(successes + 1.0, trials - successes, upper) } else { 1.0 };
    Interval { lo, hi, level: stats::CONFIDENCE }
}

/// One figure a benchmark and metric, combined as a limit would see it; what is no figure is left out.
#[must_use]
pub fn combined_figures(measurements: &Measurements) -> Vec<Combined> {
    let mut groups: BTreeMap<(&str, Metric), Vec<&Measurement>> = BTreeMap::new();
    for figure in measurements.figures.iter().filter(|figure| is_sound(figure)) {
        groups.entry((&figure.bench, figure.metric)).or_default().push(figure);
    }
    groups.into_values().map(|figures| combine(&decisive(figures))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_failure_of_2995_proves_less_than_a_tenth_of_a_percent_and_of_1000_does_not() {
        assert!(clopper_pearson(0.0, 2_995).hi <= 0.001);
        assert!(clopper_pearson(0.0, 1_000).hi > 0.001);
    }
}
