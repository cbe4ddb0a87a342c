//! Crate dbos 0.5: a workflow and its steps are rows of PostgreSQL. How it is configured is a type.

use std::marker::PhantomData;

use bridge_orchestrator_contest::{Database, Orchestrates, step};
pub use dbos::Config;
use dbos::{DBOS, RunOptions, WorkflowRef};

/// How it is configured.
pub trait Configured: Send + Sync + 'static {
    /// What may be set, so that the best is taken.
    type Setting: Copy + std::fmt::Debug + Send + Sync + 'static;
    /// How it is set up and called.
    const NOTE: &'static str;
    /// See [`Orchestrates::SETTINGS`].
    const SETTINGS: &'static [Self::Setting];

    /// The crate's defaults, changed as the setting says.
    fn configure(defaults: Config, setting: Self::Setting) -> Config;
}

/// An instance of dbos that runs the contest's workflow.
#[expect(missing_debug_implementations, reason = "the library's handle of a workflow has none")]
pub struct Dbos<C> {
    dbos: DBOS,
    steps: WorkflowRef<u64, u64>,
    configured: PhantomData<C>,
}

async fn steps(input: u64) -> dbos::Result<u64> {
    let value = dbos::step("one", || async { Ok(step(1, input)) }).await?;
    let value = dbos::step("two", || async { Ok(step(2, value)) }).await?;
    dbos::step("three", || async { Ok(step(3, value)) }).await
}

impl<C: Configured> Orchestrates for Dbos<C> {
    type Setting = C::Setting;
    const NOTE: &'static str = C::NOTE;
    const SETTINGS: &'static [C::Setting] = C::SETTINGS;
    const COMPLETED: &'static str =
        "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS' AND workflow_uuid = ANY($1)";

    async fn open(database: &Database, setting: C::Setting) -> Result<Self, String> {
        let defaults = Config { app_version: Some("1".to_owned()), ..Config::new("contest", database.url()) };
        let dbos = DBOS::new(C::configure(defaults, setting));
        let steps = dbos.register_workflow("steps", steps).map_err(|error| error.to_string())?;
        dbos.launch().await.map_err(|error| error.to_string())?;
        Ok(Self { dbos, steps, configured: PhantomData })
    }

    async fn run(&self, id: &str, input: u64) -> u64 {
        let options = RunOptions { workflow_id: Some(id), ..RunOptions::default() };
        self.steps.run_with(input, options).await.expect("it completes")
    }

    async fn close(self) {
        self.dbos.shutdown().await;
    }
}
