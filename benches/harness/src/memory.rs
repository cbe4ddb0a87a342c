//! Memory: what a structure takes an item, and whether it grows where it should not.

use std::fs;
use std::hint::black_box;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::counting_alloc::{AllocStats, alloc_scope, is_counting, live_bytes};
use crate::metric::Metric;
use crate::record::{Figure, Replication, Source};
use crate::stats;
use crate::suite::{Bench, BenchError, MEMORY_SIZE, Measured};

/// A slope through fewer sizes would not show that growth is a straight line.
const LEAST_SIZES: usize = 3;
/// Checkpoints of a growth measurement.
const CHECKPOINTS: u64 = 20;

/// What one fresh process took for one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Footprint {
    size: u64,
    /// Change of live requested bytes; absent without the counting allocator.
    live: Option<i64>,
    /// Change of resident bytes.
    resident: u64,
    /// Largest resident size of the whole process.
    peak: u64,
    /// What the check of the built structure found.
    observed: u64,
}

impl Bench {
    /// Records allocations and bytes an operation, from a scope (see [`alloc_scope`]) that ran `operations` of them.
    ///
    /// # Errors
    /// [`BenchError::NotCounting`] without the counting allocator, [`BenchError::Invalid`] for no operations.
    pub fn allocations(&mut self, operations: u64, stats: AllocStats) -> Result<(), BenchError> {
        if !is_counting() {
            return Err(BenchError::NotCounting);
        }
        if operations == 0 {
            return Err(BenchError::Invalid("allocations an operation need an operation".to_owned()));
        }
        let figures = vec![
            Figure::exact(Metric::AllocsCount, stats.count as f64 / operations as f64),
            Figure::exact(Metric::AllocsBytes, stats.bytes as f64 / operations as f64),
        ];
        self.push(Measured::new(Source::Alloc, figures, Replication::one_process(operations)));
        Ok(())
    }

    /// Measures the memory an item above `content` bytes of its own (a payload that any store would have to keep): builds the
    /// structure in a fresh process for each of at least three sizes and fits a line through the live bytes.
    ///
    /// Recorded are the slope less `content` as [`Metric::MemoryPerItem`] and, as remarks, the fixed cost, the slope of resident
    /// bytes and how straight the line is. `check` returns what the built structure holds; it adds up in [`Bench::observed`].
    ///
    /// # Errors
    /// [`BenchError::NotCounting`] without the counting allocator; [`BenchError::Invalid`] for fewer than three different sizes;
    /// [`BenchError::Unsupported`] where the platform does not tell resident bytes; [`BenchError::Child`] if a process fails.
    pub fn memory_per_item<S>(
        &mut self,
        sizes: &[u64],
        content: u64,
        build: impl Fn(u64) -> S,
        check: impl Fn(&S) -> u64,
    ) -> Result<(), BenchError> {
        if sizes.len() < LEAST_SIZES {
            return Err(BenchError::Invalid(format!("memory an item needs {LEAST_SIZES} sizes, not {}", sizes.len())));
        }
        let footprints = self.footprints(sizes, build, check)?;
        if footprints.is_empty() {
            return Ok(());
        }
        let live: Option<Vec<(f64, f64)>> = footprints.iter().map(|f| Some((f.size as f64, f.live? as f64))).collect();
        let live = live.ok_or(BenchError::NotCounting)?;
        let resident: Vec<(f64, f64)> = footprints.iter().map(|f| (f.size as f64, f.resident as f64)).collect();
        let same_size = || BenchError::Invalid("memory an item needs different sizes".to_owned());
        let line = stats::fit_line(&live).ok_or_else(same_size)?;
        let resident = stats::fit_line(&resident).ok_or_else(same_size)?;
        let content = content as f64;
        let figure = Figure::exact(Metric::MemoryPerItem, line.slope - content);
        let mut measured = Measured::new(Source::Mem, vec![figure], processes(sizes.len()));
        measured.notes.push(format!(
            "slope of live bytes over {sizes:?} items less {content} B of content; fixed cost {:.0} B, R² {:.4}; resident bytes: \
             {:.1} B an item",
            line.intercept,
            line.r_squared,
            resident.slope - content
        ));
        self.push(measured);
        Ok(())
    }

    /// Measures one size in a fresh process: live bytes an item above `content` as [`Metric::MemoryPerItem`] (fixed cost
    /// included, and only under the counting allocator), the largest resident size of the process as [`Metric::MemoryPeak`].
    ///
    /// # Errors
    /// As [`Bench::memory_per_item`], but for the sizes.
    pub fn memory_at<S>(
        &mut self,
        size: u64,
        content: u64,
        build: impl Fn(u64) -> S,
        check: impl Fn(&S) -> u64,
    ) -> Result<(), BenchError> {
        if size == 0 {
            return Err(BenchError::Invalid("memory an item needs an item".to_owned()));
        }
        let footprints = self.footprints(&[size], build, check)?;
        for footprint in footprints {
            let mut figures = vec![Figure::exact(Metric::MemoryPeak, footprint.peak as f64)];
            if let Some(live) = footprint.live {
                let per_item = live as f64 / size as f64 - content as f64;
                figures.push(Figure::exact(Metric::MemoryPerItem, per_item));
            }
            let measured = Measured::new(Source::Mem, figures, processes(1));
            self.push(measured);
        }
        Ok(())
    }

    /// One footprint a size, each from a fresh process; none inside such a process, which prints its own and is done.
    fn footprints<S>(
        &mut self,
        sizes: &[u64],
        build: impl Fn(u64) -> S,
        check: impl Fn(&S) -> u64,
    ) -> Result<Vec<Footprint>, BenchError> {
        if let Some(size) = self.memory_size() {
            print_footprint(&footprint(size, build, check)?);
            return Ok(Vec::new());
        }
        if self.is_test() {
            let built = build(sizes[0]);
            self.observe(check(&built) * sizes.iter().sum::<u64>() / sizes[0].max(1));
            return Ok(Vec::new());
        }
        let mut footprints = Vec::new();
        for &size in sizes {
            let footprint = fresh_process(self.id(), size)?;
            self.observe(footprint.observed);
            footprints.push(footprint);
        }
        Ok(footprints)
    }

    /// Measures whether live bytes grow: runs `step` `operations` times between each of 20 checkpoints and fits a line.
    ///
    /// Recorded are the growth from the first checkpoint to the last and its slope an operation with Student's t interval: a
    /// saw-tooth has no slope, one byte an operation has. The first stretch is warm-up and not counted.
    ///
    /// # Errors
    /// [`BenchError::NotCounting`] without the counting allocator, [`BenchError::Invalid`] for no operations.
    pub fn growth(&mut self, operations: u64, mut step: impl FnMut()) -> Result<(), BenchError> {
        if !is_counting() {
            return Err(BenchError::NotCounting);
        }
        if operations == 0 {
            return Err(BenchError::Invalid("growth needs operations".to_owned()));
        }
        let mut points = Vec::with_capacity(CHECKPOINTS as usize + 1);
        for checkpoint in 0..=CHECKPOINTS {
            for _ in 0..operations {
                step();
            }
            points.push(((checkpoint * operations) as f64, live_bytes() as f64));
        }
        let line = stats::fit_line(&points)
            .ok_or_else(|| BenchError::Invalid("growth needs different checkpoints".to_owned()))?;
        let growth = points[points.len() - 1].1 - points[0].1;
        let figures = vec![
            Figure::exact(Metric::MemoryGrowth, growth),
            Figure { ci: line.slope_interval, ..Figure::exact(Metric::MemoryGrowthPerOp, line.slope) },
        ];
        self.push(Measured::new(Source::Alloc, figures, Replication::one_process(CHECKPOINTS * operations)));
        Ok(())
    }
}

fn processes(count: usize) -> Replication {
    Replication { builds: 1, processes: count as u64, samples: count as u64 }
}

fn footprint<S>(size: u64, build: impl Fn(u64) -> S, check: impl Fn(&S) -> u64) -> Result<Footprint, BenchError> {
    let before = resident_bytes()?;
    let (built, stats) = alloc_scope(|| black_box(build(size)));
    let resident = resident_bytes()?.saturating_sub(before);
    let peak = peak_resident_bytes()?;
    let observed = check(&built);
    Ok(Footprint { size, live: is_counting().then_some(stats.live), resident, peak, observed })
}

#[expect(clippy::print_stdout, reason = "the parent process reads it from there")]
fn print_footprint(footprint: &Footprint) {
    let text = serde_json::to_string(footprint).expect("five numbers are JSON");
    println!("{text}");
}

fn fresh_process(id: &str, size: u64) -> Result<Footprint, BenchError> {
    let child = |what: String| BenchError::Child(format!("{id} for {size} items: {what}"));
    let binary = std::env::current_exe().map_err(|error| child(error.to_string()))?;
    let output = Command::new(binary)
        .args(["--bench", "--exact", id, MEMORY_SIZE, &size.to_string()])
        .output()
        .map_err(|error| child(error.to_string()))?;
    if !output.status.success() {
        return Err(child(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| child(format!("printed no footprint: {error}")))
}

const NO_PROC: BenchError = BenchError::Unsupported("resident memory is read from Linux's /proc");

/// Resident bytes of this process, exactly: the counters in /proc/self/status lag behind by some pages a thread.
fn resident_bytes() -> Result<u64, BenchError> {
    kilobytes("/proc/self/smaps_rollup", "Rss:").ok_or(NO_PROC)
}

fn peak_resident_bytes() -> Result<u64, BenchError> {
    kilobytes("/proc/self/status", "VmHWM:").ok_or(NO_PROC)
}

fn kilobytes(file: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
