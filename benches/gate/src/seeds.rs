//! The benchmarks of the systems that a project replaces, and which of them it answers.

use harness::metric::Metric;

use crate::quantity::Bound;
use crate::thresholds::{BenchLimits, Class, ConfigError, SeedFile, Thresholds, did_you_mean};

/// One row: a benchmark of an original with its target, and the benchmark of ours that answers it.
#[derive(Debug, Clone, PartialEq)]
pub struct SeedRow {
    /// Number of the original's guide.
    pub seed: String,
    /// The original system.
    pub system: String,
    /// Its benchmark.
    pub original_test: String,
    /// Our crate.
    pub crate_name: String,
    /// Our benchmark.
    pub benchmark: String,
    /// The figure that the target is about.
    pub metric: Metric,
    /// The target as it was stated.
    pub limit: String,
    /// What stands beside it.
    pub remark: String,
}

impl SeedRow {
    /// `SEED NAME`, as `thresholds.toml` refers to it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.seed, self.original_test)
    }

    /// The target as a number, if it begins with an operator or a number.
    #[must_use]
    pub fn bound(&self) -> Option<Bound> {
        Bound::parse_seed(&self.limit, self.metric)
    }

    /// Whether the row states nothing at all.
    #[must_use]
    pub fn is_unstated(&self) -> bool {
        self.limit.trim() == "none stated"
    }

    /// Whether `limits`, the table of this row's benchmark, answers it.
    #[must_use]
    pub fn is_covered_by(&self, limits: &BenchLimits) -> bool {
        if !limits.seeds.iter().any(|(name, _)| *name == self.name()) {
            return false;
        }
        match self.bound() {
            Some(bound) => limits
                .limits
                .iter()
                .any(|l| l.class == Class::Seed && l.metric == self.metric && is_same(l.bound, bound)),
            None if self.is_unstated() => {
                !limits.versus.is_empty() || limits.limits.iter().any(|l| l.class == Class::Own)
            }
            None => limits.limits.iter().any(|l| l.metric == self.metric),
        }
    }
}

fn is_same(a: Bound, b: Bound) -> bool {
    a.operator == b.operator && (a.value - b.value).abs() <= 1e-9 * a.value.abs().max(b.value.abs())
}

/// Why a file of seed rows cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct SeedError {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub message: String,
}

/// Reads the rows of a CSV file with the columns seed, system, `original_test`, crate, benchmark, metric, limit, remark.
///
/// # Errors
/// [`SeedError`] for the first line that is not such a row.
pub fn parse(text: &str) -> Result<Vec<SeedRow>, SeedError> {
    const COLUMNS: [&str; 8] = ["seed", "system", "original_test", "crate", "benchmark", "metric", "limit", "remark"];
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let malformed = |error: &csv::Error| SeedError {
        line: error.position().map_or(1, csv::Position::line),
        message: error.to_string(),
    };
    let header = reader.headers().map_err(|error| malformed(&error))?;
    if header.iter().ne(COLUMNS) {
        return Err(SeedError { line: 1, message: format!("the columns are {}", COLUMNS.join(",")) });
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| malformed(&error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let field = |index: usize| record.get(index).unwrap_or_default().to_owned();
        let metric = field(5).parse::<Metric>().map_err(|error| SeedError { line, message: error.to_string() })?;
        rows.push(SeedRow {
            seed: field(0),
            system: field(1),
            original_test: field(2),
            crate_name: field(3),
            benchmark: field(4),
            metric,
            limit: field(6),
            remark: field(7),
        });
    }
    Ok(rows)
}

/// One row and what answers it.
#[derive(Debug, Clone)]
pub struct Coverage<'a> {
    /// The row.
    pub row: &'a SeedRow,
    /// Whether the project answers it.
    pub covered: bool,
    /// Whether it must.
    pub due: bool,
}

/// Which of `rows` the thresholds answer.
#[must_use]
pub fn coverage<'a>(rows: &'a [SeedRow], thresholds: &Thresholds, file: &SeedFile) -> Vec<Coverage<'a>> {
    let is_due = |row: &SeedRow| file.due.iter().any(|pattern| pattern.matches(&row.benchmark));
    let covered = |row: &SeedRow| thresholds.limits_for(&row.benchmark).is_some_and(|limits| row.is_covered_by(limits));
    rows.iter().map(|row| Coverage { row, covered: covered(row), due: is_due(row) }).collect()
}

/// What is wrong between the thresholds and the rows: a name that is no row, a row of another benchmark, a `seed` limit looser
/// than its row.
#[must_use]
pub fn check(rows: &[SeedRow], thresholds: &Thresholds) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut error = |place, message| errors.push(ConfigError { place, path: thresholds.path.clone(), message });
    for limits in &thresholds.benches {
        for (name, place) in &limits.seeds {
            let named: Vec<&SeedRow> = rows.iter().filter(|row| row.name() == *name).collect();
            if named.is_empty() {
                let names: Vec<String> = rows.iter().map(SeedRow::name).collect();
                let hint = did_you_mean(name, names.iter().map(String::as_str));
                let hint = hint.map(|hint| format!("; did you mean `{hint}`?")).unwrap_or_default();
                error(*place, format!("`{name}` names no row of the seed benchmarks{hint}"));
                continue;
            }
            let own: Vec<&SeedRow> =
                named.iter().copied().filter(|row| limits.pattern.matches(&row.benchmark)).collect();
            if own.is_empty() {
                error(*place, format!("`{name}` belongs to {}", named[0].benchmark));
            }
            for row in own {
                let Some(bound) = row.bound() else { continue };
                let of_row = limits.limits.iter().filter(|l| l.class == Class::Seed && l.metric == row.metric);
                for limit in of_row.filter(|limit| !limit.bound.is_at_least_as_tight_as(bound)) {
                    let (ours, theirs) = (limit.bound.display(row.metric), bound.display(row.metric));
                    error(limit.place, format!("the limit {ours} is looser than the seed's {theirs}"));
                }
            }
        }
    }
    errors
}
