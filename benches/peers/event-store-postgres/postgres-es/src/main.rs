//! `postgres_es::PostgresEventRepository` by the call of its `PersistedEventRepository` trait.

use std::process::ExitCode;

use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::{PersistedEventRepository, SerializedEvent};
use cqrs_es::{Aggregate, DomainEvent};
use event_store_postgres_contest::{Contender, Database, payload, suite};
use postgres_es::PostgresEventRepository;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::postgres::PgPoolOptions;

fn main() -> ExitCode {
    suite::<PostgresEs>("postgres-es").run()
}

struct PostgresEs {
    repository: PostgresEventRepository,
    payload: Value,
}

struct Writer {
    stream: String,
    events: usize,
}

/// The tables that the crate's documentation asks for.
const TABLES: &str = "CREATE TABLE IF NOT EXISTS events (
        aggregate_type text NOT NULL, aggregate_id text NOT NULL, sequence bigint CHECK (sequence >= 0) NOT NULL, event_type text NOT NULL,
        event_version text NOT NULL, payload json NOT NULL, metadata json NOT NULL, PRIMARY KEY (aggregate_type, aggregate_id, sequence))";

impl Contender for PostgresEs {
    type Writer = Writer;
    const NOTE: &'static str =
        "0.5; no order over streams, no ids, no tags; a transaction an append, three round trips";
    const CONNECTIONS: &'static [u32] = &[8, 16, 32, 64];
    const COUNT: &'static str = "SELECT count(*) FROM events";

    async fn open(database: &Database, connections: u32) -> Result<Self, String> {
        let pool =
            PgPoolOptions::new().max_connections(connections).test_before_acquire(false).connect(&database.url()).await;
        let pool = pool.map_err(|error| error.to_string())?;
        sqlx::query(TABLES).execute(&pool).await.map_err(|error| error.to_string())?;
        let payload = serde_json::from_str(&payload()).map_err(|error| error.to_string())?;
        Ok(Self { repository: PostgresEventRepository::new(pool), payload })
    }

    fn writer(&self, number: u64) -> Writer {
        Writer { stream: format!("probe-{number}"), events: 0 }
    }

    async fn append(&self, writer: &mut Writer) {
        writer.events += 1;
        let event = SerializedEvent::new(
            writer.stream.clone(),
            writer.events,
            Probe::TYPE.to_owned(),
            "ReadingTaken".to_owned(),
            "1".to_owned(),
            self.payload.clone(),
            Value::Object(serde_json::Map::new()),
        );
        self.repository.persist::<Probe>(&[event], None).await.expect("persisted");
    }
}

/// Never applied: what is persisted is serialised already.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Probe;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ReadingTaken;

#[derive(Debug, thiserror::Error)]
#[error("never")]
struct Never;

impl DomainEvent for ReadingTaken {
    fn event_type(&self) -> String {
        "ReadingTaken".to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl Aggregate for Probe {
    const TYPE: &'static str = "probe";
    type Command = ();
    type Event = ReadingTaken;
    type Error = Never;
    type Services = ();

    async fn handle(&mut self, (): (), (): &(), _: &EventSink<Self>) -> Result<(), Never> {
        Ok(())
    }

    fn apply(&mut self, _: ReadingTaken) {}
}
