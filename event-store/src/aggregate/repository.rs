//! The repository: loads aggregates, decides commands on them, and appends what was decided if nothing has come in between.

use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_core::Stream as _;

use super::snapshots::{ByPolicy, Replayed, SnapshotOutcome, SnapshotUse, Snapshots, is_due};
use super::{Aggregate, DomainEvent, RepositoryError, SnapshotState, UserCode};
use crate::append::{Append, Appended, ExpectedVersion};
use crate::error::AppendError;
use crate::event::{NewEvent, StreamVersion};
use crate::name::StreamId;
use crate::panics::caught;
use crate::read::Read;
use crate::recorded::RecordedEvent;
use crate::snapshot::{SnapshotPolicy, SnapshotStore};
use crate::store::{BoxFuture, EventStore};

/// Aggregates of type `A` in a store, one a stream.
///
/// Every append expects the version that its command was decided on, so no decision is made on state that others have changed.
/// Where others were faster, what came since is loaded and the command is decided anew, a bounded number of times. Where the outcome of
/// an append is unknown, the same append is sent again with the same ids, a bounded number of times too.
///
/// # Cancellation
/// A load may be dropped at any time. A command that is dropped has been appended as a whole or not at all, and [`Repository::load`] tells.
///
/// # Panics of user code
/// They are [`RepositoryError::Panicked`].
///
/// ```
/// # use event_store::{Aggregate, BoxError, DomainEvent, EventType, NewEvent, RecordedEvent};
/// # #[derive(Default)] struct Counter(u64);
/// # struct Counted(u64);
/// # impl DomainEvent for Counted {
/// #     fn encode(&self) -> Result<NewEvent, BoxError> { Ok(NewEvent::new(EventType::new("Counted")?, self.0.to_string())) }
/// #     fn decode(event: &RecordedEvent) -> Result<Self, BoxError> { Ok(Self(std::str::from_utf8(event.payload())?.parse()?)) }
/// # }
/// # impl Aggregate for Counter {
/// #     const TYPE: &'static str = "Counter";
/// #     type Event = Counted; type Command = u64; type Error = std::convert::Infallible;
/// #     fn decide(&self, by: &u64) -> Result<Vec<Counted>, Self::Error> { Ok(vec![Counted(*by)]) }
/// #     fn apply(&mut self, counted: &Counted) { self.0 += counted.0; }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use event_store::{MemoryStore, Repository, StreamId};
///
/// let counters = Repository::<Counter, _>::new(Arc::new(MemoryStore::new()));
/// let stream = StreamId::new("counter-1")?;
/// counters.execute(&stream, &2).await?;
/// let executed = counters.execute(&stream, &3).await?;
/// assert_eq!(executed.state.0, 5);
/// # Ok(()) }
/// ```
pub struct Repository<A, S> {
    store: Arc<S>,
    max_attempts: u32,
    max_repeats: u32,
    pause: Option<Arc<Pause>>,
    snapshots: Option<Arc<dyn Snapshots<A, S>>>,
    aggregate: PhantomData<fn() -> A>,
}

/// Waits before the given repetition, counted from 1.
type Pause = dyn Fn(u32) -> BoxFuture<'static, ()> + Send + Sync;

/// An aggregate as its stream has it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Loaded<A> {
    /// Its state.
    pub state: A,
    /// The last event that the state includes; `None` for a stream without events.
    pub version: Option<StreamVersion>,
    /// How many events were replayed.
    pub replayed: u64,
    /// What the load had of snapshots.
    pub snapshot: SnapshotUse,
}

/// What a command led to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Executed<A: Aggregate> {
    /// The state after it.
    pub state: A,
    /// The last event that the state includes; `None` for a stream without events.
    pub version: Option<StreamVersion>,
    /// The events that it led to.
    pub events: Vec<A::Event>,
    /// What the store wrote; `None` if the command led to no events.
    pub appended: Option<Appended>,
    /// How often the command was decided: one more than others were faster.
    pub attempts: u32,
    /// What became of the snapshot.
    pub snapshot: SnapshotOutcome,
}

/// An aggregate while it is being loaded.
struct Replay<A> {
    state: A,
    version: Option<StreamVersion>,
    /// Events since the last snapshot.
    since_snapshot: Replayed,
    snapshot: SnapshotUse,
}

impl<A: Aggregate, S: EventStore> Repository<A, S> {
    /// The aggregates in `store`, without snapshots. A command is decided at most 10 times; an append whose outcome is unknown is
    /// repeated at most 3 times, at once.
    #[must_use]
    pub fn new(store: Arc<S>) -> Self {
        Self { store, max_attempts: 10, max_repeats: 3, pause: None, snapshots: None, aggregate: PhantomData }
    }

    /// How often a command is decided at most, 10 unless set; 0 counts as 1. Of `n` who want the same stream at the same time one needs up
    /// to `n` attempts.
    #[must_use]
    pub fn max_attempts(self, attempts: u32) -> Self {
        Self { max_attempts: attempts.max(1), ..self }
    }

    /// How often an append whose outcome is unknown is repeated at most, 3 unless set.
    #[must_use]
    pub fn max_repeats(self, repeats: u32) -> Self {
        Self { max_repeats: repeats, ..self }
    }

    /// Waits before each repetition of an append whose outcome is unknown: `first` before the first one, twice as long before each
    /// further one. `sleep` is the runtime's, `tokio::time::sleep` for example.
    #[must_use]
    pub fn pause<F>(self, first: Duration, sleep: impl Fn(Duration) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let pause = move |repeat: u32| -> BoxFuture<'static, ()> {
            let times = 1_u32.checked_shl(repeat - 1).unwrap_or(u32::MAX);
            Box::pin(sleep(first.saturating_mul(times)))
        };
        Self { pause: Some(Arc::new(pause)), ..self }
    }

    /// Takes snapshots by `policy`, and begins loads with the last one. A snapshot of another schema version or kind, one ahead of its
    /// stream, or one that cannot be decoded is ignored and the aggregate rebuilt from its events.
    ///
    /// The clock is read around loads if the policy is [`SnapshotPolicy::ReplayCost`], and when a snapshot is taken.
    #[must_use]
    pub fn snapshots(self, policy: SnapshotPolicy) -> Self
    where
        A: SnapshotState,
        S: SnapshotStore,
    {
        Self { snapshots: Some(Arc::new(ByPolicy { policy, aggregate: PhantomData })), ..self }
    }

    /// The aggregate of `stream`; a stream without events has the default state.
    ///
    /// Cost: reads and applies every event since the last snapshot, and holds one at a time.
    ///
    /// # Errors
    /// [`RepositoryError`].
    pub async fn load(&self, stream: &StreamId) -> Result<Loaded<A>, RepositoryError<A::Error>> {
        let Replay { state, version, since_snapshot, snapshot } = self.replay(stream).await?;
        Ok(Loaded { state, version, replayed: since_snapshot.events, snapshot })
    }

    /// Decides `command` on the aggregate of `stream`, and appends what it leads to. A command that leads to no events appends nothing.
    ///
    /// # Errors
    /// [`RepositoryError`]; nothing was appended, except where the variant says otherwise.
    pub async fn execute(
        &self,
        stream: &StreamId,
        command: &A::Command,
    ) -> Result<Executed<A>, RepositoryError<A::Error>> {
        self.execute_with(stream, command, |event| event).await
    }

    /// As [`Repository::execute`]; each event goes through `adorn` before it is appended, which may add metadata, tags, or the ids of
    /// what it follows from.
    ///
    /// # Errors
    /// [`RepositoryError`]; nothing was appended, except where the variant says otherwise.
    pub async fn execute_with(
        &self,
        stream: &StreamId,
        command: &A::Command,
        mut adorn: impl FnMut(NewEvent) -> NewEvent + Send,
    ) -> Result<Executed<A>, RepositoryError<A::Error>> {
        let mut replay = self.replay(stream).await?;
        let mut attempts = 1;
        loop {
            let decided = caught(|| replay.state.decide(command)).map_err(panicked(UserCode::Decide))?;
            let events = decided.map_err(RepositoryError::Refused)?;
            if events.is_empty() {
                let Replay { state, version, .. } = replay;
                let snapshot = SnapshotOutcome::NotDue;
                return Ok(Executed { state, version, events, appended: None, attempts, snapshot });
            }
            let encoded =
                caught(|| events.iter().map(|event| event.encode().map(&mut adorn)).collect::<Result<Vec<_>, _>>())
                    .map_err(panicked(UserCode::Encode))?
                    .map_err(RepositoryError::Encode)?;
            let expected = replay.version.map_or(ExpectedVersion::NoStream, ExpectedVersion::Exact);
            let refusal = match self.append(stream, expected, &encoded).await {
                Ok(appended) => return self.executed(stream, replay, events, appended, attempts).await,
                Err(RepositoryError::Append(refusal @ AppendError::WrongExpectedVersion { .. })) => refusal,
                Err(error) => return Err(error),
            };
            if attempts >= self.max_attempts {
                return Err(RepositoryError::Conflict { stream: stream.clone(), attempts, last: refusal });
            }
            attempts += 1;
            if let AppendError::WrongExpectedVersion { actual, .. } = refusal {
                replay = self.catch_up(stream, replay, actual).await?;
            }
        }
    }

    /// Sends the append until its outcome is known. The ids and contents are those of `events` each time.
    async fn append(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, RepositoryError<A::Error>> {
        let append = || Append::stream(stream.clone(), expected, events.iter().cloned());
        let mut unknown = None;
        let mut repeats = 0;
        loop {
            match self.store.append(append()).await {
                Err(AppendError::Unknown(reason)) => unknown = Some(reason),
                // The repetition was not applied, which says nothing about the append before it.
                Err(AppendError::Unavailable(_) | AppendError::Poisoned) if unknown.is_some() => {}
                // The ids are judged before the version: an append that was applied would have been recognised.
                answer => return answer.map_err(RepositoryError::Append),
            }
            if repeats >= self.max_repeats {
                let reason = unknown.unwrap_or_default();
                return Err(RepositoryError::Unknown { append: Box::new(append()), attempts: repeats + 1, reason });
            }
            repeats += 1;
            if let Some(pause) = &self.pause {
                pause(repeats).await;
            }
        }
    }

    /// Applies what was appended, and takes a snapshot if one is due.
    async fn executed(
        &self,
        stream: &StreamId,
        replay: Replay<A>,
        events: Vec<A::Event>,
        appended: Appended,
        attempts: u32,
    ) -> Result<Executed<A>, RepositoryError<A::Error>> {
        let Replay { mut state, mut since_snapshot, .. } = replay;
        caught(|| events.iter().for_each(|event| state.apply(event))).map_err(|message| RepositoryError::Panicked {
            code: UserCode::Apply,
            message,
            is_appended: true,
        })?;
        since_snapshot.events += events.len() as u64;
        let version = appended.versions().last().map(|(_, version)| *version);
        let snapshot = match (&self.snapshots, version) {
            (Some(snapshots), Some(version)) if is_due(&**snapshots, since_snapshot) => {
                snapshots.save(&self.store, stream, &state, version).await
            }
            _ => SnapshotOutcome::NotDue,
        };
        Ok(Executed { state, version, events, appended: Some(appended), attempts, snapshot })
    }

    /// The aggregate from its last snapshot and all that came after it.
    async fn replay(&self, stream: &StreamId) -> Result<Replay<A>, RepositoryError<A::Error>> {
        let (start, snapshot) = match &self.snapshots {
            Some(snapshots) => snapshots.load(&self.store, stream).await,
            None => (None, SnapshotUse::None),
        };
        let (state, version) = start.map_or_else(|| (A::default(), None), |(state, version)| (state, Some(version)));
        let mut replay = Replay { state, version, since_snapshot: Replayed::default(), snapshot };
        self.read_on(stream, &mut replay).await?;
        Ok(replay)
    }

    /// What `replay` becomes by what has come since; `actual` is the version that the stream had then.
    async fn catch_up(
        &self,
        stream: &StreamId,
        mut replay: Replay<A>,
        actual: Option<StreamVersion>,
    ) -> Result<Replay<A>, RepositoryError<A::Error>> {
        if actual < replay.version {
            // The stream is shorter than what was read of it: it was replaced by another.
            return self.replay(stream).await;
        }
        self.read_on(stream, &mut replay).await?;
        // Where upcasters drop the last events, the stream is longer than what can be read of it. What was there when the store said
        // how long it is has been read by now.
        replay.version = replay.version.max(actual);
        Ok(replay)
    }

    /// Applies the events behind those that `replay` includes.
    async fn read_on(&self, stream: &StreamId, replay: &mut Replay<A>) -> Result<(), RepositoryError<A::Error>> {
        let read = match replay.version {
            None => Read::stream(stream.clone()),
            Some(version) => match version.get().checked_add(1) {
                Some(next) => Read::stream_from(stream.clone(), StreamVersion::new(next)),
                None => return Ok(()),
            },
        };
        let is_timed = self.snapshots.as_ref().is_some_and(|s| matches!(s.policy(), SnapshotPolicy::ReplayCost(_)));
        let began = is_timed.then(Instant::now);
        let mut events = pin!(self.store.read(read));
        while let Some(event) = poll_fn(|context| events.as_mut().poll_next(context)).await {
            let event = event?;
            let decoded = decode::<A>(&event)?;
            caught(|| replay.state.apply(&decoded)).map_err(panicked(UserCode::Apply))?;
            replay.version = event.stream_version().max(replay.version);
            replay.since_snapshot.events += 1;
        }
        if let Some(began) = began {
            replay.since_snapshot.took += began.elapsed();
        }
        Ok(())
    }
}

fn decode<A: Aggregate>(event: &RecordedEvent) -> Result<A::Event, RepositoryError<A::Error>> {
    let decoded = caught(|| A::Event::decode(event)).map_err(panicked(UserCode::Decode))?;
    decoded.map_err(|source| RepositoryError::Decode {
        position: event.position(),
        event_type: event.event_type().clone(),
        schema_version: event.schema_version(),
        source,
    })
}

fn panicked<E: std::error::Error + 'static>(code: UserCode) -> impl FnOnce(String) -> RepositoryError<E> {
    move |message| RepositoryError::Panicked { code, message, is_appended: false }
}

impl<A, S> Clone for Repository<A, S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            max_attempts: self.max_attempts,
            max_repeats: self.max_repeats,
            pause: self.pause.clone(),
            snapshots: self.snapshots.clone(),
            aggregate: PhantomData,
        }
    }
}

impl<A: Aggregate, S> fmt::Debug for Repository<A, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("aggregate", &A::TYPE)
            .field("max_attempts", &self.max_attempts)
            .field("max_repeats", &self.max_repeats)
            .finish_non_exhaustive()
    }
}
