//! A server that waits for its disk.

use ephemeral_postgres::{Database, Server};
use harness::BenchError;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::runtime::{Builder, Runtime};

/// What contenders on PostgreSQL run on.
#[derive(Debug)]
pub struct Setting {
    /// What drives them.
    pub runtime: Runtime,
    /// An empty database of the server.
    pub database: Database,
    /// A server of this process's own.
    pub server: Server,
}

impl Setting {
    /// Everything on one processor: otherwise it is chance on which one a backend is, and to wake another that sleeps takes long.
    ///
    /// # Errors
    /// [`BenchError::Invalid`] if the server does not start, or does not wait for its disk.
    pub fn alone() -> Result<Self, BenchError> {
        let allowed = sched_getaffinity(None).map_err(invalid)?;
        let mut first = CpuSet::new();
        let processor = (0..CpuSet::MAX_CPU).find(|&processor| allowed.is_set(processor));
        first.set(processor.ok_or_else(|| BenchError::Invalid("no processor is allowed".to_owned()))?);
        sched_setaffinity(None, &first).map_err(invalid)?;
        Self::on(Builder::new_current_thread().enable_all().build().map_err(invalid)?)
    }

    /// Tasks on as many threads as there are processors.
    ///
    /// # Errors
    /// [`BenchError::Invalid`] if the server does not start, or does not wait for its disk.
    pub fn threaded() -> Result<Self, BenchError> {
        Self::on(Builder::new_multi_thread().enable_all().build().map_err(invalid)?)
    }

    fn on(runtime: Runtime) -> Result<Self, BenchError> {
        let (server, database) = runtime.block_on(async {
            let server = Server::builder().start().await.map_err(invalid)?;
            if !server.report().is_durable() {
                return Err(invalid("the server does not wait for its disk"));
            }
            let database = server.database().await.map_err(invalid)?;
            Ok((server, database))
        })?;
        Ok(Self { runtime, database, server })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an error is handed over")]
fn invalid(error: impl ToString) -> BenchError {
    BenchError::Invalid(error.to_string())
}
