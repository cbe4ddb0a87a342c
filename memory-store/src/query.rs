//! What is asked of a store, and its answer.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::decay::RetentionClass;
use crate::error::Error;
use crate::memory::MemoryId;
use crate::scoring::ScoreParts;

/// Asks for the `k` memories with the highest scores.
#[must_use = "a query asks nothing until it is given to `retrieve`"]
pub struct Query<'a, P> {
    pub(crate) vector: &'a [f32],
    pub(crate) k: usize,
    pub(crate) at: Option<Timestamp>,
    pub(crate) tolerance: f64,
    pub(crate) touch: bool,
    pub(crate) filter: Filter<'a, P>,
}

/// What a memory has to be to count for a query. It is looked at before a memory takes a place among the best, so a filter never costs
/// recall: if `k` memories pass it, `k` are found.
pub(crate) struct Filter<'a, P> {
    /// A bit a class.
    pub(crate) classes: u8,
    pub(crate) first_seen: (Bound<Timestamp>, Bound<Timestamp>),
    pub(crate) last_seen: (Bound<Timestamp>, Bound<Timestamp>),
    pub(crate) min_recurrence: u32,
    pub(crate) incident: Option<&'a str>,
    pub(crate) matching: Option<Matching<'a, P>>,
}

/// A condition of the user's on a memory.
pub(crate) type Matching<'a, P> = &'a (dyn Fn(MemoryId, &P) -> bool + Sync);

const ALWAYS: (Bound<Timestamp>, Bound<Timestamp>) = (Bound::Unbounded, Bound::Unbounded);

impl<P> Clone for Filter<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Filter<'_, P> {}

impl<P> Clone for Query<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Query<'_, P> {}

impl<'a, P> Query<'a, P> {
    /// The `k` memories that score best with `vector`, now, of all that there are.
    pub fn new(vector: &'a [f32], k: usize) -> Self {
        let filter = Filter {
            classes: 0b1111,
            first_seen: ALWAYS,
            last_seen: ALWAYS,
            min_recurrence: 0,
            incident: None,
            matching: None,
        };
        Self { vector, k, at: None, tolerance: 0.0, touch: false, filter }
    }

    /// Counts ages at `moment`, and leaves out what was first seen after it. How often a memory was seen, and when last, is what holds
    /// today.
    pub fn at(mut self, moment: Timestamp) -> Self {
        self.at = Some(moment);
        self
    }

    /// Allows the answer to leave out memories for others whose scores are lower by `tolerance` at most, which skips more. Default 0: the
    /// answer is exact.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Counts what is found as seen now, where the store counts that ([`Recency::LastAccessed`](crate::Recency)); elsewhere no matter.
    pub fn touch(mut self) -> Self {
        self.touch = true;
        self
    }

    /// Only memories of these classes.
    pub fn classes(mut self, classes: &[RetentionClass]) -> Self {
        self.filter.classes = classes.iter().fold(0, |bits, &class| bits | 1 << class as u8);
        self
    }

    /// Only memories that were first seen within `range`.
    pub fn first_seen(mut self, range: impl RangeBounds<Timestamp>) -> Self {
        self.filter.first_seen = (range.start_bound().cloned(), range.end_bound().cloned());
        self
    }

    /// Only memories that were last seen within `range`.
    pub fn last_seen(mut self, range: impl RangeBounds<Timestamp>) -> Self {
        self.filter.last_seen = (range.start_bound().cloned(), range.end_bound().cloned());
        self
    }

    /// Only memories that were seen at least `times`.
    pub fn min_recurrence(mut self, times: u32) -> Self {
        self.filter.min_recurrence = times;
        self
    }

    /// Only memories of this incident.
    pub fn incident(mut self, incident: &'a str) -> Self {
        self.filter.incident = Some(incident);
        self
    }

    /// Only memories of which `matching` is true. It is called for memories that may be among the best, on the threads of the query and under
    /// no lock, so it may use the store.
    pub fn matching(mut self, matching: &'a (dyn Fn(MemoryId, &P) -> bool + Sync)) -> Self {
        self.filter.matching = Some(matching);
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.k == 0 {
            return Err(Error::ZeroK);
        }
        if !(self.tolerance.is_finite() && self.tolerance >= 0.0) {
            let (what, allowed) = ("tolerance", "finite and at least 0");
            return Err(Error::InvalidValue { what, value: self.tolerance, allowed });
        }
        Ok(())
    }
}

impl<P> fmt::Debug for Query<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dimensions = self.vector.len();
        f.debug_struct("Query")
            .field("dimensions", &dimensions)
            .field("k", &self.k)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// The answer to a query.
#[derive(Debug)]
pub struct Retrieved<P> {
    /// The best, highest score first; among equals the lowest id.
    pub hits: Vec<Hit<P>>,
    /// How far the answer can be relied on.
    pub exactness: Exactness,
    /// What was looked at.
    pub scanned: ScanStats,
}

/// How far an answer can be relied on. A value that was changed while the query ran counts as it was at some moment of it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Exactness {
    /// These are the best memories, in their order, as if every score had been computed.
    Exact,
    /// No memory that was left out has a score that is higher by more than this than that of one that is there.
    Bounded {
        /// The query's tolerance.
        tolerance: f64,
    },
}

/// A memory that was found.
#[derive(Debug)]
pub struct Hit<P> {
    /// Its name.
    pub id: MemoryId,
    /// Its score at the moment of the query.
    pub score: f64,
    /// What the score was made of.
    pub parts: ScoreParts,
    /// How often it was written.
    pub recurrence: u32,
    /// Its class.
    pub class: RetentionClass,
    /// When it was first written.
    pub first_seen: Timestamp,
    /// When it was last written, or touched where the store counts that.
    pub last_seen: Timestamp,
    /// What was stored with it.
    pub payload: Arc<P>,
}

impl<P> Clone for Hit<P> {
    fn clone(&self) -> Self {
        Self { payload: Arc::clone(&self.payload), ..*self }
    }
}

/// What a query looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScanStats {
    /// Rows of the store, those of dead memories included.
    pub rows: u64,
    /// Of these, rows whose group was skipped by its bounds alone.
    pub skipped: u64,
    /// Rows compared by their signs, 1 bit a dimension.
    pub signs: u64,
    /// Rows compared by their codes, 1 byte a dimension.
    pub codes: u64,
    /// Rows whose vectors were read.
    pub vectors: u64,
}

impl ScanStats {
    pub(crate) fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.skipped += other.skipped;
        self.signs += other.signs;
        self.codes += other.codes;
        self.vectors += other.vectors;
    }
}
