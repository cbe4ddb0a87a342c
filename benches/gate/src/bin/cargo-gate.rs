//! `cargo gate`: parse, call, exit.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use gate::app::{self, Check, Compare, Peers, Profile, Project};
use gate::baseline::{Rule, parse_rules};
use gate::init::Headroom;
use gate::report::{FORMATS, Format};
use gate::run::TIME_LIMIT;
use gate::verdict::ExitStatus;

/// Runs the benchmark suites, holds every result against thresholds.toml, reports, and exits so that CI can act.
///
/// Exit codes: 0 every limit is met; 1 a limit is missed; 2 a file, the command line or a result is wrong; 3 something is missing,
/// stale or inconclusive; 4 warnings under --deny-warnings.
#[derive(Parser)]
#[command(name = "cargo gate", version, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    check: CheckArguments,
}

#[derive(Subcommand)]
enum Command {
    /// Run, judge and report: what `cargo gate` does without a command
    Check(CheckArguments),
    /// Every benchmark with the number of its limits
    List(Files),
    /// The limits of a benchmark, where they come from, and its last result
    Explain {
        /// Benchmark id
        id: String,
        #[command(flatten)]
        files: Files,
    },
    /// What this machine can and cannot measure
    Doctor(Files),
    /// A component beside its rivals, in fresh processes that take turns; builds the workspace benches/peers
    Peers {
        /// The component, a folder of benches/peers
        name: String,
        /// Only works whose name holds this text
        #[arg(long, value_name = "TEXT")]
        work: Option<String>,
        /// Write the comparisons as JSON rows
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Exit with 3 where a rival is absent
        #[arg(long)]
        strict: bool,
        /// Stop a process that takes longer
        #[arg(long, value_name = "SECONDS", default_value_t = TIME_LIMIT.as_secs(), value_parser = clap::value_parser!(u64).range(1..))]
        time_limit: u64,
        #[command(flatten)]
        files: Files,
    },
    /// Which benchmarks of the replaced systems are answered
    Seeds(Files),
    /// Keep the figures of the last run under a name
    Save {
        /// Name of the baseline, or the path of a file
        name: String,
        /// Also where the run misses a limit or measured changes that are not committed
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        files: Files,
    },
    /// What has changed since a baseline: time is advice unless --fail is given, what is counted binds
    Compare {
        /// Name of the baseline, or the path of a file
        name: String,
        /// How much worse a statistic may be: mean:10%,p99:15% or mean:5us
        #[arg(long, value_name = "RULES", value_parser = rules)]
        fail: Option<Rules>,
        /// Write every change as a row of JSON
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        #[command(flatten)]
        files: Files,
    },
    /// Add limits for every benchmark of the last run that has none
    Init {
        /// How far the limits stand from what was measured
        #[arg(long, value_name = "TIMES", default_value = "2x")]
        headroom: Headroom,
        #[command(flatten)]
        files: Files,
    },
    /// A flamegraph of a benchmark
    Profile {
        /// Benchmark id
        id: String,
        /// For how long
        #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=300))]
        time: u32,
        #[command(flatten)]
        files: Files,
    },
    /// The last run as a report; judges nothing anew
    Report {
        /// In which form
        #[arg(long, default_value = "term", value_parser = format_named)]
        format: &'static Format,
        /// Where it goes [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        files: Files,
    },
    /// The JSON schema of thresholds.toml
    Schema,
}

/// The rules of one `--fail`.
#[derive(Debug, Clone)]
struct Rules(Vec<Rule>);

fn rules(text: &str) -> Result<Rules, String> {
    parse_rules(text).map(Rules)
}

#[derive(Args)]
struct Files {
    /// The file of limits [default: the nearest thresholds.toml above]
    #[arg(long, value_name = "FILE")]
    thresholds: Option<PathBuf>,
    /// Where results and reports go [default: target/gate]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct CheckArguments {
    /// Only benchmarks whose id holds this text, or matches this glob
    filter: Option<String>,
    /// Judge the last complete run; stale if the sources have changed since
    #[arg(long)]
    no_run: bool,
    /// How much time to take: quick, full, or a profile of the file
    #[arg(long, default_value = "full")]
    profile: String,
    /// Exit with 4 where there are only warnings
    #[arg(long)]
    deny_warnings: bool,
    /// What to print
    #[arg(long, default_value = "term", value_parser = format_named)]
    format: &'static Format,
    #[command(flatten)]
    files: Files,
}

fn format_named(name: &str) -> Result<&'static Format, String> {
    Format::named(name).ok_or_else(|| {
        let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
        format!("one of {}", names.join(", "))
    })
}

impl Files {
    fn project(self) -> io::Result<Project> {
        Ok(Project::around(&std::env::current_dir()?, self.thresholds, self.out))
    }
}

fn main() -> ExitCode {
    // As `cargo gate …` by an alias the words follow directly; as a cargo command they follow the command's own name.
    let words = std::env::args_os().enumerate().filter(|(at, word)| *at != 1 || word != "gate").map(|(_, word)| word);
    let status = run(CommandLine::parse_from(words)).unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::BrokenPipe {
            let _ = writeln!(io::stderr(), "error: {error}");
        }
        ExitStatus::Error
    });
    ExitCode::from(status as u8)
}

fn run(line: CommandLine) -> io::Result<ExitStatus> {
    let mut out = io::stdout().lock();
    let status = match line.command.unwrap_or(Command::Check(line.check)) {
        Command::Check(CheckArguments { filter, no_run, profile, deny_warnings, format, files }) => {
            app::check(&files.project()?, &Check { profile, filter, no_run, deny_warnings, format }, &mut out)
        }
        Command::List(files) => app::list(&files.project()?, &mut out),
        Command::Explain { id, files } => app::explain(&files.project()?, &id, &mut out),
        Command::Doctor(files) => app::doctor(&files.project()?, &mut out),
        Command::Peers { name, work, json, strict, time_limit, files } => {
            let time_limit = Duration::from_secs(time_limit);
            app::peers(&files.project()?, &Peers { component: name, work, json, strict, time_limit }, &mut out)
        }
        Command::Seeds(files) => app::seeds(&files.project()?, &mut out),
        Command::Save { name, force, files } => app::save(&files.project()?, &name, force, &mut out),
        Command::Compare { name, fail, json, files } => {
            let rules = fail.map_or_else(Vec::new, |Rules(rules)| rules);
            app::compare(&files.project()?, &Compare { name, rules, json }, &mut out)
        }
        Command::Init { headroom, files } => app::init(&files.project()?, headroom, &mut out),
        Command::Profile { id, time, files } => {
            app::profile(&files.project()?, &Profile { bench: id, seconds: time }, &mut out)
        }
        Command::Report { format, output, files } => {
            app::report(&files.project()?, format, output.as_deref(), &mut out)
        }
        Command::Schema => app::schema(&mut out),
    }?;
    out.flush()?;
    Ok(status)
}
