//! Forgetting on purpose.

use std::time::Duration;

use crate::capacity::base_score;
use crate::clock::{Clock, Timestamp};
use crate::decay::RetentionClass;
use crate::error::Error;
use crate::segment::Rows;
use crate::store::MemoryStore;
use crate::writer::standing;

/// Which memories a prune removes: those to which any of its conditions applies. Pinned memories stay in any case, critical ones unless
/// told otherwise.
#[derive(Debug, Clone)]
#[must_use = "nothing is pruned until this is given to `prune`"]
pub struct Prune {
    older_than: Option<Duration>,
    by_retention: bool,
    below: Option<f64>,
    keep_critical: bool,
    dry_run: bool,
    at: Option<Timestamp>,
}

impl Default for Prune {
    fn default() -> Self {
        Self { older_than: None, by_retention: false, below: None, keep_critical: true, dry_run: false, at: None }
    }
}

impl Prune {
    /// A prune without a condition, which removes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes what is as old as `age`, or older. An age of zero is everything that is not protected.
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Removes what is as old as its class may grow ([`DecayTable::retention`](crate::DecayTable::retention)), or older.
    pub fn by_retention(mut self) -> Self {
        self.by_retention = true;
        self
    }

    /// Removes what has an effective score below `score`: `importance · weight · (1 + factor · ln(1 + n)) · exp(-rate · age)`.
    pub fn below(mut self, score: f64) -> Self {
        self.below = Some(score);
        self
    }

    /// Whether critical memories stay. Default: they do.
    pub fn keep_critical(mut self, keep: bool) -> Self {
        self.keep_critical = keep;
        self
    }

    /// Counts what would be removed, and removes nothing.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Counts ages at `moment` instead of now.
    pub fn at(mut self, moment: Timestamp) -> Self {
        self.at = Some(moment);
        self
    }
}

/// What a prune has removed, or would remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PruneReport {
    /// Memories removed.
    pub removed: usize,
    /// Of these, by class: low, medium, high, critical.
    pub by_class: [usize; 4],
    /// The sum of their recurrences: the writes that stood behind them.
    pub recurrences: u64,
    /// Memories that are left.
    pub remaining: usize,
    /// Whether this was a dry run.
    pub dry_run: bool,
}

impl<P: Send + Sync, C: Clock> MemoryStore<P, C> {
    /// Removes what the conditions name, at one moment: no write comes between. Segments of which nothing is left are given back at once, the
    /// rest by the writes that follow, one segment of at most 4,096 rows each, or by [`compact`](Self::compact).
    ///
    /// Costs a look at every row, under the writer's lock; a [dry run](Prune::dry_run) takes none.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidValue`] for a score that is no number; those of a failed log in a store on disk.
    #[expect(clippy::needless_pass_by_value, reason = "a prune is given away")]
    pub fn prune(&self, prune: Prune) -> Result<PruneReport, Error> {
        if let Some(score) = prune.below.filter(|score| score.is_nan()) {
            return Err(Error::InvalidValue { what: "score", value: score, allowed: "a number" });
        }
        let shared = &*self.shared;
        let now = prune.at.unwrap_or_else(|| shared.clock.now());
        if prune.dry_run {
            return Ok(self.count(&prune, now));
        }
        let report = shared.change(0, |writer, journal| {
            let view = shared.view.load_full();
            let mut report = PruneReport::default();
            let mut leaving = Vec::new();
            for segment in 0..view.segments().len() {
                let rows = view.all_rows(segment);
                for row in (0..rows.len()).filter(|&row| rows.died(row) == 0) {
                    if self.applies(&prune, &rows, row, now, &mut report) {
                        leaving.push((segment as u32, row as u32));
                    }
                }
            }
            report.remaining = writer.tally.memories - report.removed;
            let place = |&(segment, row): &(u32, u32)| (view.all_rows(segment as usize), row as usize);
            let mut written = Ok(());
            if shared.disk.is_some() {
                let ids: Vec<u64> = leaving.iter().map(place).map(|(rows, row)| rows.id(row)).collect();
                written = journal.remove(&ids);
                if written.is_err() && journal.last().is_none() {
                    return written.map(|()| report);
                }
            }
            // Also if the log failed half way, as for every change of which it has taken some.
            leaving.iter().map(place).for_each(|(rows, row)| writer.remove(shared, &rows, row));
            writer.drop_dead_segments(shared);
            written.map(|()| report)
        })?;
        crate::meter::pruned(report.removed as u64);
        Ok(report)
    }

    /// What a prune would remove of the present memories.
    fn count(&self, prune: &Prune, now: Timestamp) -> PruneReport {
        let view = self.shared.view.load();
        let mut report = PruneReport { dry_run: true, ..PruneReport::default() };
        for (rows, row) in view.now().iter() {
            report.remaining += usize::from(!self.applies(prune, &rows, row, now, &mut report));
        }
        report
    }

    /// Whether a row goes; if it does it is counted.
    fn applies(&self, prune: &Prune, rows: &Rows<'_, P>, row: usize, now: Timestamp, report: &mut PruneReport) -> bool {
        let standing = standing(&self.shared.config, rows, row);
        let class = RetentionClass::from_bits(standing.class);
        if rows.is_pinned(row) || prune.keep_critical && class == RetentionClass::Critical {
            return false;
        }
        let decay = &self.shared.config.decay;
        let is_old = |age| now.age_of(standing.seen) >= crate::clock::micros(age).unsigned_abs();
        let is_low =
            |score| base_score(&self.shared.config, &standing) * decay.weight(class, standing.seen, now) < score;
        let goes = prune.older_than.is_some_and(is_old)
            || prune.by_retention && decay.is_expired(class, standing.seen, now)
            || prune.below.is_some_and(is_low);
        if goes {
            report.removed += 1;
            report.by_class[class as usize] += 1;
            report.recurrences += u64::from(standing.recurrence);
        }
        goes
    }
}
