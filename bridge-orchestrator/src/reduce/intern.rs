//! Texts and their numbers, dense from 0. A text that is known costs a hash and a comparison, and no allocation.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

#[derive(Debug, Clone, Default)]
pub(super) struct Interner {
    /// All texts, one after the other.
    text: String,
    spans: Vec<Span>,
    table: HashTable<u32>,
    hasher: RandomState,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    bytes: u32,
    /// The upper half is what the table looks at first; kept so that the table grows without reading texts.
    hash: u64,
}

impl Interner {
    #[inline]
    pub(super) fn hash(&self, text: &str) -> u64 {
        let mut state = self.hasher.build_hasher();
        state.write(text.as_bytes());
        state.finish()
    }

    /// The number of `text`, and whether it is new.
    #[inline]
    pub(super) fn intern(&mut self, text: &str) -> (u32, bool) {
        self.intern_hashed(self.hash(text), text)
    }

    #[inline]
    pub(super) fn intern_hashed(&mut self, hash: u64, text: &str) -> (u32, bool) {
        match self.table.find(hash, |&id| self.is(id, hash, text)) {
            Some(&id) => (id, false),
            None => (self.add(hash, text), true),
        }
    }

    pub(super) fn find(&self, text: &str) -> Option<u32> {
        let hash = self.hash(text);
        self.table.find(hash, |&id| self.is(id, hash, text)).copied()
    }

    /// Whether the text of `id`, with its `hash`, is `text`.
    #[inline]
    pub(super) fn is(&self, id: u32, hash: u64, text: &str) -> bool {
        let span = self.spans[id as usize];
        span.hash == hash && self.bytes(span) == text.as_bytes()
    }

    fn add(&mut self, hash: u64, text: &str) -> u32 {
        let id = u32::try_from(self.spans.len()).expect("memory ends before 2^32 texts do");
        let bytes = u32::try_from(text.len()).expect("a text is below 4 GiB");
        self.spans.push(Span { start: self.text.len(), bytes, hash });
        self.text.push_str(text);
        let spans = &self.spans;
        self.table.insert_unique(hash, id, |&other| spans[other as usize].hash);
        id
    }

    #[inline]
    fn bytes(&self, span: Span) -> &[u8] {
        &self.text.as_bytes()[span.start..][..span.bytes as usize]
    }

    pub(super) fn get(&self, id: u32) -> &str {
        let span = self.spans[id as usize];
        &self.text[span.start..][..span.bytes as usize]
    }

    pub(super) fn hash_of(&self, id: u32) -> u64 {
        self.spans[id as usize].hash
    }

    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.spans.len()).map(|id| self.get(id as u32))
    }

    /// Forgets the texts that are not to be kept. Returns the number that each text has now; numbers keep their order.
    pub(super) fn retain(&mut self, keep: &[bool]) -> Vec<u32> {
        let old = std::mem::replace(self, Self { hasher: self.hasher.clone(), ..Self::default() });
        let mut numbers = vec![u32::MAX; old.len()];
        for (id, _) in keep.iter().enumerate().filter(|(_, keep)| **keep) {
            numbers[id] = self.add(old.spans[id].hash, old.get(id as u32));
        }
        numbers
    }
}
