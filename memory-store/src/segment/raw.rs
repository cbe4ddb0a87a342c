//! A segment's memory: one thread appends, any number read what has been published.

#![allow(unsafe_code, reason = "memory that one thread writes while others read what is done")]

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::column::{Column, Rare};
use super::maxima::raise_then;
use super::{GROUP, Maxima, Standing};
use crate::clock::Timestamp;
use crate::durable::sections::{SectionFile, SectionWriter};
use crate::error::Error;
use crate::quantize::{int8::Int8, signs};

/// How long the vectors of a store are, and their codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) dimensions: usize,
    /// Bytes of a row's codes: the dimensions, rounded up to a multiple of 64.
    pub(crate) padded: usize,
}

impl Shape {
    pub(crate) fn new(dimensions: usize) -> Self {
        Self { dimensions, padded: dimensions.next_multiple_of(64) }
    }

    /// Bytes of the signs of a group.
    fn plane(&self) -> usize {
        self.padded / 4 * 32
    }

    /// Bytes of what a group has in [`Segment::planes`]: its signs, and an alignment for each row.
    fn sheet(&self) -> usize {
        self.plane() + GROUP * size_of::<f32>()
    }
}

/// Everything that a row is made of.
#[derive(Debug)]
pub(crate) struct NewRow<'a, P> {
    pub(crate) id: u64,
    /// Whether the id was given to an earlier row: then ids of neighbours say nothing about where it stands.
    pub(crate) is_revision: bool,
    pub(crate) vector: &'a [f32],
    pub(crate) codes: &'a [u8],
    pub(crate) code: Int8,
    pub(crate) alignment: f32,
    pub(crate) first_seen: Timestamp,
    pub(crate) last_seen: Timestamp,
    pub(crate) standing: Standing,
    pub(crate) pinned: bool,
    pub(crate) incident: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) payload: Arc<P>,
}

/// Rows, a column for each property.
pub(crate) struct Segment<P> {
    uid: u64,
    /// Rows that are no revisions have at least this id.
    first_id: u64,
    shape: Shape,
    capacity: usize,
    len: AtomicUsize,
    /// Rows that are dead.
    dead: AtomicUsize,

    // Written before the row is published, and never after.
    vectors: Column<f32>,
    codes: Column<u8>,
    /// For each group the signs of its rows, once all are there, and after them how far each vector is aligned with its signs: what is read
    /// together lies together.
    planes: Column<u8>,
    /// Scale and residual of the codes.
    scales: Column<[f32; 2]>,
    /// Ids in ascending order, or, where the row is a revision, that of the row before it.
    order: Column<u64>,
    /// Ids of revisions; 0 for other rows.
    revised: Rare<u64>,
    first_seen: Column<i64>,
    incidents: Rare<u32>,
    payload_bytes: Rare<u32>,
    payloads: Column<MaybeUninit<Arc<P>>>,

    // Changed in place by the writer.
    last_seen: Column<AtomicI64>,
    recurrence: Column<AtomicU32>,
    importance: Column<AtomicU32>,
    weight: Column<AtomicU32>,
    /// The class, and a bit for pinned rows.
    traits: Column<AtomicU8>,
    /// 0 while the row lives.
    died: Column<AtomicU64>,
    groups: Box<[Maxima]>,
    whole: Maxima,
}

const PINNED: u8 = 4;

/// The sections of a segment's file.
pub(crate) mod tag {
    pub(crate) const VECTORS: u32 = 1;
    pub(crate) const CODES: u32 = 2;
    pub(crate) const PLANES: u32 = 3;
    pub(crate) const SCALES: u32 = 4;
    pub(crate) const ORDER: u32 = 5;
    pub(crate) const REVISED: u32 = 6;
    pub(crate) const FIRST_SEEN: u32 = 7;
    pub(crate) const INCIDENTS: u32 = 8;
    pub(crate) const PAYLOAD_BYTES: u32 = 9;
    /// Where each payload ends in [`PAYLOADS`].
    pub(crate) const PAYLOAD_ENDS: u32 = 10;
    pub(crate) const PAYLOADS: u32 = 11;
    pub(crate) const FIRST_ID: u32 = 12;
}

/// What a segment is made of again.
pub(crate) struct Restored<'a, P> {
    pub(crate) file: &'a Arc<SectionFile>,
    pub(crate) first_id: u64,
    pub(crate) payloads: &'a [Arc<P>],
    pub(crate) standings: &'a [RestoredRow],
}

/// What a row counts for, as a file has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RestoredRow {
    pub(crate) last_seen: Timestamp,
    pub(crate) counts: Standing,
    pub(crate) pinned: bool,
    pub(crate) is_dead: bool,
}

impl<P: Send + Sync> Segment<P> {
    /// A full segment from its file and what its rows count for.
    pub(crate) fn restore(uid: u64, shape: Shape, rows: &Restored<'_, P>) -> Result<Arc<Self>, Error> {
        let (file, len) = (rows.file, rows.standings.len());
        let groups = len.div_ceil(GROUP);
        let segment = Self {
            uid,
            first_id: rows.first_id,
            shape,
            capacity: groups * GROUP,
            len: AtomicUsize::new(0),
            dead: AtomicUsize::new(0),
            vectors: Column::of_file(file, tag::VECTORS, len * shape.dimensions)?,
            codes: Column::of_file(file, tag::CODES, len * shape.padded)?,
            planes: Column::of_file(file, tag::PLANES, groups * shape.sheet())?,
            scales: Column::of_file(file, tag::SCALES, len)?,
            order: Column::of_file(file, tag::ORDER, len)?,
            revised: Rare::of_file(file, tag::REVISED, len)?,
            first_seen: Column::of_file(file, tag::FIRST_SEEN, len)?,
            incidents: Rare::of_file(file, tag::INCIDENTS, len)?,
            payload_bytes: Rare::of_file(file, tag::PAYLOAD_BYTES, len)?,
            payloads: Column::new(len),
            last_seen: Column::new(len),
            recurrence: Column::new(len),
            importance: Column::new(len),
            weight: Column::new(len),
            traits: Column::new(len),
            died: Column::new(len),
            groups: (0..groups).map(|_| Maxima::new()).collect(),
            whole: Maxima::new(),
        };
        let all = Rows { segment: &segment, len };
        for (row, standing) in rows.standings.iter().enumerate() {
            let payload = MaybeUninit::new(Arc::clone(&rows.payloads[row]));
            // SAFETY: nobody else has the segment yet.
            unsafe { segment.payloads.write(row, &[payload]) };
            // Each payload that is in is dropped with the segment, whatever comes of the rest.
            segment.len.store(row + 1, Ordering::Relaxed);
            let alignment = all.alignment(row);
            for maxima in [&segment.groups[row / GROUP], &segment.whole] {
                maxima.raise(&standing.counts);
                maxima.align(alignment);
            }
            all.put(row, standing.last_seen, &standing.counts, standing.pinned, Ordering::Relaxed);
            if standing.is_dead {
                all.end(row, 1);
            }
        }
        Ok(Arc::new(segment))
    }

    /// Tells this segment from all others of its store, past and present.
    pub(crate) fn uid(&self) -> u64 {
        self.uid
    }

    pub(crate) fn first_id(&self) -> u64 {
        self.first_id
    }

    /// The published rows, `limit` at most.
    pub(crate) fn rows(&self, limit: usize) -> Rows<'_, P> {
        Rows { len: self.len.load(Ordering::Acquire).min(limit), segment: self }
    }

    /// Rows that are marked as dead.
    pub(crate) fn dead(&self) -> usize {
        self.dead.load(Ordering::Relaxed)
    }
}

impl<P> Drop for Segment<P> {
    fn drop(&mut self) {
        let len = *self.len.get_mut();
        // SAFETY: nobody else has the segment any more. The payloads of published rows were put in and are dropped once.
        for payload in unsafe { self.payloads.slice(0..len) } {
            // SAFETY: as above; the copy takes the reference over, and the column drops none.
            drop(unsafe { payload.assume_init_read() });
        }
    }
}

impl<P> fmt::Debug for Segment<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("uid", &self.uid).field("len", &self.len).finish_non_exhaustive()
    }
}

/// The one that may append to a segment.
#[derive(Debug)]
pub(crate) struct Appender<P>(Arc<Segment<P>>);

impl<P: Send + Sync> Appender<P> {
    /// An empty segment for `capacity` rows, rounded up to whole groups, whose ids begin at `first_id` or later.
    ///
    /// Its vectors lie in a file of `dir`, if there is one.
    pub(crate) fn new(
        uid: u64,
        first_id: u64,
        shape: Shape,
        capacity: usize,
        dir: Option<&Path>,
    ) -> Result<Self, Error> {
        let capacity = capacity.next_multiple_of(GROUP);
        Ok(Self(Arc::new(Segment {
            uid,
            first_id,
            shape,
            capacity,
            len: AtomicUsize::new(0),
            dead: AtomicUsize::new(0),
            vectors: Column::in_dir(capacity * shape.dimensions, dir)?,
            codes: Column::new(capacity * shape.padded),
            planes: Column::new(capacity / GROUP * shape.sheet()),
            scales: Column::new(capacity),
            order: Column::new(capacity),
            revised: Rare::new(capacity),
            first_seen: Column::new(capacity),
            incidents: Rare::new(capacity),
            payload_bytes: Rare::new(capacity),
            payloads: Column::new(capacity),
            last_seen: Column::new(capacity),
            recurrence: Column::new(capacity),
            importance: Column::new(capacity),
            weight: Column::new(capacity),
            traits: Column::new(capacity),
            died: Column::new(capacity),
            groups: (0..capacity / GROUP).map(|_| Maxima::new()).collect(),
            whole: Maxima::new(),
        })))
    }

    pub(crate) fn segment(&self) -> &Arc<Segment<P>> {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len.load(Ordering::Relaxed)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() == self.0.capacity
    }

    /// Adds a row and publishes it. Returns where it stands.
    ///
    /// # Panics
    ///
    /// If the segment is full or the row has another shape.
    pub(crate) fn push(&mut self, row: NewRow<'_, P>) -> usize {
        let segment = &*self.0;
        let (at, shape) = (self.len(), segment.shape);
        assert!(at < segment.capacity, "room in the segment");
        assert!(row.vector.len() == shape.dimensions && row.codes.len() == shape.padded, "the shape of the segment");
        let maxima = &segment.groups[at / GROUP];
        for maxima in [maxima, &segment.whole] {
            maxima.raise(&row.standing);
            maxima.align(row.alignment);
        }
        // SAFETY: there is one appender, by `&mut`, and readers stay below `len`: nobody reads or writes what belongs to row `at`. The
        // row before it may be read by others at the same time as here.
        unsafe {
            segment.vectors.write(at * shape.dimensions, row.vector);
            segment.codes.write(at * shape.padded, row.codes);
            segment.scales.write(at, &[[row.code.scale, row.code.residual]]);
            let alignment = at / GROUP * shape.sheet() + shape.plane() + at % GROUP * size_of::<f32>();
            segment.planes.write(alignment, &row.alignment.to_ne_bytes());
            if row.is_revision {
                let before = at.checked_sub(1).map_or(0, |before| segment.order.slice(before..at)[0]);
                segment.order.write(at, &[before]);
                segment.revised.write(at, row.id);
            } else {
                segment.order.write(at, &[row.id]);
            }
            segment.first_seen.write(at, &[row.first_seen.0]);
            segment.incidents.write(at, row.incident);
            segment.payload_bytes.write(at, row.payload_bytes);
            segment.payloads.write(at, &[MaybeUninit::new(row.payload)]);
        }
        let rows = Rows { segment, len: at + 1 };
        rows.put(at, row.last_seen, &row.standing, row.pinned, Ordering::Relaxed);
        if (at + 1).is_multiple_of(GROUP) {
            let group = at / GROUP;
            let mut plane = vec![0; shape.plane()];
            // SAFETY: the codes of the group are written, and no one but this appender writes here.
            let codes = unsafe { segment.codes.slice(group * GROUP * shape.padded..(at + 1) * shape.padded) };
            signs::pack(codes, shape.padded, &mut plane);
            // SAFETY: a plane is read only once its whole group is published.
            unsafe { segment.planes.write(group * shape.sheet(), &plane) };
        }
        segment.len.store(at + 1, Ordering::Release);
        at
    }
}

/// The first rows of a segment, all of which are published.
pub(crate) struct Rows<'a, P> {
    segment: &'a Segment<P>,
    len: usize,
}

impl<P> Clone for Rows<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Rows<'_, P> {}

impl<'a, P> Rows<'a, P> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn check(&self, row: usize) -> usize {
        assert!(row < self.len, "row {row} of {}", self.len);
        row
    }

    fn check_range(&self, rows: &Range<usize>) {
        assert!(rows.start <= rows.end && rows.end <= self.len, "rows {rows:?} of {}", self.len);
    }

    pub(crate) fn vector(&self, row: usize) -> &'a [f32] {
        let dimensions = self.segment.shape.dimensions;
        let at = self.check(row) * dimensions;
        // SAFETY: published rows are not written any more.
        unsafe { self.segment.vectors.slice(at..at + dimensions) }
    }

    /// The codes of `rows`, one after the other.
    pub(crate) fn codes(&self, rows: Range<usize>) -> &'a [u8] {
        self.check_range(&rows);
        let padded = self.segment.shape.padded;
        // SAFETY: published rows are not written any more.
        unsafe { self.segment.codes.slice(rows.start * padded..rows.end * padded) }
    }

    /// The signs of a group; `None` until all its rows are published.
    pub(crate) fn plane(&self, group: usize) -> Option<&'a [u8]> {
        let (at, bytes) = (group * self.segment.shape.sheet(), self.segment.shape.plane());
        if (group + 1) * GROUP > self.len {
            return None;
        }
        // SAFETY: the group's rows are published, after its plane was written.
        Some(unsafe { self.segment.planes.slice(at..at + bytes) })
    }

    /// Puts the columns that never change into a file.
    pub(crate) fn save(&self, file: &mut SectionWriter) -> Result<(), Error> {
        let (segment, len) = (self.segment, self.len);
        let shape = segment.shape;
        // What belongs to rows that are not published may be written meanwhile: of a group that is not whole the signs are left out.
        let (whole, rest) = (len / GROUP, len % GROUP);
        let mut sheet = vec![0; if rest > 0 { shape.sheet() } else { 0 }];
        if rest > 0 {
            let alignments = self.alignments(whole);
            sheet[shape.plane()..][..size_of_val(alignments)].copy_from_slice(bytes(alignments));
        }
        // SAFETY: all of these groups is published, and not written any more.
        let sheets = unsafe { segment.planes.slice(0..whole * shape.sheet()) };
        file.stream(tag::PLANES, |out| out.write_all(sheets).and_then(|()| out.write_all(&sheet)))?;
        // SAFETY: published rows are not written any more.
        unsafe {
            file.section(tag::VECTORS, bytes(segment.vectors.slice(0..len * shape.dimensions)))?;
            file.section(tag::CODES, segment.codes.slice(0..len * shape.padded))?;
            file.section(tag::SCALES, bytes(segment.scales.slice(0..len)))?;
            file.section(tag::ORDER, bytes(segment.order.slice(0..len)))?;
            file.section(tag::REVISED, bytes(segment.revised.slice(len).unwrap_or(&vec![0; len])))?;
            file.section(tag::FIRST_SEEN, bytes(segment.first_seen.slice(0..len)))?;
            file.section(tag::INCIDENTS, bytes(segment.incidents.slice(len).unwrap_or(&vec![0; len])))?;
            file.section(tag::PAYLOAD_BYTES, bytes(segment.payload_bytes.slice(len).unwrap_or(&vec![0; len])))?;
        }
        file.section(tag::FIRST_ID, &segment.first_id.to_le_bytes())
    }

    pub(crate) fn code(&self, row: usize) -> Int8 {
        let row = self.check(row);
        // SAFETY: published rows are not written any more.
        let [scale, residual] = unsafe { self.segment.scales.slice(row..row + 1)[0] };
        Int8 { scale, residual }
    }

    /// How far the vectors of a group are aligned with their signs, those of its published rows.
    pub(crate) fn alignments(&self, group: usize) -> &'a [f32] {
        let rows = group * GROUP..self.len.min((group + 1) * GROUP);
        self.check_range(&rows);
        let at = group * self.segment.shape.sheet() + self.segment.shape.plane();
        // SAFETY: the alignments of published rows are not written any more.
        bytemuck::cast_slice(unsafe { self.segment.planes.slice(at..at + rows.len() * size_of::<f32>()) })
    }

    pub(crate) fn alignment(&self, row: usize) -> f32 {
        self.alignments(row / GROUP)[row % GROUP]
    }

    pub(crate) fn id(&self, row: usize) -> u64 {
        let row = self.check(row);
        // SAFETY: published rows are not written any more.
        let (order, revised) = unsafe { (self.segment.order.slice(row..row + 1), self.segment.revised.get(row)) };
        if revised != 0 { revised } else { order[0] }
    }

    pub(crate) fn is_revision(&self, row: usize) -> bool {
        let row = self.check(row);
        // SAFETY: published rows are not written any more.
        unsafe { self.segment.revised.get(row) != 0 }
    }

    /// The row that was first given `id`.
    pub(crate) fn find(&self, id: u64) -> Option<usize> {
        // SAFETY: published rows are not written any more.
        let order = unsafe { self.segment.order.slice(0..self.len) };
        let row = order.partition_point(|&other| other < id);
        (order.get(row) == Some(&id) && !self.is_revision(row)).then_some(row)
    }

    /// The last row that revises `id`.
    pub(crate) fn find_revision(&self, id: u64) -> Option<usize> {
        // SAFETY: published rows are not written any more.
        let revised = unsafe { self.segment.revised.slice(self.len) }?;
        revised.iter().rposition(|&other| other == id)
    }

    pub(crate) fn first_seen(&self, row: usize) -> Timestamp {
        let row = self.check(row);
        // SAFETY: published rows are not written any more.
        Timestamp(unsafe { self.segment.first_seen.slice(row..row + 1)[0] })
    }

    pub(crate) fn incident(&self, row: usize) -> u32 {
        let row = self.check(row);
        // SAFETY: published rows are not written any more.
        unsafe { self.segment.incidents.get(row) }
    }

    pub(crate) fn payload_bytes(&self, row: usize) -> u32 {
        let row = self.check(row);
        // SAFETY: published rows are not written any more.
        unsafe { self.segment.payload_bytes.get(row) }
    }

    pub(crate) fn payload(&self, row: usize) -> &'a Arc<P> {
        let row = self.check(row);
        // SAFETY: published rows are not written any more, and each has a payload.
        unsafe { self.segment.payloads.slice(row..row + 1)[0].assume_init_ref() }
    }

    fn atom<T: super::column::Plain>(&self, column: &'a Column<T>, row: usize) -> &'a T {
        let row = self.check(row);
        // SAFETY: atomics are changed through `&T` alone.
        unsafe { &column.slice(row..row + 1)[0] }
    }

    pub(crate) fn last_seen(&self, row: usize) -> Timestamp {
        Timestamp(self.atom(&self.segment.last_seen, row).load(Ordering::Acquire))
    }

    pub(crate) fn recurrence(&self, row: usize) -> u32 {
        self.atom(&self.segment.recurrence, row).load(Ordering::Acquire)
    }

    pub(crate) fn importance(&self, row: usize) -> f32 {
        f32::from_bits(self.atom(&self.segment.importance, row).load(Ordering::Acquire))
    }

    pub(crate) fn weight(&self, row: usize) -> f32 {
        f32::from_bits(self.atom(&self.segment.weight, row).load(Ordering::Acquire) ^ ONE)
    }

    pub(crate) fn class(&self, row: usize) -> u8 {
        self.atom(&self.segment.traits, row).load(Ordering::Acquire) & 3
    }

    pub(crate) fn is_pinned(&self, row: usize) -> bool {
        self.atom(&self.segment.traits, row).load(Ordering::Acquire) & PINNED != 0
    }

    /// The sequence at which the row ended, 0 while it lives.
    pub(crate) fn died(&self, row: usize) -> u64 {
        self.atom(&self.segment.died, row).load(Ordering::Acquire)
    }

    pub(crate) fn maxima(&self, group: usize) -> &'a Maxima {
        &self.segment.groups[group]
    }

    pub(crate) fn whole(&self) -> &'a Maxima {
        &self.segment.whole
    }

    /// Changes what a row counts for, its bounds first. Only the writer calls it.
    pub(crate) fn set(&self, row: usize, last_seen: Timestamp, standing: &Standing, pinned: bool) {
        raise_then(&[self.maxima(row / GROUP), self.whole()], standing, || {
            self.put(row, last_seen, standing, pinned, Ordering::Release);
        });
    }

    fn put(&self, row: usize, last_seen: Timestamp, standing: &Standing, pinned: bool, order: Ordering) {
        self.atom(&self.segment.last_seen, row).store(last_seen.0, order);
        self.atom(&self.segment.recurrence, row).store(standing.recurrence, order);
        self.atom(&self.segment.importance, row).store(standing.importance.to_bits(), order);
        let weight = standing.weight.to_bits() ^ ONE;
        let atom = self.atom(&self.segment.weight, row);
        // Pages of weights that nobody has changed cost nothing.
        if atom.load(Ordering::Relaxed) != weight {
            atom.store(weight, order);
        }
        let pinned = if pinned { PINNED } else { 0 };
        self.atom(&self.segment.traits, row).store(standing.class | pinned, order);
    }

    /// Ends a row at `sequence`: readers that began before it still see it. Only the writer calls it, once a row.
    pub(crate) fn end(&self, row: usize, sequence: u64) {
        self.atom(&self.segment.died, row).store(sequence, Ordering::Release);
        self.segment.dead.fetch_add(1, Ordering::Relaxed);
    }
}

/// Numbers as a file has them, which is as they lie in memory: no store is opened on disk where that is not little-endian.
fn bytes<T: bytemuck::NoUninit>(numbers: &[T]) -> &[u8] {
    bytemuck::cast_slice(numbers)
}

/// A weight is stored as its difference from 1, bit by bit, so that what was never boosted is zero.
const ONE: u32 = 1f32.to_bits();

impl<P> fmt::Debug for Rows<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("segment", &self.segment.uid).field("len", &self.len).finish()
    }
}
