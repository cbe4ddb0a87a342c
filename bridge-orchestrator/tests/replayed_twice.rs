//! Functions that do something else when they are run again are found by the first turn in which they do.
#![cfg(feature = "testkit")]

mod in_memory;

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use bridge_orchestrator::{Ctx, HandleError, Parked, StartOptions, StepError, Workflow, WorkflowError};
use event_store::Timestamp;
use futures::StreamExt as _;
use futures::future::{Either, join_all, select};
use futures::stream::FuturesUnordered;
use in_memory::{engine, engine_since, id, run, store};
use tokio::time::Instant;

/// Does all that can be done, deterministically.
struct Tidy;

impl Workflow for Tidy {
    type Input = u32;
    type Output = (u64, Vec<u32>);
    const TYPE: &'static str = "tidy";

    async fn run(ctx: Ctx, life: u32) -> Result<(u64, Vec<u32>), WorkflowError> {
        let drawn = ctx.random_u64();
        let mut saga = ctx.saga();
        let steps = (0..40).map(|n| {
            ctx.step("wait", move |attempt| async move {
                tokio::time::sleep(Duration::from_millis(u64::from(n * 7 % 11))).await;
                if n % 13 == 0 && attempt.number() == 1 { Err(StepError::retryable("not yet")) } else { Ok(n) }
            })
            .into_future()
        });
        let mut order = Vec::new();
        let mut steps: FuturesUnordered<_> = steps.collect();
        while let Some(n) = steps.next().await {
            order.push(n?);
            ctx.expose("order", &order)?;
        }
        saga.undo("undo", |_| async { Ok(()) });
        if ctx.patched("sleeps") {
            ctx.sleep(Duration::from_secs(1)).await?;
        }
        let first = select(ctx.sleep_until(ctx.now()), ctx.signal::<u32>("word")).await;
        match first {
            Either::Left((timer, word)) => {
                timer?;
                order.push(word.await?);
            }
            Either::Right((word, _)) => order.push(word?),
        }
        let children = (0..3).map(|n| ctx.child::<Child>(id(&format!("{}/{life}/{n}", ctx.execution())), &n));
        let children = children.collect::<Result<Vec<_>, WorkflowError>>()?;
        order.extend(join_all(children).await.into_iter().collect::<Result<Vec<_>, _>>()?);
        ctx.shield(saga.unwind()).await;
        if life == 0 {
            return Err(ctx.continue_as_new(&1));
        }
        Ok((drawn, order))
    }
}

struct Child;

impl Workflow for Child {
    type Input = u32;
    type Output = u32;
    const TYPE: &'static str = "child";

    async fn run(ctx: Ctx, n: u32) -> Result<u32, WorkflowError> {
        ctx.step("one", move |_| async move { Ok::<_, StepError>(n) }).await
    }
}

#[tokio::test(start_paused = true)]
async fn deterministic_functions_are_left_alone() {
    let (store, began) = (store(), Instant::now());
    let engine = || engine_since(&store, began).register::<Tidy>().register::<Child>().replay_twice();
    let first = engine().start().await.expect("starts");
    first.client().start::<Tidy>(id("tidy"), &0, StartOptions::default()).await.expect("starts");
    tokio::time::sleep(Duration::from_millis(500)).await;
    first.shutdown(Duration::ZERO).await;

    let second = engine().start().await.expect("starts");
    for n in 0..2 {
        second.client().signal(&id("tidy"), "word", &(100 + n), None).await.expect("is told");
    }
    let (_, order) = second.client().handle::<Tidy>(&id("tidy")).result().await.expect("completes");
    assert_eq!(order.len(), 44);
    assert_eq!(order[..40].iter().sum::<u32>(), 780, "each step once: {order:?}");
    assert_eq!(order[40..], [101, 0, 1, 2]);
}

/// What a function takes from elsewhere.
const ORDER_OF_A_MAP: u32 = 0;
const CLOCK: u32 = 1;
const CHANCE: u32 = 2;
const CLOCK_IN_A_TIMER: u32 = 3;
const CHANCE_IN_ITS_END: u32 = 4;
const COUNTED_RUNS: u32 = 5;

struct Untidy<const N: u32>;

impl<const N: u32> Workflow for Untidy<N> {
    type Input = ();
    type Output = u64;
    const TYPE: &'static str = "untidy";

    async fn run(ctx: Ctx, (): ()) -> Result<u64, WorkflowError> {
        ctx.step("before", |_| async { Ok::<_, StepError>(()) }).await?;
        match N {
            ORDER_OF_A_MAP => {
                // Both orders of twenty are the same once in 20! times.
                let map: HashMap<u32, u32> = (0..20).map(|n| (n, n)).collect();
                for key in map.into_keys() {
                    ctx.signal::<u32>(&format!("of {key}")).await?;
                }
            }
            CLOCK => {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                ctx.expose("since", &since.map_err(WorkflowError::failed)?.as_nanos().to_string())?;
            }
            CHANCE => {
                let name = if fastrand::u64(..) == 0 { "a" } else { "b" };
                ctx.expose(name, &fastrand::u64(..))?;
            }
            CLOCK_IN_A_TIMER => {
                std::thread::sleep(Duration::from_millis(1));
                ctx.sleep_until(Timestamp::now()).await?;
            }
            CHANCE_IN_ITS_END => return Ok(fastrand::u64(..)),
            _ => {
                static RUNS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
                let runs = RUNS.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let child = ctx.child::<Child>(id("the-child"), &(runs as u32))?;
                child.await?;
            }
        }
        ctx.step("after", |_| async { Ok::<_, StepError>(1) }).await
    }
}

/// What the first and the second run have done.
async fn found<const N: u32>() -> (usize, String, String) {
    let store = store();
    let engine = engine(&store).register::<Untidy<N>>().register::<Child>().replay_twice();
    let engine = engine.start().await.expect("starts");
    match run::<Untidy<N>>(&engine.client(), "untidy", &()).await {
        Err(HandleError::Parked(Parked::RunsDiffer { place, first, second })) => {
            assert_ne!(first, second);
            (place, first, second)
        }
        other => panic!("{N}: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_same_again_is_found_in_its_turn() {
    let (place, first, second) = found::<ORDER_OF_A_MAP>().await;
    assert!(place >= 2 && first.contains("signal of ") && second.contains("signal of "), "{first}; {second}");
    let (place, first, second) = found::<CLOCK>().await;
    assert!(place == 2 && first.ends_with("as since") && second.ends_with("as since"), "{first}; {second}");
    let (_, first, second) = found::<CHANCE>().await;
    assert!(first.starts_with("shows ") && second.starts_with("shows "), "{first}; {second}");
    let (_, first, second) = found::<CLOCK_IN_A_TIMER>().await;
    assert!(first.contains("a timer until ") && second.contains("a timer until "), "{first}; {second}");
    let (_, first, second) = found::<CHANCE_IN_ITS_END>().await;
    assert!(first.starts_with("returns ") && second.starts_with("returns "), "{first}; {second}");
    let (_, first, second) = found::<COUNTED_RUNS>().await;
    assert!(first.ends_with("with 0") && second.ends_with("with 1"), "{first}; {second}");
}

#[tokio::test(start_paused = true)]
async fn without_it_such_a_function_completes_and_nobody_knows() {
    let store = store();
    let engine = engine(&store).register::<Untidy<CHANCE_IN_ITS_END>>().start().await.expect("starts");
    assert!(run::<Untidy<CHANCE_IN_ITS_END>>(&engine.client(), "untidy", &()).await.is_ok());
}
