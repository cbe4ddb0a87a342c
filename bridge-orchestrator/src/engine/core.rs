//! What an engine, its clients and its drivers share: the executions that are in hand, and how they come and go.

use std::collections::{HashMap, VecDeque};
use std::future::{Future as _, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use event_store::{AppendError, EventStore, Read, RemoveError, StreamVersion, Timestamp};
use futures_util::StreamExt as _;
use tokio::runtime;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::boundary::{AtBoundaries, Boundary};
use super::budgets::Budgets;
use super::clock::Clock;
use super::driver::{Begin, drive};
use super::execution::{Done, Execution, Mail, Parked, Standing};
use super::inbox;
use super::lease::Lease;
use super::record::{Cause, Record, Started, kind};
use super::registry::Registry;
use super::slots::{ChildStart, Slots};
use super::steps::after;
use super::takeover::Shared;
use crate::error::{Error, ErrorCode};
use crate::workflow::{ExecutionId, Failure, panic_message};

pub(super) const SHARDS: usize = 16;
/// Before a child is looked for again, or asked again that gave no answer to its cancellation.
const CHILD_PAUSE: Duration = Duration::from_millis(50);
/// How often a child that is not there is looked for before its parent is cancelled without it.
const CHILD_LOOKS: u32 = 20;
/// See [`Core::stopping`].
pub(super) const SHUT_DOWN: u8 = 3;

/// What an engine, its clients and its drivers share.
pub(super) struct Core<S> {
    pub(super) store: S,
    pub(super) registry: Registry,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) budgets: Arc<Budgets>,
    /// The one under which this process owns what it begins now.
    pub(super) lease: Mutex<Arc<Lease>>,
    /// If others share the store.
    pub(super) shared: Option<Shared>,
    /// A sleep is broken off after so long, to look at the clock, which may have been set.
    pub(super) longest_sleep: Duration,
    pub(super) runtime: runtime::Handle,
    /// 0: it runs; 1: executions are let go when no step is under way; 2: at once; [`SHUT_DOWN`]: all are.
    pub(super) stopping: AtomicU8,
    pub(super) shards: [Mutex<HashMap<ExecutionId, Arc<Execution>>>; SHARDS],
    pub(super) gone: event_listener::Event,
    /// How many executions of its own the engine has let go.
    pub(super) released: AtomicUsize,
    /// Tells of [`SHUT_DOWN`].
    pub(super) shut_down: event_listener::Event,
    pub(super) at_boundaries: Option<AtBoundaries>,
    pub(super) retention: (Duration, usize),
    pub(super) ended: Mutex<VecDeque<(Timestamp, ExecutionId)>>,
}

impl<S> std::fmt::Debug for Core<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("lease", &self.lease).field("registry", &self.registry).finish_non_exhaustive()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: EventStore> Core<S> {
    pub(super) fn shard(&self, id: &ExecutionId) -> MutexGuard<'_, HashMap<ExecutionId, Arc<Execution>>> {
        use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(id);
        lock(&self.shards[hash as usize % SHARDS])
    }

    pub(super) fn at(&self, boundary: Boundary) {
        if let Some(AtBoundaries(call)) = &self.at_boundaries {
            call(boundary);
        }
    }

    pub(super) fn lease(&self) -> Arc<Lease> {
        Arc::clone(&lock(&self.lease))
    }

    pub(super) fn replace_lease(&self, lease: Lease) {
        *lock(&self.lease) = Arc::new(lease);
    }

    /// Whether another process owns what `owner` does.
    pub(super) async fn is_elsewhere(&self, owner: Uuid) -> Result<bool, Error> {
        match &self.shared {
            Some(shared) if owner != self.lease().owner() => shared.ownership.lives(owner).await,
            _ => Ok(false),
        }
    }

    /// Lets every driver look about.
    pub(super) fn wake_all(&self) {
        self.all().iter().for_each(|execution| execution.waker.wake());
    }

    /// Lets every driver look for what came from outside.
    pub(super) fn look_all(&self) {
        for execution in self.all() {
            // One that has ended has nothing to look for.
            let _ = execution.send(Mail::Look);
        }
    }

    /// The execution of the id, and whether it is new here.
    pub(super) fn find_or_add(&self, id: &ExecutionId) -> (Arc<Execution>, bool) {
        let mut shard = self.shard(id);
        if let Some(found) = shard.get(id) {
            return (Arc::clone(found), false);
        }
        let execution = Arc::new(Execution::new(id.clone(), Slots::new(0, self.clock.now())));
        shard.insert(id.clone(), Arc::clone(&execution));
        (execution, true)
    }

    pub(super) fn all(&self) -> Vec<Arc<Execution>> {
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
        if matches!(standing, Standing::Released) && !matches!(execution.standing(), Standing::Elsewhere) {
            self.released.fetch_add(1, Ordering::AcqRel);
        }
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
                // It is tried again with the next one, or, where its parent has not read its end, when others have ended.
                match core.is_read(&id).await {
                    Ok(true) if core.remove(&id).await.is_ok() => {}
                    Ok(true) | Err(_) => lock(&core.ended).push_front((at, id)),
                    Ok(false) => lock(&core.ended).push_back((core.clock.now(), id)),
                }
            }
        });
    }

    /// Whether nobody needs the end of this execution any more: one that is a child's is in its parent's journal, or the run that awaited it is over.
    async fn is_read(&self, id: &ExecutionId) -> Result<bool, Error> {
        let Some((parent, seq)) = self.parent_of(id).await? else { return Ok(true) };
        let Ok(parent) = ExecutionId::new(parent) else { return Ok(true) };
        let Some(history) = super::journal::read(&self.store, &parent.stream()).await? else { return Ok(true) };
        let is_it = |record: &Record| matches!(record, Record::ChildDone { seq: its, child, .. } if *its == seq && child == id.as_str());
        Ok(history.end.is_some() || history.is_later_run || history.records.iter().any(|(record, _)| is_it(record)))
    }

    /// Removes what the store holds of an execution that has ended. Of another one of the same id, begun meanwhile, nothing is removed: its
    /// versions are later ones.
    pub(super) async fn remove(&self, id: &ExecutionId) -> Result<(), Error> {
        let removed = |error: RemoveError| Error::Append(AppendError::Unavailable(error.to_string()));
        let behind = |version: StreamVersion| StreamVersion::new(version.get() + 1);
        let (journal, inbox) = (id.stream(), inbox::stream(id));
        // What is in the inbox by now is meant for the one whose end is the last thing in its journal afterwards.
        let messages = match &self.shared {
            Some(_) => self.store.stream_version(&inbox).await?,
            None => None,
        };
        let last = {
            let mut last = pin!(self.store.read(Read::stream(journal.clone()).backwards().limit(1)));
            last.next().await.transpose()?
        };
        let Some(last) = last else { return Ok(()) };
        if ![kind::COMPLETED, kind::FAILED].contains(&last.event_type().as_str()) {
            return Ok(());
        }
        if let Some(version) = messages {
            self.store.truncate_stream(&inbox, behind(version)).await.map_err(removed)?;
        }
        if let Some(version) = last.stream_version() {
            self.store.truncate_stream(&journal, behind(version)).await.map_err(removed)?;
        }
        Ok(())
    }

    pub(super) fn spawn(self: &Arc<Self>, execution: &Arc<Execution>, begin: Begin) {
        let (core, execution) = (Arc::clone(self), Arc::clone(execution));
        self.runtime.spawn(async move {
            let left = {
                let mut driving = pin!(drive(Arc::clone(&core), Arc::clone(&execution), begin));
                // Whatever it waits for, it is let go when there is no time left.
                poll_fn(|cx| {
                    execution.waker.register(cx.waker());
                    match core.stopping.load(Ordering::Acquire) {
                        0 | 1 => match catch_unwind(AssertUnwindSafe(|| driving.as_mut().poll(cx))) {
                            Ok(polled) => polled.map(|()| None),
                            // It is not in a state to go on, but the journal is.
                            Err(panic) => {
                                let message = format!("its driver panicked: {}", panic_message(&*panic));
                                Poll::Ready(Some(Standing::Parked(Parked::Malformed(message))))
                            }
                        },
                        _ => Poll::Ready(Some(Standing::Released)),
                    }
                })
                .await
            };
            if let Some(standing) = left {
                core.let_go(&execution, standing);
            }
        });
    }

    /// The execution of the id, driven by this engine if it is not ended.
    pub(super) fn attach(self: &Arc<Self>, id: &ExecutionId) -> Arc<Execution> {
        if self.is_stopping() {
            let found = self.shard(id).get(id).cloned();
            return found.unwrap_or_else(|| {
                let execution = Execution::new(id.clone(), Slots::new(0, self.clock.now()));
                execution.close_mail();
                execution.stands(Standing::Refused(Error::ShutDown));
                Arc::new(execution)
            });
        }
        let (execution, is_new) = self.find_or_add(id);
        if is_new {
            self.spawn(&execution, Begin::Resume);
        }
        execution
    }

    /// The same, when it is known where it stands. One that somebody has just tried to start, in vain, is looked at again.
    pub(super) async fn attach_settled(self: &Arc<Self>, id: &ExecutionId) -> Arc<Execution> {
        loop {
            let execution = self.attach(id);
            let is_refused = execution.when(|standing| match standing {
                Standing::Starting => None,
                Standing::Refused(Error::AlreadyExists(_)) => Some(true),
                _ => Some(false),
            });
            if !is_refused.await {
                return execution;
            }
        }
    }

    /// Starts an execution. The answer is there when its start is in the journal.
    pub(super) async fn start(self: &Arc<Self>, id: &ExecutionId, started: Started) -> Result<Arc<Execution>, Error> {
        self.await_start(self.begin_start(id, Box::new(started))).await
    }

    fn begin_start(self: &Arc<Self>, id: &ExecutionId, started: Box<Started>) -> Begun {
        if self.is_stopping() {
            return Begun::Not;
        }
        let (execution, is_new) = self.find_or_add(id);
        if !is_new {
            return Begun::Known(execution, started);
        }
        self.spawn(&execution, Begin::New(started));
        Begun::New(execution)
    }

    async fn await_start(self: &Arc<Self>, mut begun: Begun) -> Result<Arc<Execution>, Error> {
        loop {
            let (known, started) = match begun {
                Begun::Not => return Err(Error::ShutDown),
                Begun::New(execution) => {
                    let is_started = execution.when(|standing| match standing {
                        Standing::Starting => None,
                        Standing::Refused(error) => Some(Err(error.clone())),
                        _ => Some(Ok(())),
                    });
                    return is_started.await.map(|()| execution);
                }
                Begun::Known(known, started) => (known, started),
            };
            // Somebody may only have asked whether there is one.
            let is_none = known.when(|standing| match standing {
                Standing::Starting => None,
                Standing::Refused(error) => Some(!matches!(error, Error::AlreadyExists(_))),
                _ => Some(false),
            });
            if !is_none.await {
                return Err(Error::AlreadyExists(known.id().clone()));
            }
            begun = self.begin_start(known.id(), started);
        }
    }

    /// Starts a child, or finds the one that was started, and tells its parent of its end.
    pub(super) fn begin_child(core: &Arc<Self>, parent: &Arc<Execution>, of: &Started, seq: u32, start: ChildStart) {
        let (core, parent, run) = (Arc::clone(core), Arc::clone(parent), of.seed);
        let started = Started {
            workflow: start.workflow.to_owned(),
            code_version: start.version,
            namespace: of.namespace.clone(),
            parent: Some((parent.id().as_str().to_owned(), seq)),
            start_at: None,
            deadline: None,
            seed: seed(),
            owner: Uuid::nil(),
            inbox: 0,
            since: 0,
            carried: 0,
            taken_signals: Vec::new(),
            input: start.input,
        };
        let id = start.id;
        // From now on it can be cancelled.
        let parent_of_child = started.parent.clone();
        let begun = core.begin_start(&id, Box::new(started));
        let runtime = core.runtime.clone();
        runtime.spawn(async move {
            let outcome = core.child_outcome(&id, begun, parent_of_child).await;
            let Some(outcome) = outcome else { return };
            let _ = parent.send(Mail::ChildDone { seq, child: id, outcome, run });
        });
    }

    /// `None` if its end is not for this process to see.
    async fn child_outcome(
        self: &Arc<Self>,
        id: &ExecutionId,
        begun: Begun,
        parent: Option<(String, u32)>,
    ) -> Option<Result<Bytes, Failure>> {
        let child = match self.await_start(begun).await {
            Ok(child) => child,
            Err(Error::AlreadyExists(_)) => loop {
                match self.parent_of(id).await {
                    Ok(found) if found == parent => break self.attach(id),
                    Ok(_) => {
                        let message = format!("an execution {id} exists, and is nobody's child here");
                        return Some(Err(Failure::new(ErrorCode::Conflict, message)));
                    }
                    // It waits for a person, and so does its parent.
                    Err(Error::Malformed { .. }) => break self.attach(id),
                    Err(_) if self.is_stopping() => return None,
                    Err(_) => tokio::time::sleep(CHILD_PAUSE).await,
                }
            },
            Err(Error::ShutDown) => return None,
            Err(error) => return Some(Err(Failure::new(error.code(), error.to_string()))),
        };
        child
            .when(|standing| match standing {
                Standing::Ended(outcome) => Some(Some(outcome.clone())),
                Standing::Refused(error) => Some(Some(Err(Failure::new(error.code(), error.to_string())))),
                Standing::Released => Some(None),
                Standing::Starting | Standing::Running | Standing::Elsewhere | Standing::Parked(_) => None,
            })
            .await
    }

    async fn parent_of(&self, id: &ExecutionId) -> Result<Option<(String, u32)>, Error> {
        Ok(super::journal::read(&self.store, &id.stream()).await?.and_then(|history| history.started.parent))
    }

    async fn is_not_there(&self, id: &ExecutionId) -> bool {
        matches!(super::journal::read(&self.store, &id.stream()).await, Ok(None))
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
                let mut looked_for = 0;
                // Without an answer it is asked again: the parent is not cancelled before its child is.
                loop {
                    let (sender, answer) = oneshot::channel();
                    let mail = Mail::Cancel { cause: Cause::Parent, told: Vec::new(), done: Some(sender) };
                    let told = match core.attach(&child).send(mail) {
                        Ok(()) => answer.await.unwrap_or(Err(Error::ShutDown)),
                        Err(error) => Err(error),
                    };
                    match told {
                        // It is about to start, or will not.
                        Err(Error::NotFound(_)) if looked_for < CHILD_LOOKS && core.is_not_there(&child).await => {
                            looked_for += 1;
                            tokio::time::sleep(CHILD_PAUSE).await;
                        }
                        // One that has ended needs no cancellation, and one that is parked goes on with it when it is put back to work.
                        Ok(()) | Err(Error::NotFound(_) | Error::Parked(_)) => break,
                        Err(_) if core.is_stopping() => return,
                        Err(_) => tokio::time::sleep(CHILD_PAUSE).await,
                    }
                }
                told.push(child);
            }
            let _ = execution.send(Mail::Cancel { cause, told, done });
        });
    }
}

/// What became of the wish to start an execution.
enum Begun {
    /// The engine shuts down.
    Not,
    /// Its start is on its way to the journal.
    New(Arc<Execution>),
    /// There is one, or somebody looks whether there is.
    Known(Arc<Execution>, Box<Started>),
}

fn refuse(mail: Mail, error: Error) {
    match mail {
        Mail::Signal { done, .. } | Mail::Terminate { done } | Mail::Cancel { done: Some(done), .. } => {
            let _ = done.send(Err(error));
        }
        Mail::Cancel { done: None, .. } | Mail::ChildDone { .. } | Mail::Messages(_) | Mail::Look => {}
    }
}

pub(super) fn seed() -> u64 {
    fastrand::u64(..)
}
