//! Saved baselines: the figures of a run under a name, and what has changed since.
//!
//! Time against an old file says little: another day, another neighbour, another placement of the code. It is therefore advice
//! unless rules are given. What is counted (allocations, instructions) does not drift, and binds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use harness::environment::Environment;
use harness::metric::{Dimension, Direction, Metric};
use harness::record::{Interval, replace_file};
use harness::stats;
use serde::{Deserialize, Serialize};

use crate::evaluate::{Combined, combined_figures};
use crate::manifest::RunManifest;
use crate::measurement::Measurements;
use crate::quantity::{self, Bound, Operator};
use crate::verdict::{Estimate, Verdict, judge};

/// The version of the file format that this code reads and writes.
const SCHEMA: u32 = 1;

/// The figures of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Version of the format.
    pub schema: u32,
    /// The run that measured.
    pub run: String,
    /// When it began, milliseconds since 1970.
    pub started_unix_ms: u64,
    /// Its profile.
    pub profile: String,
    /// The filter that it was limited to.
    #[serde(default)]
    pub filter: Option<String>,
    /// Commit of the sources, if they were under git.
    pub commit: Option<String>,
    /// Fingerprint of what differed from the commit, if anything did.
    pub dirty: Option<String>,
    /// Where it was measured.
    pub env: Environment,
    /// One figure a benchmark and metric.
    pub figures: Vec<Saved>,
}

/// One figure of a baseline, in the canonical unit of its metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Benchmark id.
    pub bench: String,
    /// Which figure.
    pub metric: Metric,
    /// The estimate.
    pub value: f64,
    /// Its interval; absent for an exact figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci: Option<Interval>,
}

impl Saved {
    /// What `measurements` say, one figure a benchmark and metric; what the machine could not tell is left out.
    #[must_use]
    pub fn of(measurements: &Measurements) -> Vec<Self> {
        let told = combined_figures(measurements).into_iter().filter(|figure| figure.inconclusive.is_none());
        told.map(|Combined { bench, metric, estimate: Estimate { lo, value, hi }, .. }| {
            let ci = (lo < hi).then_some(Interval { lo, hi, level: stats::CONFIDENCE });
            Self { bench, metric, value, ci }
        })
        .collect()
    }

    fn estimate(&self) -> Estimate {
        self.ci.map_or(Estimate::exact(self.value), |ci| Estimate { lo: ci.lo, value: self.value, hi: ci.hi })
    }
}

/// A baseline could not be saved or read; an old one is untouched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// The name cannot be that of a file.
    #[error(
        "`{name}` is no name of a baseline: letters, digits, `.`, `_` and `-`, beginning with a letter or a digit, or the path of a file that ends in .json"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// There is no baseline of this name.
    #[error("no baseline {path}: `cargo gate save` makes one")]
    Absent {
        /// Where it would be.
        path: PathBuf,
    },
    /// The file is no baseline.
    #[error("{path}: {reason}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Baseline {
    /// The figures of a run.
    #[must_use]
    pub fn of(manifest: &RunManifest, measurements: &Measurements) -> Self {
        Self {
            schema: SCHEMA,
            run: manifest.run.clone(),
            started_unix_ms: manifest.started_unix_ms,
            profile: manifest.profile.clone(),
            filter: manifest.filter.clone(),
            commit: manifest.commit.clone(),
            dirty: manifest.dirty.clone(),
            env: manifest.env.clone(),
            figures: Saved::of(measurements),
        }
    }

    /// In what `env` differs from where the baseline was measured, in words; empty if in nothing.
    #[must_use]
    pub fn differences(&self, env: &Environment) -> Vec<String> {
        let (old, new) = (&self.env, env);
        let cores = [old, new].map(|env| env.cores.to_string());
        let fields = [
            ("processor", &old.cpu, &new.cpu),
            ("processors", &cores[0], &cores[1]),
            ("kernel", &old.kernel, &new.kernel),
            ("compiler", &old.rustc, &new.rustc),
            ("build", &old.profile, &new.profile),
        ];
        let differing = fields.into_iter().filter(|(_, old, new)| old != new);
        differing.map(|(name, old, new)| format!("{name}: {old} then, {new} now")).collect()
    }

    /// What a build in `env` has in common with the baseline's.
    #[must_use]
    pub fn build(&self, env: &Environment) -> Build {
        match (self.env.profile == env.profile, self.env.rustc == env.rustc) {
            (true, true) => Build::Same,
            (true, false) => Build::OtherCompiler,
            (false, _) => Build::Other,
        }
    }

    /// Writes the baseline by temporary file, sync and rename: whatever happens, the old one or the new one is there, whole.
    ///
    /// # Errors
    /// [`BaselineError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), BaselineError> {
        let io = |source| BaselineError::Io { path: path.to_owned(), source };
        let text = serde_json::to_vec_pretty(self).map_err(|error| io(error.into()))?;
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(io)?;
        replace_file(path, &text).map_err(io)
    }

    /// Reads a baseline.
    ///
    /// # Errors
    /// [`BaselineError`].
    pub fn read(path: &Path) -> Result<Self, BaselineError> {
        match fs::read(path) {
            Ok(text) => Self::parse(&text).map_err(|reason| BaselineError::Malformed { path: path.to_owned(), reason }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(BaselineError::Absent { path: path.to_owned() })
            }
            Err(source) => Err(BaselineError::Io { path: path.to_owned(), source }),
        }
    }

    /// The baseline in the bytes of a file.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            schema: u64,
        }
        let version: Version = serde_json::from_slice(text).map_err(|error| format!("not a baseline: {error}"))?;
        if version.schema != u64::from(SCHEMA) {
            return Err(format!("schema {}, this gate reads {SCHEMA}", version.schema));
        }
        let baseline: Self = serde_json::from_slice(text).map_err(|error| format!("not a baseline: {error}"))?;
        let is_sound = |saved: &Saved| {
            let Estimate { lo, value, hi } = saved.estimate();
            let has_level = saved.ci.is_none_or(|ci| (ci.level - stats::CONFIDENCE).abs() < 1e-9);
            [lo, value, hi].iter().all(|end| end.is_finite()) && lo <= value && value <= hi && has_level
        };
        if let Some(saved) = baseline.figures.iter().find(|saved| !is_sound(saved)) {
            return Err(format!("{} {} is no figure", saved.bench, saved.metric));
        }
        let mut keys: Vec<_> = baseline.figures.iter().map(|saved| (&saved.bench, saved.metric)).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => Err(format!("{} {} stands there twice", twice[0].0, twice[0].1)),
            None if baseline.figures.is_empty() => Err("it holds no figures".to_owned()),
            None => Ok(baseline),
        }
    }
}

/// What two builds have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// Compiler and profile: the same work takes the same instructions.
    Same,
    /// The profile: the same work makes the same allocations.
    OtherCompiler,
    /// Nothing that figures could be held to.
    Other,
}

/// Where the baseline `name` is below `folder`; a name that ends in `.json` is the path of a file.
///
/// # Errors
/// [`BaselineError::Name`].
pub fn path_of(folder: &Path, name: &str) -> Result<PathBuf, BaselineError> {
    if Path::new(name).extension().is_some_and(|ending| ending == "json") {
        return Ok(PathBuf::from(name));
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(is_plain) {
        return Err(BaselineError::Name { name: name.to_owned() });
    }
    Ok(folder.join("baselines").join(format!("{name}.json")))
}

/// A rule of `--fail`: by how much a statistic may be worse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Which statistic.
    pub metric: Metric,
    /// By how much.
    pub most: Worse,
}

/// How much worse a figure may be: strictly more fails.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Worse {
    /// As a share of the baseline, 0.1 for `10%`.
    Share(f64),
    /// In the unit of the metric: nanoseconds for times.
    Amount(f64),
}

/// The words of `--fail` and the metrics that they stand for. `ops` is worse when it falls.
const STATISTICS: [(&str, Metric); 11] = [
    ("min", Metric::LatencyMin),
    ("max", Metric::LatencyMax),
    ("mean", Metric::LatencyMean),
    ("median", Metric::LatencyMedian),
    ("stddev", Metric::LatencyStddev),
    ("p50", Metric::LatencyP50),
    ("p90", Metric::LatencyP90),
    ("p95", Metric::LatencyP95),
    ("p99", Metric::LatencyP99),
    ("p999", Metric::LatencyP999),
    ("ops", Metric::Throughput),
];

/// Reads `mean:10%,p99:15%`: rules by comma or space, each `STATISTIC:NUMBER%` or, for times, `STATISTIC:QUANTITY` (`mean:5us`).
/// A statistic may also be called by its metric, `allocs.count:0%`.
///
/// # Errors
/// Which rule cannot be read, and why.
pub fn parse_rules(text: &str) -> Result<Vec<Rule>, String> {
    let rules: Vec<&str> = text.split([',', ' ']).filter(|rule| !rule.is_empty()).collect();
    if rules.is_empty() {
        return Err("no rule: write for example mean:10%,p99:15%".to_owned());
    }
    let rules: Vec<Rule> = rules.into_iter().map(parse_rule).collect::<Result<_, _>>()?;
    let twice =
        rules.iter().enumerate().find(|(at, rule)| rules[..*at].iter().any(|other| other.metric == rule.metric));
    twice.map_or_else(|| Ok(rules.clone()), |(_, rule)| Err(format!("{} has a rule twice", rule.metric)))
}

fn parse_rule(text: &str) -> Result<Rule, String> {
    let (name, most) =
        text.split_once(':').ok_or_else(|| format!("`{text}` is no rule: write for example mean:10%"))?;
    let word = STATISTICS.iter().find(|(word, _)| *word == name).map(|(_, metric)| *metric);
    let metric = word.or_else(|| name.parse().ok()).filter(|metric| metric.direction() != Direction::Stated);
    let metric = metric.ok_or_else(|| {
        if name == "iqr" {
            return "an interquartile range is not kept; stddev or p90 and p50 say how wide it spreads".to_owned();
        }
        let words: Vec<&str> = STATISTICS.iter().map(|(word, _)| *word).collect();
        format!("`{name}` is no statistic: {}, or a metric like allocs.count", words.join(", "))
    })?;
    let most = match most.strip_suffix('%') {
        Some(_) => Worse::Share(quantity::parse(most, Dimension::Share).map_err(|error| error.to_string())?),
        None => Worse::Amount(quantity::parse(most, metric.dimension()).map_err(|error| error.to_string())?),
    };
    Ok(Rule { metric, most })
}

/// What has become of one figure of a baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Benchmark id.
    pub bench: String,
    /// Which figure.
    pub metric: Metric,
    /// What it was.
    pub before: f64,
    /// What it is; `None` if the run has no such figure.
    pub after: Option<f64>,
    /// By how much it has become worse, in the unit of the metric and with the interval that both intervals leave: below 0 is better.
    pub worse: Option<Estimate>,
    /// The same as a share of what it was: how sure it is says what both intervals leave. `None` from 0 or below.
    pub share: Option<Estimate>,
    /// What is allowed, where something is.
    pub most: Option<Worse>,
    /// The verdict, where something is allowed; otherwise the change is advice.
    pub verdict: Option<Verdict>,
}

impl Change {
    /// Whether the intervals of then and now do not touch.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.worse.is_some_and(|worse| worse.lo > 0.0 || worse.hi < 0.0)
    }
}

impl Build {
    /// Whether a figure is counted, and so the same for the same work in such a build: allocations, bytes an item, instructions.
    fn binds(self, metric: Metric) -> bool {
        let is_counted = metric.is_deterministic() || metric == Metric::MemoryPerItem;
        match self {
            Self::Same => is_counted,
            Self::OtherCompiler => is_counted && metric != Metric::Instructions,
            Self::Other => false,
        }
    }
}

impl Rule {
    /// A median is the percentile of 50.
    pub(crate) fn is_about(&self, metric: Metric) -> bool {
        let same = [Metric::LatencyMedian, Metric::LatencyP50];
        self.metric == metric || same.contains(&self.metric) && same.contains(&metric)
    }
}

/// Holds the figures of now against those of `before`, one change a figure of `before` that has a better and a worse.
///
/// A rule counts for its metric. Without one, a figure that is counted may not grow at all where both builds would count alike;
/// everything else is advice.
#[must_use]
pub fn compare(before: &[Saved], now: &[Saved], rules: &[Rule], build: Build) -> Vec<Change> {
    let directed = before.iter().filter(|old| old.metric.direction() != Direction::Stated);
    let changes = directed.map(|old| {
        let new = now.iter().find(|new| new.bench == old.bench && new.metric == old.metric);
        let rule = rules.iter().find(|rule| rule.is_about(old.metric)).map(|rule| rule.most);
        let most = rule.or_else(|| build.binds(old.metric).then_some(Worse::Share(0.0)));
        let worse = new.map(|new| worse_by(old, new));
        let share = new.and_then(|new| share(old, new));
        let verdict = most.map(|most| new.map_or(Verdict::Missing, |new| verdict(old, new, most)));
        let (bench, after) = (old.bench.clone(), new.map(|new| new.value));
        Change { bench, metric: old.metric, before: old.value, after, worse, share, most, verdict }
    });
    changes.collect()
}

fn worse_by(old: &Saved, new: &Saved) -> Estimate {
    let (old, new, is_higher_better) = (old.estimate(), new.estimate(), old.metric.direction() == Direction::Higher);
    let (less, more) = if is_higher_better { (new, old) } else { (old, new) };
    Estimate { lo: more.lo - less.hi, value: more.value - less.value, hi: more.hi - less.lo }
}

/// By which share of the old figure the new one is worse; the old one's interval counts in both.
fn share(old: &Saved, new: &Saved) -> Option<Estimate> {
    let (then, now) = (old.estimate(), new.estimate());
    let grown =
        Estimate { lo: now.lo / then.hi - 1.0, value: now.value / then.value - 1.0, hi: now.hi / then.lo - 1.0 };
    let fallen = Estimate { lo: -grown.hi, value: -grown.value, hi: -grown.lo };
    (then.lo > 0.0).then_some(if old.metric.direction() == Direction::Higher { fallen } else { grown })
}

fn verdict(old: &Saved, new: &Saved, most: Worse) -> Verdict {
    let (then, now) = (old.estimate(), new.estimate());
    // What is above what is allowed, in the metric's unit; the share is one of every figure that the old one may have been.
    let excess = match most {
        Worse::Amount(amount) => shifted(worse_by(old, new), -amount),
        Worse::Share(share) if then.lo < 0.0 => shifted(worse_by(old, new), -share * then.value.abs()),
        Worse::Share(share) if old.metric.direction() == Direction::Higher => {
            let least = |end: f64| end * (1.0 - share);
            Estimate { lo: least(then.lo) - now.hi, value: least(then.value) - now.value, hi: least(then.hi) - now.lo }
        }
        Worse::Share(share) => {
            let most = |end: f64| end * (1.0 + share);
            Estimate { lo: now.lo - most(then.hi), value: now.value - most(then.value), hi: now.hi - most(then.lo) }
        }
    };
    judge(excess, Bound { operator: Operator::AtMost, value: 0.0 }, old.metric, 0.0).0
}

fn shifted(Estimate { lo, value, hi }: Estimate, by: f64) -> Estimate {
    Estimate { lo: lo + by, value: value + by, hi: hi + by }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn saved(metric: Metric, lo: f64, value: f64, hi: f64) -> Saved {
        let ci = (lo < hi).then_some(Interval { lo, hi, level: 0.95 });
        Saved { bench: "a/b/c".to_owned(), metric, value, ci }
    }

    fn verdict_of(old: &Saved, new: &Saved, rules: &str, build: Build) -> Option<Verdict> {
        let rules = if rules.is_empty() { Vec::new() } else { parse_rules(rules).expect(rules) };
        let changes = compare(std::slice::from_ref(old), std::slice::from_ref(new), &rules, build);
        changes.first().and_then(|change| change.verdict)
    }

    #[test]
    fn rules_take_decimals_any_percent_amounts_and_percentiles() {
        let rules = parse_rules("mean:10%,p99:12.5% max:250% min:5us,ops:0%,allocs.count:0%").expect("rules");
        let words: Vec<(Metric, Worse)> = rules.iter().map(|rule| (rule.metric, rule.most)).collect();
        assert_eq!(
            words,
            [
                (Metric::LatencyMean, Worse::Share(0.1)),
                (Metric::LatencyP99, Worse::Share(0.125)),
                (Metric::LatencyMax, Worse::Share(2.5)),
                (Metric::LatencyMin, Worse::Amount(5_000.0)),
                (Metric::Throughput, Worse::Share(0.0)),
                (Metric::AllocsCount, Worse::Share(0.0)),
            ]
        );
    }

    #[test]
    fn what_is_no_rule_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "no rule"),
            (" , ", "no rule"),
            ("mean", "is no rule"),
            ("mean:", "does not begin with a number"),
            ("mean:10", "has no unit"),
            ("mean:-1%", "does not begin with a number"),
            ("mean:<5%", "does not begin with a number"),
            ("mean:1e999%", "not a unit"),
            ("mode:5%", "is no statistic"),
            ("iqr:5%", "is not kept"),
            ("count:5%", "is no statistic"),
            ("mean:10%,median:5 %", "has no unit"),
            ("mean:5%,mean:7%", "twice"),
        ] {
            let error = parse_rules(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_rule_fails_only_what_is_surely_worse_by_more() {
        let old = saved(Metric::LatencyMean, 99.0, 100.0, 101.0);
        let new = |lo, hi| saved(Metric::LatencyMean, lo, (lo + hi) / 2.0, hi);
        assert_eq!(verdict_of(&old, &new(119.0, 121.0), "mean:10%", Build::Same), Some(Verdict::Fail));
        assert_eq!(verdict_of(&old, &new(119.0, 121.0), "mean:30%", Build::Same), Some(Verdict::Pass));
        assert_eq!(verdict_of(&old, &new(105.0, 114.0), "mean:10%", Build::Same), Some(Verdict::Inconclusive));
        assert_eq!(verdict_of(&old, &new(119.0, 121.0), "mean:5ns", Build::Same), Some(Verdict::Fail));
        assert_eq!(verdict_of(&old, &new(50.0, 60.0), "mean:0%", Build::Same), Some(Verdict::Pass));
        assert_eq!(verdict_of(&old, &new(119.0, 121.0), "", Build::Same), None, "time is advice without a rule");
        let wide = saved(Metric::LatencyMean, 60.0, 100.0, 140.0);
        assert_eq!(verdict_of(&wide, &new(245.0, 255.0), "mean:100%", Build::Same), Some(Verdict::Inconclusive));
        assert_eq!(verdict_of(&wide, &new(281.0, 290.0), "mean:100%", Build::Same), Some(Verdict::Fail));
        let rate = |value| saved(Metric::Throughput, value, value, value);
        assert_eq!(verdict_of(&rate(100.0), &rate(85.0), "ops:10%", Build::Same), Some(Verdict::Fail));
        assert_eq!(verdict_of(&rate(100.0), &rate(200.0), "ops:10%", Build::Same), Some(Verdict::Pass));
        assert_eq!(verdict_of(&rate(100.0), &rate(90.0), "ops:10%", Build::Same), Some(Verdict::Pass), "at the limit");
    }

    #[test]
    fn what_is_counted_binds_for_one_compiler_and_from_zero_any_growth_is_too_much() {
        let count = |value| saved(Metric::AllocsCount, value, value, value);
        assert_eq!(verdict_of(&count(0.0), &count(0.0), "", Build::Same), Some(Verdict::Pass));
        assert_eq!(verdict_of(&count(0.0), &count(1.0), "", Build::Same), Some(Verdict::Fail));
        assert_eq!(verdict_of(&count(2.0), &count(1.0), "", Build::Same), Some(Verdict::Pass));
        assert_eq!(verdict_of(&count(2.0), &count(3.0), "", Build::OtherCompiler), Some(Verdict::Fail));
        assert_eq!(verdict_of(&count(2.0), &count(3.0), "", Build::Other), None, "a debug build counts otherwise");
        let instructions = |value| saved(Metric::Instructions, value, value, value);
        assert_eq!(verdict_of(&instructions(2.0), &instructions(3.0), "", Build::Same), Some(Verdict::Fail));
        assert_eq!(verdict_of(&instructions(2.0), &instructions(3.0), "", Build::OtherCompiler), None);
        assert_eq!(verdict_of(&count(2.0), &count(3.0), "allocs.count:50%", Build::Same), Some(Verdict::Pass));
        let gone = compare(&[count(1.0)], &[], &[], Build::Same);
        assert_eq!((gone[0].verdict, gone[0].after), (Some(Verdict::Missing), None));
        let stated = [saved(Metric::Count, 1.0, 1.0, 1.0)];
        assert_eq!(compare(&stated, &stated, &[], Build::Same), [], "no better and no worse");
    }

    proptest! {
        /// A worse figure never has a better verdict, and never more share than one that is worse still.
        #[test]
        fn worse_is_never_judged_better(before in 1.0_f64..1e6, after in 1.0_f64..1e6, more in 0.0_f64..1e6, percent in 0_u32..300) {
            let rules = format!("mean:{percent}%");
            let figure = |value: f64| saved(Metric::LatencyMean, value * 0.98, value, value * 1.02);
            let rank = |after: f64| match verdict_of(&figure(before), &figure(after), &rules, Build::Same) {
                Some(Verdict::Pass) => 0,
                Some(Verdict::Inconclusive) => 1,
                _ => 2,
            };
            prop_assert!(rank(after) <= rank(after + more));
        }
    }
}
