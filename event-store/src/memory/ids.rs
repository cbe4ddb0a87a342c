//! Which event ids are taken, and by which event. For the writer alone.

use std::hash::BuildHasher as _;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::sync::HashSeed;

/// Tables that grow by themselves: growing one moves a 64th of the ids.
const SHARDS: usize = 64;
/// Ids that a table has room for from its first one on: it would soon grow otherwise.
const FIRST_ROOM: usize = 14;
/// Up to this many ids a table grows fourfold, and is moved half as often as if it doubled; then twofold.
const LAST_LEAP: usize = 512;

/// An id index that stores no ids: a part of each id's hash and the number of its event, 8 bytes; the ids stand in the log.
#[derive(Debug)]
pub(crate) struct IdIndex {
    shards: Box<[HashTable<Taken>]>,
    hasher: HashSeed,
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    hash: u32,
    event: u32,
}

impl Taken {
    /// Spreads the stored half of the hash over the bits that the table looks at.
    fn table_hash(hash: u32) -> u64 {
        u64::from(hash) << 32 | u64::from(hash)
    }
}

/// An id that is taken already: the index of the new event, and the number of the one that has its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overlap {
    pub(crate) new: usize,
    pub(crate) taken_by: u32,
}

impl IdIndex {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| HashTable::new()).collect(), hasher: HashSeed::default() }
    }

    fn place(&self, id: &[u8; 16]) -> (usize, u32) {
        let hash = self.hasher.hash_one(u128::from_ne_bytes(*id));
        (hash as usize % SHARDS, (hash >> 32) as u32)
    }

    /// The event that has `id`, whose recorded ids `id_of` knows.
    pub(crate) fn find(&self, id: &[u8; 16], id_of: impl Fn(u32) -> [u8; 16]) -> Option<u32> {
        let (shard, hash) = self.place(id);
        let same = |taken: &Taken| taken.hash == hash && id_of(taken.event) == *id;
        self.shards[shard].find(Taken::table_hash(hash), same).map(|taken| taken.event)
    }

    /// Gives the ids that `new_ids` yields to the events from number `first` on. If one is taken, nothing has changed.
    pub(crate) fn insert_all<'i>(
        &mut self,
        new_ids: impl Iterator<Item = &'i [u8; 16]> + Clone,
        count: usize,
        first: u32,
        id_of: impl Fn(u32) -> [u8; 16],
    ) -> Result<(), Overlap> {
        let new_id = |index: usize| *new_ids.clone().nth(index).unwrap_or(&[0; 16]);
        let reserves = count >= 8 * SHARDS;
        if reserves {
            // One growth a table instead of several; ids spread evenly.
            for shard in &mut self.shards {
                shard.reserve(count / SHARDS, |taken| Taken::table_hash(taken.hash));
            }
        }
        for (new, id) in new_ids.clone().enumerate() {
            let (shard, hash) = self.place(id);
            let recorded = |event: u32| if event < first { id_of(event) } else { new_id((event - first) as usize) };
            let same = |taken: &Taken| taken.hash == hash && recorded(taken.event) == *id;
            let rehash = |taken: &Taken| Taken::table_hash(taken.hash);
            let table = &mut self.shards[shard];
            // An id that is taken lets nothing grow: a full table is looked through first.
            let mut taken_by = None;
            if table.len() == table.capacity() {
                taken_by = table.find(Taken::table_hash(hash), same).map(|taken| taken.event);
                if taken_by.is_none() {
                    let more = if table.len() < LAST_LEAP { (3 * table.len()).max(FIRST_ROOM) } else { 1 };
                    table.reserve(more, rehash);
                }
            }
            if taken_by.is_none() {
                match table.entry(Taken::table_hash(hash), same, rehash) {
                    Entry::Vacant(free) => {
                        free.insert(Taken { hash, event: first + new as u32 });
                    }
                    Entry::Occupied(taken) => taken_by = Some(taken.get().event),
                }
            }
            if let Some(taken_by) = taken_by {
                self.remove(new_ids.take(new), first);
                if reserves || new > 0 {
                    // What the tables grew by for a refused append goes back, too.
                    self.shrink();
                }
                return Err(Overlap { new, taken_by });
            }
        }
        Ok(())
    }

    /// Takes back what the events from number `first` on were given.
    pub(crate) fn remove<'i>(&mut self, ids: impl Iterator<Item = &'i [u8; 16]>, first: u32) {
        for (index, id) in ids.enumerate() {
            let (shard, hash) = self.place(id);
            let event = first + index as u32;
            if let Ok(taken) = self.shards[shard].find_entry(Taken::table_hash(hash), |taken| taken.event == event) {
                taken.remove();
            }
        }
    }

    fn shrink(&mut self) {
        for shard in &mut self.shards {
            shard.shrink_to_fit(|taken| Taken::table_hash(taken.hash));
        }
    }

    #[cfg(all(test, not(event_store_loom)))]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(HashTable::len).sum()
    }
}

#[cfg(all(test, not(event_store_loom)))]
mod tests {
    use super::*;

    fn id(number: u64) -> [u8; 16] {
        u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_ne_bytes()
    }

    fn insert(index: &mut IdIndex, numbers: &[u64], first: u32, recorded: &[u64]) -> Result<(), Overlap> {
        let ids: Vec<[u8; 16]> = numbers.iter().copied().map(id).collect();
        index.insert_all(ids.iter(), ids.len(), first, |event| id(recorded[event as usize]))
    }

    #[test]
    fn ids_are_found_with_their_events() {
        let mut index = IdIndex::new();
        let recorded: Vec<u64> = (0..5_000).collect();
        insert(&mut index, &recorded, 0, &[]).expect("all are new");
        for event in 0..5_000 {
            assert_eq!(index.find(&id(u64::from(event)), |e| id(u64::from(e))), Some(event));
        }
        assert_eq!(index.find(&id(5_000), |e| id(u64::from(e))), None);
    }

    #[test]
    fn an_overlap_leaves_nothing_behind() {
        let mut index = IdIndex::new();
        insert(&mut index, &[1, 2, 3], 0, &[]).expect("all are new");
        let overlap = insert(&mut index, &[10, 11, 2, 12], 3, &[1, 2, 3]).unwrap_err();
        assert_eq!(overlap, Overlap { new: 2, taken_by: 1 });
        assert_eq!(index.len(), 3);
        insert(&mut index, &[10, 11, 12], 3, &[1, 2, 3]).expect("none was kept");
    }

    #[test]
    fn a_full_table_does_not_grow_for_an_id_that_is_taken() {
        let mut index = IdIndex::new();
        let mut recorded = Vec::new();
        let capacity = |index: &IdIndex| index.shards.iter().map(HashTable::capacity).sum::<usize>();
        for number in 0..150_000 {
            insert(&mut index, &[number], number as u32, &recorded).expect("it is new");
            recorded.push(number);
            let (shard, _) = index.place(&id(number));
            if index.shards[shard].len() == index.shards[shard].capacity() {
                let before = capacity(&index);
                insert(&mut index, &[number], number as u32 + 1, &recorded).unwrap_err();
                assert_eq!(capacity(&index), before, "after {number}");
            }
        }
    }

    #[test]
    fn an_id_that_stands_twice_in_one_append_is_an_overlap_with_itself() {
        let mut index = IdIndex::new();
        let overlap = insert(&mut index, &[7, 8, 7], 0, &[]).unwrap_err();
        assert_eq!(overlap, Overlap { new: 2, taken_by: 0 });
        assert_eq!(index.len(), 0);
    }
}
