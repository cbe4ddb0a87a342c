//! Engines: how one is made, and how it ends.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event_store::{EventStore, Query, QueryItem, Read};
use futures_util::StreamExt as _;
use tokio::runtime;
use uuid::Uuid;

use super::client::Client;
use super::clock::{Clock, SystemClock};
use super::core::{Core, lock};
use super::execution::{Execution, Standing};
use super::record::{event_type, kind};
use super::registry::Registry;
use crate::error::Error;
use crate::workflow::{ExecutionId, STREAM_PREFIX, Workflow};

/// What runs workflows in this process, with their journals in `S`.
///
/// Dropping it changes nothing: executions go on until [`Engine::shutdown`], or until the runtime ends.
#[derive(Debug)]
pub struct Engine<S> {
    core: Arc<Core<S>>,
}

/// Options of an engine. Made by [`Engine::builder`].
#[derive(Debug)]
pub struct EngineBuilder<S> {
    store: S,
    registry: Registry,
    clock: DebugClock,
    retention: (Duration, usize),
}

#[derive(Clone)]
struct DebugClock(Arc<dyn Clock>);

impl std::fmt::Debug for DebugClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl<S: EventStore> Engine<S> {
    /// An engine whose journals are in `store`.
    pub fn builder(store: S) -> EngineBuilder<S> {
        EngineBuilder {
            store,
            registry: Registry::default(),
            clock: DebugClock(Arc::new(SystemClock)),
            retention: (Duration::from_secs(24 * 3_600), 10_000),
        }
    }

    /// What starts executions and speaks to them.
    #[must_use]
    pub fn client(&self) -> Client<S> {
        Client::of(&self.core)
    }

    /// Lets all executions go: no step begins any more, and those under way have `grace` to end. Returns how many executions were let go; they
    /// go on when an engine is started on the same store.
    pub async fn shutdown(self, grace: Duration) -> usize {
        let core = &self.core;
        let all = core.all();
        core.stopping.store(1, Ordering::Release);
        let wake = || all.iter().for_each(|execution| execution.waker.wake());
        wake();
        let is_empty = || core.shards.iter().all(|shard| lock(shard).values().all(|one| !is_driven(one)));
        let gone = async {
            loop {
                let listener = core.gone.listen();
                if is_empty() {
                    return;
                }
                listener.await;
            }
        };
        let mut gone = pin!(gone);
        if tokio::time::timeout(grace, gone.as_mut()).await.is_err() {
            core.stopping.store(2, Ordering::Release);
            wake();
            gone.await;
        }
        all.iter().filter(|execution| matches!(execution.standing(), Standing::Released)).count()
    }
}

fn is_driven(execution: &Execution) -> bool {
    matches!(execution.standing(), Standing::Starting | Standing::Running)
}

impl<S: EventStore> EngineBuilder<S> {
    /// Adds a workflow. Executions of types and versions that are not registered wait, parked.
    #[must_use]
    pub fn register<W: Workflow>(mut self) -> Self {
        self.registry.add::<W>();
        self
    }

    /// Gives workflows something to work with: a client, a pool, a cache. They ask for it by its type,
    /// [`Ctx::service`](crate::Ctx::service); a second one of a type takes the place of the first.
    #[must_use]
    pub fn service<T: Send + Sync + 'static>(mut self, service: Arc<T>) -> Self {
        self.registry.add_service(service);
        self
    }

    /// The time that journals have; [`SystemClock`] unless set.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = DebugClock(Arc::new(clock));
        self
    }

    /// Journals of executions that have ended are removed when they are older than `age`, or more than `count`; 24 hours and 10,000 unless set.
    #[must_use]
    pub fn retention(mut self, age: Duration, count: usize) -> Self {
        self.retention = (age, count);
        self
    }

    /// Starts the engine on the runtime that this is called on, and takes over every execution of the store that has not ended.
    ///
    /// # Errors
    /// [`Error::RegisteredTwice`]; [`Error::Read`].
    pub async fn start(self) -> Result<Engine<S>, Error> {
        self.registry.check()?;
        let core = Arc::new(Core {
            store: self.store,
            registry: self.registry,
            clock: self.clock.0,
            owner: Uuid::now_v7(),
            longest_sleep: Duration::from_secs(60),
            runtime: runtime::Handle::current(),
            stopping: AtomicU8::new(0),
            shards: Default::default(),
            gone: event_listener::Event::new(),
            retention: self.retention,
            ended: Mutex::default(),
        });
        let mut going = HashSet::new();
        {
            let types = [kind::STARTED, kind::CONTINUED, kind::COMPLETED, kind::FAILED].map(event_type);
            let item = QueryItem::types(types).map_err(|error| Error::Invalid(error.to_string()))?;
            let mut events = pin!(core.store.read(Read::query(Query::item(item))));
            while let Some(event) = events.next().await {
                let event = event?;
                let Some(id) = event.stream().and_then(|(stream, _)| stream.as_str().strip_prefix(STREAM_PREFIX))
                else {
                    continue;
                };
                let id = ExecutionId::new(id)?;
                if [kind::COMPLETED, kind::FAILED].contains(&event.event_type().as_str()) {
                    going.remove(&id);
                    lock(&core.ended).push_back((event.time(), id));
                } else {
                    going.insert(id);
                }
            }
        }
        for id in going {
            core.attach(&id);
        }
        Ok(Engine { core })
    }
}
