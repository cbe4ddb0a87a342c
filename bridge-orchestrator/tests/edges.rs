//! What two things at once, an orderly end and ends of others leave of executions.

mod failing_store;
mod in_memory;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bridge_orchestrator::{
    Conflict, Ctx, Engine, Error, ErrorCode, Filter, HandleError, Parked, StartOptions, StepError, Workflow,
    WorkflowError, WorkflowState,
};
use event_store::StreamId;
use failing_store::{FailingStore, Fault};
use futures::future::{join_all, try_join};
use in_memory::{Store, engine, engine_since, id, kinds, run, store};
use tokio::time::{Instant, sleep, timeout};
use waiting::{Runs, Waits};

const SECOND: Duration = Duration::from_secs(1);
/// Longer than anything here takes.
const HOUR: Duration = Duration::from_secs(3_600);

/// Ends at once.
struct Quick;

impl Workflow for Quick {
    type Input = ();
    type Output = u32;
    const TYPE: &'static str = "quick";

    async fn run(_: Ctx, (): ()) -> Result<u32, WorkflowError> {
        Ok(1)
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_behind_a_continue_as_new_belongs_to_the_next_run() {
    let store = store();
    let engine = engine(&store).register::<Runs>().start().await.expect("starts");
    let (client, name) = (engine.client(), id("runs"));
    let handle = client.start::<Runs>(name.clone(), &vec![], StartOptions::default()).await.expect("starts");
    sleep(SECOND).await;
    // Both arrive before the first run has ended.
    let first = client.signal(&name, "number", &1, Some("one"));
    assert_eq!(tokio::join!(first, client.signal(&name, "number", &2, Some("two"))), (Ok(()), Ok(())));
    client.signal(&name, "number", &2, Some("two")).await.expect("was told");
    client.signal(&name, "number", &99, None).await.expect("is told");
    assert_eq!(handle.result().await, Ok(vec![1, 2]));
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_behind_a_continue_as_new_belongs_to_the_next_run() {
    let store = store();
    let engine = engine(&store).register::<Runs>().start().await.expect("starts");
    let (client, name) = (engine.client(), id("runs"));
    let handle = client.start::<Runs>(name.clone(), &vec![], StartOptions::default()).await.expect("starts");
    sleep(SECOND).await;
    let told = tokio::join!(client.signal(&name, "number", &1, None), client.cancel(&name));
    assert_eq!(told, (Ok(()), Ok(())));
    let ended = timeout(HOUR, handle.result()).await.expect("ends");
    assert!(matches!(&ended, Err(HandleError::Failed(failure)) if failure.code == ErrorCode::Cancelled), "{ended:?}");
    assert_eq!(kinds(&store, "runs").await, ["continued", "cancel.requested", "failed"]);
}

struct Sleeps;

impl Workflow for Sleeps {
    type Input = u64;
    type Output = ();
    const TYPE: &'static str = "sleeps";

    async fn run(ctx: Ctx, seconds: u64) -> Result<(), WorkflowError> {
        ctx.sleep(Duration::from_secs(seconds)).await
    }
}

/// Leaves a child behind in its first run; what it awaits next has the child's number.
struct Leaves;

impl Workflow for Leaves {
    type Input = u32;
    type Output = u32;
    const TYPE: &'static str = "leaves";

    async fn run(ctx: Ctx, before: u32) -> Result<u32, WorkflowError> {
        if before > 0 {
            ctx.sleep(SECOND * 100).await?;
            return Ok(before);
        }
        let child = ctx.child::<Sleeps>(id("child"), &10)?;
        let timer = ctx.sleep(SECOND);
        tokio::select! { biased; ended = child => ended?, rung = timer => rung? }
        Err(ctx.continue_as_new(&1))
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_child_of_an_earlier_run_is_nothing_to_the_next() {
    let (store, began) = (store(), Instant::now());
    let engine = engine(&store).register::<Leaves>().register::<Sleeps>().start().await.expect("starts");
    assert_eq!(run::<Leaves>(&engine.client(), "leaves", &0).await, Ok(1));
    assert_eq!(began.elapsed().as_secs(), 101, "the child's end is not the timer's");
    assert_eq!(kinds(&store, "leaves").await, ["continued", "timer.fired", "completed"]);
    assert_eq!(kinds(&store, "child").await, ["started", "timer.fired", "completed"]);
}

static WORKED: AtomicU32 = AtomicU32::new(0);

/// One step that takes two seconds.
struct Works;

impl Workflow for Works {
    type Input = ();
    type Output = u32;
    const TYPE: &'static str = "works";

    async fn run(ctx: Ctx, (): ()) -> Result<u32, WorkflowError> {
        let step = ctx.step("work", |_| async {
            sleep(SECOND * 2).await;
            Ok::<_, StepError>(WORKED.fetch_add(1, Ordering::SeqCst))
        });
        step.await
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_ends_within_the_grace_of_a_shutdown_does_not_run_again() {
    let (store, began) = (store(), Instant::now());
    let first = engine_since(&store, began).register::<Works>().start().await.expect("starts");
    first.client().start::<Works>(id("works"), &(), StartOptions::default()).await.expect("starts");
    sleep(SECOND).await;
    first.shutdown(SECOND * 30).await;
    assert_eq!(began.elapsed().as_secs(), 2, "it is not waited for longer than the step takes");
    assert!(kinds(&store, "works").await.contains(&"step.completed".to_owned()));

    let second = engine_since(&store, began).register::<Works>().start().await.expect("starts");
    assert_eq!(second.client().handle::<Works>(&id("works")).result().await, Ok(0));
    assert_eq!(WORKED.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn orderly_restarts_do_not_park_one_that_waits() {
    let (store, began) = (store(), Instant::now());
    for restart in 0..12 {
        let engine = engine_since(&store, began).register::<Waits>().start().await.expect("starts");
        if restart == 0 {
            engine.client().start::<Waits>(id("waits"), &(), StartOptions::default()).await.expect("starts");
        }
        sleep(SECOND).await;
        assert_eq!(engine.client().list(&Filter::parked()).await, Ok(vec![]), "restart {restart}");
        assert_eq!(engine.shutdown(SECOND).await, 1);
    }
    let engine = engine_since(&store, began).register::<Waits>().start().await.expect("starts");
    engine.client().signal(&id("waits"), "go", &5, None).await.expect("is told");
    assert_eq!(engine.client().handle::<Waits>(&id("waits")).result().await, Ok(5));
}

/// Awaits what is not its context's, if it is told to.
struct Foreign;

impl Workflow for Foreign {
    type Input = bool;
    type Output = ();
    const TYPE: &'static str = "foreign";

    async fn run(_: Ctx, is_foreign: bool) -> Result<(), WorkflowError> {
        if is_foreign {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_parked_can_be_terminated() {
    let store = store();
    let engine = engine(&store).register::<Foreign>().start().await.expect("starts");
    let client = engine.client();
    assert_eq!(run::<Foreign>(&client, "parked", &true).await, Err(HandleError::Parked(Parked::ForeignAwait)));
    client.terminate(&id("parked")).await.expect("is terminated");
    assert_eq!(kinds(&store, "parked").await, ["started", "failed"]);
    assert_eq!(client.list(&Filter::parked()).await, Ok(vec![]));
    let handle = client.handle::<Foreign>(&id("parked"));
    let ended = handle.result().await;
    assert!(matches!(&ended, Err(HandleError::Failed(failure)) if failure.message == "terminated"), "{ended:?}");
    assert_eq!(handle.state(), WorkflowState::Cancelled);
    assert_eq!(client.terminate(&id("parked")).await, Err(Error::NotFound(id("parked"))));
    assert_eq!(client.retry(&id("parked")).await, Err(Error::NotFound(id("parked"))));
}

#[tokio::test(start_paused = true)]
async fn a_start_can_take_the_place_of_one_that_is_parked() {
    let store = store();
    let engine = engine(&store).register::<Foreign>().start().await.expect("starts");
    let client = engine.client();
    assert_eq!(run::<Foreign>(&client, "parked", &true).await, Err(HandleError::Parked(Parked::ForeignAwait)));
    let terminate = StartOptions::default().conflict(Conflict::Terminate);
    let started = timeout(HOUR, client.start::<Foreign>(id("parked"), &false, terminate)).await.expect("in time");
    assert_eq!(started.expect("starts").result().await, Ok(()));
    assert_eq!(kinds(&store, "parked").await, ["started", "completed"]);
    assert_eq!(client.list(&Filter::parked()).await, Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn of_several_that_start_the_same_at_once_each_has_its_handle() {
    let store = store();
    let engine = engine(&store).register::<Quick>().register::<Waits>().start().await.expect("starts");
    let client = engine.client();
    let options = || StartOptions::default().conflict(Conflict::UseExisting);
    let quick = async || client.start::<Quick>(id("quick"), &(), options()).await.expect("exists").result().await;
    // None is there; one is going on; one has ended.
    assert_eq!(tokio::join!(quick(), quick(), quick()), (Ok(1), Ok(1), Ok(1)));
    assert_eq!(tokio::join!(quick(), quick(), quick()), (Ok(1), Ok(1), Ok(1)));
    assert_eq!(kinds(&store, "quick").await, ["started", "completed"]);
    let waits = async || client.start::<Waits>(id("waits"), &(), options()).await.expect("exists").result().await;
    let go = async {
        sleep(SECOND).await;
        client.signal(&id("waits"), "go", &2, None).await
    };
    assert_eq!(tokio::join!(waits(), waits(), waits(), go), (Ok(2), Ok(2), Ok(2), Ok(())));
}

#[tokio::test(start_paused = true)]
async fn an_engine_whose_store_is_away_can_be_shut_down() {
    let store = FailingStore::default();
    let shared: Store = Arc::new(store.clone());
    let engine = engine(&shared).register::<Waits>().start().await.expect("starts");
    let client = engine.client();
    let handle = client.start::<Waits>(id("waits"), &(), StartOptions::default()).await.expect("starts");
    store.fail([Fault::Unavailable; 100_000]);
    let told = tokio::spawn({
        let client = client.clone();
        async move { client.signal(&id("waits"), "go", &1, None).await }
    });
    sleep(SECOND).await;
    let began = Instant::now();
    assert_eq!(timeout(HOUR, engine.shutdown(SECOND)).await, Ok(1), "it returns");
    assert!(began.elapsed() <= SECOND * 2, "{:?}", began.elapsed());
    assert_eq!(told.await.expect("ends"), Err(Error::ShutDown));
    assert_eq!(handle.result().await, Err(HandleError::Released));
}

#[tokio::test(start_paused = true)]
async fn an_engine_whose_store_never_answers_can_be_shut_down() {
    let store = FailingStore::default();
    let shared: Store = Arc::new(store.clone());
    let engine = engine(&shared).register::<Waits>().start().await.expect("starts");
    let client = engine.client();
    client.start::<Waits>(id("waits"), &(), StartOptions::default()).await.expect("starts");
    store.fail([Fault::Hangs]);
    let told = tokio::spawn({
        let client = client.clone();
        async move { client.signal(&id("waits"), "go", &1, None).await }
    });
    sleep(SECOND).await;
    assert_eq!(timeout(HOUR, engine.shutdown(SECOND)).await, Ok(1), "it returns");
    assert_eq!(told.await.expect("ends"), Err(Error::ShutDown));
}

struct Panics;

impl Workflow for Panics {
    type Input = ();
    type Output = ();
    const TYPE: &'static str = "panics";

    async fn run(_: Ctx, (): ()) -> Result<(), WorkflowError> {
        panic!("ever")
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_the_next_try_of_one_that_panics() {
    let store = store();
    let engine = engine(&store).register::<Panics>().start().await.expect("starts");
    let client = engine.client();
    client.start::<Panics>(id("panics"), &(), StartOptions::default()).await.expect("starts");
    // By now its tries are far from each other.
    sleep(SECOND * 3).await;
    let (before, began) = (kinds(&store, "panics").await, Instant::now());
    assert_eq!(engine.shutdown(SECOND / 10).await, 1);
    assert!(began.elapsed() <= SECOND / 2, "{:?}", began.elapsed());
    sleep(HOUR).await;
    assert_eq!(kinds(&store, "panics").await, before, "nobody goes on with it");
}

static IS_BROKEN: AtomicBool = AtomicBool::new(true);
static PAID: AtomicU32 = AtomicU32::new(0);

/// Pays when it is told to.
struct Pays;

impl Workflow for Pays {
    type Input = ();
    type Output = u32;
    const TYPE: &'static str = "pays";

    async fn run(ctx: Ctx, (): ()) -> Result<u32, WorkflowError> {
        ctx.signal::<()>("pay").await?;
        ctx.step("pay", |_| async { Ok::<_, StepError>(PAID.fetch_add(1, Ordering::SeqCst) + 1) }).await
    }
}

/// Waits for its child and for a signal, at which it panics while it is broken.
struct Orders;

impl Workflow for Orders {
    type Input = ();
    type Output = u32;
    const TYPE: &'static str = "orders";

    async fn run(ctx: Ctx, (): ()) -> Result<u32, WorkflowError> {
        let child = ctx.child::<Pays>(id("pays"), &())?;
        let other = async {
            ctx.signal::<()>("on").await?;
            assert!(!IS_BROKEN.load(Ordering::SeqCst), "not mended");
            Ok::<_, WorkflowError>(())
        };
        Ok(try_join(child, other).await?.0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_whose_end_its_parent_has_not_read_is_kept() {
    let store = store();
    let engine = engine(&store).retention(HOUR * 24, 3).register::<Orders>().register::<Pays>().register::<Quick>();
    let engine = engine.start().await.expect("starts");
    let client = engine.client();
    let handle = client.start::<Orders>(id("orders"), &(), StartOptions::default()).await.expect("starts");
    sleep(SECOND).await;
    // It may be told that it was not: the function panics over it.
    let _ = client.signal(&id("orders"), "on", &(), None).await;
    let parked = handle.result().await;
    assert!(matches!(parked, Err(HandleError::Parked(Parked::Poisoned { .. }))), "{parked:?}");
    client.signal(&id("pays"), "pay", &(), None).await.expect("is told");
    sleep(SECOND).await;
    for number in 0..8 {
        assert_eq!(run::<Quick>(&client, &format!("quick-{number}"), &()).await, Ok(1));
        sleep(SECOND).await;
    }
    assert_eq!(kinds(&store, "quick-0").await, Vec::<String>::new(), "others are removed");
    assert_eq!(kinds(&store, "pays").await, ["started", "signalled", "step.completed", "completed"]);
    IS_BROKEN.store(false, Ordering::SeqCst);
    client.retry(&id("orders")).await.expect("is put to work");
    assert_eq!(timeout(HOUR, handle.result()).await, Ok(Ok(1)));
    assert_eq!(PAID.load(Ordering::SeqCst), 1);

    // Its end is read by now.
    for number in 8..16 {
        assert_eq!(run::<Quick>(&client, &format!("quick-{number}"), &()).await, Ok(1));
        sleep(SECOND).await;
    }
    assert_eq!(kinds(&store, "pays").await, Vec::<String>::new(), "it is not kept for ever");
}

#[tokio::test(start_paused = true)]
async fn a_client_of_an_engine_that_is_shut_down_changes_nothing() {
    let (store, began) = (store(), Instant::now());
    let first = engine_since(&store, began).register::<Waits>().start().await.expect("starts");
    let old = first.client();
    let name = id("waits");
    old.start::<Waits>(name.clone(), &(), StartOptions::default()).await.expect("starts");
    first.shutdown(SECOND).await;
    let second = engine_since(&store, began).register::<Waits>().start().await.expect("starts");
    let handle = second.client().handle::<Waits>(&name);
    sleep(SECOND).await;
    let before = kinds(&store, "waits").await;
    assert_eq!(old.signal(&name, "go", &1, None).await, Err(Error::ShutDown));
    assert_eq!(old.cancel(&name).await, Err(Error::ShutDown));
    assert_eq!(old.terminate(&name).await, Err(Error::ShutDown));
    assert_eq!(old.retry(&name).await, Err(Error::ShutDown));
    for conflict in [Conflict::Reject, Conflict::UseExisting, Conflict::Terminate] {
        let options = StartOptions::default().conflict(conflict);
        assert_eq!(old.start::<Waits>(name.clone(), &(), options).await.map(|_| ()), Err(Error::ShutDown));
    }
    let of_old = timeout(HOUR, old.handle::<Waits>(&name).result()).await.expect("ends");
    assert_eq!(of_old, Err(HandleError::Engine(Error::ShutDown)));
    assert_eq!(kinds(&store, "waits").await, before);
    second.client().signal(&name, "go", &2, None).await.expect("is told");
    assert_eq!(timeout(HOUR, handle.result()).await, Ok(Ok(2)));
}

#[tokio::test(start_paused = true)]
async fn a_signal_beside_a_shutdown_is_told_or_told_of_the_shutdown() {
    for yields in 0..10 {
        let store = store();
        let engine = engine(&store).register::<Waits>().start().await.expect("starts");
        let (client, name) = (engine.client(), id("waits"));
        client.start::<Waits>(name.clone(), &(), StartOptions::default()).await.expect("starts");
        sleep(SECOND).await;
        let signal = async {
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
            client.signal(&name, "go", &1, None).await
        };
        let (_, told) = tokio::join!(engine.shutdown(SECOND), signal);
        let is_there = kinds(&store, "waits").await.contains(&"signalled".to_owned());
        match told {
            Ok(()) => assert!(is_there, "after {yields}"),
            told => assert_eq!(told, Err(Error::ShutDown), "after {yields}"),
        }
    }
}

/// Takes signals, sleeps, and begins anew.
struct Takes;

impl Workflow for Takes {
    type Input = u32;
    type Output = u32;
    const TYPE: &'static str = "takes";

    async fn run(ctx: Ctx, count: u32) -> Result<u32, WorkflowError> {
        if count == 0 {
            return ctx.signal("last").await;
        }
        for expected in 0..count {
            let number: u32 = ctx.signal("number").await?;
            assert_eq!(number, expected);
        }
        ctx.sleep(SECOND * 1_000).await?;
        Err(ctx.continue_as_new(&0))
    }
}

#[tokio::test(start_paused = true)]
async fn many_signals_outlive_a_restart_and_a_continue_as_new() {
    const COUNT: u32 = 3_000;
    let (store, began) = (store(), Instant::now());
    let first = engine_since(&store, began).register::<Takes>().start().await.expect("starts");
    let (client, name) = (first.client(), id("takes"));
    client.start::<Takes>(name.clone(), &COUNT, StartOptions::default()).await.expect("starts");
    for numbers in (0..COUNT).collect::<Vec<_>>().chunks(500) {
        let dedups: Vec<_> = numbers.iter().map(u32::to_string).collect();
        let all =
            numbers.iter().zip(&dedups).map(|(number, dedup)| client.signal(&name, "number", number, Some(dedup)));
        assert!(join_all(all).await.iter().all(Result::is_ok));
    }
    first.shutdown(SECOND).await;
    let second = engine_since(&store, began).register::<Takes>().start().await.expect("starts");
    let client = second.client();
    sleep(SECOND * 1_001).await;
    assert_eq!(kinds(&store, "takes").await, ["continued"]);
    client.signal(&name, "number", &(COUNT - 1), Some(&(COUNT - 1).to_string())).await.expect("was told");
    assert_eq!(kinds(&store, "takes").await, ["continued"], "the latest are known in the next run");
    client.signal(&name, "last", &7, None).await.expect("is told");
    assert_eq!(timeout(HOUR, client.handle::<Takes>(&name).result()).await, Ok(Ok(7)));
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "dropped");
    }
}

/// A step whose function holds a [`Bomb`], raced by a timer if it is to be left.
struct Holds;

impl Workflow for Holds {
    type Input = bool;
    type Output = ();
    const TYPE: &'static str = "holds";

    async fn run(ctx: Ctx, is_left: bool) -> Result<(), WorkflowError> {
        let bomb = Bomb;
        let step = ctx.step("holds", move |_| {
            let _ = &bomb;
            async move {
                if is_left {
                    std::future::pending::<()>().await;
                }
                Ok::<_, StepError>(())
            }
        });
        tokio::select! { biased; ended = step => ended, rung = ctx.sleep(SECOND) => rung }
    }
}

#[tokio::test(start_paused = true)]
async fn a_destructor_that_panics_in_what_a_step_holds_stops_nobody() {
    let store = store();
    let engine = engine(&store).register::<Holds>().start().await.expect("starts");
    let client = engine.client();
    for (name, is_left) in [("ends", false), ("left", true)] {
        let handle = client.start::<Holds>(id(name), &is_left, StartOptions::default()).await.expect("starts");
        assert_eq!(timeout(HOUR, handle.result()).await, Ok(Ok(())), "{name}");
        assert_eq!(client.signal(&id(name), "none", &(), None).await, Err(Error::NotFound(id(name))));
    }
    assert_eq!(kinds(&store, "ends").await, ["started", "step.completed", "completed"]);
    assert_eq!(kinds(&store, "left").await, ["started", "timer.fired", "completed"]);
    assert_eq!(timeout(HOUR, engine.shutdown(SECOND)).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn several_signals_behind_a_continue_as_new_belong_to_the_next_runs() {
    let store = store();
    let engine = engine(&store).register::<Runs>().start().await.expect("starts");
    let (client, name) = (engine.client(), id("runs"));
    let handle = client.start::<Runs>(name.clone(), &vec![], StartOptions::default()).await.expect("starts");
    sleep(SECOND).await;
    // All of them arrive before the first run has ended.
    let signals =
        [(1, None), (2, None), (3, None), (4, Some("four")), (5, Some("five")), (6, None), (7, Some("seven"))];
    let told = join_all(signals.iter().map(|(number, dedup)| client.signal(&name, "number", number, *dedup))).await;
    assert_eq!(told, vec![Ok(()); 7]);
    client.signal(&name, "number", &7, Some("seven")).await.expect("was told");
    client.signal(&name, "number", &99, None).await.expect("is told");
    assert_eq!(handle.result().await, Ok(vec![1, 2, 3, 4, 5, 6, 7]));
}

#[tokio::test]
async fn an_id_that_was_asked_for_can_be_started_meanwhile() {
    let store = store();
    let engine = engine(&store).register::<Quick>().register::<Asked>().start().await.expect("starts");
    let client = engine.client();
    for (number, conflict) in [Conflict::Reject, Conflict::UseExisting, Conflict::Terminate].into_iter().enumerate() {
        let id = id(&format!("asked-for-{number}"));
        // Whether there is one is not known yet.
        let asked = client.handle::<Quick>(&id);
        let options = StartOptions::default().conflict(conflict);
        let handle = client.start::<Quick>(id, &(), options).await.expect("there is none");
        assert_eq!(handle.result().await, Ok(1));
        assert!(matches!(asked.result().await, Err(HandleError::Engine(Error::NotFound(_)))));
    }
    // Somebody asks for a child again and again.
    let asking = async {
        loop {
            let _ = client.signal(&id("child"), "go", &1, None).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = asking => {}
        output = run::<Asked>(&client, "parent", &()) => assert_eq!(output, Ok(1)),
    }
}

/// Starts a child that is asked for before it is there.
struct Asked;

impl Workflow for Asked {
    type Input = ();
    type Output = u32;
    const TYPE: &'static str = "asked";

    async fn run(ctx: Ctx, (): ()) -> Result<u32, WorkflowError> {
        ctx.child::<Quick>(id("child"), &())?.await
    }
}

/// Waits for a child that waits.
struct WaitsForChild;

impl Workflow for WaitsForChild {
    type Input = ();
    type Output = u32;
    const TYPE: &'static str = "waits-for-child";

    async fn run(ctx: Ctx, (): ()) -> Result<u32, WorkflowError> {
        ctx.child::<Waits>(id("child"), &())?.await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_when_a_child_is_looked_for_does_not_lose_its_end() {
    let store = FailingStore::default();
    let engine = || Engine::builder(store.clone()).register::<Waits>().register::<WaitsForChild>();
    let first = engine().start().await.expect("starts");
    let options = StartOptions::default();
    first.client().start::<WaitsForChild>(id("parent"), &(), options).await.expect("starts");
    sleep(SECOND).await;
    first.shutdown(SECOND).await;
    // Its own driver reads it, then its parent's looks whose child it is.
    store.answers_reads(StreamId::new("workflow-child").expect("valid"), [true, false, false]);
    let second = engine().start().await.expect("starts");
    sleep(SECOND).await;
    second.client().signal(&id("child"), "go", &3, None).await.expect("is told");
    let parent = second.client().handle::<WaitsForChild>(&id("parent"));
    assert_eq!(timeout(HOUR, parent.result()).await, Ok(Ok(3)));
}

/// Lets signals come, then goes on as new and counts what has come.
struct Carries;

impl Workflow for Carries {
    type Input = bool;
    type Output = usize;
    const TYPE: &'static str = "carries";

    async fn run(ctx: Ctx, is_second: bool) -> Result<usize, WorkflowError> {
        if !is_second {
            ctx.sleep(SECOND * 60).await?;
            return Err(ctx.continue_as_new(&true));
        }
        let mut bytes = 0;
        loop {
            match ctx.signal::<String>("data").await?.len() {
                0 => return Ok(bytes),
                some => bytes += some,
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn large_signals_that_nobody_reads_are_bounded_by_their_bytes() {
    let store = store();
    let engine = engine(&store).register::<Carries>().start().await.expect("starts");
    let (client, name) = (engine.client(), id("carries"));
    let handle = client.start::<Carries>(name.clone(), &false, StartOptions::default()).await.expect("starts");
    let large = "x".repeat(1 << 20);
    let mut taken = 0;
    let refused = loop {
        match client.signal(&name, "data", &large, None).await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 20);
    };
    assert!(matches!(refused, Error::Busy(_)), "{refused}");
    assert!(taken >= 16, "{taken}");
    sleep(SECOND * 61).await;
    // There is room when some were read.
    while client.signal(&name, "data", "", None).await.is_err() {
        sleep(SECOND).await;
    }
    assert_eq!(handle.result().await, Ok(taken << 20));
}
