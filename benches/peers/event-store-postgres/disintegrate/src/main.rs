//! `disintegrate_postgres::PgEventStore` by its `append`, with the query of one stream and the last event of it.

use std::process::ExitCode;

use disintegrate::serde::json::Json;
use disintegrate::{Event, EventStore as _, StreamQuery, query};
use disintegrate_postgres::{PgEventId, PgEventStore};
use event_store_postgres_contest::{Contender, Database, suite, text};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;

fn main() -> ExitCode {
    suite::<Disintegrate>("disintegrate").run()
}

struct Disintegrate {
    store: PgEventStore<ProbeEvent, Json<ProbeEvent>>,
    text: String,
}

struct Writer {
    probe: String,
    query: StreamQuery<PgEventId, ProbeEvent>,
    last: PgEventId,
}

#[derive(Debug, Clone, PartialEq, Eq, Event, Serialize, Deserialize)]
enum ProbeEvent {
    ReadingTaken {
        #[id]
        probe: String,
        text: String,
    },
}

impl Contender for Disintegrate {
    type Writer = Writer;
    const NOTE: &'static str = "4.0.1; serializable transactions, which are repeated until none comes in between; positions with gaps; six round trips an append";
    const CONNECTIONS: &'static [u32] = &[4, 8, 16, 64];
    const COUNT: &'static str = "SELECT count(*) FROM event";

    async fn open(database: &Database, connections: u32) -> Result<Self, String> {
        let pool =
            PgPoolOptions::new().max_connections(connections).test_before_acquire(false).connect(&database.url()).await;
        let pool = pool.map_err(|error| error.to_string())?;
        let store = PgEventStore::try_new(pool, Json::default()).await.map_err(|error| error.to_string())?;
        Ok(Self { store, text: text() })
    }

    fn writer(&self, number: u64) -> Writer {
        let probe = format!("probe-{number}");
        Writer { query: query!(ProbeEvent; probe == probe.clone()), probe, last: 0 }
    }

    async fn append(&self, writer: &mut Writer) {
        loop {
            let event = ProbeEvent::ReadingTaken { probe: writer.probe.clone(), text: self.text.clone() };
            match self.store.append(vec![event], writer.query.clone(), writer.last).await {
                Ok(persisted) => {
                    writer.last = persisted[0].id();
                    return;
                }
                // Serializable transactions are refused for others' too.
                Err(disintegrate_postgres::Error::Concurrency) => {}
                Err(disintegrate_postgres::Error::Database(sqlx::Error::Database(refused)))
                    if refused.code().as_deref() == Some("40001") => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}
