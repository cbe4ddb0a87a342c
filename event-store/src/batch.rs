//! The encoded form of an append: what the caller builds is, for a large append, what the store keeps.

use bytes::Bytes;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::event::{EventId, NewEvent, Timestamp};
use crate::name::{EventType, Tags};

/// In [`Header::stream`]: the event belongs to no stream.
pub(crate) const NO_STREAM: u32 = u32::MAX;

/// A correlation id stands behind the metadata.
const CORRELATION: u16 = 1;
/// A causation id stands behind the metadata and the correlation id.
const CAUSATION: u16 = 2;
/// The caller gave no time; the store fills it in.
const TIMELESS: u16 = 4;

/// Bytes of an append that need no allocation.
const INLINE_DATA: usize = 288;

/// Entries of a batch's dictionaries that are looked through before a type or tag set is listed again.
const REMEMBERED: usize = 16;

/// Everything fixed about an event, 56 bytes; payload, metadata and ids stand in the data that goes with it.
///
/// In a batch, `stream`, `event_type` and `tag_set` count the batch's own lists; the store replaces them by its own numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) id: [u8; 16],
    /// Microseconds, in halves, so that the header is aligned to 4 bytes.
    time: [u32; 2],
    data: u32,
    payload_len: u32,
    metadata_len: u32,
    pub(crate) stream: u32,
    pub(crate) version: u32,
    pub(crate) event_type: u32,
    pub(crate) tag_set: u32,
    pub(crate) schema_version: u16,
    flags: u16,
}

impl Header {
    /// The header of an event that lies outside of a batch, for its version in its stream; its data are its own. `None` if the content
    /// has 4 GiB or more.
    #[cfg(feature = "postgres")]
    pub(crate) fn of_parts(
        id: [u8; 16],
        time: Timestamp,
        content: [usize; 2],
        version: u32,
        schema_version: u16,
        ids: [bool; 2],
    ) -> Option<Self> {
        let mut header = Self {
            id,
            time: [0; 2],
            data: 0,
            payload_len: u32::try_from(content[0]).ok()?,
            metadata_len: u32::try_from(content[1]).ok()?,
            stream: NO_STREAM,
            version,
            event_type: 0,
            tag_set: 0,
            schema_version,
            flags: if ids[0] { CORRELATION } else { 0 } | if ids[1] { CAUSATION } else { 0 },
        };
        header.set_time(time);
        Some(header)
    }

    pub(crate) fn event_id(&self) -> EventId {
        EventId::from_bytes(self.id)
    }

    pub(crate) fn time(&self) -> Timestamp {
        Timestamp::from_micros((u64::from(self.time[0]) << 32 | u64::from(self.time[1])) as i64)
    }

    pub(crate) fn set_time(&mut self, time: Timestamp) {
        let micros = time.as_micros() as u64;
        self.time = [(micros >> 32) as u32, micros as u32];
        self.flags &= !TIMELESS;
    }

    pub(crate) fn is_timeless(&self) -> bool {
        self.flags & TIMELESS != 0
    }

    pub(crate) fn payload_len(&self) -> usize {
        self.payload_len as usize
    }

    pub(crate) fn metadata_len(&self) -> usize {
        self.metadata_len as usize
    }

    /// First byte of the event's data.
    pub(crate) fn data_start(&self) -> usize {
        self.data as usize
    }

    /// First byte behind the event's data.
    pub(crate) fn data_end(&self) -> usize {
        let ids = (self.flags & (CORRELATION | CAUSATION)).count_ones() as usize;
        self.data_start() + self.payload_len() + self.metadata_len() + 16 * ids
    }

    /// Lets the event's data begin at byte `start`.
    pub(crate) fn move_data(&mut self, start: u32) {
        self.data = start;
    }

    /// Moves the event's data by `bytes`.
    pub(crate) fn rebase(&mut self, bytes: u32) {
        self.data += bytes;
    }

    /// The correlation and the causation id in the event's data.
    pub(crate) fn ids(&self, data: &[u8]) -> (Option<Uuid>, Option<Uuid>) {
        let mut rest = &data[self.payload_len() + self.metadata_len()..];
        let mut id = |flag| {
            (self.flags & flag != 0).then(|| {
                let (bytes, behind) = rest.split_at(16);
                rest = behind;
                Uuid::from_slice(bytes).unwrap_or_default()
            })
        };
        (id(CORRELATION), id(CAUSATION))
    }

    /// Whether the two events are the same but for their place: content, schema and flags, and time where `self` has one.
    pub(crate) fn has_content_of(&self, recorded: &Self) -> bool {
        let flags = CORRELATION | CAUSATION;
        self.id == recorded.id
            && self.payload_len == recorded.payload_len
            && self.metadata_len == recorded.metadata_len
            && self.schema_version == recorded.schema_version
            && self.flags & flags == recorded.flags & flags
            && (self.is_timeless() || self.time == recorded.time)
    }
}

/// The events of an append.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    /// One header needs no allocation: most appends have one event.
    pub(crate) headers: SmallVec<[Header; 1]>,
    /// The data of one small event need none either.
    pub(crate) data: SmallVec<[u8; INLINE_DATA]>,
    pub(crate) types: SmallVec<[EventType; 1]>,
    pub(crate) tag_sets: SmallVec<[Tags; 1]>,
    /// Whether some event has no time.
    pub(crate) is_timeless: bool,
    /// Bytes of the largest event.
    pub(crate) largest: u64,
    /// Bytes of payload, metadata and ids, also those that did not fit `u32` offsets and were left out of `data`.
    pub(crate) bytes: u64,
}

impl Batch {
    /// Adds `event` to the stream that the batch counts as `stream`.
    #[inline]
    pub(crate) fn push(&mut self, event: NewEvent, stream: u32) {
        let ids = [event.correlation_id, event.causation_id];
        let extra = 16 * ids.iter().flatten().count();
        let bytes = event.payload.len() as u64 + event.metadata.len() as u64 + extra as u64;
        self.largest = self.largest.max(bytes);
        self.bytes += bytes;
        if self.bytes > u64::from(u32::MAX) || self.headers.len() >= u32::MAX as usize {
            // The store refuses the append by its size; nothing of it is needed any more.
            return;
        }
        let mut header = Header {
            id: event.id.into_bytes(),
            time: [0; 2],
            data: self.data.len() as u32,
            payload_len: event.payload.len() as u32,
            metadata_len: event.metadata.len() as u32,
            stream,
            version: 0,
            event_type: number(&mut self.types, event.event_type),
            tag_set: number(&mut self.tag_sets, event.tags),
            schema_version: event.schema_version,
            flags: if ids[0].is_some() { CORRELATION } else { 0 } | if ids[1].is_some() { CAUSATION } else { 0 },
        };
        match event.time {
            Some(time) => header.set_time(time),
            None => {
                header.flags |= TIMELESS;
                self.is_timeless = true;
            }
        }
        self.headers.push(header);
        self.data.extend_from_slice(&event.payload);
        if !event.metadata.is_empty() {
            self.data.extend_from_slice(&event.metadata);
        }
        for id in ids.iter().flatten() {
            self.data.extend_from_slice(id.as_bytes());
        }
    }

    /// Adds `events`, and leaves less than an eighth of what was reserved unused: a large batch becomes a part of the store.
    pub(crate) fn extend(&mut self, events: impl IntoIterator<Item = NewEvent>, stream: u32) -> u32 {
        let before = self.headers.len();
        let events = events.into_iter();
        self.headers.reserve_exact(events.size_hint().0);
        let mut first = true;
        let expected = events.size_hint().0;
        for event in events {
            if first {
                // Events of one append tend to have one size.
                self.data
                    .reserve_exact((event.payload.len() + event.metadata.len()).saturating_mul(expected).min(1 << 26));
                first = false;
            }
            self.push(event, stream);
        }
        if self.headers.spilled() && is_loose(self.headers.capacity(), self.headers.len()) {
            self.headers.shrink_to_fit();
        }
        if self.data.spilled() && is_loose(self.data.capacity(), self.data.len()) {
            self.data.shrink_to_fit();
        }
        (self.headers.len() - before) as u32
    }

    /// The event at `index`, as it was pushed.
    pub(crate) fn event(&self, index: usize) -> NewEvent {
        let (header, data) = (&self.headers[index], self.data_of(index));
        let (payload, rest) = data.split_at(header.payload_len());
        let (correlation_id, causation_id) = header.ids(data);
        let event_type = self.types[header.event_type as usize].clone();
        NewEvent {
            schema_version: header.schema_version,
            tags: self.tag_sets[header.tag_set as usize].clone(),
            metadata: Bytes::copy_from_slice(&rest[..header.metadata_len()]),
            time: (!header.is_timeless()).then(|| header.time()),
            correlation_id,
            causation_id,
            ..NewEvent::with_given_id(header.event_id(), event_type, Bytes::copy_from_slice(payload))
        }
    }

    /// The data of the event at `index`.
    pub(crate) fn data_of(&self, index: usize) -> &[u8] {
        let header = &self.headers[index];
        &self.data[header.data_start()..header.data_end()]
    }
}

fn is_loose(capacity: usize, len: usize) -> bool {
    capacity - len > len / 8
}

/// The number of `entry` in `list`, added if it is not among the last few: a list may hold an entry twice.
#[inline]
fn number<T: PartialEq>(list: &mut SmallVec<[T; 1]>, entry: T) -> u32 {
    let recent = list.iter().enumerate().rev().take(REMEMBERED).find(|(_, known)| **known == entry);
    if let Some((index, _)) = recent {
        return index as u32;
    }
    list.push(entry);
    (list.len() - 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_56_bytes_and_aligned_to_4() {
        assert_eq!((size_of::<Header>(), align_of::<Header>()), (56, 4));
    }
}
