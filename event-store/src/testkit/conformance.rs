//! The questions that every back end answers alike, one a case, each on a fresh store.

mod appends;
mod conditions;
mod histories;
mod reads;
mod removals;
mod snapshots;
mod subscriptions;
mod threads;

use std::any::Any;
use std::fmt::{self, Debug};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::{FutureExt as _, StreamExt as _};

use crate::append::{Append, Appended, ExpectedVersion};
use crate::error::AppendError;
use crate::event::{EventId, NewEvent, Position, StreamVersion, Timestamp};
use crate::name::{EventType, StreamId, Tag};
use crate::read::Read;
use crate::recorded::RecordedEvent;
use crate::snapshot::SnapshotStore;
use crate::store::{BoxFuture, EventStore};
use crate::testkit::WithSnapshots;

/// One question.
pub struct Case<S> {
    /// What holds, as a sentence in snake case.
    pub name: &'static str,
    /// Asks an empty store; the error says what it answered instead.
    run: fn(Arc<S>, BlockOn) -> BoxFuture<'static, Outcome>,
}

impl<S> Debug for Case<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

/// Whether a case holds, and if not, why.
pub type Outcome = Result<(), String>;

/// Every case for stores of type `S`.
#[must_use]
pub fn cases<S: EventStore + SnapshotStore>() -> Vec<Case<S>> {
    [cases_of_events(), snapshots::list()].into_iter().flatten().collect()
}

fn cases_of_events<S: EventStore + SnapshotStore>() -> Vec<Case<S>> {
    [
        appends::list(),
        conditions::list(),
        reads::list(),
        removals::list(),
        subscriptions::list(),
        histories::list(),
        threads::list(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Drives a future to its end on the calling thread.
type BlockOn = Arc<dyn Fn(BoxFuture<'_, ()>) + Send + Sync>;

/// How to run the cases.
#[derive(Clone)]
pub struct Setting {
    limit: Duration,
    block_on: BlockOn,
}

impl Default for Setting {
    /// Ten seconds a case; threads drive their futures by a plain executor.
    fn default() -> Self {
        Self { limit: Duration::from_secs(10), block_on: Arc::new(|future| futures::executor::block_on(future)) }
    }
}

impl Setting {
    /// How long a case may take; one that still waits then has failed.
    #[must_use]
    pub fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// How a thread of a case drives a future, for stores that need their runtime: with tokio,
    /// `move |future| handle.block_on(future)`. It is called on threads that the case has spawned.
    #[must_use]
    pub fn block_on(self, block_on: impl Fn(BoxFuture<'_, ()>) + Send + Sync + 'static) -> Self {
        Self { block_on: Arc::new(block_on), ..self }
    }
}

impl Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// What became of the cases.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The names of those that hold.
    pub passed: Vec<&'static str>,
    /// Those that do not, and why.
    pub failed: Vec<(&'static str, String)>,
}

impl Report {
    /// For a test.
    ///
    /// # Panics
    /// If a case failed, or if there was none; the message names each with its reason.
    pub fn assert_passed(&self) {
        let failed: Vec<String> = self.failed.iter().map(|(name, why)| format!("  {name}: {why}")).collect();
        assert!(failed.is_empty(), "{} of the conformance cases fail:\n{}", failed.len(), failed.join("\n"));
        assert!(!self.passed.is_empty(), "no case was run");
    }
}

/// Runs every case on a store of its own, which `make` makes empty. A case that panics, or that waits for longer than ten seconds,
/// has failed.
pub async fn run<S, F>(make: impl Fn() -> F) -> Report
where
    S: EventStore + SnapshotStore,
    F: Future<Output = S>,
{
    run_with(&Setting::default(), make).await
}

/// As [`run`], in another setting.
pub async fn run_with<S, F>(setting: &Setting, make: impl Fn() -> F) -> Report
where
    S: EventStore + SnapshotStore,
    F: Future<Output = S>,
{
    run_cases(setting, cases(), make).await
}

/// As [`run_with`], for a store that keeps events and no snapshots: every case but those about snapshots.
pub async fn run_events<S, F>(setting: &Setting, make: impl Fn() -> F) -> Report
where
    S: EventStore,
    F: Future<Output = S>,
{
    run_cases(setting, cases_of_events(), || async { WithSnapshots::new(make().await) }).await
}

async fn run_cases<S, F>(setting: &Setting, cases: Vec<Case<S>>, make: impl Fn() -> F) -> Report
where
    S: EventStore + SnapshotStore,
    F: Future<Output = S>,
{
    let mut report = Report::default();
    for case in cases {
        let store = Arc::new(make().await);
        let running = (case.run)(store, Arc::clone(&setting.block_on));
        let outcome = AssertUnwindSafe(within(setting.limit, running)).catch_unwind().await;
        match outcome.unwrap_or_else(|panic| Err(format!("panicked: {}", message(&*panic)))) {
            Ok(()) => report.passed.push(case.name),
            Err(why) => report.failed.push((case.name, why)),
        }
    }
    report
}

/// Gives up a case that waits for what does not come. A thread keeps the time: the suite knows no runtime.
async fn within(limit: Duration, case: BoxFuture<'static, Outcome>) -> Outcome {
    let (done, is_done) = mpsc::channel::<()>();
    let (late, is_late) = oneshot::channel();
    let clock = thread::spawn(move || {
        if is_done.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = late.send(());
        }
    });
    let outcome = match select(case, is_late).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(_) => Err(format!("it still waits after {limit:?}")),
    };
    drop(done);
    let _ = clock.join();
    outcome
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

/// Lists the async functions of a module as cases.
macro_rules! list_cases {
    ($($name:ident),+ $(,)?) => {
        pub(super) fn list<S: crate::EventStore + crate::SnapshotStore>() -> Vec<super::Case<S>> {
            vec![$(super::Case { name: stringify!($name), run: |store, _| Box::pin($name(store)) }),+]
        }
    };
}
use list_cases;

/// Fails the case unless both are equal.
#[expect(clippy::needless_pass_by_value, reason = "a case compares answers that it makes in place")]
fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, expected {expected:?}")) }
}

/// Fails the case unless `holds`.
fn holds(what: &str, holds: bool) -> Outcome {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn stream(name: &str) -> StreamId {
    name.parse().expect("a valid stream id")
}

fn event_type(name: &str) -> EventType {
    name.parse().expect("a valid type")
}

fn tag(name: &str) -> Tag {
    name.parse().expect("a valid tag")
}

fn at(position: u64) -> Position {
    Position::new(position).expect("not zero")
}

fn exact(version: u64) -> ExpectedVersion {
    ExpectedVersion::Exact(StreamVersion::new(version))
}

/// An event of type `Happened` with `number` as id, payload and time.
fn event(number: u64) -> NewEvent {
    NewEvent::with_given_id(EventId::from_u128(u128::from(number) + 1), event_type("Happened"), number.to_string())
        .with_time(Timestamp::from_micros(number as i64))
}

fn events(numbers: std::ops::Range<u64>) -> Vec<NewEvent> {
    numbers.map(event).collect()
}

/// An append that the case counts on.
async fn append<S: EventStore>(store: &S, append: Append) -> Result<Appended, String> {
    store.append(append).await.map_err(|error| format!("an append was refused: {error}"))
}

/// An append that must be refused with `expected`, and leave nothing.
async fn refuse<S: EventStore>(store: &S, append: Append, expected: AppendError) -> Outcome {
    let head = store.head().await;
    let before = read(store, Read::all()).await?;
    same("the verdict", store.append(append).await, Err(expected))?;
    same("the head after a refusal", store.head().await, head)?;
    same("the events after a refusal", read(store, Read::all()).await?, before)
}

async fn read<S: EventStore>(store: &S, read: Read) -> Result<Vec<RecordedEvent>, String> {
    let mut stream = std::pin::pin!(store.read(read));
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        events.push(event.map_err(|error| format!("a read failed: {error}"))?);
    }
    Ok(events)
}

/// The positions of `query`, in the order in which they come.
async fn positions<S: EventStore>(store: &S, query: Read) -> Result<Vec<u64>, String> {
    Ok(read(store, query).await?.iter().map(|event| event.position().get()).collect())
}
