//! One stretch of a run: from the checkpoint that is there to the next failure.

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::task::Poll;

use futures_core::Stream as _;

use super::runner::{ProjectionRunner, RunOutcome, RunnerError};
use super::{ApplyError, ParkedEvent, Progress, Projection, ReadModel, ReadModelError};
use crate::aggregate::BoxError;
use crate::error::{ReadError, describe};
use crate::event::Position;
use crate::name::EventType;
use crate::panics::caught_async;
use crate::recorded::RecordedEvent;
use crate::store::EventStore;
use crate::subscription::{Delivery, Subscribe, SubscribeError, Subscription};

/// What has gone wrong and is not mended yet.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Failures in a row of store or read model.
    pub(super) failures: u32,
    /// How often in a row another runner was faster.
    pub(super) overtaken: u32,
    /// The event that fails: it gets transactions of its own.
    pub(super) failing: Option<Failing>,
}

/// An event that fails.
#[derive(Debug)]
pub(super) struct Failing {
    pub(super) position: Position,
    pub(super) event_type: EventType,
    pub(super) attempts: u32,
    pub(super) error: String,
}

/// What ended a session.
pub(super) enum Broken {
    /// The run, too.
    Final(RunnerError),
    /// Somebody else has moved the checkpoint.
    Overtaken,
    /// An event could not be applied, which [`Trouble::failing`] tells of.
    Event,
    Store(ReadError),
    Model(ReadModelError),
    Unavailable(BoxError),
}

impl From<ReadModelError> for Broken {
    fn from(error: ReadModelError) -> Self {
        match error {
            ReadModelError::Conflict => Self::Overtaken,
            ReadModelError::Name(error) => Self::Final(RunnerError::Name(error)),
            error => Self::Model(error),
        }
    }
}

/// What a batch ended with, beside its events.
enum End {
    /// It is full, or there is no more at the moment.
    Batch,
    /// There was none behind this position.
    CaughtUp(Option<Position>),
    Stopped,
    Closed,
    Failed(SubscribeError),
}

pub(super) struct Session<'a, S, M, P> {
    runner: &'a ProjectionRunner<S, M, P>,
    until_caught_up: bool,
    subscription: Subscription,
    /// As it stands in the read model.
    checkpoint: Option<Position>,
    /// What has been dealt with, saved or not.
    seen: Option<Position>,
    active: Option<u32>,
    /// An event that was taken and belongs into the next batch.
    held: Option<RecordedEvent>,
}

impl<'a, S, M, P> Session<'a, S, M, P>
where
    S: EventStore,
    M: ReadModel,
    P: Projection<Tx = M::Tx>,
{
    /// Goes on from the checkpoint until something breaks or the run is over.
    pub(super) async fn run(
        runner: &'a ProjectionRunner<S, M, P>,
        until_caught_up: bool,
        trouble: &mut Trouble,
    ) -> Result<RunOutcome, Broken> {
        let mut tx = runner.model.begin(&runner.id).await?;
        let Progress { checkpoint, active, .. } = runner.model.load(&mut tx).await?;
        runner.model.roll_back(tx).await;
        let subscribe = checkpoint.map_or_else(Subscribe::from_start, Subscribe::after);
        let subscription = runner.store.subscribe(subscribe.query(runner.query.clone()));
        runner.control.count(|stats| stats.checkpoint = checkpoint);
        runner.control.see(checkpoint);
        let mut session =
            Session { runner, until_caught_up, subscription, checkpoint, seen: checkpoint, active, held: None };
        loop {
            let (events, end) = session.collect(trouble).await;
            if let Some(last) = events.last().map(RecordedEvent::position) {
                let seen = match end {
                    End::CaughtUp(position) => position.max(Some(last)),
                    _ => Some(last),
                };
                session.apply(&events, seen, trouble).await?;
                yield_once().await;
            }
            if let Some(outcome) = session.end(end, trouble).await? {
                return Ok(outcome);
            }
        }
    }

    /// The next batch: at least one event, unless something else happens first.
    async fn collect(&mut self, trouble: &Trouble) -> (Vec<RecordedEvent>, End) {
        let options = &self.runner.options;
        let failing = trouble.failing.as_ref().map(|failing| failing.position);
        let mut events: Vec<RecordedEvent> = self.held.take().into_iter().collect();
        let mut linger = None;
        let mut caught_up = None;
        loop {
            if let Some(last) = events.last().map(RecordedEvent::position) {
                let is_full = events.len() >= options.batch_events || Some(last) == failing;
                if is_full && !self.subscription.has_more_at(last) {
                    return (events, End::Batch);
                }
                if linger.is_none() && !options.linger.is_zero() {
                    linger = Some(self.runner.sleep(options.linger));
                }
            }
            let Self { runner, subscription, .. } = self;
            let next = poll_fn(|context| {
                if runner.control.poll_stop(context).is_ready() && !is_torn(subscription, &events) {
                    return Poll::Ready(Err(End::Stopped));
                }
                if let Poll::Ready(next) = Pin::new(&mut *subscription).poll_next(context) {
                    return Poll::Ready(Ok(next));
                }
                match &mut linger {
                    _ if events.is_empty() => Poll::Pending,
                    Some(linger) => linger.as_mut().poll(context).map(|()| Err(End::Batch)),
                    None => Poll::Ready(Err(End::Batch)),
                }
            });
            match next.await {
                Err(End::Batch) => return (events, caught_up.map_or(End::Batch, End::CaughtUp)),
                Err(end) => return (events, end),
                Ok(None) => return (events, End::Closed),
                Ok(Some(Err(error))) => return (events, End::Failed(error)),
                Ok(Some(Ok(Delivery::CaughtUp(position)))) => {
                    if events.is_empty() || options.linger.is_zero() || self.until_caught_up {
                        return (events, End::CaughtUp(position));
                    }
                    caught_up = Some(position);
                }
                Ok(Some(Ok(Delivery::Event(event)))) => {
                    caught_up = None;
                    let is_next = events.last().is_some_and(|last| last.position() != event.position());
                    if is_next && Some(event.position()) == failing {
                        // What is before it is applied without it.
                        self.held = Some(event);
                        return (events, End::Batch);
                    }
                    events.push(event);
                }
            }
        }
    }

    /// Applies `events` in one transaction, which ends with `seen` as its checkpoint; or parks the event that has failed often enough.
    async fn apply(
        &mut self,
        events: &[RecordedEvent],
        seen: Option<Position>,
        trouble: &mut Trouble,
    ) -> Result<(), Broken> {
        let runner = self.runner;
        let position = events.first().map(RecordedEvent::position);
        let is_hopeless = |failing: &&Failing| failing.attempts >= runner.options.attempts;
        if let Some(failing) = trouble.failing.as_ref().filter(is_hopeless)
            && Some(failing.position) == position
        {
            return self.park(trouble).await;
        }
        let (mut tx, _) = self.begin().await?;
        for event in events {
            let outcome = caught_async(|| runner.projection.apply(&mut tx, event)).await;
            let error = match outcome {
                Ok(Ok(())) => continue,
                Ok(Err(ApplyError::Unavailable(error))) => return Err(Broken::Unavailable(error)),
                Ok(Err(ApplyError::Event(error))) => describe(&*error),
                Err(message) => {
                    runner.control.count(|stats| stats.panics += 1);
                    format!("it panicked: {message}")
                }
            };
            drop(tx);
            self.note(event.position(), event.event_type(), error, trouble);
            return Err(Broken::Event);
        }
        self.commit(tx, seen, trouble).await?;
        runner.control.count(|stats| stats.applied += events.len() as u64);
        Ok(())
    }

    /// Does what the end of a batch asks for. The run's outcome, if it is over.
    async fn end(&mut self, end: End, trouble: &mut Trouble) -> Result<Option<RunOutcome>, Broken> {
        let outcome = match end {
            End::Batch => return Ok(None),
            End::Failed(error) => {
                self.failed(error, trouble).await?;
                return Ok(None);
            }
            End::Stopped => RunOutcome::Stopped,
            End::Closed => RunOutcome::StoreClosed,
            End::CaughtUp(position) => {
                trouble.failures = 0;
                self.see(position.max(self.seen));
                if self.runner.options.activates_when_caught_up && self.is_newer() {
                    self.activate(trouble).await?;
                }
                RunOutcome::CaughtUp
            }
        };
        let number = |position: Option<Position>| position.map_or(0, Position::get);
        let unsaved = number(self.seen) - number(self.checkpoint);
        let goes_on = outcome == RunOutcome::CaughtUp && !self.until_caught_up;
        if unsaved > if goes_on { self.runner.options.idle_events } else { 0 } {
            let (tx, _) = self.begin().await?;
            self.commit(tx, self.seen, trouble).await?;
        }
        Ok((!goes_on).then_some(outcome))
    }

    /// The subscription has failed.
    async fn failed(&mut self, error: SubscribeError, trouble: &mut Trouble) -> Result<(), Broken> {
        match error {
            SubscribeError::BeyondHead { cursor: checkpoint, head } => {
                Err(Broken::Final(RunnerError::BeyondHead { checkpoint, head }))
            }
            SubscribeError::Read(ReadError::Upcast { position, event_type, schema_version, reason }) => {
                let error = format!("schema version {schema_version}: {reason}");
                self.note(position, &event_type, error, trouble);
                let attempts = trouble.failing.as_ref().map_or(0, |failing| failing.attempts);
                if attempts < self.runner.options.attempts {
                    return Err(Broken::Event);
                }
                self.park(trouble).await?;
                // The subscription stands before the event still.
                Err(Broken::Overtaken)
            }
            SubscribeError::Read(error) => Err(Broken::Store(error)),
        }
    }

    /// Counts a failure of the event at `position`.
    fn note(&self, position: Position, event_type: &EventType, mut error: String, trouble: &mut Trouble) {
        self.runner.control.count(|stats| stats.event_failures += 1);
        error.truncate(error.floor_char_boundary(ParkedEvent::MAX_ERROR_BYTES));
        let before = trouble.failing.take().filter(|failing| failing.position == position);
        let attempts = before.map_or(0, |failing| failing.attempts) + 1;
        trouble.failing = Some(Failing { position, event_type: event_type.clone(), attempts, error });
    }

    /// Parks the event that fails, and moves the checkpoint behind it.
    async fn park(&mut self, trouble: &mut Trouble) -> Result<(), Broken> {
        let Some(Failing { position, event_type, attempts, error }) = &trouble.failing else { return Ok(()) };
        let (position, limit) = (*position, self.runner.options.max_parked);
        let (mut tx, progress) = self.begin().await?;
        if progress.parked >= limit {
            self.runner.model.roll_back(tx).await;
            let error = error.clone();
            return Err(Broken::Final(RunnerError::ParkingFull { limit, position, error }));
        }
        let parked =
            ParkedEvent { position, event_type: event_type.clone(), error: error.clone(), attempts: *attempts };
        self.runner.model.park(&mut tx, parked).await?;
        self.commit(tx, Some(position), trouble).await?;
        self.runner.control.count(|stats| stats.parked += 1);
        Ok(())
    }

    fn is_newer(&self) -> bool {
        self.active.is_none_or(|active| active < self.runner.id.version)
    }

    /// Makes the version the active one, if nothing is parked.
    async fn activate(&mut self, trouble: &mut Trouble) -> Result<(), Broken> {
        let (mut tx, progress) = self.begin().await?;
        if progress.parked > 0 || !self.is_newer() {
            self.runner.model.roll_back(tx).await;
            return Ok(());
        }
        self.runner.model.activate(&mut tx).await?;
        self.commit(tx, self.seen, trouble).await?;
        self.active = Some(self.runner.id.version);
        Ok(())
    }

    /// A transaction, if the checkpoint is still where this session has left it.
    async fn begin(&mut self) -> Result<(M::Tx, Progress), Broken> {
        let mut tx = self.runner.model.begin(&self.runner.id).await?;
        let progress = self.runner.model.load(&mut tx).await?;
        self.active = progress.active;
        if progress.checkpoint != self.checkpoint {
            self.runner.model.roll_back(tx).await;
            return Err(Broken::Overtaken);
        }
        Ok((tx, progress))
    }

    async fn commit(&mut self, mut tx: M::Tx, seen: Option<Position>, trouble: &mut Trouble) -> Result<(), Broken> {
        let runner = self.runner;
        if let Some(seen) = seen {
            runner.model.save(&mut tx, seen).await?;
        }
        let is_first = self.active.is_none();
        if is_first {
            runner.model.activate(&mut tx).await?;
        }
        runner.model.commit(tx).await?;
        if is_first {
            self.active = Some(runner.id.version);
        }
        self.checkpoint = seen.max(self.checkpoint);
        self.see(self.checkpoint);
        (trouble.failures, trouble.overtaken) = (0, 0);
        let is_past = |failing: &Failing| Some(failing.position) <= seen;
        if trouble.failing.as_ref().is_some_and(is_past) {
            trouble.failing = mem::take(&mut trouble.failing).filter(|failing| !is_past(failing));
        }
        runner.control.count(|stats| {
            stats.checkpoint = self.checkpoint;
            stats.commits += 1;
        });
        Ok(())
    }

    fn see(&mut self, seen: Option<Position>) {
        self.seen = seen.max(self.seen);
        self.runner.control.see(self.seen);
    }
}

/// Lets other tasks run: a store in memory never makes a long catch-up wait.
async fn yield_once() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Whether a piece of the last event is still to come.
fn is_torn(subscription: &Subscription, events: &[RecordedEvent]) -> bool {
    events.last().is_some_and(|last| subscription.has_more_at(last.position()))
}
