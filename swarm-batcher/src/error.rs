//! What callers are told when there is no reply.

use std::fmt;

/// Why a call has no output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError<E> {
    /// The handler answered this item with an error.
    #[error("the handler answered with an error: {0}")]
    Handler(E),
    /// The handler panicked before it answered this item. The batcher goes on.
    #[error("the handler panicked")]
    Panicked,
    /// The handler returned without an answer to this item.
    #[error("the handler gave no reply")]
    NoReply,
    /// A handler made by [`from_fn`](crate::from_fn) returned another number of results than it got items: whose they are is not
    /// known, so none is given to anybody.
    #[error("{results} results for {items} items")]
    WrongLength {
        /// Items of the batch.
        items: u32,
        /// What the function returned.
        results: u32,
    },
    /// The item's deadline has passed.
    #[error("deadline passed, {}", if *started { "the batch was running" } else { "not started" })]
    Deadline {
        /// Whether its batch was running; the handler then goes on and its answer is dropped.
        started: bool,
    },
    /// The item was not taken, or was given up again before it ran.
    #[error("rejected: {0}")]
    Rejected(Reason),
    /// The batcher was shut down, or the runtime that ran it was dropped.
    #[error("batcher closed, {}", if *started { "the batch was running" } else { "not started" })]
    Closed {
        /// Whether the handler had begun with the item's batch.
        started: bool,
    },
}

/// Whether what was refused or failed may have had an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It had none: it never reached who acts on it.
    NotApplied,
    /// It may have had one: it reached who acts on it, or may have, and what was done is not known.
    Unknown,
}

impl<E> BatchError<E> {
    /// Whether the item may have had an effect. A handler's own error counts as unknown: what it means is the handler's to say.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Rejected(_) | Self::Deadline { started: false } | Self::Closed { started: false } => {
                Outcome::NotApplied
            }
            _ => Outcome::Unknown,
        }
    }
}

/// Why an item was not taken, or given up before it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The bound of the queue is reached ([`OnFull::Reject`](crate::OnFull::Reject), or the call cannot wait).
    Full,
    /// A later item took its place ([`OnFull::ShedOldest`](crate::OnFull::ShedOldest)).
    Shed,
    /// The item alone weighs more than a batch may.
    TooHeavy,
    /// There is no such priority level.
    NoSuchLevel,
    /// The circuit breaker is open.
    BreakerOpen,
    /// The handler's own code waits for its own batcher, which could not start the batch now: it might wait for ever.
    Reentrant,
    /// The batcher was shut down.
    Closed,
    /// The item needs a task to run its batch, and there is no tokio runtime: neither here nor where the batcher was built.
    NoRuntime,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the queue is full",
            Self::Shed => "a later item took its place",
            Self::TooHeavy => "it weighs more than a batch may",
            Self::NoSuchLevel => "there is no such priority level",
            Self::BreakerOpen => "the circuit breaker is open",
            Self::Reentrant => "the handler waits for its own batcher",
            Self::Closed => "the batcher is shut down",
            Self::NoRuntime => "there is no tokio runtime to run the batch on",
        })
    }
}

impl std::error::Error for Reason {}

/// An item that was not taken, and why. It had no effect.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected<I> {
    /// The item, as it was given.
    pub item: I,
    /// Why it was not taken.
    pub reason: Reason,
}

impl<I> Rejected<I> {
    pub(crate) fn new(item: I, reason: Reason) -> Self {
        Self { item, reason }
    }
}

impl<I> fmt::Debug for Rejected<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<I> fmt::Display for Rejected<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rejected: {}", self.reason)
    }
}

impl<I> std::error::Error for Rejected<I> {}

/// What a caller gets.
pub(crate) type Reply<O, E> = Result<O, BatchError<E>>;
