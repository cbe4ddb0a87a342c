//! What is left in the inboxes of executions that another process has in hand, with journals in PostgreSQL.

mod on_postgres;
mod waiting;

use std::time::Duration;

use bridge_orchestrator::{Ctx, Error, ErrorCode, HandleError, StartOptions, Workflow, WorkflowError};
use event_store::{Append, EventStore as _, EventType, ExpectedVersion, NewEvent, Read, StreamId};
use futures::StreamExt as _;
use futures::future::join_all;
use on_postgres::{Store, database, engine, id, kinds, server, store};
use tokio::time::{sleep, timeout};
use waiting::{Runs, Waits};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

fn inbox(execution: &str) -> StreamId {
    StreamId::new(&format!("wf-inbox-{execution}")).expect("valid")
}

/// The messages that were left for an execution, as events that can be left again, each for another signal.
async fn copies(store: &Store, of: &str, signals: impl Iterator<Item = u128>) -> Vec<NewEvent> {
    let left: Vec<_> = store.read(Read::stream(inbox(of))).collect().await;
    let message = left.into_iter().next().expect("there is one").expect("readable");
    let of_signal = |signal: u128| {
        // A version and a kind, then the signal's id, then its name.
        let mut metadata = message.metadata().to_vec();
        metadata[2..18].copy_from_slice(&signal.to_le_bytes());
        NewEvent::new(message.event_type().clone(), message.payload_bytes()).with_metadata(metadata)
    };
    signals.map(of_signal).collect()
}

async fn leave(store: &Store, execution: &str, messages: &[NewEvent]) {
    for some in messages.chunks(500) {
        let append = Append::stream(inbox(execution), ExpectedVersion::Any, some.to_vec());
        store.append(append).await.expect("is left");
    }
}

#[tokio::test]
async fn what_was_left_for_an_execution_that_is_gone_is_not_for_the_next_of_its_id() {
    let server = server().await;
    let database = database(&server).await;
    let (one, other) = (store(database.config()).await, store(database.config()).await);
    let first = engine(&one).register::<Waits>().register::<Runs>().start().await.expect("starts");
    let second = engine(&other).register::<Waits>().register::<Runs>().start().await.expect("starts");
    let (here, there) = (first.client(), second.client());
    let model = here.start::<Waits>(id("model"), &(), StartOptions::default()).await.expect("starts");
    there.signal(&id("model"), "go", &1, None).await.expect("is told");
    assert_eq!(timeout(LONG, model.result()).await, Ok(Ok(1)));
    // As if its sender had been slower than retention.
    leave(&one, "waits", &copies(&one, "model", 7..8).await).await;
    let handle = here.start::<Waits>(id("waits"), &(), StartOptions::default()).await.expect("starts");
    there.signal(&id("waits"), "go", &2, None).await.expect("is told");
    assert_eq!(timeout(LONG, handle.result()).await, Ok(Ok(2)));
    // Nor does it count against the next.
    leave(&one, "runs", &copies(&one, "model", 100..100 + u128::from(HELD)).await).await;
    let handle = here.start::<Runs>(id("runs"), &vec![], StartOptions::default()).await.expect("starts");
    let runs = id("runs");
    let numbers = [1, 99].map(|number| (number, there.clone()));
    let told = join_all(numbers.map(|(number, there)| {
        let runs = runs.clone();
        async move { there.signal(&runs, "number", &number, None).await }
    }));
    assert_eq!(told.await, [Ok(()), Ok(())]);
    assert_eq!(timeout(LONG, handle.result()).await, Ok(Ok(vec![1])));
}

/// Counts signals, once the test says so.
struct Counts;

static GATE: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);

impl Workflow for Counts {
    type Input = u32;
    type Output = u32;
    const TYPE: &'static str = "counts";

    async fn run(ctx: Ctx, signals: u32) -> Result<u32, WorkflowError> {
        ctx.step("gate", |_| async {
            GATE.acquire().await.expect("is never closed").forget();
            Ok(())
        })
        .await?;
        let mut sum = 0;
        for _ in 0..signals {
            sum += ctx.signal::<u32>("go").await?;
        }
        Ok(sum)
    }
}

/// Signals that an execution, or an inbox, holds.
const HELD: u32 = 10_000;

#[tokio::test]
async fn signals_of_another_process_that_nobody_reads_are_refused_before_they_are_too_many() {
    let server = server().await;
    let database = database(&server).await;
    let (one, other) = (store(database.config()).await, store(database.config()).await);
    let first = engine(&one).register::<Waits>().register::<Counts>().start().await.expect("starts");
    let second = engine(&other).register::<Waits>().register::<Counts>().start().await.expect("starts");
    let (here, there) = (first.client(), second.client());
    let model = here.start::<Waits>(id("model"), &(), StartOptions::default()).await.expect("starts");
    there.signal(&id("model"), "go", &1, None).await.expect("is told");
    assert_eq!(timeout(LONG, model.result()).await, Ok(Ok(1)));
    let signals = u128::from(2 * HELD);
    let reads = here.start::<Counts>(id("reads"), &(2 * HELD + 1), StartOptions::default()).await.expect("starts");
    let never = here.start::<Counts>(id("never"), &1, StartOptions::default()).await.expect("starts");
    leave(&one, "reads", &copies(&one, "model", 1..signals + 1).await).await;
    leave(&one, "never", &copies(&one, "model", 100_000..100_000 + signals).await).await;
    // How full it is becomes known by the first that is left.
    for (name, told) in [("reads", Ok(())), ("never", Ok(())), ("reads", Err(())), ("never", Err(()))] {
        let name = id(name);
        let signalled = timeout(LONG, there.signal(&name, "go", &1, None)).await.expect("is answered");
        match told {
            Ok(()) => assert_eq!(signalled, Ok(())),
            Err(()) => assert!(matches!(signalled, Err(Error::Busy(_))), "{signalled:?}"),
        }
    }
    // A cancellation is heard although signals stand before it.
    there.cancel(&id("never")).await.expect("is told");
    let ended = timeout(LONG, never.result()).await.expect("ends");
    let is_cancelled = matches!(&ended, Err(HandleError::Failed(failure)) if failure.code == ErrorCode::Cancelled);
    assert!(is_cancelled, "{ended:?}");
    GATE.add_permits(1);
    assert_eq!(timeout(LONG, reads.result()).await, Ok(Ok(2 * HELD + 1)));
}

/// Waits for a child, and when it is cancelled for a signal.
struct CleansUp;

impl Workflow for CleansUp {
    type Input = ();
    type Output = u32;
    const TYPE: &'static str = "cleans-up";

    async fn run(ctx: Ctx, (): ()) -> Result<u32, WorkflowError> {
        let child = ctx.child::<Waits>(id("child"), &())?.await;
        assert!(child.is_err(), "nobody signals it");
        ctx.shield(ctx.signal("go")).await
    }
}

#[tokio::test]
async fn what_stands_in_an_inbox_behind_a_cancellation_is_not_taken_before_it() {
    let server = server().await;
    let database = database(&server).await;
    let (one, other) = (store(database.config()).await, store(database.config()).await);
    let first = engine(&one).register::<Waits>().register::<CleansUp>().start().await.expect("starts");
    let second = engine(&other).register::<Waits>().register::<CleansUp>().start().await.expect("starts");
    let (here, there) = (first.client(), second.client());
    let model = here.start::<Waits>(id("model"), &(), StartOptions::default()).await.expect("starts");
    there.signal(&id("model"), "go", &7, None).await.expect("is told");
    assert_eq!(timeout(LONG, model.result()).await, Ok(Ok(7)));
    let signal = copies(&one, "model", 1..2).await.remove(0);
    let cancel = NewEvent::new(EventType::new("workflow.message").expect("valid"), "").with_metadata(vec![1, 1]);
    let handle = here.start::<CleansUp>(id("parent"), &(), StartOptions::default()).await.expect("starts");
    while kinds(&one, "child").await.is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    leave(&one, "parent", &[cancel, signal]).await;
    assert_eq!(timeout(LONG, handle.result()).await, Ok(Ok(7)));
    let journal = kinds(&one, "parent").await;
    let place = |kind: &str| journal.iter().position(|one| one == kind);
    assert!(place("cancel.requested") < place("signalled"), "{journal:?}");
    assert!(place("cancel.requested").is_some(), "{journal:?}");
}

/// Reads some signals in its first run, and in its second as many as are left.
struct ReadsOn;

impl Workflow for ReadsOn {
    type Input = (u32, u32);
    type Output = u32;
    const TYPE: &'static str = "reads-on";

    async fn run(ctx: Ctx, (first, second): (u32, u32)) -> Result<u32, WorkflowError> {
        for _ in 0..first {
            ctx.signal::<u32>("go").await?;
        }
        if second == 0 { Ok(first) } else { Err(ctx.continue_as_new(&(second, 0))) }
    }
}

#[tokio::test]
async fn what_was_held_back_in_an_inbox_is_for_the_next_run() {
    let server = server().await;
    let database = database(&server).await;
    let (one, other) = (store(database.config()).await, store(database.config()).await);
    let first = engine(&one).register::<Waits>().register::<ReadsOn>().start().await.expect("starts");
    let second = engine(&other).register::<Waits>().start().await.expect("starts");
    let here = first.client();
    let model = here.start::<Waits>(id("model"), &(), StartOptions::default()).await.expect("starts");
    second.client().signal(&id("model"), "go", &1, None).await.expect("is told");
    assert_eq!(timeout(LONG, model.result()).await, Ok(Ok(1)));
    let (read, more) = (HELD / 4, 500);
    let options = StartOptions::default().delay(Duration::from_secs(4));
    let handle = here.start::<ReadsOn>(id("reads-on"), &(read, HELD + more - read), options).await.expect("starts");
    leave(&one, "reads-on", &copies(&one, "model", 1..1 + u128::from(HELD + more)).await).await;
    assert_eq!(timeout(LONG, handle.result()).await, Ok(Ok(HELD + more - read)));
}
