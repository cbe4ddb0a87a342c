//! What this machine can measure and what it cannot, found out by trying.

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use harness::environment::{Environment, Noise};

use crate::revision::Revision;

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub subject: &'static str,
    /// Whether it serves.
    pub state: State,
    /// What was seen and what follows.
    pub detail: String,
}

/// Whether something serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It serves.
    Good,
    /// It serves with the limits that the detail names.
    Limited,
    /// What needs it is MISSING on this machine.
    Absent,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "good",
            Self::Limited => "limited",
            Self::Absent => "absent",
        })
    }
}

/// Looks at the machine and at the workspace in `workspace`. Takes about a second.
#[must_use]
pub fn examine(workspace: &Path) -> Vec<Finding> {
    vec![
        machine(),
        clock(),
        parallelism(),
        neighbours(),
        memory(),
        counters(),
        callgrind(),
        criterion(),
        revision(workspace),
    ]
}

fn finding(subject: &'static str, state: State, detail: impl Into<String>) -> Finding {
    Finding { subject, state, detail: detail.into() }
}

fn machine() -> Finding {
    let env = Environment::current();
    let detail = format!("{}, {} processors, kernel {}, {}", env.cpu, env.cores, env.kernel, env.rustc);
    let state = if env.profile == "release" { State::Good } else { State::Limited };
    let build = if state == State::Good { String::new() } else { format!("; this gate is a {} build", env.profile) };
    finding("machine", state, detail + &build)
}

fn clock() -> Finding {
    let cost = harness::timer_cost();
    let least = cost * harness::LEAST_TIMER_MULTIPLE;
    let detail =
        format!("one reading takes {cost:?}; operations below {least:?} are timed in groups and have a median alone");
    finding("clock", if cost.as_nanos() <= 100 { State::Good } else { State::Limited }, detail)
}

/// Spins the same chain of steps on one thread and on two.
fn parallelism() -> Finding {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        return finding("threads", State::Absent, "one processor: speed-ups are INCONCLUSIVE");
    }
    // The least time of several is that which no neighbour lengthened; a ratio of single pairs would profit from their luck.
    let least = |threads| (0..5).map(|_| spin_seconds(threads)).fold(f64::INFINITY, f64::min);
    let best = 2.0 * least(1) / least(2);
    let state = if best >= 1.8 { State::Good } else { State::Limited };
    let follows = if state == State::Good { "" } else { "; below 1.8 speed-ups are INCONCLUSIVE" };
    finding("threads", state, format!("{cores} processors; two spinning threads reach {best:.2} of 2{follows}"))
}

fn spin_seconds(threads: usize) -> f64 {
    const STEPS: u64 = 20_000_000;
    let spin = |_| {
        let mut state = black_box(1_u64);
        for _ in 0..STEPS {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        }
        black_box(state)
    };
    harness::together(threads, |thread| thread, spin).0.as_secs_f64()
}

fn neighbours() -> Finding {
    let load = fs::read_to_string("/proc/loadavg").ok();
    let load = load.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    let stolen = Noise::now().steal;
    let cores = thread::available_parallelism().map_or(1, usize::from) as f64;
    let state = if load.is_none_or(|load| load < cores * 0.5) { State::Good } else { State::Limited };
    let load = load.map_or("unknown".to_owned(), |load| format!("{load:.2}"));
    let stolen = match stolen {
        Some(0) => "the hypervisor has taken no time since boot".to_owned(),
        Some(ticks) => format!("the hypervisor has taken {ticks} ticks since boot"),
        None => "stolen time is not told".to_owned(),
    };
    finding("neighbours", state, format!("load {load}; {stolen}"))
}

fn memory() -> Finding {
    if Path::new("/proc/self/smaps_rollup").exists() {
        finding("resident memory", State::Good, "/proc/self/smaps_rollup")
    } else {
        finding(
            "resident memory",
            State::Absent,
            "no /proc/self/smaps_rollup: memory.peak and memory.per_item are MISSING",
        )
    }
}

fn counters() -> Finding {
    match fs::read_dir("/sys/bus/event_source/devices")
        .map(|entries| entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("cpu")))
    {
        Ok(true) => finding("hardware counters", State::Good, "the kernel offers them; the gate does not need them"),
        _ => finding(
            "hardware counters",
            State::Limited,
            "none: instructions come from callgrind, not from the processor",
        ),
    }
}

fn callgrind() -> Finding {
    let output = Command::new("valgrind").arg("--version").stderr(Stdio::null()).output();
    match output.ok().filter(|output| output.status.success()) {
        Some(output) => finding("callgrind", State::Good, String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        None => finding("callgrind", State::Absent, "valgrind is not installed: instructions are MISSING, never 0"),
    }
}

fn criterion() -> Finding {
    if std::env::var_os("CARGO_CRITERION_PORT").is_some() {
        finding("criterion", State::Limited, "cargo-criterion is connected: the gate removes it from what it starts")
    } else {
        finding("criterion", State::Good, "writes its own files; means and medians are of batches")
    }
}

fn revision(workspace: &Path) -> Finding {
    match Revision::of(workspace, &[]) {
        Revision { commit: None, .. } => finding(
            "revision",
            State::Limited,
            "no git work tree: `--no-run` cannot tell whether the sources have changed",
        ),
        Revision { commit: Some(commit), dirty: None } => finding("revision", State::Good, format!("commit {commit}")),
        Revision { commit: Some(commit), dirty: Some(_) } => {
            finding("revision", State::Limited, format!("commit {commit} with changes that are not committed"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_is_examined_once_and_says_something() {
        let findings = examine(Path::new("."));
        let mut subjects: Vec<&str> = findings.iter().map(|finding| finding.subject).collect();
        subjects.sort_unstable();
        subjects.dedup();
        assert_eq!(subjects.len(), findings.len());
        assert!(findings.iter().all(|finding| !finding.detail.is_empty()));
    }

    #[test]
    fn two_threads_do_not_spin_faster_than_two_processors() {
        let Finding { state, detail, .. } = parallelism();
        let reached = detail.split("reach ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
        assert!(state == State::Absent || reached.is_some_and(|reached| (0.5..2.5).contains(&reached)), "{detail}");
    }

    #[test]
    fn a_folder_outside_git_limits_the_revision() {
        let folder = tempfile::tempdir().expect("temporary folder");
        assert_eq!(revision(folder.path()).state, State::Limited);
    }
}
