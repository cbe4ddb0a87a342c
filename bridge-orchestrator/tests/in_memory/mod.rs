//! An engine in memory, on a clock that tests can pause.
#![allow(dead_code, reason = "each test uses what it needs")]

use std::sync::Arc;

use bridge_orchestrator::{Client, Clock, Engine, EngineBuilder, ExecutionId, HandleError, StartOptions, Workflow};
use event_store::{DynEventStore, EventStore as _, MemoryStore, Read, RecordedEvent, StreamId, Timestamp};
use futures::StreamExt as _;
use tokio::time::Instant;

pub(crate) type Store = Arc<dyn DynEventStore>;

/// The time that tokio's clock shows, counted from an instant.
pub(crate) struct TokioClock(pub(crate) Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000 + self.0.elapsed().as_micros() as i64)
    }
}

pub(crate) fn store() -> Store {
    Arc::new(MemoryStore::new())
}

pub(crate) fn id(text: &str) -> ExecutionId {
    ExecutionId::new(text).expect("valid")
}

/// An engine whose clock begins now.
pub(crate) fn engine(store: &Store) -> EngineBuilder<Store> {
    engine_since(store, Instant::now())
}

pub(crate) fn engine_since(store: &Store, began: Instant) -> EngineBuilder<Store> {
    Engine::builder(Arc::clone(store)).clock(TokioClock(began))
}

pub(crate) async fn journal(store: &Store, execution: &str) -> Vec<RecordedEvent> {
    let stream = StreamId::new(&format!("workflow-{execution}")).expect("valid");
    store.read(Read::stream(stream)).map(|event| event.expect("readable")).collect().await
}

/// The kinds of what is in a journal.
pub(crate) async fn kinds(store: &Store, execution: &str) -> Vec<String> {
    let events = journal(store, execution).await;
    events.iter().map(|event| event.event_type().as_str().replace("workflow.", "")).collect()
}

pub(crate) async fn run<W: Workflow>(
    client: &Client<Store>,
    name: &str,
    input: &W::Input,
) -> Result<W::Output, HandleError> {
    let handle = client.start::<W>(id(name), input, StartOptions::default()).await.expect("starts");
    handle.result().await
}
