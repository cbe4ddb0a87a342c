//! Where results come from: each source turns files into figures, or into problems that say why there are none.

pub mod criterion;
pub mod measurement;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::manifest::RunManifest;
use crate::measurement::{Measurements, Problem, ProblemKind};

/// Everything that a run left in `folder`, its repeats included.
#[must_use]
pub fn collect(folder: &Path, manifest: &RunManifest) -> Measurements {
    let mut found = Measurements::default();
    let started = UNIX_EPOCH + Duration::from_millis(manifest.started_unix_ms);
    for attempt in attempts(folder) {
        let proved = measurement::collect(&attempt, &manifest.run, &mut found);
        let mut results = Measurements::default();
        criterion::collect(&attempt.join("criterion"), started, &mut results);
        // Criterion does not know whether the work was done; the proof stands beside its result.
        let (kept, unproved): (Vec<_>, Vec<_>) =
            results.summaries.into_iter().partition(|summary| proved.contains(&summary.bench));
        results.figures.retain(|figure| proved.contains(&figure.bench));
        found.problems.extend(unproved.into_iter().map(|summary| Problem {
            bench: summary.bench,
            metric: None,
            kind: ProblemKind::Missing,
            reason: "unproved: criterion's result has no proof beside it (`harness::timed` writes one)".to_owned(),
        }));
        found.figures.extend(results.figures);
        found.summaries.extend(kept);
        found.problems.extend(results.problems);
    }
    found
}

/// The run's own folder and those of its repeats, in order.
fn attempts(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_repeat = |path: &PathBuf| {
        path.is_dir() && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("repeat-"))
    };
    let mut repeats: Vec<PathBuf> = entries.filter(is_repeat).collect();
    repeats.sort();
    [vec![folder.to_owned()], repeats].concat()
}
