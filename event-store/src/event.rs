//! Events as a caller makes them, and what numbers and identifies them.

use std::fmt;
use std::num::NonZeroU64;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use uuid::Uuid;

use crate::name::{EventType, Tag, Tags};

/// The place of an event in the one order of a store: dense, from 1, in the order of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(NonZeroU64);

impl Position {
    /// The first position.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// Position `number`; `None` for 0.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// The number, from 1.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The position of the event with `index` events before it.
    pub(crate) fn after_events(index: u32) -> Self {
        Self(NonZeroU64::MIN.saturating_add(u64::from(index)))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The place of an event in its stream: dense, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamVersion(u64);

impl StreamVersion {
    /// The version of a stream's first event.
    pub const FIRST: Self = Self(0);

    /// Version `number`.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, from 0.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for StreamVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The identity of an event, unique in its store: an append that is repeated with the same ids is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Uuid);

impl EventId {
    /// A fresh id: UUID version 7, so that ids of one writer sort by time. Reads the clock and a random source.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id with these 128 bits.
    #[must_use]
    pub fn from_u128(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }

    /// The id as a UUID.
    #[must_use]
    pub fn as_uuid(&self) -> &Uuid {
        &self.0
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    pub(crate) fn into_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl From<Uuid> for EventId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A point in time, microseconds since 1970-01-01 UTC, negative before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The time on the system's clock.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The point `micros` microseconds after 1970-01-01 UTC.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0
    }
}

impl From<SystemTime> for Timestamp {
    /// Times beyond 292,000 years from 1970 are cut to that.
    fn from(time: SystemTime) -> Self {
        let cut = |micros: u128| i64::try_from(micros).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self(cut(since.as_micros())),
            Err(before) => Self(-cut(before.duration().as_micros())),
        }
    }
}

/// An event that is about to be appended.
///
/// ```
/// use event_store::{EventType, NewEvent, Tag};
///
/// let event = NewEvent::new(EventType::new("SeatReserved")?, r#"{"seat":"12A"}"#)
///     .with_tag(Tag::new("flight:LH400")?)
///     .with_tag(Tag::new("seat:12A")?);
/// assert_eq!(event.tags.len(), 2);
/// # Ok::<(), event_store::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewEvent {
    /// Identity; fresh unless given.
    pub id: EventId,
    /// What happened.
    pub event_type: EventType,
    /// Version of the payload's schema, 1 unless given.
    pub schema_version: u16,
    /// What the event is about.
    pub tags: Tags,
    /// The content, bytes in and the same bytes out.
    pub payload: Bytes,
    /// What is known about the event beside its content.
    pub metadata: Bytes,
    /// When it happened; the store's clock at the append unless given.
    pub time: Option<Timestamp>,
    /// The conversation or workflow that it belongs to.
    pub correlation_id: Option<Uuid>,
    /// The message that caused it.
    pub causation_id: Option<Uuid>,
}

impl NewEvent {
    /// An event of `event_type` with `payload`, a fresh id and nothing else.
    #[must_use]
    pub fn new(event_type: EventType, payload: impl Into<Bytes>) -> Self {
        Self::with_given_id(EventId::generate(), event_type, payload)
    }

    /// As [`NewEvent::new`] with the id given: no clock and no random source is read.
    #[must_use]
    pub fn with_given_id(id: EventId, event_type: EventType, payload: impl Into<Bytes>) -> Self {
        Self {
            id,
            event_type,
            schema_version: 1,
            tags: Tags::default(),
            payload: payload.into(),
            metadata: Bytes::new(),
            time: None,
            correlation_id: None,
            causation_id: None,
        }
    }

    /// Sets the id.
    #[must_use]
    pub fn with_id(self, id: EventId) -> Self {
        Self { id, ..self }
    }

    /// Sets the version of the payload's schema.
    #[must_use]
    pub fn with_schema_version(self, schema_version: u16) -> Self {
        Self { schema_version, ..self }
    }

    /// Adds a tag; one that is there already is kept once.
    #[must_use]
    pub fn with_tag(self, tag: Tag) -> Self {
        Self { tags: self.tags.with(tag), ..self }
    }

    /// Sets all tags at once.
    #[must_use]
    pub fn with_tags(self, tags: Tags) -> Self {
        Self { tags, ..self }
    }

    /// Sets the metadata.
    #[must_use]
    pub fn with_metadata(self, metadata: impl Into<Bytes>) -> Self {
        Self { metadata: metadata.into(), ..self }
    }

    /// Sets the time.
    #[must_use]
    pub fn with_time(self, time: Timestamp) -> Self {
        Self { time: Some(time), ..self }
    }

    /// Sets the correlation id.
    #[must_use]
    pub fn with_correlation_id(self, id: Uuid) -> Self {
        Self { correlation_id: Some(id), ..self }
    }

    /// Sets the causation id.
    #[must_use]
    pub fn with_causation_id(self, id: Uuid) -> Self {
        Self { causation_id: Some(id), ..self }
    }
}
