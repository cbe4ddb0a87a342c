//! Steps: where a workflow touches the world.

use std::any::Any;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use event_store::{Append, StreamVersion};
use pin_project_lite::pin_project;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::wait::{Wait, value};
use super::{RetryPolicy, StepError, WorkflowError};
use crate::engine::{Execution, Host, Kind, NoValue, Start};
use crate::error::ErrorCode;

/// Bytes of a value in a journal, at most.
pub(crate) const MAX_VALUE_BYTES: usize = 2 << 20;

/// What a step's function is told of the attempt that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub(crate) number: u16,
    pub(crate) key: String,
}

impl Attempt {
    /// Which attempt it is, counted from 1. One that a crash broke off is not counted: its number comes again.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// A text that is the same in each attempt of this step, after a crash too, and in no other step: what services that know idempotency
    /// keys are given.
    #[must_use]
    pub fn idempotency_key(&self) -> &str {
        &self.key
    }
}

/// A step before it is awaited. Made by [`Ctx::step`](crate::Ctx::step).
#[must_use = "a step does nothing until it is awaited"]
pub struct Step<'a, T> {
    execution: &'a Execution,
    name: &'static str,
    run: Pin<Box<dyn StepRun>>,
    retry: RetryPolicy,
    timeout: Option<Duration>,
    value: PhantomData<fn() -> T>,
}

impl<T> std::fmt::Debug for Step<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Step").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a, T: Serialize + DeserializeOwned + Send + 'static> Step<'a, T> {
    pub(crate) fn new<F, Fut>(execution: &'a Execution, name: &'static str, f: F) -> Self
    where
        F: FnMut(Attempt) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, StepError>> + Send + 'static,
    {
        Self::of(execution, name, Box::pin(Body { function: f, future: None }))
    }

    pub(crate) fn of(execution: &'a Execution, name: &'static str, run: Pin<Box<dyn StepRun>>) -> Self {
        Self { execution, name, run, retry: RetryPolicy::DEFAULT, timeout: None, value: PhantomData }
    }

    /// When it is tried again; [`RetryPolicy::DEFAULT`] unless set.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// How long an attempt may take; then it is dropped, and has failed with [`ErrorCode::Timeout`], retryably. There is no limit unless set.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }
}

impl<'a, T: DeserializeOwned> IntoFuture for Step<'a, T> {
    type Output = Result<T, WorkflowError>;
    type IntoFuture = StepFuture<'a, T>;

    fn into_future(self) -> StepFuture<'a, T> {
        let Self { execution, name, run, retry, timeout, .. } = self;
        let start = Start::Step { name, run, retry, timeout };
        StepFuture { wait: Wait::new(execution, Kind::Step(name), start), name, value: PhantomData }
    }
}

/// A step that is awaited.
///
/// # Errors
/// [`WorkflowError::Step`] when it has failed for good, [`WorkflowError::Cancelled`], [`WorkflowError::Codec`] if what it returned cannot be
/// read back.
///
/// # Cancellation
/// Dropped, its running attempt is dropped at its next await, and counts as one that may have happened.
#[must_use = "a step does nothing until it is awaited"]
#[derive(Debug)]
pub struct StepFuture<'a, T> {
    wait: Wait<'a>,
    name: &'static str,
    value: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Future for StepFuture<'_, T> {
    type Output = Result<T, WorkflowError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let name = self.name;
        Poll::Ready(match ready!(self.wait.poll(cx)) {
            Ok(json) => value(&json, || format!("the result of step {name}")),
            Err(NoValue::Cancelled) => Err(WorkflowError::Cancelled),
            Err(NoValue::Failed(failure)) => Err(WorkflowError::Step { step: name.to_owned(), failure }),
        })
    }
}

/// How an attempt goes on.
pub(crate) enum Progress {
    /// It has ended.
    Done(Result<Bytes, StepError>),
    /// It has a value, and what it did is committed together with it or not at all: see [`StepRun::commit`].
    #[cfg_attr(not(feature = "postgres"), expect(dead_code))]
    Prepared(Bytes),
    /// It has ended, together with its record, which has this version.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code))]
    Committed(Result<StreamVersion, NotCommitted>),
}

/// Why an attempt was not committed together with its record.
#[cfg_attr(not(feature = "postgres"), expect(dead_code))]
pub(crate) enum NotCommitted {
    /// It was rolled back.
    Failed(StepError),
    /// It was rolled back, for the execution has another owner.
    Fenced,
    /// Only the journal can tell.
    Unknown,
}

/// A step's function, and the attempt that is under way.
pub(crate) trait StepRun: Send {
    /// Begins an attempt.
    fn begin(self: Pin<&mut Self>, attempt: Attempt, host: &dyn Host) -> Result<(), StepError>;

    /// Goes on with it.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Progress>;

    /// Lets an attempt that is prepared be committed, with `append`, which holds its record.
    fn commit(self: Pin<&mut Self>, _append: Append) {}

    /// Ends it wherever it is.
    fn end(self: Pin<&mut Self>);
}

pin_project! {
    struct Body<F, Fut> {
        function: F,
        #[pin]
        future: Option<Fut>,
    }
}

impl<F, Fut, T> StepRun for Body<F, Fut>
where
    F: FnMut(Attempt) -> Fut + Send,
    Fut: Future<Output = Result<T, StepError>> + Send,
    T: Serialize,
{
    fn begin(self: Pin<&mut Self>, attempt: Attempt, _: &dyn Host) -> Result<(), StepError> {
        let mut this = self.project();
        let made = catch_unwind(AssertUnwindSafe(|| (this.function)(attempt)));
        this.future.set(Some(made.map_err(|panic| panicked(&*panic))?));
        Ok(())
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Progress> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            return Poll::Ready(Progress::Done(Err(StepError::retryable("the attempt is over"))));
        };
        let result = match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(polled) => ready!(polled),
            Err(panic) => Err(panicked(&*panic)),
        };
        // What its locals do when they are dropped is user code, too.
        let dropped = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
        let result = dropped.map_err(|panic| panicked(&*panic)).and(result);
        Poll::Ready(Progress::Done(result.and_then(|value| encode_value(&value))))
    }

    fn end(self: Pin<&mut Self>) {
        let mut future = self.project().future;
        let _ = catch_unwind(AssertUnwindSafe(|| future.set(None)));
    }
}

/// A step's value as a journal holds it.
pub(crate) fn encode_value<T: Serialize>(value: &T) -> Result<Bytes, StepError> {
    let encoded = catch_unwind(AssertUnwindSafe(|| serde_json::to_vec(value))).map_err(|panic| panicked(&*panic))?;
    let json = encoded.map_err(|error| {
        StepError::terminal(format!("its value cannot be written as JSON: {error}")).code(ErrorCode::ValidationError)
    })?;
    if json.len() > MAX_VALUE_BYTES {
        let message = format!("its value has {} bytes of at most {MAX_VALUE_BYTES}", json.len());
        return Err(StepError::terminal(message).code(ErrorCode::PayloadTooLarge));
    }
    Ok(json.into())
}

/// What a panic in a step is.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> StepError {
    StepError::retryable(format!("panicked: {}", panic_message(panic)))
}

/// What a panic says.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
