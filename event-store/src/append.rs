//! Appends: what to write, where, and under which conditions.

use std::fmt;

use smallvec::SmallVec;

use crate::batch::{Batch, NO_STREAM};
use crate::event::{NewEvent, Position, StreamVersion};
use crate::name::StreamId;
use crate::query::Query;

/// One atomic append: any number of streams, events without a stream, expected versions, a condition. All of it or nothing.
///
/// The events are encoded when the append is built, by the caller and outside the store; the store adopts a large append
/// without copying its content.
///
/// ```
/// use event_store::{Append, EventType, ExpectedVersion, NewEvent, StreamId};
///
/// let opened = NewEvent::new(EventType::new("AccountOpened")?, "{}");
/// let append = Append::stream(StreamId::new("account-1")?, ExpectedVersion::NoStream, [opened]);
/// assert_eq!(append.len(), 1);
/// # Ok::<(), event_store::NameError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "an append does nothing until a store takes it"]
pub struct Append {
    pub(crate) batch: Batch,
    pub(crate) targets: SmallVec<[Target; 1]>,
    pub(crate) condition: Option<Box<AppendCondition>>,
}

/// A stream of an append, what is expected of it, and how many events it gets.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) stream: StreamId,
    pub(crate) expected: ExpectedVersion,
    pub(crate) count: u32,
}

impl Append {
    /// `events` to `stream`, which is `expected` to be at a version. No events make a check without a write.
    ///
    /// Cost: the content of the events is copied once; two allocations that grow with the append.
    pub fn stream(stream: StreamId, expected: ExpectedVersion, events: impl IntoIterator<Item = NewEvent>) -> Self {
        Self::empty().and_stream(stream, expected, events)
    }

    /// `events` that belong to no stream; they are found by type and tag.
    pub fn events(events: impl IntoIterator<Item = NewEvent>) -> Self {
        Self::empty().and_events(events)
    }

    /// The same append with `events` to another stream. Expectations are judged in this order; for a stream named twice the
    /// second sees the events of the first.
    pub fn and_stream(
        mut self,
        stream: StreamId,
        expected: ExpectedVersion,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Self {
        let count = self.batch.extend(events, self.targets.len() as u32);
        self.targets.push(Target { stream, expected, count });
        self
    }

    /// The same append with `events` that belong to no stream.
    pub fn and_events(mut self, events: impl IntoIterator<Item = NewEvent>) -> Self {
        self.batch.extend(events, NO_STREAM);
        self
    }

    /// The same append under `condition`; it replaces an earlier one.
    pub fn condition(mut self, condition: AppendCondition) -> Self {
        self.condition = Some(Box::new(condition));
        self
    }

    /// How many events it writes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.headers.len()
    }

    /// Whether it only checks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.headers.is_empty()
    }

    /// The streams in their order, what is expected of each, and how many events it gets: for back ends.
    pub fn expectations(&self) -> impl ExactSizeIterator<Item = (&StreamId, ExpectedVersion, usize)> {
        self.targets.iter().map(|target| (&target.stream, target.expected, target.count as usize))
    }

    /// The events in their order, each with the place of its stream in [`Append::expectations`], `None` for an event without one:
    /// for back ends. Copies the content.
    ///
    /// An append of more than 4 GiB has no events here; [`Append::bytes`] says so.
    pub fn new_events(&self) -> impl ExactSizeIterator<Item = (Option<usize>, NewEvent)> {
        let place = |stream| (stream != NO_STREAM).then_some(stream as usize);
        (0..self.len()).map(move |index| (place(self.batch.headers[index].stream), self.batch.event(index)))
    }

    /// What the append is conditional on: for back ends.
    #[must_use]
    pub fn append_condition(&self) -> Option<&AppendCondition> {
        self.condition.as_deref()
    }

    /// Bytes of all events: payload, metadata, 16 for each correlation or causation id.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.batch.bytes
    }

    fn empty() -> Self {
        Self { batch: Batch::default(), targets: SmallVec::new(), condition: None }
    }
}

/// What an append expects of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExpectedVersion {
    /// Nothing.
    Any,
    /// That it has no events.
    NoStream,
    /// That it has events.
    Exists,
    /// That this is the version of its last event.
    Exact(StreamVersion),
}

impl ExpectedVersion {
    /// Whether a stream whose last event has version `actual` is as expected.
    #[must_use]
    pub fn accepts(self, actual: Option<StreamVersion>) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual.is_none(),
            Self::Exists => actual.is_some(),
            Self::Exact(version) => actual == Some(version),
        }
    }
}

impl fmt::Display for ExpectedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any version"),
            Self::NoStream => f.write_str("no stream"),
            Self::Exists => f.write_str("some version"),
            Self::Exact(version) => write!(f, "version {version}"),
        }
    }
}

/// A consistency boundary that is not a stream: the append fails if certain events exist.
///
/// The rule is that of dynamic consistency boundaries: a decision was made on the events that match a query, read up to a
/// position; the append fails if there is a matching event after that position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendCondition {
    pub(crate) boundary: Option<(Query, Option<Position>)>,
    pub(crate) existence: Option<Query>,
}

impl AppendCondition {
    /// Fails if an event matches `query`, whatever its position until [`AppendCondition::after`] says more.
    #[must_use]
    pub fn fail_if_events_match(query: Query) -> Self {
        Self { boundary: Some((query, None)), existence: None }
    }

    /// Fails if an event at all matches `query`: the guard of what may exist once.
    #[must_use]
    pub fn fail_if_exists(query: Query) -> Self {
        Self { boundary: None, existence: Some(query) }
    }

    /// Only events after `position` make the boundary fail. The position may lie past the last match, and in the future.
    /// Without a boundary it changes nothing.
    #[must_use]
    pub fn after(mut self, position: Position) -> Self {
        if let Some((_, after)) = &mut self.boundary {
            *after = Some(position);
        }
        self
    }

    /// The same condition, which also fails if an event at all matches `query`.
    #[must_use]
    pub fn and_fail_if_exists(mut self, query: Query) -> Self {
        self.existence = Some(query);
        self
    }
}

impl AppendCondition {
    /// The boundary: its query, and the position behind which it holds.
    #[must_use]
    pub fn boundary(&self) -> Option<(&Query, Option<Position>)> {
        self.boundary.as_ref().map(|(query, after)| (query, *after))
    }

    /// What may not exist at all.
    #[must_use]
    pub fn existence(&self) -> Option<&Query> {
        self.existence.as_ref()
    }
}

/// What an append wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// The first and the last position; `None` if the append had no events.
    pub positions: Option<(Position, Position)>,
    pub(crate) versions: SmallVec<[(StreamId, StreamVersion); 1]>,
    /// Whether the append was a repetition: nothing was written, and this is what the first one wrote.
    pub deduplicated: bool,
}

impl Appended {
    /// The answer to an append: for back ends. `versions` are those of [`Appended::versions`].
    #[must_use]
    pub fn new(
        positions: Option<(Position, Position)>,
        versions: impl IntoIterator<Item = (StreamId, StreamVersion)>,
        deduplicated: bool,
    ) -> Self {
        Self { positions, versions: versions.into_iter().collect(), deduplicated }
    }

    /// For each stream of the append, in its order, the version of its last event: what the next append expects as
    /// [`ExpectedVersion::Exact`]. A stream without events is left out.
    #[must_use]
    pub fn versions(&self) -> &[(StreamId, StreamVersion)] {
        &self.versions
    }
}
