//! `peers`: our component beside its rivals.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use harness::metric::{Dimension, Metric};
use harness::record::{Replication, replace_file};

use super::{Project, target_folder};
use crate::contest::{Comparison, Contest};
use crate::evaluate::{Selection, evaluate};
use crate::measurement::{Measurements, PairedRatio};
use crate::outcome::{GateReport, Row};
use crate::quantity::Figure;
use crate::rivals::{Rival, keep};
use crate::thresholds::{ConfigError, Thresholds, UnknownBench};
use crate::verdict::{ExitStatus, Verdict};

/// How to compare.
#[derive(Debug, Clone)]
pub struct Peers {
    /// The component, a folder of `benches/peers`.
    pub component: String,
    /// Only works whose name holds this text.
    pub work: Option<String>,
    /// Where to write the comparisons as JSON.
    pub json: Option<PathBuf>,
    /// Whether an absent rival fails.
    pub strict: bool,
    /// How long a process may take before it is stopped.
    pub time_limit: Duration,
}

/// Measures a component against its rivals, prints the ratios, and judges the limits that name them.
///
/// # Errors
/// What writing to `out` says.
pub fn peers(project: &Project, peers: &Peers, out: &mut dyn Write) -> io::Result<ExitStatus> {
    let thresholds = match project.limits() {
        Ok((thresholds, _)) => limits_against(&peers.component, thresholds),
        Err(errors) => return super::inspect::refuse(&errors),
    };
    let workspace = project.root.join("benches").join("peers");
    let target = target_folder(&project.root).join("peers");
    let contest = match Contest::prepare(&workspace, &peers.component, &target, &project.out, peers.time_limit) {
        Ok(contest) => contest,
        Err(error) => return super::baselines::fail(&error),
    };
    let strangers = strangers(&thresholds, &peers.component, &contest);
    if !strangers.is_empty() {
        return super::inspect::refuse(&strangers);
    }
    let selects = |work: &str| peers.work.as_deref().is_none_or(|part| work.contains(part));
    let run = contest.run(selects, |comparison| {
        let report = judge(&thresholds, &peers.component, std::slice::from_ref(comparison), peers.strict);
        row_of(&report, &peers.component, comparison).is_some_and(|row| row.verdict == Verdict::Inconclusive)
    });
    let comparisons = match run {
        Ok(comparisons) => comparisons,
        Err(error) => return super::baselines::fail(&error),
    };
    if comparisons.is_empty() {
        writeln!(io::stderr(), "error: no work of {} is selected", peers.component)?;
        return Ok(ExitStatus::Missing);
    }
    let report = judge(&thresholds, &peers.component, &comparisons, peers.strict);
    print(&report, &peers.component, &comparisons, out)?;
    let rivals = rivals(&report, &peers.component, &comparisons, &project.revision().to_string());
    let mut written = vec![(project.out.clone(), keep(&project.out, &peers.component, &rivals, peers.work.is_none()))];
    if let Some(file) = &peers.json {
        let text = serde_json::to_string_pretty(&rivals)?;
        written.push((file.clone(), replace_file(file, format!("{text}\n").as_bytes())));
    }
    for (path, result) in written {
        if let Err(error) = result {
            writeln!(io::stderr(), "error: {}: {error}", path.display())?;
            return Ok(ExitStatus::Error);
        }
    }
    let absent = peers.strict && comparisons.iter().any(|comparison| comparison.outcome.is_err());
    // Without a limit there is nothing to miss.
    let status = if report.rows.is_empty() { ExitStatus::Ok } else { report.exit_status(false) };
    Ok(if absent { status.worse(ExitStatus::Missing) } else { status })
}

/// The limits that name rivals of `component`, and nothing else.
fn limits_against(component: &str, mut thresholds: Thresholds) -> Thresholds {
    let prefix = format!("peers/{component}/");
    for bench in &mut thresholds.benches {
        bench.limits.clear();
        bench.versus.retain(|versus| versus.of.starts_with(&prefix));
    }
    thresholds.benches.retain(|bench| !bench.versus.is_empty());
    thresholds.settings.unknown_bench = UnknownBench::Ignore;
    thresholds
}

/// Limits against rivals or works that are not there: nobody would ever judge them.
fn strangers(thresholds: &Thresholds, component: &str, contest: &Contest) -> Vec<ConfigError> {
    let limits = thresholds.benches.iter().flat_map(|bench| &bench.versus);
    let unknown = limits.filter_map(|versus| {
        let (work, peer) = versus.of.strip_prefix(&format!("peers/{component}/"))?.rsplit_once('/')?;
        let message = format!("no rival `{peer}` of {component} does {work}");
        (!contest.has(work, peer)).then(|| ConfigError { place: versus.place, path: thresholds.path.clone(), message })
    });
    unknown.collect()
}

fn judge(thresholds: &Thresholds, component: &str, comparisons: &[Comparison], strict: bool) -> GateReport {
    let mut thresholds = thresholds.clone();
    let is_compared = |of: &str| comparisons.iter().any(|comparison| id(component, comparison) == of);
    for bench in &mut thresholds.benches {
        bench.versus.retain(|versus| is_compared(&versus.of));
    }
    thresholds.settings.missing_fails = strict;
    let paired = comparisons.iter().filter_map(|comparison| {
        let found = comparison.outcome.as_ref().ok()?;
        Some(PairedRatio {
            bench: format!("{component}/{}", comparison.work),
            of: id(component, comparison),
            metric: Metric::LatencyMean,
            ratio: found.ratio,
            ci: found.interval,
            n: Replication { builds: 1, processes: 2 * found.pairs, samples: found.pairs },
        })
    });
    let measurements = Measurements { paired: paired.collect(), ..Measurements::default() };
    let mut report = evaluate(&thresholds, &measurements, &Selection::everything(thresholds.profile("peers")));
    for comparison in comparisons {
        if let (Err(reason), Some(place)) = (&comparison.outcome, place_of(&report, component, comparison)) {
            report.rows[place].reason.clone_from(reason);
        }
    }
    report
}

fn id(component: &str, comparison: &Comparison) -> String {
    format!("peers/{component}/{}/{}", comparison.work, comparison.peer)
}

fn place_of(report: &GateReport, component: &str, comparison: &Comparison) -> Option<usize> {
    let suffix = format!(" {}", id(component, comparison));
    report.rows.iter().position(|row| row.limit.ends_with(&suffix))
}

fn row_of<'r>(report: &'r GateReport, component: &str, comparison: &Comparison) -> Option<&'r Row> {
    place_of(report, component, comparison).map(|place| &report.rows[place])
}

fn print(report: &GateReport, component: &str, comparisons: &[Comparison], out: &mut dyn Write) -> io::Result<()> {
    // Only where somebody records a share.
    let has_shares = comparisons.iter().any(|found| found.outcome.as_ref().is_ok_and(|found| found.success.is_some()));
    let shares = |ours: &str, theirs: &str| if has_shares { format!("{ours:>7} {theirs:>7}  ") } else { String::new() };
    writeln!(
        out,
        "{:<22} {:<15} {:>9} {:>9}  {}{:<26} {:<13} limit",
        "work",
        "peer",
        "ours",
        "theirs",
        shares("right", "theirs"),
        "ratio (above 1: ours)",
        "verdict"
    )?;
    for comparison in comparisons {
        let row = row_of(report, component, comparison);
        let limit = row.map_or("none", |row| row.limit.split(" peers/").next().unwrap_or_default());
        let Comparison { work, peer, outcome } = comparison;
        match outcome {
            Ok(found) => {
                let time = |nanoseconds| Figure(nanoseconds, Dimension::Time).to_string();
                let ratio = format!("{:.2} [{:.2}, {:.2}]", found.ratio, found.interval.lo, found.interval.hi);
                let (ours, theirs) = (time(found.ours), time(found.theirs));
                let verdict = row.map_or("", |row| row.verdict.word());
                let share =
                    |share: Option<f64>| share.map_or_else(String::new, |share| format!("{:.1} %", share * 100.0));
                let [right, their_right] = [0, 1].map(|side| share(found.success.map(|shares| shares[side])));
                let right = shares(&right, &their_right);
                writeln!(out, "{work:<22} {peer:<15} {ours:>9} {theirs:>9}  {right}{ratio:<26} {verdict:<13} {limit}")?;
            }
            Err(reason) => writeln!(out, "{work:<22} {peer:<15} MISSING: {reason}")?,
        }
    }
    let counts = report.counts();
    let words = counts.iter().filter(|(_, count)| **count > 0).map(|(verdict, count)| format!("{count} {verdict}"));
    if report.rows.is_empty() {
        return writeln!(out, "\nno limit of {} names a rival of {component}", report.thresholds);
    }
    writeln!(out, "\n{} (limits against rivals in {})", words.collect::<Vec<_>>().join(", "), report.thresholds)
}

fn rivals(report: &GateReport, component: &str, comparisons: &[Comparison], revision: &str) -> Vec<Rival> {
    let rival = |comparison: &Comparison| {
        let found = comparison.outcome.as_ref().ok();
        let row = row_of(report, component, comparison);
        let limit = row.and_then(|row| row.limit.split(" peers/").next());
        Rival {
            work: comparison.work.clone(),
            peer: comparison.peer.clone(),
            ours: found.map(|found| found.ours),
            theirs: found.map(|found| found.theirs),
            unit: "ns".to_owned(),
            ratio: found.map(|found| found.ratio),
            interval: found.map(|found| [found.interval.lo, found.interval.hi]),
            success: found.and_then(|found| found.success),
            missing: comparison.outcome.as_ref().err().cloned(),
            limit: limit.map(str::to_owned),
            verdict: row.map(|row| row.verdict.word().to_owned()),
            revision: revision.to_owned(),
        }
    };
    comparisons.iter().map(rival).collect()
}
