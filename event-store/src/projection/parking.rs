//! Events that a projection has gone past: listed, tried again, given up.

use std::future::poll_fn;
use std::pin::pin;

use futures_core::Stream as _;

use super::runner::ProjectionRunner;
use super::{ApplyError, ParkedEvent, Projection, ReadModel, ReadModelError};
use crate::aggregate::BoxError;
use crate::error::{ReadError, describe};
use crate::event::Position;
use crate::panics::caught_async;
use crate::read::Read;
use crate::recorded::RecordedEvent;
use crate::store::EventStore;

/// How many transactions are begun at most, where runs come in between.
const CONFLICTS: u32 = 100;

/// A change beside the events.
#[derive(Clone, Copy)]
pub(super) enum Change<'a> {
    /// The version becomes the active one.
    Activate,
    /// Nothing is parked at this position any more.
    Unpark(Position),
    /// What is parked at this position has failed once more.
    FailedAgain { position: Position, error: &'a str },
}

/// Why a parked event is still parked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RetryError {
    /// Nothing is parked at this position.
    #[error("nothing is parked at position {position}")]
    NotParked {
        /// The position.
        position: Position,
    },
    /// It failed again, which is counted beside it.
    #[error("it failed again: {error}")]
    Failed {
        /// What it failed with.
        error: String,
    },
    /// What it needs to be applied cannot be reached now.
    #[error("it could not be applied: {0}")]
    Unavailable(#[source] BoxError),
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The read model failed; [`ReadModelError::Unknown`] leaves open whether it is still parked.
    #[error(transparent)]
    ReadModel(#[from] ReadModelError),
}

impl<S, M, P> ProjectionRunner<S, M, P>
where
    S: EventStore,
    M: ReadModel,
    P: Projection<Tx = M::Tx>,
{
    /// The parked events, in the order of positions; at most as many as may be parked.
    ///
    /// # Errors
    /// [`ReadModelError`].
    pub async fn parked(&self) -> Result<Vec<ParkedEvent>, ReadModelError> {
        let mut tx = self.model.begin(&self.id).await?;
        let parked = self.model.parked(&mut tx, self.most_parked()).await?;
        self.model.roll_back(tx).await;
        Ok(parked)
    }

    /// Applies the event that is parked at `position`, out of its order: behind all that has been applied since. It is not parked any more then,
    /// in the same transaction. May be called beside a run: a back end with locks lets one of the two wait for the other.
    ///
    /// # Errors
    /// [`RetryError`]; the event is still parked, except possibly for [`ReadModelError::Unknown`].
    pub async fn retry_parked(&self, position: Position) -> Result<(), RetryError> {
        for _ in 0..CONFLICTS {
            match self.retry(position).await {
                Err(RetryError::ReadModel(ReadModelError::Conflict)) => {}
                Err(RetryError::Failed { error }) => {
                    self.change(Change::FailedAgain { position, error: &error }).await?;
                    return Err(RetryError::Failed { error });
                }
                answer => return answer,
            }
        }
        Err(ReadModelError::Conflict.into())
    }

    /// Applies the event that is parked at `position`, in one transaction.
    async fn retry(&self, position: Position) -> Result<(), RetryError> {
        let mut tx = self.model.begin(&self.id).await?;
        self.model.load(&mut tx).await?;
        if !self.model.unpark(&mut tx, position).await? {
            self.model.roll_back(tx).await;
            return Err(RetryError::NotParked { position });
        }
        for event in self.events_at(position).await? {
            let error = match caught_async(|| self.projection.apply(&mut tx, &event)).await {
                Ok(Ok(())) => continue,
                Ok(Err(ApplyError::Unavailable(error))) => return Err(RetryError::Unavailable(error)),
                Ok(Err(ApplyError::Event(error))) => describe(&*error),
                Err(message) => format!("it panicked: {message}"),
            };
            return Err(RetryError::Failed { error });
        }
        Ok(self.model.commit(tx).await?)
    }

    /// Gives up the event that is parked at `position`: it will not be applied. False if none is.
    ///
    /// # Errors
    /// [`ReadModelError`].
    pub async fn discard_parked(&self, position: Position) -> Result<bool, ReadModelError> {
        self.change(Change::Unpark(position)).await
    }

    /// What the event at `position` is to the projection: one event, several if it was split, none if it is there no more.
    async fn events_at(&self, position: Position) -> Result<Vec<RecordedEvent>, ReadError> {
        let mut read = pin!(self.store.read(Read::query_from(self.query.clone(), position).limit(1)));
        let mut events = Vec::new();
        while let Some(event) = poll_fn(|context| read.as_mut().poll_next(context)).await {
            events.extend(Some(event?).filter(|event| event.position() == position));
        }
        Ok(events)
    }

    /// Makes one change in a transaction of its own, again while others come in between, a few times. Whether there was anything to change.
    pub(super) async fn change(&self, change: Change<'_>) -> Result<bool, ReadModelError> {
        for _ in 0..CONFLICTS {
            match self.change_once(change).await {
                Err(ReadModelError::Conflict) => {}
                answer => return answer,
            }
        }
        Err(ReadModelError::Conflict)
    }

    async fn change_once(&self, change: Change<'_>) -> Result<bool, ReadModelError> {
        let mut tx = self.model.begin(&self.id).await?;
        self.model.load(&mut tx).await?;
        let is_change = match change {
            Change::Activate => {
                self.model.activate(&mut tx).await?;
                true
            }
            Change::Unpark(position) => self.model.unpark(&mut tx, position).await?,
            Change::FailedAgain { position, error } => {
                let parked = self.model.parked(&mut tx, self.most_parked()).await?;
                match parked.into_iter().find(|parked| parked.position == position) {
                    None => false,
                    Some(parked) => {
                        let end = error.floor_char_boundary(ParkedEvent::MAX_ERROR_BYTES);
                        let attempts = parked.attempts.saturating_add(1);
                        let parked = ParkedEvent { error: error[..end].to_owned(), attempts, ..parked };
                        self.model.park(&mut tx, parked).await?;
                        true
                    }
                }
            }
        };
        if is_change {
            self.model.commit(tx).await?;
        } else {
            self.model.roll_back(tx).await;
        }
        Ok(is_change)
    }

    fn most_parked(&self) -> usize {
        usize::try_from(self.options.max_parked).unwrap_or(usize::MAX)
    }
}
