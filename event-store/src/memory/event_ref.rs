//! An event where it lies in the store.

use std::fmt;

use uuid::Uuid;

use super::log::Entry;
use super::names::Names;
use crate::batch::NO_STREAM;
use crate::event::{EventId, Position, StreamVersion, Timestamp};
use crate::name::{EventType, StreamId, Tags};

/// An event that the store lends: nothing is copied, and each part is looked at only when it is asked for.
#[derive(Clone, Copy)]
pub struct EventRef<'a> {
    names: &'a Names,
    entry: Entry<'a>,
    index: u32,
}

impl<'a> EventRef<'a> {
    pub(super) fn new(names: &'a Names, entry: Entry<'a>, index: u32) -> Self {
        Self { names, entry, index }
    }

    /// Place in the order of the store.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::after_events(self.index)
    }

    /// Stream and place in it; `None` for an event without a stream.
    #[must_use]
    pub fn stream(&self) -> Option<(&'a StreamId, StreamVersion)> {
        let header = self.entry.header();
        let version = self.stream_version()?;
        Some((&self.names.streams.entry(header.stream).name, version))
    }

    /// Place in the stream; `None` for an event without one.
    #[must_use]
    pub fn stream_version(&self) -> Option<StreamVersion> {
        let header = self.entry.header();
        (header.stream != NO_STREAM).then(|| StreamVersion::new(u64::from(header.version)))
    }

    /// Identity.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.entry.header().event_id()
    }

    /// What happened.
    #[must_use]
    pub fn event_type(&self) -> &'a EventType {
        &self.names.types.entry(self.entry.header().event_type).name
    }

    /// Version of the payload's schema.
    #[must_use]
    pub fn schema_version(&self) -> u16 {
        self.entry.header().schema_version
    }

    /// What the event is about.
    #[must_use]
    pub fn tags(&self) -> &'a Tags {
        &self.names.tag_set(self.entry.header().tag_set).tags
    }

    /// The content.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.entry.data()[..self.entry.header().payload_len()]
    }

    /// What is known about the event beside its content.
    #[must_use]
    pub fn metadata(&self) -> &'a [u8] {
        let header = self.entry.header();
        &self.entry.data()[header.payload_len()..][..header.metadata_len()]
    }

    /// When it happened.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.entry.header().time()
    }

    /// The conversation or workflow that it belongs to.
    #[must_use]
    pub fn correlation_id(&self) -> Option<Uuid> {
        self.entry.header().ids(self.entry.data()).0
    }

    /// The message that caused it.
    #[must_use]
    pub fn causation_id(&self) -> Option<Uuid> {
        self.entry.header().ids(self.entry.data()).1
    }
}

impl fmt::Debug for EventRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventRef")
            .field("position", &self.position())
            .field("stream", &self.stream())
            .field("id", &self.id())
            .field("event_type", self.event_type())
            .finish_non_exhaustive()
    }
}
