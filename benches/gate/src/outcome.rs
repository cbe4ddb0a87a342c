//! What was found: a row a limit, and the report that all formats render.

use std::collections::{BTreeMap, BTreeSet};

use harness::environment::Environment;
use harness::metric::{Dimension, Metric};

use crate::measurement::Summary;
use crate::quantity::{Bound, Figure};
use crate::rivals::Rivals;
use crate::thresholds::{Class, ConfigError, Place};
use crate::verdict::{Estimate, ExitStatus, Verdict};

/// One limit of one benchmark and what was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Benchmark id.
    pub bench: String,
    /// The metric; `None` for a row about the benchmark as a whole.
    pub metric: Option<Metric>,
    /// Whose limit; `None` for a row without one.
    pub class: Option<Class>,
    /// The limit as printed.
    pub limit: String,
    /// The figure, with its interval, in the canonical unit or as a ratio.
    pub estimate: Option<Estimate>,
    /// What the figure must meet; `None` for a row without a limit.
    pub bound: Option<Bound>,
    /// Whether `estimate` is a ratio to another benchmark.
    pub is_ratio: bool,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in one line; empty for PASS.
    pub reason: String,
    /// What to do next; empty for PASS.
    pub next: String,
    /// Share of the limit that is left, where it is met.
    pub headroom: Option<f64>,
    /// Where the limit is written.
    pub place: Option<Place>,
    /// Where the figure comes from.
    pub source: String,
    /// Samples, and processes that they come from.
    pub samples: u64,
    /// Fresh processes.
    pub processes: u64,
    /// Remarks of the measurement.
    pub notes: Vec<String>,
}

impl Row {
    /// A row without a limit.
    pub(crate) fn about(bench: String, verdict: Verdict, reason: String) -> Self {
        Self {
            bench,
            metric: None,
            class: None,
            limit: String::new(),
            estimate: None,
            bound: None,
            is_ratio: false,
            verdict,
            reason,
            next: String::new(),
            headroom: None,
            place: None,
            source: String::new(),
            samples: 0,
            processes: 0,
            notes: Vec::new(),
        }
    }

    /// Whether the limit is one against a rival, which `cargo gate peers` judges.
    #[must_use]
    pub fn is_against_rival(&self) -> bool {
        self.class == Some(Class::Versus) && self.limit.contains(" peers/")
    }

    /// The figure as printed; empty if there is none.
    #[must_use]
    pub fn value_text(&self) -> String {
        self.estimate.map_or_else(String::new, |estimate| self.print(estimate.value))
    }

    /// The interval as printed; empty for an exact figure.
    #[must_use]
    pub fn interval_text(&self) -> String {
        let interval = self.estimate.filter(|estimate| estimate.lo < estimate.hi);
        interval.map_or_else(String::new, |e| format!("[{}, {}]", self.print(e.lo), self.print(e.hi)))
    }

    /// The unit of the figure in files.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        if self.is_ratio { "1" } else { self.metric.map_or("1", Metric::unit) }
    }

    fn print(&self, value: f64) -> String {
        if self.is_ratio {
            return format!("{value:.2}x");
        }
        Figure(value, self.metric.map_or(Dimension::Number, Metric::dimension)).to_string()
    }
}

/// The whole answer.
#[derive(Debug, Clone)]
pub struct GateReport {
    /// Every limit, worst first, then in the order of the file.
    pub rows: Vec<Row>,
    /// What is worth saying and is no row.
    pub warnings: Vec<String>,
    /// Whether a filter selected nothing.
    pub nothing_selected: bool,
    /// The profile.
    pub profile: String,
    /// Settings that are not the default, which every report says at its top.
    pub relaxed: Vec<String>,
    /// The limits' file.
    pub thresholds: String,
    /// Where it was measured.
    pub env: Option<Environment>,
    /// The run.
    pub run: Option<String>,
    /// The sources that were measured, in one line.
    pub revision: Option<String>,
    /// Statistics for the CSV report.
    pub summaries: Vec<Summary>,
    /// What was last measured beside rivals; it touches no verdict.
    pub rivals: Rivals,
    pub(crate) missing_fails: bool,
    pub(crate) inconclusive_fails: bool,
}

impl GateReport {
    /// A report of a file that could not be used: one row an error.
    #[must_use]
    pub fn of_config_errors(errors: &[ConfigError], profile: &str) -> Self {
        let rows = errors.iter().map(|error| {
            let bench = error.path.display().to_string();
            let next = "mend the file, then cargo gate --no-run".to_owned();
            Row { place: Some(error.place), next, ..Row::about(bench, Verdict::Error, error.to_string()) }
        });
        let thresholds = errors.first().map_or_else(String::new, |error| error.path.display().to_string());
        Self { thresholds, ..Self::of_rows(rows.collect(), profile) }
    }

    /// A report of a run that did not come about because a tool failed.
    #[must_use]
    pub fn of_failure(message: &str, profile: &str) -> Self {
        let row = Row::about("the run".to_owned(), Verdict::Error, message.to_owned());
        Self::of_rows(vec![Row { next: "cargo gate doctor".to_owned(), ..row }], profile)
    }

    /// A report of results that are not there.
    #[must_use]
    pub fn of_missing_run(message: &str, profile: &str) -> Self {
        let row = Row::about("the run".to_owned(), Verdict::Missing, message.to_owned());
        Self::of_rows(vec![Row { next: "cargo gate".to_owned(), ..row }], profile)
    }

    fn of_rows(rows: Vec<Row>, profile: &str) -> Self {
        Self {
            rows,
            warnings: Vec::new(),
            nothing_selected: false,
            profile: profile.to_owned(),
            relaxed: Vec::new(),
            thresholds: "thresholds.toml".to_owned(),
            env: None,
            run: None,
            revision: None,
            summaries: Vec::new(),
            rivals: Rivals::default(),
            missing_fails: true,
            inconclusive_fails: true,
        }
    }

    /// Adds a MISSING row for each `(benchmark, metric, reason)`.
    pub fn add_missing(&mut self, missing: impl Iterator<Item = (String, Metric, String)>) {
        let before = self.rows.len();
        self.rows.extend(missing.map(|(bench, metric, reason)| Row {
            metric: Some(metric),
            class: Some(Class::Seed),
            next: "cargo gate seeds".to_owned(),
            ..Row::about(bench, Verdict::Missing, reason)
        }));
        self.nothing_selected &= self.rows.len() == before;
        self.rows.sort_by_key(|row| (row.verdict, row.place));
    }

    /// How many rows have each verdict.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Verdict, usize> {
        let mut counts: BTreeMap<Verdict, usize> = Verdict::ALL.iter().map(|&verdict| (verdict, 0)).collect();
        for row in &self.rows {
            *counts.entry(row.verdict).or_default() += 1;
        }
        counts
    }

    /// What the command exits with.
    #[must_use]
    pub fn exit_status(&self, deny_warnings: bool) -> ExitStatus {
        let of = |verdict: Verdict| match verdict {
            Verdict::Error => ExitStatus::Error,
            Verdict::Fail => ExitStatus::Failed,
            Verdict::Missing if self.missing_fails => ExitStatus::Missing,
            Verdict::Inconclusive if self.inconclusive_fails => ExitStatus::Missing,
            Verdict::Missing | Verdict::Inconclusive | Verdict::Warn if deny_warnings => ExitStatus::Warnings,
            _ => ExitStatus::Ok,
        };
        let rows = self.rows.iter().map(|row| of(row.verdict)).fold(ExitStatus::Ok, ExitStatus::worse);
        let nothing = if self.nothing_selected { ExitStatus::Missing } else { ExitStatus::Ok };
        let warned = if deny_warnings && !self.warnings.is_empty() { ExitStatus::Warnings } else { ExitStatus::Ok };
        rows.worse(nothing).worse(warned)
    }

    /// Benchmarks with an inconclusive row that more samples might settle.
    #[must_use]
    pub fn undecided(&self) -> BTreeSet<String> {
        self.rows.iter().filter(|row| row.verdict == Verdict::Inconclusive).map(|row| row.bench.clone()).collect()
    }
}
