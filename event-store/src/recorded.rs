//! An event as a reader owns it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::batch::{Batch, Header, NO_STREAM};
use crate::event::{EventId, NewEvent, Position, StreamVersion, Timestamp};
use crate::name::{EventType, StreamId, Tags};

/// A recorded event that its reader owns: two reference counts on what the store holds, 104 bytes.
#[derive(Clone)]
pub struct RecordedEvent {
    position: Position,
    header: Header,
    subject: Arc<Subject>,
    /// Payload, metadata and ids.
    data: Bytes,
}

/// What many events have in common.
pub(crate) struct Subject {
    pub(crate) stream: Option<StreamId>,
    pub(crate) event_type: EventType,
    pub(crate) tags: Tags,
}

impl RecordedEvent {
    /// `event` as it is recorded at `position`, in `stream` if it belongs to one: for back ends. Copies the content. `time` is that of
    /// the append and counts where the event has none of its own.
    ///
    /// # Panics
    /// If the event has 4 GiB or more, or its stream 2³² events or more.
    #[must_use]
    pub fn of_event(
        position: Position,
        stream: Option<(StreamId, StreamVersion)>,
        time: Timestamp,
        event: &NewEvent,
    ) -> Self {
        let mut batch = Batch::default();
        batch.push(event.clone(), NO_STREAM);
        let mut header = *batch.headers.first().expect("an event is below 4 GiB");
        if header.is_timeless() {
            header.set_time(time);
        }
        let (stream, version) = stream.unzip();
        header.version =
            version.map_or(0, |version| u32::try_from(version.get()).expect("a stream is below 2^32 events"));
        let subject = Subject { stream, event_type: event.event_type.clone(), tags: event.tags.clone() };
        Self::new(position, header, Arc::new(subject), batch.data.into_vec().into())
    }

    /// `data` are those of `header`, and nothing else.
    pub(crate) fn new(position: Position, header: Header, subject: Arc<Subject>, data: Bytes) -> Self {
        Self { position, header, subject, data }
    }

    /// Whether this is how an event with `header` and `data` is recorded in `stream`, wherever that is.
    #[cfg(feature = "postgres")]
    pub(crate) fn has_content_of(
        &self,
        header: &Header,
        data: &[u8],
        stream: Option<&StreamId>,
        event_type: &EventType,
        tags: &Tags,
    ) -> bool {
        header.has_content_of(&self.header)
            && self.subject.stream.as_ref() == stream
            && self.subject.event_type == *event_type
            && self.subject.tags == *tags
            && *self.data == *data
    }

    /// The event as it would be appended: with its own id and time.
    #[must_use]
    pub fn to_new_event(&self) -> NewEvent {
        NewEvent {
            schema_version: self.schema_version(),
            tags: self.tags().clone(),
            metadata: self.data.slice(self.header.payload_len()..).slice(..self.header.metadata_len()),
            time: Some(self.time()),
            correlation_id: self.correlation_id(),
            causation_id: self.causation_id(),
            ..NewEvent::with_given_id(self.id(), self.event_type().clone(), self.payload_bytes())
        }
    }

    /// The same event with another type, schema and payload.
    pub(crate) fn in_form(&self, event_type: EventType, schema_version: u16, payload: Bytes) -> Self {
        let event = NewEvent { event_type, payload, schema_version, ..self.to_new_event() };
        let place = self.stream().map(|(stream, version)| (stream.clone(), version));
        Self::of_event(self.position, place, self.time(), &event)
    }

    /// Place in the order of the store.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Stream and place in it; `None` for an event without a stream.
    #[must_use]
    pub fn stream(&self) -> Option<(&StreamId, StreamVersion)> {
        Some((self.subject.stream.as_ref()?, StreamVersion::new(u64::from(self.header.version))))
    }

    /// Place in the stream; `None` for an event without one.
    #[must_use]
    pub fn stream_version(&self) -> Option<StreamVersion> {
        self.stream().map(|(_, version)| version)
    }

    /// Identity.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.header.event_id()
    }

    /// What happened.
    #[must_use]
    pub fn event_type(&self) -> &EventType {
        &self.subject.event_type
    }

    /// Version of the payload's schema.
    #[must_use]
    pub fn schema_version(&self) -> u16 {
        self.header.schema_version
    }

    /// What the event is about.
    #[must_use]
    pub fn tags(&self) -> &Tags {
        &self.subject.tags
    }

    /// The content.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.data[..self.header.payload_len()]
    }

    /// The content, to keep beyond the event: a reference count.
    #[must_use]
    pub fn payload_bytes(&self) -> Bytes {
        self.data.slice(..self.header.payload_len())
    }

    /// What is known about the event beside its content.
    #[must_use]
    pub fn metadata(&self) -> &[u8] {
        &self.data[self.header.payload_len()..][..self.header.metadata_len()]
    }

    /// When it happened.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.header.time()
    }

    /// The conversation or workflow that it belongs to.
    #[must_use]
    pub fn correlation_id(&self) -> Option<Uuid> {
        self.header.ids(&self.data).0
    }

    /// The message that caused it.
    #[must_use]
    pub fn causation_id(&self) -> Option<Uuid> {
        self.header.ids(&self.data).1
    }
}

impl PartialEq for RecordedEvent {
    fn eq(&self, other: &Self) -> bool {
        self.position == other.position
            && self.stream() == other.stream()
            && self.event_type() == other.event_type()
            && self.tags() == other.tags()
            && self.header.has_content_of(&other.header)
            && self.data == other.data
    }
}

impl Eq for RecordedEvent {}

impl fmt::Debug for RecordedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordedEvent")
            .field("position", &self.position)
            .field("stream", &self.stream())
            .field("id", &self.id())
            .field("event_type", self.event_type())
            .field("tags", self.tags())
            .field("payload_bytes", &self.payload().len())
            .finish_non_exhaustive()
    }
}
