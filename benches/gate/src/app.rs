//! The commands: parse, collect, judge, render.

mod baselines;
mod first_limits;
mod flamegraph;
mod inspect;
mod peers;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use harness::record::replace_file;

pub use self::baselines::{Compare, compare, save};
pub use self::first_limits::{init, schema};
pub use self::flamegraph::{Profile, profile};
pub use self::inspect::{doctor, explain, list, seeds};
pub use self::peers::{Peers, peers};
use crate::evaluate::{Selection, evaluate};
use crate::manifest::RunManifest;
use crate::measurement::Measurements;
use crate::outcome::GateReport;
use crate::report::{self, Format, Style};
use crate::revision::Revision;
use crate::rivals;
use crate::run::{Run, latest};
use crate::seeds::{SeedRow, check as check_seeds, coverage, parse as parse_seeds};
use crate::source::collect;
use crate::thresholds::{ConfigError, Place, Thresholds};
use crate::verdict::ExitStatus;

/// Most fresh processes of one benchmark: the first, and repeats of what was inconclusive.
const MOST_PROCESSES: u32 = 5;

/// What every command needs to know.
#[derive(Debug, Clone)]
pub struct Project {
    /// The folder of the workspace.
    pub root: PathBuf,
    /// The file of limits.
    pub thresholds: PathBuf,
    /// Where results and reports are.
    pub out: PathBuf,
}

impl Project {
    /// The project around the folder `here`: its root is the nearest folder above that has a `thresholds.toml`, otherwise a
    /// `Cargo.lock`, otherwise `here`.
    #[must_use]
    pub fn around(here: &Path, thresholds: Option<PathBuf>, out: Option<PathBuf>) -> Self {
        let above = |file: &str| here.ancestors().find(|folder| folder.join(file).is_file());
        let wanted = if thresholds.is_some() {
            above("Cargo.lock")
        } else {
            above("thresholds.toml").or_else(|| above("Cargo.lock"))
        };
        let root = wanted.unwrap_or(here).to_owned();
        let (thresholds, out) = (thresholds.map(|file| here.join(file)), out.map(|folder| here.join(folder)));
        let target = target_folder(&root);
        Self {
            thresholds: thresholds.unwrap_or_else(|| root.join("thresholds.toml")),
            out: out.unwrap_or_else(|| target.join("gate")),
            root,
        }
    }

    /// The limits, and the seed rows if the file names some.
    fn limits(&self) -> Result<(Thresholds, Vec<SeedRow>), Vec<ConfigError>> {
        let name = self.thresholds.strip_prefix(&self.root).unwrap_or(&self.thresholds);
        let error = |place, message: String| vec![ConfigError { place, path: name.to_owned(), message }];
        let text = fs::read_to_string(&self.thresholds).map_err(|e| {
            let hint = if e.kind() == io::ErrorKind::NotFound { "; `cargo gate init` makes one" } else { "" };
            error(Place::default(), format!("{e}{hint}"))
        })?;
        let thresholds = Thresholds::parse(&text, name, &today())?;
        let Some(seeds) = &thresholds.settings.seeds else { return Ok((thresholds, Vec::new())) };
        let file = self.thresholds.parent().unwrap_or(Path::new(".")).join(&seeds.file);
        let rows = fs::read_to_string(&file).map_err(|e| e.to_string());
        let rows = rows.and_then(|text| parse_seeds(&text).map_err(|e| e.to_string()));
        let rows = rows.map_err(|e| error(seeds.place, format!("{}: {e}", seeds.file.display())))?;
        let errors = check_seeds(&rows, &thresholds);
        if errors.is_empty() { Ok((thresholds, rows)) } else { Err(errors) }
    }

    /// The state of the sources: everything but the limits and the reports.
    fn revision(&self) -> Revision {
        Revision::of(&self.root, &[&self.thresholds, &self.out])
    }

    /// Why the results of a run do not count any more, if they do not.
    fn staleness(&self, manifest: &RunManifest) -> Option<String> {
        self.staleness_besides(manifest, None)
    }

    /// As [`Project::staleness`], but that the file `besides` may have come since.
    fn staleness_besides(&self, manifest: &RunManifest, besides: Option<&Path>) -> Option<String> {
        let (now, measured) = (self.revision(), manifest.revision());
        let without = |file: &Path| Revision::of(&self.root, &[&self.thresholds, &self.out, file]) == measured;
        let is_same =
            now == measured || besides.is_some_and(|file| std::path::absolute(file).is_ok_and(|f| without(&f)));
        (!is_same).then(|| format!("STALE: measured at {measured}, the sources are at {now}; run `cargo gate`"))
    }

    /// What to say where there is no complete run.
    fn no_run(&self) -> String {
        format!("no complete run in {}: run `cargo gate` first", self.out.display())
    }

    /// The last complete run and the figures of the benchmarks that did not fail.
    fn last_figures(&self) -> Option<(RunManifest, Measurements)> {
        let (manifest, mut measurements) = self.last_run()?;
        let has_failed = |bench: &str| manifest.failures.iter().any(|(failed, _)| failed == bench);
        measurements.figures.retain(|figure| !has_failed(&figure.bench));
        Some((manifest, measurements))
    }

    /// The last complete run and what it measured.
    fn last_run(&self) -> Option<(RunManifest, Measurements)> {
        let folder = latest(&self.out);
        let manifest = RunManifest::read(&folder).filter(|manifest| manifest.completed)?;
        let measurements = collect(&folder, &manifest);
        Some((manifest, measurements))
    }
}

/// The day, for waivers and rationales.
fn today() -> String {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().to_string()
}

/// Where cargo builds the workspace at `root`.
fn target_folder(root: &Path) -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    // Cargo takes a relative one from the folder it is called in, and so do processes that are started elsewhere.
    std::path::absolute(&folder).unwrap_or(folder)
}

/// How to check.
#[derive(Debug, Clone)]
pub struct Check {
    /// `quick`, `full`, or a profile of the file.
    pub profile: String,
    /// A part of an id, or a glob.
    pub filter: Option<String>,
    /// Judge the last complete run instead of measuring.
    pub no_run: bool,
    /// Exit with 4 where there are only warnings.
    pub deny_warnings: bool,
    /// What to print on standard output.
    pub format: &'static Format,
}

/// Runs, judges and reports. All reports are on the disk when this returns.
///
/// # Errors
/// What writing to `out` says.
pub fn check(project: &Project, check: &Check, out: &mut dyn Write) -> io::Result<ExitStatus> {
    let (report, status) = match judged(project, check, false) {
        Ok(report) => {
            let status = report.exit_status(check.deny_warnings);
            (report, status)
        }
        Err(Stop::Config(errors)) => (GateReport::of_config_errors(&errors, &check.profile), ExitStatus::Error),
        Err(Stop::Tool(message)) => {
            eprintln!("error: {message}");
            (GateReport::of_failure(&message, &check.profile), ExitStatus::Error)
        }
        Err(Stop::NoRun(message)) => (GateReport::of_missing_run(&message, &check.profile), ExitStatus::Missing),
    };
    let written = report::write_all(&report, &project.out);
    print(&report, check.format, out)?;
    match written {
        Ok(_) => {
            writeln!(io::stderr(), "reports: {}", project.out.display())?;
            Ok(status)
        }
        Err(error) => {
            writeln!(io::stderr(), "error: {}: {error}", project.out.display())?;
            Ok(ExitStatus::Error)
        }
    }
}

/// Renders the last complete run in the profile and within the filter that it had. Nothing is judged anew: it exits with 0 whatever
/// the verdicts are, and results of other sources are shown with a note. With `file` the report goes there, otherwise to `out`.
///
/// # Errors
/// What writing to `out` says.
pub fn report(
    project: &Project,
    format: &'static Format,
    file: Option<&Path>,
    out: &mut dyn Write,
) -> io::Result<ExitStatus> {
    let Some((manifest, _)) = project.last_run() else {
        return baselines::missing(&project.no_run());
    };
    let check = Check { profile: manifest.profile.clone(), filter: None, no_run: true, deny_warnings: false, format };
    let stale = project.staleness(&manifest);
    let mut report = match judged(project, &check, true) {
        Ok(report) => report,
        Err(Stop::Config(errors)) => return inspect::refuse(&errors),
        Err(Stop::Tool(message)) => return baselines::fail(&message),
        Err(Stop::NoRun(message)) => return baselines::missing(&message),
    };
    report.relaxed.extend(stale);
    let Some(file) = file else {
        print(&report, format, out)?;
        return Ok(ExitStatus::Ok);
    };
    match replace_file(file, format.render(&report).as_bytes()) {
        Ok(()) => Ok(ExitStatus::Ok),
        Err(error) => baselines::fail(&format!("{}: {error}", file.display())),
    }
}

fn print(report: &GateReport, format: &Format, out: &mut dyn Write) -> io::Result<()> {
    if format.name == "term" {
        let coloured = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let style = if coloured { Style::Coloured } else { Style::Plain };
        return out.write_all(report::table(report, style).as_bytes());
    }
    out.write_all(format.render(report).as_bytes())
}

/// Why there is nothing to judge.
enum Stop {
    Config(Vec<ConfigError>),
    Tool(String),
    NoRun(String),
}

/// `judge_stale` looks at results of other sources as if they counted.
fn judged(project: &Project, check: &Check, judge_stale: bool) -> Result<GateReport, Stop> {
    let (thresholds, seeds) = project.limits().map_err(Stop::Config)?;
    if !thresholds.knows_profile(&check.profile) {
        let file = thresholds.path.display();
        return Err(Stop::Tool(format!("no profile `{}`: quick, full, peers, or one of {file}", check.profile)));
    }
    let selection =
        Selection { filter: check.filter.clone(), ..Selection::everything(thresholds.profile(&check.profile)) };
    let (mut report, manifest) = if check.no_run {
        from_last_run(project, &thresholds, selection.clone(), judge_stale)?
    } else {
        from_new_run(project, check, &thresholds, selection.clone())?
    };
    add_uncovered(&mut report, &thresholds, &seeds, &selection);
    report.rivals = rivals::read(&project.out);
    report.warnings.extend(report.rivals.problems.iter().cloned());
    report.revision = Some(manifest.revision().to_string());
    report.env = Some(manifest.env);
    report.run = Some(manifest.run);
    Ok(report)
}

fn known_of(manifest: &RunManifest) -> BTreeSet<String> {
    manifest.benches.iter().cloned().collect()
}

/// Globs are held against what exists, and against what was measured beside it.
fn check_globs(thresholds: &Thresholds, known: &BTreeSet<String>) -> Result<(), Stop> {
    let errors = thresholds.check_against(known.iter().map(String::as_str));
    if errors.is_empty() { Ok(()) } else { Err(Stop::Config(errors)) }
}

fn from_last_run(
    project: &Project,
    thresholds: &Thresholds,
    selection: Selection,
    judge_stale: bool,
) -> Result<(GateReport, RunManifest), Stop> {
    let Some((manifest, measurements)) = project.last_run() else {
        return Err(Stop::NoRun(project.no_run()));
    };
    let known = known_of(&manifest);
    check_globs(thresholds, &known)?;
    let stale = project.staleness(&manifest).filter(|_| !judge_stale);
    // A run that was limited to a filter is judged within it.
    let filter = selection.filter.clone().or_else(|| manifest.filter.clone());
    let selection = Selection { filter, known: Some(known), failures: manifest.failures.clone(), stale, ..selection };
    let mut report = evaluate(thresholds, &measurements, &selection);
    if let Some(filter) = &manifest.filter {
        report.warnings.push(format!("the last run was limited to `{filter}`"));
    }
    Ok((report, manifest))
}

fn from_new_run(
    project: &Project,
    check: &Check,
    thresholds: &Thresholds,
    mut selection: Selection,
) -> Result<(GateReport, RunManifest), Stop> {
    let tool = |error: crate::run::RunError| Stop::Tool(error.to_string());
    let mut run =
        Run::prepare(&project.root, &project.out, project.revision(), &check.profile, check.filter.as_deref())
            .map_err(tool)?;
    let known = known_of(run.manifest());
    check_globs(thresholds, &known)?;
    selection.known = Some(known);
    run.measure(|bench| selection.selects(bench));
    let judge = |run: &Run, selection: &mut Selection| {
        selection.failures.clone_from(&run.manifest().failures);
        evaluate(thresholds, &collect(run.folder(), run.manifest()), selection)
    };
    let mut report = judge(&run, &mut selection);
    // More samples for what is undecided, from one budget for all.
    let began = Instant::now();
    for attempt in 1..MOST_PROCESSES {
        let undecided = report.undecided();
        if undecided.is_empty() || began.elapsed() >= selection.profile.budget {
            break;
        }
        for bench in undecided {
            if began.elapsed() >= selection.profile.budget {
                break;
            }
            eprintln!("again, for it was inconclusive: {bench}");
            run.repeat(&bench, attempt);
        }
        report = judge(&run, &mut selection);
    }
    let (_, manifest) = run.complete().map_err(tool)?;
    Ok((report, manifest))
}

/// Seed rows that are due and not answered are missing limits.
fn add_uncovered(report: &mut GateReport, thresholds: &Thresholds, seeds: &[SeedRow], selection: &Selection) {
    let Some(file) = &thresholds.settings.seeds else { return };
    let rows = coverage(seeds, thresholds, file);
    let uncovered = rows.iter().filter(|row| row.due && !row.covered && selection.selects(&row.row.benchmark));
    report.add_missing(uncovered.map(|coverage| {
        let row = coverage.row;
        let reason = format!("the seed row `{}` ({}) is due and not answered", row.name(), row.limit);
        (row.benchmark.clone(), row.metric, reason)
    }));
}
