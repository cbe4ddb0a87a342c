//! Writing: what is there already is merged, what is new is added.

use std::sync::Arc;

use crate::clock::{Clock, Timestamp};
use crate::config::{Dedup, MergePolicy, Recency};
use crate::decay::RetentionClass;
use crate::error::Error;
use crate::memory::{Memory, MemoryId, Written};
use crate::prepared::Prepared;
use crate::quantize::{int8, signs};
use crate::scan::{Match, nearest};
use crate::segment::Standing;
use crate::store::{MemoryStore, Shared};
use crate::view::View;
use crate::writer::{Draft, NewMemory, Writer, standing};

/// How often a write looks for a match without the lock before it does so under it: others change the list of segments meanwhile, which
/// happens once in hundreds of writes.
const TRIES: usize = 4;

/// A vector as a row keeps it.
#[derive(Debug, Default)]
struct Coded {
    codes: Vec<u8>,
    code: Option<int8::Int8>,
    alignment: f32,
}

impl Coded {
    fn of(unit: &[f32], dimensions: usize) -> Self {
        let mut codes = vec![0; unit.len()];
        let code = int8::encode(unit, &mut codes);
        let alignment = signs::alignment(unit, &codes, dimensions);
        Self { codes, code: Some(code), alignment }
    }

    fn draft<'a, P>(&'a self, vector: &'a [f32], payload: Arc<P>, payload_bytes: u32) -> Draft<'a, P> {
        let code = self.code.expect("codes of a vector");
        Draft { vector, codes: &self.codes, code, alignment: self.alignment, payload, payload_bytes }
    }
}

impl<P: Send + Sync, C: Clock> MemoryStore<P, C> {
    /// Stores a memory, or merges it into the one that it is a duplicate of ([`Dedup`]).
    ///
    /// A merge counts: recurrence goes up by one, the last sight to the later of the two, class and importance to the higher; an incident
    /// stays. However many threads write the same at once, one memory is made, with their number as its recurrence.
    ///
    /// A new memory takes the place of others if the store is full: of those that are neither critical nor pinned, the one with the lowest
    /// `importance · weight · (1 + factor · ln(1 + n)) · exp(-rate · age)` goes first, the lowest id among equals.
    ///
    /// Costs the coding of the vector (about a microsecond at 384 dimensions), with [`Dedup`] a search for the match, and a copy of the row.
    ///
    /// # Errors
    ///
    /// Nothing is stored then: [`Error::Dimensions`], [`Error::NonFinite`], [`Error::ZeroNorm`], [`Error::InvalidValue`] for an importance
    /// that is not 0 to 1, [`Error::CapacityExhausted`], [`Error::TooLarge`].
    #[expect(clippy::needless_pass_by_value, reason = "a memory is given away")]
    pub fn write(&self, memory: Memory<'_, P>) -> Result<Written, Error> {
        memory.check()?;
        let shared = &*self.shared;
        shared.prepare(memory.vector, |prepared| {
            let at = memory.at.unwrap_or_else(|| shared.clock.now());
            match shared.config.dedup {
                Some(dedup) => {
                    prepared.encode(shared.config.dimensions);
                    self.merge_or_insert(&memory, prepared, dedup, at)
                }
                None => {
                    let coded = Coded::of(&prepared.unit, shared.config.dimensions);
                    shared.change(|writer| insert(writer, shared, &memory, prepared, &coded, at))
                }
            }
        })
    }

    /// Writes memories one after the other, as [`write`](Self::write) does.
    ///
    /// # Errors
    ///
    /// That of the first memory that is refused. Those before it are stored: their number is the length of what `stored` then holds.
    pub fn write_batch<'a>(
        &self,
        memories: impl IntoIterator<Item = Memory<'a, P>>,
        stored: &mut Vec<Written>,
    ) -> Result<(), Error>
    where
        P: 'a,
    {
        for memory in memories {
            stored.push(self.write(memory)?);
        }
        Ok(())
    }

    fn merge_or_insert(
        &self, memory: &Memory<'_, P>, prepared: &Prepared, dedup: Dedup, at: Timestamp,
    ) -> Result<Written, Error> {
        let shared = &*self.shared;
        let with = (prepared, &shared.config, dedup, shared.kernel);
        let coded = Coded::of(&prepared.unit, shared.config.dimensions);
        for attempt in 1.. {
            let view = shared.view.load_full();
            let moment = view.now();
            let in_order = shared.revisions().is_empty();
            let seen = if attempt < TRIES { nearest(moment, (0, 0), in_order, with) } else { None };
            let start = if attempt < TRIES {
                (moment.segments() - 1, moment.rows(moment.segments() - 1).len())
            } else {
                (0, 0)
            };
            let outcome = shared.change(|writer| {
                let present = shared.view.load_full();
                if attempt < TRIES && !Arc::ptr_eq(&present, &view) {
                    return None;
                }
                // What has been appended since.
                let late = nearest(present.now(), start, in_order && shared.revisions().is_empty(), with);
                let found = match (seen, late) {
                    (Some(seen), late) => Some(seen.better(late, dedup.pick)),
                    (None, late) => late,
                };
                let Some(found) = found else {
                    return Some(insert(writer, shared, memory, prepared, &coded, at));
                };
                merge(writer, shared, &present, found, memory, (prepared, &coded, dedup.merge), at)
            });
            if let Some(result) = outcome {
                return result;
            }
        }
        unreachable!("the last attempt looks under the lock")
    }
}

fn insert<P: Send + Sync, C: Clock>(
    writer: &mut Writer<P>, shared: &Shared<P, C>, memory: &Memory<'_, P>, prepared: &Prepared, coded: &Coded, at: Timestamp,
) -> Result<Written, Error> {
    let draft = coded.draft(&prepared.vector, Arc::clone(&memory.payload), memory.payload_bytes);
    let new = NewMemory { at, class: memory.class, importance: memory.importance, incident: memory.incident };
    let id = writer.insert(shared, draft, &new, at)?;
    Ok(Written::Inserted(MemoryId(id)))
}

/// Merges into `found`; `None` if that has changed since it was found.
fn merge<P: Send + Sync, C: Clock>(
    writer: &mut Writer<P>,
    shared: &Shared<P, C>,
    view: &View<P>,
    found: Match,
    memory: &Memory<'_, P>,
    (prepared, coded, policy): (&Prepared, &Coded, MergePolicy),
    at: Timestamp,
) -> Option<Result<Written, Error>> {
    let (segment, row) = writer.find(shared, view, found.id)?;
    let rows = view.all_rows(segment);
    // A revision of the match may point elsewhere.
    if rows.is_revision(row) && prepared.cosine(rows.vector(row), shared.config.epsilon, shared.kernel) != found.similarity {
        return None;
    }
    let before = standing(&shared.config, &rows, row);
    let last_seen = rows.last_seen(row).max(at);
    let after = Standing {
        seen: if shared.config.recency == Recency::FirstSeen { before.seen } else { last_seen },
        recurrence: before.recurrence.saturating_add(1),
        importance: before.importance.max(memory.importance),
        weight: before.weight,
        class: before.class.max(memory.class as u8),
    };
    let pinned = rows.is_pinned(row);
    match policy {
        MergePolicy::KeepFirst => writer.set(shared, &rows, row, last_seen, &after, pinned),
        MergePolicy::KeepLatest => {
            let draft = coded.draft(&prepared.vector, Arc::clone(&memory.payload), memory.payload_bytes);
            writer.revise(shared, (segment, row), draft, last_seen, &after, pinned);
        }
        MergePolicy::RunningMean => {
            let mean = running_mean(rows.vector(row), &prepared.vector, before.recurrence);
            let mut unit = vec![0.0; shared.rotation.padded()];
            // The mean of opposite vectors may have no direction: the memory then keeps its own.
            let vector = if shared.rotation.unit(&mean, &mut unit) { &mean[..] } else { rows.vector(row) };
            if !std::ptr::eq(vector, mean.as_slice()) {
                let has_direction = shared.rotation.unit(vector, &mut unit);
                debug_assert!(has_direction || shared.config.epsilon > 0.0, "a stored vector has a direction");
            }
            let coded = Coded::of(&unit, shared.config.dimensions);
            let draft = coded.draft(vector, Arc::clone(&memory.payload), memory.payload_bytes);
            writer.revise(shared, (segment, row), draft, last_seen, &after, pinned);
        }
    }
    Some(Ok(Written::Merged { id: MemoryId(found.id), recurrence: after.recurrence, similarity: found.similarity }))
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
}

impl<P> Default for Update<'_, P> {
    fn default() -> Self {
        Self { vector: None, payload: None, class: None, importance: None }
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
        self.importance = Some(importance);
        self
    }
}

impl<P: Send + Sync, C: Clock> MemoryStore<P, C> {
    /// Changes a memory. Its id, its recurrence and its times stay. Says whether it was there.
    ///
    /// # Errors
    ///
    /// Those of a vector and of an importance, as for [`write`](Self::write); nothing is changed then.
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
        Ok(shared.change(|writer| {
            let view = shared.view.load_full();
            let Some((segment, row)) = writer.find(shared, &view, id.0) else { return false };
            let rows = view.all_rows(segment);
            let mut after = standing(&shared.config, &rows, row);
            after.class = update.class.map_or(after.class, |class| class as u8);
            after.importance = update.importance.unwrap_or(after.importance);
            let (last_seen, pinned) = (rows.last_seen(row), rows.is_pinned(row));
            if update.payload.is_none() && coded.is_none() {
                writer.set(shared, &rows, row, last_seen, &after, pinned);
                return true;
            }
            let (payload, bytes) =
                update.payload.unwrap_or_else(|| (Arc::clone(rows.payload(row)), rows.payload_bytes(row)));
            let draft = match &coded {
                Some((vector, coded)) => coded.draft(vector, payload, bytes),
                None => {
                    let ((code, alignment), codes) = (rows.code(row), rows.codes(row..row + 1));
                    Draft { vector: rows.vector(row), codes, code, alignment, payload, payload_bytes: bytes }
                }
            };
            writer.revise(shared, (segment, row), draft, last_seen, &after, pinned);
            true
        }))
    }

    /// Removes a memory, whatever its class. Says whether it was there. Queries that run meanwhile may still find it; what it took is given
    /// back when a sixteenth of the store is dead, or by [`compact`](Self::compact).
    pub fn remove(&self, id: MemoryId) -> bool {
        let shared = &*self.shared;
        shared.change(|writer| {
            let view = shared.view.load_full();
            let Some((segment, row)) = writer.find(shared, &view, id.0) else { return false };
            writer.remove(shared, &view.all_rows(segment), row);
            writer.compact_if_due(shared);
            true
        })
    }

    /// Keeps a memory whatever happens but [`remove`](Self::remove): it is neither evicted nor pruned. Says whether it was there.
    pub fn pin(&self, id: MemoryId) -> bool {
        self.alter(id, |_, pinned| *pinned = true)
    }

    /// Takes back a [`pin`](Self::pin). Says whether the memory was there.
    pub fn unpin(&self, id: MemoryId) -> bool {
        self.alter(id, |_, pinned| *pinned = false)
    }

    /// Multiplies the weight of a memory by `factor`, at least 1, to a million at most: its scores and its base score go up. Says whether it
    /// was there.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidValue`] if the factor is below 1 or no number.
    pub fn boost(&self, id: MemoryId, factor: f32) -> Result<bool, Error> {
        if !(1.0..=LARGEST_WEIGHT).contains(&factor) {
            return Err(Error::InvalidValue { what: "factor", value: factor.into(), allowed: "1 to 1000000" });
        }
        Ok(self.weigh(id, factor))
    }

    /// Multiplies the weight of a memory by `factor`, above 0 and at most 1, to a millionth at least. Says whether it was there.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidValue`] if the factor is not above 0, is above 1, or is no number.
    pub fn suppress(&self, id: MemoryId, factor: f32) -> Result<bool, Error> {
        if !(factor > 0.0 && factor <= 1.0) {
            return Err(Error::InvalidValue { what: "factor", value: factor.into(), allowed: "above 0, at most 1" });
        }
        Ok(self.weigh(id, factor))
    }

    fn weigh(&self, id: MemoryId, factor: f32) -> bool {
        self.alter(id, |standing, _| {
            standing.weight = (standing.weight * factor).clamp(1.0 / LARGEST_WEIGHT, LARGEST_WEIGHT);
        })
    }

    fn alter(&self, id: MemoryId, change: impl FnOnce(&mut Standing, &mut bool)) -> bool {
        let shared = &*self.shared;
        shared.change(|writer| {
            let view = shared.view.load_full();
            let Some((segment, row)) = writer.find(shared, &view, id.0) else { return false };
            let rows = view.all_rows(segment);
            let (mut after, mut pinned) = (standing(&shared.config, &rows, row), rows.is_pinned(row));
            change(&mut after, &mut pinned);
            writer.set(shared, &rows, row, rows.last_seen(row), &after, pinned);
            true
        })
    }

    /// Counts memories as seen at `at`, or now.
    pub(crate) fn touch(&self, ids: impl Iterator<Item = MemoryId>, at: Option<Timestamp>) {
        let shared = &*self.shared;
        let at = at.unwrap_or_else(|| shared.clock.now());
        shared.change(|writer| {
            let view = shared.view.load_full();
            for id in ids {
                let Some((segment, row)) = writer.find(shared, &view, id.0) else { continue };
                let rows = view.all_rows(segment);
                let mut after = standing(&shared.config, &rows, row);
                let last_seen = rows.last_seen(row).max(at);
                after.seen = last_seen;
                writer.set(shared, &rows, row, last_seen, &after, rows.is_pinned(row));
            }
        });
    }

    /// Gives back what removed memories took, all of it. Readers go on meanwhile; writers wait, for about a second a gigabyte.
    pub fn compact(&self) {
        let shared = &*self.shared;
        shared.change(|writer| writer.seal_dead_tail(shared));
        while shared.change(|writer| writer.compact_worst(shared)) {}
    }
}

const LARGEST_WEIGHT: f32 = 1e6;
