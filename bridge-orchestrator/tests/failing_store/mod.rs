//! A store in memory whose appends and reads can be made to fail.
#![allow(dead_code, reason = "each test uses what it needs")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use event_store::{
    Append, AppendError, Appended, EventStore, MemoryStore, Position, Read, ReadError, RecordedEvent, RemoveError,
    Source, StreamId, StreamVersion, Subscribe, Subscription,
};
use futures::Stream;
use futures::future::Either;
use futures::stream::once;

/// What becomes of an append.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// It is refused.
    Unavailable,
    /// It is applied and the answer is lost.
    AnswerLost,
    /// It is lost on its way.
    RequestLost,
    /// It never ends.
    Hangs,
    /// It is applied, and the answer never comes.
    HangsWhenApplied,
}

/// Whether the next reads of a stream are answered.
type Answers = (StreamId, VecDeque<bool>);

#[derive(Debug, Clone, Default)]
pub(crate) struct FailingStore {
    store: Arc<MemoryStore>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    reads: Arc<Mutex<Option<Answers>>>,
}

impl FailingStore {
    /// The next appends, in this order.
    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().expect("not poisoned").extend(faults);
    }

    /// Whether the next reads of `stream` are answered, in this order.
    pub(crate) fn answers_reads(&self, stream: StreamId, answers: impl IntoIterator<Item = bool>) {
        *self.reads.lock().expect("not poisoned") = Some((stream, answers.into_iter().collect()));
    }

    fn answers(&self, read: &Read) -> bool {
        match (&mut *self.reads.lock().expect("not poisoned"), read.source()) {
            (Some((of, answers)), Source::Stream { id, .. }) if of == id => answers.pop_front().unwrap_or(true),
            _ => true,
        }
    }

    pub(crate) fn inner(&self) -> &MemoryStore {
        &self.store
    }
}

impl EventStore for FailingStore {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let fault = self.faults.lock().expect("not poisoned").pop_front();
        let unknown = || Err(AppendError::Unknown("no answer".to_owned()));
        match fault {
            None => EventStore::append(&*self.store, append).await,
            Some(Fault::Unavailable) => Err(AppendError::Unavailable("down".to_owned())),
            Some(Fault::RequestLost) => unknown(),
            Some(Fault::AnswerLost) => {
                EventStore::append(&*self.store, append).await?;
                unknown()
            }
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::HangsWhenApplied) => {
                EventStore::append(&*self.store, append).await?;
                std::future::pending().await
            }
        }
    }

    fn read(&self, read: Read) -> impl Stream<Item = Result<RecordedEvent, ReadError>> + Send {
        if !self.answers(&read) {
            return Either::Left(once(async { Err(ReadError::Unavailable("down".to_owned())) }));
        }
        Either::Right(EventStore::read(&*self.store, read))
    }

    fn subscribe(&self, subscribe: Subscribe) -> Subscription {
        EventStore::subscribe(&*self.store, subscribe)
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        EventStore::head(&*self.store).await
    }

    async fn stream_version(&self, stream: &StreamId) -> Result<Option<StreamVersion>, ReadError> {
        EventStore::stream_version(&*self.store, stream).await
    }

    async fn truncate_stream(&self, stream: &StreamId, before: StreamVersion) -> Result<u64, RemoveError> {
        EventStore::truncate_stream(&*self.store, stream, before).await
    }

    async fn delete_stream(&self, stream: &StreamId) -> Result<u64, RemoveError> {
        EventStore::delete_stream(&*self.store, stream).await
    }
}
