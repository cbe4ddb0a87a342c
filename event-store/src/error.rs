//! What can go wrong, one type an operation. Every variant says whether anything happened.

use crate::event::{EventId, Position, StreamVersion};
use crate::name::{EventType, StreamId};

/// Why an append did not succeed. Nothing was applied, except possibly for [`AppendError::Unknown`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// A stream is not at the version that the append expected. Nothing was applied.
    #[error("stream {stream} is {}, expected {expected}", at(*actual))]
    WrongExpectedVersion {
        /// The stream.
        stream: StreamId,
        /// What was expected.
        expected: crate::append::ExpectedVersion,
        /// The version of its last event; `None` if it has none.
        actual: Option<StreamVersion>,
    },
    /// An event matches the append's condition. Nothing was applied.
    #[error("{clause} condition failed: the event at position {position} matches")]
    ConditionFailed {
        /// Which part of the condition.
        clause: Clause,
        /// The first event that matches.
        position: Position,
    },
    /// An event id is taken, and the append is not a repetition of what is recorded. Nothing was applied.
    #[error("event id {id} is taken by the event at position {position}")]
    DuplicateEventId {
        /// The id.
        id: EventId,
        /// Where it is recorded; for an id that the append itself holds twice, where its first event would have been.
        position: Position,
    },
    /// The append or one of its events is larger than the store takes. Nothing was applied.
    #[error("{size} bytes or events are more than the limit of {limit}")]
    TooLarge {
        /// What the append has.
        size: u64,
        /// What the store takes.
        limit: u64,
    },
    /// The store cannot take appends now. Nothing was applied.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The outcome is not known: the append was sent and no answer came. Repeat it with the same event ids.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// An earlier append broke off inside the store, which takes no more of them. Nothing was applied; reads go on.
    #[error("the store is poisoned by an earlier failure")]
    Poisoned,
}

impl AppendError {
    /// Whether it is certain that nothing was applied.
    #[must_use]
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }
}

fn at(version: Option<StreamVersion>) -> String {
    version.map_or_else(|| "empty".to_owned(), |version| format!("at version {version}"))
}

/// A part of an append's condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Clause {
    /// No event after the given position may match.
    Boundary,
    /// No event at all may match.
    Existence,
}

impl std::fmt::Display for Clause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Boundary => "boundary",
            Self::Existence => "existence",
        })
    }
}

/// Why events were not removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// The store cannot remove events now. Nothing was removed.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The outcome is not known: the call was sent and no answer came. Repeat it.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// Why a read did not succeed. The in-memory store has no such reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The store cannot be read now.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// What is stored is not what this store writes. A repetition reads the same.
    #[error("malformed: {0}")]
    Malformed(String),
    /// An event cannot be read in its current form. What is before it can be.
    #[error("the event {event_type} (schema version {schema_version}) at position {position}: {reason}")]
    Upcast {
        /// Where it stands.
        position: Position,
        /// The type that it has where the upcasters fail.
        event_type: EventType,
        /// Version of its schema there.
        schema_version: u16,
        /// Why.
        reason: String,
    },
}

/// What went wrong, with what caused it.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
