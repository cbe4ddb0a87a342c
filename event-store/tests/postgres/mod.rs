//! A server for the tests of a file, and stores on it.
#![allow(dead_code, reason = "each test uses a part")]

use std::time::Duration;

use ephemeral_postgres::{Database, Profile, Server};
use event_store::deadpool_postgres::{Manager, Pool};
use event_store::tokio_postgres::{Config, NoTls};
use event_store::{PgOptions, PostgresStore};

/// A server that need not survive the machine.
pub(crate) async fn server() -> Server {
    Server::start(Profile::Fast).await.expect("a server")
}

/// The same, with a port to be reached by.
pub(crate) async fn server_with_port() -> Server {
    Server::builder().profile(Profile::Fast).tcp(true).start().await.expect("a server")
}

/// A pool of `size` connections by `config`.
pub(crate) fn pool(config: &Config, size: usize) -> Pool {
    Pool::builder(Manager::new(config.clone(), NoTls)).max_size(size).build().expect("a pool")
}

/// A store on an empty database, with eight connections and one that listens.
pub(crate) async fn store(database: &Database) -> PostgresStore {
    store_with(database, PgOptions::new().listen(database.config().clone())).await
}

pub(crate) async fn store_with(database: &Database, options: PgOptions) -> PostgresStore {
    let store = PostgresStore::connect(pool(database.config(), 8), options).await.expect("it connects");
    store.migrate().await.expect("it migrates");
    store
}

/// A number that an environment variable makes larger for the full count.
pub(crate) fn count(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

pub(crate) fn seconds(variable: &str, otherwise: u64) -> Duration {
    Duration::from_secs(count(variable, otherwise))
}

/// Waits until a store's connection listens on `database`.
pub(crate) async fn until_somebody_listens(database: &Database) {
    let client = database.connect().await.expect("a client");
    let listeners = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()";
    let waiting = async {
        while client.query_one(listeners, &[]).await.expect("it reads").get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("somebody listens");
}
