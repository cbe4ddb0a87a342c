//! A workflow function that runs: polled once for each record that is delivered, and at nothing else.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};

use bytes::Bytes;
use event_store::Timestamp;

use super::execution::{Execution, Parked};
use super::record::{Cause, Record};
#[cfg(feature = "testkit")]
use super::second::Second;
use super::slots::NonDeterminism;
use crate::error::ErrorCode;
use crate::workflow::{Failure, WorkflowError};

/// Polls in a row, at most.
const MAX_POLLS: u32 = 10_000;

pub(crate) type BoxFunction = Pin<Box<dyn Future<Output = Result<Bytes, WorkflowError>> + Send>>;

/// How a poll went.
#[derive(Debug)]
pub(crate) enum Polled {
    /// It awaits something.
    Waits,
    /// It returned.
    Returned(Result<Bytes, WorkflowError>),
    /// It panicked.
    Panicked(String),
    /// It does what no journal can bear.
    Unsound(Parked),
}

/// See the module.
pub(crate) struct Function {
    future: Option<BoxFunction>,
    root: Arc<Root>,
    waker: Waker,
    #[cfg(feature = "testkit")]
    second: Option<Second>,
}

/// Wakes the function: what does so from outside of its polls is nothing that its context has made.
struct Root {
    /// The thread that polls the function right now.
    polled_by: std::sync::Mutex<Option<ThreadId>>,
    again: AtomicBool,
    is_foreign: AtomicBool,
    execution: Arc<Execution>,
}

impl Wake for Root {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let by = *self.polled_by.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if by == Some(thread::current().id()) {
            self.again.store(true, Ordering::Relaxed);
        } else {
            self.is_foreign.store(true, Ordering::Release);
            self.execution.waker.wake();
        }
    }
}

impl Function {
    pub(crate) fn new(future: BoxFunction, execution: Arc<Execution>) -> Self {
        let root = Arc::new(Root {
            polled_by: std::sync::Mutex::new(None),
            again: AtomicBool::new(false),
            is_foreign: AtomicBool::new(false),
            execution,
        });
        Self {
            future: Some(future),
            waker: Waker::from(Arc::clone(&root)),
            root,
            #[cfg(feature = "testkit")]
            second: None,
        }
    }

    /// From now on each turn is run again, and compared.
    #[cfg(feature = "testkit")]
    pub(super) fn run_twice(
        &mut self,
        workflow: (&Arc<dyn super::registry::AnyWorkflow>, &Arc<super::services::Services>),
        started: &super::record::Started,
    ) {
        self.second = Some(Second::new(workflow, started, &self.root.execution));
    }

    /// Whether something woke the function that its context has not made.
    pub(crate) fn is_foreign(&self) -> bool {
        self.root.is_foreign.load(Ordering::Acquire)
    }

    fn deliver(&mut self, record: &Record, at: Timestamp) -> Result<Polled, NonDeterminism> {
        let wakers = self.root.execution.slots().deliver(record, at)?;
        self.enter();
        wakers.into_iter().for_each(Waker::wake);
        Ok(self.poll_entered())
    }

    /// Delivers `record`, and polls the function unless the record answers nobody.
    pub(crate) fn tell(&mut self, record: &Record, at: Timestamp) -> Result<Polled, NonDeterminism> {
        if matches!(record, Record::AttemptFailed { .. } | Record::Patched { .. }) {
            return self.root.execution.slots().deliver(record, at).map(|_| Polled::Waits);
        }
        self.deliver(record, at)
    }

    /// Polls the function.
    pub(crate) fn poll(&mut self) -> Polled {
        self.enter();
        self.poll_entered()
    }

    fn enter(&self) {
        *self.root.polled_by.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(thread::current().id());
    }

    fn poll_entered(&mut self) -> Polled {
        let Some(future) = &mut self.future else { return Polled::Waits };
        let mut cx = Context::from_waker(&self.waker);
        // A combinator may ask to be polled again at once; what asks without end waits for something else than the context.
        let mut polls = 0;
        let polled = loop {
            self.root.again.store(false, Ordering::Relaxed);
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
            polls += 1;
            if !matches!(polled, Ok(Poll::Pending)) || polls == MAX_POLLS || !self.root.again.load(Ordering::Relaxed) {
                break polled;
            }
        };
        let polled = match polled {
            Ok(Poll::Pending) if polls < MAX_POLLS && self.root.execution.slots().awaits_something() => Polled::Waits,
            Ok(Poll::Pending) => Polled::Unsound(Parked::ForeignAwait),
            Ok(Poll::Ready(result)) => Polled::Returned(result),
            Err(panic) => Polled::Panicked(crate::workflow::panic_message(&*panic).to_owned()),
        };
        if !matches!(polled, Polled::Waits)
            && let Some(message) = self.end()
        {
            return Polled::Panicked(message);
        }
        *self.root.polled_by.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        #[cfg(feature = "testkit")]
        if let Some(second) = &self.second
            && let Some(difference) = second.differs(&self.root.execution, &polled)
        {
            self.end();
            return Polled::Unsound(difference);
        }
        polled
    }

    /// Drops the function wherever it is. Returns what a destructor panicked with.
    pub(crate) fn end(&mut self) -> Option<String> {
        // In which order it drops what it holds is its own affair.
        #[cfg(feature = "testkit")]
        self.root.execution.slots().stop_tape();
        let future = self.future.take();
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
        dropped.err().map(|panic| crate::workflow::panic_message(&*panic).to_owned())
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a run ends with, by what its function returned; `Err` with the input that it goes on with.
pub(crate) fn outcome(
    returned: Result<Bytes, WorkflowError>,
    cause: Option<Cause>,
) -> Result<Result<Bytes, Failure>, Bytes> {
    Ok(match returned {
        Err(WorkflowError::ContinueAsNew(input)) => return Err(input.0),
        Ok(output) => Ok(output),
        Err(WorkflowError::Cancelled) if cause == Some(Cause::Deadline) => {
            Err(Failure::new(ErrorCode::Timeout, "the deadline has passed"))
        }
        Err(error) => Err(error.to_failure()),
    })
}
