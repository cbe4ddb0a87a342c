//! `init` and `schema`: what a file of limits begins with.

use std::fs;
use std::io::{self, Write};

use harness::record::replace_file;

use super::baselines::{fail, missing};
use super::inspect::refuse;
use super::{Project, today};
use crate::evaluate::{combined_figures, is_only_compared_with};
use crate::init::{Headroom, add_limits};
use crate::measurement::Measurements;
use crate::thresholds::Thresholds;
use crate::verdict::ExitStatus;

/// What a new file begins with.
const BEGINNING: &str = "# Limits that `cargo gate` holds every measured result against, one table a benchmark. `cargo gate init` adds \
                         limits for what was measured\n# and has none; `cargo gate schema` describes the file to an editor.\nversion = 1\n";

/// Adds limits to the file of limits for every benchmark of the last complete run that has none, `headroom` away from what was
/// measured; what stands in the file stays as it is. Makes the file where there is none.
///
/// # Errors
/// What writing to `out` says.
pub fn init(project: &Project, headroom: Headroom, out: &mut dyn Write) -> io::Result<ExitStatus> {
    let path = &project.thresholds;
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => BEGINNING.to_owned(),
        Err(error) => return fail(&format!("{}: {error}", path.display())),
    };
    let thresholds = match Thresholds::parse(&text, path, &today()) {
        Ok(thresholds) => thresholds,
        Err(errors) => return refuse(&errors),
    };
    let is_new = !path.exists();
    let (measurements, problem) = match project.last_figures() {
        None => (Measurements::default(), Some(project.no_run())),
        Some((manifest, measurements)) => match project.staleness(&manifest) {
            None => (measurements, None),
            Some(stale) => (Measurements::default(), Some(stale)),
        },
    };
    let mut figures = combined_figures(&measurements);
    figures.retain(|figure| {
        thresholds.limits_for(&figure.bench).is_none()
            && !is_only_compared_with(&thresholds, &measurements, &figure.bench)
    });
    let added = match add_limits(&text, &figures, headroom, &today()) {
        Ok(added) => added,
        Err(error) => return fail(&format!("{}: {error}", path.display())),
    };
    // What is written can be read again: names that mean something else in the file are left out.
    if let Err(errors) = Thresholds::parse(&added.text, path, &today()) {
        return refuse(&errors);
    }
    if (!added.benches.is_empty() || is_new)
        && let Err(error) = replace_file(path, added.text.as_bytes())
    {
        return fail(&format!("{}: {error}", path.display()));
    }
    for (bench, limits) in &added.benches {
        writeln!(out, "{bench:<60} {limits}")?;
    }
    for bench in &added.left_out {
        writeln!(io::stderr(), "note: {bench} would be a glob in the file, and has no limits")?;
    }
    match problem {
        Some(problem) if is_new => {
            writeln!(out, "made {}; {problem}, then `cargo gate init` again", path.display())?;
            Ok(ExitStatus::Ok)
        }
        Some(problem) => missing(&problem),
        None => {
            writeln!(out, "{} benchmarks have limits now that had none, in {}", added.benches.len(), path.display())?;
            Ok(ExitStatus::Ok)
        }
    }
}

/// Prints the JSON schema of the file of limits.
///
/// # Errors
/// What writing to `out` says.
pub fn schema(out: &mut dyn Write) -> io::Result<ExitStatus> {
    writeln!(out, "{:#}", Thresholds::schema())?;
    Ok(ExitStatus::Ok)
}
