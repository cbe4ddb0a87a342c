//! Names and their numbers, found without regard to the case of ASCII letters and without an allocation.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// The numbers are dense from 0, in the order in which names were added.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    names: Vec<Box<str>>,
    table: HashTable<u16>,
    hasher: RandomState,
}

impl Names {
    pub(super) fn find(&self, name: &str) -> Option<u16> {
        let same = |number: &u16| self.names[usize::from(*number)].eq_ignore_ascii_case(name);
        self.table.find(hash(&self.hasher, name), same).copied()
    }

    /// The number of `name`, which is added if it is not there. There is room: the caller keeps to its limit, which is below 2^16.
    pub(super) fn add(&mut self, name: &str) -> u16 {
        if let Some(number) = self.find(name) {
            return number;
        }
        let number = u16::try_from(self.names.len()).expect("limits are below 2^16");
        self.names.push(name.into());
        let (names, hasher) = (&self.names, &self.hasher);
        self.table.insert_unique(hash(hasher, name), number, |&other| hash(hasher, &names[usize::from(other)]));
        number
    }

    pub(super) fn get(&self, number: u16) -> &str {
        &self.names[usize::from(number)]
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

/// By words of 8 bytes in which letters are made small: the same for names that differ in case alone.
fn hash(hasher: &RandomState, name: &str) -> u64 {
    let mut state = hasher.build_hasher();
    let mut words = name.as_bytes().chunks_exact(8);
    for word in &mut words {
        let mut word: [u8; 8] = word.try_into().expect("of 8 bytes");
        word.make_ascii_lowercase();
        state.write_u64(u64::from_le_bytes(word));
    }
    let mut rest = [0; 8];
    rest[..words.remainder().len()].copy_from_slice(words.remainder());
    rest.make_ascii_lowercase();
    state.write_u64(u64::from_le_bytes(rest) ^ ((name.len() as u64) << 56));
    state.finish()
}
