//! `esrs::store::postgres::PgStore` by its `persist`.

use std::process::ExitCode;

use esrs::store::EventStore as _;
use esrs::store::postgres::{PgStore, PgStoreBuilder};
use esrs::{Aggregate, AggregateState};
use event_store_postgres_contest::{Contender, Database, suite, text};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

fn main() -> ExitCode {
    suite::<Esrs>("esrs").run()
}

struct Esrs {
    store: PgStore<Probe>,
    text: String,
}

impl Contender for Esrs {
    type Writer = AggregateState<()>;
    const NOTE: &'static str =
        "0.18; no order over streams, ids of its own making, no tags; a transaction an append, three round trips";
    const CONNECTIONS: &'static [u32] = &[8, 16, 32, 64];
    const COUNT: &'static str = "SELECT count(*) FROM probe_events";

    async fn open(database: &Database, connections: u32) -> Result<Self, String> {
        let pool =
            PgPoolOptions::new().max_connections(connections).test_before_acquire(false).connect(&database.url()).await;
        let pool = pool.map_err(|error| error.to_string())?;
        let store = PgStoreBuilder::new(pool).try_build().await.map_err(|error| error.to_string())?;
        Ok(Self { store, text: text() })
    }

    fn writer(&self, number: u64) -> Self::Writer {
        AggregateState::with_id(Uuid::from_u128(u128::from(number) + 1))
    }

    async fn append(&self, writer: &mut Self::Writer) {
        let event = ReadingTaken { text: self.text.clone() };
        self.store.persist(writer, vec![event]).await.expect("persisted");
    }
}

struct Probe;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ReadingTaken {
    text: String,
}

#[derive(Debug, thiserror::Error)]
#[error("never")]
struct Never;

impl Aggregate for Probe {
    const NAME: &'static str = "probe";
    type State = ();
    type Command = ();
    type Event = ReadingTaken;
    type Error = Never;

    fn handle_command((): &(), (): ()) -> Result<Vec<ReadingTaken>, Never> {
        Ok(Vec::new())
    }

    fn apply_event((): (), _: ReadingTaken) {}
}
