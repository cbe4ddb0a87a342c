//! Aggregates: state that is decided upon and rebuilt from the events of one stream, and the repository that keeps them.

mod repository;
mod snapshots;

use bytes::Bytes;

pub use self::repository::{Executed, Loaded, Repository};
pub use self::snapshots::{SnapshotOutcome, SnapshotUse};
use crate::append::Append;
use crate::error::{AppendError, ReadError};
use crate::event::{NewEvent, Position};
use crate::name::{EventType, StreamId};
use crate::recorded::RecordedEvent;

/// An error of user code, of whatever type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// State that is the sum of its events: commands are decided on it, and what was decided is applied to it.
///
/// ```
/// use event_store::{Aggregate, BoxError, DomainEvent, EventType, NewEvent, RecordedEvent};
///
/// #[derive(Default)]
/// struct Counter(u64);
///
/// struct Counted(u64);
///
/// impl DomainEvent for Counted {
///     fn encode(&self) -> Result<NewEvent, BoxError> {
///         Ok(NewEvent::new(EventType::new("Counted")?, self.0.to_string()))
///     }
///     fn decode(event: &RecordedEvent) -> Result<Self, BoxError> {
///         Ok(Self(std::str::from_utf8(event.payload())?.parse()?))
///     }
/// }
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("{0} is too much")]
/// struct TooMuch(u64);
///
/// impl Aggregate for Counter {
///     const TYPE: &'static str = "Counter";
///     type Event = Counted;
///     type Command = u64;
///     type Error = TooMuch;
///
///     fn decide(&self, by: &u64) -> Result<Vec<Counted>, TooMuch> {
///         if self.0 + by > 100 { Err(TooMuch(*by)) } else { Ok(vec![Counted(*by)]) }
///     }
///     fn apply(&mut self, counted: &Counted) {
///         self.0 += counted.0;
///     }
/// }
/// ```
pub trait Aggregate: Default + Send + 'static {
    /// What kind of aggregate it is: a snapshot of another kind is not used.
    const TYPE: &'static str;
    /// What may have happened to it.
    type Event: DomainEvent;
    /// What may be asked of it.
    type Command: Send + Sync;
    /// Why it may refuse a command.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The events that `command` leads to, possibly none. It may be asked again, on newer state, if somebody else was faster; so it
    /// has no effects of its own.
    ///
    /// # Errors
    /// Whatever the aggregate refuses a command with; nothing is appended then.
    fn decide(&self, command: &Self::Command) -> Result<Vec<Self::Event>, Self::Error>;

    /// Takes in what has happened. What happened cannot be refused.
    fn apply(&mut self, event: &Self::Event);
}

/// An event of an aggregate, to and from the form in which a store keeps it.
pub trait DomainEvent: Sized + Send {
    /// The event to append: its type, payload, schema version and tags. The id that it gets here stays, however often the append is
    /// repeated.
    ///
    /// # Errors
    /// Whatever keeps it from being encoded; nothing is appended then.
    fn encode(&self) -> Result<NewEvent, BoxError>;

    /// The event that `event` stands for.
    ///
    /// # Errors
    /// Whatever is wrong with it: an unknown type, a payload that cannot be read.
    fn decode(event: &RecordedEvent) -> Result<Self, BoxError>;
}

/// An aggregate whose state can be kept as a snapshot.
pub trait SnapshotState: Aggregate {
    /// Version of the encoded state: to be raised whenever `apply` or the encoding changes. Snapshots of another version are not used.
    ///
    /// The state is rebuilt then from the events that are left. Where a stream was truncated
    /// ([`EventStore::truncate_stream`](crate::EventStore::truncate_stream)) those are not all, and nothing tells: raise it only if every
    /// truncated stream begins with an event that holds the state.
    const SCHEMA: u16;

    /// The state as bytes.
    ///
    /// # Errors
    /// Whatever keeps it from being encoded; the snapshot is not taken then, which is told and changes nothing else.
    fn to_snapshot(&self) -> Result<Bytes, BoxError>;

    /// The state from bytes that [`SnapshotState::to_snapshot`] made.
    ///
    /// # Errors
    /// Whatever is wrong with them; the aggregate is then rebuilt from its events.
    fn from_snapshot(state: &[u8]) -> Result<Self, BoxError>;
}

/// A piece of user code that a [`Repository`] runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UserCode {
    /// [`Aggregate::decide`].
    Decide,
    /// [`Aggregate::apply`].
    Apply,
    /// [`DomainEvent::encode`], and what adorns the events.
    Encode,
    /// [`DomainEvent::decode`].
    Decode,
}

/// Why a load or a command did not succeed. Nothing was appended, except where a variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError<E: std::error::Error + 'static> {
    /// The aggregate refused the command.
    #[error("the command was refused: {0}")]
    Refused(#[source] E),
    /// Others were faster each time.
    #[error("stream {stream}: {attempts} attempts, and others were faster each time")]
    Conflict {
        /// The aggregate's stream.
        stream: StreamId,
        /// How often the command was decided.
        attempts: u32,
        /// What the store said last.
        #[source]
        last: AppendError,
    },
    /// An event that was decided upon cannot be encoded.
    #[error("an event cannot be encoded: {0}")]
    Encode(#[source] BoxError),
    /// A recorded event cannot be decoded.
    #[error(
        "the event {event_type} (schema version {schema_version}) at position {position} cannot be decoded: {source}"
    )]
    Decode {
        /// Where it stands in the store.
        position: Position,
        /// Its type.
        event_type: EventType,
        /// Its schema's version.
        schema_version: u16,
        /// What is wrong with it.
        source: BoxError,
    },
    /// The stream could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store refused the append for a reason that trying again does not mend.
    #[error(transparent)]
    Append(AppendError),
    /// Whether the events were appended is not known, and repeating the append did not tell. The answer is to repeat this very append
    /// later; a command that is executed anew may happen twice.
    #[error("outcome unknown after {attempts} attempts: {reason}")]
    Unknown {
        /// The append, with its ids.
        append: Box<Append>,
        /// How often it was sent.
        attempts: u32,
        /// What the store said when the outcome became unknown.
        reason: String,
    },
    /// User code panicked.
    #[error("{code:?} panicked{}: {message}", if *.is_appended { " after the events were appended" } else { "" })]
    Panicked {
        /// Which.
        code: UserCode,
        /// What it said.
        message: String,
        /// Whether the command's events had been appended by then.
        is_appended: bool,
    },
}
