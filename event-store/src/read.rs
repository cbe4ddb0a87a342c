//! What to read, from where, in which direction, how much.

use crate::event::{Position, StreamVersion};
use crate::name::StreamId;
use crate::query::Query;

/// A read: of one stream by version, or of the store by position, all events or those of a query.
///
/// `from` is inclusive. A stream that does not exist and a `from` past the end read as empty. A read sees the events that were
/// committed when it began, and all events of an append or none.
///
/// ```
/// use event_store::{Read, StreamId, StreamVersion};
///
/// let last_ten = Read::stream(StreamId::new("order-1")?).backwards().limit(10);
/// let tail = Read::stream_from(StreamId::new("order-1")?, StreamVersion::new(100));
/// # Ok::<(), event_store::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub(crate) source: Source,
    pub(crate) backwards: bool,
    pub(crate) limit: u64,
}

/// What a read reads, and from where (inclusive): for back ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A stream, by version.
    Stream {
        /// Which.
        id: StreamId,
        /// From this version on; from the beginning, or backwards from the end, without one.
        from: Option<StreamVersion>,
    },
    /// The events of a query, by position.
    Store {
        /// Which events.
        query: Query,
        /// From this position on; from the beginning, or backwards from the end, without one.
        from: Option<Position>,
    },
}

impl Read {
    /// The events of a stream.
    #[must_use]
    pub fn stream(id: StreamId) -> Self {
        Self::of(Source::Stream { id, from: None })
    }

    /// The events of a stream from version `from` on; backwards, from there to the first.
    #[must_use]
    pub fn stream_from(id: StreamId, from: StreamVersion) -> Self {
        Self::of(Source::Stream { id, from: Some(from) })
    }

    /// All events.
    #[must_use]
    pub fn all() -> Self {
        Self::query(Query::All)
    }

    /// All events from position `from` on; backwards, from there to the first.
    #[must_use]
    pub fn all_from(from: Position) -> Self {
        Self::query_from(Query::All, from)
    }

    /// The events that match `query`.
    #[must_use]
    pub fn query(query: Query) -> Self {
        Self::of(Source::Store { query, from: None })
    }

    /// The events that match `query` from position `from` on; backwards, from there to the first.
    #[must_use]
    pub fn query_from(query: Query, from: Position) -> Self {
        Self::of(Source::Store { query, from: Some(from) })
    }

    /// The last event first.
    #[must_use]
    pub fn backwards(self) -> Self {
        Self { backwards: true, ..self }
    }

    /// At most `count` events.
    #[must_use]
    pub fn limit(self, count: u64) -> Self {
        Self { limit: count, ..self }
    }

    /// What it reads.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Whether the last event comes first.
    #[must_use]
    pub fn is_backwards(&self) -> bool {
        self.backwards
    }

    /// How many events it reads at most; `u64::MAX` unless limited.
    #[must_use]
    pub fn most(&self) -> u64 {
        self.limit
    }

    fn of(source: Source) -> Self {
        Self { source, backwards: false, limit: u64::MAX }
    }
}
