//! Engines, and what is asked of them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use event_store::{EventStore, Query, QueryItem, Read, Timestamp};
use futures_util::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::clock::{Clock, SystemClock};
use super::driver::{Begin, drive};
use super::execution::{Done, Execution, Mail, Standing};
use super::handle::Handle;
use super::record::{Cause, Started, event_type, kind};
use super::registry::Registry;
use super::slots::{ChildStart, Slots};
use super::steps::after;
use crate::error::{Error, ErrorCode};
use crate::workflow::{ExecutionId, Failure, MAX_VALUE_BYTES, STREAM_PREFIX, Workflow};

const SHARDS: usize = 16;

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

/// What to do if there is an execution of the id already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conflict {
    /// [`Error::AlreadyExists`].
    #[default]
    Reject,
    /// The handle is of the one that exists, whatever its input was and wherever it stands.
    UseExisting,
    /// The one that exists is terminated and removed.
    Terminate,
}

/// How an execution is started. The default: rejected if there is one, at once, without a deadline, in no namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StartOptions {
    conflict: Conflict,
    delay: Option<Duration>,
    deadline: Option<Duration>,
    namespace: String,
}

impl StartOptions {
    /// What to do if there is one of the id.
    #[must_use]
    pub fn conflict(mut self, conflict: Conflict) -> Self {
        self.conflict = conflict;
        self
    }

    /// The function begins so much later.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// So much after the start the execution is cancelled, and fails with [`ErrorCode::Timeout`] unless its function makes something else of
    /// it.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Whose it is: at most 512 bytes.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }
}

/// Where an execution stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkflowState {
    /// Its start is on its way to the journal.
    Pending,
    /// It runs, or waits for something.
    Processing,
    /// It undoes what it has done.
    Compensating,
    /// It waits for a person.
    Parked,
    /// It has an output.
    Completed,
    /// It has failed.
    Failed,
    /// It was cancelled or terminated.
    Cancelled,
}

impl WorkflowState {
    /// The one of the original's four states that it comes under: `PENDING`, `PROCESSING`, `COMPLETED` or `FAILED`.
    #[must_use]
    pub fn legacy(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Processing | Self::Compensating | Self::Parked => "PROCESSING",
            Self::Completed => "COMPLETED",
            Self::Failed | Self::Cancelled => "FAILED",
        }
    }
}

/// An execution that this engine has in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecutionInfo {
    /// Its id.
    pub id: ExecutionId,
    /// Where it stands.
    pub state: WorkflowState,
    /// Why it waits for a person, if it does.
    pub parked: Option<super::execution::Parked>,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) panics: AtomicU64,
}

/// What an engine, its clients and its drivers share.
pub(super) struct Core<S> {
    pub(super) store: S,
    pub(super) registry: Registry,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) owner: Uuid,
    pub(super) counters: Counters,
    /// A sleep is broken off after so long, to look at the clock, which may have been set.
    pub(super) longest_sleep: Duration,
    runtime: runtime::Handle,
    /// 0: it runs; 1: executions are let go when no step is under way; 2: at once.
    stopping: AtomicU8,
    shards: [Mutex<HashMap<ExecutionId, Arc<Execution>>>; SHARDS],
    gone: event_listener::Event,
    retention: (Duration, usize),
    ended: Mutex<VecDeque<(Timestamp, ExecutionId)>>,
}

impl<S> std::fmt::Debug for Core<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("owner", &self.owner).field("registry", &self.registry).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: EventStore> Core<S> {
    fn shard(&self, id: &ExecutionId) -> MutexGuard<'_, HashMap<ExecutionId, Arc<Execution>>> {
        use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(id);
        lock(&self.shards[hash as usize % SHARDS])
    }

    /// The execution of the id, and whether it is new here.
    fn find_or_add(&self, id: &ExecutionId) -> (Arc<Execution>, bool) {
        let mut shard = self.shard(id);
        if let Some(found) = shard.get(id) {
            return (Arc::clone(found), false);
        }
        let execution = Arc::new(Execution::new(id.clone(), Slots::new(0, self.clock.now())));
        shard.insert(id.clone(), Arc::clone(&execution));
        (execution, true)
    }

    fn all(&self) -> Vec<Arc<Execution>> {
        self.shards.iter().flat_map(|shard| lock(shard).values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Whether an execution is to be let go, given whether a step of it is under way.
    pub(super) fn lets_go(&self, is_busy: bool) -> bool {
        match self.stopping.load(Ordering::Acquire) {
            0 => false,
            1 => !is_busy,
            _ => true,
        }
    }

    /// The driver is at its end.
    pub(super) fn let_go(self: &Arc<Self>, execution: &Arc<Execution>, standing: Standing) {
        let is_parked = matches!(standing, Standing::Parked(_));
        if !is_parked {
            self.shard(execution.id()).remove(execution.id());
        }
        // Whoever sends from now on is told; whoever did before is told here.
        let unread = execution.close_mail();
        execution.stands(standing);
        for mail in unread {
            refuse(mail, Error::NotFound(execution.id().clone()));
        }
        self.gone.notify(usize::MAX);
    }

    /// Notes an end, and removes those that are too many or too old.
    pub(super) fn retain(self: &Arc<Self>, id: &ExecutionId) {
        let now = self.clock.now();
        let mut ended = lock(&self.ended);
        ended.push_back((now, id.clone()));
        let (age, count) = self.retention;
        let mut too_many = Vec::new();
        while let Some((at, _)) = ended.front()
            && (ended.len() > count || after(*at, age) <= now)
        {
            too_many.extend(ended.pop_front());
        }
        drop(ended);
        if too_many.is_empty() {
            return;
        }
        let core = Arc::clone(self);
        self.runtime.spawn(async move {
            for (at, id) in too_many {
                if core.store.delete_stream(&id.stream()).await.is_err() {
                    // It is tried again with the next one.
                    lock(&core.ended).push_front((at, id));
                }
            }
        });
    }

    fn spawn(self: &Arc<Self>, execution: &Arc<Execution>, begin: Begin) {
        self.runtime.spawn(drive(Arc::clone(self), Arc::clone(execution), begin));
    }

    /// The execution of the id, driven by this engine if it is not ended.
    fn attach(self: &Arc<Self>, id: &ExecutionId) -> Arc<Execution> {
        let (execution, is_new) = self.find_or_add(id);
        if is_new {
            self.spawn(&execution, Begin::Resume);
        }
        execution
    }

    /// Starts an execution. The answer is there when its start is in the journal.
    async fn start(self: &Arc<Self>, id: &ExecutionId, started: Started) -> Result<Arc<Execution>, Error> {
        if self.stopping.load(Ordering::Acquire) != 0 {
            return Err(Error::ShutDown);
        }
        let (execution, is_new) = self.find_or_add(id);
        if !is_new {
            return Err(Error::AlreadyExists(id.clone()));
        }
        self.spawn(&execution, Begin::New(Box::new(started)));
        execution
            .when(|standing| match standing {
                Standing::Starting => None,
                Standing::Refused(error) => Some(Err(error.clone())),
                _ => Some(Ok(())),
            })
            .await?;
        Ok(execution)
    }

    /// Starts a child, or finds the one that was started, and tells its parent of its end.
    pub(super) fn begin_child(core: &Arc<Self>, parent: &Arc<Execution>, of: &Started, seq: u32, start: ChildStart) {
        let (core, parent) = (Arc::clone(core), Arc::clone(parent));
        let started = Started {
            workflow: start.workflow.to_owned(),
            code_version: start.version,
            namespace: of.namespace.clone(),
            parent: Some((parent.id().as_str().to_owned(), seq)),
            start_at: None,
            deadline: None,
            seed: seed(),
            taken_signals: Vec::new(),
            input: start.input,
        };
        let id = start.id;
        let runtime = core.runtime.clone();
        runtime.spawn(async move {
            let outcome = core.child_outcome(&id, started).await;
            let Some(outcome) = outcome else { return };
            let _ = parent.send(Mail::ChildDone { seq, child: id, outcome });
        });
    }

    /// `None` if its end is not for this process to see.
    async fn child_outcome(self: &Arc<Self>, id: &ExecutionId, started: Started) -> Option<Result<Bytes, Failure>> {
        let parent = started.parent.clone();
        let child = match self.start(id, started).await {
            Ok(child) => child,
            Err(Error::AlreadyExists(_)) => match self.parent_of(id).await {
                Ok(found) if found == parent => self.attach(id),
                Ok(_) => {
                    let message = format!("an execution {id} exists, and is nobody's child here");
                    return Some(Err(Failure::new(ErrorCode::Conflict, message)));
                }
                Err(_) => return None,
            },
            Err(Error::ShutDown) => return None,
            Err(error) => return Some(Err(Failure::new(error.code(), error.to_string()))),
        };
        child
            .when(|standing| match standing {
                Standing::Ended(outcome) => Some(Some(outcome.clone())),
                Standing::Refused(error) => Some(Some(Err(Failure::new(error.code(), error.to_string())))),
                Standing::Released => Some(None),
                Standing::Starting | Standing::Running | Standing::Parked(_) => None,
            })
            .await
    }

    async fn parent_of(&self, id: &ExecutionId) -> Result<Option<(String, u32)>, Error> {
        Ok(super::journal::read(&self.store, &id.stream()).await?.and_then(|history| history.started.parent))
    }

    /// Cancels `children`, then sends `execution` its own cancellation: the children come first, so that none is left behind.
    pub(super) fn cancel_children(
        core: &Arc<Self>,
        execution: &Arc<Execution>,
        children: Vec<ExecutionId>,
        (cause, mut told, done): (Cause, Vec<ExecutionId>, Option<Done>),
    ) {
        let (core, execution) = (Arc::clone(core), Arc::clone(execution));
        let runtime = core.runtime.clone();
        runtime.spawn(async move {
            for child in children {
                let (sender, answer) = oneshot::channel();
                let mail = Mail::Cancel { cause: Cause::Parent, told: Vec::new(), done: Some(sender) };
                if core.attach(&child).send(mail).is_ok() {
                    // One that has ended meanwhile needs no cancellation.
                    let _ = answer.await;
                }
                told.push(child);
            }
            let _ = execution.send(Mail::Cancel { cause, told, done });
        });
    }
}

fn refuse(mail: Mail, error: Error) {
    match mail {
        Mail::Signal { done, .. } | Mail::Terminate { done } | Mail::Cancel { done: Some(done), .. } => {
            let _ = done.send(Err(error));
        }
        Mail::Cancel { done: None, .. } | Mail::ChildDone { .. } => {}
    }
}

fn seed() -> u64 {
    fastrand::u64(..)
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
        Client { core: Arc::clone(&self.core) }
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
            counters: Counters::default(),
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

/// Starts executions and speaks to them. A clone is the same.
#[derive(Debug)]
pub struct Client<S> {
    core: Arc<Core<S>>,
}

impl<S> Clone for Client<S> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core) }
    }
}

impl<S: EventStore> Client<S> {
    /// Starts an execution of `W`. It is in the journal when this returns.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::Unregistered`], [`Error::Codec`], [`Error::PayloadTooLarge`], [`Error::Append`], [`Error::ShutDown`].
    ///
    /// # Cancellation
    /// Once polled, it may start although the future is dropped.
    pub async fn start<W: Workflow>(
        &self,
        id: ExecutionId,
        input: &W::Input,
        options: StartOptions,
    ) -> Result<Handle<W>, Error> {
        let core = &self.core;
        if core.registry.get(W::TYPE, W::VERSION).is_none() {
            return Err(Error::Unregistered { workflow: W::TYPE.to_owned(), version: W::VERSION });
        }
        if options.namespace.len() > event_store::MAX_NAME_BYTES {
            return Err(Error::Invalid(format!("a namespace of {} bytes", options.namespace.len())));
        }
        let now = core.clock.now();
        let started = Started {
            workflow: W::TYPE.to_owned(),
            code_version: W::VERSION,
            namespace: options.namespace,
            parent: None,
            start_at: options.delay.map(|delay| after(now, delay)),
            deadline: options.deadline.map(|deadline| after(now, deadline)),
            seed: seed(),
            taken_signals: Vec::new(),
            input: encode("the input", input)?,
        };
        let execution = match (core.start(&id, started.clone()).await, options.conflict) {
            (Ok(execution), _) => execution,
            (Err(Error::AlreadyExists(_)), Conflict::UseExisting) => core.attach(&id),
            (Err(Error::AlreadyExists(_)), Conflict::Terminate) => {
                match self.terminate(&id).await {
                    Ok(()) | Err(Error::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
                core.store
                    .delete_stream(&id.stream())
                    .await
                    .map_err(|error| Error::Append(event_store::AppendError::Unavailable(error.to_string())))?;
                core.start(&id, started).await?
            }
            (Err(error), _) => return Err(error),
        };
        Ok(Handle::new(execution))
    }

    /// A handle of an execution that exists; one that does not exist is told by the handle.
    #[must_use]
    pub fn handle<W: Workflow>(&self, id: &ExecutionId) -> Handle<W> {
        Handle::new(self.core.attach(id))
    }

    /// Tells the execution something. It is in the journal when this returns. The same `dedup` again, within the last 1,024 signals, is told
    /// once; without one each call is a signal of its own.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Busy`], [`Error::Codec`], [`Error::PayloadTooLarge`], [`Error::ShutDown`] (it may have been told).
    pub async fn signal<T: Serialize + ?Sized>(
        &self,
        id: &ExecutionId,
        name: &str,
        payload: &T,
        dedup: Option<&str>,
    ) -> Result<(), Error> {
        if name.len() > event_store::MAX_NAME_BYTES {
            return Err(Error::Invalid(format!("a signal's name of {} bytes", name.len())));
        }
        let payload = encode("the signal", payload)?;
        let signal = dedup.map_or_else(Uuid::now_v7, |dedup| {
            Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{name}\u{1f}{dedup}").as_bytes())
        });
        let name = name.to_owned();
        self.tell(id, |done| Mail::Signal { name, id: signal.as_u128(), payload, done }).await
    }

    /// Asks the execution to end: see [`Ctx::cancelled`](crate::Ctx::cancelled). The request is in the journal when this returns.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::ShutDown`].
    pub async fn cancel(&self, id: &ExecutionId) -> Result<(), Error> {
        self.tell(id, |done| Mail::Cancel { cause: Cause::Asked, told: Vec::new(), done: Some(done) }).await
    }

    /// Ends the execution where it stands: its function is dropped, nothing is undone, children go on.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::ShutDown`].
    pub async fn terminate(&self, id: &ExecutionId) -> Result<(), Error> {
        self.tell(id, |done| Mail::Terminate { done }).await
    }

    /// What the execution has last shown as `name`; `None` if nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Codec`] if it is not a `T`.
    pub async fn query<T: DeserializeOwned>(&self, id: &ExecutionId, name: &str) -> Result<Option<T>, Error> {
        let execution = self.core.attach(id);
        execution
            .when(|standing| match standing {
                Standing::Starting => None,
                Standing::Refused(error) => Some(Err(error.clone())),
                _ => Some(Ok(())),
            })
            .await?;
        let shown = execution.slots().exposed(name);
        shown
            .map(|json| serde_json::from_slice(&json))
            .transpose()
            .map_err(|error| Error::Codec { what: "what is shown", reason: error.to_string() })
    }

    /// The executions that this engine has in hand, in no order. Those that have ended are not among them.
    #[must_use]
    pub fn list(&self) -> Vec<ExecutionInfo> {
        let info = |execution: &Arc<Execution>| {
            let standing = execution.standing();
            ExecutionInfo {
                id: execution.id().clone(),
                state: super::handle::state_of(execution, &standing),
                parked: if let Standing::Parked(why) = standing { Some(why) } else { None },
            }
        };
        self.core.all().iter().map(info).collect()
    }

    async fn tell(
        &self,
        id: &ExecutionId,
        mail: impl FnOnce(oneshot::Sender<Result<(), Error>>) -> Mail,
    ) -> Result<(), Error> {
        let execution = self.core.attach(id);
        let (done, answer) = oneshot::channel();
        execution.send(mail(done))?;
        answer.await.unwrap_or(Err(Error::ShutDown))
    }
}

fn encode<T: Serialize + ?Sized>(what: &'static str, value: &T) -> Result<Bytes, Error> {
    let json = serde_json::to_vec(value).map_err(|error| Error::Codec { what, reason: error.to_string() })?;
    if json.len() > MAX_VALUE_BYTES {
        return Err(Error::PayloadTooLarge { bytes: json.len(), limit: MAX_VALUE_BYTES });
    }
    Ok(json.into())
}
