//! What is changed, one change at a time.

use std::path::Path;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::config::{Capacity, Config, CriticalFull, Recency};
use crate::decay::RetentionClass;
use crate::error::Error;
use crate::eviction::{Place, Queue};
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
    /// Living memories.
    pub(crate) live: usize,
    /// Of these, critical or pinned ones.
    pub(crate) protected: usize,
    /// What living memories take, as capacities count.
    pub(crate) bytes: u64,
    /// Dead rows whose memory has not been given back.
    dead: usize,
    evicted: u64,
    evicted_recurrences: u64,
    /// What has been evicted, as [`Queue`] orders it, by class; critical ones have none.
    queues: [Queue; 3],
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

/// Where a living row stands: its segment in the present view, and its place in it.
pub(crate) type At = (usize, usize);

/// Bytes of one memory without its payload: the vector, codes, signs, and what every row has.
pub(crate) fn row_bytes(shape: Shape) -> u64 {
    (shape.dimensions * 4 + shape.padded + shape.padded / 8 + 54) as u64
}

impl<P: Send + Sync> Writer<P> {
    pub(crate) fn new(shape: Shape, capacity: &Capacity, dir: Option<&Path>) -> Result<(Self, View<P>), Error> {
        let rows = capacity.max_memories.clamp(*SEGMENT_ROWS.start(), 1024);
        let appender = Segment::new(0, 0, shape, rows, dir)?;
        let view = View::new(vec![Arc::clone(appender.segment())], 0, 0);
        let writer = Self {
            appender,
            sequence: 0,
            next_id: 1,
            next_uid: 1,
            live: 0,
            protected: 0,
            bytes: 0,
            dead: 0,
            evicted: 0,
            evicted_recurrences: 0,
            queues: Default::default(),
            retired: Vec::new(),
        };
        Ok((writer, view))
    }

    /// What is known without a look at the rows.
    pub(crate) fn counts(&self) -> Stats {
        Stats {
            bytes: self.bytes,
            evicted: self.evicted,
            evicted_recurrences: self.evicted_recurrences,
            dead: self.dead,
            ..Stats::default()
        }
    }

    /// The living row of `id`.
    pub(crate) fn find<C>(&self, shared: &Shared<P, C>, view: &View<P>, id: u64) -> Option<At> {
        if let Some(at) = view.find(id) {
            return Some(at);
        }
        let uid = *shared.revisions().get(&id)?;
        view.find_revision(id, uid).ok().flatten()
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
        let rows = (self.live / 16).clamp(*SEGMENT_ROWS.start(), *SEGMENT_ROWS.end());
        let appender = Segment::new(self.take_uid(), self.next_id, shared.shape, rows, shared.dir())?;
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
        self.check_room(shared, bytes, new.class == RetentionClass::Critical)?;
        self.reserve_row(shared)?;
        let id = self.next_id;
        journal.row(&new.record(id, &draft), draft.vector)?;
        // Written down before what it makes room for: a crash in between leaves one memory too many, not one too few. That holds for a log
        // that fails in between, too: what was written down has happened, and whether it survives is for the commit to say.
        let _ = self.make_room(shared, journal, bytes, new.at);
        let incident = match new.incident {
            Some(name) => {
                let mut incidents = shared.incidents_mut();
                let number = incidents.number(name);
                incidents.add(number, id);
                number
            }
            None => 0,
        };
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
        self.live += 1;
        self.bytes += bytes;
        self.protected += usize::from(new.class == RetentionClass::Critical);
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
        after: &After,
    ) -> Result<(), Error> {
        self.reserve_row(shared)?;
        let After { last_seen, standing, pinned } = *after;
        let (at, old) = (row, rows);
        let id = old.id(at);
        {
            let incidents = shared.incidents();
            let incident = incidents.name(old.incident(at)).map_or("", |name| name);
            let record = RowRecord {
                id,
                first_seen: old.first_seen(at),
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
        let old_bytes = old.payload_bytes(at);
        self.count_protection(old, at, standing.class, pinned);
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
            incident: old.incident(at),
            payload_bytes: draft.payload_bytes,
            payload: draft.payload,
        };
        self.bytes = self.bytes + u64::from(row.payload_bytes) - u64::from(old_bytes);
        self.append(shared, row);
        // Readers of before see the old row, those of after the new one: the sequence decides.
        old.end(at, self.sequence);
        self.dead += 1;
        self.publish(shared);
        self.note(&shared.config, id, &standing, pinned);
        self.compact_if_due(shared);
        Ok(())
    }

    /// Changes what the row at `at` counts for.
    pub(crate) fn set<C>(
        &mut self,
        shared: &Shared<P, C>,
        journal: &mut Journal<'_>,
        rows: &Rows<'_, P>,
        row: usize,
        after: &After,
    ) -> Result<(), Error> {
        let After { last_seen, standing, pinned } = after;
        journal.standing(rows.id(row), *last_seen, standing, *pinned)?;
        self.count_protection(rows, row, standing.class, *pinned);
        rows.set(row, *last_seen, standing, *pinned);
        self.note(&shared.config, rows.id(row), standing, *pinned);
        Ok(())
    }

    fn count_protection(&mut self, rows: &Rows<'_, P>, row: usize, class: u8, pinned: bool) {
        let before = is_protected(rows.class(row), rows.is_pinned(row));
        self.protected = self.protected + usize::from(is_protected(class, pinned)) - usize::from(before);
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
        self.live -= 1;
        self.bytes -= row_bytes(shared.shape) + u64::from(rows.payload_bytes(row));
        self.protected -= usize::from(is_protected(rows.class(row), rows.is_pinned(row)));
        if rows.incident(row) != 0 {
            shared.incidents_mut().remove(rows.incident(row), id);
        }
    }

    /// Refuses a memory for which room cannot be made, before anything is evicted for it.
    fn check_room<C>(&self, shared: &Shared<P, C>, bytes: u64, critical: bool) -> Result<(), Error> {
        let capacity = shared.config.capacity;
        let most_bytes = capacity.max_bytes.unwrap_or(u64::MAX);
        if bytes > most_bytes {
            return Err(Error::TooLarge { bytes, capacity: most_bytes });
        }
        if critical && capacity.on_critical_full == CriticalFull::Grow {
            return Ok(());
        }
        let protected_bytes = || {
            let view = shared.view.load();
            let protected =
                view.now().iter().filter(|(rows, row)| is_protected(rows.class(*row), rows.is_pinned(*row)));
            protected.map(|(rows, row)| row_bytes(shared.shape) + u64::from(rows.payload_bytes(row))).sum::<u64>()
        };
        let is_full = self.protected >= capacity.max_memories
            || (self.bytes + bytes > most_bytes && self.protected > 0 && protected_bytes() + bytes > most_bytes);
        if is_full { Err(Error::CapacityExhausted { protected: self.protected }) } else { Ok(()) }
    }

    /// Evicts until a memory of `bytes` has room, or nothing is left that may go.
    fn make_room<C>(
        &mut self,
        shared: &Shared<P, C>,
        journal: &mut Journal<'_>,
        bytes: u64,
        now: Timestamp,
    ) -> Result<(), Error> {
        let capacity = shared.config.capacity;
        let most_bytes = capacity.max_bytes.unwrap_or(u64::MAX);
        while self.live > self.protected && (self.live >= capacity.max_memories || self.bytes + bytes > most_bytes) {
            self.evict(shared, journal, now)?;
        }
        Ok(())
    }

    /// Removes the memory with the lowest base score of those that may go.
    fn evict<C>(&mut self, shared: &Shared<P, C>, journal: &mut Journal<'_>, now: Timestamp) -> Result<(), Error> {
        let view = shared.view.load_full();
        let config = &shared.config;
        let mut queues = std::mem::take(&mut self.queues);
        let mut lowest: Option<(f64, Place)> = None;
        for (class, queue) in RetentionClass::ALL.into_iter().zip(&mut queues) {
            let holds = |place: &Place| {
                self.find(shared, &view, place.id).is_some_and(|(segment, row)| {
                    let rows = view.all_rows(segment);
                    let standing = standing(config, &rows, row);
                    standing.class == class as u8
                        && !rows.is_pinned(row)
                        && rank(config, &standing).total_cmp(&place.rank).is_eq()
                })
            };
            let found = queue.lowest(holds).or_else(|| {
                let all = (0..view.segments().len()).flat_map(|segment| {
                    let rows = view.all_rows(segment);
                    (0..rows.len()).map(move |row| (rows, row))
                });
                queue.fill(all.filter(|(rows, row)| rows.died(*row) == 0).filter_map(|(rows, row)| {
                    let standing = standing(config, &rows, row);
                    let counts = standing.class == class as u8 && !rows.is_pinned(row);
                    counts.then(|| Place { rank: rank(config, &standing), id: rows.id(row) })
                }));
                queue.lowest(holds)
            });
            let Some(place) = found else { continue };
            let score = place.rank - config.decay.exponent(class, now);
            // Among equals the oldest goes.
            if lowest.is_none_or(|(least, other)| score.total_cmp(&least).then(place.id.cmp(&other.id)).is_lt()) {
                lowest = Some((score, place));
            }
        }
        self.queues = queues;
        let (_, place) = lowest.expect("a memory that is not protected");
        let (segment, row) = self.find(shared, &view, place.id).expect("a place that holds");
        let rows = view.all_rows(segment);
        journal.remove(&[place.id])?;
        self.evicted += 1;
        self.evicted_recurrences += u64::from(rows.recurrence(row));
        self.remove(shared, &rows, row);
        Ok(())
    }

    fn note(&mut self, config: &Config, id: u64, standing: &Standing, pinned: bool) {
        if !pinned && let Some(queue) = self.queues.get_mut(usize::from(standing.class)) {
            queue.note(Place { rank: rank(config, standing), id });
        }
    }

    /// Copies living rows together once one row in 16 is dead, one segment at a time. Says whether it did.
    pub(crate) fn compact_if_due<C>(&mut self, shared: &Shared<P, C>) -> bool {
        if self.dead * 16 <= self.live {
            return false;
        }
        let in_tail = self.appender.segment().dead();
        // Where there is no room for a copy now there may be later.
        (self.dead - in_tail) * 16 > self.live && self.compact_worst(shared).unwrap_or(false)
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
        let most = (self.live / 16).clamp(*SEGMENT_ROWS.start(), *SEGMENT_ROWS.end());
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
            let from_id = view.segments()[from].from_id();
            let mut copy = Segment::new(self.take_uid(), from_id, shared.shape, rows, shared.dir())?;
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
    /// All rows of a view, dead ones included.
    pub(crate) fn rows(&self, view: &View<P>) -> usize {
        (0..view.segments().len()).map(|at| view.all_rows(at).len()).sum()
    }

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
                self.live += 1;
                self.protected += usize::from(is_protected(rows.class(row), rows.is_pinned(row)));
                self.bytes += row_bytes(shared.shape) + u64::from(rows.payload_bytes(row));
                if rows.is_revision(row) {
                    shared.revisions_mut().insert(rows.id(row), segment.uid());
                }
            }
            self.sequence += rows.len() as u64;
        }
        self.next_id = next_id;
        self.next_uid = next_uid;
        let rows = (self.live / 16).clamp(*SEGMENT_ROWS.start(), *SEGMENT_ROWS.end());
        self.appender = Segment::new(self.take_uid(), next_id, shared.shape, rows, shared.dir())?;
        segments.push(Arc::clone(self.appender.segment()));
        self.replace_view(shared, segments, self.sequence);
        Ok(())
    }

    /// Does again what was written down of a row: it is there from here on, and no other of its id.
    pub(crate) fn replay_row<C>(
        &mut self,
        shared: &Shared<P, C>,
        row: &RowRecord<'_>,
        draft: Draft<'_, P>,
        after: &After,
    ) -> Result<(), Error> {
        let view = shared.view.load_full();
        if let Some((segment, at)) = self.find(shared, &view, row.id) {
            return self.revise(shared, &mut Journal::none(), &view.all_rows(segment), at, draft, after);
        }
        self.reserve_row(shared)?;
        let incident = if row.incident.is_empty() {
            0
        } else {
            let mut incidents = shared.incidents_mut();
            let number = incidents.number(row.incident);
            incidents.add(number, row.id);
            number
        };
        self.live += 1;
        self.bytes += row_bytes(shared.shape) + u64::from(draft.payload_bytes);
        self.protected += usize::from(is_protected(row.class, row.pinned));
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
pub(crate) struct After {
    pub(crate) last_seen: Timestamp,
    pub(crate) standing: Standing,
    pub(crate) pinned: bool,
}

impl After {
    /// What the row counts for now.
    pub(crate) fn of<P: Send + Sync>(config: &Config, rows: &Rows<'_, P>, row: usize) -> Self {
        Self { last_seen: rows.last_seen(row), standing: standing(config, rows, row), pinned: rows.is_pinned(row) }
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
    let (code, alignment) = rows.code(row);
    NewRow {
        id: rows.id(row),
        is_revision: rows.is_revision(row),
        vector: rows.vector(row),
        codes: rows.codes(row..row + 1),
        code,
        alignment,
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

pub(crate) fn is_protected(class: u8, pinned: bool) -> bool {
    pinned || class == RetentionClass::Critical as u8
}

/// What a memory is worth by itself before it fades: `importance · weight · (1 + factor · ln(1 + n))`.
pub(crate) fn base_score(config: &Config, standing: &Standing) -> f64 {
    f64::from(standing.importance) * f64::from(standing.weight) * config.scoring.recurrence(standing.recurrence)
}

fn rank(config: &Config, standing: &Standing) -> f64 {
    base_score(config, standing).ln() + config.decay.exponent(RetentionClass::from_bits(standing.class), standing.seen)
}
