//! What goes first when there is no room.
//!
//! The base score of a memory is `importance · weight · (1 + factor · ln(1 + n)) · exp(-rate · age)`. Within a class all fade at one rate, so
//! the order of two memories is that of `ln(importance · weight · (1 + factor · ln(1 + n))) + rate · t`, at any time: no score has to be
//! computed anew as time passes. That sum is kept as a whole number of small parts, so that no moment is too far off for the rest to count. The
//! lowest of each class wait in a queue, which is filled by a look at all rows now and then, so that the
//! rows themselves carry nothing for it.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A memory's place in the order of eviction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Of two memories of one class the one with less goes first.
    pub(crate) rank: i128,
    pub(crate) id: u64,
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.rank, self.id).cmp(&(other.rank, other.id))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Place {}

/// The lowest memories of one class.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Some of them may have changed since.
    lowest: BinaryHeap<Reverse<Place>>,
    /// Every memory of the class that may be evicted and stands at or below it is in the queue. `None`: none need be.
    reach: Option<i128>,
    /// Entries that make a look at all rows the better choice.
    most: usize,
}

impl Queue {
    /// Tells of a memory that is new or has changed.
    pub(crate) fn note(&mut self, place: Place) {
        if self.reach.is_none_or(|reach| place.rank > reach) {
            return;
        }
        if self.lowest.len() >= self.most {
            // Mostly entries that no longer hold.
            self.lowest.clear();
            self.reach = None;
            return;
        }
        self.lowest.push(Reverse(place));
    }

    /// Fills the queue from all memories of the class that may be evicted.
    pub(crate) fn fill(&mut self, all: impl Iterator<Item = Place>) {
        let mut places: Vec<Place> = all.collect();
        let kept = (places.len() / 64).max(32);
        self.reach = Some(i128::MAX);
        if places.len() > kept {
            let (_, last, _) = places.select_nth_unstable(kept - 1);
            self.reach = Some(last.rank);
            let reach = last.rank;
            // Equals of the last are in reach too.
            places.retain(|place| place.rank <= reach);
        }
        self.most = 4 * places.len() + 1024;
        self.lowest = places.into_iter().map(Reverse).collect();
    }

    /// The lowest place of a memory that still `holds`; `None` if there is none in the queue.
    pub(crate) fn lowest(&mut self, mut holds: impl FnMut(&Place) -> bool) -> Option<Place> {
        while let Some(Reverse(place)) = self.lowest.peek() {
            if holds(place) {
                return Some(*place);
            }
            self.lowest.pop();
        }
        if !self.is_complete() {
            self.reach = None;
        }
        None
    }

    /// Whether all that may be evicted of the class is in the queue, so that to fill it would bring nothing.
    pub(crate) fn is_complete(&self) -> bool {
        self.reach == Some(i128::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Memories come, change their rank and go: what the queue names is always the lowest.
    #[test]
    fn the_lowest_comes_first_whatever_has_changed() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut all = BTreeMap::<u64, i128>::new();
            let mut queue = Queue::default();
            for id in 1..2_000u64 {
                let rank = if rng.bool() { rng.i128(..1 << 100) } else { i128::from(rng.u8(..4)) << 98 };
                let id = if rng.usize(..4) == 0 { rng.u64(1..=id) } else { id };
                all.insert(id, rank);
                queue.note(Place { rank, id });
                if rng.usize(..3) == 0 {
                    all.remove(&rng.u64(1..=id));
                }
                while all.len() > 300 {
                    let holds = |place: &Place| all.get(&place.id) == Some(&place.rank);
                    let found = queue.lowest(holds).or_else(|| {
                        queue.fill(all.iter().map(|(&id, &rank)| Place { rank, id }));
                        queue.lowest(holds)
                    });
                    let least = all.iter().map(|(&id, &rank)| Place { rank, id }).min();
                    assert_eq!(found, least, "seed {seed}");
                    all.remove(&found.expect("one of many").id);
                }
            }
            let found = queue.lowest(|place| all.get(&place.id) == Some(&place.rank));
            assert!(found.is_none() || found == all.iter().map(|(&id, &rank)| Place { rank, id }).min());
        }
    }
}
