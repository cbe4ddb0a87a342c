//! Where a measurement ran and what disturbed it, read from the operating system.

use std::fs;

use serde::{Deserialize, Serialize};

/// The machine and the build: measurements from two different environments are not comparable as times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Model name of the processor.
    pub cpu: String,
    /// Processors available to this process.
    pub cores: usize,
    /// Kernel release.
    pub kernel: String,
    /// Version of the compiler that the build came from.
    pub rustc: String,
    /// `debug` or `release`.
    pub profile: String,
}

impl Environment {
    /// Reads the environment of this process. What the platform does not tell is `"unknown"`.
    #[must_use]
    pub fn current() -> Self {
        Self {
            cpu: cpu_model().unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| unknown(), |s| s.trim().to_owned()),
            rustc: env!("HARNESS_RUSTC").to_owned(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// What disturbed a measurement; each figure is the change from its start to its end, absent where the platform has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// Time that the hypervisor gave to others, in clock ticks over all processors.
    pub steal: Option<u64>,
    /// Times that the scheduler took the processor from this process.
    pub involuntary_switches: Option<u64>,
    /// Microseconds in which some task of the machine waited for a processor.
    pub psi: Option<u64>,
    /// Page faults that went to disk.
    pub major_faults: Option<u64>,
}

impl Noise {
    /// The counters now; subtract an earlier reading with [`Noise::since`].
    #[must_use]
    pub fn now() -> Self {
        Self {
            steal: steal(),
            involuntary_switches: involuntary_switches(),
            psi: pressure(),
            major_faults: major_faults(),
        }
    }

    /// The change since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let change = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        Self {
            steal: change(self.steal, earlier.steal),
            involuntary_switches: change(self.involuntary_switches, earlier.involuntary_switches),
            psi: change(self.psi, earlier.psi),
            major_faults: change(self.major_faults, earlier.major_faults),
        }
    }
}

fn steal() -> Option<u64> {
    // First line of proc(5) stat: cpu user nice system idle iowait irq softirq steal …
    fs::read_to_string("/proc/stat").ok()?.lines().next()?.split_whitespace().nth(8)?.parse().ok()
}

fn involuntary_switches() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    text.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"))?.trim().parse().ok()
}

fn pressure() -> Option<u64> {
    let text = fs::read_to_string("/proc/pressure/cpu").ok()?;
    text.lines().find(|line| line.starts_with("some"))?.rsplit_once("total=")?.1.parse().ok()
}

fn major_faults() -> Option<u64> {
    // Field 12 of proc(5) pid/stat; the command name may hold spaces, so count from its closing bracket.
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(9)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_switches_and_faults() {
        let noise = Noise::now();
        assert!(noise.involuntary_switches.is_some());
        assert!(noise.major_faults.is_some());
    }

    #[test]
    fn change_of_an_unknown_counter_is_unknown() {
        let known = Noise { steal: Some(3), ..Noise::default() };
        assert_eq!(known.since(Noise::default()).steal, None);
        assert_eq!(known.since(Noise { steal: Some(1), ..Noise::default() }).steal, Some(2));
    }
}
