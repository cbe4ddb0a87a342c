//! A step inside of a transaction: what it does to the database and its record in the journal are committed together.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use event_store::tokio_postgres::{self, Transaction};
use event_store::{Append, AppendError, Appended, BoxFuture, PgConnections, StreamVersion};
use futures_util::future::join;
use serde::Serialize;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::engine::Host;
use crate::error::ErrorCode;
use crate::workflow::{Attempt, NotCommitted, Progress, StepError, StepRun, encode_value, panicked};

/// How long the append and the commit may take before nobody knows whether they have happened.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a transactional step needs of the store.
pub(crate) trait Transactions: Send + Sync {
    fn connections(&self) -> PgConnections;
    fn append_in_tx<'a>(
        &'a self,
        transaction: &'a Transaction<'_>,
        append: Append,
    ) -> BoxFuture<'a, Result<Appended, AppendError>>;
    fn announce(&self, appended: &Appended);
    /// One is held by each transaction.
    fn permits(&self) -> Arc<Semaphore>;
    /// How long all other appends may have to wait for a process that stands still between its append and its commit.
    fn longest_wait(&self) -> Duration;
}

type Attempting = Pin<Box<dyn Future<Output = Result<StreamVersion, NotCommitted>> + Send>>;

/// A transactional step's function, and the attempt that is under way.
pub(crate) struct Body<F> {
    function: Arc<F>,
    running: Option<Running>,
}

struct Running {
    attempting: Attempting,
    value: oneshot::Receiver<Bytes>,
    go: Option<oneshot::Sender<Append>>,
}

impl<F> Body<F> {
    pub(crate) fn new(function: F) -> Self {
        Self { function: Arc::new(function), running: None }
    }
}

impl<F, T> StepRun for Body<F>
where
    F: for<'t> Fn(&'t Transaction<'t>, Attempt) -> BoxFuture<'t, Result<T, StepError>> + Send + Sync + 'static,
    T: Serialize + Send + 'static,
{
    fn begin(mut self: Pin<&mut Self>, attempt: Attempt, host: &dyn Host) -> Result<(), StepError> {
        let Some(store) = host.transactions() else {
            let message = "a transactional step needs journals in PostgreSQL";
            return Err(StepError::terminal(message).code(ErrorCode::Unsupported));
        };
        let (given, value) = oneshot::channel();
        let (go, going) = oneshot::channel();
        let function = Arc::clone(&self.function);
        let attempting = Box::pin(self::attempt(store, function, attempt, given, going));
        self.running = Some(Running { attempting, value, go: Some(go) });
        Ok(())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Progress> {
        let Some(running) = &mut self.running else {
            return Poll::Ready(Progress::Done(Err(StepError::retryable("the attempt is over"))));
        };
        let polled = catch_unwind(AssertUnwindSafe(|| running.attempting.as_mut().poll(cx)));
        let ended = match polled {
            Ok(Poll::Pending) => {
                // Until it is told to go on, it waits with its value.
                return match running.value.try_recv() {
                    Ok(value) if running.go.is_some() => Poll::Ready(Progress::Prepared(value)),
                    _ => Poll::Pending,
                };
            }
            Ok(Poll::Ready(ended)) => ended,
            Err(panic) => Err(NotCommitted::Failed(panicked(&*panic))),
        };
        self.end();
        Poll::Ready(match ended {
            Err(NotCommitted::Failed(error)) => Progress::Done(Err(error)),
            ended => Progress::Committed(ended),
        })
    }

    fn commit(mut self: Pin<&mut Self>, append: Append) {
        if let Some(go) = self.running.as_mut().and_then(|running| running.go.take()) {
            // Where nobody listens the attempt is over, which its next poll tells.
            let _ = go.send(append);
        }
    }

    fn end(mut self: Pin<&mut Self>) {
        let running = self.running.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(running)));
    }
}

async fn attempt<F, T>(
    store: Arc<dyn Transactions>,
    function: Arc<F>,
    attempt: Attempt,
    given: oneshot::Sender<Bytes>,
    going: oneshot::Receiver<Append>,
) -> Result<StreamVersion, NotCommitted>
where
    F: for<'t> Fn(&'t Transaction<'t>, Attempt) -> BoxFuture<'t, Result<T, StepError>> + Send + Sync + 'static,
    T: Serialize + Send + 'static,
{
    let permits = store.permits();
    // They are never closed.
    let _permit = permits.acquire().await;
    let mut connection = store.connections().get().await.map_err(|error| {
        NotCommitted::Failed(StepError::retryable(error.to_string()).code(ErrorCode::ConnectionError))
    })?;
    let transaction = connection.client().transaction().await.map_err(|error| failed(&error))?;
    let value = match function(&transaction, attempt).await.and_then(|value| encode_value(&value)) {
        Ok(value) => value,
        Err(error) => {
            // A connection that does not answer is closed by dropping it.
            if transaction.rollback().await.is_ok() {
                connection.give_back();
            }
            return Err(NotCommitted::Failed(error));
        }
    };
    let over = || NotCommitted::Failed(StepError::retryable("the attempt is over"));
    given.send(value).map_err(|_| over())?;
    let append = going.await.map_err(|_| over())?;
    // From its append on everybody waits for this transaction: the server ends it if its process stands still.
    let limit = format!("SET LOCAL idle_in_transaction_session_timeout = {}", store.longest_wait().as_millis());
    let committing = async {
        // Both are sent at once.
        let (limited, appended) =
            join(transaction.batch_execute(&limit), store.append_in_tx(&transaction, append)).await;
        limited.map_err(|error| failed(&error))?;
        let appended = match appended {
            Ok(appended) => appended,
            Err(AppendError::WrongExpectedVersion { .. }) => return Err(NotCommitted::Fenced),
            Err(error) => {
                let error = StepError::retryable(error.to_string()).code(ErrorCode::ConnectionError);
                return Err(NotCommitted::Failed(error));
            }
        };
        match transaction.commit().await {
            Ok(()) => Ok(appended),
            // The server has said that it rolled back.
            Err(error) if error.as_db_error().is_some_and(|answer| !answer.code().code().starts_with("57P")) => {
                Err(failed(&error))
            }
            Err(_) => Err(NotCommitted::Unknown),
        }
    };
    let appended = match timeout(PATIENCE, committing).await {
        Ok(ended) => ended?,
        Err(_) => return Err(NotCommitted::Unknown),
    };
    connection.give_back();
    store.announce(&appended);
    let version = appended.versions().first().map(|(_, version)| *version);
    version.ok_or(NotCommitted::Unknown)
}

fn failed(error: &tokio_postgres::Error) -> NotCommitted {
    let message = match error.as_db_error() {
        Some(answer) => format!("{}: {}", answer.code().code(), answer.message()),
        None => error.to_string(),
    };
    let code = if error.is_closed() { ErrorCode::ConnectionError } else { ErrorCode::OperationFailed };
    NotCommitted::Failed(StepError::retryable(message).code(code))
}
