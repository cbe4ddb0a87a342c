//! What is changed, one change at a time.

use std::path::Path;
use std::sync::Arc;

use crate::capacity::{Change, Tally, is_protected, row_bytes};
use crate::clock::Timestamp;
use crate::config::{Capacity, Config, Recency};
use crate::decay::RetentionClass;
use crate::error::Error;
use crate::eviction::Queue;
use crate::journal::{Journal, RowRecord};
use crate::segment::{Appender, NewRow, Rows, Segment, Shape, Standing};
use crate::stats::Stats;
use crate::store::Shared;
use crate::view::View;

/// Rows of a segment at least and at most. Compaction copies a segment at a time, under the lock: at most that many rows.
const SEGMENT_ROWS: std::ops::RangeInclusive<usize> = 256..=4096;

/// The state behind the writer's lock. No code of users runs under it: what has to be dropped is kept in `retired` until it is released.
#[derive(Debug)]
pub(crate) struct Writer<P> {
    pub(crate) appender: Appender<P>,
    /// Rows ever appended.
    pub(crate) sequence: u64,
    pub(crate) next_id: u64,
    next_uid: u64,
    pub(crate) tally: Tally,
    /// Dead rows whose memory has not been given back.
    dead: usize,
    pub(crate) evicted: u64,
    pub(crate) evicted_recurrences: u64,
    /// What goes first, by class; critical ones have none.
    pub(crate) queues: [Queue; 3],
    pub(crate) retired: Vec<Arc<View<P>>>,
}

/// What makes a row, but for what the writer gives it.
pub(crate) struct Draft<'a, P> {
    pub(crate) vector: &'a [f32],
    pub(crate) codes: &'a [u8],
    pub(crate) code: crate::quantize::int8::Int8,
    pub(crate) alignment: f32,
    pub(crate) payload: Arc<P>,
    pub(crate) payload_bytes: u32,
    /// The payload as it is written down; nothing in a store in memory.
    pub(crate) encoded: &'a [u8],
}

impl<'a, P> Draft<'a, P> {
    /// The row as it is. Nothing of it is written down.
    pub(crate) fn of(rows: &Rows<'a, P>, row: usize) -> Self {
        Self {
            vector: rows.vector(row),
            codes: rows.codes(row..row + 1),
            code: rows.code(row),
            alignment: rows.alignment(row),
            payload: Arc::clone(rows.payload(row)),
            payload_bytes: rows.payload_bytes(row),
            encoded: &[],
        }
    }
}

impl<P: Send + Sync> Writer<P> {
    pub(crate) fn new(shape: Shape, capacity: &Capacity, dir: Option<&Path>) -> Result<(Self, View<P>), Error> {
        let rows = capacity.max_memories.clamp(*SEGMENT_ROWS.start(), 1024);
        let appender = Appender::new(0, 0, shape, rows, dir)?;
        let view = View::new(vec![Arc::clone(appender.segment())], 0, 0);
        let writer = Self {
            appender,
            sequence: 0,
            next_id: 1,
            next_uid: 1,
            tally: Tally::default(),
            dead: 0,
            evicted: 0,
            evicted_recurrences: 0,
            queues: Default::default(),
            retired: Vec::new(),
        };
        Ok((writer, view))
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// What is known without a look at the rows.
    pub(crate) fn counts(&self) -> Stats {
        Stats {
            bytes: self.tally.bytes,
            evicted: self.evicted,
            evicted_recurrences: self.evicted_recurrences,
            dead: self.dead,
            ..Stats::default()
        }
    }

    /// Sees to it that there is a place for a row.
    fn reserve_row<C>(&mut self, shared: &Shared<P, C>) -> Result<(), Error> {
        if self.appender.is_full() { self.add_segment(shared) } else { Ok(()) }
    }

    /// Appends a row, for which there is a place. Readers see it once the sequence is published.
    fn append<C>(&mut self, shared: &Shared<P, C>, row: NewRow<'_, P>) {
        self.next_id = self.next_id.max(row.id + 1);
        let revised = row.is_revision.then_some(row.id);
        self.appender.push(row);
        self.sequence += 1;
        if let Some(id) = revised {
            // Not before the row is there: who looks the id up finds the old row until then.
            shared.revisions_mut().insert(id, self.appender.segment().uid());
        }
    }

    fn publish<C>(&self, shared: &Shared<P, C>) {
        shared.view.load().publish(self.sequence);
    }

    pub(crate) fn add_segment<C>(&mut self, shared: &Shared<P, C>) -> Result<(), Error> {
        let rows = (self.tally.memories / 16).clamp(*SEGMENT_ROWS.start(), *SEGMENT_ROWS.end());
        let appender = Appender::new(self.take_uid(), self.next_id, shared.shape, rows, shared.dir())?;
        let mut segments = shared.view.load().segments().to_vec();
        segments.push(Arc::clone(appender.segment()));
        self.appender = appender;
        self.replace_view(shared, segments, self.sequence);
        Ok(())
    }

    pub(crate) fn take_uid(&mut self) -> u64 {
        self.next_uid += 1;
        self.next_uid - 1
    }

    fn replace_view<C>(&mut self, shared: &Shared<P, C>, segments: Vec<Arc<Segment<P>>>, tail_from: u64) {
        let view = View::new(segments, tail_from, self.sequence);
        self.retired.push(shared.view.swap(Arc::new(view)));
    }

    /// Adds a memory of its own, after it has made room for it.
    pub(crate) fn insert<C>(
        &mut self,
        shared: &Shared<P, C>,
        journal: &mut Journal<'_>,
        draft: Draft<'_, P>,
        new: &NewMemory<'_>,
    ) -> Result<u64, Error> {
        let bytes = row_bytes(shared.shape) + u64::from(draft.payload_bytes);
        let protected = new.class == RetentionClass::Critical;
        self.check_room(shared, Change { from: None, to: (bytes, protected), critical: protected })?;
        self.reserve_row(shared)?;
        let id = self.next_id;
        journal.row(&new.record(id, &draft), draft.vector)?;
        // Written down before what it makes room for: a crash in between leaves one memory too many, not one too few. That holds for a log
        // that fails in between, too: what was written down has happened, and whether it survives is for the commit to say.
        self.tally.see(new.at);
        let _ = self.make_room(shared, journal, bytes);
        let incident = new.incident.map_or(0, |name| shared.incidents_mut().assign(id, 0, name));
        let standing =
            Standing { seen: new.at, recurrence: 1, importance: new.importance, weight: 1.0, class: new.class as u8 };
        let row = NewRow {
            id,
            is_revision: false,
            vector: draft.vector,
            codes: draft.codes,
            code: draft.code,
            alignment: draft.alignment,
            first_seen: new.at,
            last_seen: new.at,
            standing,
            pinned: false,
            incident,
            payload_bytes: draft.payload_bytes,
            payload: draft.payload,
        };
        self.append(shared, row);
        self.publish(shared);
        self.tally.add(bytes, protected);
        self.note(&shared.config, id, &standing, false);
        self.compact_if_due(shared);
        Ok(id)
    }

    /// Ends the row at `at` and puts one with another vector or payload in its place, of the same id.
    pub(crate) fn revise<C>(
        &mut self,
        shared: &Shared<P, C>,
        journal: &mut Journal<'_>,
        rows: &Rows<'_, P>,
        row: usize,
        draft: Draft<'_, P>,
        after: &After<'_>,
    ) -> Result<(), Error> {
        let After { last_seen, standing, pinned, incident } = *after;
        let from = (
            row_bytes(shared.shape) + u64::from(rows.payload_bytes(row)),
            is_protected(rows.class(row), rows.is_pinned(row)),
        );
        let to = (row_bytes(shared.shape) + u64::from(draft.payload_bytes), is_protected(standing.class, pinned));
        let critical = standing.class == RetentionClass::Critical as u8;
        self.check_room(shared, Change { from: Some(from), to, critical })?;
        self.reserve_row(shared)?;
        let id = rows.id(row);
        {
            let incidents = shared.incidents();
            let incident = incident.or(incidents.name(rows.incident(row)).map(|name| &**name)).unwrap_or_default();
            let record = RowRecord {
                id,
                first_seen: rows.first_seen(row),
                last_seen,
                recurrence: standing.recurrence,
                importance: standing.importance,
                weight: standing.weight,
                class: standing.class,
                pinned,
                payload_bytes: draft.payload_bytes,
                incident,
                payload: draft.encoded,
            };
            journal.row(&record, draft.vector)?;
        }
        self.supersede(shared, rows, row, draft, after);
        self.note(&shared.config, id, &standing, pinned);
        // A larger payload may leave too little room, and this memory may be the one that goes. The revision has happened in any case.
        let _ = self.make_bytes(shared, journal, 0);
        self.compact_if_due(shared);
        Ok(())
    }

    /// Puts a row, for which there is a place, in the place of the one at `at`.
    fn supersede<C>(
        &mut self,
        shared: &Shared<P, C>,
        old: &Rows<'_, P>,
        at: usize,
        draft: Draft<'_, P>,
        after: &After<'_>,
    ) {
        let After { last_seen, standing, pinned, incident } = *after;
        let (id, from) = (old.id(at), old.incident(at));
        let incident = incident.map_or(from, |name| shared.incidents_mut().assign(id, from, name));
        let bytes = |payload: u32| row_bytes(shared.shape) + u64::from(payload);
        self.tally.see(standing.seen);
        self.tally.remove(bytes(old.payload_bytes(at)), is_protected(old.class(at), old.is_pinned(at)));
        self.tally.add(bytes(draft.payload_bytes), is_protected(standing.class, pinned));
        let row = NewRow {
            id,
            is_revision: true,
            vector: draft.vector,
            codes: draft.codes,
            code: draft.code,
            alignment: draft.alignment,
            first_seen: old.first_seen(at),
            last_seen,
            standing,
            pinned,
            incident,
            payload_bytes: draft.payload_bytes,
            payload: draft.payload,
        };
        self.append(shared, row);
        // Readers of before see the old row, those of after the new one: the sequence decides.
        old.end(at, self.sequence);
        self.dead += 1;
        self.publish(shared);
    }

    /// Changes what the row at `row` counts for. If it is to belong to another incident, one that does takes its place.
    pub(crate) fn set<C>(
        &mut self,
        shared: &Shared<P, C>,
        journal: &mut Journal<'_>,
        rows: &Rows<'_, P>,
        row: usize,
        after: &After<'_>,
    ) -> Result<(), Error> {
        let After { last_seen, standing, pinned, incident } = after;
        let another = incident.filter(|name| shared.incidents().find(name) != Some(rows.incident(row)));
        if another.is_some() {
            self.reserve_row(shared)?;
        }
        journal.standing(rows.id(row), *last_seen, standing, *pinned, another.unwrap_or_default())?;
        if another.is_some() {
            self.supersede(shared, rows, row, Draft::of(rows, row), after);
        } else {
            let bytes = row_bytes(shared.shape) + u64::from(rows.payload_bytes(row));
            self.tally.see(standing.seen);
            self.tally.remove(bytes, is_protected(rows.class(row), rows.is_pinned(row)));
            self.tally.add(bytes, is_protected(standing.class, *pinned));
            rows.set(row, *last_seen, standing, *pinned);
        }
        self.note(&shared.config, rows.id(row), standing, *pinned);
        if another.is_some() {
            self.compact_if_due(shared);
        }
        Ok(())
    }

    /// Ends the row at `row`. Readers see that at once.
    pub(crate) fn remove<C>(&mut self, shared: &Shared<P, C>, rows: &Rows<'_, P>, row: usize) {
        let id = rows.id(row);
        if rows.is_revision(row) {
            // Before the row ends, so that nobody is sent to look for it.
            shared.revisions_mut().remove(&id);
        }
        rows.end(row, 1);
        self.dead += 1;
        let bytes = row_bytes(shared.shape) + u64::from(rows.payload_bytes(row));
        self.tally.remove(bytes, is_protected(rows.class(row), rows.is_pinned(row)));
        if rows.incident(row) != 0 {
            shared.incidents_mut().remove(rows.incident(row), id);
        }
    }

    /// Copies living rows together once one row in 16 is dead, one segment at a time. Says whether it did.
    pub(crate) fn compact_if_due<C>(&mut self, shared: &Shared<P, C>) -> bool {
        if self.dead * 16 <= self.tally.memories {
            return false;
        }
        // Where there is no room for a copy now there may be later.
        let in_tail = self.appender.segment().dead();
        (self.dead - in_tail) * 16 > self.tally.memories && self.compact_worst(shared).unwrap_or_default()
    }

    /// Compacts the sealed segment with the largest share of dead rows. Says whether there was one with any.
    pub(crate) fn compact_worst<C>(&mut self, shared: &Shared<P, C>) -> Result<bool, Error> {
        let view = shared.view.load_full();
        let tail = view.segments().len() - 1;
        let share = |at: &usize| view.segments()[*at].dead() * 4096 / view.all_rows(*at).len().max(1);
        let worst = (0..tail).filter(|&at| view.segments()[at].dead() > 0).max_by_key(share);
        worst.map_or(Ok(false), |worst| self.compact(shared, &view, worst).map(|()| true))
    }

    /// Begins a new segment if rows of the last one are dead, so that it can be compacted.
    pub(crate) fn seal_dead_tail<C>(&mut self, shared: &Shared<P, C>) -> Result<(), Error> {
        if self.appender.segment().dead() > 0 { self.add_segment(shared) } else { Ok(()) }
    }

    /// Copies the living rows of a sealed segment, and of those beside it that fit, into one.
    fn compact<C>(&mut self, shared: &Shared<P, C>, view: &View<P>, worst: usize) -> Result<(), Error> {
        let sealed = view.segments().len() - 1;
        let live = |at: usize| view.all_rows(at).len() - view.segments()[at].dead();
        let (mut from, mut to, mut rows) = (worst, worst + 1, live(worst));
        let most = (self.tally.memories / 16).clamp(*SEGMENT_ROWS.start(), *SEGMENT_ROWS.end());
        while from > 0 && rows + live(from - 1) <= most {
            from -= 1;
            rows += live(from);
        }
        while to < sealed && rows + live(to) <= most {
            rows += live(to);
            to += 1;
        }
        let mut segments = view.segments()[..from].to_vec();
        let mut revised = Vec::new();
        if rows > 0 {
            let first_id = view.segments()[from].first_id();
            let mut copy = Appender::new(self.take_uid(), first_id, shared.shape, rows, shared.dir())?;
            for segment in from..to {
                let old = view.all_rows(segment);
                for row in (0..old.len()).filter(|&row| old.died(row) == 0) {
                    if old.is_revision(row) {
                        revised.push((old.id(row), copy.segment().uid()));
                    }
                    copy.push(copy_of(&shared.config, &old, row));
                }
            }
            segments.push(Arc::clone(copy.segment()));
        }
        segments.extend_from_slice(&view.segments()[to..]);
        self.dead -= view.segments()[from..to].iter().map(|segment| segment.dead()).sum::<usize>();
        self.replace_view(shared, segments, view.tail_from());
        shared.revisions_mut().extend(revised);
        Ok(())
    }

    /// Puts short segments together where there are many: each life of a store that ends with a snapshot leaves one.
    pub(crate) fn join_short_segments<C>(&mut self, shared: &Shared<P, C>) -> Result<(), Error> {
        loop {
            let view = shared.view.load_full();
            let sealed = view.segments().len() - 1;
            if sealed <= 32 + 2 * view.all().div_ceil(*SEGMENT_ROWS.end()) {
                return Ok(());
            }
            let Some(shortest) = (0..sealed).min_by_key(|&at| view.all_rows(at).len()) else { return Ok(()) };
            self.compact(shared, &view, shortest)?;
            if shared.view.load().segments().len() == view.segments().len() {
                return Ok(());
            }
        }
    }

    /// Leaves out the sealed segments of which no row lives.
    pub(crate) fn drop_dead_segments<C>(&mut self, shared: &Shared<P, C>) {
        let view = shared.view.load_full();
        let tail = view.segments().len() - 1;
        let is_dead = |at: usize| at < tail && view.segments()[at].dead() == view.all_rows(at).len();
        let segments = (0..=tail).filter(|&at| !is_dead(at)).map(|at| Arc::clone(&view.segments()[at]));
        let segments: Vec<_> = segments.collect();
        if segments.len() <= tail {
            self.dead -= (0..tail).filter(|&at| is_dead(at)).map(|at| view.segments()[at].dead()).sum::<usize>();
            self.replace_view(shared, segments, view.tail_from());
        }
    }
}

impl<P: Send + Sync> Writer<P> {
    /// Takes over the segments of a snapshot. The store is empty.
    pub(crate) fn restore<C>(
        &mut self,
        shared: &Shared<P, C>,
        mut segments: Vec<Arc<Segment<P>>>,
        next_id: u64,
        next_uid: u64,
    ) -> Result<(), Error> {
        for segment in &segments {
            let rows = segment.rows(usize::MAX);
            for row in 0..rows.len() {
                if rows.died(row) != 0 {
                    self.dead += 1;
                    continue;
                }
                let bytes = row_bytes(shared.shape) + u64::from(rows.payload_bytes(row));
                self.tally.add(bytes, is_protected(rows.class(row), rows.is_pinned(row)));
                self.tally.see(standing(&shared.config, &rows, row).seen);
                if rows.is_revision(row) {
                    shared.revisions_mut().insert(rows.id(row), segment.uid());
                }
            }
            self.sequence += rows.len() as u64;
        }
        self.next_id = next_id;
        self.next_uid = next_uid;
        let rows = (self.tally.memories / 16).clamp(*SEGMENT_ROWS.start(), *SEGMENT_ROWS.end());
        self.appender = Appender::new(self.take_uid(), next_id, shared.shape, rows, shared.dir())?;
        segments.push(Arc::clone(self.appender.segment()));
        self.replace_view(shared, segments, self.sequence);
        Ok(())
    }

    /// Does again what was written down of a row: it is there from here on, and no other of its id. What went for it has records of its own,
    /// so nothing is evicted, whatever room there is by now.
    pub(crate) fn replay_row<C>(
        &mut self,
        shared: &Shared<P, C>,
        row: &RowRecord<'_>,
        draft: Draft<'_, P>,
        after: &After<'_>,
    ) -> Result<(), Error> {
        let view = shared.view.load_full();
        self.reserve_row(shared)?;
        if let Some((segment, at)) = shared.find(&view, row.id) {
            self.supersede(shared, &view.all_rows(segment), at, draft, after);
            self.compact_if_due(shared);
            return Ok(());
        }
        let incident = after.incident.map_or(0, |name| shared.incidents_mut().assign(row.id, 0, name));
        let bytes = row_bytes(shared.shape) + u64::from(draft.payload_bytes);
        self.tally.add(bytes, is_protected(row.class, row.pinned));
        self.tally.see(after.standing.seen);
        let row = NewRow {
            id: row.id,
            // An id below those that are there has no place among them.
            is_revision: row.id < self.next_id,
            vector: draft.vector,
            codes: draft.codes,
            code: draft.code,
            alignment: draft.alignment,
            first_seen: row.first_seen,
            last_seen: after.last_seen,
            standing: after.standing,
            pinned: after.pinned,
            incident,
            payload_bytes: draft.payload_bytes,
            payload: draft.payload,
        };
        self.append(shared, row);
        self.publish(shared);
        Ok(())
    }
}

/// What a memory counts for after a change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct After<'a> {
    pub(crate) last_seen: Timestamp,
    pub(crate) standing: Standing,
    pub(crate) pinned: bool,
    /// The incident that it belongs to; `None`: as before.
    pub(crate) incident: Option<&'a str>,
}

impl After<'_> {
    /// What the row counts for now.
    pub(crate) fn of<P: Send + Sync>(config: &Config, rows: &Rows<'_, P>, row: usize) -> Self {
        let (last_seen, standing) = (rows.last_seen(row), standing(config, rows, row));
        Self { last_seen, standing, pinned: rows.is_pinned(row), incident: None }
    }
}

/// What a new memory is beside its vector and payload.
pub(crate) struct NewMemory<'a> {
    pub(crate) at: Timestamp,
    pub(crate) class: RetentionClass,
    pub(crate) importance: f32,
    pub(crate) incident: Option<&'a str>,
}

impl NewMemory<'_> {
    fn record<'a, P>(&'a self, id: u64, draft: &'a Draft<'_, P>) -> RowRecord<'a> {
        RowRecord {
            id,
            first_seen: self.at,
            last_seen: self.at,
            recurrence: 1,
            importance: self.importance,
            weight: 1.0,
            class: self.class as u8,
            pinned: false,
            payload_bytes: draft.payload_bytes,
            incident: self.incident.unwrap_or_default(),
            payload: draft.encoded,
        }
    }
}

fn copy_of<'a, P: Send + Sync>(config: &Config, rows: &Rows<'a, P>, row: usize) -> NewRow<'a, P> {
    NewRow {
        id: rows.id(row),
        is_revision: rows.is_revision(row),
        vector: rows.vector(row),
        codes: rows.codes(row..row + 1),
        code: rows.code(row),
        alignment: rows.alignment(row),
        first_seen: rows.first_seen(row),
        last_seen: rows.last_seen(row),
        standing: standing(config, rows, row),
        pinned: rows.is_pinned(row),
        incident: rows.incident(row),
        payload_bytes: rows.payload_bytes(row),
        payload: Arc::clone(rows.payload(row)),
    }
}

/// What the row counts for at this moment.
pub(crate) fn standing<P: Send + Sync>(config: &Config, rows: &Rows<'_, P>, row: usize) -> Standing {
    let seen = match config.recency {
        Recency::FirstSeen => rows.first_seen(row),
        Recency::LastSeen | Recency::LastAccessed => rows.last_seen(row),
    };
    Standing {
        seen,
        recurrence: rows.recurrence(row),
        importance: rows.importance(row),
        weight: rows.weight(row),
        class: rows.class(row),
    }
}
