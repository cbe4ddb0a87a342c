//! `thresholds.toml`: every limit of a project, with the place in the file where it stands.

mod parse;
mod schema;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use globset::{Glob, GlobMatcher};
use harness::metric::Metric;

use crate::quantity::Bound;

/// The limits of a project.
#[derive(Debug, Clone)]
pub struct Thresholds {
    /// The file, as it is named in messages.
    pub path: PathBuf,
    /// `[gate]`.
    pub settings: Settings,
    /// `[profile.NAME]`.
    pub profiles: Vec<Profile>,
    /// `[bench."…"]`, in the order of the file.
    pub benches: Vec<BenchLimits>,
}

/// `[gate]`: what holds for every benchmark.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Headroom below which a limit that is met is a warning; 0.1 unless set.
    pub warn_band: f64,
    /// What a benchmark without limits is.
    pub unknown_bench: UnknownBench,
    /// Whether MISSING exits with 3, as it does unless set to `warn`.
    pub missing_fails: bool,
    /// Whether INCONCLUSIVE exits with 3, as it does unless set to `warn`; in the profile `quick` it never does.
    pub inconclusive_fails: bool,
    /// The benchmarks of the systems that the project replaces.
    pub seeds: Option<SeedFile>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            warn_band: 0.1,
            unknown_bench: UnknownBench::Warn,
            missing_fails: true,
            inconclusive_fails: true,
            seeds: None,
        }
    }
}

/// What a measured benchmark without limits is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnknownBench {
    /// Nothing to speak of.
    Ignore,
    /// A warning.
    Warn,
    /// MISSING: its limits.
    Fail,
}

/// `[gate] seeds`: a table of benchmarks that the project answers for.
#[derive(Debug, Clone)]
pub struct SeedFile {
    /// The CSV file, relative to `thresholds.toml`.
    pub file: PathBuf,
    /// Rows whose benchmark matches one of these must be covered.
    pub due: Vec<Pattern>,
    /// Where this is written.
    pub place: Place,
}

/// `[profile.NAME]`: which benchmarks a profile judges and how long it may repeat what was inconclusive.
#[derive(Debug, Clone)]
pub struct Profile {
    /// `quick`, `full`, …
    pub name: String,
    /// Only these, if any are named.
    pub include: Vec<Pattern>,
    /// Not these.
    pub exclude: Vec<Pattern>,
    /// Time for repeats; 30 s for `quick`, 90 s otherwise, unless set.
    pub budget: Duration,
}

impl Profile {
    /// The profile `name` when the file says nothing of it.
    #[must_use]
    pub fn default_for(name: &str) -> Self {
        let seconds = if name == "quick" { 30 } else { 90 };
        Self { name: name.to_owned(), include: Vec::new(), exclude: Vec::new(), budget: Duration::from_secs(seconds) }
    }

    /// Whether the profile judges `bench`.
    #[must_use]
    pub fn selects(&self, bench: &str) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(bench));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

/// `[bench."…"]`: the limits of one benchmark, or of all that a glob matches.
#[derive(Debug, Clone)]
pub struct BenchLimits {
    /// The id or glob.
    pub pattern: Pattern,
    /// Where the table begins.
    pub place: Place,
    /// Seed rows that the benchmark answers, `"004 test_save_single_event"`, each with its place.
    pub seeds: Vec<(String, Place)>,
    /// The limits of both classes, in the order of the file.
    pub limits: Vec<Limit>,
    /// Comparisons with other benchmarks of the same run.
    pub versus: Vec<Versus>,
    /// Why the limits are what they are.
    pub rationale: Option<String>,
    /// Until when a miss of [`limits`](Self::limits) is let pass; comparisons have waivers of their own.
    pub waiver: Option<Waiver>,
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The target of the system that is replaced.
    Seed,
    /// Our own, tighter.
    Own,
    /// Against another benchmark of the same run.
    Versus,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Seed => "seed",
            Self::Own => "own",
            Self::Versus => "versus",
        })
    }
}

/// One limit on one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// Seed or own.
    pub class: Class,
    /// The metric.
    pub metric: Metric,
    /// What a figure must meet.
    pub bound: Bound,
    /// For growth an hour alone: a figure above this and within the bound is a warning.
    pub monitor_above: Option<f64>,
    /// For a speed-up alone: the threads that it is about.
    pub threads: Option<u64>,
    /// For growth an hour alone: the rate at which growth an operation becomes growth an hour.
    pub ops_per_second: Option<f64>,
    /// Where it is written.
    pub place: Place,
}

impl Limit {
    /// A limit without the extras that two metrics have.
    fn new(class: Class, metric: Metric, bound: Bound, place: Place) -> Self {
        Self { class, metric, bound, monitor_above: None, threads: None, ops_per_second: None, place }
    }
}

/// A comparison with another benchmark of the same run: the ratio is above 1 where ours is better.
#[derive(Debug, Clone, PartialEq)]
pub struct Versus {
    /// The other benchmark.
    pub of: String,
    /// What is compared.
    pub metric: Metric,
    /// The least ratio.
    pub at_least: f64,
    /// As it was written, for messages: `at most 2 times`, `at least 3 times better`.
    pub wording: String,
    /// If a miss is let pass.
    pub waiver: Option<Waiver>,
    /// Where it is written.
    pub place: Place,
}

/// A miss that is let pass until a day.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiver {
    /// The last day.
    pub until: String,
    /// Why.
    pub reason: String,
    /// Below which it is not let pass: for a comparison a ratio, for a limit in figures the share of it that is reached, 0.5 for a time
    /// twice as long.
    pub down_to: Option<f64>,
}

/// A place in the file, from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// An id, or a glob over ids in which `*` also crosses `/`.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    glob: Option<GlobMatcher>,
}

impl Pattern {
    /// The pattern `text`: a glob if it holds `*`, `?`, `[` or `{`, otherwise an exact id.
    ///
    /// # Errors
    /// What is wrong with the glob.
    pub fn new(text: &str) -> Result<Self, globset::Error> {
        let is_glob = text.contains(['*', '?', '[', '{']);
        let glob = is_glob.then(|| Glob::new(text)).transpose()?;
        Ok(Self { text: text.to_owned(), glob: glob.map(|glob| glob.compile_matcher()) })
    }

    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it may match more than one id.
    #[must_use]
    pub fn is_glob(&self) -> bool {
        self.glob.is_some()
    }

    /// Whether it matches `bench`.
    #[must_use]
    pub fn matches(&self, bench: &str) -> bool {
        self.glob.as_ref().map_or(self.text == bench, |glob| glob.is_match(bench))
    }

    /// How much of an id it fixes: an exact id more than any glob, a glob by its plain characters.
    fn specificity(&self) -> (bool, usize) {
        (self.glob.is_none(), self.text.chars().filter(|c| !"*?[]{},".contains(*c)).count())
    }
}

/// Something wrong in the file; the gate exits with 2.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    /// Where.
    pub place: Place,
    /// The file.
    pub path: PathBuf,
    /// What.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column } = self.place;
        write!(f, "{}:{line}:{column}: {}", self.path.display(), self.message)
    }
}

impl std::error::Error for ConfigError {}

impl Thresholds {
    /// Reads the text of the file. `path` is named in messages; `today` is `YYYY-MM-DD`, for waivers.
    ///
    /// # Errors
    /// Every error of the file, in its order.
    pub fn parse(text: &str, path: &Path, today: &str) -> Result<Self, Vec<ConfigError>> {
        parse::parse(text, path, today)
    }

    /// The JSON schema (draft 2020-12) of the file, for editors that complete and check TOML by one. It knows the form of everything;
    /// what depends on other files, on today's date or on the benchmarks that exist, it leaves to [`Thresholds::parse`].
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schema::schema()
    }

    /// The profile `name`; one that the file does not mention has defaults.
    #[must_use]
    pub fn profile(&self, name: &str) -> Profile {
        self.profiles.iter().find(|profile| profile.name == name).cloned().unwrap_or_else(|| Profile::default_for(name))
    }

    /// Whether `name` is a profile: `quick`, `full`, `peers`, or one of the file.
    #[must_use]
    pub fn knows_profile(&self, name: &str) -> bool {
        ["quick", "full", "peers"].contains(&name) || self.profiles.iter().any(|profile| profile.name == name)
    }

    /// The table that holds for `bench`: its own, or that of the most specific glob.
    #[must_use]
    pub fn limits_for(&self, bench: &str) -> Option<&BenchLimits> {
        self.benches
            .iter()
            .filter(|limits| limits.pattern.matches(bench))
            .max_by_key(|limits| limits.pattern.specificity())
    }

    /// What can be said only when the benchmarks are known: a glob that matches none of `ids`, or two globs that match one and
    /// are equally specific.
    #[must_use]
    pub fn check_against<'i>(&self, ids: impl Iterator<Item = &'i str> + Clone) -> Vec<ConfigError> {
        let error = |place, message| ConfigError { place, path: self.path.clone(), message };
        let globs = self.benches.iter().filter(|limits| limits.pattern.is_glob());
        let mut errors: Vec<ConfigError> = globs
            .clone()
            .filter(|limits| !ids.clone().any(|id| limits.pattern.matches(id)))
            .map(|limits| error(limits.place, format!("`{}` matches no benchmark", limits.pattern.as_str())))
            .collect();
        for id in ids {
            if self.benches.iter().any(|limits| !limits.pattern.is_glob() && limits.pattern.matches(id)) {
                continue;
            }
            let matching = globs.clone().filter(|limits| limits.pattern.matches(id));
            let Some(best) = matching.clone().map(|limits| limits.pattern.specificity()).max() else { continue };
            let tied: Vec<&BenchLimits> = matching.filter(|limits| limits.pattern.specificity() == best).collect();
            if let [first, .., last] = tied[..] {
                let (a, b) = (first.pattern.as_str(), last.pattern.as_str());
                errors.push(error(last.place, format!("`{b}` and `{a}` match {id} and are equally specific")));
            }
        }
        errors.sort();
        errors.dedup_by(|a, b| a.place == b.place);
        errors
    }
}

/// The entry of `known` that `word` may have meant.
#[must_use]
pub fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let scored = known.into_iter().map(|entry| (strsim::normalized_damerau_levenshtein(word, entry), entry));
    scored.filter(|(score, _)| *score >= 0.6).max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, entry)| entry)
}
