//! Message DB's functions, as the npm package brings them; called by a prepared statement.

mod scripts;

use std::process::ExitCode;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use event_store_postgres_contest::{Contender, Database, payload, suite};
use tokio_postgres::NoTls;
use uuid::Uuid;

fn main() -> ExitCode {
    suite::<MessageDb>("message-db").run()
}

struct MessageDb {
    pool: Pool,
    payload: serde_json::Value,
}

struct Writer {
    stream: String,
    /// −1 for a stream without messages.
    last: i64,
}

const WRITE: &str = "SELECT message_store.write_message($1, $2, 'ReadingTaken', $3, NULL, $4)";

impl Contender for MessageDb {
    type Writer = Writer;
    const NOTE: &'static str = "1.3.1; an advisory lock a category: no order over all streams, ids are not idempotent, no tags; a prepared call a \
                                message, one round trip";
    const CONNECTIONS: &'static [u32] = &[8, 16, 32, 64];
    const COUNT: &'static str = "SELECT count(*) FROM message_store.messages";

    async fn open(database: &Database, connections: u32) -> Result<Self, String> {
        // The functions name one another without their schema.
        let mut config = database.config().clone();
        config.options("-c search_path=message_store,public");
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config, NoTls, manager);
        let pool = Pool::builder(manager).max_size(connections as usize).build().map_err(|error| error.to_string())?;
        let client = pool.get().await.map_err(|error| error.to_string())?;
        let exists = "SELECT to_regclass('message_store.messages') IS NOT NULL";
        let exists = client.query_one(exists, &[]).await.map_err(|error| error.to_string())?.get::<_, bool>(0);
        if !exists {
            for (name, script) in scripts::fetched()? {
                let outcome = client.batch_execute(&script).await;
                outcome.map_err(|error| format!("{name}: {error}"))?;
            }
        }
        drop(client);
        Ok(Self { pool, payload: serde_json::from_str(&payload()).map_err(|error| error.to_string())? })
    }

    fn writer(&self, number: u64) -> Writer {
        // Of one category each: in one and the same they would wait for each other.
        Writer { stream: format!("probe{number}-{number}"), last: -1 }
    }

    async fn append(&self, writer: &mut Writer) {
        let client = self.pool.get().await.expect("a connection");
        let write = client.prepare_cached(WRITE).await.expect("prepared");
        let id = Uuid::new_v4().to_string();
        let row = client.query_one(&write, &[&id, &writer.stream, &self.payload, &writer.last]).await;
        writer.last = row.expect("written").get(0);
    }
}
