//! Writing: what is there already is merged, what is new is added.

use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{Dedup, MergePolicy, Recency};
use crate::decay::RetentionClass;
use crate::durable::Lsn;
use crate::error::Error;
use crate::journal::Journal;
use crate::memory::{Memory, MemoryId, Written};
use crate::meter;
use crate::prepared::Prepared;
use crate::quantize::{int8, signs};
use crate::scan::{Match, nearest};
use crate::store::{MemoryStore, Shared};
use crate::view::View;
use crate::writer::{After, Draft, NewMemory, Writer};

/// How often a write looks for a match without the lock before it does so under it: others change the list of segments meanwhile, which
/// happens once in hundreds of writes.
const TRIES: usize = 4;

/// A vector as a row keeps it.
#[derive(Debug)]
pub(crate) struct Coded {
    codes: Vec<u8>,
    code: int8::Int8,
    alignment: f32,
}

/// What a row carries, and how it is written down.
pub(crate) struct Payload<'a, P> {
    pub(crate) payload: Arc<P>,
    pub(crate) bytes: u32,
    pub(crate) encoded: &'a [u8],
}

impl<P> Clone for Payload<'_, P> {
    fn clone(&self) -> Self {
        Self { payload: Arc::clone(&self.payload), ..*self }
    }
}

impl Coded {
    pub(crate) fn of(unit: &[f32], dimensions: usize) -> Self {
        let mut codes = vec![0; unit.len()];
        let code = int8::encode(unit, &mut codes);
        let alignment = signs::alignment(unit, &codes, dimensions);
        Self { codes, code, alignment }
    }

    pub(crate) fn draft<'a, P>(&'a self, vector: &'a [f32], payload: Payload<'a, P>) -> Draft<'a, P> {
        let Payload { payload, bytes: payload_bytes, encoded } = payload;
        Draft {
            vector,
            codes: &self.codes,
            code: self.code,
            alignment: self.alignment,
            payload,
            payload_bytes,
            encoded,
        }
    }
}

impl<P: Send + Sync, C: Clock> MemoryStore<P, C> {
    /// Stores a memory, or merges it into the one that it is a duplicate of ([`Dedup`]).
    ///
    /// A merge counts: recurrence goes up by one, the last sight to the later of the two, class and importance to the higher; a memory of no
    /// incident comes to belong to that of the write, another stays in its own. However many threads write the same at once, one memory is made, with their number as its recurrence.
    ///
    /// A new memory takes the place of others if the store is full: of those that are neither critical nor pinned, the one with the lowest
    /// `importance · weight · (1 + factor · ln(1 + n)) · exp(-rate · age)` goes first, the lowest id among equals. Ages count from the latest
    /// moment that the age of any memory was ever counted from. Critical memories that may grow past the capacity take the places of all others first.
    ///
    /// Costs the coding of the vector (about a microsecond at 384 dimensions), with [`Dedup`] a search for the match, and a copy of the row.
    ///
    /// # Errors
    ///
    /// Nothing is stored then: [`Error::Dimensions`], [`Error::NonFinite`], [`Error::ZeroNorm`], [`Error::InvalidValue`] for an importance
    /// that is not 0 to 1, [`Error::CapacityExhausted`], [`Error::TooLarge`]; on disk also [`Error::Payload`] for a payload that JSON does not
    /// write, or does not read back, and [`Error::LogFailed`]. [`Error::Io`] says by its [`Outcome`](crate::Outcome) whether it is stored.
    #[expect(clippy::needless_pass_by_value, reason = "a memory is given away")]
    pub fn write(&self, memory: Memory<'_, P>) -> Result<Written, Error> {
        let mut last = None;
        let written = self.begin_write(&memory, &mut last);
        self.shared.commit(last)?;
        written.inspect(|written| meter::written(std::slice::from_ref(written)))
    }

    /// A write that is in effect, and to be committed up to `last`.
    fn begin_write(&self, memory: &Memory<'_, P>, last: &mut Option<Lsn>) -> Result<Written, Error> {
        memory.check()?;
        let shared = &*self.shared;
        let encoded = shared.encode(&memory.payload)?;
        shared.prepare(memory.vector, |prepared| {
            let new = NewMemory {
                at: memory.at.unwrap_or_else(|| shared.clock.now()),
                class: memory.class,
                importance: memory.importance,
                incident: memory.incident,
            };
            let coded = Coded::of(&prepared.unit, shared.config.dimensions);
            let payload =
                Payload { payload: Arc::clone(&memory.payload), bytes: memory.payload_bytes, encoded: &encoded };
            let bytes = Journal::row_bytes(shared.config.dimensions, memory.incident, encoded.len());
            let dedup = shared.config.dedup.filter(|_| !memory.is_distinct);
            if dedup.is_some() {
                prepared.encode(shared.config.dimensions);
            }
            let writing = Writing { shared, prepared, coded: &coded, payload, new, bytes };
            match dedup {
                Some(dedup) => writing.merge_or_insert(dedup, last),
                None => shared.begin(bytes, last, |writer, journal| writing.insert(writer, journal)),
            }
        })
    }

    /// Writes memories one after the other, as [`write`](Self::write) does, and puts what became of each into `stored`. On disk they are
    /// acknowledged together: one sync serves them all.
    ///
    /// # Errors
    ///
    /// That of the first memory that is refused; those before it are stored, and `stored` says how. If the log fails, what of them survives
    /// is not known.
    pub fn write_batch<'a>(
        &self,
        memories: impl IntoIterator<Item = Memory<'a, P>>,
        stored: &mut Vec<Written>,
    ) -> Result<(), Error>
    where
        P: 'a,
    {
        let (mut last, before) = (None, stored.len());
        let write = |memory| self.begin_write(&memory, &mut last).map(|written| stored.push(written));
        let outcome = memories.into_iter().try_for_each(write);
        self.shared.commit(last)?;
        meter::written(&stored[before..]);
        outcome
    }
}

/// A write, with all that it needs made ready.
struct Writing<'a, P, C> {
    shared: &'a Shared<P, C>,
    prepared: &'a Prepared,
    coded: &'a Coded,
    payload: Payload<'a, P>,
    new: NewMemory<'a>,
    /// What it writes down at most.
    bytes: usize,
}

impl<P: Send + Sync, C: Clock> Writing<'_, P, C> {
    fn merge_or_insert(&self, dedup: Dedup, last: &mut Option<Lsn>) -> Result<Written, Error> {
        let shared = self.shared;
        let with = (self.prepared, &shared.config, dedup, shared.kernel);
        for attempt in 1.. {
            let under_lock = attempt == TRIES;
            let view = shared.view.load_full();
            let moment = view.now();
            let in_order = shared.revisions().is_empty();
            let (seen, start) = if under_lock {
                (None, (0, 0))
            } else {
                let last = moment.segments() - 1;
                (nearest(moment, (0, 0), in_order, with), (last, moment.rows(last).len()))
            };
            let outcome = shared.begin(self.bytes, last, |writer, journal| {
                let present = shared.view.load_full();
                if !under_lock && !Arc::ptr_eq(&present, &view) {
                    return Ok(None);
                }
                // What has been appended since.
                let in_order = in_order && shared.revisions().is_empty();
                let late = nearest(present.now(), start, in_order, with);
                let found = seen.map(|seen| seen.better(late, dedup.pick)).or(late);
                match found {
                    Some(found) => self.merge(writer, journal, &present, found, dedup.merge),
                    None => self.insert(writer, journal).map(Some),
                }
            })?;
            if let Some(written) = outcome {
                return Ok(written);
            }
        }
        unreachable!("the last attempt looks under the lock")
    }

    fn insert(&self, writer: &mut Writer<P>, journal: &mut Journal<'_>) -> Result<Written, Error> {
        let draft = self.coded.draft(&self.prepared.vector, self.payload.clone());
        let id = writer.insert(self.shared, journal, draft, &self.new)?;
        Ok(Written::Inserted(MemoryId(id)))
    }

    /// Merges into `found`; `None` if that has changed since it was found.
    fn merge(
        &self,
        writer: &mut Writer<P>,
        journal: &mut Journal<'_>,
        view: &View<P>,
        found: Match,
        policy: MergePolicy,
    ) -> Result<Option<Written>, Error> {
        let shared = self.shared;
        let Some((segment, row)) = shared.find(view, found.id) else { return Ok(None) };
        let rows = view.all_rows(segment);
        // A revision of the match may point elsewhere.
        let cosine = || self.prepared.cosine(rows.vector(row), shared.config.epsilon, shared.kernel);
        if rows.is_revision(row) && cosine() != found.similarity {
            return Ok(None);
        }
        let mut after = After::of(&shared.config, &rows, row);
        let times = after.standing.recurrence;
        after.last_seen = after.last_seen.max(self.new.at);
        if shared.config.recency != Recency::FirstSeen {
            after.standing.seen = after.last_seen;
        }
        after.standing.recurrence = times.saturating_add(1);
        after.standing.importance = after.standing.importance.max(self.new.importance);
        after.standing.class = after.standing.class.max(self.new.class as u8);
        after.incident = self.new.incident.filter(|_| rows.incident(row) == 0);
        match policy {
            MergePolicy::KeepFirst => writer.set(shared, journal, &rows, row, &after)?,
            MergePolicy::KeepLatest => {
                let draft = self.coded.draft(&self.prepared.vector, self.payload.clone());
                writer.revise(shared, journal, &rows, row, draft, &after)?;
            }
            MergePolicy::RunningMean => {
                let mean = running_mean(rows.vector(row), &self.prepared.vector, times);
                let mut unit = vec![0.0; shared.rotation.padded()];
                // The mean of opposite vectors may have no direction: the memory then keeps its own.
                let vector = if shared.rotation.unit(&mean, &mut unit) {
                    &mean[..]
                } else {
                    shared.rotation.unit(rows.vector(row), &mut unit);
                    rows.vector(row)
                };
                let coded = Coded::of(&unit, shared.config.dimensions);
                writer.revise(shared, journal, &rows, row, coded.draft(vector, self.payload.clone()), &after)?;
            }
        }
        let (id, recurrence, similarity) = (MemoryId(found.id), after.standing.recurrence, found.similarity);
        Ok(Some(Written::Merged { id, recurrence, similarity }))
    }
}

/// The mean of unit vectors: `old` stands for `times` of them.
fn running_mean(old: &[f32], new: &[f32], times: u32) -> Vec<f32> {
    let length = |vector: &[f32]| vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    let (old_length, new_length) = (length(old), length(new));
    let unit = |x: f32, length: f64| if length > 0.0 { f64::from(x) / length } else { 0.0 };
    let times = f64::from(times);
    let mean = |(&old, &new): (&f32, &f32)| (unit(old, old_length) * times + unit(new, new_length)) / (times + 1.0);
    old.iter().zip(new).map(|pair| mean(pair) as f32).collect()
}

/// What is to change of a memory. What is not named stays.
#[derive(Debug)]
#[must_use = "an update changes nothing until it is given to the store"]
pub struct Update<'a, P> {
    vector: Option<&'a [f32]>,
    payload: Option<(Arc<P>, u32)>,
    class: Option<RetentionClass>,
    importance: Option<f32>,
    incident: Option<&'a str>,
}

impl<P> Default for Update<'_, P> {
    fn default() -> Self {
        Self { vector: None, payload: None, class: None, importance: None, incident: None }
    }
}

impl<'a, P> Update<'a, P> {
    /// An update of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another vector.
    pub fn vector(mut self, vector: &'a [f32]) -> Self {
        self.vector = Some(vector);
        self
    }

    /// Another payload, which takes `bytes` bytes as the capacity counts.
    pub fn payload(mut self, payload: P, bytes: u32) -> Self {
        self.payload = Some((Arc::new(payload), bytes));
        self
    }

    /// Another class, which may be a lower one.
    pub fn class(mut self, class: RetentionClass) -> Self {
        self.class = Some(class);
        self
    }

    /// Another importance, 0 to 1.
    pub fn importance(mut self, importance: f32) -> Self {
        self.importance = Some(importance + 0.0); // there is one zero
        self
    }

    /// Another incident. The empty name changes nothing.
    pub fn incident(mut self, incident: &'a str) -> Self {
        self.incident = Some(incident).filter(|name| !name.is_empty());
        self
    }
}

impl<P: Send + Sync, C: Clock> MemoryStore<P, C> {
    /// Changes a memory. Its id, its recurrence and its times stay. Says whether it was there.
    ///
    /// # Errors
    ///
    /// Those of [`write`](Self::write), but for [`Error::Dimensions`] and its like only if a vector is given.
    #[expect(clippy::needless_pass_by_value, reason = "an update is given away")]
    pub fn update(&self, id: MemoryId, update: Update<'_, P>) -> Result<bool, Error> {
        if let Some(importance) = update.importance {
            crate::memory::check_importance(importance)?;
        }
        let shared = &*self.shared;
        let coded = match update.vector {
            Some(vector) => Some(shared.prepare(vector, |prepared| {
                Ok((prepared.vector.clone(), Coded::of(&prepared.unit, shared.config.dimensions)))
            })?),
            None => None,
        };
        let revises = coded.is_some() || update.payload.is_some();
        loop {
            // A payload that stays is written down again with the new vector.
            let kept = if update.payload.is_none() && revises { self.get(id) } else { None };
            let payload =
                update.payload.as_ref().map(|(payload, _)| payload).or(kept.as_ref().map(|kept| &kept.payload));
            let encoded = payload.map_or(Ok(Vec::new()), |payload| shared.encode(payload))?;
            let bytes = Journal::row_bytes(shared.config.dimensions, update.incident, encoded.len());
            let outcome = shared.change(bytes, |writer, journal| {
                let view = shared.view.load_full();
                let Some((segment, row)) = shared.find(&view, id.0) else { return Ok(Some(false)) };
                let rows = view.all_rows(segment);
                let mut after = After::of(&shared.config, &rows, row);
                after.standing.class = update.class.map_or(after.standing.class, |class| class as u8);
                after.standing.importance = update.importance.unwrap_or(after.standing.importance);
                after.incident = update.incident;
                if !revises {
                    writer.set(shared, journal, &rows, row, &after)?;
                    return Ok(Some(true));
                }
                let (payload, bytes) = match (&update.payload, &kept) {
                    (Some((payload, bytes)), _) => (Arc::clone(payload), *bytes),
                    (None, Some(kept)) if Arc::ptr_eq(&kept.payload, rows.payload(row)) => {
                        (Arc::clone(&kept.payload), rows.payload_bytes(row))
                    }
                    // Replaced by another writer meanwhile: this update is of what that left.
                    (None, _) => return Ok(None),
                };
                let payload = Payload { payload, bytes, encoded: &encoded };
                let draft = match &coded {
                    Some((vector, coded)) => coded.draft(vector, payload),
                    None => {
                        let Payload { payload, bytes: payload_bytes, encoded } = payload;
                        Draft { payload, payload_bytes, encoded, ..Draft::of(&rows, row) }
                    }
                };
                writer.revise(shared, journal, &rows, row, draft, &after)?;
                Ok(Some(true))
            })?;
            if let Some(was_there) = outcome {
                return Ok(was_there);
            }
        }
    }

    /// Removes a memory, whatever its class. Says whether it was there. Queries that run meanwhile may still find it; what it took is given
    /// back when a sixteenth of the store is dead, or by [`compact`](Self::compact).
    ///
    /// # Errors
    ///
    /// Those of a failed log in a store on disk.
    pub fn remove(&self, id: MemoryId) -> Result<bool, Error> {
        let shared = &*self.shared;
        shared.change(8, |writer, journal| {
            let view = shared.view.load_full();
            let Some((segment, row)) = shared.find(&view, id.0) else { return Ok(false) };
            journal.remove(&[id.0])?;
            writer.remove(shared, &view.all_rows(segment), row);
            writer.compact_if_due(shared);
            Ok(true)
        })
    }

    /// Keeps a memory whatever happens but [`remove`](Self::remove): it is neither evicted nor pruned. Says whether it was there.
    ///
    /// # Errors
    ///
    /// Those of a failed log in a store on disk.
    pub fn pin(&self, id: MemoryId) -> Result<bool, Error> {
        self.alter(id, |after| after.pinned = true)
    }

    /// Takes back a [`pin`](Self::pin). Says whether the memory was there.
    ///
    /// # Errors
    ///
    /// Those of a failed log in a store on disk.
    pub fn unpin(&self, id: MemoryId) -> Result<bool, Error> {
        self.alter(id, |after| after.pinned = false)
    }

    /// Multiplies the weight of a memory by `factor`, at least 1, to a million at most. Its base score goes up, and its score in queries by
    /// `feedback · ln(factor)`, or by the factor where scores are [multiplied](crate::Scoring::Multiplicative): one below 0 goes further down.
    /// Says whether it was there.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidValue`] if the factor is below 1 or no number; those of a failed log in a store on disk.
    pub fn boost(&self, id: MemoryId, factor: f32) -> Result<bool, Error> {
        if !(1.0..=LARGEST_WEIGHT).contains(&factor) {
            return Err(Error::InvalidValue { what: "factor", value: factor.into(), allowed: "1 to 1000000" });
        }
        self.weigh(id, factor)
    }

    /// Multiplies the weight of a memory by `factor`, above 0 and at most 1, to a millionth at least. Says whether it was there.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidValue`] if the factor is not above 0, is above 1, or is no number; those of a failed log in a store on disk.
    pub fn suppress(&self, id: MemoryId, factor: f32) -> Result<bool, Error> {
        if !(factor > 0.0 && factor <= 1.0) {
            return Err(Error::InvalidValue { what: "factor", value: factor.into(), allowed: "above 0, at most 1" });
        }
        self.weigh(id, factor)
    }

    fn weigh(&self, id: MemoryId, factor: f32) -> Result<bool, Error> {
        self.alter(id, |after| {
            let weight = &mut after.standing.weight;
            *weight = (*weight * factor).clamp(1.0 / LARGEST_WEIGHT, LARGEST_WEIGHT);
        })
    }

    fn alter(&self, id: MemoryId, change: impl FnOnce(&mut After<'_>)) -> Result<bool, Error> {
        let shared = &*self.shared;
        shared.change(Journal::STANDING_BYTES, |writer, journal| {
            let view = shared.view.load_full();
            let Some((segment, row)) = shared.find(&view, id.0) else { return Ok(false) };
            let rows = view.all_rows(segment);
            let mut after = After::of(&shared.config, &rows, row);
            change(&mut after);
            writer.set(shared, journal, &rows, row, &after)?;
            Ok(true)
        })
    }

    /// Counts memories as seen now.
    pub(crate) fn touch(&self, ids: impl ExactSizeIterator<Item = MemoryId>) -> Result<(), Error> {
        let shared = &*self.shared;
        let at = shared.clock.now();
        shared.change(ids.len() * (Journal::STANDING_BYTES + 32), |writer, journal| {
            let view = shared.view.load_full();
            for id in ids {
                let Some((segment, row)) = shared.find(&view, id.0) else { continue };
                let rows = view.all_rows(segment);
                let mut after = After::of(&shared.config, &rows, row);
                after.last_seen = after.last_seen.max(at);
                after.standing.seen = after.last_seen;
                writer.set(shared, journal, &rows, row, &after)?;
            }
            Ok(())
        })
    }

    /// Gives back what removed memories took, all of it. Readers go on meanwhile; writers wait, for about a second a gigabyte.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if there is no room on disk for the copy of a segment.
    pub fn compact(&self) -> Result<(), Error> {
        let shared = &*self.shared;
        shared.alone(|writer| writer.seal_dead_tail(shared))?;
        while shared.alone(|writer| writer.compact_worst(shared))? {}
        Ok(())
    }
}

const LARGEST_WEIGHT: f32 = 1e6;
