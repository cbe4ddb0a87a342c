//! The commands that look and judge nothing anew.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::Project;
use crate::doctor::examine;
use crate::evaluate::{Selection, evaluate};
use crate::outcome::{GateReport, Row};
use crate::seeds::coverage;
use crate::thresholds::{BenchLimits, ConfigError, Thresholds, did_you_mean};
use crate::verdict::ExitStatus;

pub(super) fn refuse(errors: &[ConfigError]) -> io::Result<ExitStatus> {
    for error in errors {
        writeln!(io::stderr(), "error: {error}")?;
    }
    Ok(ExitStatus::Error)
}

/// What the last run says of the limits, in the profile `full` and without a filter.
pub(super) fn last_report(project: &Project, thresholds: &Thresholds) -> Option<(GateReport, BTreeSet<String>)> {
    let (manifest, measurements) = project.last_run()?;
    let known: BTreeSet<String> = manifest.benches.iter().cloned().collect();
    let selection = Selection {
        stale: project.staleness(&manifest),
        known: Some(known.clone()),
        failures: manifest.failures,
        ..Selection::everything(thresholds.profile("full"))
    };
    Some((evaluate(thresholds, &measurements, &selection), known))
}

/// Prints every benchmark with the number of its limits.
///
/// # Errors
/// What writing to `out` says.
pub fn list(project: &Project, out: &mut dyn Write) -> io::Result<ExitStatus> {
    let (thresholds, _) = match project.limits() {
        Ok(limits) => limits,
        Err(errors) => return refuse(&errors),
    };
    let known = last_report(project, &thresholds).map(|(_, known)| known);
    let exact = thresholds.benches.iter().filter(|limits| !limits.pattern.is_glob());
    let exact = exact.map(|limits| limits.pattern.as_str().to_owned());
    let ids: BTreeSet<String> = known.iter().flatten().cloned().chain(exact).collect();
    for id in &ids {
        let limits = thresholds.limits_for(id);
        let count = limits.map_or(0, |limits| limits.limits.len() + limits.versus.len());
        let remark = match &known {
            Some(known) if !known.contains(id) => ", no such benchmark in the last run",
            _ if count == 0 => ", without limits",
            _ => "",
        };
        writeln!(out, "{id:<60} {count} limit{}{remark}", if count == 1 { "" } else { "s" })?;
    }
    if known.is_none() {
        writeln!(out, "no run yet: these are the benchmarks that {} names", thresholds.path.display())?;
    }
    Ok(ExitStatus::Ok)
}

/// Prints where the limits of `bench` come from and what was measured last.
///
/// # Errors
/// What writing to `out` says.
pub fn explain(project: &Project, bench: &str, out: &mut dyn Write) -> io::Result<ExitStatus> {
    let (thresholds, rows) = match project.limits() {
        Ok(limits) => limits,
        Err(errors) => return refuse(&errors),
    };
    let last = last_report(project, &thresholds);
    let Some(limits) = thresholds.limits_for(bench) else {
        let exact = thresholds.benches.iter().map(|limits| limits.pattern.as_str());
        let hint = did_you_mean(bench, exact).map(|hint| format!("; did you mean {hint}?")).unwrap_or_default();
        writeln!(out, "{bench} has no limits in {}{hint}", thresholds.path.display())?;
        return Ok(ExitStatus::Missing);
    };
    writeln!(out, "{bench}")?;
    write_origin(&thresholds, bench, limits, out)?;
    for row in rows.iter().filter(|row| row.benchmark == bench) {
        writeln!(out, "  seed row: {} ({}), {} {}", row.name(), row.system, row.metric, row.limit)?;
        if !row.remark.is_empty() {
            writeln!(out, "    {}", row.remark)?;
        }
    }
    let Some((report, _)) = last else {
        writeln!(out, "  no run yet: `cargo gate {bench}`")?;
        return Ok(ExitStatus::Ok);
    };
    for row in report.rows.iter().filter(|row| row.bench == bench) {
        write_row(row, out)?;
    }
    Ok(ExitStatus::Ok)
}

fn write_origin(thresholds: &Thresholds, bench: &str, limits: &BenchLimits, out: &mut dyn Write) -> io::Result<()> {
    let path = thresholds.path.display();
    writeln!(out, "  limits: [bench.\"{}\"], {path}:{}", limits.pattern.as_str(), limits.place.line)?;
    let others = thresholds.benches.iter().filter(|other| other.place != limits.place && other.pattern.matches(bench));
    for other in others {
        writeln!(out, "    more specific than \"{}\", {path}:{}", other.pattern.as_str(), other.place.line)?;
    }
    if let Some(rationale) = &limits.rationale {
        writeln!(out, "  rationale: {rationale}")?;
    }
    if let Some(waiver) = &limits.waiver {
        writeln!(out, "  waived until {}: {}", waiver.until, waiver.reason)?;
    }
    Ok(())
}

fn write_row(row: &Row, out: &mut dyn Write) -> io::Result<()> {
    let class = row.class.map_or_else(String::new, |class| class.to_string());
    let metric = row.metric.map_or("", |metric| metric.name());
    let line = row.place.map_or(0, |place| place.line);
    writeln!(out, "  {class:<6} {metric} {} (line {line})", row.limit)?;
    if row.estimate.is_some() {
        let headroom = row.headroom.map(|h| format!(", headroom {:.0} %", h * 100.0)).unwrap_or_default();
        writeln!(
            out,
            "    {}: {} {} (source {}, n = {}, {} process{}{headroom})",
            row.verdict,
            row.value_text(),
            row.interval_text(),
            row.source,
            row.samples,
            row.processes,
            if row.processes == 1 { "" } else { "es" },
        )?;
    }
    if !row.reason.is_empty() {
        writeln!(out, "    {}: {}", row.verdict, row.reason)?;
    }
    for note in &row.notes {
        writeln!(out, "    {note}")?;
    }
    Ok(())
}

/// Prints one line a seed row, with what answers it; exits with 3 if one that is due is not answered.
///
/// # Errors
/// What writing to `out` says.
pub fn seeds(project: &Project, out: &mut dyn Write) -> io::Result<ExitStatus> {
    let (thresholds, rows) = match project.limits() {
        Ok(limits) => limits,
        Err(errors) => return refuse(&errors),
    };
    let Some(file) = &thresholds.settings.seeds else {
        writeln!(out, "{} names no seed benchmarks (`[gate] seeds`)", thresholds.path.display())?;
        return Ok(ExitStatus::Ok);
    };
    let last = last_report(project, &thresholds).map(|(report, _)| report);
    let coverage = coverage(&rows, &thresholds, file);
    for entry in &coverage {
        let row = entry.row;
        let found = last.as_ref().and_then(|report| {
            report.rows.iter().find(|found| found.bench == row.benchmark && found.metric == Some(row.metric))
        });
        let state = match (entry.covered, entry.due) {
            (true, _) => "covered",
            (false, true) => "DUE",
            (false, false) => "open",
        };
        let result = found.map_or_else(String::new, |found| format!("{} {}", found.verdict, found.value_text()));
        writeln!(
            out,
            "{state:<8} {} {:<12} {:<50} {:<52} {:<22} {:<34} {result}",
            row.seed, row.system, row.original_test, row.benchmark, row.metric, row.limit
        )?;
    }
    let covered = coverage.iter().filter(|entry| entry.covered).count();
    let due = coverage.iter().filter(|entry| entry.due && !entry.covered).count();
    if due > 0 {
        writeln!(out, "{due} due and not covered")?;
    }
    writeln!(out, "covered {covered} of {}", coverage.len())?;
    Ok(if due > 0 { ExitStatus::Missing } else { ExitStatus::Ok })
}

/// Prints what this machine can measure.
///
/// # Errors
/// What writing to `out` says.
pub fn doctor(project: &Project, out: &mut dyn Write) -> io::Result<ExitStatus> {
    for finding in examine(&project.root) {
        writeln!(out, "{:<8} {:<18} {}", finding.state, finding.subject, finding.detail)?;
    }
    match project.limits() {
        Ok((thresholds, _)) => {
            for line in impossible_limits(&thresholds) {
                writeln!(out, "{:<8} {line}", "absent")?;
            }
            Ok(ExitStatus::Ok)
        }
        Err(errors) => refuse(&errors),
    }
}

/// Limits that no result of this machine can meet.
fn impossible_limits(thresholds: &Thresholds) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let of_speedups = thresholds.benches.iter().flat_map(|bench| {
        bench
            .limits
            .iter()
            .filter(|limit| limit.metric == harness::metric::Metric::ScalingSpeedup)
            .map(move |l| (bench, l))
    });
    of_speedups
        .filter(|(_, limit)| limit.bound.value > cores)
        .map(|(bench, limit)| {
            let bound = limit.bound.display(limit.metric);
            format!("{} asks for a speed-up {bound} of {cores} processors", bench.pattern.as_str())
        })
        .collect()
}
