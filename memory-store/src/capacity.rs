//! How much a store holds, and who goes when it is too much.

use crate::clock::Timestamp;
use crate::config::{Config, CriticalFull};
use crate::decay::RetentionClass;
use crate::error::Error;
use crate::eviction::Place;
use crate::journal::Journal;
use crate::segment::{Shape, Standing};
use crate::store::Shared;
use crate::writer::{Writer, standing};

/// What the living memories come to.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) memories: usize,
    /// Critical or pinned ones.
    pub(crate) protected: usize,
    /// What they take, as capacities count.
    pub(crate) bytes: u64,
    protected_bytes: u64,
    /// The latest moment that any memory was ever seen at: what ages are counted from in the order of eviction, so that none is negative.
    newest: Timestamp,
}

impl Default for Tally {
    fn default() -> Self {
        Self { memories: 0, protected: 0, bytes: 0, protected_bytes: 0, newest: Timestamp::MIN }
    }
}

impl Tally {
    pub(crate) fn add(&mut self, bytes: u64, protected: bool) {
        self.memories += 1;
        self.bytes += bytes;
        self.protected += usize::from(protected);
        self.protected_bytes += if protected { bytes } else { 0 };
    }

    pub(crate) fn remove(&mut self, bytes: u64, protected: bool) {
        self.memories -= 1;
        self.bytes -= bytes;
        self.protected -= usize::from(protected);
        self.protected_bytes -= if protected { bytes } else { 0 };
    }

    pub(crate) fn newest(&self) -> Timestamp {
        self.newest
    }

    pub(crate) fn see(&mut self, moment: Timestamp) {
        self.newest = self.newest.max(moment);
    }
}

/// What a change makes of one memory: its bytes, and whether it is protected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    /// `None` for a new one.
    pub(crate) from: Option<(u64, bool)>,
    pub(crate) to: (u64, bool),
    pub(crate) critical: bool,
}

/// Bytes of one memory without its payload: the vector, codes, signs, and what every row has.
pub(crate) fn row_bytes(shape: Shape) -> u64 {
    (shape.dimensions * 4 + shape.padded + shape.padded / 8 + 54) as u64
}

impl<P: Send + Sync> Writer<P> {
    /// Refuses a change for which room cannot be made, before anything is evicted for it: beside what is protected there has to be a place
    /// for the memory.
    pub(crate) fn check_room<C>(&self, shared: &Shared<P, C>, change: Change) -> Result<(), Error> {
        let capacity = shared.config.capacity;
        let most_bytes = capacity.max_bytes.unwrap_or(u64::MAX);
        let (bytes, _) = change.to;
        if bytes > most_bytes {
            return Err(Error::TooLarge { bytes, capacity: most_bytes });
        }
        if change.critical && capacity.on_critical_full == CriticalFull::Grow {
            return Ok(());
        }
        let tally = &self.tally;
        let (others, other_bytes) = match change.from {
            Some((bytes, true)) => (tally.protected - 1, tally.protected_bytes - bytes),
            _ => (tally.protected, tally.protected_bytes),
        };
        // A memory that is there already takes no further place.
        let is_full = change.from.is_none() && others >= capacity.max_memories || other_bytes + bytes > most_bytes;
        if is_full { Err(Error::CapacityExhausted { protected: others }) } else { Ok(()) }
    }

    /// Evicts until one more memory, of so many bytes, has room, or nothing is left that may go.
    pub(crate) fn make_room<C>(
        &mut self,
        shared: &Shared<P, C>,
        journal: &mut Journal<'_>,
        bytes: u64,
    ) -> Result<(), Error> {
        while self.tally.memories >= shared.config.capacity.max_memories && self.may_evict() {
            self.evict(shared, journal)?;
        }
        self.make_bytes(shared, journal, bytes)
    }

    /// Evicts until so many more bytes have room, or nothing is left that may go.
    pub(crate) fn make_bytes<C>(
        &mut self,
        shared: &Shared<P, C>,
        journal: &mut Journal<'_>,
        bytes: u64,
    ) -> Result<(), Error> {
        let most = shared.config.capacity.max_bytes.unwrap_or(u64::MAX);
        while self.tally.bytes.saturating_add(bytes) > most && self.may_evict() {
            self.evict(shared, journal)?;
        }
        Ok(())
    }

    fn may_evict(&self) -> bool {
        self.tally.memories > self.tally.protected
    }

    /// Removes the memory with the lowest base score of those that may go.
    fn evict<C>(&mut self, shared: &Shared<P, C>, journal: &mut Journal<'_>) -> Result<(), Error> {
        let view = shared.view.load_full();
        let (config, now) = (&shared.config, self.tally.newest);
        let mut queues = std::mem::take(&mut self.queues);
        let mut lowest: Option<(f64, Place)> = None;
        for (class, queue) in RetentionClass::ALL.into_iter().zip(&mut queues) {
            let holds = |place: &Place| {
                shared.find(&view, place.id).is_some_and(|(segment, row)| {
                    let rows = view.all_rows(segment);
                    let standing = standing(config, &rows, row);
                    standing.class == class as u8 && !rows.is_pinned(row) && rank(config, &standing) == place.rank
                })
            };
            let found = queue.lowest(holds).or_else(|| {
                if queue.is_complete() {
                    return None;
                }
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
            let (segment, row) = shared.find(&view, place.id).expect("a place that holds");
            let standing = standing(config, &view.all_rows(segment), row);
            let score = base_score(config, &standing).ln() - config.decay.fading(class, standing.seen, now);
            // Among equals the oldest goes.
            if lowest.is_none_or(|(least, other)| score.total_cmp(&least).then(place.id.cmp(&other.id)).is_lt()) {
                lowest = Some((score, place));
            }
        }
        self.queues = queues;
        let (_, place) = lowest.expect("a memory that is not protected");
        let (segment, row) = shared.find(&view, place.id).expect("a place that holds");
        let rows = view.all_rows(segment);
        journal.remove(&[place.id])?;
        self.evicted += 1;
        self.evicted_recurrences += u64::from(rows.recurrence(row));
        self.remove(shared, &rows, row);
        Ok(())
    }

    pub(crate) fn note(&mut self, config: &Config, id: u64, standing: &Standing, pinned: bool) {
        if !pinned && let Some(queue) = self.queues.get_mut(usize::from(standing.class)) {
            queue.note(Place { rank: rank(config, standing), id });
        }
    }
}

pub(crate) fn is_protected(class: u8, pinned: bool) -> bool {
    pinned || class == RetentionClass::Critical as u8
}

/// What a memory is worth by itself before it fades: `importance · weight · (1 + factor · ln(1 + n))`.
pub(crate) fn base_score(config: &Config, standing: &Standing) -> f64 {
    f64::from(standing.importance) * f64::from(standing.weight) * config.scoring.recurrence(standing.recurrence)
}

/// The rank of what is worth nothing, whenever it was seen.
const WORTHLESS: i128 = i128::MIN;

/// The order in which the memories of a class go: the logarithm of what they would have been worth at the moment 0, in small parts.
fn rank(config: &Config, standing: &Standing) -> i128 {
    let base = base_score(config, standing);
    if base == 0.0 {
        return WORTHLESS;
    }
    let class = RetentionClass::from_bits(standing.class);
    let parts = f64::from(config.decay.fraction_bits(class)).exp2();
    (base.ln() * parts) as i128 + config.decay.exponent(class, standing.seen)
}
