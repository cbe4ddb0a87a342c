//! The pipeline: a request is started, its content validated, hashed and stamped, the stamp reduced with 99 others, and everything committed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_orchestrator::reduce::{GroupBy, Item, Reducer};
use bridge_orchestrator::stamping::{LocalStamps, Request, Services, Stamping};
use bridge_orchestrator::{Client, Ctx, Engine, ExecutionId, StartOptions, Workflow, WorkflowError};
use deadpool_postgres::RecyclingMethod;
use event_store::{PgOptions, PostgresStore};
use harness::{Bench, BenchError};
use tokio_postgres::{Client as Database, Statement};

use crate::setting::Setting;
use crate::stamps::Stamps;

const PER_ROUND: u64 = 20;
const CONTENT: usize = 4_096;
const ITEMS: usize = 100;
const NAMESPACES: usize = 10;

/// What a request comes to: the stamp's hash, how many intents the reducer has, and the groups' keys, items and bytes.
type Reduced = (String, usize, Vec<(String, u64, i64)>);

struct Pipeline;

impl Workflow for Pipeline {
    type Input = Request;
    type Output = Reduced;
    const TYPE: &'static str = "pipeline";

    async fn run(ctx: Ctx, request: Request) -> Result<Reduced, WorkflowError> {
        let stamped = Stamping::run(ctx.clone(), request).await?;
        let others = ctx.service::<Stamps>();
        let mut items = others.items();
        items[0] = Item {
            stamp_id: &stamped.stamp_id,
            file_hash: &stamped.file_hash,
            file_path: "/in/content",
            file_size: CONTENT as u64,
            namespace: &stamped.namespace,
            content_type: "text/plain",
            workflow_id: &stamped.workflow_id,
            workflow_state: stamped.workflow_state.as_str(),
            created_at: stamped.created_at,
        };
        let mut reducer = Reducer::builder(GroupBy::Namespace).build().map_err(WorkflowError::failed)?;
        let intents = reducer.push(&items).map_err(WorkflowError::failed)?.intents().count();
        let output = reducer.finish();
        let groups = output.panes().flat_map(|pane| pane.groups().collect::<Vec<_>>());
        let groups = groups.map(|group| (group.key().to_owned(), group.count(), group.bytes() as i64)).collect();
        Ok((stamped.file_hash, intents, groups))
    }
}

struct World {
    setting: Setting,
    client: Client<PostgresStore>,
    _engine: Engine<PostgresStore>,
    started: u64,
}

impl World {
    fn new() -> Self {
        let setting = Setting::alone();
        let pool = setting.pool(4, 1, RecyclingMethod::Fast);
        let engine = setting.runtime.block_on(async {
            // The floor tells nobody of its rows either: there is one process.
            let store = PostgresStore::connect(pool, PgOptions::new().notify(false)).await.expect("a store");
            store.migrate().await.expect("migrated");
            let services = Services::builder(LocalStamps).build().expect("in range");
            let engine = Engine::builder(store).register::<Pipeline>().service(Arc::new(services));
            let engine = engine.service(Arc::new(Stamps::new(ITEMS, NAMESPACES)));
            // Nothing is removed while something is timed.
            engine.retention(Duration::from_secs(86_400), usize::MAX).start().await.expect("starts")
        });
        Self { client: engine.client(), setting, _engine: engine, started: 0 }
    }
}

/// A request of 4 KB that no other one is like, its execution, and the hash that is to come of it.
fn request(started: &mut u64) -> (ExecutionId, Request, String) {
    *started += 1;
    let content = format!("{started:<CONTENT$}");
    let hash = blake3::hash(content.as_bytes()).to_hex().to_string();
    (ExecutionId::new(format!("request-{started}")).expect("a name"), Request::of(content), hash)
}

async fn run(client: &Client<PostgresStore>, id: ExecutionId, request: &Request) -> Reduced {
    let handle = client.start::<Pipeline>(id, request, StartOptions::default()).await.expect("starts");
    handle.result().await.expect("completes")
}

/// Whether it is what had to come of a request.
fn is_right((found, intents, groups): &Reduced, hash: &str) -> bool {
    let items: u64 = groups.iter().map(|(_, count, _)| count).sum();
    found == hash && items == ITEMS as u64 && groups.len() == NAMESPACES + 1 && *intents > groups.len()
}

/// Executions of which the database has the end.
async fn committed(database: &Database) -> u64 {
    let count = "SELECT count(*) FROM es_events WHERE type = 'workflow.completed'";
    database.query_one(count, &[]).await.expect("counted").get::<_, i64>(0) as u64
}

/// One request after the other.
pub(crate) fn to_persistence(bench: &mut Bench) -> Result<(), BenchError> {
    let mut world = World::new();
    let World { setting, client, started, .. } = &mut world;
    let setting = &*setting;
    let rounds = bench.ops(
        PER_ROUND,
        || ((0..PER_ROUND).map(|_| request(started)).collect::<Vec<_>>(), Vec::new()),
        |(requests, results), number| {
            let (id, request, _) = &requests[number as usize];
            results.push(setting.runtime.block_on(run(client, id.clone(), request)));
        },
        |(requests, results)| {
            requests.iter().zip(&results).filter(|((_, _, hash), result)| is_right(result, hash)).count() as u64
        },
    )?;
    let database = setting.client();
    assert_eq!(setting.runtime.block_on(committed(&database)), rounds * PER_ROUND, "all are on disk");
    bench.proof(rounds * PER_ROUND, bench.observed());
    Ok(())
}

const TABLE: &str = "CREATE TABLE floor_rows (id bigint PRIMARY KEY, content text NOT NULL)";
const INSERT: &str = "INSERT INTO floor_rows VALUES ($1, $2)";

fn prepared(setting: &Setting) -> (Database, Statement) {
    let database = setting.client();
    let insert = setting.runtime.block_on(async {
        database.batch_execute(TABLE).await.expect("made");
        database.prepare(INSERT).await.expect("prepared")
    });
    (database, insert)
}

async fn rows(database: &Database) -> u64 {
    database.query_one("SELECT count(*) FROM floor_rows", &[]).await.expect("counted").get::<_, i64>(0) as u64
}

/// The same beside rows of the same content that are inserted and committed by themselves, in turn on one server.
pub(crate) fn beside_an_insert(bench: &mut Bench) -> Result<(), BenchError> {
    let mut world = World::new();
    let (database, insert) = prepared(&world.setting);
    let client = world.client.clone();
    let (mut right, mut inserted) = (0, 0_i64);
    let content = format!("{:<CONTENT$}", "floor");
    let World { setting, started, .. } = &mut world;
    let setting = &*setting;
    let rounds = bench.against(
        "pipeline/floor/insert-in-turn",
        || {
            let requests: Vec<_> = (0..PER_ROUND).map(|_| request(started)).collect();
            let start = Instant::now();
            let results = setting.runtime.block_on(async {
                let mut results = Vec::with_capacity(requests.len());
                for (id, request, _) in &requests {
                    results.push(run(&client, id.clone(), request).await);
                }
                results
            });
            let elapsed = start.elapsed();
            right += requests.iter().zip(&results).filter(|((_, _, hash), result)| is_right(result, hash)).count();
            (elapsed, PER_ROUND)
        },
        || {
            let start = Instant::now();
            setting.runtime.block_on(async {
                for _ in 0..PER_ROUND {
                    inserted += 1;
                    database.execute(&insert, &[&inserted, &content]).await.expect("committed");
                }
            });
            (start.elapsed(), PER_ROUND)
        },
    )?;
    let found = setting.runtime.block_on(rows(&database));
    bench.proof(2 * rounds * PER_ROUND, right as u64 + found);
    Ok(())
}

/// The floor by itself: percentiles of single inserts.
pub(crate) fn insert(bench: &mut Bench) -> Result<(), BenchError> {
    let setting = Setting::alone();
    let (database, insert) = prepared(&setting);
    let content = format!("{:<CONTENT$}", "floor");
    let mut inserted = 0_i64;
    let rounds = bench.ops(
        PER_ROUND,
        || (),
        |(), _| {
            inserted += 1;
            setting.runtime.block_on(database.execute(&insert, &[&inserted, &content])).expect("committed")
        },
        |()| PER_ROUND,
    )?;
    bench.proof(rounds * PER_ROUND, setting.runtime.block_on(rows(&database)));
    Ok(())
}
