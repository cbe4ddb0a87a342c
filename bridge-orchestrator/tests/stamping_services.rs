//! What stands between a stamping workflow and its services, and how an engine hands services to workflows.

mod in_memory;
mod stamping_world;

use std::sync::Arc;
use std::time::Duration;

use bridge_orchestrator::route::{BreakerState, CircuitBreaker, RouteError};
use bridge_orchestrator::stamping::{Request, ServiceError, Services, StampRequest, Stamping};
use bridge_orchestrator::{Ctx, ErrorCode, HandleError, Parked, StepError, Workflow, WorkflowError};
use in_memory::{engine, run, store};
use stamping_world::{Fault, Mind, Stamper, services};
use tokio::time::Instant;

fn down() -> Fault {
    Fault::Says(ServiceError::Connection("down".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn five_failures_open_the_breaker_for_a_minute() {
    let stamper = Stamper::failing(vec![down(); 5]);
    let services = Arc::new(services(&stamper).stamp_retries(0, Duration::ZERO).build().expect("in range"));
    let engine = engine(&store()).register::<Stamping>().service(Arc::clone(&services)).start().await.expect("starts");
    let client = engine.client();
    let fails = async |name: &str| match run::<Stamping>(&client, name, &Request::of("x")).await {
        Err(HandleError::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    };
    for number in 0..5 {
        assert_eq!(fails(&format!("w-{number}")).await.code, ErrorCode::ConnectionError);
    }
    assert_eq!(services.breaker(), BreakerState::Open);
    let refused = fails("refused").await;
    assert_eq!(refused.code, ErrorCode::OperationFailed);
    assert!(refused.message.contains("breaker is open"), "{}", refused.message);
    assert_eq!((stamper.calls(), services.counts().refused), (5, 1), "a service that fails is left alone");

    tokio::time::advance(Duration::from_secs(61)).await;
    for number in 0..3 {
        run::<Stamping>(&client, &format!("probe-{number}"), &Request::of("x")).await.expect("let through");
    }
    assert_eq!(services.breaker(), BreakerState::Closed { failures: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_has_failed() {
    let stamper = Stamper::failing(vec![Fault::Panics; 5]);
    let services = Arc::new(services(&stamper).stamp_retries(0, Duration::ZERO).build().expect("in range"));
    let engine = engine(&store()).register::<Stamping>().service(Arc::clone(&services)).start().await.expect("starts");
    for number in 0..5 {
        let failed = run::<Stamping>(&engine.client(), &format!("w-{number}"), &Request::of("x")).await;
        assert!(matches!(failed, Err(HandleError::Failed(_))), "{failed:?}");
    }
    assert_eq!(services.breaker(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn what_a_service_refuses_is_no_fault_of_its_own() {
    let refuses = Fault::Says(ServiceError::Invalid("no".to_owned()));
    let services = services(&Stamper::failing(vec![refuses; 9])).build().expect("in range");
    for _ in 0..9 {
        let made = services.stamp_batch(&[StampRequest::of("s", "h", "n")]).await;
        assert_eq!(made.expect_err("told to").error.code(), ErrorCode::ValidationError);
    }
    assert_eq!(services.breaker(), BreakerState::Closed { failures: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_asked_for_a_hundred_at_a_time_with_ten_seconds_each() {
    let stamper = Stamper::failing([Fault::Hangs, down()]);
    let services = services(&stamper).build().expect("in range");
    let requests: Vec<_> = (0..250).map(|number| StampRequest::of(format!("s-{number}"), "h", "n")).collect();
    let began = Instant::now();
    let stamps = services.stamp_batch(&requests).await.expect("made");
    assert!(stamps.iter().map(|stamp| &stamp.stamp_id).eq(requests.iter().map(|request| &request.stamp_id)));
    assert_eq!(*stamper.batches.lock().expect("whole"), [100, 100, 100, 100, 50], "the first one three times");
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_says_what_was_made() {
    let stamper = Stamper::default();
    let services = services(&stamper).build().expect("in range");
    let requests: Vec<_> = (0..101).map(|number| StampRequest::of(format!("s-{number}"), "h", "n")).collect();
    stamper.faults.lock().expect("whole").extend(vec![down(); 4]);
    let failed = services.stamp_batch(&requests[..1]).await.expect_err("tried four times");
    assert_eq!((failed.stamps.len(), failed.error.code()), (0, ErrorCode::ConnectionError));
    assert_eq!(services.breaker(), BreakerState::Closed { failures: 4 });
    stamper.short.lock().expect("whole").push_back(100);
    let failed = services.stamp_batch(&requests).await.expect_err("one stamp is missing");
    assert_eq!((failed.stamps.len(), failed.error.code()), (100, ErrorCode::OperationFailed));
}

#[tokio::test(start_paused = true)]
async fn intelligence_is_remembered_for_five_minutes() {
    let mind = Mind::failing([down()]);
    let services = Arc::new(services(&Stamper::default()).intelligence(mind.clone()).build().expect("in range"));
    let engine = engine(&store()).register::<Stamping>().service(Arc::clone(&services)).start().await.expect("starts");
    let client = engine.client();
    let confidence = async |name: &str, content: &str| {
        let stamped = run::<Stamping>(&client, name, &Request::of(content).with_intelligence()).await;
        stamped.expect("completes").intelligence_data.expect("asked")["confidence_score"].clone()
    };
    let calls = || *mind.calls.lock().expect("whole");
    assert_eq!(confidence("a", "x").await, "0.85", "the retry answers");
    assert_eq!(calls(), 2);
    tokio::time::advance(Duration::from_secs(299)).await;
    assert_eq!(confidence("b", "x").await, "0.85");
    assert_eq!((calls(), services.counts().remembered), (2, 1));
    assert_eq!(confidence("c", "y").await, "0.85", "other content is another question");
    assert_eq!(calls(), 3);
    tokio::time::advance(Duration::from_secs(2)).await;
    confidence("d", "x").await;
    assert_eq!(calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn without_intelligence_there_is_the_fallback() {
    let services = services(&Stamper::default()).build().expect("in range");
    let engine = engine(&store()).register::<Stamping>().service(Arc::new(services)).start().await.expect("starts");
    let stamped = run::<Stamping>(&engine.client(), "w", &Request::of("x").with_intelligence()).await;
    let said = stamped.expect("completes").intelligence_data.expect("it was to be asked");
    assert_eq!(said["confidence_score"], "0.0");
    assert!(said["recommendations"].contains("CONNECTION_ERROR"), "{said:?}");
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let breaker = Services::builder(Stamper::default()).breaker(CircuitBreaker::builder().failures(0)).build();
    assert!(matches!(breaker, Err(RouteError::OutOfRange { option: "failures", .. })));
    let pause = services(&Stamper::default()).stamp_retries(3, Duration::from_secs(61)).build();
    assert!(matches!(pause, Err(RouteError::OutOfRange { .. })));
}

struct Tariff(u32);

/// Asks its engine for a tariff.
struct Priced;

impl Workflow for Priced {
    type Input = u32;
    type Output = u32;
    const TYPE: &'static str = "priced";

    async fn run(ctx: Ctx, count: u32) -> Result<u32, WorkflowError> {
        let tariff = ctx.service::<Tariff>();
        ctx.step("price", move |_| {
            let price = tariff.0 * count;
            async move { Ok::<_, StepError>(price) }
        })
        .await
    }
}

#[tokio::test(start_paused = true)]
async fn a_workflow_is_given_what_its_engine_has() {
    let engine_of = |tariff| engine(&store()).service(Arc::new(Tariff(tariff))).register::<Priced>();
    let (cheap, dear) = (engine_of(2).start().await.expect("starts"), engine_of(9).start().await.expect("starts"));
    assert_eq!(run::<Priced>(&cheap.client(), "p", &3).await, Ok(6));
    assert_eq!(run::<Priced>(&dear.client(), "p", &3).await, Ok(27), "each engine has its own");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_forgotten_fails_no_execution() {
    let store = store();
    let forgetful = engine(&store).register::<Priced>().start().await.expect("starts");
    let parked = run::<Priced>(&forgetful.client(), "p", &3).await;
    let Err(HandleError::Parked(Parked::Poisoned { last, .. })) = parked else { panic!("{parked:?}") };
    assert!(last.contains("no service") && last.contains("Tariff"), "{last}");
}
