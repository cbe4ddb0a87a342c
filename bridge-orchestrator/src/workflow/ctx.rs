//! What a workflow asks its engine for.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use event_store::Timestamp;
use pin_project_lite::pin_project;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::failure::ContinueAsNew;
use super::step::MAX_VALUE_BYTES;
use super::wait::Wait;
use super::{Attempt, Child, ExecutionId, Saga, SignalFuture, Step, StepError, Timer, Workflow, WorkflowError};
use crate::engine::{ChildStart, Execution, Kind, Services, Start};

/// What a workflow asks its engine for. A clone is the same.
#[derive(Debug, Clone)]
pub struct Ctx {
    execution: Arc<Execution>,
    services: Arc<Services>,
}

impl Ctx {
    pub(crate) fn new(execution: Arc<Execution>, services: Arc<Services>) -> Self {
        Self { execution, services }
    }

    /// The execution that this is.
    #[must_use]
    pub fn execution(&self) -> &ExecutionId {
        self.execution.id()
    }

    /// What [`EngineBuilder::service`](crate::EngineBuilder::service) was given of this type, to be called in steps.
    ///
    /// # Panics
    /// If the engine has none: what was forgotten when a program was put together is no failure of its executions. They stay resumable, as
    /// with every panic of a workflow function, and wait parked after 10 tries.
    #[must_use]
    #[track_caller]
    pub fn service<T: Send + Sync + 'static>(&self) -> Arc<T> {
        let found = self.services.get();
        found.unwrap_or_else(|| panic!("the engine has no service {}", std::any::type_name::<T>()))
    }

    /// Something that touches the world: run once, its value journalled as JSON, and never run again when the value is in the journal.
    ///
    /// `f` makes one attempt. It is dropped where the process dies, and made again afterwards: what it does outside happens at least once,
    /// unless it is given [`Attempt::idempotency_key`] where that counts. A panic in it is a retryable failure.
    ///
    /// # Cost
    /// One append to the journal; no read.
    pub fn step<T, F, Fut>(&self, name: &'static str, f: F) -> Step<'_, T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: FnMut(Attempt) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, StepError>> + Send + 'static,
    {
        Step::new(&self.execution, name, f)
    }

    /// A step that changes the database in which the journals are: what `f` does in its transaction and the step's record are committed
    /// together, or neither is, so it happens exactly once. `f` does nothing outside of the transaction, and neither commits nor rolls it back.
    ///
    /// From its last statement to the commit every other append waits; a row that it locks should not be one for which others wait long. Its
    /// isolation is the server's default, READ COMMITTED unless it was changed.
    ///
    /// ```
    /// use bridge_orchestrator::{Ctx, StepError, WorkflowError};
    ///
    /// async fn debit(ctx: &Ctx, account: i64, amount: i64) -> Result<i64, WorkflowError> {
    ///     ctx.tx_step("debit", move |tx, _| Box::pin(async move {
    ///         let statement = "UPDATE account SET balance = balance - $2 WHERE id = $1 RETURNING balance";
    ///         Ok(tx.query_one(statement, &[&account, &amount]).await?.get(0))
    ///     })).await
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Ctx::step`]. On an engine whose journals are not in PostgreSQL it fails with [`ErrorCode::Unsupported`](crate::ErrorCode::Unsupported), and is not
    /// tried again.
    ///
    /// # Cost
    /// What `f` does, the append, and two round trips for the begin and the commit. It holds a connection of the store's pool.
    #[cfg(feature = "postgres")]
    pub fn tx_step<T, F>(&self, name: &'static str, f: F) -> Step<'_, T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: for<'t> Fn(
                &'t event_store::tokio_postgres::Transaction<'t>,
                Attempt,
            ) -> event_store::BoxFuture<'t, Result<T, StepError>>
            + Send
            + Sync
            + 'static,
    {
        Step::of(&self.execution, name, Box::pin(crate::postgres::TxBody::new(f)))
    }

    /// Sleeps for `duration` from [`Ctx::now`] on, across crashes.
    pub fn sleep(&self, duration: Duration) -> Timer<'_> {
        Timer { wait: Wait::new(&self.execution, Kind::Timer, Start::Sleep(duration)) }
    }

    /// Sleeps until `time`, across crashes.
    pub fn sleep_until(&self, time: Timestamp) -> Timer<'_> {
        Timer { wait: Wait::new(&self.execution, Kind::Timer, Start::SleepUntil(time)) }
    }

    /// The next signal of this name that nobody has taken: signals wait in the order in which they came.
    pub fn signal<T: DeserializeOwned>(&self, name: &str) -> SignalFuture<'_, T> {
        let wait = Wait::new(&self.execution, Kind::Signal(name.to_owned()), Start::Nothing);
        SignalFuture { wait, name: name.to_owned(), value: PhantomData }
    }

    /// Starts another workflow as a child and waits for its end. A child of this id that this execution has started before is the same one;
    /// an execution of somebody else's is a failure.
    ///
    /// # Errors
    /// [`WorkflowError::Codec`] if the input cannot be written as JSON.
    pub fn child<W: Workflow>(&self, id: ExecutionId, input: &W::Input) -> Result<Child<'_, W>, WorkflowError> {
        let input = encode(input, || format!("the input of child {id}"))?;
        let start = ChildStart { id: id.clone(), workflow: W::TYPE, version: W::VERSION, input };
        let wait = Wait::new(&self.execution, Kind::Child(id.clone()), Start::Child(start));
        Ok(Child { wait, id, workflow: PhantomData })
    }

    /// Registers compensations.
    #[must_use]
    pub fn saga(&self) -> Saga<'_> {
        Saga::new(self)
    }

    /// Resolves when the execution is being cancelled.
    pub fn cancelled(&self) -> Cancelled<'_> {
        Cancelled { wait: Wait::new(&self.execution, Kind::Cancelled, Start::Nothing) }
    }

    /// Whether the execution is being cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.execution.slots().is_cancelled()
    }

    /// Runs `future` shielded from cancellation: what is awaited inside goes on, and new steps run. For cleaning up.
    pub fn shield<F: Future>(&self, future: F) -> Shield<'_, F> {
        Shield { ctx: self, future }
    }

    /// Whether code behind this question is to run as it is today: `true` for executions that come here for the first time with this code,
    /// `false` for those that were here before the question was, each time that they ask.
    #[must_use]
    pub fn patched(&self, id: &str) -> bool {
        self.execution.slots().patched(id)
    }

    /// Ends this run and begins another one with `input`, under the same id: `return Err(ctx.continue_as_new(&input))`. The journal of the
    /// old run is removed; signals that nobody has read are kept.
    #[must_use]
    pub fn continue_as_new<I: Serialize>(&self, input: &I) -> WorkflowError {
        match encode(input, || "the input to go on with".to_owned()) {
            Ok(json) => WorkflowError::ContinueAsNew(ContinueAsNew(json)),
            Err(error) => error,
        }
    }

    /// Shows `value` to those who query this execution for `name`, from now on. Nothing is journalled.
    ///
    /// # Errors
    /// [`WorkflowError::Codec`] if it cannot be written as JSON.
    pub fn expose<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), WorkflowError> {
        let json = encode(value, || format!("what is exposed as {name}"))?;
        self.execution.slots().expose(name, json);
        Ok(())
    }

    /// The time of what was journalled last: it stands still between two awaits, and is the same in each replay.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.execution.slots().now()
    }

    /// A random number that is the same in each replay.
    #[must_use]
    pub fn random_u64(&self) -> u64 {
        self.execution.slots().random()
    }

    /// A random id (version 4) that is the same in each replay.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        let mut slots = self.execution.slots();
        uuid::Builder::from_u128(u128::from(slots.random()) << 64 | u128::from(slots.random()))
            .with_version(uuid::Version::Random)
            .into_uuid()
    }

    /// Tells whoever looks that the execution compensates, for as long as the guard lives.
    pub(super) fn compensating(&self) -> Compensating<'_> {
        self.execution.slots().begin_compensation();
        Compensating(self)
    }
}

pub(super) struct Compensating<'a>(&'a Ctx);

impl Drop for Compensating<'_> {
    fn drop(&mut self) {
        self.0.execution.slots().end_compensation();
    }
}

pub(crate) fn encode<T: Serialize + ?Sized>(
    value: &T,
    what: impl FnOnce() -> String,
) -> Result<bytes::Bytes, WorkflowError> {
    match serde_json::to_vec(value) {
        Ok(json) if json.len() <= MAX_VALUE_BYTES => Ok(json.into()),
        Ok(json) => {
            let reason = format!("{} bytes are more than the {MAX_VALUE_BYTES} that a journal takes", json.len());
            Err(WorkflowError::Codec { what: what(), reason })
        }
        Err(error) => Err(WorkflowError::Codec { what: what(), reason: error.to_string() }),
    }
}

/// Resolves when an execution is being cancelled. Made by [`Ctx::cancelled`].
#[must_use = "it does nothing until it is awaited"]
#[derive(Debug)]
pub struct Cancelled<'a> {
    wait: Wait<'a>,
}

impl Future for Cancelled<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let _ = ready!(self.wait.poll(cx));
        Poll::Ready(())
    }
}

pin_project! {
    /// A future that cancellation does not reach. Made by [`Ctx::shield`].
    #[must_use = "it does nothing until it is awaited"]
    #[derive(Debug)]
    pub struct Shield<'a, F> {
        ctx: &'a Ctx,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Shield<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        struct Leave<'a>(&'a Ctx);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.execution.slots().leave_shield();
            }
        }
        let this = self.project();
        this.ctx.execution.slots().enter_shield();
        let _leave = Leave(this.ctx);
        this.future.poll(cx)
    }
}
