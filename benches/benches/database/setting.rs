//! A server that waits for its disk, and pools of it.

use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime as Timer};
use ephemeral_postgres::{Database, Server};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls};

/// The pool of the original's rows: at most 5 connections, one of them open, and 5 s of patience.
pub(crate) const SIZE: usize = 5;
pub(crate) const OPEN: usize = 1;
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The processors that this process had in the beginning.
fn allowed() -> &'static CpuSet {
    static ALLOWED: OnceLock<CpuSet> = OnceLock::new();
    ALLOWED.get_or_init(|| sched_getaffinity(None).expect("asked of this thread"))
}

/// A server, a database of it, and what drives both.
pub(crate) struct Setting {
    pub(crate) runtime: Runtime,
    pub(crate) database: Database,
    pub(crate) server: Server,
}

impl Setting {
    /// One task. It, the server and what drives the connection share a processor: otherwise it is chance on which processor a backend is,
    /// and to wake another one that sleeps takes longer than the query (70 us against 10).
    pub(crate) fn alone() -> Self {
        let mut first = CpuSet::new();
        let allowed = allowed();
        let processor = (0..CpuSet::MAX_CPU).find(|&processor| allowed.is_set(processor)).expect("there is one");
        first.set(processor);
        // Threads and processes that are started from now on have it from this one.
        sched_setaffinity(None, &first).expect("one of those that are allowed");
        Self::on(Builder::new_current_thread().enable_all().build().expect("a runtime"))
    }

    /// Tasks on as many threads as there are processors.
    pub(crate) fn threaded() -> Self {
        sched_setaffinity(None, allowed()).expect("what was allowed before");
        let threads = std::thread::available_parallelism().map_or(2, NonZeroUsize::get);
        Self::on(Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("a runtime"))
    }

    fn on(runtime: Runtime) -> Self {
        let (server, database) = runtime.block_on(async {
            let server = Server::builder().start().await.expect("a server");
            eprintln!("{}", server.report());
            assert!(server.report().is_durable(), "figures are of servers that wait for their disks");
            let database = server.database().await.expect("a database");
            (server, database)
        });
        Self { runtime, database, server }
    }

    /// A client without a pool: the floor.
    pub(crate) fn client(&self) -> Client {
        self.runtime.block_on(self.database.connect()).expect("a client")
    }

    /// A pool of at most `size` connections, `open` of which are open.
    pub(crate) fn pool(&self, size: usize, open: usize, recycling_method: RecyclingMethod) -> Pool {
        let manager = Manager::from_config(self.database.config().clone(), NoTls, ManagerConfig { recycling_method });
        let pool = Pool::builder(manager)
            .max_size(size)
            .wait_timeout(Some(PATIENCE))
            .runtime(Timer::Tokio1)
            .build()
            .expect("a pool");
        self.runtime.block_on(async {
            let mut taken = Vec::new();
            for _ in 0..open {
                taken.push(pool.get().await.expect("a connection"));
            }
        });
        assert_eq!(pool.status().available, open);
        pool
    }
}
