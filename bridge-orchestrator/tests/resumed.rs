//! What is left of executions when their engine, their function or their code ends.

mod in_memory;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bridge_orchestrator::{
    Ctx, Filter, HandleError, Parked, StartOptions, StepError, Workflow, WorkflowError, WorkflowState,
};
use futures::future::select;
use in_memory::{engine, engine_since, id, kinds, run, store};
use tokio::time::Instant;

/// Takes as many signals as it is told, within a time.
struct Inbox;

impl Workflow for Inbox {
    type Input = usize;
    type Output = Vec<u32>;
    const TYPE: &'static str = "inbox";

    async fn run(ctx: Ctx, count: usize) -> Result<Vec<u32>, WorkflowError> {
        let mut seen = Vec::new();
        while seen.len() < count {
            seen.push(ctx.signal("n").await?);
        }
        ctx.sleep(Duration::from_secs(50)).await?;
        Ok(seen)
    }
}

#[tokio::test(start_paused = true)]
async fn executions_go_on_where_they_stood() {
    let (store, began) = (store(), Instant::now());
    let first = engine_since(&store, began).register::<Inbox>().start().await.expect("starts");
    let client = first.client();
    client.start::<Inbox>(id("inbox"), &2, StartOptions::default()).await.expect("starts");
    client.start::<Inbox>(id("sleeping"), &0, StartOptions::default()).await.expect("starts");
    client.signal(&id("inbox"), "n", &7, Some("a")).await.expect("is told");
    assert_eq!(first.shutdown(Duration::ZERO).await, 2);

    tokio::time::sleep(Duration::from_secs(20)).await;
    let second = engine_since(&store, began).register::<Inbox>().start().await.expect("starts");
    let client = second.client();
    client.signal(&id("inbox"), "n", &7, Some("a")).await.expect("was told");
    client.signal(&id("inbox"), "n", &8, Some("b")).await.expect("is told");
    assert_eq!(client.handle::<Inbox>(&id("sleeping")).result().await, Ok(vec![]));
    assert_eq!(began.elapsed().as_secs(), 50, "a sleep goes on while nobody runs");
    assert_eq!(client.handle::<Inbox>(&id("inbox")).result().await, Ok(vec![7, 8]));
    assert_eq!(began.elapsed().as_secs(), 70);

    let third = engine_since(&store, began).register::<Inbox>().start().await.expect("starts");
    assert_eq!(third.client().list(&Filter::all()).await, Ok(Vec::new()));
    assert_eq!(third.client().handle::<Inbox>(&id("inbox")).result().await, Ok(vec![7, 8]), "its end is kept");
}

#[tokio::test(start_paused = true)]
async fn of_two_engines_the_later_one_owns() {
    let (store, began) = (store(), Instant::now());
    let first = engine_since(&store, began).register::<Inbox>().start().await.expect("starts");
    let handle = first.client().start::<Inbox>(id("inbox"), &1, StartOptions::default()).await.expect("starts");
    let second = engine_since(&store, began).register::<Inbox>().start().await.expect("starts");
    tokio::task::yield_now().await;
    // The first one learns of it as soon as it writes, and what it was told is not lost on the second one.
    let told = first.client().signal(&id("inbox"), "n", &1, Some("a")).await;
    assert!(told.is_err(), "{told:?}");
    assert_eq!(handle.result().await, Err(HandleError::Released));
    second.client().signal(&id("inbox"), "n", &1, Some("a")).await.expect("is told");
    assert_eq!(second.client().handle::<Inbox>(&id("inbox")).result().await, Ok(vec![1]));
    assert_eq!(kinds(&store, "inbox").await, ["started", "claimed", "signalled", "timer.fired", "completed"]);
}

static PANICS: AtomicU32 = AtomicU32::new(0);

struct Panicking;

impl Workflow for Panicking {
    type Input = u32;
    type Output = u32;
    const TYPE: &'static str = "panicking";

    async fn run(ctx: Ctx, times: u32) -> Result<u32, WorkflowError> {
        let n = ctx.step("count", |_| async { Ok::<_, StepError>(PANICS.fetch_add(100, Ordering::SeqCst)) }).await?;
        assert!(PANICS.fetch_add(1, Ordering::SeqCst) % 100 >= times, "not yet");
        Ok(n)
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_leaves_the_execution_resumable_and_a_lasting_one_parks_it() {
    let store = store();
    let engine = engine(&store).register::<Panicking>().start().await.expect("starts");
    let client = engine.client();
    assert_eq!(run::<Panicking>(&client, "some", &3).await, Ok(0), "the step ran once");
    PANICS.store(0, Ordering::SeqCst);
    let parked = run::<Panicking>(&client, "ever", &99).await;
    let Err(HandleError::Parked(Parked::Poisoned { attempts: 10, last })) = parked else { panic!("{parked:?}") };
    assert_eq!(last, "not yet");
    let listed = client.list(&Filter::parked()).await.expect("needs no store");
    assert_eq!((listed.len(), listed[0].state), (1, WorkflowState::Parked));
}

struct Changed<const N: u32>;

impl<const N: u32> Workflow for Changed<N> {
    type Input = ();
    type Output = u32;
    const TYPE: &'static str = "changed";

    async fn run(ctx: Ctx, (): ()) -> Result<u32, WorkflowError> {
        let name = if N == 2 { "renamed" } else { "one" };
        ctx.step(name, |_| async { Ok::<_, StepError>(()) }).await?;
        let is_patched = N == 3 && ctx.patched("faster");
        ctx.signal::<()>("go").await?;
        assert_eq!(is_patched, N == 3 && ctx.patched("faster"), "the answer stays the same");
        Ok(N + u32::from(is_patched))
    }
}

#[tokio::test(start_paused = true)]
async fn functions_that_changed_are_parked_or_patched() {
    let store = store();
    let first = engine(&store).register::<Changed<1>>().start().await.expect("starts");
    let client = first.client();
    client.start::<Changed<1>>(id("old"), &(), StartOptions::default()).await.expect("starts");
    client.signal(&id("old"), "other", &(), None).await.expect("is told");
    first.shutdown(Duration::ZERO).await;

    let second = engine(&store).register::<Changed<2>>().start().await.expect("starts");
    let parked = second.client().handle::<Changed<2>>(&id("old")).result().await;
    let Err(HandleError::Parked(Parked::NonDeterminism(report))) = parked else { panic!("{parked:?}") };
    assert_eq!((report.seq, &*report.journal, &*report.function), (0, "step one", "awaits step renamed"));
    second.shutdown(Duration::ZERO).await;

    let third = engine(&store).register::<Changed<3>>().start().await.expect("starts");
    let client = third.client();
    client.start::<Changed<3>>(id("new"), &(), StartOptions::default()).await.expect("starts");
    for (name, expected) in [("old", 3), ("new", 4)] {
        client.signal(&id(name), "go", &(), None).await.expect("is told");
        assert_eq!(client.handle::<Changed<3>>(&id(name)).result().await, Ok(expected), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_can_run_waits_and_burns_no_attempt() {
    let store = store();
    let first = engine(&store).register::<Inbox>().start().await.expect("starts");
    first.client().start::<Inbox>(id("inbox"), &1, StartOptions::default()).await.expect("starts");
    first.shutdown(Duration::ZERO).await;
    for _ in 0..20 {
        let other = engine(&store).start().await.expect("starts");
        let parked = other.client().handle::<Inbox>(&id("inbox")).result().await;
        assert!(matches!(parked, Err(HandleError::Parked(Parked::Unregistered { version: 1, .. }))));
        other.shutdown(Duration::ZERO).await;
    }
    let again = engine(&store).register::<Inbox>().start().await.expect("starts");
    again.client().signal(&id("inbox"), "n", &1, None).await.expect("is told");
    assert_eq!(again.client().handle::<Inbox>(&id("inbox")).result().await, Ok(vec![1]));
    assert_eq!(kinds(&store, "inbox").await, ["started", "claimed", "signalled", "timer.fired", "completed"]);
}

struct Foreign;

impl Workflow for Foreign {
    type Input = bool;
    type Output = ();
    const TYPE: &'static str = "foreign";

    async fn run(ctx: Ctx, alone: bool) -> Result<(), WorkflowError> {
        let foreign = tokio::time::sleep(Duration::from_secs(1));
        if alone {
            foreign.await;
        } else {
            let _ = select(Box::pin(foreign), ctx.sleep(Duration::from_secs(10))).await;
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_from_the_context_is_found_out() {
    let store = store();
    let engine = engine(&store).register::<Foreign>().start().await.expect("starts");
    for (name, alone) in [("alone", true), ("raced", false)] {
        let parked = run::<Foreign>(&engine.client(), name, &alone).await;
        assert_eq!(parked, Err(HandleError::Parked(Parked::ForeignAwait)), "{name}");
    }
}

struct Same;

impl Workflow for Same {
    type Input = ();
    type Output = [(u64, String, i64); 2];
    const TYPE: &'static str = "same";

    async fn run(ctx: Ctx, (): ()) -> Result<Self::Output, WorkflowError> {
        let draw = || (ctx.random_u64(), ctx.uuid().to_string(), ctx.now().as_micros());
        let first = draw();
        ctx.expose("first", &first)?;
        ctx.signal::<()>("go").await?;
        Ok([first, draw()])
    }
}

#[tokio::test(start_paused = true)]
async fn time_and_chance_are_the_same_again() {
    let (store, began) = (store(), Instant::now());
    let first = engine_since(&store, began).register::<Same>().start().await.expect("starts");
    first.client().start::<Same>(id("same"), &(), StartOptions::default()).await.expect("starts");
    tokio::task::yield_now().await;
    let before: (u64, String, i64) =
        first.client().query(&id("same"), "first").await.expect("is there").expect("is shown");
    first.shutdown(Duration::ZERO).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    let second = engine_since(&store, began).register::<Same>().start().await.expect("starts");
    second.client().signal(&id("same"), "go", &(), None).await.expect("is told");
    let [again, next] = second.client().handle::<Same>(&id("same")).result().await.expect("completes");
    assert_eq!(again, before);
    assert!(again.0 != next.0 && again.1 != next.1 && next.2 >= again.2 + 9_000_000);
    assert_eq!(again.1.as_bytes()[14], b'4', "a version 4 id");
}
