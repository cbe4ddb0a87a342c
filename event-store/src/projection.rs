//! Projections: events of a store, applied one after the other to a read model that remembers how far they have come.

mod control;
mod memory;
mod options;
mod parking;
mod runner;
mod session;

use std::fmt;
use std::future::Future;

pub use self::memory::{MemoryReadModel, MemoryTx};
pub use self::options::{ProjectionOptions, ProjectionStats};
pub use self::parking::RetryError;
pub use self::runner::{ProjectionRunner, RunOutcome, RunnerError};
use crate::aggregate::BoxError;
use crate::event::Position;
use crate::name::{self, EventType, NameError};
use crate::query::Query;
use crate::recorded::RecordedEvent;

/// What to make of events in a read model.
///
/// ```
/// use event_store::{ApplyError, EventType, MemoryTx, Projection, Query, QueryItem, RecordedEvent};
///
/// /// How many orders there are.
/// struct OrderCount;
///
/// impl Projection for OrderCount {
///     type Tx = MemoryTx<u64>;
///
///     fn name(&self) -> &str {
///         "order-count"
///     }
///     fn query(&self) -> Query {
///         let placed = EventType::new("OrderPlaced").expect("a valid name");
///         Query::item(QueryItem::types([placed]).expect("one type"))
///     }
///     async fn apply(&self, tx: &mut MemoryTx<u64>, _: &RecordedEvent) -> Result<(), ApplyError> {
///         *tx.state_mut() += 1;
///         Ok(())
///     }
/// }
/// ```
pub trait Projection: Send + Sync + 'static {
    /// The transaction of the read model that it changes.
    type Tx: Send;

    /// Which projection it is: its checkpoints are kept under this name, of 1 to [`MAX_NAME_BYTES`](crate::MAX_NAME_BYTES) bytes without
    /// control characters.
    fn name(&self) -> &str;

    /// Which version of it, from 1: each has a state and a checkpoint of its own, and one of them is the active one.
    fn version(&self) -> u32 {
        1
    }

    /// Which events it is about; all of them unless it says otherwise. A version keeps to its query: events behind its checkpoint are not
    /// looked at again.
    fn query(&self) -> Query {
        Query::All
    }

    /// Changes the read model by `event`, in `tx` alone: what is done elsewhere may be done twice.
    ///
    /// # Errors
    /// [`ApplyError`], by which the transaction is rolled back. `?` on any error makes it one of the event. A panic counts as one, too.
    fn apply(&self, tx: &mut Self::Tx, event: &RecordedEvent) -> impl Future<Output = Result<(), ApplyError>> + Send;
}

/// Why an event could not be applied.
#[derive(Debug)]
#[non_exhaustive]
pub enum ApplyError {
    /// It lies with the event: after so many attempts it is parked, and the projection goes on.
    Event(BoxError),
    /// It does not lie with the event, which is not parked for it: what is needed to apply it cannot be reached now.
    Unavailable(BoxError),
}

impl ApplyError {
    /// It lies with the event.
    pub fn event(why: impl Into<BoxError>) -> Self {
        Self::Event(why.into())
    }

    /// It does not lie with the event.
    pub fn unavailable(why: impl Into<BoxError>) -> Self {
        Self::Unavailable(why.into())
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for ApplyError {
    fn from(error: E) -> Self {
        Self::Event(Box::new(error))
    }
}

/// A version of a projection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectionId {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
}

impl ProjectionId {
    /// Whether its name keeps to the rules of names.
    pub(crate) fn check(&self) -> Result<(), NameError> {
        name::check(&self.name)
    }
}

impl fmt::Display for ProjectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{}", self.name, self.version)
    }
}

/// How far a version of a projection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Every event up to here has been applied or parked; `None` before the first one.
    pub checkpoint: Option<Position>,
    /// How many events are parked.
    pub parked: u64,
    /// The active version of the projection, if there is one.
    pub active: Option<u32>,
}

/// An event that a projection has gone past without applying it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedEvent {
    /// Where it stands.
    pub position: Position,
    /// Its type.
    pub event_type: EventType,
    /// What the last attempt failed with, cut to [`ParkedEvent::MAX_ERROR_BYTES`].
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
}

impl ParkedEvent {
    /// Longest text of an error that is kept.
    pub const MAX_ERROR_BYTES: usize = 4096;
}

/// Where projections keep what they make of events: with transactions in which a change and the checkpoint behind it are one.
///
/// A version of a projection has a state, a checkpoint and parked events of its own. A transaction is about one version. It is owned, so
/// that it can hold a connection of a pool, and one that is dropped is rolled back.
///
/// Of two transactions about one version that overlap, at most one is committed; a back end with locks makes the second one wait in
/// [`ReadModel::load`], which comes first in every transaction that is to be committed, until the first has ended. So two runners of one
/// projection do no harm: each event still counts once.
pub trait ReadModel: Send + Sync + 'static {
    /// A transaction. Dropping it rolls back.
    type Tx: Send;

    /// Begins a transaction about `id`.
    ///
    /// # Errors
    /// [`ReadModelError`]; [`ReadModelError::Name`] for a name that breaks the rules of names.
    fn begin(&self, id: &ProjectionId) -> impl Future<Output = Result<Self::Tx, ReadModelError>> + Send;

    /// How far the version has come; nobody else can change that before `tx` has ended, or `tx` will not be committed.
    ///
    /// # Errors
    /// [`ReadModelError`].
    fn load(&self, tx: &mut Self::Tx) -> impl Future<Output = Result<Progress, ReadModelError>> + Send;

    /// Saves the checkpoint.
    ///
    /// # Errors
    /// [`ReadModelError`].
    fn save(&self, tx: &mut Self::Tx, checkpoint: Position) -> impl Future<Output = Result<(), ReadModelError>> + Send;

    /// Keeps `event` as parked, in place of what is parked at its position.
    ///
    /// # Errors
    /// [`ReadModelError`].
    fn park(&self, tx: &mut Self::Tx, event: ParkedEvent) -> impl Future<Output = Result<(), ReadModelError>> + Send;

    /// Removes what is parked at `position`; false if nothing is.
    ///
    /// # Errors
    /// [`ReadModelError`].
    fn unpark(
        &self,
        tx: &mut Self::Tx,
        position: Position,
    ) -> impl Future<Output = Result<bool, ReadModelError>> + Send;

    /// The first `limit` parked events, in the order of positions.
    ///
    /// # Errors
    /// [`ReadModelError`].
    fn parked(
        &self,
        tx: &mut Self::Tx,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<ParkedEvent>, ReadModelError>> + Send;

    /// Makes the version of `tx` the active one, when `tx` is committed.
    ///
    /// # Errors
    /// [`ReadModelError`].
    fn activate(&self, tx: &mut Self::Tx) -> impl Future<Output = Result<(), ReadModelError>> + Send;

    /// Removes a version that is not active: its state, its checkpoint, its parked events.
    ///
    /// # Errors
    /// [`ReadModelError::IsActive`] for the active version; nothing was removed then.
    fn remove(&self, id: &ProjectionId) -> impl Future<Output = Result<(), ReadModelError>> + Send;

    /// Gives up what was done in `tx`, as dropping it does. A back end may keep by that what dropping would cost it, such as a connection.
    fn roll_back(&self, tx: Self::Tx) -> impl Future<Output = ()> + Send {
        drop(tx);
        std::future::ready(())
    }

    /// Makes everything that was done in `tx` hold at once.
    ///
    /// # Errors
    /// [`ReadModelError`]; nothing of it holds then, except possibly for [`ReadModelError::Unknown`].
    fn commit(&self, tx: Self::Tx) -> impl Future<Output = Result<(), ReadModelError>> + Send;
}

/// Why a read model did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadModelError {
    /// Another transaction about the same version was committed in between. Nothing was changed.
    #[error("another transaction was committed in between")]
    Conflict,
    /// The read model cannot be reached now. Nothing was changed.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// Whether the transaction was committed is not known; the checkpoint tells.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The version is the active one.
    #[error("{0} is active")]
    IsActive(ProjectionId),
    /// The projection has a name that breaks the rules of names: trying again does not mend it.
    #[error("the name of the projection: {0}")]
    Name(#[from] NameError),
}
