//! How time grows with size, and how work spreads over threads.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use crate::counting_alloc::is_counting;
use crate::metric::Metric;
use crate::record::{Figure, Paired, Replication, Source};
use crate::stats;
use crate::suite::{Bench, BenchError, Measured};
use crate::together::together;

/// Fewer sizes give no exponent worth the name.
const LEAST_SIZES: usize = 5;
/// The spin floor must reach this share of the threads' number (1.8 of 2), or the machine was too busy to tell.
const FLOOR_SHARE: f64 = 0.9;
/// Rounds of a speed-up measurement at least.
const LEAST_ROUNDS: usize = 10;

impl Bench {
    /// Measures how the time of a piece of work grows with its size: the slope of log time over log size with its interval
    /// ([`Metric::ScalingExponent`]: 1 is linear) and R² of a straight line ([`Metric::ScalingLinear`]).
    ///
    /// `work(size)` does the work once and returns the time of its timed part. Sizes take turns; the smallest time a size counts,
    /// because what disturbs a run only ever adds time. Returns the rounds that every size had.
    ///
    /// # Errors
    /// [`BenchError::CountingWhileTiming`]; [`BenchError::Invalid`] for fewer than five different sizes, or a time of zero.
    pub fn exponent(&mut self, sizes: &[u64], mut work: impl FnMut(u64) -> Duration) -> Result<u64, BenchError> {
        if is_counting() {
            return Err(BenchError::CountingWhileTiming);
        }
        if sizes.len() < LEAST_SIZES || sizes.contains(&0) {
            return Err(BenchError::Invalid(format!("an exponent needs {LEAST_SIZES} sizes above 0, not {sizes:?}")));
        }
        let mut shortest = vec![f64::INFINITY; sizes.len()];
        let mut rounds = 0;
        let started = Instant::now();
        while rounds == 0 || started.elapsed() < self.effort().warm_up + self.effort().measure {
            for (slot, &size) in shortest.iter_mut().zip(sizes) {
                *slot = slot.min(work(size).as_secs_f64() * 1e9);
            }
            rounds += 1;
        }
        if shortest.contains(&0.0) {
            return Err(BenchError::Invalid("the clock saw no time pass".to_owned()));
        }
        let points = |f: fn(f64) -> f64| -> Vec<(f64, f64)> {
            sizes.iter().zip(&shortest).map(|(&size, &time)| (f(size as f64), f(time))).collect()
        };
        let same = || BenchError::Invalid("an exponent needs different sizes".to_owned());
        let logs = stats::fit_line(&points(f64::ln)).ok_or_else(same)?;
        let straight = stats::fit_line(&points(|v| v)).ok_or_else(same)?;
        let figures = vec![
            Figure { ci: logs.slope_interval, ..Figure::exact(Metric::ScalingExponent, logs.slope) },
            Figure::exact(Metric::ScalingLinear, straight.r_squared),
        ];
        let mut measured = Measured::new(Source::Scaling, figures, Replication::one_process(rounds));
        let table: Vec<String> = sizes.iter().zip(&shortest).map(|(n, t)| format!("{n}: {t:.0} ns")).collect();
        measured.notes.push(format!("shortest of {rounds} rounds, {}", table.join(", ")));
        self.push(measured);
        Ok(rounds)
    }

    /// Measures the speed-up from one thread to `threads`, each doing `work(thread)` once a round: `threads` times the time of
    /// one, over the time of all ([`Metric::ScalingSpeedup`]; over the threads, [`Metric::ScalingEfficiency`]).
    ///
    /// Beside it, in the same rounds, the same threads spin a register: what the machine gave them at best. Below 1.8 of 2 (nine
    /// tenths of the threads) the row is inconclusive, as it is on a machine with fewer processors. Returns how often `work` ran.
    ///
    /// # Errors
    /// [`BenchError::CountingWhileTiming`]; [`BenchError::Invalid`] for fewer than two threads.
    ///
    /// # Panics
    /// If `work` panics.
    pub fn speedup(&mut self, threads: usize, work: impl Fn(usize) + Sync) -> Result<u64, BenchError> {
        self.scaled(threads, &work, None, None)
    }

    /// [`speedup`](Self::speedup), which also records that of the spinning threads, as `of`, and the ratio of the two: what the work
    /// loses to threads that share nothing, whatever the machine gave both.
    ///
    /// # Errors
    /// Those of [`speedup`](Self::speedup).
    ///
    /// # Panics
    /// If `work` panics.
    pub fn speedup_beside(&mut self, of: &str, threads: usize, work: impl Fn(usize) + Sync) -> Result<u64, BenchError> {
        self.scaled(threads, &work, Some(of), None)
    }

    /// [`speedup_beside`](Self::speedup_beside) with `floor` in place of the spinning threads: work of about the same length that meets
    /// the same limit of the machine, as its memory.
    ///
    /// # Errors
    /// Those of [`speedup`](Self::speedup).
    ///
    /// # Panics
    /// If `work` or `floor` panics.
    pub fn speedup_against(
        &mut self,
        of: &str,
        threads: usize,
        work: impl Fn(usize) + Sync,
        floor: impl Fn(usize) + Sync,
    ) -> Result<u64, BenchError> {
        self.scaled(threads, &work, Some(of), Some(&floor))
    }

    fn scaled(
        &mut self,
        threads: usize,
        work: &(impl Fn(usize) + Sync),
        of: Option<&str>,
        beside: Option<&(dyn Fn(usize) + Sync)>,
    ) -> Result<u64, BenchError> {
        if is_counting() {
            return Err(BenchError::CountingWhileTiming);
        }
        if threads < 2 {
            return Err(BenchError::Invalid("a speed-up needs two threads".to_owned()));
        }
        let one = timed(1, work);
        // The floor lasts about as long as the work, so that both meet the same neighbours.
        let spins = spins_for(one);
        let spin = |_| spin(spins);
        let (mut speedups, mut floors, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let mut runs = 1;
        let least = if self.is_test() { 2 } else { LEAST_ROUNDS };
        let started = Instant::now();
        while speedups.len() < least || started.elapsed() < self.effort().measure {
            let times = [timed(1, work), timed(threads, work)];
            speedups.push(threads as f64 * times[0] / times[1]);
            floors.push(threads as f64 * timed(1, &spin) / timed(threads, &spin));
            if let Some(other) = beside {
                others.push(threads as f64 * timed(1, &other) / timed(threads, &other));
            }
            runs += 1 + threads as u64;
        }
        let (Some((speedup, ci)), Some((floor, floor_ci))) =
            (stats::ratio_interval(&speedups), stats::ratio_interval(&floors))
        else {
            return Err(BenchError::Invalid("a speed-up needs two rounds".to_owned()));
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let inconclusive = if cores < threads {
            Some(format!("{threads} threads on {cores} processors"))
        } else if floor < FLOOR_SHARE * threads as f64 {
            Some(format!("{threads} spinning threads reached {floor:.2}: the machine is busy"))
        } else {
            None
        };
        let share = 1.0 / threads as f64;
        let efficiency_interval = crate::record::Interval { lo: ci.lo * share, hi: ci.hi * share, level: ci.level };
        let figures = [
            Figure::sampled(Metric::ScalingSpeedup, speedup, ci),
            Figure::sampled(Metric::ScalingEfficiency, speedup * share, efficiency_interval),
        ]
        .map(|figure| Figure { inconclusive: inconclusive.clone(), threads: Some(threads as u64), ..figure });
        let n = Replication::one_process(speedups.len() as u64);
        let mut measured = Measured::new(Source::Scaling, figures.into(), n);
        measured.notes.push(format!("{threads} threads; spin floor of the same threads {floor:.2}"));
        let compared = if others.is_empty() { &floors } else { &others };
        let (floor, floor_ci) = stats::ratio_interval(compared).unwrap_or((floor, floor_ci));
        let shares: Vec<f64> = speedups.iter().zip(compared).map(|(ours, theirs)| ours / theirs).collect();
        if let Some((of, (ratio, ci))) = of.zip(stats::ratio_interval(&shares)) {
            let metric = Metric::ScalingSpeedup;
            measured.paired.push(Paired { of: of.to_owned(), metric, ratio, ci });
            let figure = Figure::sampled(metric, floor, floor_ci);
            let figure = Figure { threads: Some(threads as u64), ..figure };
            let n = Replication::one_process(floors.len() as u64);
            self.push(Measured { bench: Some(of.to_owned()), ..Measured::new(Source::Scaling, vec![figure], n) });
        }
        self.push(measured);
        Ok(runs)
    }
}

fn timed(threads: usize, work: &(impl Fn(usize) + Sync)) -> f64 {
    together(threads, |thread| thread, work).0.as_secs_f64()
}

/// A chain of dependent steps in registers: no memory, nothing to share.
fn spin(steps: u64) {
    let mut state = black_box(1_u64);
    for _ in 0..steps {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    }
    black_box(state);
}

fn spins_for(seconds: f64) -> u64 {
    const PROBE: u64 = 1_000_000;
    let start = Instant::now();
    spin(PROBE);
    let a_step = start.elapsed().as_secs_f64() / PROBE as f64;
    ((seconds / a_step.max(1e-12)) as u64).max(PROBE)
}
