//! Workflows whose journals are in PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use bridge_orchestrator::{Client, Ctx, Engine, ExecutionId, StartOptions, StepError, Workflow, WorkflowError};
use bridge_orchestrator_contest::{Database, Orchestrates, step};
use deadpool_postgres::{Manager, Pool};
use event_store::{PgOptions, PostgresStore};
use tokio_postgres::NoTls;

struct Steps;

impl Workflow for Steps {
    type Input = u64;
    type Output = u64;
    const TYPE: &'static str = "steps";

    async fn run(ctx: Ctx, input: u64) -> Result<u64, WorkflowError> {
        let value = ctx.step("one", move |_| async move { Ok::<_, StepError>(step(1, input)) }).await?;
        let value = ctx.step("two", move |_| async move { Ok::<_, StepError>(step(2, value)) }).await?;
        ctx.step("three", move |_| async move { Ok::<_, StepError>(step(3, value)) }).await
    }
}

/// An engine with its defaults, and one client of it.
pub(crate) struct Durable {
    engine: Engine<Arc<PostgresStore>>,
    client: Client<Arc<PostgresStore>>,
}

/// The most connections of its pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connections(usize);

impl Orchestrates for Durable {
    type Setting = Connections;
    const NOTE: &'static str = "Engine on a PostgresStore, with their defaults";
    const SETTINGS: &'static [Connections] = &[Connections(4)];
    const COMPLETED: &'static str = "SELECT count(*) FROM es_events \
        WHERE type = 'workflow.completed' AND stream IN (SELECT 'workflow-' || id FROM unnest($1::text[]) AS id)";

    async fn open(database: &Database, Connections(connections): Connections) -> Result<Self, String> {
        let config = database.config();
        let pool = Pool::builder(Manager::new(config.clone(), NoTls)).max_size(connections).build();
        let pool = pool.map_err(|error| error.to_string())?;
        let store = PostgresStore::connect(pool, PgOptions::new().listen(config.clone())).await;
        let store = Arc::new(store.map_err(|error| error.to_string())?);
        store.migrate().await.map_err(|error| error.to_string())?;
        let engine = Engine::builder(store).register::<Steps>().start().await.map_err(|error| error.to_string())?;
        Ok(Self { client: engine.client(), engine })
    }

    async fn run(&self, id: &str, input: u64) -> u64 {
        let id = ExecutionId::new(id).expect("valid");
        let started = self.client.start::<Steps>(id, &input, StartOptions::default()).await;
        started.expect("it starts").result().await.expect("it completes")
    }

    async fn close(self) {
        self.engine.shutdown(Duration::from_secs(1)).await;
    }
}
