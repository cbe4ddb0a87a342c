//! `PostgresStore` of this repository.

use std::process::ExitCode;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use event_store::{
    Append, EventStore, EventType, ExpectedVersion, NewEvent, PgOptions, PostgresStore, StreamId, StreamVersion, Tag,
};
use event_store_postgres_contest::{Contender, Database, payload, suite};
use tokio_postgres::NoTls;

fn main() -> ExitCode {
    suite::<Ours>("ours").run()
}

struct Ours {
    store: PostgresStore,
    event_type: EventType,
    tag: Tag,
    payload: String,
}

struct Writer {
    stream: StreamId,
    expected: ExpectedVersion,
}

impl Contender for Ours {
    type Writer = Writer;
    const NOTE: &'static str = "one dense order over all streams, expected versions, idempotent ids, a tag";
    const CONNECTIONS: &'static [u32] = &[4];
    const COUNT: &'static str = "SELECT count(*) FROM es_events";

    async fn open(database: &Database, connections: u32) -> Result<Self, String> {
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(database.config().clone(), NoTls, manager);
        let pool = Pool::builder(manager).max_size(connections as usize).build().map_err(|error| error.to_string())?;
        let store = PostgresStore::connect(pool, PgOptions::new()).await.map_err(|error| error.to_string())?;
        store.migrate().await.map_err(|error| error.to_string())?;
        let name = |error: event_store::NameError| error.to_string();
        let (event_type, tag) = (EventType::new("ReadingTaken").map_err(name)?, Tag::new("probe:7").map_err(name)?);
        Ok(Self { store, event_type, tag, payload: payload() })
    }

    fn writer(&self, number: u64) -> Writer {
        let stream = StreamId::new(&format!("probe-{number}")).expect("a name");
        Writer { stream, expected: ExpectedVersion::NoStream }
    }

    async fn append(&self, writer: &mut Writer) {
        let event = NewEvent::new(self.event_type.clone(), self.payload.clone()).with_tag(self.tag.clone());
        let append = Append::stream(writer.stream.clone(), writer.expected, [event]);
        self.store.append(append).await.expect("appended");
        let next = match writer.expected {
            ExpectedVersion::Exact(last) => StreamVersion::new(last.get() + 1),
            _ => StreamVersion::FIRST,
        };
        writer.expected = ExpectedVersion::Exact(next);
    }
}
