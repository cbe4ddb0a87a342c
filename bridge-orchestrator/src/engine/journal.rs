//! The journal of one execution: its stream, written by one owner.

use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;

use event_store::{
    Append, AppendError, EventId, EventStore, ExpectedVersion, NewEvent, Position, Read, ReadError, StreamId,
    StreamVersion, Timestamp,
};
use futures_util::StreamExt as _;
use uuid::Uuid;

use super::record::{Record, Started, kind};
use crate::error::Error;

/// The first pause before an append is sent again; each next one is twice as long, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why nothing more can be written.
#[derive(Debug)]
pub(super) enum Broken {
    /// Someone else has written: the execution has another owner.
    Fenced,
    /// It will never be taken.
    Refused(AppendError),
}

/// The end of a journal, as its owner knows it.
#[derive(Debug)]
pub(super) struct Journal {
    stream: StreamId,
    version: Option<StreamVersion>,
    /// Ids of events: counted from one that nobody else has.
    next_id: u128,
}

impl Journal {
    pub(super) fn new(stream: StreamId, version: Option<StreamVersion>) -> Self {
        Self { stream, version, next_id: Uuid::now_v7().as_u128() }
    }

    /// The version that the last event has which stands before `events` others.
    pub(super) fn before(&self, events: u64) -> StreamVersion {
        StreamVersion::new(self.version.map_or(0, |version| version.get().saturating_sub(events)))
    }

    /// The append of `records` at the end, always with the same ids.
    pub(super) fn next(&self, records: &[(Record, Timestamp)]) -> Append {
        let expected = self.version.map_or(ExpectedVersion::NoStream, ExpectedVersion::Exact);
        let ids = self.next_id..;
        let events = records.iter().zip(ids).map(|((record, at), id)| record.encode(EventId::from_u128(id), *at));
        Append::stream(self.stream.clone(), expected, events.collect::<Vec<NewEvent>>())
    }

    /// So many records were appended, the last of which has this version.
    pub(super) fn appended(&mut self, version: Option<StreamVersion>, records: usize) {
        self.version = version;
        self.next_id += records as u128;
    }

    /// Appends `records`. An answer that does not come is asked for again with the same ids, and so is a store that is not there, for as long as
    /// it takes. `meanwhile` is called at each poll. Returns where the first of them stands in the store.
    pub(super) async fn append<S: EventStore>(
        &mut self,
        store: &S,
        records: &[(Record, Timestamp)],
        mut meanwhile: impl FnMut(&mut std::task::Context<'_>),
    ) -> Result<Option<Position>, Broken> {
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = {
                let mut appending = pin!(store.append(self.next(records)));
                std::future::poll_fn(|cx| {
                    let answer = appending.as_mut().poll(cx);
                    if answer.is_pending() {
                        meanwhile(cx);
                    }
                    answer
                })
                .await
            };
            match answer {
                Ok(appended) => {
                    self.appended(appended.versions().first().map(|(_, version)| *version), records.len());
                    return Ok(appended.positions.map(|(first, _)| first));
                }
                Err(AppendError::WrongExpectedVersion { .. } | AppendError::DuplicateEventId { .. }) => {
                    return Err(Broken::Fenced);
                }
                Err(AppendError::Unavailable(_) | AppendError::Unknown(_)) => {}
                Err(error) => return Err(Broken::Refused(error)),
            }
            let mut sleep = pin!(tokio::time::sleep(pause));
            std::future::poll_fn(|cx| {
                meanwhile(cx);
                sleep.as_mut().poll(cx)
            })
            .await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// What a journal says, as far as it counts: the run that is under way.
#[derive(Debug)]
pub(super) struct History {
    pub(super) started: Started,
    /// When the run began.
    pub(super) began: Timestamp,
    /// What the run before has left to this one.
    pub(super) carried: Vec<Record>,
    /// What came since, without claims.
    pub(super) records: Vec<(Record, Timestamp)>,
    pub(super) patches: HashSet<String>,
    /// Signals that were taken, in this run and those before, the latest last.
    pub(super) signals: Vec<u128>,
    pub(super) epoch: u64,
    /// Who claimed it last, or started it.
    pub(super) owner: Uuid,
    /// How many messages of its inbox were taken.
    pub(super) inbox: u64,
    /// Where its first run began in the store: what was left in the inbox before was meant for another execution of the id.
    pub(super) since: u64,
    /// It is not the first run of the execution.
    pub(super) is_later_run: bool,
    /// Claims that nothing followed.
    pub(super) claims: u32,
    pub(super) end: Option<Result<bytes::Bytes, crate::workflow::Failure>>,
    pub(super) version: StreamVersion,
}

/// Reads a journal. `None` if there is none.
pub(super) async fn read<S: EventStore>(store: &S, stream: &StreamId) -> Result<Option<History>, Error> {
    let mut events = pin!(store.read(Read::stream(stream.clone())));
    let mut history: Option<History> = None;
    while let Some(event) = events.next().await {
        let event = event.map_err(|error: ReadError| Error::Read(error))?;
        let version = event.stream_version().unwrap_or(StreamVersion::FIRST);
        let malformed =
            |reason: String| Error::Malformed { execution: stream.as_str().to_owned(), version: version.get(), reason };
        let record = Record::decode(&event).map_err(|error| malformed(error.to_string()))?;
        let at = event.time();
        let Some(history) = &mut history else {
            let (Record::Started(started) | Record::ContinuedAsNew(started)) = record else {
                return Err(malformed("it does not begin with a start".to_owned()));
            };
            let is_later_run = event.event_type().as_str() == kind::CONTINUED;
            let since = if is_later_run { started.since } else { event.position().get() };
            history = Some(History { is_later_run, since, ..History::new(*started, at, version) });
            continue;
        };
        history.add(record, at, version).map_err(malformed)?;
    }
    Ok(history)
}

impl History {
    pub(super) fn new(started: Started, began: Timestamp, version: StreamVersion) -> Self {
        Self {
            began,
            carried: Vec::new(),
            records: Vec::new(),
            patches: HashSet::new(),
            signals: started.taken_signals.clone(),
            epoch: 0,
            owner: started.owner,
            inbox: started.inbox,
            since: started.since,
            is_later_run: false,
            started,
            claims: 0,
            end: None,
            version,
        }
    }

    fn add(&mut self, record: Record, at: Timestamp, version: StreamVersion) -> Result<(), String> {
        self.version = version;
        if self.end.is_some() {
            return Err("there is something behind its end".to_owned());
        }
        if let Record::Claimed { epoch, owner } = record {
            (self.epoch, self.owner) = (self.epoch.max(epoch), owner);
            self.claims += 1;
            return Ok(());
        }
        self.claims = 0;
        match record {
            Record::Retried | Record::Settled => {}
            Record::Started(_) => return Err("it begins twice".to_owned()),
            Record::ContinuedAsNew(started) => {
                *self = Self { epoch: self.epoch, is_later_run: true, ..Self::new(*started, at, version) };
            }
            Record::Completed { output } => self.end = Some(Ok(output)),
            Record::Failed { failure } => self.end = Some(Err(failure)),
            record => {
                match &record {
                    Record::Signalled { id, inbox, .. } => {
                        self.signals.push(*id);
                        self.inbox = self.inbox.max(*inbox);
                    }
                    Record::CancelRequested { inbox, .. } => self.inbox = self.inbox.max(*inbox),
                    Record::Patched { id } => {
                        self.patches.insert(id.clone());
                    }
                    _ => {}
                }
                if self.carried.len() < self.started.carried as usize {
                    self.carried.push(record);
                } else {
                    self.records.push((record, at));
                }
            }
        }
        Ok(())
    }
}
