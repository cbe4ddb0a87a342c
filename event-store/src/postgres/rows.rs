//! Rows to events.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use bytes::BytesMut;
use tokio_postgres::Row;
use uuid::Uuid;

use super::call::{SEPARATOR, position_at};
use crate::batch::Header;
use crate::error::ReadError;
use crate::event::{Position, Timestamp};
use crate::name::{EventType, StreamId, Tags};
use crate::recorded::{RecordedEvent, Subject};
use crate::sync::HashSeed;

/// What [`Rows`] takes of `es_events e`, behind the head.
pub(super) const COLUMNS: &str = "e.position, e.version, e.time, e.event_id, e.schema_version, e.stream, e.type, e.tags, e.payload, \
    e.metadata, e.correlation_id, e.causation_id";

/// Content of events that shares one piece of memory: holding one of them holds so much.
const PIECE: usize = 64 << 10;

/// Subjects that are kept at hand: events of a read tend to share a few.
const SUBJECTS: usize = 256;

/// Makes events of rows whose first column is the head and whose others are [`COLUMNS`].
pub(super) struct Rows {
    head: Option<Position>,
    events: Vec<RecordedEvent>,
    /// Events whose content is in `data`.
    open: Vec<Open>,
    data: BytesMut,
    /// Bytes of content so far.
    bytes: usize,
    subjects: Vec<Option<Arc<Subject>>>,
    hasher: HashSeed,
}

/// An event that has still to get its content.
struct Open {
    position: Position,
    header: Header,
    subject: Arc<Subject>,
    bytes: usize,
}

/// A page of rows.
pub(super) struct Fetched {
    /// The last position at the time.
    pub(super) head: Option<Position>,
    pub(super) events: Vec<RecordedEvent>,
    /// Bytes of their content.
    pub(super) bytes: usize,
}

impl Rows {
    pub(super) fn new() -> Self {
        Self {
            head: None,
            events: Vec::new(),
            open: Vec::new(),
            data: BytesMut::new(),
            bytes: 0,
            subjects: Vec::new(),
            hasher: HashSeed::default(),
        }
    }

    /// Bytes of content so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a row; one without an event tells the head alone.
    pub(super) fn push(&mut self, row: &Row) -> Result<(), ReadError> {
        self.push_row(row).map_err(|error| match error {
            Misfit::Type(error) => ReadError::Malformed(error.to_string()),
            Misfit::Value(what) => ReadError::Malformed(what),
        })
    }

    fn push_row(&mut self, row: &Row) -> Result<(), Misfit> {
        self.head = position_at(row.try_get(0)?);
        let Some(position) = row.try_get::<_, Option<i64>>(1)? else { return Ok(()) };
        let misfit = |what: &str| Misfit::Value(format!("{what} of the event at position {position}"));
        let version = row.try_get::<_, Option<i64>>(2)?.unwrap_or(0);
        let (payload, metadata): (&[u8], &[u8]) = (row.try_get(9)?, row.try_get(10)?);
        let (correlation, causation): (Option<Uuid>, Option<Uuid>) = (row.try_get(11)?, row.try_get(12)?);
        let header = Header::of_parts(
            row.try_get::<_, Uuid>(4)?.into_bytes(),
            Timestamp::from_micros(row.try_get(3)?),
            [payload.len(), metadata.len()],
            u32::try_from(version).map_err(|_| misfit("version"))?,
            u16::try_from(row.try_get::<_, i32>(5)?).map_err(|_| misfit("schema version"))?,
            [correlation.is_some(), causation.is_some()],
        );
        let subject = self.subject(row.try_get(6)?, row.try_get(7)?, row.try_get(8)?);
        let start = self.data.len();
        self.data.extend_from_slice(payload);
        self.data.extend_from_slice(metadata);
        for id in [correlation, causation].iter().flatten() {
            self.data.extend_from_slice(id.as_bytes());
        }
        let bytes = self.data.len() - start;
        self.bytes += bytes;
        self.open.push(Open {
            position: position_at(position).ok_or_else(|| misfit("position"))?,
            header: header.ok_or_else(|| misfit("size"))?,
            subject: subject.map_err(|error| misfit(&error.to_string()))?,
            bytes,
        });
        if self.data.len() >= PIECE {
            self.close_piece();
        }
        Ok(())
    }

    fn close_piece(&mut self) {
        let mut data = self.data.split().freeze();
        self.events.extend(self.open.drain(..).map(|open| {
            let own = data.split_to(open.bytes);
            RecordedEvent::new(open.position, open.header, open.subject, own)
        }));
    }

    fn subject(
        &mut self,
        stream: Option<&str>,
        event_type: &str,
        tags: &str,
    ) -> Result<Arc<Subject>, crate::NameError> {
        if self.subjects.is_empty() {
            self.subjects.resize(SUBJECTS, None);
        }
        let slot = self.hasher.hash_one((stream, event_type, tags)) as usize % SUBJECTS;
        let is_same = |known: &&Arc<Subject>| {
            known.stream.as_ref().map(StreamId::as_str) == stream
                && known.event_type.as_str() == event_type
                && is_joined(&known.tags, tags)
        };
        if let Some(known) = self.subjects[slot].as_ref().filter(is_same) {
            return Ok(Arc::clone(known));
        }
        let names = tags.split(SEPARATOR).filter(|name| !name.is_empty());
        let subject = Arc::new(Subject {
            stream: stream.map(StreamId::new).transpose()?,
            event_type: EventType::new(event_type)?,
            tags: names.map(crate::Tag::new).collect::<Result<Tags, _>>()?,
        });
        self.subjects[slot] = Some(Arc::clone(&subject));
        Ok(subject)
    }

    /// The events, in the order of their rows, from what was pushed since the last time.
    pub(super) fn take(&mut self) -> Fetched {
        self.close_piece();
        let bytes = std::mem::take(&mut self.bytes);
        Fetched { head: self.head, events: std::mem::take(&mut self.events), bytes }
    }
}

/// Whether `text` is `tags`, joined.
fn is_joined(tags: &Tags, text: &str) -> bool {
    match tags.as_slice() {
        [] => text.is_empty(),
        [one] => one.as_str() == text,
        many => text.split(SEPARATOR).eq(many.iter().map(crate::Tag::as_str)),
    }
}

/// What a row does not fit by.
enum Misfit {
    Type(tokio_postgres::Error),
    Value(String),
}

impl From<tokio_postgres::Error> for Misfit {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Type(error)
    }
}
