//! Several processes on one store: each keeps a lease, sees whose has run out, and takes over what those owned.
//!
//! A process counts as dead when its row has not changed for half a lease by the watcher's own clock, which nobody can set, and has run out by the
//! server's; or when it has not changed for a whole lease, whatever the server's clock says. So a clock that jumps kills nobody, and keeps
//! nobody alive.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use event_listener::Event;
use event_store::{BoxFuture, Delivery, EventStore, Query, QueryItem, Read, Subscribe, SubscribeError, Timestamp};
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::core::{Core, lock};
use super::execution::{Mail, Parked, Standing};
use super::inbox;
use super::lease::Lease;
use super::record::{Record, event_type, kind};
use crate::error::Error;
use crate::workflow::{ExecutionId, STREAM_PREFIX};

/// After everything that there was has been seen, nothing is asked for so long: what comes meanwhile is seen together.
const LULL: Duration = Duration::from_millis(20);
/// Between two tries to read a store that does not answer.
const PAUSE: Duration = Duration::from_millis(200);

/// A lease as another process sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) owner: Uuid,
    /// 1 as long as it is its owner's, one more each time that somebody takes it over.
    pub(crate) epoch: i64,
    /// Counts renewals.
    pub(crate) beats: i64,
    pub(crate) has_run_out: bool,
    /// Its owner has ended in order, and what it owned waits.
    pub(crate) is_given_up: bool,
}

/// Leases, where all processes that share a store see them.
pub(crate) trait Ownership: Send + Sync {
    /// How many transactional steps may hold a connection at a time.
    fn transactions_at_once(&self) -> usize;
    /// A new lease of `owner`'s.
    fn register(&self, owner: Uuid) -> BoxFuture<'_, Result<(), Error>>;
    /// Renews the lease, and sees all others. `None`: somebody has taken it over.
    fn renew(&self, owner: Uuid, epoch: i64) -> BoxFuture<'_, Result<Option<Vec<Seen>>, Error>>;
    /// Takes a lease over that is as it was seen. Of several who try one succeeds.
    fn take(&self, seen: Seen) -> BoxFuture<'_, Result<bool, Error>>;
    /// Removes a lease behind which nothing is left, or leaves it to the others.
    fn end(&self, owner: Uuid, epoch: i64, is_empty: bool) -> BoxFuture<'_, Result<(), Error>>;
    /// Whether the owner's lease is its own.
    fn lives(&self, owner: Uuid) -> BoxFuture<'_, Result<bool, Error>>;
}

/// What an engine needs that is one of several.
pub(super) struct Shared {
    pub(super) ownership: Box<dyn Ownership>,
    pub(super) duration: Duration,
    /// What transactional steps need to begin: so appends and leases always find a connection.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "there are none"))]
    pub(super) transactions: Arc<Semaphore>,
    /// Owners some of whose workflows nobody here can run.
    not_ours: Mutex<HashSet<Uuid>>,
    ends: Mutex<Ends>,
    ends_changed: Event,
}

/// The subscription that tells of the ends of others' executions; there is one while somebody here waits for one.
#[derive(Debug, Default)]
struct Ends {
    watchers: usize,
    is_running: bool,
    is_ready: bool,
}

impl Shared {
    pub(super) fn new(ownership: Box<dyn Ownership>, duration: Duration) -> Self {
        let transactions = Arc::new(Semaphore::new(ownership.transactions_at_once()));
        let (not_ours, ends) = (Mutex::default(), Mutex::default());
        Self { ownership, duration, transactions, not_ours, ends, ends_changed: Event::new() }
    }

    /// For so long a renewal makes a process sure: it ends well before others may think that it is dead.
    pub(super) fn sure_for(&self) -> Duration {
        self.duration * 2 / 3
    }

    /// Makes a lease.
    pub(super) async fn register(&self) -> Result<Lease, Error> {
        let lease = Lease::from(Instant::now(), self.sure_for());
        self.ownership.register(lease.owner()).await?;
        Ok(lease)
    }
}

/// What a store holds of executions: who owns those that go on, and which have ended, and when.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub(super) going: HashMap<ExecutionId, Uuid>,
    pub(super) ended: Vec<(Timestamp, ExecutionId)>,
}

/// Reads it, from the beginning of the store.
pub(super) async fn census<S: EventStore>(store: &S) -> Result<Census, Error> {
    let mut census = Census::default();
    let types = [kind::STARTED, kind::CONTINUED, kind::CLAIMED, kind::COMPLETED, kind::FAILED].map(event_type);
    let item = QueryItem::types(types).map_err(|error| Error::Invalid(error.to_string()))?;
    let mut events = pin!(store.read(Read::query(Query::item(item))));
    while let Some(event) = events.next().await {
        let event = event?;
        let Some(id) = event.stream().and_then(|(stream, _)| stream.as_str().strip_prefix(STREAM_PREFIX)) else {
            continue;
        };
        // Somebody else's stream that is called like one.
        let Ok(id) = ExecutionId::new(id) else { continue };
        match Record::decode(&event) {
            Ok(Record::Started(started) | Record::ContinuedAsNew(started)) => {
                census.going.insert(id, started.owner);
            }
            Ok(Record::Claimed { owner, .. }) => {
                census.going.insert(id, owner);
            }
            Ok(Record::Completed { .. } | Record::Failed { .. }) => {
                census.going.remove(&id);
                census.ended.push((event.time(), id));
            }
            // Whoever goes on with it says what is wrong.
            Ok(_) | Err(_) => {
                census.going.entry(id).or_insert(Uuid::nil());
            }
        }
    }
    Ok(census)
}

/// A lease of another process, and since when it has not changed.
struct Watched {
    epoch: i64,
    beats: i64,
    since: Instant,
}

/// Renews the lease of this process, and takes over what dead ones owned, until the engine is shut down.
pub(super) async fn keep<S: EventStore>(core: Arc<Core<S>>) {
    let Some(shared) = &core.shared else { return };
    let mut watched: HashMap<Uuid, Watched> = HashMap::new();
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = core.is_shut_down() => return,
        }
        let (lease, asked) = (core.lease(), Instant::now());
        match shared.ownership.renew(lease.owner(), 1).await {
            Ok(Some(others)) => {
                pause = shared.duration / 3;
                if lease.renew(asked, shared.sure_for()) {
                    core.wake_all();
                }
                let dead = dead(&mut watched, &others, asked, shared);
                for seen in dead {
                    if matches!(shared.ownership.take(seen).await, Ok(true)) {
                        core.runtime.spawn(take_over(Arc::clone(&core), seen.owner, seen.epoch + 1));
                    }
                }
            }
            Ok(None) => {
                // What this process had in hand is somebody else's. It goes on with what it begins from now on.
                pause = shared.duration / 10;
                if let Ok(next) = shared.register().await {
                    core.replace_lease(next);
                    lease.lose();
                    core.wake_all();
                    pause = shared.duration / 3;
                }
            }
            Err(_) => pause = shared.duration / 10,
        }
    }
}

/// Those of `others` that are dead.
fn dead(watched: &mut HashMap<Uuid, Watched>, others: &[Seen], now: Instant, shared: &Shared) -> Vec<Seen> {
    let not_ours = lock(&shared.not_ours);
    watched.retain(|owner, _| others.iter().any(|seen| seen.owner == *owner));
    let mut dead = Vec::new();
    for seen in others {
        let (epoch, beats) = (seen.epoch, seen.beats);
        let known = watched.entry(seen.owner).or_insert(Watched { epoch, beats, since: now });
        if (known.epoch, known.beats) != (epoch, beats) {
            *known = Watched { epoch, beats, since: now };
        }
        let unchanged = now.duration_since(known.since);
        let is_dead =
            seen.is_given_up || unchanged >= shared.duration || (seen.has_run_out && unchanged >= shared.duration / 2);
        if is_dead && !not_ours.contains(&seen.owner) {
            dead.push(*seen);
        }
    }
    dead
}

/// Goes on with all that `dead` owned. Its lease stays taken over, at `epoch`, until nothing is left.
async fn take_over<S: EventStore>(core: Arc<Core<S>>, dead: Uuid, epoch: i64) {
    let Some(shared) = &core.shared else { return };
    while !core.is_stopping() {
        let Ok(census) = census(&core.store).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (mut is_any_open, mut is_any_not_ours) = (false, false);
        for (id, _) in census.going.into_iter().filter(|(_, owner)| *owner == dead) {
            let execution = core.attach(&id);
            match execution.standing() {
                Standing::Parked(Parked::Unregistered { .. }) => is_any_not_ours = true,
                Standing::Parked(_) => {}
                _ => {
                    is_any_open = true;
                    let _ = execution.send(Mail::Look);
                }
            }
        }
        if !is_any_open {
            if is_any_not_ours {
                lock(&shared.not_ours).insert(dead);
            }
            if shared.ownership.end(dead, epoch, !is_any_not_ours).await.is_ok() {
                return;
            }
        }
        tokio::time::sleep(shared.duration / 4).await;
        if matches!(shared.ownership.renew(dead, epoch).await, Ok(None)) {
            // Somebody else goes on with it.
            return;
        }
    }
}

/// Says to executions in hand that there is something in their inboxes, until the engine is shut down.
pub(super) async fn watch_inboxes<S: EventStore>(core: Arc<Core<S>>) {
    loop {
        let subscribe = match QueryItem::types([event_type(inbox::MESSAGE)]) {
            Ok(item) => Subscribe::tail().query(Query::item(item)),
            Err(_) => return,
        };
        let mut subscription = core.store.subscribe(subscribe);
        let mut has_begun = false;
        loop {
            let next = tokio::select! {
                next = subscription.next() => next,
                () = core.is_shut_down() => return,
            };
            match next {
                Some(Ok(Delivery::Event(event))) => {
                    let id = event.stream().and_then(|(stream, _)| inbox::execution(stream));
                    if let Some(execution) = id.and_then(|id| core.shard(&id).get(&id).cloned()) {
                        let _ = execution.send(Mail::Look);
                    }
                }
                Some(Ok(Delivery::CaughtUp(_))) => {
                    if !has_begun {
                        // From here on everything is seen; what came before is looked for.
                        has_begun = true;
                        core.look_all();
                    }
                    tokio::time::sleep(LULL).await;
                }
                Some(Err(SubscribeError::Read(_))) => tokio::time::sleep(PAUSE).await,
                // The store has lost its end, or was closed.
                Some(Err(_)) | None => break,
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// While it lives, ends of others' executions are told.
pub(super) struct Watching<S> {
    core: Arc<Core<S>>,
}

impl<S> Drop for Watching<S> {
    fn drop(&mut self) {
        if let Some(shared) = &self.core.shared {
            lock(&shared.ends).watchers -= 1;
        }
    }
}

impl<S: EventStore> Core<S> {
    /// Has ends told from now on.
    pub(super) async fn watch_ends(self: &Arc<Self>) -> Watching<S> {
        let watching = Watching { core: Arc::clone(self) };
        let Some(shared) = &self.shared else { return watching };
        {
            let mut ends = lock(&shared.ends);
            ends.watchers += 1;
            if !ends.is_running {
                (ends.is_running, ends.is_ready) = (true, false);
                self.runtime.spawn(tell_ends(Arc::clone(self)));
            }
        }
        loop {
            let changed = shared.ends_changed.listen();
            if lock(&shared.ends).is_ready || self.is_stopping() {
                return watching;
            }
            changed.await;
        }
    }
}

async fn tell_ends<S: EventStore>(core: Arc<Core<S>>) {
    let Some(shared) = &core.shared else { return };
    let Ok(item) = QueryItem::types([kind::COMPLETED, kind::FAILED].map(event_type)) else { return };
    let mut subscription = core.store.subscribe(Subscribe::tail().query(Query::item(item)));
    let mut may_have_missed = false;
    loop {
        let next = tokio::select! {
            next = subscription.next() => next,
            () = core.is_shut_down() => break,
        };
        match next {
            Some(Ok(Delivery::Event(event))) => {
                let id = event.stream().and_then(|(stream, _)| stream.as_str().strip_prefix(STREAM_PREFIX));
                let execution = id.and_then(|id| ExecutionId::new(id).ok()).and_then(|id| {
                    let found = core.shard(&id).get(&id).cloned();
                    found.filter(|execution| matches!(execution.standing(), Standing::Elsewhere))
                });
                if let Some(execution) = execution {
                    let _ = execution.send(Mail::Look);
                }
            }
            Some(Ok(Delivery::CaughtUp(_))) => {
                if std::mem::take(&mut may_have_missed) {
                    core.look_all();
                }
                {
                    let mut ends = lock(&shared.ends);
                    ends.is_ready = true;
                    if ends.watchers == 0 {
                        *ends = Ends::default();
                        return;
                    }
                }
                shared.ends_changed.notify(usize::MAX);
                tokio::time::sleep(LULL).await;
            }
            Some(Err(SubscribeError::Read(_))) => tokio::time::sleep(PAUSE).await,
            Some(Err(_)) | None => {
                // The store has lost its end, or was closed: it begins anew, and what may have been missed is looked for.
                tokio::time::sleep(PAUSE).await;
                let Ok(item) = QueryItem::types([kind::COMPLETED, kind::FAILED].map(event_type)) else { break };
                subscription = core.store.subscribe(Subscribe::tail().query(Query::item(item)));
                may_have_missed = true;
            }
        }
    }
    shared.ends_changed.notify(usize::MAX);
}

impl<S> Core<S> {
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire) != 0
    }

    /// Waits until the engine has let everything go.
    pub(super) async fn is_shut_down(&self) {
        loop {
            let shut_down = self.shut_down.listen();
            if self.stopping.load(Ordering::Acquire) >= super::core::SHUT_DOWN {
                return;
            }
            shut_down.await;
        }
    }
}
