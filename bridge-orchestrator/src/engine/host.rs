//! What a step needs of its engine.

use std::sync::Arc;

use super::core::Core;
#[cfg(feature = "postgres")]
use crate::postgres::Transactions;

/// See the module.
pub(crate) trait Host {
    /// The journals, if they take part in transactions.
    #[cfg(feature = "postgres")]
    fn transactions(&self) -> Option<Arc<dyn Transactions>>;
}

#[cfg(not(feature = "postgres"))]
impl<S: event_store::EventStore> Host for Arc<Core<S>> {}

#[cfg(feature = "postgres")]
mod postgres {
    use std::sync::Arc;
    use std::time::Duration;

    use event_store::tokio_postgres::Transaction;
    use event_store::{Append, AppendError, Appended, BoxFuture, EventStore, PgConnections, PostgresStore};

    use tokio::sync::Semaphore;

    use super::{Core, Host, Transactions};

    /// Unless the lease is shorter: a process that stands still for so long has to run its transaction again.
    const LONGEST_WAIT: Duration = Duration::from_secs(2);

    impl<S: EventStore> Host for Arc<Core<S>> {
        fn transactions(&self) -> Option<Arc<dyn Transactions>> {
            let is_postgres = self.store.postgres().is_some();
            is_postgres.then(|| Arc::new(Journals(Arc::clone(self))) as Arc<dyn Transactions>)
        }
    }

    /// Journals that are known to be in PostgreSQL.
    struct Journals<S>(Arc<Core<S>>);

    impl<S: EventStore> Journals<S> {
        fn store(&self) -> &PostgresStore {
            self.0.store.postgres().expect("it was looked at before")
        }
    }

    impl<S: EventStore> Transactions for Journals<S> {
        fn connections(&self) -> PgConnections {
            self.store().connections()
        }

        fn append_in_tx<'a>(
            &'a self,
            transaction: &'a Transaction<'_>,
            append: Append,
        ) -> BoxFuture<'a, Result<Appended, AppendError>> {
            Box::pin(self.store().append_in_tx(transaction, append))
        }

        fn announce(&self, appended: &Appended) {
            self.store().announce(appended);
        }

        fn permits(&self) -> Arc<Semaphore> {
            let shared = self.0.shared.as_ref().map(|shared| Arc::clone(&shared.transactions));
            shared.unwrap_or_else(|| Arc::new(Semaphore::new(1)))
        }

        fn longest_wait(&self) -> Duration {
            self.0.shared.as_ref().map_or(LONGEST_WAIT, |shared| shared.duration.min(LONGEST_WAIT))
        }
    }
}
