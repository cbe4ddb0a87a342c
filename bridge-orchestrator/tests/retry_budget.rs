//! A service that is down is not asked by all executions at once, and no step fails because others have.

mod in_memory;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bridge_orchestrator::{Ctx, EngineBuilder, Error, RetryPolicy, StartOptions, StepError, Workflow, WorkflowError};
use futures::future::join_all;
use in_memory::{Store, engine, engine_since, id, kinds, store};
use tokio::time::{Instant, sleep};

const EXECUTIONS: usize = 2_000;

struct Service {
    is_up: AtomicBool,
    failed: AtomicUsize,
}

static SERVICES: [Service; 4] = [const { Service { is_up: AtomicBool::new(false), failed: AtomicUsize::new(0) } }; 4];

/// Calls a service until it is up; the number of the attempt that got through.
struct Calling<const N: usize>;

impl<const N: usize> Workflow for Calling<N> {
    type Input = u16;
    type Output = u16;
    const TYPE: &'static str = "calling";

    async fn run(ctx: Ctx, attempts: u16) -> Result<u16, WorkflowError> {
        let step = ctx.step("call", |attempt| async move {
            if SERVICES[N].is_up.load(Ordering::SeqCst) {
                return Ok(attempt.number());
            }
            SERVICES[N].failed.fetch_add(1, Ordering::SeqCst);
            Err(StepError::retryable("down"))
        });
        step.retry(RetryPolicy::DEFAULT.attempts(attempts).cap(Duration::from_secs(10))).await
    }
}

/// Attempts that a service saw which was down for a minute, when all had got through, and how long that took afterwards.
async fn outage<const N: usize>(builder: EngineBuilder<Store>, store: &Store) -> (usize, Duration) {
    let engine = builder.register::<Calling<N>>().start().await.expect("starts");
    let client = engine.client();
    let name = |n: usize| format!("call-{n}");
    let starts = (0..EXECUTIONS).map(|n| client.start::<Calling<N>>(id(&name(n)), &1_000, StartOptions::default()));
    let handles = join_all(starts.collect::<Vec<_>>()).await;
    sleep(Duration::from_secs(60)).await;
    SERVICES[N].is_up.store(true, Ordering::SeqCst);
    let up = Instant::now();
    let mut attempts = 0;
    for (n, handle) in handles.into_iter().enumerate() {
        let number = handle.expect("starts").result().await.expect("gets through");
        attempts += usize::from(number) - 1;
        let failed = kinds(store, &name(n)).await.iter().filter(|kind| *kind == "attempt.failed").count();
        assert_eq!(failed, usize::from(number) - 1, "the journal has each attempt that was made");
    }
    let failed = SERVICES[N].failed.load(Ordering::SeqCst);
    assert_eq!(failed, attempts);
    (failed, up.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_down_sees_what_the_budget_has() {
    let store_of_budget = store();
    let (failed, took) = outage::<0>(engine(&store_of_budget), &store_of_budget).await;
    // Each one's first attempt, the reserve of 100, and 10 a second.
    let most = EXECUTIONS + 100 + 60 * 10;
    assert!((most - 100..=most + 10).contains(&failed), "{failed} of at most {most}");
    let after = Duration::from_secs(EXECUTIONS as u64 / 10 + 60);
    assert!(took <= after, "all have got through after {took:?}");

    let store_of_none = store();
    let without = engine(&store_of_none).retry_budget(1.0, 100_000.0);
    let (all, took) = outage::<1>(without, &store_of_none).await;
    assert!(all > 5 * failed && took <= Duration::from_secs(11), "{all} without a budget; through after {took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_over_the_budget_waits_and_keeps_its_number() {
    let (store, began) = (store(), Instant::now());
    let builder = || engine_since(&store, began).register::<Calling<2>>().retry_budget(0.0, 0.0);
    let first = builder().start().await.expect("starts");
    let client = first.client();
    client.start::<Calling<2>>(id("waits"), &12, StartOptions::default()).await.expect("starts");
    sleep(Duration::from_secs(3_600)).await;
    // Ten tokens are what there is at first, and none come.
    assert_eq!(SERVICES[2].failed.load(Ordering::SeqCst), 1 + 10);
    assert_eq!(kinds(&store, "waits").await.len(), 1 + 11, "what waits is not journalled");
    first.shutdown(Duration::ZERO).await;

    SERVICES[2].is_up.store(true, Ordering::SeqCst);
    let second = builder().start().await.expect("starts");
    let result = second.client().handle::<Calling<2>>(&id("waits")).result().await;
    assert_eq!(result, Ok(12), "the last attempt that it has");
    assert_eq!(SERVICES[2].failed.load(Ordering::SeqCst), 11);
}

#[tokio::test(start_paused = true)]
async fn budgets_have_a_range() {
    for (share, per_second) in [(-0.1, 10.0), (1.1, 10.0), (0.2, -1.0), (0.2, f64::NAN)] {
        let started = engine(&store()).retry_budget(share, per_second).start().await;
        assert!(matches!(started, Err(Error::Invalid(_))), "{share} {per_second}");
    }
}
