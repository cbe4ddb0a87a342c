//! Names to numbers and back, with the postings of each name. One writer; readers look names up without a lock.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use super::postings::Postings;
use crate::name::Name;
use crate::sync::{ArcSwap, AtomicU32, AtomicU64, HashSeed, Ordering};

/// Tables that grow by themselves: growing one moves a sixteenth of the names, so that no append waits for all of them. A model has
/// one, so that few names make it grow.
const SHARDS: usize = if cfg!(event_store_loom) { 1 } else { 16 };

/// The names of one kind, numbered from 0 in the order of their first use.
#[derive(Debug)]
pub(crate) struct Interner<N> {
    shards: [ArcSwap<Slots>; SHARDS],
    entries: boxcar::Vec<NameEntry<N>>,
    /// Seeded: names come from users, who must not be able to choose collisions.
    hasher: HashSeed,
}

/// The writer's own hold on the tables: it need not ask which one is current.
#[derive(Debug)]
pub(crate) struct InternerWriter {
    tables: [Arc<Slots>; SHARDS],
    /// Where names lay that were asked for lately, and their numbers: callers keep a name and hand in clones.
    recent: [(usize, u32); RECENT],
}

/// Names that the writer finds by their place, without hashing them.
const RECENT: usize = 16;

/// A name and where its events lie.
#[derive(Debug)]
pub(crate) struct NameEntry<N> {
    pub(crate) name: N,
    pub(crate) postings: Postings,
}

/// An open-addressing table of a power of two. A slot is 0, or the upper half of a name's hash and its number plus one.
#[derive(Debug)]
struct Slots {
    slots: Box<[AtomicU64]>,
    used: AtomicU32,
}

impl Slots {
    fn with_capacity(capacity: usize) -> Self {
        let slots = (0..capacity).map(|_| AtomicU64::new(0)).collect();
        Self { slots, used: AtomicU32::new(0) }
    }

    /// Three quarters are the most that stay quick to search.
    fn is_full(&self) -> bool {
        (self.used.load(Ordering::Relaxed) as usize + 1) * 4 > self.slots.len() * 3
    }

    /// The slots to look at for `hash`, in order.
    fn probe(&self, hash: u64) -> impl Iterator<Item = &AtomicU64> {
        let mask = self.slots.len().wrapping_sub(1);
        let start = (hash >> 32) as usize;
        (0..self.slots.len()).map(move |step| &self.slots[(start + step) & mask])
    }

    fn insert(&self, hash: u64, number: u32) {
        let free = self.probe(hash).find(|slot| slot.load(Ordering::Relaxed) == 0);
        let free = free.expect("a table is replaced before it is full");
        free.store(upper_half(hash) | (u64::from(number) + 1), Ordering::Release);
        self.used.store(self.used.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn doubled(&self) -> Self {
        let larger = Self::with_capacity((self.slots.len() * 2).max(4));
        for slot in self.slots.iter().map(|slot| slot.load(Ordering::Relaxed)).filter(|&slot| slot != 0) {
            larger.insert(upper_half(slot), (slot as u32) - 1);
        }
        larger
    }
}

/// Where the writer remembers `name`; allocations lie 16 bytes apart at least.
fn slot(name: &impl Name) -> usize {
    name.place() / 16 % RECENT
}

fn upper_half(hash: u64) -> u64 {
    hash & 0xffff_ffff_0000_0000
}

impl<N: Name> Interner<N> {
    /// No names, and the right to add some.
    pub(crate) fn new() -> (Self, InternerWriter) {
        let tables = std::array::from_fn(|_| Arc::new(Slots::with_capacity(0)));
        let interner = Self {
            shards: std::array::from_fn(|shard| ArcSwap::new(Arc::clone(&tables[shard]))),
            entries: boxcar::Vec::new(),
            hasher: HashSeed::default(),
        };
        (interner, InternerWriter { tables, recent: [(0, 0); RECENT] })
    }

    /// The number of `name`, if it has one.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        self.find_in(&self.shards[hash as usize % SHARDS].load(), name, hash)
    }

    /// As [`Interner::find`], for the writer.
    #[inline]
    pub(crate) fn find_as_writer(&self, name: &N, writer: &mut InternerWriter) -> Option<u32> {
        self.find_recent(name, writer).or_else(|| {
            let hash = self.hasher.hash_one(name.as_ref());
            let number = self.find_in(&writer.tables[hash as usize % SHARDS], name.as_ref(), hash)?;
            writer.recent[slot(name)] = (name.place(), number);
            Some(number)
        })
    }

    /// The number of `name` if it lies where one lay that was asked for lately, and is the same.
    #[inline]
    fn find_recent(&self, name: &N, writer: &InternerWriter) -> Option<u32> {
        let (place, number) = writer.recent[slot(name)];
        let is_same = |known: &N| known.place() == place || known.as_ref() == name.as_ref();
        (place == name.place() && is_same(&self.entry(number).name)).then_some(number)
    }

    fn find_in(&self, table: &Slots, name: &str, hash: u64) -> Option<u32> {
        for slot in table.probe(hash) {
            let slot = slot.load(Ordering::Acquire);
            if slot == 0 {
                return None;
            }
            let number = (slot as u32) - 1;
            if upper_half(slot) == upper_half(hash) && self.entry(number).name.as_ref() == name {
                return Some(number);
            }
        }
        None
    }

    /// The number of `name`, given now if it has none.
    #[inline]
    pub(crate) fn intern(&self, name: &N, writer: &mut InternerWriter) -> u32 {
        self.find_recent(name, writer).unwrap_or_else(|| {
            let number = self.intern_by_hash(name, writer);
            writer.recent[slot(name)] = (name.place(), number);
            number
        })
    }

    fn intern_by_hash(&self, name: &N, writer: &mut InternerWriter) -> u32 {
        let hash = self.hasher.hash_one(name.as_ref());
        let shard = hash as usize % SHARDS;
        let table = &mut writer.tables[shard];
        if let Some(number) = self.find_in(table, name.as_ref(), hash) {
            return number;
        }
        let number = self.entries.push(NameEntry { name: name.clone(), postings: Postings::new() }) as u32;
        if table.is_full() {
            *table = Arc::new(table.doubled());
            self.shards[shard].store(Arc::clone(table));
        }
        table.insert(hash, number);
        number
    }

    /// The name with `number`, which was given out.
    pub(crate) fn entry(&self, number: u32) -> &NameEntry<N> {
        &self.entries[number as usize]
    }

    /// The postings of `name`, if it was ever used.
    pub(crate) fn postings(&self, name: &str) -> Option<&Postings> {
        self.find(name).map(|number| &self.entry(number).postings)
    }

    /// How many names there are.
    #[cfg(all(test, not(event_store_loom)))]
    pub(crate) fn len(&self) -> usize {
        self.entries.count()
    }
}

#[cfg(all(test, not(event_store_loom)))]
mod tests {
    use super::*;
    use crate::name::Tag;

    #[test]
    fn a_name_that_lies_where_another_lay_is_not_taken_for_it() {
        let (names, mut writer) = Interner::<Tag>::new();
        let kept = Tag::new("kept").expect("valid");
        for round in 0..1_000_u32 {
            // Each name is freed before the next is made: the allocator gives the same place again.
            let name = Tag::new(&format!("name-{round:04}")).expect("valid");
            assert_eq!(names.find_as_writer(&name, &mut writer), None);
            let number = names.intern(&name, &mut writer);
            let clone = Tag::new(name.as_str()).expect("valid");
            drop(name);
            assert_eq!(names.intern(&clone, &mut writer), number);
            assert_eq!(names.intern(&kept, &mut writer), 1);
        }
    }

    #[test]
    fn ten_thousand_names_keep_their_numbers_while_tables_grow() {
        let (names, mut writer) = Interner::<Tag>::new();
        let name = |number: u32| Tag::new(&format!("name-{number}")).expect("valid");
        for number in 0..10_000 {
            assert_eq!(names.find(name(number).as_str()), None);
            assert_eq!(names.intern(&name(number), &mut writer), number);
        }
        for number in 0..10_000 {
            assert_eq!(names.intern(&name(number), &mut writer), number);
            assert_eq!(names.find_as_writer(&name(number), &mut writer), Some(number));
            assert_eq!(names.entry(number).name, name(number));
        }
        assert_eq!(names.len(), 10_000);
    }
}
