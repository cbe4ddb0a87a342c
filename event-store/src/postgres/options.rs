//! How a store on PostgreSQL behaves, and what can be wrong about it.

use std::time::Duration;

use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Config, NoTls, Socket};

use super::connector::SharedConnector;

/// Options of a [`PostgresStore`](crate::PostgresStore).
///
/// ```no_run
/// use std::time::Duration;
/// use event_store::PgOptions;
///
/// let url = "postgresql://postgres@localhost/shop";
/// let options = PgOptions::new().listen(url.parse()?).lock_timeout(Duration::from_secs(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct PgOptions {
    pub(super) listen: Option<Config>,
    pub(super) connector: SharedConnector,
    pub(super) notify: bool,
    pub(super) lock_timeout: Duration,
    pub(super) answer_timeout: Duration,
    pub(super) pool_timeout: Duration,
    pub(super) poll_interval: Duration,
    pub(super) queue: usize,
    pub(super) max_event_bytes: u64,
    pub(super) max_append_bytes: u64,
}

impl Default for PgOptions {
    fn default() -> Self {
        Self {
            listen: None,
            connector: SharedConnector::new(NoTls),
            notify: true,
            lock_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(30),
            pool_timeout: Duration::from_secs(10),
            poll_interval: Duration::from_millis(100),
            queue: 16_384,
            max_event_bytes: 16 << 20,
            max_append_bytes: 64 << 20,
        }
    }
}

impl PgOptions {
    /// The defaults that each option names.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens for what other processes append, on a connection of its own: a pool cannot. Not unless set: then subscriptions learn of
    /// it by polling alone, see [`PgOptions::poll_interval`]. The connection exists while a subscription sleeps, and is made again when it breaks.
    ///
    /// It has to lead to the server itself: a pooler that shares connections between clients loses notifications.
    pub fn listen(self, config: Config) -> Self {
        Self { listen: Some(config), ..self }
    }

    /// How connections beside the pool's are encrypted: the one that listens, and those that cancel an abandoned query. Not at all
    /// unless set. The pool's own are encrypted as the pool was told: give both the same.
    pub fn tls<T>(self, tls: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        Self { connector: SharedConnector::new(tls), ..self }
    }

    /// Whether appends are announced to other processes: one `NOTIFY` after the commit, at most one in 5 ms. On unless set.
    pub fn notify(self, notify: bool) -> Self {
        Self { notify, ..self }
    }

    /// How long an append waits for the head, which another process or a transaction may hold; then it is
    /// [`Unavailable`](crate::AppendError::Unavailable), and nothing was applied. 1 ms to 1 h; 5 s unless set.
    pub fn lock_timeout(self, timeout: Duration) -> Self {
        Self { lock_timeout: timeout, ..self }
    }

    /// How long the server may take to answer: then an append is [`Unknown`](crate::AppendError::Unknown), a read unavailable, and the
    /// connection is cancelled and discarded. Longer than the lock timeout, up to 1 h; 30 s unless set.
    pub fn answer_timeout(self, timeout: Duration) -> Self {
        Self { answer_timeout: timeout, ..self }
    }

    /// How long the pool may take to give a connection. 1 ms to 1 h; 10 s unless set.
    pub fn pool_timeout(self, timeout: Duration) -> Self {
        Self { pool_timeout: timeout, ..self }
    }

    /// How long at most until a sleeping subscription learns of what another process appended without a notification. The store asks
    /// more often when something has come, and once for all its subscriptions. With a listening connection it asks every second.
    /// 1 ms to 1 h; 100 ms unless set.
    pub fn poll_interval(self, interval: Duration) -> Self {
        Self { poll_interval: interval, ..self }
    }

    /// How many appends may wait for their turn in this process; others wait until there is room. 1 to 1,000,000; 16,384 unless set.
    pub fn queue(self, appends: usize) -> Self {
        Self { queue: appends, ..self }
    }

    /// Most bytes of one event: payload, metadata, 16 for each of its two optional ids. 1 to 268,435,456; 16 MiB unless set.
    pub fn max_event_bytes(self, bytes: u64) -> Self {
        Self { max_event_bytes: bytes, ..self }
    }

    /// Most bytes of one append, counted in the same way. 1 to 268,435,456; 64 MiB unless set. PostgreSQL takes no message of 1 GiB.
    pub fn max_append_bytes(self, bytes: u64) -> Self {
        Self { max_append_bytes: bytes, ..self }
    }

    pub(super) fn checked(self) -> Result<Self, PgError> {
        let refuse = |option, value: String, range| Err(PgError::Option { option, value, range });
        let range = Duration::from_millis(1)..=Duration::from_secs(3_600);
        for (option, value) in [
            ("lock_timeout", self.lock_timeout),
            ("answer_timeout", self.answer_timeout),
            ("pool_timeout", self.pool_timeout),
            ("poll_interval", self.poll_interval),
        ] {
            if !range.contains(&value) {
                return refuse(option, format!("{value:?}"), "1 ms to 1 h");
            }
        }
        if self.answer_timeout <= self.lock_timeout {
            return refuse("answer_timeout", format!("{:?}", self.answer_timeout), "longer than the lock timeout");
        }
        if !(1..=1_000_000).contains(&self.queue) {
            return refuse("queue", self.queue.to_string(), "1 to 1,000,000");
        }
        for (option, value) in [("max_event_bytes", self.max_event_bytes), ("max_append_bytes", self.max_append_bytes)]
        {
            if !(1..=256 << 20).contains(&value) {
                return refuse(option, value.to_string(), "1 to 268,435,456");
            }
        }
        Ok(self)
    }
}

/// Why a store on PostgreSQL could not be connected or migrated. Nothing was changed, except possibly for [`PgError::Server`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PgError {
    /// An option is outside of its range.
    #[error("{option} is {value}; it may be {range}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        range: &'static str,
    },
    /// The pool gave no connection.
    #[error("no connection: {0}")]
    Pool(String),
    /// The server is older than what the store needs.
    #[error("PostgreSQL {found} is too old, the store needs {needed}")]
    TooOld {
        /// Its version, as it says.
        found: String,
        /// The oldest that will do.
        needed: u32,
    },
    /// The database does not hold text as UTF-8.
    #[error("the database holds text as {0}, the store needs UTF8")]
    Encoding(String),
    /// The tables are of a later version of this crate.
    #[error("the tables are of version {found}, this code knows up to {known}")]
    NewerSchema {
        /// What the tables say.
        found: i32,
        /// What this code knows.
        known: i32,
    },
    /// The server refused or broke off. A migration is one transaction: it may have been committed if the connection was lost at
    /// its end, and can be repeated.
    #[error("the server: {0}")]
    Server(#[from] tokio_postgres::Error),
}
