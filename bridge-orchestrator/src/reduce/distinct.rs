//! Exact sets of numbers, in the order in which they came.

use hashbrown::HashTable;

/// A set of interned texts: their number is exact, however many there are.
#[derive(Debug, Clone, Default)]
pub(super) struct Distinct {
    ids: Vec<u32>,
    largest: u32,
    /// Empty until one has to be looked for among many. A text that is new to the reducer has the largest number of all.
    table: HashTable<u32>,
}

/// So many are compared sooner than one is looked up.
const FEW: usize = 8;

impl Distinct {
    /// Adds `id`. Whether it is new.
    #[inline]
    pub(super) fn insert(&mut self, id: u32) -> bool {
        if id > self.largest || self.ids.is_empty() {
            self.largest = id;
            self.ids.push(id);
            if !self.table.is_empty() {
                self.table.insert_unique(hash(id), id, |&other| hash(other));
            }
            return true;
        }
        self.insert_among(id)
    }

    fn insert_among(&mut self, id: u32) -> bool {
        if self.table.is_empty() {
            if self.ids.len() <= FEW {
                let is_new = !self.ids.contains(&id);
                if is_new {
                    self.ids.push(id);
                }
                return is_new;
            }
            self.index();
        }
        if self.table.find(hash(id), |&other| other == id).is_some() {
            return false;
        }
        self.ids.push(id);
        self.table.insert_unique(hash(id), id, |&other| hash(other));
        true
    }

    fn index(&mut self) {
        self.table.reserve(self.ids.len() + 1, |&other| hash(other));
        for &id in &self.ids {
            self.table.insert_unique(hash(id), id, |&other| hash(other));
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for &id in &other.ids {
            self.insert(id);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// In the order in which they came.
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Replaces each number by the one that `numbers` has in its place.
    pub(super) fn renumber(&mut self, numbers: &[u32]) {
        self.ids.iter_mut().for_each(|id| *id = numbers[*id as usize]);
        self.largest = self.ids.iter().copied().max().unwrap_or(0);
        if !self.table.is_empty() {
            self.table.clear();
            self.index();
        }
    }
}

impl FromIterator<u32> for Distinct {
    fn from_iter<I: IntoIterator<Item = u32>>(ids: I) -> Self {
        let mut set = Self::default();
        for id in ids {
            set.insert(id);
        }
        set
    }
}

/// Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4); the table takes bits from both ends.
#[inline]
fn hash(id: u32) -> u64 {
    let product = u64::from(id).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    product ^ (product >> 32)
}
