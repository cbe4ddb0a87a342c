//! Calling the inline handlers of one publish.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::delivery::Carrier;
use crate::error::{Cause, Failure};
use crate::handler::Pending;
use crate::metadata::{Busy, Current, Running};
use crate::publisher::FailurePolicy;
use crate::topic::{Call, Handlers, Inline};

/// Calls the synchronous handlers in the order of subscription; returns how many.
#[inline]
pub(crate) fn call_synchronous<M>(
    handlers: &[Arc<Inline<M>>],
    message: &M,
    policy: FailurePolicy,
    failures: &mut Vec<Failure>,
) -> usize {
    let mut called = 0;
    for handler in handlers {
        let Call::Sync(call) = &handler.call else { continue };
        called += 1;
        let cause = match catch_unwind(AssertUnwindSafe(|| call(message))) {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => Cause::Error(error),
            Err(payload) => Cause::panicked(&*payload),
        };
        fail(handler, cause, failures);
        if policy == FailurePolicy::FailFast {
            break;
        }
    }
    called
}

#[cold]
fn fail<M>(handler: &Inline<M>, cause: Cause, failures: &mut Vec<Failure>) {
    failures.push(Failure { handler: Arc::clone(&handler.name), cause });
}

/// The asynchronous handlers of one publish under way, in memory that the next publish uses again.
pub(crate) struct Run {
    calls: Vec<Started>,
}

struct Started {
    /// Its place among the topic's inline handlers.
    handler: usize,
    pending: Option<Pending>,
    running: bool,
}

/// A run that goes back to where it was taken from, whatever becomes of the publish.
struct Lent<'a, M> {
    handlers: &'a Handlers<M>,
    run: Option<Box<Run>>,
}

impl<M> Drop for Lent<'_, M> {
    fn drop(&mut self) {
        let Some(mut run) = self.run.take() else { return };
        for call in run.calls.iter_mut().filter(|call| call.running) {
            // The future of a handler is dropped here: a panic in there is not the publisher's.
            let Call::Async(handler) = &self.handlers.inline[call.handler].call else { continue };
            let dropped = catch_unwind(AssertUnwindSafe(|| handler.start(&mut call.pending, None)));
            if dropped.is_err() {
                call.pending = None;
            }
            call.running = false;
        }
        // More publishes at once than are kept room for: the memory is given back.
        drop(self.handlers.runs.push(run));
    }
}

/// Calls the asynchronous handlers at once and waits for all. Dropped, it drops the handlers that have not finished.
pub(crate) async fn call_asynchronous<M: Send + Sync + 'static>(
    handlers: &Handlers<M>,
    carrier: &Arc<Carrier<M>>,
    busy: Busy,
    policy: FailurePolicy,
    failures: &mut Vec<Failure>,
) {
    let mut lent = Lent { handlers, run: Some(handlers.runs.pop().unwrap_or_else(|| Run::new(handlers))) };
    let run = lent.run.as_mut().expect("just put there");
    let mut current = Current::new(Running::Carried(Arc::clone(carrier) as Arc<_>), busy);
    {
        let _in_here = current.enter();
        for call in &mut run.calls {
            let handler = &handlers.inline[call.handler];
            let Call::Async(invoke) = &handler.call else { continue };
            let started = catch_unwind(AssertUnwindSafe(|| invoke.start(&mut call.pending, Some(Arc::clone(carrier)))));
            call.running = started.is_ok();
            if let Err(payload) = started {
                call.pending = None;
                fail(handler, Cause::panicked(&*payload), failures);
            }
        }
    }
    poll_fn(|context| {
        let _in_here = current.enter();
        run.poll(handlers, context, policy, failures)
    })
    .await;
}

impl Run {
    fn new<M>(handlers: &Handlers<M>) -> Box<Self> {
        let calls = handlers.inline.iter().enumerate().filter(|(_, handler)| matches!(handler.call, Call::Async(_)));
        let calls = calls.map(|(handler, _)| Started { handler, pending: None, running: false });
        Box::new(Self { calls: calls.collect() })
    }

    fn poll<M>(
        &mut self,
        handlers: &Handlers<M>,
        context: &mut Context<'_>,
        policy: FailurePolicy,
        failures: &mut Vec<Failure>,
    ) -> Poll<()> {
        let mut unfinished = false;
        for call in self.calls.iter_mut().filter(|call| call.running) {
            let Some(pending) = &mut call.pending else { continue };
            let polled = catch_unwind(AssertUnwindSafe(|| pending.poll(context)));
            let result = match polled {
                Ok(Poll::Pending) => {
                    unfinished = true;
                    continue;
                }
                Ok(Poll::Ready(result)) => result.map_err(Cause::Error),
                Err(payload) => {
                    // What is left of it can be dropped, not polled.
                    let rest = call.pending.take();
                    drop(catch_unwind(AssertUnwindSafe(|| drop(rest))));
                    Err(Cause::panicked(&*payload))
                }
            };
            call.running = false;
            if let Err(cause) = result {
                fail(&handlers.inline[call.handler], cause, failures);
                if policy == FailurePolicy::FailFast {
                    self.cancelled(handlers, failures);
                    return Poll::Ready(());
                }
            }
        }
        if unfinished { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Notes who has not finished; their futures are dropped with the run's return.
    fn cancelled<M>(&self, handlers: &Handlers<M>, failures: &mut Vec<Failure>) {
        for call in self.calls.iter().filter(|call| call.running) {
            fail(&handlers.inline[call.handler], Cause::Cancelled, failures);
        }
    }
}
