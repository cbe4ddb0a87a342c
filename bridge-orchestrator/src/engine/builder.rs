//! Engines: how one is made, and how it ends.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event_store::EventStore;
use tokio::runtime;
use uuid::Uuid;

use super::boundary::AtBoundaries;
use super::budgets::Budgets;
use super::client::Client;
use super::clock::{Clock, SystemClock};
use super::core::{Core, SHUT_DOWN, lock};
use super::execution::{Execution, Standing};
use super::lease::Lease;
use super::registry::Registry;
use super::takeover::{Ownership, Shared, census, keep, watch_inboxes};
use crate::error::Error;
use crate::workflow::Workflow;

/// A lease that is shorter is renewed all the time.
const SHORTEST_LEASE: Duration = Duration::from_millis(50);

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
    pub(super) registry: Registry,
    clock: DebugClock,
    retention: (Duration, usize),
    lease: Duration,
    at_boundaries: Option<AtBoundaries>,
    retry_budget: (f64, f64),
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
            lease: Duration::from_secs(15),
            at_boundaries: None,
            retry_budget: Budgets::DEFAULT,
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
        core.stopping.store(1, Ordering::Release);
        core.wake_all();
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
            core.wake_all();
            gone.await;
        }
        core.stopping.store(SHUT_DOWN, Ordering::Release);
        core.shut_down.notify(usize::MAX);
        let released = core.released.load(Ordering::Acquire);
        if let Some(shared) = &core.shared {
            // What is parked is left to the others as well. Where this fails, the lease runs out.
            let is_empty = released == 0 && core.all().is_empty();
            let _ = shared.ownership.end(core.lease().owner(), 1, is_empty).await;
        }
        released
    }
}

/// Who owns what in a store that several processes may share; `None` if it is one process's own.
#[cfg(feature = "postgres")]
async fn ownership<S: EventStore>(store: &S, lease: Duration) -> Result<Option<Box<dyn Ownership>>, Error> {
    match store.postgres() {
        Some(store) => Ok(Some(Box::new(crate::postgres::Leases::prepare(store, lease).await?))),
        None => Ok(None),
    }
}

/// Who owns what in a store that several processes may share; `None` if it is one process's own.
#[cfg(not(feature = "postgres"))]
async fn ownership<S: EventStore>(_: &S, _: Duration) -> Result<Option<Box<dyn Ownership>>, Error> {
    Ok(None)
}

/// Ends an engine that has not started.
struct Starting<S>(Option<Arc<Core<S>>>);

impl<S> Starting<S> {
    fn done(mut self) {
        self.0 = None;
    }
}

impl<S> Drop for Starting<S> {
    fn drop(&mut self) {
        let Some(core) = &self.0 else { return };
        core.stopping.store(SHUT_DOWN, Ordering::Release);
        core.shut_down.notify(usize::MAX);
        for shard in &core.shards {
            lock(shard).values().for_each(|execution| execution.waker.wake());
        }
    }
}

fn is_driven(execution: &Execution) -> bool {
    matches!(execution.standing(), Standing::Starting | Standing::Running | Standing::Elsewhere)
}

impl<S: EventStore> EngineBuilder<S> {
    /// Adds a workflow. Executions of types and versions that are not registered wait, parked.
    #[must_use]
    pub fn register<W: Workflow>(mut self) -> Self {
        self.registry = self.registry.register::<W>();
        self
    }

    /// Adds all workflows of `registry`, which [`replay`](crate::replay) can be given as well.
    #[must_use]
    pub fn workflows(mut self, registry: Registry) -> Self {
        self.registry = self.registry.merge(registry);
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

    /// How long a process that shares a PostgreSQL store with others may be silent before they take over what it owns: 15 seconds unless set.
    /// It is renewed three times in that time. All that share a store have the same. In memory it means nothing.
    #[must_use]
    pub fn lease(mut self, duration: Duration) -> Self {
        self.lease = duration;
        self
    }

    /// Calls `call` whenever a journal is about to grow, or has grown: a test's process dies there.
    #[cfg(feature = "testkit")]
    #[must_use]
    pub fn at_boundaries(mut self, call: impl Fn(super::boundary::Boundary) + Send + Sync + 'static) -> Self {
        self.at_boundaries = Some(AtBoundaries(Arc::new(call)));
        self
    }

    /// How often steps of one name may be tried again, over all executions of this engine: for each step that runs for the first time `share`
    /// (0 to 1) of a further attempt, and `per_second` (0 to 100,000) besides; 0.2 and 10 unless set, with a reserve of ten seconds' worth.
    ///
    /// An attempt that is over the budget waits, by the pauses of its [`RetryPolicy`](crate::RetryPolicy), which go on growing, and is then asked for
    /// again: no attempt is used up, nothing is journalled, and no step fails because others have. The budget is this process's; after a crash it
    /// is full again.
    #[must_use]
    pub fn retry_budget(mut self, share: f64, per_second: f64) -> Self {
        self.retry_budget = (share, per_second);
        self
    }

    /// Starts the engine on the runtime that this is called on, and takes over every execution of the store that has not ended and that no other
    /// process owns: on PostgreSQL with the feature `postgres` there may be several, in memory there is none.
    ///
    /// # Errors
    /// [`Error::RegisteredTwice`]; [`Error::Invalid`] for an option that is out of its range; [`Error::Read`]; [`Error::Leases`].
    pub async fn start(self) -> Result<Engine<S>, Error> {
        self.registry.check()?;
        if self.lease < SHORTEST_LEASE {
            return Err(Error::Invalid(format!("a lease of {:?} is shorter than {SHORTEST_LEASE:?}", self.lease)));
        }
        let shared = ownership(&self.store, self.lease).await?.map(|ownership| Shared::new(ownership, self.lease));
        let lease = match &shared {
            Some(shared) => shared.register().await?,
            None => Lease::for_ever(),
        };
        let core = Arc::new(Core {
            store: self.store,
            registry: self.registry,
            clock: self.clock.0,
            budgets: Arc::new(Budgets::new(self.retry_budget)?),
            lease: Mutex::new(Arc::new(lease)),
            shared,
            longest_sleep: Duration::from_secs(60),
            runtime: runtime::Handle::current(),
            stopping: AtomicU8::new(0),
            shards: Default::default(),
            gone: event_listener::Event::new(),
            shut_down: event_listener::Event::new(),
            released: AtomicUsize::new(0),
            at_boundaries: self.at_boundaries,
            retention: self.retention,
            ended: Mutex::default(),
        });
        // Where it fails, or is given up, nothing of it goes on.
        let starting = Starting(Some(Arc::clone(&core)));
        if core.shared.is_some() {
            core.runtime.spawn(keep(Arc::clone(&core)));
            core.runtime.spawn(watch_inboxes(Arc::clone(&core)));
        }
        let census = census(&core.store).await?;
        lock(&core.ended).extend(census.ended);
        let mut living: HashMap<Uuid, bool> = HashMap::new();
        for (id, owner) in census.going {
            let is_elsewhere = match living.get(&owner) {
                Some(known) => *known,
                None => *living.entry(owner).or_insert(core.is_elsewhere(owner).await?),
            };
            if !is_elsewhere {
                core.attach(&id);
            }
        }
        starting.done();
        Ok(Engine { core })
    }
}
