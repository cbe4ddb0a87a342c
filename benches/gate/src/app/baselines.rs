//! `save` and `compare`: the figures of a run under a name, and what has changed since.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;

use harness::metric::Metric;
use harness::record::replace_file;

use super::Project;
use super::inspect::refuse;
use crate::baseline::{Baseline, BaselineError, Change, Rule, Saved, Worse, compare as changes, path_of};
use crate::evaluate::{Selection, evaluate};
use crate::quantity::Figure;
use crate::thresholds::Profile;
use crate::verdict::{Estimate, ExitStatus, Verdict};

/// A change of time below this is not worth a line of advice, however clear it is.
const WORTH_SAYING: f64 = 0.02;

pub(super) fn fail(error: &dyn std::fmt::Display) -> io::Result<ExitStatus> {
    writeln!(io::stderr(), "error: {error}")?;
    Ok(ExitStatus::Error)
}

pub(super) fn missing(reason: &dyn std::fmt::Display) -> io::Result<ExitStatus> {
    writeln!(io::stderr(), "error: {reason}")?;
    Ok(ExitStatus::Missing)
}

/// Saves the last complete run as the baseline `name`, in place of an older one of that name. A run that misses a limit or
/// lacks a figure, that measured changes which are not committed, or that would take benchmarks away from the old baseline, is refused
/// without `force`; a file that is no baseline is never replaced.
///
/// # Errors
/// What writing to `out` says.
pub fn save(project: &Project, name: &str, force: bool, out: &mut dyn Write) -> io::Result<ExitStatus> {
    let (thresholds, _) = match project.limits() {
        Ok(limits) => limits,
        Err(errors) => return refuse(&errors),
    };
    let path = match path_of(&project.out, name) {
        Ok(path) => path,
        Err(error) => return fail(&error),
    };
    let Some((manifest, measurements)) = project.last_figures() else {
        return missing(&project.no_run());
    };
    if let Some(stale) = project.staleness_besides(&manifest, Some(&path)) {
        return missing(&stale);
    }
    let baseline = Baseline::of(&manifest, &measurements);
    if baseline.figures.is_empty() {
        return missing(&"the last run measured nothing");
    }
    let lost = match Baseline::read(&path) {
        Ok(old) => benches_lost(&old, &baseline),
        Err(BaselineError::Absent { .. }) => 0,
        // It may be anything, a source file for example.
        Err(error) => return fail(&format!("{error}; remove the file to put a baseline in its place")),
    };
    // Within what the run was asked for.
    let selection = Selection {
        filter: manifest.filter.clone(),
        known: Some(manifest.benches.iter().cloned().collect()),
        failures: manifest.failures.clone(),
        ..Selection::everything(thresholds.profile(&manifest.profile))
    };
    let report = evaluate(&thresholds, &measurements, &selection);
    let count = |verdicts: &[Verdict]| report.rows.iter().filter(|row| verdicts.contains(&row.verdict)).count();
    let (missed, absent) = (count(&[Verdict::Fail, Verdict::Error]), count(&[Verdict::Missing]));
    let against = [
        (missed, "limits missed"),
        (absent, "figures missing"),
        (manifest.failures.len(), "benchmarks failed"),
        (usize::from(manifest.dirty.is_some()), "changes not committed"),
        (lost, "benchmarks of the old baseline not measured"),
    ];
    let against: Vec<String> =
        against.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{what}: {count}")).collect();
    if !against.is_empty() && !force {
        return fail(&format!("not saved ({}); --force saves it all the same", against.join(", ")));
    }
    match baseline.write(&path) {
        Ok(()) => {
            writeln!(out, "saved {} figures of run {} as {}", baseline.figures.len(), baseline.run, path.display())?;
            Ok(ExitStatus::Ok)
        }
        Err(error) => fail(&error),
    }
}

/// How many benchmarks of `old` are not in `new`.
fn benches_lost(old: &Baseline, new: &Baseline) -> usize {
    let benches = |baseline: &Baseline| -> BTreeSet<String> {
        baseline.figures.iter().map(|saved| saved.bench.clone()).collect()
    };
    benches(old).difference(&benches(new)).count()
}

/// What to compare with, and what is too much.
#[derive(Debug, Clone, Default)]
pub struct Compare {
    /// Name of the baseline, or its path.
    pub name: String,
    /// By how much a statistic may be worse.
    pub rules: Vec<Rule>,
    /// Where every change goes as a row of JSON.
    pub json: Option<PathBuf>,
}

/// Holds the last complete run against a baseline: time is advice unless there are rules, what is counted binds.
///
/// # Errors
/// What writing to `out` says.
pub fn compare(project: &Project, compare: &Compare, out: &mut dyn Write) -> io::Result<ExitStatus> {
    let path = match path_of(&project.out, &compare.name) {
        Ok(path) => path,
        Err(error) => return fail(&error),
    };
    let before = match Baseline::read(&path) {
        Ok(baseline) => baseline,
        Err(error) => return fail(&error),
    };
    let Some((manifest, measurements)) = project.last_figures() else {
        return missing(&project.no_run());
    };
    if let Some(stale) = project.staleness_besides(&manifest, Some(&path)) {
        return missing(&stale);
    }
    let commit = before.commit.as_deref().map_or("no commit", |commit| commit.get(..12).unwrap_or(commit));
    let changed = if before.dirty.is_some() { " with changes" } else { "" };
    writeln!(out, "{}: run {}, {commit}{changed}", path.display(), before.run)?;
    for difference in before.differences(&manifest.env) {
        writeln!(out, "note: {difference}")?;
    }
    if before.profile != manifest.profile {
        writeln!(out, "note: profile {} then, {} now", before.profile, manifest.profile)?;
    }
    if compare.rules.iter().any(|rule| rule.metric == Metric::LatencyMax) {
        writeln!(out, "note: a maximum is one operation; a rule on it fires on noise")?;
    }
    // A run that was limited to a filter is compared within it.
    let filter = manifest.filter.clone();
    let selection = Selection { filter, ..Selection::everything(Profile::default_for("full")) };
    let figures: Vec<Saved> = before.figures.iter().filter(|saved| selection.selects(&saved.bench)).cloned().collect();
    if let Some(filter) = &manifest.filter {
        writeln!(out, "note: the last run was limited to `{filter}`")?;
    }
    if let Some(filter) = &before.filter {
        writeln!(out, "note: the baseline was limited to `{filter}`")?;
    }
    if figures.is_empty() {
        return missing(&"the baseline has nothing of what the last run was limited to");
    }
    let now = Saved::of(&measurements);
    let mut changes = changes(&figures, &now, &compare.rules, before.build(&manifest.env));
    let is_gone = |bench: &String| {
        !manifest.benches.contains(bench) || manifest.failures.iter().any(|(failed, _)| failed == bench)
    };
    for change in changes.iter_mut().filter(|change| change.after.is_none() && is_gone(&change.bench)) {
        change.verdict = Some(Verdict::Missing);
    }
    let unused: Vec<&Rule> =
        compare.rules.iter().filter(|rule| !before.figures.iter().any(|saved| rule.is_about(saved.metric))).collect();
    write_changes(&changes, out)?;
    for rule in &unused {
        writeln!(out, "{:<13}the baseline has no {}", Verdict::Missing.word(), rule.metric)?;
    }
    let new = now.iter().filter(|new| !before.figures.iter().any(|old| old.bench == new.bench)).count();
    write_summary(&changes, new, out)?;
    if let Some(json) = &compare.json {
        let rows: Vec<serde_json::Value> = changes.iter().map(row).collect();
        let written =
            serde_json::to_vec_pretty(&rows).map_err(io::Error::from).and_then(|text| replace_file(json, &text));
        if let Err(error) = written {
            return fail(&format!("{}: {error}", json.display()));
        }
    }
    let unused = if unused.is_empty() { ExitStatus::Ok } else { ExitStatus::Missing };
    let of = |change: &Change| match change.verdict {
        Some(Verdict::Fail) => ExitStatus::Failed,
        Some(Verdict::Error) => ExitStatus::Error,
        Some(Verdict::Missing | Verdict::Inconclusive) => ExitStatus::Missing,
        _ => ExitStatus::Ok,
    };
    Ok(changes.iter().map(of).fold(unused, ExitStatus::worse))
}

/// What fails or cannot be told, then advice by how much worse it is; what holds and what is the same has no line.
fn write_changes(changes: &[Change], out: &mut dyn Write) -> io::Result<()> {
    let is_told = |change: &&Change| match change.verdict {
        Some(verdict) => verdict != Verdict::Pass,
        None => change.is_clear() && change.share.is_none_or(|share| share.value.abs() >= WORTH_SAYING),
    };
    let mut told: Vec<&Change> = changes.iter().filter(is_told).collect();
    let permille = |change: &Change| change.share.map_or(i64::MAX, |share| (share.value * 1e3) as i64);
    told.sort_by_key(|change| (change.verdict.is_none(), change.verdict, Reverse(permille(change))));
    for change in told {
        let word = match change.verdict {
            Some(verdict) => verdict.word(),
            None if change.worse.is_some_and(|worse| worse.value > 0.0) => "worse?",
            None => "better?",
        };
        writeln!(out, "{word:<13}{:<52} {:<18} {}", change.bench, change.metric, in_words(change))?;
    }
    Ok(())
}

/// `149 ns -> 181 ns, 21.5 % [19.0 %, 24.0 %] worse, at most 10 %`.
fn in_words(change: &Change) -> String {
    let figure = |value: f64| Figure(value, change.metric.dimension()).to_string();
    let before = figure(change.before);
    let Some(after) = change.after else { return format!("{before} -> not measured") };
    let by = change.share.map_or_else(String::new, |Estimate { lo, value, hi }| {
        let (sign, word) = if value < 0.0 { (-100.0, "better") } else { (100.0, "worse") };
        let (lo, hi) = (f64::min(lo * sign, hi * sign), f64::max(lo * sign, hi * sign));
        let interval = if lo < hi { format!(" [{lo:.1} %, {hi:.1} %]") } else { String::new() };
        format!(", {:.1} %{interval} {word}", value * sign)
    });
    let most = match change.most {
        Some(Worse::Share(share)) => format!(", at most {} %", share * 100.0),
        Some(Worse::Amount(amount)) => format!(", at most {}", figure(amount)),
        None => String::new(),
    };
    format!("{before} -> {}{by}{most}", figure(after))
}

fn write_summary(changes: &[Change], new: usize, out: &mut dyn Write) -> io::Result<()> {
    let judged = changes.iter().filter(|change| change.verdict.is_some()).count();
    let holding = changes.iter().filter(|change| change.verdict == Some(Verdict::Pass)).count();
    let advice = changes.len() - judged;
    let gone = changes.iter().filter(|change| change.verdict.is_none() && change.after.is_none()).count();
    write!(out, "{} figures: {judged} judged, of which {holding} hold; {advice} for advice", changes.len())?;
    if gone > 0 {
        write!(out, ", of which {gone} were not measured now")?;
    }
    if new > 0 {
        write!(out, "; {new} of benchmarks that the baseline does not have")?;
    }
    writeln!(out)
}

fn row(change: &Change) -> serde_json::Value {
    let interval = |e: Estimate| serde_json::json!({ "lo": e.lo, "value": e.value, "hi": e.hi });
    serde_json::json!({
        "benchmark": change.bench,
        "metric": change.metric,
        "unit": change.metric.unit(),
        "before": change.before,
        "after": change.after,
        "worse_by": change.worse.map(interval),
        "share": change.share.map(interval),
        "verdict": change.verdict.map(Verdict::word),
    })
}
