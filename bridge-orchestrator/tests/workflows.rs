//! What workflows can do.

mod in_memory;

use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use bridge_orchestrator::{
    Conflict, Ctx, Engine, Error, ErrorCode, ExecutionId, Filter, HandleError, RetryPolicy, StartOptions, StepError,
    Workflow, WorkflowError, WorkflowState,
};
use event_store::{EventStore as _, Read};
use futures::future::{Either, join_all, select};
use futures::{FutureExt as _, StreamExt as _};
use in_memory::{engine, id, journal, kinds, run, store};
use tokio::time::Instant;

struct ThreeSteps;

impl Workflow for ThreeSteps {
    type Input = u64;
    type Output = u64;
    const TYPE: &'static str = "three-steps";

    async fn run(ctx: Ctx, input: u64) -> Result<u64, WorkflowError> {
        let a = ctx.step("double", move |_| async move { Ok::<_, StepError>(input * 2) }).await?;
        let b = ctx.step("add", move |_| async move { Ok::<_, StepError>(a + 1) }).await?;
        ctx.step("square", move |_| async move { Ok::<_, StepError>(b * b) }).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_has_the_value_of_each_step() {
    let store = store();
    let engine = engine(&store).register::<ThreeSteps>().start().await.expect("starts");
    assert_eq!(run::<ThreeSteps>(&engine.client(), "one", &3).await, Ok(49));
    let expected = ["started", "step.completed", "step.completed", "step.completed", "completed"];
    assert_eq!(kinds(&store, "one").await, expected);
    let events = journal(&store, "one").await;
    assert_eq!(events[3].payload(), b"49", "a value is JSON");
}

#[tokio::test(start_paused = true)]
async fn an_id_is_one_execution() {
    let store = store();
    let engine = engine(&store).register::<ThreeSteps>().start().await.expect("starts");
    let client = engine.client();
    assert_eq!(run::<ThreeSteps>(&client, "one", &3).await, Ok(49));
    let again = client.start::<ThreeSteps>(id("one"), &4, StartOptions::default()).await;
    assert_eq!(again.map(|_| ()), Err(Error::AlreadyExists(id("one"))));
    let existing = StartOptions::default().conflict(Conflict::UseExisting);
    let handle = client.start::<ThreeSteps>(id("one"), &4, existing).await.expect("exists");
    assert_eq!(handle.result().await, Ok(49));
    let terminate = StartOptions::default().conflict(Conflict::Terminate);
    let handle = client.start::<ThreeSteps>(id("one"), &4, terminate).await.expect("is removed and started");
    assert_eq!(handle.result().await, Ok(81));
    assert_eq!(handle.state(), WorkflowState::Completed);
}

#[tokio::test(start_paused = true)]
async fn what_is_unknown_is_told() {
    let store = store();
    let engine = engine(&store).start().await.expect("starts");
    let client = engine.client();
    let unregistered = client.start::<ThreeSteps>(id("one"), &3, StartOptions::default()).await;
    assert!(matches!(unregistered, Err(Error::Unregistered { version: 1, .. })));
    assert_eq!(client.signal(&id("none"), "s", &1, None).await, Err(Error::NotFound(id("none"))));
    assert_eq!(client.cancel(&id("none")).await, Err(Error::NotFound(id("none"))));
    let handle = client.handle::<ThreeSteps>(&id("none"));
    assert_eq!(handle.result().await, Err(HandleError::Engine(Error::NotFound(id("none")))));
    assert_eq!(client.list(&Filter::all()).await, Ok(Vec::new()));
    for bad in ["", "a\nb", &"x".repeat(501)] {
        assert_eq!(ExecutionId::new(bad).map_err(|error| error.code()), Err(ErrorCode::ValidationError));
    }
    let twice = Engine::builder(store).register::<ThreeSteps>().register::<ThreeSteps>().start().await;
    assert!(matches!(twice, Err(Error::RegisteredTwice { .. })));
}

static ATTEMPTS: AtomicU32 = AtomicU32::new(0);

/// Fails or panics as often as it is told.
struct Flaky;

impl Workflow for Flaky {
    type Input = (u16, bool, u16);
    type Output = (u16, String);
    const TYPE: &'static str = "flaky";

    async fn run(ctx: Ctx, (fail, panic, attempts): (u16, bool, u16)) -> Result<(u16, String), WorkflowError> {
        let step = ctx.step("flaky", move |attempt| async move {
            ATTEMPTS.fetch_add(1, Ordering::SeqCst);
            if attempt.number() <= fail {
                assert!(!panic, "told to");
                return Err(StepError::retryable("told to"));
            }
            Ok((attempt.number(), attempt.idempotency_key().to_owned()))
        });
        step.retry(RetryPolicy::DEFAULT.attempts(attempts)).await
    }
}

#[tokio::test(start_paused = true)]
async fn steps_are_tried_again_and_each_attempt_is_in_the_journal() {
    let store = store();
    let engine = engine(&store).register::<Flaky>().start().await.expect("starts");
    let client = engine.client();
    let began = Instant::now();
    assert_eq!(run::<Flaky>(&client, "flaky", &(2, false, 3)).await, Ok((3, "flaky/0".to_owned())));
    assert!(began.elapsed() <= Duration::from_secs(3));
    assert_eq!(ATTEMPTS.load(Ordering::SeqCst), 3);
    let expected = ["started", "attempt.failed", "attempt.failed", "step.completed", "completed"];
    assert_eq!(kinds(&store, "flaky").await, expected);
    let failed = run::<Flaky>(&client, "panics", &(9, true, 2)).await;
    let Err(HandleError::Failed(failure)) = failed else { panic!("{failed:?}") };
    assert_eq!(failure.code, ErrorCode::OperationFailed);
    assert_eq!(failure.message, "step flaky failed: OPERATION_FAILED: panicked: told to");
    assert_eq!(kinds(&store, "panics").await, ["started", "attempt.failed", "step.failed", "failed"]);
}

struct Slow;

impl Workflow for Slow {
    type Input = ();
    type Output = ();
    const TYPE: &'static str = "slow";

    async fn run(ctx: Ctx, (): ()) -> Result<(), WorkflowError> {
        let step = ctx.step("slow", |_| async {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            Ok::<_, StepError>(())
        });
        step.timeout(Duration::from_secs(5)).retry(RetryPolicy::NONE).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_dropped() {
    let store = store();
    let engine = engine(&store).register::<Slow>().start().await.expect("starts");
    let began = Instant::now();
    let Err(HandleError::Failed(failure)) = run::<Slow>(&engine.client(), "slow", &()).await else { panic!("fails") };
    assert_eq!(failure.code, ErrorCode::Timeout);
    assert!((5..6).contains(&began.elapsed().as_secs()));
}

/// Races a timer against a signal, inside of another race.
struct Race;

impl Workflow for Race {
    type Input = u64;
    type Output = String;
    const TYPE: &'static str = "race";

    async fn run(ctx: Ctx, seconds: u64) -> Result<String, WorkflowError> {
        let inner = async {
            match select(ctx.sleep(Duration::from_secs(seconds)), ctx.signal::<String>("word")).await {
                Either::Left((timer, _)) => timer.map(|()| "timer".to_owned()),
                Either::Right((word, _)) => word,
            }
        };
        let outer = ctx.sleep(Duration::from_secs(100));
        let winner = match select(Box::pin(inner), outer).await {
            Either::Left((winner, _)) => winner?,
            Either::Right((timer, _)) => timer.map(|()| "outer".to_owned())?,
        };
        let step = ctx.step("after", move |_| {
            let winner = winner.clone();
            async move { Ok::<_, StepError>(winner) }
        });
        step.await
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_one_wins() {
    let store = store();
    let engine = engine(&store).register::<Race>().start().await.expect("starts");
    let client = engine.client();
    assert_eq!(run::<Race>(&client, "timer", &10).await, Ok("timer".to_owned()));
    assert_eq!(run::<Race>(&client, "outer", &1_000).await, Ok("outer".to_owned()));
    let handle = client.start::<Race>(id("word"), &10, StartOptions::default()).await.expect("starts");
    client.signal(&id("word"), "word", "hello", Some("1")).await.expect("is told");
    assert_eq!(handle.result().await, Ok("hello".to_owned()));
    assert_eq!(kinds(&store, "word").await, ["started", "signalled", "step.completed", "completed"]);
}

/// Takes as many signals as it is told.
struct Inbox;

impl Workflow for Inbox {
    type Input = usize;
    type Output = Vec<u32>;
    const TYPE: &'static str = "inbox";

    async fn run(ctx: Ctx, count: usize) -> Result<Vec<u32>, WorkflowError> {
        let mut seen = Vec::new();
        for _ in 0..count {
            // Whoever stops waiting takes none with it.
            drop(ctx.signal::<u32>("n"));
            seen.push(ctx.signal("n").await?);
            ctx.expose("seen", &seen)?;
        }
        Ok(seen)
    }
}

#[tokio::test(start_paused = true)]
async fn signals_come_in_order_once_each_and_can_be_asked_about() {
    let store = store();
    let engine = engine(&store).register::<Inbox>().start().await.expect("starts");
    let client = engine.client();
    let handle = client.start::<Inbox>(id("inbox"), &4, StartOptions::default()).await.expect("starts");
    for n in 0..3_u32 {
        for _ in 0..2 {
            client.signal(&id("inbox"), "n", &n, Some(&n.to_string())).await.expect("is told");
        }
    }
    assert_eq!(client.query::<Vec<u32>>(&id("inbox"), "seen").await, Ok(Some(vec![0, 1, 2])));
    assert_eq!(client.query::<Vec<u32>>(&id("inbox"), "nothing").await, Ok(None));
    client.signal(&id("inbox"), "n", &0, None).await.expect("is another one");
    assert_eq!(handle.result().await, Ok(vec![0, 1, 2, 0]));
    assert_eq!(client.signal(&id("inbox"), "n", &9, None).await, Err(Error::NotFound(id("inbox"))));
}

/// Two wait for one name; whoever is answered first is not asked, and goes.
struct Heirs;

impl Workflow for Heirs {
    type Input = ();
    type Output = u32;
    const TYPE: &'static str = "heirs";

    async fn run(ctx: Ctx, (): ()) -> Result<u32, WorkflowError> {
        let (mut first, mut second) = (ctx.signal::<u32>("n"), ctx.signal::<u32>("n"));
        let both_wait = poll_fn(|cx| {
            assert!(first.poll_unpin(cx).is_pending() && second.poll_unpin(cx).is_pending());
            Poll::Ready(())
        });
        both_wait.await;
        // The signal comes meanwhile, and is the first one's.
        ctx.sleep(Duration::from_secs(1)).await?;
        drop(first);
        second.await
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_is_not_taken_is_for_the_next() {
    let store = store();
    let engine = engine(&store).register::<Heirs>().start().await.expect("starts");
    let client = engine.client();
    let handle = client.start::<Heirs>(id("heirs"), &(), StartOptions::default()).await.expect("starts");
    client.signal(&id("heirs"), "n", &5, None).await.expect("is told");
    assert_eq!(handle.result().await, Ok(5));
}

struct Parallel;

impl Workflow for Parallel {
    type Input = u64;
    type Output = u64;
    const TYPE: &'static str = "parallel";

    async fn run(ctx: Ctx, count: u64) -> Result<u64, WorkflowError> {
        let steps = (0..count).map(|n| {
            ctx.step("one", move |_| async move {
                tokio::time::sleep(Duration::from_millis(10 + n % 3)).await;
                Ok::<_, StepError>(n)
            })
            .into_future()
        });
        join_all(steps).await.into_iter().sum()
    }
}

#[tokio::test(start_paused = true)]
async fn steps_run_side_by_side() {
    let store = store();
    let engine = engine(&store).register::<Parallel>().start().await.expect("starts");
    let began = Instant::now();
    assert_eq!(run::<Parallel>(&engine.client(), "parallel", &100).await, Ok(4_950));
    assert!(began.elapsed() < Duration::from_millis(20), "{:?}", began.elapsed());
}

/// Cleans up when it is cancelled.
struct Cleaning;

impl Workflow for Cleaning {
    type Input = ();
    type Output = ();
    const TYPE: &'static str = "cleaning";

    async fn run(ctx: Ctx, (): ()) -> Result<(), WorkflowError> {
        let result = ctx.sleep(Duration::from_secs(1_000_000)).await;
        assert_eq!(result, Err(WorkflowError::Cancelled));
        let refused = ctx.step("refused", |_| async { Ok::<_, StepError>(()) }).await;
        assert_eq!(refused, Err(WorkflowError::Cancelled));
        ctx.cancelled().await;
        let clean = async {
            ctx.step("clean", |_| async { Ok::<_, StepError>(()) }).await?;
            ctx.sleep(Duration::from_secs(5)).await
        };
        ctx.shield(clean).await?;
        result
    }
}

#[tokio::test(start_paused = true)]
async fn cancelled_executions_clean_up() {
    let store = store();
    let engine = engine(&store).register::<Cleaning>().start().await.expect("starts");
    let client = engine.client();
    let handle = client.start::<Cleaning>(id("one"), &(), StartOptions::default()).await.expect("starts");
    client.cancel(&id("one")).await.expect("is asked");
    client.cancel(&id("one")).await.expect("is asked again");
    let Err(HandleError::Failed(failure)) = handle.result().await else { panic!("cancelled") };
    assert_eq!(failure.code, ErrorCode::Cancelled);
    assert_eq!(handle.state(), WorkflowState::Cancelled);
    let expected = ["started", "cancel.requested", "step.completed", "timer.fired", "failed"];
    assert_eq!(kinds(&store, "one").await, expected);
}

#[tokio::test(start_paused = true)]
async fn deadlines_cancel_and_delays_count() {
    let store = store();
    let engine = engine(&store).register::<Cleaning>().start().await.expect("starts");
    let client = engine.client();
    let options = StartOptions::default().deadline(Duration::from_secs(60)).delay(Duration::from_secs(30));
    let began = Instant::now();
    let handle = client.start::<Cleaning>(id("late"), &(), options).await.expect("starts");
    let Err(HandleError::Failed(failure)) = handle.result().await else { panic!("too late") };
    assert_eq!((failure.code, began.elapsed().as_secs()), (ErrorCode::Timeout, 65));
    assert_eq!(handle.state(), WorkflowState::Failed);
    assert_eq!(kinds(&store, "late").await[1], "timer.fired");
}

#[tokio::test(start_paused = true)]
async fn terminated_executions_end_where_they_stand() {
    let store = store();
    let engine = engine(&store).register::<Cleaning>().start().await.expect("starts");
    let client = engine.client();
    let handle = client.start::<Cleaning>(id("ended"), &(), StartOptions::default()).await.expect("starts");
    let name = id("ended");
    let (first, second) = tokio::join!(client.terminate(&name), client.terminate(&name));
    assert_eq!((first, second), (Ok(()), Err(Error::NotFound(id("ended")))), "it ends once");
    assert_eq!(handle.result().await.map_err(|error| error.to_string()), Err("CANCELLED: terminated".to_owned()));
    assert_eq!(kinds(&store, "ended").await, ["started", "failed"]);
}

struct Booking;

impl Workflow for Booking {
    type Input = bool;
    type Output = ();
    const TYPE: &'static str = "booking";

    async fn run(ctx: Ctx, breaks: bool) -> Result<(), WorkflowError> {
        let mut saga = ctx.saga();
        let booked = async {
            for (book, cancel) in [("flight", "cancel-flight"), ("hotel", "cancel-hotel")] {
                ctx.step(book, |_| async { Ok::<_, StepError>(()) }).await?;
                saga.undo(
                    cancel,
                    move |_| async move { if breaks { Err(StepError::terminal("closed")) } else { Ok(()) } },
                );
            }
            ctx.step("pay", |_| async { Err::<(), _>(StepError::terminal("no money")) }).await
        };
        let booked = booked.await;
        saga.settle(booked).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_done_is_undone_in_reverse() {
    let store = store();
    let engine = engine(&store).register::<Booking>().start().await.expect("starts");
    let client = engine.client();
    let Err(HandleError::Failed(failure)) = run::<Booking>(&client, "one", &false).await else { panic!("fails") };
    assert_eq!(failure.message, "step pay failed: OPERATION_FAILED: no money");
    let events = journal(&store, "one").await;
    let names: Vec<_> = events[1..6].iter().map(|event| String::from_utf8_lossy(&event.metadata()[7..])).collect();
    assert_eq!(names, ["flight", "hotel", "pay", "cancel-hotel", "cancel-flight"]);
    let Err(HandleError::Failed(failure)) = run::<Booking>(&client, "two", &true).await else { panic!("fails") };
    assert!(failure.message.contains("cancel-hotel") && failure.message.contains("cancel-flight"), "{failure}");
}

struct Parent;

impl Workflow for Parent {
    type Input = Vec<u64>;
    type Output = u64;
    const TYPE: &'static str = "parent";

    async fn run(ctx: Ctx, inputs: Vec<u64>) -> Result<u64, WorkflowError> {
        let mut children = Vec::new();
        for input in &inputs {
            children.push(ctx.child::<ThreeSteps>(id(&format!("{}-{input}", ctx.execution())), input)?);
        }
        join_all(children).await.into_iter().sum()
    }
}

struct Waiting;

impl Workflow for Waiting {
    type Input = ();
    type Output = ();
    const TYPE: &'static str = "waiting";

    async fn run(ctx: Ctx, (): ()) -> Result<(), WorkflowError> {
        ctx.child::<Cleaning>(id("the-child"), &())?.await
    }
}

#[tokio::test(start_paused = true)]
async fn children_are_started_once_and_awaited() {
    let store = store();
    let engine = engine(&store).register::<Parent>().register::<ThreeSteps>().start().await.expect("starts");
    let client = engine.client();
    assert_eq!(run::<Parent>(&client, "family", &vec![1, 2, 3]).await, Ok(9 + 25 + 49));
    assert_eq!(kinds(&store, "family-2").await.len(), 5);
    // The id is taken by somebody else's.
    client.start::<ThreeSteps>(id("other-1"), &1, StartOptions::default()).await.expect("starts");
    let Err(HandleError::Failed(failure)) = run::<Parent>(&client, "other", &vec![1]).await else { panic!("taken") };
    assert_eq!(failure.code, ErrorCode::Conflict);
}

#[tokio::test(start_paused = true)]
async fn children_are_cancelled_with_their_parent() {
    let store = store();
    let engine = engine(&store).register::<Waiting>().register::<Cleaning>().start().await.expect("starts");
    let client = engine.client();
    let handle = client.start::<Waiting>(id("waiting"), &(), StartOptions::default()).await.expect("starts");
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.cancel(&id("waiting")).await.expect("is asked");
    assert!(handle.result().await.is_err());
    assert!(client.handle::<Cleaning>(&id("the-child")).result().await.is_err());
    assert_eq!(kinds(&store, "the-child").await[1], "cancel.requested");
}

struct Counting;

impl Workflow for Counting {
    type Input = u64;
    type Output = (u64, Vec<u64>);
    const TYPE: &'static str = "counting";

    async fn run(ctx: Ctx, from: u64) -> Result<(u64, Vec<u64>), WorkflowError> {
        ctx.step("count", move |_| async move { Ok::<_, StepError>(from) }).await?;
        if from < 5 {
            ctx.sleep(Duration::from_secs(1)).await?;
            return Err(ctx.continue_as_new(&(from + 1)));
        }
        let mut signals = Vec::new();
        for _ in 0..2 {
            signals.push(ctx.signal("n").await?);
        }
        Ok((from, signals))
    }
}

#[tokio::test(start_paused = true)]
async fn executions_go_on_as_new_and_keep_their_signals() {
    let store = store();
    let engine = engine(&store).register::<Counting>().start().await.expect("starts");
    let client = engine.client();
    let handle = client.start::<Counting>(id("count"), &0, StartOptions::default()).await.expect("starts");
    client.signal(&id("count"), "n", &7, Some("seven")).await.expect("is told");
    tokio::time::sleep(Duration::from_secs(3)).await;
    client.signal(&id("count"), "n", &7, Some("seven")).await.expect("was told");
    client.signal(&id("count"), "n", &8, Some("eight")).await.expect("is told");
    assert_eq!(handle.result().await, Ok((5, vec![7, 8])));
    assert_eq!(kinds(&store, "count").await[0], "continued", "what was before is removed");
}

struct Large;

impl Workflow for Large {
    type Input = usize;
    type Output = usize;
    const TYPE: &'static str = "large";

    async fn run(ctx: Ctx, bytes: usize) -> Result<usize, WorkflowError> {
        let text = ctx.step("large", move |_| async move { Ok::<_, StepError>("x".repeat(bytes)) }).await?;
        Ok(text.len())
    }
}

#[tokio::test(start_paused = true)]
async fn values_have_a_bound() {
    let store = store();
    let engine = engine(&store).register::<Large>().start().await.expect("starts");
    let client = engine.client();
    assert_eq!(run::<Large>(&client, "fits", &100_000).await, Ok(100_000));
    let Err(HandleError::Failed(failure)) = run::<Large>(&client, "not", &(3 << 20)).await else { panic!("too large") };
    assert_eq!(failure.code, ErrorCode::PayloadTooLarge);
    let refused = client.signal(&id("fits"), "s", &"x".repeat(3 << 20), None).await;
    assert_eq!(refused.map_err(|error| error.code()), Err(ErrorCode::PayloadTooLarge));
}

#[tokio::test(start_paused = true)]
async fn ended_executions_are_removed() {
    let store = store();
    let engine = engine(&store).register::<ThreeSteps>().retention(Duration::from_secs(60), 5);
    let engine = engine.start().await.expect("starts");
    let client = engine.client();
    for n in 0..20 {
        run::<ThreeSteps>(&client, &format!("n-{n}"), &n).await.expect("completes");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(store.read(Read::all()).count().await, 5 * 5);
    tokio::time::sleep(Duration::from_secs(100)).await;
    run::<ThreeSteps>(&client, "last", &1).await.expect("completes");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(store.read(Read::all()).count().await, 5, "those that are too old go with the next one");
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_the_place_of_another_is_not_removed_with_it() {
    let store = store();
    let engine = engine(&store).register::<ThreeSteps>().register::<Inbox>().retention(Duration::from_secs(3_600), 2);
    let engine = engine.start().await.expect("starts");
    let client = engine.client();
    run::<ThreeSteps>(&client, "name", &1).await.expect("completes");
    let instead = StartOptions::default().conflict(Conflict::Terminate);
    let next = client.start::<Inbox>(id("name"), &2, instead).await.expect("takes its place");
    client.signal(&id("name"), "n", &1_u32, None).await.expect("told");
    // The first one's end is the oldest by far.
    for n in 0..5 {
        run::<ThreeSteps>(&client, &format!("n-{n}"), &n).await.expect("completes");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(kinds(&store, "name").await, ["started", "signalled"]);
    client.signal(&id("name"), "n", &2_u32, None).await.expect("told");
    assert_eq!(next.result().await, Ok(vec![1, 2]));
}
