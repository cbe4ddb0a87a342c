//! Engines whose journals are in PostgreSQL.
#![allow(dead_code, reason = "each test uses what it needs")]

use std::sync::Arc;
use std::time::Duration;

use bridge_orchestrator::{Engine, EngineBuilder, ExecutionId};
use ephemeral_postgres::{Database, Profile, Server};
use event_store::deadpool_postgres::{Manager, Pool};
use event_store::tokio_postgres::{Config, NoTls};
use event_store::{EventStore as _, PgOptions, PostgresStore, Read, StreamId};
use futures::StreamExt as _;

pub(crate) type Store = Arc<PostgresStore>;

pub(crate) const LEASE: Duration = Duration::from_millis(200);

pub(crate) async fn server() -> Server {
    Server::start(Profile::Fast).await.expect("a server")
}

pub(crate) async fn database(server: &Server) -> Database {
    let database = server.database().await.expect("a database");
    store(database.config()).await.migrate().await.expect("it migrates");
    database
}

pub(crate) async fn store(config: &Config) -> Store {
    let pool = Pool::builder(Manager::new(config.clone(), NoTls)).max_size(8).build().expect("a pool");
    let options = PgOptions::new().listen(config.clone());
    Arc::new(PostgresStore::connect(pool, options).await.expect("it connects"))
}

/// An engine with a short lease.
pub(crate) fn engine(store: &Store) -> EngineBuilder<Store> {
    Engine::builder(Arc::clone(store)).lease(LEASE)
}

pub(crate) fn id(text: &str) -> ExecutionId {
    ExecutionId::new(text).expect("valid")
}

/// The kinds of what is in a journal.
pub(crate) async fn kinds(store: &Store, execution: &str) -> Vec<String> {
    let stream = StreamId::new(&format!("workflow-{execution}")).expect("valid");
    let kind = |event: Result<event_store::RecordedEvent, _>| {
        event.expect("readable").event_type().as_str().replace("workflow.", "")
    };
    store.read(Read::stream(stream)).map(kind).collect().await
}

/// How often something is there.
pub(crate) fn count(kinds: &[String], kind: &str) -> usize {
    kinds.iter().filter(|one| *one == kind).count()
}

/// A number that an environment variable makes larger for the full count.
pub(crate) fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}
