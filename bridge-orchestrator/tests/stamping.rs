//! Stamping workflows: what they answer, how they fail, what is told of them, and that a crash changes none of it.

mod in_memory;
mod stamping_world;

use std::sync::Arc;
use std::time::Duration;

use bridge_orchestrator::stamping::{
    DEFAULT_NAMESPACE, InputData, MAX_CONTENT_BYTES, MAX_STEPS, Relay, RelayFigures, Request, ServiceError, StampEvent,
    StampState, Stamping, StepSpec,
};
use bridge_orchestrator::{Client, Engine, ErrorCode, HandleError, StartOptions, WorkflowState};
use event_store::{MemoryReadModel, MemoryTx, ProjectionOptions, ProjectionRunner, RunOutcome};
use in_memory::{Store, engine, engine_since, id, kinds, run, store};
use serde_json::json;
use stamping_world::{Board, Fault, Mind, Stamper, services};
use tokio::time::Instant;

async fn world(stamper: &Stamper) -> (Store, Engine<Store>, Client<Store>) {
    let store = store();
    let services = Arc::new(services(stamper).build().expect("in range"));
    let engine = engine(&store).register::<Stamping>().service(services).start().await.expect("starts");
    let client = engine.client();
    (store, engine, client)
}

type Runner = ProjectionRunner<Store, MemoryReadModel<()>, Relay<Store, Board, MemoryTx<()>>>;

fn relay(store: &Store, board: &Board, attempts: u32) -> (Runner, RelayFigures) {
    let relay = Relay::new(Arc::new(Arc::clone(store)), board.clone());
    let figures = relay.figures();
    let model = Arc::new(MemoryReadModel::new());
    let pauses = Duration::from_millis(1);
    let options = ProjectionOptions::default().attempts(attempts).pauses(pauses, pauses);
    let runner = ProjectionRunner::new(Arc::new(Arc::clone(store)), model, relay, tokio::time::sleep);
    (runner.options(options), figures)
}

async fn told(store: &Store) -> Board {
    let board = Board::default();
    let (runner, _) = relay(store, &board, 1);
    assert_eq!(runner.catch_up().await.expect("it runs"), RunOutcome::CaughtUp);
    board
}

fn failure(failed: Result<impl std::fmt::Debug, HandleError>) -> (ErrorCode, String) {
    match failed {
        Err(HandleError::Failed(failure)) => (failure.code, failure.message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn content_is_hashed_and_stamped_in_two_appends() {
    let stamper = Stamper::default();
    let (store, _engine, client) = world(&stamper).await;
    let mut request = Request::of("the terms").in_namespace("contracts").in_session("s-1");
    let input = request.input_data.as_mut().expect("there is content");
    input.file_path = "/in/terms.txt".to_owned();
    input.content_type = "text/plain".to_owned();
    input.metadata.insert("author".to_owned(), "ada".to_owned());
    let stamped = run::<Stamping>(&client, "w-1", &request).await.expect("completes");

    assert_eq!(stamped.file_hash, blake3::hash(b"the terms").to_hex().to_string());
    assert_eq!(stamped.stamped_content, format!("[STAMP:{}]\nthe terms", stamped.stamp_id));
    assert_eq!((stamped.version, &*stamped.metadata_version), (1, "0.1"));
    assert_eq!((&*stamped.workflow_id, &*stamped.op_id, &*stamped.namespace), ("w-1", "w-1", "contracts"));
    assert_eq!(stamped.workflow_state, StampState::Completed);
    assert_eq!((stamped.workflow_steps_executed, stamped.intelligence_data), (3, None));
    assert!(stamped.hash_generation_time_ms > 0.0);
    assert!(stamped.processing_time_ms >= 0.0 && stamped.completed_at >= stamped.created_at);
    let says = |key| stamped.stamp_metadata.get(key).map(String::as_str);
    assert_eq!(says("stamp_id"), Some(&*stamped.stamp_id));
    assert_eq!(
        (says("workflow_id"), says("author"), says("file_path")),
        (Some("w-1"), Some("ada"), Some("/in/terms.txt"))
    );

    let asked = stamper.asked.lock().expect("whole").clone();
    assert_eq!(asked.len(), 1);
    assert_eq!((&asked[0].file_hash, asked[0].file_size_bytes), (&stamped.file_hash, 9));
    assert_eq!(kinds(&store, "w-1").await, ["started", "step.completed", "completed"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_carried_out_fails_as_invalid_before_anything_is_asked() {
    let stamper = Stamper::default();
    let (store, _engine, client) = world(&stamper).await;
    let steps = |steps: &[(&str, &str)]| {
        let steps = steps.iter().map(|(id, kind)| StepSpec::new(*id, *kind)).collect();
        Request { steps: Some(steps), ..Request::of("x") }
    };
    let hash = ("h", "hash_generation");
    let cases = [
        (Request::default(), "input_data is missing"),
        (Request { input_data: Some(InputData::default()), ..Request::default() }, "content is missing"),
        (steps(&[hash, ("t", "translation")]), "unknown step_type translation"),
        (steps(&[("s", "stamp_creation"), hash]), "needs a hash_generation before it"),
        (steps(&[hash]), "no stamp_creation"),
        (steps(&[]), "no stamp_creation"),
        (steps(&[hash; MAX_STEPS + 1]), "steps are more than"),
        (Request::of("x".repeat(MAX_CONTENT_BYTES + 1)), "bytes of content"),
        (Request::of("\n".repeat(MAX_CONTENT_BYTES / 2 + 1)), "bytes of content"),
        (Request::of("x").in_namespace(""), "namespace"),
        (Request::of("x").in_session("a\nb"), "session_id"),
    ];
    for (number, (request, why)) in cases.into_iter().enumerate() {
        let name = format!("w-{number}");
        let (code, message) = failure(run::<Stamping>(&client, &name, &request).await);
        assert_eq!(code, ErrorCode::ValidationError, "{message}");
        assert!(message.contains(why), "{message}");
        assert_eq!(client.handle::<Stamping>(&id(&name)).state().legacy(), "PENDING", "not loaded yet");
        assert_eq!(kinds(&store, &name).await, ["started", "failed"]);
    }
    assert_eq!(stamper.calls(), 0);
    let board = told(&store).await;
    let of_first: Vec<_> = board.all().into_iter().filter(|message| message.workflow_id == "w-0").collect();
    let events: Vec<_> = of_first.iter().map(|message| message.event).collect();
    assert_eq!(events, [StampEvent::StateTransition, StampEvent::WorkflowFailed]);
    let edge = (&of_first[0].payload["from_state"], &of_first[0].payload["to_state"]);
    assert_eq!(edge, (&json!("PENDING"), &json!("FAILED")));
    assert_eq!(of_first[1].payload["error_type"], "VALIDATION_ERROR");
}

#[tokio::test(start_paused = true)]
async fn a_request_may_have_its_own_steps() {
    let stamper = Stamper::default();
    let (store, _engine, client) = world(&stamper).await;
    let steps = [
        ("h", "hash_generation"),
        ("first", "stamp_creation"),
        ("think", "onextree_intelligence"),
        ("second", "stamp_creation"),
        ("v", "validation"),
    ];
    let steps = steps.map(|(id, kind)| StepSpec::new(id, kind)).to_vec();
    let request = Request { steps: Some(steps), ..Request::of("x") };
    let stamped = run::<Stamping>(&client, "w", &request).await.expect("completes");
    assert_eq!((stamped.workflow_steps_executed, stamper.calls()), (5, 2));
    let asked = stamper.asked.lock().expect("whole").clone();
    assert_eq!(stamped.stamp_id, asked[1].stamp_id, "the last stamp counts");
    assert!(asked[0].stamp_id != asked[1].stamp_id && asked[0].idempotency_key != asked[1].idempotency_key);
    assert!(asked.iter().all(|request| request.file_hash == stamped.file_hash), "a hash holds for all behind it");
    let ids = told(&store).await.all().into_iter().filter(|message| message.event == StampEvent::StepCompleted);
    let ids: Vec<_> = ids.map(|message| message.payload["step_id"].clone()).collect();
    assert_eq!(ids, ["h", "first", "think", "second", "v"]);
}

#[tokio::test(start_paused = true)]
async fn the_largest_content_is_stamped() {
    let (_store, _engine, client) = world(&Stamper::default()).await;
    let lines = Request::of("\n".repeat(MAX_CONTENT_BYTES / 2));
    let stamped = run::<Stamping>(&client, "lines", &lines).await.expect("completes");
    assert_eq!(stamped.stamped_content.lines().count(), MAX_CONTENT_BYTES / 2 + 1);
}

#[tokio::test(start_paused = true)]
async fn a_failing_service_is_tried_three_times_more_and_its_kind_is_told() {
    let cases = [
        (Fault::Says(ServiceError::Connection("no route".to_owned())), ErrorCode::ConnectionError, 4),
        (Fault::Says(ServiceError::Failed("disk".to_owned())), ErrorCode::OperationFailed, 4),
        (Fault::Says(ServiceError::Invalid("no such namespace".to_owned())), ErrorCode::ValidationError, 1),
        (Fault::Hangs, ErrorCode::Timeout, 4),
        (Fault::Panics, ErrorCode::OperationFailed, 4),
    ];
    for (number, (fault, code, calls)) in cases.into_iter().enumerate() {
        let stamper = Stamper::failing(vec![fault.clone(); 4]);
        let (store, _engine, client) = world(&stamper).await;
        let name = format!("w-{number}");
        let began = Instant::now();
        let failed = failure(run::<Stamping>(&client, &name, &Request::of("x")).await);
        assert_eq!((failed.0, stamper.calls()), (code, calls), "{fault:?}: {}", failed.1);
        if code == ErrorCode::Timeout {
            assert!(began.elapsed() >= Duration::from_secs(8), "2 s an attempt, {:?}", began.elapsed());
        }
        let asked = stamper.asked.lock().expect("whole").clone();
        assert!(asked.iter().all(|request| *request == asked[0]), "each attempt asks the same");
        let board = told(&store).await;
        let events: Vec<_> = board.all().iter().map(|message| message.event).collect();
        use StampEvent::{StateTransition, WorkflowFailed, WorkflowStarted};
        assert_eq!(events, [StateTransition, WorkflowStarted, StateTransition, WorkflowFailed]);
        assert_eq!(board.all()[3].payload["error_type"], code.as_str());
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_comes_back_is_not_noticed() {
    let faults = [Fault::Hangs, Fault::Says(ServiceError::Connection("reset".to_owned()))];
    let stamper = Stamper::failing(faults);
    let (store, _engine, client) = world(&stamper).await;
    let stamped = run::<Stamping>(&client, "w", &Request::of("x")).await.expect("completes");
    assert_eq!(stamper.calls(), 3);
    let asked = stamper.asked.lock().expect("whole").clone();
    assert!(asked.iter().all(|request| request.stamp_id == stamped.stamp_id));
    let expected = ["started", "attempt.failed", "attempt.failed", "step.completed", "completed"];
    assert_eq!(kinds(&store, "w").await, expected);
}

#[tokio::test(start_paused = true)]
async fn intelligence_that_is_slow_twice_is_done_without() {
    let mind = Mind::failing([Fault::Hangs, Fault::Hangs]);
    let store = store();
    let services = Arc::new(services(&Stamper::default()).intelligence(mind.clone()).build().expect("in range"));
    let engine = engine(&store).register::<Stamping>().service(Arc::clone(&services)).start().await.expect("starts");
    let began = Instant::now();
    let request = Request::of("x").with_intelligence();
    let stamped = run::<Stamping>(&engine.client(), "w", &request).await.expect("completes all the same");
    assert_eq!(began.elapsed().as_millis() / 100, 10, "two attempts of 500 ms");
    assert_eq!(*mind.calls.lock().expect("whole"), 2, "one retry");
    let said = stamped.intelligence_data.expect("it was to be asked");
    assert_eq!((&*said["confidence_score"], &*said["analysis_type"]), ("0.0", "fallback"));
    assert_eq!((services.counts().degraded, stamped.workflow_steps_executed), (1, 4));
    let events: Vec<_> = told(&store).await.all().iter().map(|message| message.event).collect();
    assert!(events.contains(&StampEvent::IntelligenceRequested));
    assert!(!events.contains(&StampEvent::IntelligenceReceived));
    // What failed is not remembered.
    let stamped = run::<Stamping>(&engine.client(), "again", &request).await.expect("completes");
    assert_eq!(stamped.intelligence_data.expect("asked")["confidence_score"], "0.85");
}

#[tokio::test(start_paused = true)]
async fn events_come_in_order_under_the_namespace() {
    let store = store();
    let services = services(&Stamper::default()).intelligence(Mind::default()).build().expect("in range");
    let engine = engine(&store).register::<Stamping>().service(Arc::new(services)).start().await.expect("starts");
    let request = Request::of("x").with_intelligence();
    let stamped = run::<Stamping>(&engine.client(), "w", &request).await.expect("completes");
    let board = told(&store).await;
    let expected = [
        "workflow_state_transition",
        "stamp_workflow_started",
        "workflow_step_completed",
        "blake3_hash_generated",
        "workflow_step_completed",
        "onextree_intelligence_requested",
        "onextree_intelligence_received",
        "workflow_step_completed",
        "metadata_stamp_created",
        "workflow_step_completed",
        "workflow_state_transition",
        "stamp_workflow_completed",
    ];
    assert_eq!(board.topics(), expected.map(|event| format!("{DEFAULT_NAMESPACE}.{event}")));
    let messages = board.all();
    assert!(messages.iter().all(|message| message.payload["workflow_id"] == "w"));
    assert_eq!(messages[2].payload["step_id"], "validate_input");
    assert_eq!(messages[3].payload["file_hash"], json!(stamped.file_hash));
    assert_eq!(messages[11].payload["stamp_id"], json!(stamped.stamp_id));
    assert_eq!(messages[11].payload["file_hash"], json!(stamped.file_hash));
    assert!(messages.is_sorted_by_key(|message| message.at));
    // Whoever tells them anew tells the same.
    assert_eq!(told(&store).await.all(), messages);
}

#[tokio::test(start_paused = true)]
async fn a_failed_publisher_fails_no_workflow_and_is_counted() {
    let (store, _engine, client) = world(&Stamper::default()).await;
    let board = Board::default();
    *board.failures.lock().expect("whole") = 3;
    let (runner, figures) = relay(&store, &board, 2);
    run::<Stamping>(&client, "w-1", &Request::of("x")).await.expect("completes");
    runner.catch_up().await.expect("it runs");
    // The first record is parked after two attempts, the second one told at its second.
    let parked = runner.parked().await.expect("listed");
    assert_eq!(parked.len(), 1);
    assert!(parked[0].error.contains("the board is down"), "{}", parked[0].error);
    assert_eq!((figures.counts().failed, figures.counts().published), (3, board.all().len() as u64));
    assert_eq!(board.topics().last().map(String::as_str), Some("omninode.bridge.stamp_workflow_completed"));
    let states = |board: &Board| {
        let moves = board.all().into_iter().filter(|message| message.event == StampEvent::StateTransition);
        moves.map(|message| message.payload["to_state"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(states(&board), [json!("COMPLETED")], "the state is that of the journal, told or not");
    runner.retry_parked(parked[0].position).await.expect("told");
    assert_eq!(states(&board), [json!("COMPLETED"), json!("PROCESSING")]);
    assert_eq!(figures.counts().failed, 3);
}

#[tokio::test(start_paused = true)]
async fn times_are_counted_by_operation() {
    let faults = vec![Fault::Says(ServiceError::Invalid("no".to_owned()))];
    let (store, _engine, client) = world(&Stamper::failing(faults)).await;
    run::<Stamping>(&client, "fails", &Request::of("x")).await.expect_err("told to");
    for name in ["a", "b", "c"] {
        run::<Stamping>(&client, name, &Request::of(name)).await.expect("completes");
    }
    let (runner, figures) = relay(&store, &Board::default(), 1);
    runner.catch_up().await.expect("it runs");
    let metrics = figures.metrics();
    let workflows = metrics.get("workflow_orchestration");
    assert_eq!((workflows.total_operations, workflows.successful_operations, workflows.failed_operations), (4, 3, 1));
    let hashes = metrics.get("hash_generation");
    assert_eq!((hashes.total_operations, hashes.failed_operations), (3, 0));
    assert!(hashes.min_time_ms > 0.0 && hashes.min_time_ms <= hashes.avg_time_ms());
    assert!(hashes.avg_time_ms() <= hashes.max_time_ms && hashes.max_time_ms <= hashes.total_time_ms);
    assert_eq!(metrics.get("onextree_intelligence").total_operations, 0);
    let names: Vec<_> = metrics.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["hash_generation", "stamp_creation", "validation", "workflow_orchestration"]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_the_services_changes_nothing() {
    let (store, began) = (store(), Instant::now());
    let request = Request::of("x").with_intelligence();
    let (mind, hanging) = (Mind::default(), Stamper::failing([Fault::Hangs]));
    let start = async |stamper: &Stamper| {
        let services = services(stamper).intelligence(mind.clone()).stamp_timeout(Duration::from_secs(900)).build();
        let engine = engine_since(&store, began).register::<Stamping>().service(Arc::new(services.expect("in range")));
        engine.start().await.expect("starts")
    };
    let first = start(&hanging).await;
    let handle = first.client().start::<Stamping>(id("w"), &request, StartOptions::default()).await.expect("starts");
    while hanging.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(handle.state(), WorkflowState::Processing);
    let shown = first.client().query::<StampState>(&id("w"), "workflow_state").await;
    assert_eq!(shown, Ok(Some(StampState::Processing)));
    first.shutdown(Duration::ZERO).await;

    let stamper = Stamper::default();
    let second = start(&stamper).await;
    let stamped = second.client().handle::<Stamping>(&id("w")).result().await.expect("goes on");
    assert_eq!(*mind.calls.lock().expect("whole"), 1, "its answer is in the journal");
    assert_eq!(stamped.intelligence_data.as_ref().expect("asked")["confidence_score"], "0.85");
    let (before, after) =
        (hanging.asked.lock().expect("whole")[0].clone(), stamper.asked.lock().expect("whole")[0].clone());
    assert_eq!(before, after, "the same stamp is asked for, by the same key");
    assert_eq!(stamped.stamp_id, before.stamp_id);

    second.shutdown(Duration::ZERO).await;
    let third = start(&Stamper::failing([Fault::Panics])).await;
    let again = third.client().handle::<Stamping>(&id("w")).result().await;
    assert_eq!(again, Ok(stamped), "an end is kept");
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_waits_is_pending_until_it_begins() {
    let (store, _engine, client) = world(&Stamper::default()).await;
    let later = StartOptions::default().delay(Duration::from_secs(5));
    let handle = client.start::<Stamping>(id("w"), &Request::of("x"), later).await.expect("starts");
    assert!(told(&store).await.all().is_empty());
    let stamped = handle.result().await.expect("completes");
    assert!(stamped.processing_time_ms < 1_000.0, "waiting is no work: {} ms", stamped.processing_time_ms);
    let messages = told(&store).await.all();
    assert_eq!(messages[0].payload["to_state"], "PROCESSING");
    assert_eq!(messages.last().map(|message| message.event), Some(StampEvent::WorkflowCompleted));
}

#[test]
fn states_lead_where_the_machine_says() {
    use StampState::{Completed, Failed, Pending, Processing};
    let allowed = [(Pending, Processing), (Pending, Failed), (Processing, Completed), (Processing, Failed)];
    for current in StampState::ALL {
        assert_eq!(StampState::parse(&current.as_str().to_ascii_lowercase()), Some(current));
        for target in StampState::ALL {
            let refused = current.advance(target).err().map(|refused| (refused.current, refused.target));
            let expected = (!allowed.contains(&(current, target))).then_some((current, target));
            assert_eq!(refused, expected);
        }
    }
}
