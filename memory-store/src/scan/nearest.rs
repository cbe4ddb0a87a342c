//! The memory that a write is a duplicate of.

use super::{COSINE_SLOP, by_signs};
use crate::config::{Config, Dedup, MatchPick};
use crate::kernel::Kernel;
use crate::prepared::Prepared;
use crate::quantize::int8;
use crate::segment::{GROUP, Rows};
use crate::view::Moment;

/// A row that is similar enough to a write.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Match {
    pub(crate) id: u64,
    pub(crate) similarity: f64,
}

impl Match {
    /// Which of two is picked.
    pub(crate) fn better(self, other: Option<Self>, pick: MatchPick) -> Self {
        let Some(other) = other else { return self };
        let is_better = match pick {
            MatchPick::Best => {
                self.similarity > other.similarity || (self.similarity == other.similarity && self.id < other.id)
            }
            MatchPick::First => self.id < other.id,
        };
        if is_better { self } else { other }
    }
}

/// Where a search begins: a segment, and a row of it.
pub(crate) type Start = (usize, usize);

/// The row of `moment` that `prepared` is a duplicate of, of those from `start` on: one whose cosine is strictly above the threshold.
/// With `in_order` rows have ascending ids, and the first match is the one with the lowest.
pub(crate) fn nearest<P: Send + Sync>(
    moment: Moment<'_, P>,
    start: Start,
    in_order: bool,
    (prepared, config, dedup, kernel): (&Prepared, &Config, Dedup, Kernel),
) -> Option<Match> {
    let mut search = Search { prepared, config, dedup, kernel, best: None, sums: [0; GROUP], dots: [0; GROUP] };
    let stops = in_order && dedup.pick == MatchPick::First;
    for segment in start.0..moment.segments() {
        let rows = moment.rows(segment);
        let first = if segment == start.0 { start.1 } else { 0 };
        for group in first / GROUP..rows.len().div_ceil(GROUP) {
            search.group(moment, &rows, group);
            if stops && search.best.is_some() {
                return search.best;
            }
        }
    }
    search.best
}

struct Search<'a> {
    prepared: &'a Prepared,
    config: &'a Config,
    dedup: Dedup,
    kernel: Kernel,
    best: Option<Match>,
    sums: [u16; GROUP],
    dots: [i32; GROUP],
}

impl Search<'_> {
    /// The least cosine of a row that would change the outcome.
    fn needed(&self) -> f64 {
        let best = self.best.filter(|_| self.dedup.pick == MatchPick::Best);
        let needed = best.map_or(self.dedup.threshold, |best| best.similarity) - COSINE_SLOP;
        if self.config.epsilon > 0.0 && needed <= 0.0 { f64::NEG_INFINITY } else { needed }
    }

    fn group<P: Send + Sync>(&mut self, moment: Moment<'_, P>, rows: &Rows<'_, P>, group: usize) {
        let first = group * GROUP;
        let count = (rows.len() - first).min(GROUP);
        let needed = self.needed();
        let mut mask = u64::MAX >> (GROUP - count);
        if let Some(passing) = by_signs(mask, rows, group, (self.prepared, self.kernel), needed, &mut self.sums) {
            mask = passing;
        }
        if mask == 0 {
            return;
        }
        let code = &self.prepared.code;
        self.kernel.dots(rows.codes(first..first + count), &code.codes, code.sum, mask, &mut self.dots);
        while mask != 0 {
            let at = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            let row = first + at;
            let (middle, radius) = int8::bounds(code, rows.code(row), self.dots[at]);
            if f64::from(middle + radius) < self.needed() || !moment.sees(rows, row) {
                continue;
            }
            let similarity = self.prepared.cosine(rows.vector(row), self.config.epsilon, self.kernel);
            if similarity > self.dedup.threshold {
                let found = Match { id: rows.id(row), similarity };
                self.best = Some(found.better(self.best, self.dedup.pick));
            }
        }
    }
}
