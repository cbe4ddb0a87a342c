//! The runner: takes events from a store to a read model, again after every failure, from the last checkpoint on.

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::control::Control;
use super::options::{ProjectionOptions, ProjectionStats};
use super::parking::Change;
use super::session::{Broken, Session, Trouble};
use super::{Projection, ProjectionId, ReadModel, ReadModelError};
use crate::aggregate::BoxError;
use crate::error::ReadError;
use crate::event::Position;
use crate::name::NameError;
use crate::query::Query;
use crate::store::{BoxFuture, EventStore};

/// Runs a projection: takes its events from a store, applies them in batches, and saves the checkpoint in the transaction of each batch.
///
/// # Exactly once
/// A change of the read model and the checkpoint behind it are one transaction, so each event counts once, wherever a run breaks off: after a
/// crash, a dropped future, a commit whose outcome is unknown, or with a second runner beside it, the next transaction begins behind the
/// checkpoint that is there.
///
/// # Failures
/// - **An event that cannot be applied** (an error, a panic, an upcaster that fails) is tried again, by itself and after a pause. After so many
///   attempts it is parked beside the checkpoint and the projection goes on; see [`ProjectionRunner::parked`].
/// - **Store or read model that cannot be reached**: tried again after a pause; after so many failures in a row the run ends with an error, and
///   can be started again.
/// - **A checkpoint beyond the head** of the store is [`RunnerError::BeyondHead`]: the store is another one, or was restored to an
///   earlier state. Nothing is applied.
///
/// # Rebuild
/// Version v + 1 of a projection is run beside the live one, by a runner of its own on the same read model; it begins at the first event. When it
/// has caught up, [`ProjectionRunner::activate`] swaps the active version, atomically; or the runner does so itself
/// ([`ProjectionOptions::activate_when_caught_up`]). The old version goes by [`ReadModel::remove`].
///
/// # Cancellation
/// A run may be dropped at any await point; the transaction that was open is rolled back. [`ProjectionRunner::stop`] ends it after the batch at
/// hand instead.
pub struct ProjectionRunner<S, M, P> {
    pub(super) store: Arc<S>,
    pub(super) model: Arc<M>,
    pub(super) projection: P,
    pub(super) id: ProjectionId,
    pub(super) query: Query,
    pub(super) options: ProjectionOptions,
    pub(super) control: Control,
    sleep: Box<Sleep>,
}

type Sleep = dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync;

/// How often the pause of a runner that is overtaken doubles.
const MOST_DOUBLINGS: u32 = 6;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunOutcome {
    /// It was asked to stop.
    Stopped,
    /// It had caught up, which is what it was to do.
    CaughtUp,
    /// The store is gone, and everything in it has been dealt with.
    StoreClosed,
}

/// Why a run ended before it was to. What was committed stays, and another run goes on behind it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// This runner is running already.
    #[error("the projection is running already")]
    AlreadyRunning,
    /// The projection has a name that breaks the rules of names.
    #[error("the name of the projection: {0}")]
    Name(NameError),
    /// The checkpoint lies beyond the last event of the store.
    #[error("the checkpoint {checkpoint} is beyond the head of the store, {}", .head.map_or_else(|| "which is empty".to_owned(), |head| head.to_string()))]
    BeyondHead {
        /// The checkpoint.
        checkpoint: Position,
        /// The last event of the store.
        head: Option<Position>,
    },
    /// One more event failed than may be parked. It is not parked, and the checkpoint stands before it.
    #[error("{limit} events are parked, as many as may be, and the one at position {position} fails: {error}")]
    ParkingFull {
        /// Most parked events.
        limit: u64,
        /// The event that fails.
        position: Position,
        /// What it fails with.
        error: String,
    },
    /// The store could not be read, so many times in a row.
    #[error("the store failed {failures} times: {source}")]
    Store {
        /// How many times.
        failures: u32,
        /// The last failure.
        source: ReadError,
    },
    /// The read model failed, so many times in a row.
    #[error("the read model failed {failures} times: {source}")]
    ReadModel {
        /// How many times.
        failures: u32,
        /// The last failure.
        source: ReadModelError,
    },
    /// What an event needs to be applied could not be reached, so many times in a row.
    #[error("events could not be applied {failures} times: {source}")]
    Unavailable {
        /// How many times.
        failures: u32,
        /// The last failure.
        source: BoxError,
    },
}

impl<S, M, P> ProjectionRunner<S, M, P>
where
    S: EventStore,
    M: ReadModel,
    P: Projection<Tx = M::Tx>,
{
    /// A runner of `projection` from `store` to `model`, which asks the projection for its name, version and query once. `sleep` is the runtime's: `tokio::time::sleep`, for example.
    pub fn new<F>(
        store: Arc<S>,
        model: Arc<M>,
        projection: P,
        sleep: impl Fn(Duration) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let id = ProjectionId { name: projection.name().to_owned(), version: projection.version() };
        let sleep = move |time| -> BoxFuture<'static, ()> { Box::pin(sleep(time)) };
        Self {
            store,
            model,
            query: projection.query(),
            projection,
            id,
            options: ProjectionOptions::default(),
            control: Control::default(),
            sleep: Box::new(sleep),
        }
    }

    /// Goes about it by `options`.
    #[must_use]
    pub fn options(self, options: ProjectionOptions) -> Self {
        Self { options, ..self }
    }

    /// Which version of which projection it runs.
    pub fn id(&self) -> &ProjectionId {
        &self.id
    }

    /// Applies what is there and what is to come, until it is stopped or the store is gone.
    ///
    /// # Errors
    /// [`RunnerError`].
    pub async fn run(&self) -> Result<RunOutcome, RunnerError> {
        self.drive(false).await
    }

    /// Applies what is there, and returns when there is no more.
    ///
    /// # Errors
    /// [`RunnerError`].
    pub async fn catch_up(&self) -> Result<RunOutcome, RunnerError> {
        self.drive(true).await
    }

    /// Ends the run after the batch at hand. Without a run the next one ends like that: one that was spawned may not have begun yet.
    pub fn stop(&self) {
        self.control.stop();
    }

    /// What the runner has done since it was made, and how far it is behind. Asks the store for its head.
    ///
    /// With the feature `metrics` it tells the facade as well, so that whoever wants the figures there calls this now and then:
    /// `event_store_projection_lag` (gauge) and `event_store_projection_applied_total`, `…_event_failures_total`, `…_parked_total` (counters),
    /// each with the labels `projection` and `version`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn stats(&self) -> Result<ProjectionStats, ReadError> {
        let head = self.store.head().await?;
        let stats = self.control.stats(head);
        #[cfg(feature = "metrics")]
        self.tell(&stats);
        Ok(stats)
    }

    #[cfg(feature = "metrics")]
    fn tell(&self, stats: &ProjectionStats) {
        let labels = [("projection", self.id.name.clone()), ("version", self.id.version.to_string())];
        metrics::gauge!("event_store_projection_lag", &labels).set(stats.lag as f64);
        metrics::counter!("event_store_projection_applied_total", &labels).absolute(stats.applied);
        metrics::counter!("event_store_projection_event_failures_total", &labels).absolute(stats.event_failures);
        metrics::counter!("event_store_projection_parked_total", &labels).absolute(stats.parked);
    }

    /// Makes this version the active one, whatever is parked and however far it has come.
    ///
    /// # Errors
    /// [`ReadModelError`]; the active version is what it was then, except possibly for [`ReadModelError::Unknown`].
    pub async fn activate(&self) -> Result<(), ReadModelError> {
        self.change(Change::Activate).await.map(drop)
    }

    async fn drive(&self, until_caught_up: bool) -> Result<RunOutcome, RunnerError> {
        let _running = self.control.enter().ok_or(RunnerError::AlreadyRunning)?;
        let mut trouble = Trouble::default();
        loop {
            let broken = match Session::run(self, until_caught_up, &mut trouble).await {
                Ok(outcome) => return Ok(outcome),
                Err(broken) => broken,
            };
            let failures = match &broken {
                Broken::Final(_) | Broken::Overtaken => 0,
                Broken::Event => trouble.failing.as_ref().map_or(1, |failing| failing.attempts),
                Broken::Store(_) | Broken::Model(_) | Broken::Unavailable(_) => {
                    trouble.failures += 1;
                    trouble.failures
                }
            };
            self.control.count(|stats| match &broken {
                Broken::Store(_) => stats.store_failures += 1,
                Broken::Model(_) | Broken::Unavailable(_) => stats.model_failures += 1,
                Broken::Final(_) | Broken::Overtaken | Broken::Event => {}
            });
            let is_over = failures >= self.options.max_failures;
            match broken {
                Broken::Final(error) => return Err(error),
                Broken::Overtaken => {
                    // The first time the other one has come further; who is overtaken again and again makes room.
                    trouble.overtaken = trouble.overtaken.saturating_add(1);
                    if trouble.overtaken > 1 {
                        self.pause(self.options.pause((trouble.overtaken - 1).min(MOST_DOUBLINGS))).await;
                    }
                }
                Broken::Store(source) if is_over => return Err(RunnerError::Store { failures, source }),
                Broken::Model(source) if is_over => return Err(RunnerError::ReadModel { failures, source }),
                Broken::Unavailable(source) if is_over => return Err(RunnerError::Unavailable { failures, source }),
                Broken::Event if failures >= self.options.attempts => {}
                Broken::Event | Broken::Store(_) | Broken::Model(_) | Broken::Unavailable(_) => {
                    self.pause(self.options.pause(failures)).await;
                }
            }
            if self.control.is_stopping() {
                return Ok(RunOutcome::Stopped);
            }
        }
    }

    /// Waits for `time`, or until the run is to stop.
    async fn pause(&self, time: Duration) {
        let mut sleep = self.sleep(time);
        poll_fn(|context| match self.control.poll_stop(context) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => sleep.as_mut().poll(context),
        })
        .await;
    }

    pub(super) fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        (self.sleep)(time)
    }
}

impl<S, M, P> fmt::Debug for ProjectionRunner<S, M, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProjectionRunner").field("id", &self.id).field("options", &self.options).finish_non_exhaustive()
    }
}
