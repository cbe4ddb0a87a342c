//! Stores on the server of a row, and what is appended to them.

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use event_store::{
    Append, EventId, EventType, ExpectedVersion, NewEvent, PgOptions, PostgresStore, StreamId, StreamVersion, Tag,
};
use tokio_postgres::NoTls;

use crate::setting::{PATIENCE, Setting};

/// Bytes of an event's payload.
pub(crate) const PAYLOAD: usize = 256;

impl Setting {
    /// A store over a pool of `connections`, which are opened as they are needed.
    pub(crate) async fn store(&self, connections: usize) -> PostgresStore {
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(self.database.config().clone(), NoTls, config);
        let pool = Pool::builder(manager).max_size(connections).wait_timeout(Some(PATIENCE)).runtime(Runtime::Tokio1);
        let options = PgOptions::new().listen(self.database.config().clone());
        let store = PostgresStore::connect(pool.build().expect("a pool"), options).await.expect("a store");
        store.migrate().await.expect("migrated");
        store
    }
}

/// An event with a tag. Ids are counted: no clock and no random source is read.
pub(crate) fn event(number: u64) -> NewEvent {
    let event_type = EventType::new("ReadingTaken").expect("a name");
    let payload = vec![b'a' + (number % 26) as u8; PAYLOAD];
    let id = EventId::from_u128(u128::from(number) + 1);
    NewEvent::with_given_id(id, event_type, payload).with_tag(Tag::new("probe:7").expect("a tag"))
}

pub(crate) fn stream(number: usize) -> StreamId {
    StreamId::new(&format!("probe-{number}")).expect("a name")
}

/// `count` events from `number` on, behind the `already` that the stream has.
pub(crate) fn append(stream: &StreamId, already: u64, number: u64, count: u64) -> Append {
    let expected = already
        .checked_sub(1)
        .map_or(ExpectedVersion::NoStream, |last| ExpectedVersion::Exact(StreamVersion::new(last)));
    Append::stream(stream.clone(), expected, (number..number + count).map(event))
}
