//! Short texts that were looked up lately, found again without a hash of all their bytes.

/// What stands for a text of at most [`LONGEST`] bytes: its first and last words, which overlap, and its length. Two texts have the same one
/// only if they are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Short {
    first: u64,
    last: u64,
    bytes: usize,
}

/// A text's two words cover so many bytes.
const LONGEST: usize = 16;
/// Places; a text has one.
const PLACES: usize = 16;

/// A small cache in front of a table of texts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recent<T> {
    places: [Option<(Short, T)>; PLACES],
}

impl<T: Copy> Default for Recent<T> {
    fn default() -> Self {
        Self { places: [None; PLACES] }
    }
}

impl<T: Copy> Recent<T> {
    /// What `text` was found to be, or what `find` says.
    #[inline]
    pub(super) fn find(&mut self, text: &str, find: impl FnOnce() -> T) -> T {
        let Some(short) = Short::of(text) else { return find() };
        let place = &mut self.places[short.place()];
        match place {
            Some((known, found)) if *known == short => *found,
            _ => {
                let found = find();
                *place = Some((short, found));
                found
            }
        }
    }
}

impl Short {
    #[inline]
    fn of(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() > LONGEST {
            return None;
        }
        let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        let (first, last) = match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(first), Some(last)) => (word(first), word(last)),
            _ => (bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0),
        };
        Some(Self { first, last, bytes: bytes.len() })
    }

    #[inline]
    fn place(&self) -> usize {
        ((self.first ^ self.last.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_always_that_of_the_text() {
        let mut recent = Recent::default();
        let texts: Vec<String> = (0..500).map(|n| "xy0".repeat(n % 7) + &n.to_string()).collect();
        for round in 0..3 {
            for (n, text) in texts.iter().enumerate() {
                let mut asked = false;
                let found = recent.find(text, || {
                    asked = true;
                    n
                });
                assert_eq!(found, n, "{text}");
                assert!(asked || round > 0 || text.len() <= LONGEST);
                assert_eq!(recent.find(text, || n), n);
            }
        }
        let mut asked = 0;
        for _ in 0..10 {
            recent.find("COMPLETED", || {
                asked += 1;
                0
            });
        }
        assert_eq!(asked, 1);
    }
}
