//! Crates duroxide 0.1.32 and duroxide-pg 0.1.38: a workflow is replayed from its history for each step, which dispatchers take from queues.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bridge_orchestrator_contest::{Contest, Database, Orchestrates, STEPS, step};
use duroxide::runtime::registry::ActivityRegistry;
use duroxide::runtime::{ObservabilityConfig, Runtime, RuntimeOptions};
use duroxide::{ActivityContext, Client, OrchestrationContext, OrchestrationRegistry};
use duroxide_pg::PostgresProvider;

/// What no workflow takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    Contest::of("duroxide").orchestrates::<Duroxide>().run()
}

struct Duroxide {
    provider: Arc<PostgresProvider>,
    runtime: Arc<Runtime>,
    client: Client,
}

/// So many dispatchers of workflows, and of steps, which ask again after `poll` when there was nothing to do.
#[derive(Debug, Clone, Copy)]
struct Dispatchers {
    workflows: usize,
    steps: usize,
    poll: Duration,
}

impl Dispatchers {
    const DEFAULT: Self = Self::new(2, Duration::from_millis(100));

    const fn new(each: usize, poll: Duration) -> Self {
        Self { workflows: each, steps: each, poll }
    }
}

impl Orchestrates for Duroxide {
    type Setting = Dispatchers;
    const NOTE: &'static str =
        "duroxide 0.1.32, duroxide-pg 0.1.38, a pool of ten; a client asks for the result, at first after 5 ms";
    const SETTINGS: &'static [Dispatchers] = &[
        Dispatchers::DEFAULT,
        Dispatchers::new(2, Duration::from_millis(5)),
        Dispatchers::new(1, Duration::from_millis(1)),
        Dispatchers::new(8, Duration::from_millis(10)),
        Dispatchers::new(16, Duration::from_millis(20)),
    ];
    const COMPLETED: &'static str =
        "SELECT count(*) FROM executions WHERE status = 'Completed' AND instance_id = ANY($1)";

    async fn open(database: &Database, setting: Dispatchers) -> Result<Self, String> {
        let provider = PostgresProvider::new(&database.url()).await.map_err(|error| error.to_string())?;
        let provider = Arc::new(provider);
        let activities = ActivityRegistry::builder()
            .register_typed(
                "step",
                |_: ActivityContext, (number, value): (u64, u64)| async move { Ok(step(number, value)) },
            )
            .build();
        let steps = |ctx: OrchestrationContext, input: u64| async move {
            let mut value = input;
            for number in 1..=STEPS {
                value = ctx.schedule_activity_typed::<(u64, u64), u64>("step", &(number, value)).await?;
            }
            Ok(value)
        };
        let orchestrations = OrchestrationRegistry::builder().register_typed("steps", steps).build();
        let options = RuntimeOptions {
            dispatcher_min_poll_interval: setting.poll,
            orchestration_concurrency: setting.workflows,
            worker_concurrency: setting.steps,
            observability: ObservabilityConfig { log_level: "error".to_owned(), ..ObservabilityConfig::default() },
            ..RuntimeOptions::default()
        };
        let runtime =
            Runtime::start_with_options(Arc::clone(&provider) as _, activities, orchestrations, options).await;
        Ok(Self { client: Client::new(Arc::clone(&provider) as _), provider, runtime })
    }

    async fn run(&self, id: &str, input: u64) -> u64 {
        self.client.start_orchestration_typed(id, "steps", input).await.expect("it starts");
        let result = self.client.wait_for_orchestration_typed(id, PATIENCE).await;
        result.expect("it ends").expect("it completes")
    }

    async fn close(self) {
        self.runtime.shutdown(None).await;
        self.provider.pool().close().await;
    }
}
