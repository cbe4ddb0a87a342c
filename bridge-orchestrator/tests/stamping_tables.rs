//! The tables of stamping workflows, on a server of their own: filled from the journals, whatever breaks, and read.

mod in_memory;
mod stamping_world;

use std::sync::Arc;
use std::time::Duration;

use bridge_orchestrator::stamping::tables::{BridgeState, MAX_ROWS, StampingTables, TablesError, WorkflowRow};
use bridge_orchestrator::stamping::{Relay, Request, ServiceError, StampEvent, StampState, Stamping};
use bridge_orchestrator::{Client, Conflict, Ctx, Engine, StartOptions, StepError, Workflow, WorkflowError};
use ephemeral_postgres::{Database, Profile, Server};
use event_store::deadpool_postgres::{Manager, Pool};
use event_store::tokio_postgres::NoTls;
use event_store::{
    PgOptions, PgReadModel, PgTx, PostgresStore, Projection, ProjectionOptions, ProjectionRunner, ReadModel as _,
    RunOutcome, Timestamp,
};
use in_memory::{Store, id};
use serde_json::json;
use stamping_world::{Board, Fault, Mind, Stamper, services};

struct World {
    /// Held so that it is there.
    _server: Server,
    database: Database,
    store: Arc<PostgresStore>,
    pool: Pool,
    _engine: Engine<Store>,
    client: Client<Store>,
}

/// Another workflow of the same store.
struct Other;

impl Workflow for Other {
    type Input = u32;
    type Output = u32;
    const TYPE: &'static str = "other";

    async fn run(ctx: Ctx, input: u32) -> Result<u32, WorkflowError> {
        ctx.step("look-alike", move |_| async move { Ok::<_, StepError>(Vec::<u32>::new()) }).await?;
        Ok(input)
    }
}

async fn world(stamper: &Stamper) -> World {
    let server = Server::start(Profile::Fast).await.expect("a server");
    let database = server.database().await.expect("a database");
    let pool = Pool::builder(Manager::new(database.config().clone(), NoTls)).max_size(8).build().expect("a pool");
    let options = PgOptions::new().listen(database.config().clone());
    let store = PostgresStore::connect(pool.clone(), options).await.expect("it connects");
    store.migrate().await.expect("it migrates");
    let store = Arc::new(store);
    let services = Arc::new(services(stamper).intelligence(Mind::default()).build().expect("in range"));
    let shared: Store = Arc::clone(&store) as _;
    let engine = Engine::builder(shared).register::<Stamping>().register::<Other>().service(services);
    let engine = engine.start().await.expect("starts");
    let client = engine.client();
    World { _server: server, database, store, pool, _engine: engine, client }
}

fn runner<P: Projection<Tx = PgTx>>(world: &World, projection: P) -> ProjectionRunner<PostgresStore, PgReadModel, P> {
    let pauses = Duration::from_millis(1);
    let options = ProjectionOptions::default().batch_events(3).attempts(2).pauses(pauses, pauses);
    let model = Arc::new(world.store.read_model());
    ProjectionRunner::new(Arc::clone(&world.store), model, projection, tokio::time::sleep).options(options)
}

impl World {
    /// The tables of a version, which have caught up.
    async fn tables(&self, version: u32) -> StampingTables {
        let tables = StampingTables::new(self.pool.clone(), version);
        tables.create().await.expect("made");
        self.catch_up(&tables).await;
        tables
    }

    async fn catch_up(&self, tables: &StampingTables) {
        let runner = runner(self, tables.projection_with_window(Duration::from_secs(3_600)));
        assert_eq!(runner.catch_up().await.expect("it runs"), RunOutcome::CaughtUp);
        assert!(runner.parked().await.expect("listed").is_empty());
    }

    async fn stamp(&self, name: &str, request: &Request) -> Option<String> {
        let handle = self.client.start::<Stamping>(id(name), request, StartOptions::default()).await.expect("starts");
        handle.result().await.ok().map(|stamped| stamped.stamp_id)
    }
}

/// Everything in the tables but when rows of windows were changed.
async fn all(tables: &StampingTables) -> (Vec<WorkflowRow>, Vec<BridgeState>) {
    let (from, to) = (Timestamp::from_micros(0), Timestamp::from_micros(i64::MAX / 2));
    let mut workflows = Vec::new();
    for session in ["ada", "bob"] {
        workflows.extend(tables.workflows_of_session(session, MAX_ROWS).await.expect("rows"));
    }
    (workflows, tables.bridge_states(from, to, MAX_ROWS).await.expect("rows"))
}

fn text(content: &str, session: &str) -> Request {
    let mut request = Request::of(content).in_namespace("contracts").in_session(session);
    request.input_data.as_mut().expect("there is content").content_type = "text/plain".to_owned();
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_say_what_journals_say() {
    let world = world(&Stamper::default()).await;
    let tables = world.tables(1).await;
    let stamp = world.stamp("w-1", &text("one", "ada").with_intelligence()).await.expect("stamped");
    assert_eq!(tables.workflow("w-1").await.expect("read"), None, "nothing is there before it is applied");
    assert_eq!(world.stamp("w-2", &Request::default().in_session("ada")).await, None, "nothing to stamp");
    world
        .client
        .start::<Other>(id("other"), &1, StartOptions::default())
        .await
        .expect("starts")
        .result()
        .await
        .expect("ends");
    world.catch_up(&tables).await;

    let row = tables.workflow("w-1").await.expect("read").expect("it is there");
    assert_eq!(
        (row.current_state, &*row.namespace, row.session_id.as_deref()),
        (StampState::Completed, "contracts", Some("ada"))
    );
    assert_eq!((row.stamp_id.as_deref(), &*row.workflow_type), (Some(&*stamp), "metadata_stamping"));
    assert_eq!(row.file_hash.as_deref(), Some(&*blake3::hash(b"one").to_hex()));
    assert_eq!((row.file_size_bytes, &*row.content_type, row.workflow_steps.len()), (3, "text/plain", 4));
    assert_eq!(row.workflow_steps.iter().map(|step| step.outcome.step_type()).next_back(), Some("stamp_creation"));
    assert_eq!(row.intelligence_data.as_ref().expect("asked")["confidence_score"], "0.85");
    assert!(row.execution_time_ms.is_some_and(|time| time > 0.0) && row.hash_generation_time_ms.is_some());
    assert!(row.started_at >= Some(row.created_at) && row.completed_at >= row.started_at && row.error.is_none());
    assert_eq!(tables.workflow_by_stamp(&stamp).await.expect("read").as_ref(), Some(&row));

    let failed = tables.workflow("w-2").await.expect("read").expect("it is there");
    assert_eq!((failed.current_state, failed.started_at), (StampState::Failed, None));
    assert_eq!(failed.error, Some(("VALIDATION_ERROR".to_owned(), "input_data is missing".to_owned())));
    assert_eq!(tables.workflow("other").await.expect("read"), None);

    let state = tables.bridge_state("contracts").await.expect("read").expect("it is there");
    assert_eq!((state.total_workflows_processed, state.total_items_aggregated, state.total_size_bytes), (1, 1, 3));
    assert_eq!(
        (state.unique_file_types, state.sample_workflows),
        (vec!["text/plain".to_owned()], vec!["w-1".to_owned()])
    );
    let other = tables.bridge_state("omninode.bridge").await.expect("read").expect("it is there");
    assert_eq!((other.total_workflows_processed, other.total_items_aggregated), (1, 0));
    assert_eq!(other.current_fsm_state, StampState::Failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_found_by_session_and_by_what_they_contain() {
    let invalid = Fault::Says(ServiceError::Invalid("no".to_owned()));
    let world = world(&Stamper::failing([invalid])).await;
    world.stamp("refused", &text("x", "bob")).await;
    for number in 0..5 {
        let request = text(&format!("content {number}"), if number < 3 { "ada" } else { "bob" });
        let request = if number % 2 == 0 { request.with_intelligence() } else { request };
        world.stamp(&format!("w-{number}"), &request).await.expect("stamped");
    }
    let tables = world.tables(1).await;
    let names = |rows: Vec<WorkflowRow>| rows.into_iter().map(|row| row.correlation_id).collect::<Vec<_>>();
    let of_ada = tables.workflows_of_session("ada", 100).await.expect("rows");
    assert_eq!(names(of_ada), ["w-2", "w-1", "w-0"], "the latest first");
    assert_eq!(names(tables.workflows_of_session("ada", 2).await.expect("rows")), ["w-2", "w-1"]);
    let part = json!({ "analysis_type": "content_analysis" });
    let mut found = names(tables.workflows_by_intelligence(&part, 100).await.expect("rows"));
    found.sort();
    assert_eq!(found, ["w-0", "w-2", "w-4"]);
    let hashed = json!([{ "file_hash": blake3::hash(b"content 3").to_hex().to_string() }]);
    assert_eq!(names(tables.workflows_by_steps(&hashed, 100).await.expect("rows")), ["w-3"]);
    let refused = tables.workflow("refused").await.expect("read").expect("it is there");
    assert_eq!(refused.error.expect("failed").0, "VALIDATION_ERROR");
    assert!(refused.stamp_id.is_none() && refused.started_at.is_some(), "it failed while it was at work");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_that_breaks_off_goes_on_and_one_that_is_built_anew_is_the_same() {
    let world = world(&Stamper::default()).await;
    let tables = StampingTables::new(world.pool.clone(), 1);
    let (one, two) = tokio::join!(tables.create(), tables.create());
    one.and(two).expect("made, however many make it");
    for number in 0..12 {
        world.stamp(&format!("w-{number}"), &text(&format!("content {number}"), "ada")).await.expect("stamped");
        // Each run is dropped somewhere; batches are small.
        let runner = runner(&world, tables.projection_with_window(Duration::from_secs(3_600)));
        let _ = tokio::time::timeout(Duration::from_millis(number), runner.run()).await;
    }
    world.catch_up(&tables).await;
    let live = all(&tables).await;
    assert_eq!(live.0.len(), 12);
    let processed: u64 = live.1.iter().map(|state| state.total_workflows_processed).sum();
    assert_eq!(processed, 12, "each counts once");
    assert!(live.1.iter().all(|state| state.version == state.total_workflows_processed));
    assert_eq!(live.1[0].unique_file_types, ["text/plain"], "a type is listed once");

    let rebuilt = world.tables(2).await;
    assert_eq!(all(&rebuilt).await, live);
    let model = world.store.read_model();
    assert_eq!(model.active_version("stamping-tables").await, Ok(Some(1)));
    runner(&world, rebuilt.projection_with_window(Duration::from_secs(3_600))).activate().await.expect("swapped");
    model.remove(&event_store::ProjectionId { name: "stamping-tables".to_owned(), version: 1 }).await.expect("removed");
    tables.drop().await.expect("dropped");
    assert!(matches!(tables.workflow("w-1").await, Err(TablesError::Database(_))));
    assert_eq!(all(&rebuilt).await, live);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_an_older_version_is_refused() {
    let world = world(&Stamper::default()).await;
    world.stamp("w-1", &text("one", "ada")).await.expect("stamped");
    let tables = world.tables(1).await;
    let read = tables.bridge_state("contracts").await.expect("read").expect("it is there");
    assert_eq!(read.version, 1);
    let (configuration, metadata) = (json!({ "batch_size": 100 }), json!({ "by": "ops" }));
    let change = async |id: &str, version| tables.configure_bridge(id, version, &configuration, &metadata).await;
    assert_eq!(change(&read.bridge_id, 1).await.expect("changed"), 2);
    let refused = change(&read.bridge_id, 1).await;
    assert!(matches!(refused, Err(TablesError::VersionConflict { expected: 1, found: Some(2), .. })), "{refused:?}");
    let absent = change("nobody", 1).await;
    assert!(matches!(absent, Err(TablesError::VersionConflict { found: None, .. })), "{absent:?}");
    let refused = change(&read.bridge_id, u64::MAX).await;
    assert!(matches!(refused, Err(TablesError::VersionConflict { .. })), "{refused:?}");

    // The projection counts on, and leaves alone what is not its own.
    world.stamp("w-2", &text("two", "ada")).await.expect("stamped");
    world.catch_up(&tables).await;
    let rows = tables.bridge_states(read.window_start, read.window_end, 10).await.expect("rows");
    let row = rows.iter().find(|row| row.bridge_id == read.bridge_id).expect("it is there");
    assert_eq!((&row.configuration, &row.aggregation_metadata), (&configuration, &metadata));
    // Where the hour has just ended, the second one is in the next window.
    assert_eq!(row.version, 1 + row.total_workflows_processed);

    // Of many who change what they have read, one a version gets through.
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let (tables, id, version) = (tables.clone(), row.bridge_id.clone(), row.version);
            tokio::spawn(async move { tables.configure_bridge(&id, version, &json!(number), &json!({})).await.is_ok() })
        })
        .collect();
    let mut changed = 0;
    for task in tasks {
        changed += u32::from(task.await.expect("no panic"));
    }
    assert_eq!(changed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_that_is_started_anew_has_a_row_of_its_own() {
    let world = world(&Stamper::default()).await;
    let first = world.stamp("w-1", &text("one", "ada").with_intelligence()).await.expect("stamped");
    let tables = world.tables(1).await;
    let options = StartOptions::default().conflict(Conflict::Terminate);
    let handle = world.client.start::<Stamping>(id("w-1"), &text("two", "bob"), options).await.expect("starts");
    let second = handle.result().await.expect("stamped").stamp_id;
    world.catch_up(&tables).await;
    let row = tables.workflow("w-1").await.expect("read").expect("it is there");
    assert_eq!((row.stamp_id, row.session_id.as_deref()), (Some(second), Some("bob")));
    assert_eq!((row.current_state, row.workflow_steps.len(), row.intelligence_data), (StampState::Completed, 3, None));
    assert_eq!(tables.workflow_by_stamp(&first).await.expect("read"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_are_found_by_their_time() {
    let world = world(&Stamper::default()).await;
    let tables = StampingTables::new(world.pool.clone(), 1);
    tables.create().await.expect("made");
    for number in 0..4 {
        world.stamp(&format!("w-{number}"), &text("x", "ada")).await.expect("stamped");
        tokio::time::sleep(Duration::from_millis(6)).await;
    }
    // So short that each workflow has one of its own.
    let runner = runner(&world, tables.projection_with_window(Duration::from_millis(1)));
    runner.catch_up().await.expect("it runs");
    let (_, states) = all(&tables).await;
    assert_eq!(states.len(), 4);
    assert!(states.iter().all(|state| state.window_end.as_micros() - state.window_start.as_micros() == 1_000));
    let between = tables.bridge_states(states[1].window_start, states[3].window_start, 10).await.expect("rows");
    assert_eq!(between, states[1..3]);
    assert_eq!(tables.bridge_state("contracts").await.expect("read").as_ref(), states.last(), "the latest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_that_postgresql_cannot_hold_park_nothing() {
    let world = world(&Stamper::default()).await;
    let mut request = text("a\0b", "ada");
    let input = request.input_data.as_mut().expect("there is content");
    input.file_path = "/in/\0".to_owned();
    input.metadata.insert("k\0".to_owned(), "v\0".to_owned());
    world.stamp("w-1", &request).await.expect("stamped");
    let tables = world.tables(1).await;
    let row = tables.workflow("w-1").await.expect("read").expect("it is there");
    assert_eq!((&*row.file_path, row.metadata), ("/in/\u{fffd}", json!({ "k\u{fffd}": "v\u{fffd}" })));
    assert_eq!(row.file_hash.as_deref(), Some(&*blake3::hash(b"a\0b").to_hex()), "the content is what it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_on_the_same_database_goes_on_where_it_was() {
    let world = world(&Stamper::default()).await;
    let board = Board::default();
    let tell = async || {
        let relay: Relay<_, _, PgTx> = Relay::new(Arc::clone(&world.store), board.clone());
        runner(&world, relay).catch_up().await.expect("it runs");
        std::mem::take(&mut *board.messages.lock().expect("whole"))
    };
    world.stamp("w-1", &text("one", "ada")).await.expect("stamped");
    let told = tell().await;
    assert_eq!(told.iter().filter(|message| message.event == StampEvent::WorkflowCompleted).count(), 1);
    assert!(tell().await.is_empty(), "what was told is not told again");
    world.stamp("w-2", &text("two", "ada")).await.expect("stamped");
    assert!(tell().await.iter().all(|message| message.workflow_id == "w-2"));
    let positions = "SELECT count(*) FROM es_checkpoints WHERE projection = 'stamping-events'";
    let client = world.database.connect().await.expect("a client");
    assert_eq!(client.query_one(positions, &[]).await.expect("counted").get::<_, i64>(0), 1);
}
