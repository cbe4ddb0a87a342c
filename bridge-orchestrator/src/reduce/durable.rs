//! A reducer whose state and intents are in an event store: both or neither.

use std::future::poll_fn;
use std::num::NonZeroU64;
use std::pin::pin;

use event_store::{
    Append, AppendError, Appended, EventStore, EventType, ExpectedVersion, NameError, NewEvent, Read, ReadError,
    RecordedEvent, RemoveError, StreamId, StreamVersion, Timestamp,
};
use futures_util::Stream;

use super::error::{OptionsError, ReduceError};
use super::intent::Output;
use super::item::Item;
use super::journal::Input;
use super::options::ReducerBuilder;
use super::reducer::Reducer;
use super::state::State;

/// Type of the event that holds what a call was given.
const INPUT: &str = "REDUCER_INPUT";
/// Type of the event that holds the whole state.
const SNAPSHOT: &str = "REDUCER_SNAPSHOT";
/// How often an append of unknown outcome is repeated before its call gives up for now.
const REPEATS: u32 = 3;

/// A [`Reducer`] over an event store. Each call is ONE append to the stream `reducer-{id}`: what the call was given, as `REDUCER_INPUT`, and
/// its intents, each an event of the [intent's name](super::Intent::name). Whoever carries intents out reads the stream, so there is no
/// intent without the change of state that it comes from, and no change without its intents.
///
/// [`StatePersisted`] is made when the store has acknowledged the append, and nowhere else.
///
/// # Restart
/// [`DurableReducer::open`] makes the state anew from the last snapshot in the stream and the inputs after it. The options, and a caller's
/// function for keys, must be the same. Their intents are in the stream already and are not raised again.
///
/// # One owner
/// Each append expects the stream where this reducer left it. If somebody else has written to it, the call fails with
/// [`AppendError::WrongExpectedVersion`], nothing is applied, and the next call begins with the state of the stream.
///
/// # Cancellation
/// A call that is dropped may have been applied or not. The next call settles that first: it repeats the append with the same event ids.
#[derive(Debug)]
pub struct DurableReducer<S> {
    store: S,
    stream: StreamId,
    options: ReducerBuilder,
    snapshot_every: NonZeroU64,
    /// `None` where it may differ from the stream.
    reducer: Option<Reducer>,
    version: Option<StreamVersion>,
    /// Where the last snapshot is.
    snapshot: Option<StreamVersion>,
    /// Where one was last due: it may have been too large.
    tried: Option<StreamVersion>,
    /// Sent, and not known to be applied or not. The reducer is ahead of the stream by it.
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    append: Append,
    /// A snapshot is due.
    is_due: bool,
    /// It is the last event.
    has_snapshot: bool,
}

/// A call is in the store, with all its intents.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatePersisted {
    /// The reducer's stream.
    pub stream: StreamId,
    /// The version of the call's last event.
    pub version: StreamVersion,
}

/// Why a call of a [`DurableReducer`] did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DurableError {
    /// The append failed. Nothing was applied, but for [`AppendError::Unknown`]: then the next call finds out.
    #[error("the call was not persisted: {0}")]
    Append(#[source] AppendError),
    /// The call before, whose outcome was unknown, was not applied. Nothing of this call was done.
    #[error("the call before was not persisted: {0}")]
    Earlier(#[source] AppendError),
    /// The stream could not be read. Nothing was done.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The reducer did not take it. Nothing was done.
    #[error(transparent)]
    Reduce(#[from] ReduceError),
    /// The options make no reducer.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The id makes no name of a stream.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An event of the stream is not what a reducer of these options writes.
    #[error("version {version} of {stream}: {reason}")]
    Malformed {
        /// The reducer's stream.
        stream: StreamId,
        /// The event.
        version: StreamVersion,
        /// What is wrong.
        reason: String,
    },
    /// Events were not removed.
    #[error(transparent)]
    Remove(#[from] RemoveError),
}

impl<S: EventStore> DurableReducer<S> {
    /// Opens the reducer `id`: as it was left, or a fresh one. A snapshot is written with the call that makes it `snapshot_every` events since
    /// the last one.
    ///
    /// Cost: reads the stream back to its last snapshot.
    ///
    /// # Errors
    /// [`DurableError`].
    pub async fn open(
        store: S,
        id: &str,
        options: ReducerBuilder,
        snapshot_every: NonZeroU64,
    ) -> Result<Self, DurableError> {
        let stream = StreamId::new(&format!("reducer-{id}"))?;
        let (reducer, version, snapshot, tried, pending) = (None, None, None, None, None);
        let mut this = Self { store, stream, options, snapshot_every, reducer, version, snapshot, tried, pending };
        this.rebuild().await?;
        Ok(this)
    }

    /// [`Reducer::push`], persisted.
    ///
    /// # Errors
    /// [`DurableError`]: each says what holds then.
    pub async fn push(&mut self, items: &[Item<'_>]) -> Result<StatePersisted, DurableError> {
        self.call(Input::Items(items.iter().map(|item| (*item).into()).collect())).await
    }

    /// [`Reducer::advance_watermark`], persisted.
    ///
    /// # Errors
    /// [`DurableError`].
    pub async fn advance_watermark(&mut self, to: Timestamp) -> Result<StatePersisted, DurableError> {
        self.call(Input::Watermark(to.as_micros())).await
    }

    /// [`Reducer::finish`], persisted.
    ///
    /// # Errors
    /// [`DurableError`].
    pub async fn finish(&mut self) -> Result<StatePersisted, DurableError> {
        self.call(Input::Finish).await
    }

    /// [`Reducer::recover`], persisted.
    ///
    /// # Errors
    /// [`DurableError`].
    pub async fn recover(&mut self, states: &[(&str, &str)]) -> Result<StatePersisted, DurableError> {
        self.call(Input::Recover(states.iter().map(|&(workflow, state)| (workflow.into(), state.into())).collect()))
            .await
    }

    /// The reducer, as the last call that succeeded left it; `None` after a call that failed, until the next one.
    #[must_use]
    pub fn reducer(&self) -> Option<&Reducer> {
        self.reducer.as_ref().filter(|_| self.pending.is_none())
    }

    /// The stream of inputs, intents and snapshots.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Removes events that nobody needs any more: those before the last snapshot whose intents are done, which the caller knows for all
    /// versions below `done`. Returns how many there were.
    ///
    /// # Errors
    /// [`DurableError::Remove`].
    pub async fn truncate(&mut self, done: StreamVersion) -> Result<u64, DurableError> {
        match self.snapshot {
            None => Ok(0),
            Some(snapshot) => Ok(self.store.truncate_stream(&self.stream, snapshot.min(done)).await?),
        }
    }

    async fn call(&mut self, input: Input<'_>) -> Result<StatePersisted, DurableError> {
        if self.pending.is_some() {
            self.send().await.map_err(|error| match error {
                AppendError::Unknown(_) => DurableError::Append(error),
                _ => DurableError::Earlier(error),
            })?;
        }
        if self.reducer.is_none() {
            self.rebuild().await?;
        }
        let events = self.reduce(&input)?;
        let version = self.version.map_or(0, |version| version.get() + 1);
        let since = version + events.len() as u64 - self.tried.map_or(0, |tried| tried.get() + 1);
        self.prepare(events, since >= self.snapshot_every.get());
        self.send().await.map_err(DurableError::Append)
    }

    /// Does the call in memory. Returns its events; the state is ahead of the stream until they are there.
    fn reduce(&mut self, input: &Input<'_>) -> Result<Vec<NewEvent>, ReduceError> {
        let reducer = self.reducer.as_mut().expect("rebuilt by the caller");
        let mut events = vec![event(INPUT, input)];
        if let Some(output) = input.apply(reducer)? {
            events.extend(output.intents().map(|intent| event(intent.name(), &intent)));
        }
        Ok(events)
    }

    fn prepare(&mut self, mut events: Vec<NewEvent>, has_snapshot: bool) {
        if has_snapshot {
            let reducer = self.reducer.as_ref().expect("it did the call");
            events.push(event(SNAPSHOT, &reducer.state()));
        }
        let expected = self.version.map_or(ExpectedVersion::NoStream, ExpectedVersion::Exact);
        let append = Append::stream(self.stream.clone(), expected, events);
        self.pending = Some(Pending { append, is_due: has_snapshot, has_snapshot });
    }

    /// Appends what is pending. If that is certain not to be applied, the state is to be made anew.
    async fn send(&mut self) -> Result<StatePersisted, AppendError> {
        let mut outcome = self.store.append(self.pending.as_ref().expect("prepared").append.clone()).await;
        if matches!(outcome, Err(AppendError::TooLarge { .. })) {
            self.leave_out_snapshot();
            outcome = self.store.append(self.pending.as_ref().expect("prepared").append.clone()).await;
        }
        let Pending { append, is_due, has_snapshot } = self.pending.as_ref().expect("prepared");
        for _ in 0..REPEATS {
            if !matches!(outcome, Err(AppendError::Unknown(_))) {
                break;
            }
            outcome = self.store.append(append.clone()).await;
        }
        match outcome {
            Ok(appended) => {
                let version = last_version(&appended);
                self.version = Some(version);
                if *is_due {
                    self.tried = Some(version);
                }
                if *has_snapshot {
                    self.snapshot = Some(version);
                }
                self.pending = None;
                Ok(StatePersisted { stream: self.stream.clone(), version })
            }
            Err(error) => {
                if error.is_definite() {
                    self.pending = None;
                    self.reducer = None;
                }
                Err(error)
            }
        }
    }

    /// A state that has grown too large for the store does not keep calls from being written: the next rebuild reads more of them. Another snapshot is
    /// tried when it is due again.
    fn leave_out_snapshot(&mut self) {
        let Some(Pending { append, has_snapshot: true, .. }) = &self.pending else { return };
        let events: Vec<_> = append.new_events().map(|(_, event)| event).collect();
        let (_, events) = events.split_last().expect("the snapshot is among them");
        let expected = self.version.map_or(ExpectedVersion::NoStream, ExpectedVersion::Exact);
        let append = Append::stream(self.stream.clone(), expected, events.to_vec());
        self.pending = Some(Pending { append, is_due: true, has_snapshot: false });
    }

    /// Makes the state from the stream: its last snapshot, and the inputs after that.
    async fn rebuild(&mut self) -> Result<(), DurableError> {
        let mut reducer = self.options.clone().build()?;
        let (mut inputs, mut last, mut snapshot) = (Vec::new(), None, None);
        {
            let mut events = pin!(self.store.read(Read::stream(self.stream.clone()).backwards()));
            while let Some(event) = poll_fn(|context| events.as_mut().poll_next(context)).await {
                let event = event?;
                last = last.or(event.stream_version());
                match event.event_type().as_str() {
                    INPUT => inputs.push(event),
                    SNAPSHOT => {
                        snapshot = event.stream_version();
                        let state: State = self.decode(&event)?;
                        reducer.restore(state).map_err(|error| self.malformed(&event, &error))?;
                        break;
                    }
                    _ => {}
                }
            }
        }
        for event in inputs.iter().rev() {
            let input: Input<'_> = self.decode(event)?;
            input.apply(&mut reducer).map_err(|error| self.malformed(event, &error))?;
        }
        (self.reducer, self.version, self.snapshot, self.tried) = (Some(reducer), last, snapshot, snapshot);
        Ok(())
    }

    fn decode<'e, T: serde::Deserialize<'e>>(&self, event: &'e RecordedEvent) -> Result<T, DurableError> {
        serde_json::from_slice(event.payload()).map_err(|error| self.malformed(event, &error))
    }

    fn malformed(&self, event: &RecordedEvent, reason: &dyn std::error::Error) -> DurableError {
        DurableError::Malformed {
            stream: self.stream.clone(),
            version: event.stream_version().expect("an event of the stream"),
            reason: reason.to_string(),
        }
    }
}

fn event(event_type: &str, content: &impl serde::Serialize) -> NewEvent {
    let payload = serde_json::to_vec(content).expect("maps with keys of text are JSON");
    NewEvent::new(EventType::new(event_type).expect("a short name"), payload)
}

fn last_version(appended: &Appended) -> StreamVersion {
    appended.versions().first().expect("each call appends its input").1
}

impl Input<'_> {
    /// Does the call. Recovery has no output.
    fn apply<'r>(&self, reducer: &'r mut Reducer) -> Result<Option<Output<'r>>, ReduceError> {
        match self {
            Self::Items(rows) => {
                let items: Vec<Item<'_>> = rows.iter().map(Into::into).collect();
                reducer.push(&items).map(Some)
            }
            Self::Watermark(to) => Ok(Some(reducer.advance_watermark(Timestamp::from_micros(*to)))),
            Self::Finish => Ok(Some(reducer.finish())),
            Self::Recover(states) => {
                reducer.recover(states.iter().map(|(workflow, state)| (&**workflow, &**state))).map(|_| None)
            }
        }
    }
}
