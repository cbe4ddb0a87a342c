//! Flamegraphs of criterion benchmarks: `cargo bench -p <crate> --bench <suite> -- --profile-time 5 <id>`.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use criterion::profiler::Profiler;
use pprof::{ProfilerGuard, ProfilerGuardBuilder, Report};

use crate::suite::target_folder;

/// Samples the running benchmark by a timer signal and writes `flamegraph.svg`, with the stacks that it shows in `stacks.folded`,
/// into criterion's folder of that benchmark (`target/criterion/<id>/profile/`).
///
/// pprof has a profiler for criterion of its own, tied to an old version of it; this one uses pprof's core and lets inferno draw.
pub struct Flamegraph {
    frequency: i32,
    running: Option<ProfilerGuard<'static>>,
}

impl Default for Flamegraph {
    /// 997 samples a second of processor time: a prime, so that sampling does not beat with periodic work.
    fn default() -> Self {
        Self { frequency: 997, running: None }
    }
}

impl Flamegraph {
    /// Takes `frequency` samples a second of processor time, 1 to 10,000.
    #[must_use]
    pub fn with_frequency(frequency: u16) -> Self {
        Self { frequency: i32::from(frequency.clamp(1, 10_000)), running: None }
    }

    fn draw(&mut self, folder: &Path) -> io::Result<()> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        let report = running.report().build().map_err(io::Error::other)?;
        fs::create_dir_all(folder)?;
        fs::write(folder.join("stacks.folded"), folded(&report))?;
        report.flamegraph(File::create(folder.join("flamegraph.svg"))?).map_err(io::Error::other)
    }

    /// Profiles `work` into the folder of the benchmark `id`, criterion's if the benchmark were criterion's.
    pub(crate) fn of<R>(id: &str, work: impl FnOnce() -> R) -> R {
        let mut profiler = Self::default();
        let home = std::env::var_os("CRITERION_HOME").map_or_else(|| target_folder().join("criterion"), PathBuf::from);
        let folder = home.join(id.replace('/', "_")).join("profile");
        profiler.start_profiling(id, &folder);
        let result = work();
        profiler.stop_profiling(id, &folder);
        result
    }
}

/// The stacks in the form that other viewers read: `thread;outer;inner count`, one a line.
fn folded(report: &Report) -> String {
    let mut lines: Vec<String> = Vec::with_capacity(report.data.len());
    for (frames, count) in &report.data {
        let functions = frames.frames.iter().rev().flat_map(|frame| frame.iter().rev().map(ToString::to_string));
        let names = std::iter::once(frames.thread_name_or_id()).chain(functions);
        // A semicolon parts two functions, so it cannot be in the name of one.
        lines.push(format!("{} {count}\n", names.map(|name| name.replace(';', ":")).collect::<Vec<_>>().join(";")));
    }
    lines.sort();
    lines.concat()
}

impl fmt::Debug for Flamegraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flamegraph").field("frequency", &self.frequency).finish_non_exhaustive()
    }
}

impl Profiler for Flamegraph {
    fn start_profiling(&mut self, id: &str, _folder: &Path) {
        // Unwinding from inside these libraries is not safe in a signal handler.
        let builder =
            ProfilerGuardBuilder::default().frequency(self.frequency).blocklist(&["libc", "libgcc", "pthread", "vdso"]);
        match builder.build() {
            Ok(guard) => self.running = Some(guard),
            Err(error) => eprintln!("{id}: no flamegraph: {error}"),
        }
    }

    fn stop_profiling(&mut self, id: &str, folder: &Path) {
        if let Err(error) = self.draw(folder) {
            eprintln!("{id}: no flamegraph: {error}");
        }
    }
}
