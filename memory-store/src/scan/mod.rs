//! The scan: the best rows of a moment, exactly, from as few bytes as it takes.
//!
//! A row goes through up to four comparisons, each of which may only drop it if it cannot be among the best:
//!
//! 1. its group's bounds on age, recurrence, importance and weight, with the best cosine there is;
//! 2. the signs of its vector, 1 bit a dimension, for whole groups;
//! 3. its codes, 1 byte a dimension, with an error that is known for each row;
//! 4. its vector, in `f64`: this is the score that ranks it.
//!
//! Every bound holds by the inequality of Cauchy and Schwarz with the rounding of the arithmetic in it, none by probability.

mod nearest;
mod top;

pub(crate) use nearest::{Match, nearest};
pub(crate) use top::{Bar, Found, Top};

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock::Timestamp;
use crate::config::{Config, Recency};
use crate::kernel::Kernel;
use crate::memory::MemoryId;
use crate::prepared::Prepared;
use crate::quantize::int8;
use crate::query::{Filter, ScanStats};
use crate::scoring::ScoreParts;
use crate::segment::{GROUP, Rows};
use crate::view::Moment;

/// Off a cosine that a row needs before bounds are compared with it: the rounding of the cosine itself, in `f64`, over 4,096 dimensions.
pub(crate) const COSINE_SLOP: f64 = 1e-11;

/// Leaves of `mask` the rows of a group whose signs can stand for a cosine of `needed`. `None` if the signs were not worth their reading.
fn by_signs<P>(
    mask: u64,
    rows: &Rows<'_, P>,
    group: usize,
    (prepared, kernel): (&Prepared, Kernel),
    needed: f64,
    sums: &mut [u16; GROUP],
) -> Option<u64> {
    // Unrelated vectors' signs add up to 0 on average with a deviation of 1, and they are an eighth of the codes' bytes.
    const WORTHWHILE: f32 = -0.6;
    if needed == f64::NEG_INFINITY {
        return None;
    }
    let (plane, signs) = (rows.plane(group)?, &prepared.signs);
    let Some(least) = signs.least_sum(needed, rows.maxima(group).alignment()) else { return Some(0) };
    if f32::from(least.sum) * signs.step + signs.base < WORTHWHILE {
        return None;
    }
    let mut passing = mask & kernel.sign_sums(plane, &signs.lut, least.sum, sums);
    let alignments = rows.alignments(group);
    let mut left = passing;
    while left != 0 {
        let at = left.trailing_zeros() as usize;
        left &= left - 1;
        if !least.admits(sums[at], alignments[at]) {
            passing ^= 1 << at;
        }
    }
    Some(passing)
}

/// One query over one moment.
#[derive(Debug)]
pub(crate) struct Scan<'a, P> {
    pub(crate) config: &'a Config,
    pub(crate) kernel: Kernel,
    pub(crate) prepared: &'a Prepared,
    pub(crate) now: Timestamp,
    /// Rows that were first seen after it are left out.
    pub(crate) not_after: Option<Timestamp>,
    pub(crate) tolerance: f64,
    pub(crate) filter: Filter<'a, P>,
    /// The incident of the filter, by its number.
    pub(crate) incident: Option<u32>,
    pub(crate) moment: Moment<'a, P>,
}

impl<P> std::fmt::Debug for Filter<'_, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").finish_non_exhaustive()
    }
}

/// What one thread of a scan works with.
struct Work<'a> {
    top: &'a mut Top,
    bar: &'a Bar,
    stats: ScanStats,
    sums: [u16; GROUP],
    dots: [i32; GROUP],
}

/// The best rows of each scan, best first: `ks[i]` of `scans[i]`, none where there is no scan. A segment is gone through for all scans before
/// the next one is.
pub(crate) fn run<P: Send + Sync>(
    scans: &[Option<Scan<'_, P>>],
    ks: &[usize],
    segments: usize,
    threads: usize,
) -> Vec<(Vec<Found>, ScanStats)> {
    let bars: Vec<Bar> = scans.iter().map(|_| Bar::new(f64::NEG_INFINITY)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut tops: Vec<_> = ks.iter().map(|&k| (Top::new(k), ScanStats::default())).collect();
        loop {
            let taken = next.fetch_add(1, Ordering::Relaxed);
            if taken >= segments {
                return tops;
            }
            for ((scan, bar), (top, stats)) in scans.iter().zip(&bars).zip(&mut tops) {
                if let Some(scan) = scan {
                    // Newest first: what is fresh scores high, and a high bar skips more of what is older.
                    stats.add(scan.segment(segments - 1 - taken, top, bar));
                }
            }
        }
    };
    let tops = if threads.min(segments) <= 1 {
        work()
    } else {
        std::thread::scope(|scope| {
            // Where the system has no more threads this one does the work of all.
            let other = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
            let others: Vec<_> = (1..threads.min(segments)).filter_map(other).collect();
            let mut tops = work();
            for other in others {
                // A condition of the user's panicked: so does the query.
                let theirs = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                for ((top, stats), (their_top, their_stats)) in tops.iter_mut().zip(theirs) {
                    top.merge(their_top);
                    stats.add(their_stats);
                }
            }
            tops
        })
    };
    tops.into_iter().map(|(top, stats)| (top.into_sorted(), stats)).collect()
}

impl<P: Send + Sync> Scan<'_, P> {
    /// Offers the rows of one segment.
    pub(crate) fn segment(&self, segment: usize, top: &mut Top, bar: &Bar) -> ScanStats {
        let rows = self.moment.rows(segment);
        let mut work = Work { top, bar, stats: ScanStats::default(), sums: [0; GROUP], dots: [0; GROUP] };
        work.stats.rows = rows.len() as u64;
        if rows.len() == 0 {
            return work.stats;
        }
        let upper = rows.whole().upper(&self.config.decay, self.now);
        if self.needed(bar, &upper) > 1.0 {
            work.stats.skipped = rows.len() as u64;
            return work.stats;
        }
        for group in (0..rows.len().div_ceil(GROUP)).rev() {
            self.group(segment, &rows, group, &mut work);
        }
        work.stats
    }

    /// The least cosine that a row of these bounds needs to be among the best.
    fn needed(&self, bar: &Bar, upper: &crate::scoring::Upper) -> f64 {
        let needed = self.config.scoring.least_similarity(bar.get() + self.tolerance, upper) - COSINE_SLOP;
        // With an epsilon in its denominator a cosine moves towards 0: bounds of the true one hold above 0 alone.
        if self.config.epsilon > 0.0 && needed <= 0.0 { f64::NEG_INFINITY } else { needed }
    }

    fn group(&self, segment: usize, rows: &Rows<'_, P>, group: usize, work: &mut Work<'_>) {
        let first = group * GROUP;
        let count = (rows.len() - first).min(GROUP);
        let upper = rows.maxima(group).upper(&self.config.decay, self.now);
        let needed = self.needed(work.bar, &upper);
        if needed > 1.0 {
            work.stats.skipped += count as u64;
            return;
        }
        let mut mask = u64::MAX >> (GROUP - count);
        if let Some(passing) = by_signs(mask, rows, group, (self.prepared, self.kernel), needed, &mut work.sums) {
            work.stats.signs += count as u64;
            mask = passing;
        }
        if mask == 0 {
            return;
        }
        work.stats.codes += u64::from(mask.count_ones());
        let code = &self.prepared.code;
        self.kernel.dots(rows.codes(first..first + count), &code.codes, code.sum, mask, &mut work.dots);
        while mask != 0 {
            let at = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            let (middle, radius) = int8::bounds(code, rows.code(first + at), work.dots[at]);
            if f64::from(middle + radius) >= needed {
                self.row(segment, rows, first + at, middle + radius, work);
            }
        }
    }

    /// Offers a row whose cosine is at most `highest`.
    fn row(&self, segment: usize, rows: &Rows<'_, P>, row: usize, highest: f32, work: &mut Work<'_>) {
        let class = rows.class(row);
        let recurrence = rows.recurrence(row);
        let seen = match self.config.recency {
            Recency::FirstSeen => rows.first_seen(row),
            Recency::LastSeen | Recency::LastAccessed => rows.last_seen(row),
        };
        let scoring = &self.config.scoring;
        let temporal = self.config.decay.weight(crate::decay::RetentionClass::from_bits(class), seen, self.now);
        let (importance, weight) = (f64::from(rows.importance(row)), f64::from(rows.weight(row)));
        let upper = crate::scoring::Upper { temporal, recurrence, importance, weight };
        if f64::from(highest) < self.needed(work.bar, &upper) || !self.admits(rows, row, class, recurrence) {
            return;
        }
        work.stats.vectors += 1;
        let similarity = self.prepared.cosine(rows.vector(row), self.config.epsilon, self.kernel);
        let recurrence_part = scoring.recurrence(recurrence);
        let parts = ScoreParts { similarity, temporal, recurrence: recurrence_part, importance, weight };
        let (id, score) = (rows.id(row), scoring.score(&parts));
        let found = Found { score, id, segment: segment as u32, row: row as u32, parts, recurrence };
        if score >= work.bar.get() + self.tolerance
            && let Some(last) = work.top.offer(found)
        {
            work.bar.raise(last);
        }
    }

    fn admits(&self, rows: &Rows<'_, P>, row: usize, class: u8, recurrence: u32) -> bool {
        use std::ops::RangeBounds;
        let filter = &self.filter;
        let first_seen = rows.first_seen(row);
        self.moment.sees(rows, row)
            && self.not_after.is_none_or(|moment| first_seen <= moment)
            && filter.classes >> class & 1 == 1
            && recurrence >= filter.min_recurrence
            && filter.first_seen.contains(&first_seen)
            && filter.last_seen.contains(&rows.last_seen(row))
            && self.incident.is_none_or(|incident| rows.incident(row) == incident)
            && filter.matching.is_none_or(|matching| matching(MemoryId(rows.id(row)), rows.payload(row)))
    }
}
