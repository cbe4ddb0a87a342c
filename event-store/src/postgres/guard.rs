//! A pooled connection that is not given back while a query runs on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object, Pool, Transaction};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_postgres::IsolationLevel;

use super::connector::SharedConnector;
use crate::error::describe;

/// How long a cancellation is tried.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

/// Where connections come from, and how one is got rid of.
#[derive(Debug, Clone)]
pub(super) struct Lessor {
    pool: Pool,
    patience: Duration,
    connector: SharedConnector,
    runtime: Handle,
}

impl Lessor {
    pub(super) fn new(pool: Pool, patience: Duration, connector: SharedConnector, runtime: Handle) -> Self {
        Self { pool, patience, connector, runtime }
    }

    /// How many connections the pool has at most.
    pub(super) fn max_size(&self) -> usize {
        self.pool.status().max_size
    }

    /// A connection of the pool; the error says why there is none. Nothing has been sent then.
    pub(super) async fn lease(&self) -> Result<Lease, String> {
        let object = match timeout(self.patience, self.pool.get()).await {
            Ok(object) => object.map_err(|error| describe(&error))?,
            Err(_) => return Err(format!("the pool gave no connection in {:?}", self.patience)),
        };
        Ok(Lease { object: Some(object), busy: AtomicBool::new(false), lessor: self.clone() })
    }
}

/// A connection on loan. Dropped between [`Lease::begin`] and [`Lease::end`], as a dropped future does, it is cancelled and discarded: the
/// pool makes a fresh one, and its next user waits for nobody's query.
#[derive(Debug)]
pub(super) struct Lease {
    object: Option<Object>,
    busy: AtomicBool,
    lessor: Lessor,
}

impl Lease {
    /// The connection, for something that has an answer.
    pub(super) fn begin(&self) -> &ClientWrapper {
        self.busy.store(true, Ordering::Relaxed);
        self.client()
    }

    /// The answer has come, whatever it was.
    pub(super) fn end(&self) {
        self.busy.store(false, Ordering::Relaxed);
    }

    /// The connection.
    pub(super) fn client(&self) -> &ClientWrapper {
        self.object.as_ref().expect("a lease has its connection until it is dropped")
    }

    /// The connection for a transaction, which rolls back by itself when it is dropped.
    pub(super) fn client_mut(&mut self) -> &mut ClientWrapper {
        self.busy.store(true, Ordering::Relaxed);
        self.object.as_mut().expect("a lease has its connection until it is dropped")
    }

    /// A transaction that sees the tables as of one moment and changes nothing.
    pub(super) async fn snapshot(&mut self) -> Result<Transaction<'_>, tokio_postgres::Error> {
        self.client_mut()
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        if !self.busy.load(Ordering::Relaxed) {
            return;
        }
        let client = Object::take(object);
        let token = client.cancel_token();
        // Its socket is closed now; the server would notice only at the end of the query.
        drop(client);
        let connector = self.lessor.connector.clone();
        self.lessor.runtime.spawn(async move {
            let _ = timeout(CANCEL_PATIENCE, connector.cancel(token)).await;
        });
    }
}
