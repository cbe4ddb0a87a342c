//! `profile`: where a benchmark spends its time, as a flamegraph.

use std::fs;
use std::io::{self, Write};

use super::Project;
use super::baselines::{fail, missing};
use crate::flamegraph::{Flamegraph, hottest};
use crate::run;
use crate::thresholds::did_you_mean;
use crate::verdict::ExitStatus;

/// What to profile.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Benchmark id.
    pub bench: String,
    /// For how many seconds.
    pub seconds: u32,
}

/// How many functions are named on the terminal.
const NAMED: usize = 10;

/// Runs a benchmark under a sampling profiler, writes `<out>/profiles/<id>.svg` and prints the functions that took the most time
/// themselves.
///
/// # Errors
/// What writing to `out` says.
pub fn profile(project: &Project, profile: &Profile, out: &mut dyn Write) -> io::Result<ExitStatus> {
    let bench = &profile.bench;
    let entries = match run::entries(&project.root) {
        Ok(entries) => entries,
        Err(error) => return fail(&error),
    };
    let candidates: Vec<_> = entries.iter().filter(|entry| entry.bench == *bench).collect();
    if candidates.is_empty() {
        let hint = did_you_mean(bench, entries.iter().map(|entry| entry.bench.as_str()));
        return missing(&format!(
            "no benchmark is called {bench}{}",
            hint.map_or_else(String::new, |hint| format!("; did you mean {hint}?"))
        ));
    }
    let folder = project.out.join("profiles");
    let mut refusals = Vec::new();
    for entry in candidates {
        match Flamegraph::of(entry, profile.seconds, &folder) {
            Ok(flamegraph) => return show(&flamegraph, out),
            Err(reason) => refusals.push(reason),
        }
    }
    fail(&format!("{bench}: {}", refusals.join("; ")))
}

fn show(flamegraph: &Flamegraph, out: &mut dyn Write) -> io::Result<ExitStatus> {
    writeln!(out, "{}", flamegraph.svg.display())?;
    writeln!(out, "{} (folded stacks, for other viewers)", flamegraph.stacks.display())?;
    let text = fs::read_to_string(&flamegraph.stacks)?;
    let (total, functions) = hottest(&text);
    writeln!(out, "{total} samples; by what a function took itself:")?;
    for (function, samples) in functions.iter().take(NAMED) {
        writeln!(out, "{:>6.1} %  {function}", *samples as f64 * 100.0 / total.max(1) as f64)?;
    }
    Ok(ExitStatus::Ok)
}
