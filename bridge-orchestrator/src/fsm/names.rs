//! Names and their numbers, found without regard to the case of ASCII letters and without an allocation.

use hashbrown::HashTable;

/// The numbers are dense from 0, in the order in which names were added.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    names: Vec<Box<str>>,
    table: HashTable<u16>,
}

impl Names {
    pub(super) fn find(&self, name: &str) -> Option<u16> {
        let same = |number: &u16| is_same(&self.names[usize::from(*number)], name);
        self.table.find(hash(name), same).copied()
    }

    /// The number of `name`, which is added if it is not there. There is room: the caller keeps to its limit, which is below 2^16.
    pub(super) fn add(&mut self, name: &str) -> u16 {
        if let Some(number) = self.find(name) {
            return number;
        }
        let number = u16::try_from(self.names.len()).expect("limits are below 2^16");
        self.names.push(name.into());
        let names = &self.names;
        self.table.insert_unique(hash(name), number, |&other| hash(&names[usize::from(other)]));
        number
    }

    pub(super) fn get(&self, number: u16) -> &str {
        &self.names[usize::from(number)]
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

fn is_same(a: &str, b: &str) -> bool {
    a.len() == b.len() && words(a).zip(words(b)).all(|(a, b)| a == b)
}

/// The same for names that differ in case alone. It needs no seed: the table holds what a definition lists, and a look-up adds nothing.
/// A step is a multiplication whose halves are folded together (wyhash, Wang Yi, 2019).
fn hash(name: &str) -> u64 {
    words(name).fold(name.len() as u64, |hash, word| {
        let product = u128::from(hash ^ word ^ 0xA076_1D64_78BD_642F) * 0xE703_7ED1_A0B4_28DB;
        (product as u64) ^ ((product >> 64) as u64)
    })
}

/// The name in words of 8 bytes with its letters made small. The last word ends where the name ends, and may overlap the one before.
fn words(name: &str) -> impl Iterator<Item = u64> {
    let bytes = name.as_bytes();
    let whole = |chunk: &[u8; 8]| u64::from_le_bytes(*chunk);
    let last = match bytes.last_chunk() {
        Some(last) => whole(last),
        None => bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    let before = &bytes[..bytes.len().saturating_sub(1) / 8 * 8];
    before.as_chunks().0.iter().map(whole).chain([last]).map(lowercase)
}

/// Sets the bit that makes a letter small in each byte that is a capital one, without looking at them one by one.
fn lowercase(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let low_bits = word & (0x7F * ONES);
    let is_from_a = low_bits + (0x80 - b'A' as u64) * ONES;
    let is_behind_z = low_bits + (0x7F - b'Z' as u64) * ONES;
    let is_capital = (is_from_a ^ is_behind_z) & !word & (0x80 * ONES);
    word | is_capital >> 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_all_lengths_are_the_same_exactly_where_ascii_case_is_all_that_differs() {
        let letters: String = (0..=255_u8).map(char::from).filter(|c| *c != '\0').collect();
        let boundaries: Vec<usize> = letters.char_indices().map(|(at, _)| at).collect();
        for (step, &start) in boundaries.iter().enumerate() {
            for &end in boundaries[step + 1..].iter().take(20) {
                let name = &letters[start..end];
                let (lower, upper) = (name.to_ascii_lowercase(), name.to_ascii_uppercase());
                assert!(is_same(&lower, &upper) && hash(&lower) == hash(&upper), "{name:?}");
                for at in 0..name.len() {
                    let mut other = name.as_bytes().to_vec();
                    other[at] ^= 1;
                    if let Ok(other) = std::str::from_utf8(&other) {
                        assert_eq!(is_same(name, other), name.eq_ignore_ascii_case(other), "{name:?} {other:?}");
                    }
                }
            }
        }
    }
}
