//! Callers that are tasks of one runtime, which runs before the clock starts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Bench, BenchError};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Barrier;

use crate::replies::{Replies, Tally};
use crate::{Handler, Work};

/// Workers of the runtime.
const WORKERS: usize = 2;

/// A batcher of numbers. Every caller has a clone of its own, made before the clock starts.
pub trait Calls: Clone + Send + 'static {
    /// How it is set up and called; every report repeats it.
    const NOTE: &'static str;
    /// Whether a batch that is not full waits for a timer: few callers make fewer calls then.
    const LINGERS: bool;

    /// Not timed, within the runtime: a batcher in front of `handler`, whose batches hold [`BATCH`](crate::BATCH) items at most.
    fn open(handler: Handler) -> Self;

    /// Timed: hands over the item and waits for its [`answer`](crate::answer).
    fn call(&mut self, item: u64) -> impl Future<Output = u64> + Send;
}

/// When a caller's part began and ended, and what it came to, with its batcher: dropping that is not timed.
struct Part<C> {
    began: Instant,
    ended: Instant,
    replies: Replies,
    _batcher: C,
}

/// One operation is one call.
pub(crate) fn measure<C: Calls>(bench: &mut Bench, work: Work) -> Result<(), BenchError> {
    bench.note(C::NOTE);
    let (callers, calls_each) = (work.callers(), work.calls_each(C::LINGERS));
    let calls = callers as u64 * calls_each;
    let mut tally = Tally::new(calls);
    let runtime = runtime(Builder::new_multi_thread().worker_threads(WORKERS))?;
    let batcher = runtime.block_on(async { C::open(work.handler()) });
    bench.rounds(|| {
        let (elapsed, replies) = round(&runtime, &batcher, callers, calls_each);
        tally.add(replies.into_iter());
        (elapsed, calls)
    })?;
    tally.state(bench);
    Ok(())
}

/// With its timers and its poller, as any service has it.
pub(crate) fn runtime(builder: &mut Builder) -> Result<Runtime, BenchError> {
    builder.enable_all().build().map_err(|error| BenchError::Invalid(format!("no runtime: {error}")))
}

/// The time from the first caller's start to the last one's end, as the callers themselves saw it.
fn round<C: Calls>(runtime: &Runtime, batcher: &C, callers: usize, calls_each: u64) -> (Duration, Vec<Replies>) {
    let batchers = vec![batcher.clone(); callers];
    // A task of the runtime starts the callers: what it spawns is on the workers' own queues.
    let all = runtime.spawn(async move {
        let ready = Arc::new(Barrier::new(callers));
        let calling: Vec<_> = (0_u64..)
            .zip(batchers)
            .map(|(caller, mut batcher)| {
                let ready = Arc::clone(&ready);
                tokio::spawn(async move {
                    ready.wait().await;
                    let began = Instant::now();
                    let replies = call(&mut batcher, caller * calls_each, calls_each).await;
                    Part { began, ended: Instant::now(), replies, _batcher: batcher }
                })
            })
            .collect();
        let mut parts = Vec::with_capacity(callers);
        for calling in calling {
            parts.push(calling.await.expect("no caller panics"));
        }
        let began = parts.iter().map(|part| part.began).min().expect("callers");
        let ended = parts.iter().map(|part| part.ended).max().expect("callers");
        (ended - began, parts.into_iter().map(|part| part.replies).collect())
    });
    runtime.block_on(all).expect("no task panics")
}

/// Calls one after another; each item has a number of its own.
pub(crate) async fn call<C: Calls>(batcher: &mut C, first: u64, calls: u64) -> Replies {
    let mut replies = Replies::default();
    for item in first..first + calls {
        let reply = batcher.call(item).await;
        replies.see(item, reply);
    }
    replies
}
