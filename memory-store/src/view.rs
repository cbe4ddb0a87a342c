//! What a reader sees: the rows of one moment.

use std::sync::Arc;

use crate::segment::{Rows, Segment};
use crate::sync::{AtomicU64, Ordering};

/// A list of segments, oldest first. It is replaced when a segment is added or gone; the rows of its last segment are published one by
/// one, by a sequence that counts all rows ever appended. Who still holds a list that was replaced sees the rows of the moment when it was.
#[derive(Debug)]
pub(crate) struct View<P> {
    segments: Vec<Arc<Segment<P>>>,
    /// The sequence at the first row of the last segment.
    tail_from: u64,
    published: Sequence,
}

/// How many rows were ever appended, as far as readers know.
#[derive(Debug)]
pub(crate) struct Sequence(AtomicU64);

impl Sequence {
    pub(crate) fn new(rows: u64) -> Self {
        Self(AtomicU64::new(rows))
    }

    /// Lets readers see all rows before `rows`, and no longer those that have died by then.
    pub(crate) fn publish(&self, rows: u64) {
        self.0.store(rows, Ordering::Release);
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Whether a reader at `now` sees a row below `now` that has `died` at that sequence, or lives if that is 0.
    pub(crate) fn sees(now: u64, died: u64) -> bool {
        died == 0 || died > now
    }
}

impl<P: Send + Sync> View<P> {
    /// A list whose last segment holds the rows from `tail_from` to `sequence`.
    pub(crate) fn new(segments: Vec<Arc<Segment<P>>>, tail_from: u64, sequence: u64) -> Self {
        Self { segments, tail_from, published: Sequence::new(sequence) }
    }

    pub(crate) fn segments(&self) -> &[Arc<Segment<P>>] {
        &self.segments
    }

    pub(crate) fn tail_from(&self) -> u64 {
        self.tail_from
    }

    /// Lets readers see all rows before `sequence`. Only the writer calls it.
    pub(crate) fn publish(&self, sequence: u64) {
        self.published.publish(sequence);
    }

    /// The rows of this moment.
    pub(crate) fn now(&self) -> Moment<'_, P> {
        Moment { view: self, sequence: self.published.now() }
    }

    /// The living row of `id`, unless it is a revision: its segment and its place in it. It may not be published yet.
    pub(crate) fn find(&self, id: u64) -> Option<(usize, usize)> {
        let segment = self.segments.partition_point(|segment| segment.first_id() <= id).checked_sub(1)?;
        let rows = self.segments[segment].rows(usize::MAX);
        let row = rows.find(id)?;
        (rows.died(row) == 0).then_some((segment, row))
    }

    /// The living row that revises `id` in the segment `uid`; `Err` if that is not in this list.
    pub(crate) fn find_revision(&self, id: u64, uid: u64) -> Result<Option<(usize, usize)>, NotInView> {
        let segment = self.segments.iter().rposition(|segment| segment.uid() == uid).ok_or(NotInView)?;
        let rows = self.segments[segment].rows(usize::MAX);
        Ok(rows.find_revision(id).filter(|&row| rows.died(row) == 0).map(|row| (segment, row)))
    }

    /// All rows, dead ones included.
    pub(crate) fn all(&self) -> usize {
        (0..self.segments.len()).map(|segment| self.all_rows(segment).len()).sum()
    }

    /// All published rows of a segment, those included that readers do not see yet.
    pub(crate) fn all_rows(&self, segment: usize) -> Rows<'_, P> {
        self.segments[segment].rows(usize::MAX)
    }
}

/// A segment that was added after a list was made, or is gone from it.
#[derive(Debug)]
pub(crate) struct NotInView;

/// The rows of one moment.
#[derive(Debug)]
pub(crate) struct Moment<'a, P> {
    view: &'a View<P>,
    sequence: u64,
}

impl<P> Clone for Moment<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Moment<'_, P> {}

impl<'a, P: Send + Sync> Moment<'a, P> {
    pub(crate) fn segments(&self) -> usize {
        self.view.segments.len()
    }

    pub(crate) fn rows(&self, segment: usize) -> Rows<'a, P> {
        let is_tail = segment + 1 == self.view.segments.len();
        let limit = if is_tail { (self.sequence - self.view.tail_from) as usize } else { usize::MAX };
        self.view.segments[segment].rows(limit)
    }

    /// Whether the row was there at this moment.
    pub(crate) fn sees(&self, rows: &Rows<'_, P>, row: usize) -> bool {
        Sequence::sees(self.sequence, rows.died(row))
    }

    /// All rows of this moment, oldest segment first.
    pub(crate) fn iter(self) -> impl Iterator<Item = (Rows<'a, P>, usize)> {
        (0..self.segments()).flat_map(move |segment| {
            let rows = self.rows(segment);
            (0..rows.len()).filter(move |&row| self.sees(&rows, row)).map(move |row| (rows, row))
        })
    }
}
