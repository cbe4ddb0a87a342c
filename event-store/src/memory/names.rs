//! The store's names and tag sets: everything that events refer to by number.

use hashbrown::HashTable;
use smallvec::SmallVec;
use std::hash::BuildHasher as _;

use super::interner::{Interner, InternerWriter};
use crate::batch::{Header, NO_STREAM};
use crate::name::{EventType, StreamId, Tag, Tags};
use crate::sync::{AtomicU32, HashSeed, Ordering};

/// Streams, types, tags and sets of tags, numbered. Readers use it without a lock.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) streams: Interner<StreamId>,
    pub(crate) types: Interner<EventType>,
    pub(crate) tags: Interner<Tag>,
    tag_sets: boxcar::Vec<TagSet>,
    /// Events that are removed, of all streams. While there are none, readers need not look.
    removed: AtomicU32,
}

/// A set of tags that some event carries.
#[derive(Debug)]
pub(crate) struct TagSet {
    pub(crate) tags: Tags,
    /// The numbers of the tags.
    pub(crate) numbers: SmallVec<[u32; 4]>,
}

/// The right to add names, and the writer's way from a set of tags to its number.
#[derive(Debug)]
pub(crate) struct NamesWriter {
    pub(crate) streams: InternerWriter,
    pub(crate) types: InternerWriter,
    tags: InternerWriter,
    tag_sets: HashTable<u32>,
    hasher: HashSeed,
    /// The set used last: neighbours tend to share one.
    last: Option<u32>,
}

impl Names {
    /// No names, and the right to add some.
    pub(crate) fn new() -> (Self, NamesWriter) {
        let (streams, streams_writer) = Interner::new();
        let (types, types_writer) = Interner::new();
        let (tags, tags_writer) = Interner::new();
        let writer = NamesWriter {
            streams: streams_writer,
            types: types_writer,
            tags: tags_writer,
            tag_sets: HashTable::new(),
            hasher: HashSeed::default(),
            last: None,
        };
        (Self { streams, types, tags, tag_sets: boxcar::Vec::new(), removed: AtomicU32::new(0) }, writer)
    }

    /// Events that are removed.
    pub(crate) fn removed(&self) -> u32 {
        self.removed.load(Ordering::Acquire)
    }

    /// Counts `events` more as removed. For the writer, before they are removed from their stream.
    pub(crate) fn count_removed(&self, events: u32) {
        self.removed.store(self.removed.load(Ordering::Relaxed) + events, Ordering::Release);
    }

    /// Whether the event with `header` is removed.
    pub(crate) fn is_removed(&self, header: &Header) -> bool {
        header.stream != NO_STREAM && header.version < self.streams.entry(header.stream).postings.removed()
    }

    /// The tag set with `number`, which was given out.
    pub(crate) fn tag_set(&self, number: u32) -> &TagSet {
        &self.tag_sets[number as usize]
    }

    /// The number of `tags`, given now if they have none.
    #[inline]
    pub(crate) fn intern_tags(&self, tags: &Tags, writer: &mut NamesWriter) -> u32 {
        let last = writer.last.filter(|&last| self.tag_set(last).tags == *tags);
        last.unwrap_or_else(|| self.intern_other_tags(tags, writer))
    }

    fn intern_other_tags(&self, tags: &Tags, writer: &mut NamesWriter) -> u32 {
        let numbers: SmallVec<[u32; 4]> = tags.iter().map(|tag| self.tags.intern(tag, &mut writer.tags)).collect();
        let hash = writer.hasher.hash_one(&*numbers);
        let known = writer.tag_sets.find(hash, |&known| self.tag_set(known).numbers == numbers).copied();
        let number = known.unwrap_or_else(|| {
            let number = self.tag_sets.push(TagSet { tags: tags.clone(), numbers }) as u32;
            let NamesWriter { tag_sets, hasher, .. } = writer;
            tag_sets.insert_unique(hash, number, |&known| hasher.hash_one(&*self.tag_set(known).numbers));
            number
        });
        writer.last = Some(number);
        number
    }
}
