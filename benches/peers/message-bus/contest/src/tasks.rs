//! A producer and consumers that are tasks of one runtime, which runs before the clock starts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Bench, BenchError};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Barrier;
use tokio::task::JoinHandle;

use crate::tally::Tally;
use crate::{Checksum, Flow, Work};

/// Workers of the runtime: as many as the works' threads.
const WORKERS: usize = 2;

/// A queue between tasks.
pub trait Tasks: 'static {
    /// How it is set up and called; every report repeats it.
    const NOTE: &'static str;
    /// The side that sends.
    type Producer: Send + 'static;
    /// One consumer.
    type Consumer: Send + 'static;

    /// Not timed: an empty queue of [`CAPACITY`](crate::CAPACITY) with so many consumers, each of which gets every message.
    fn open(consumers: usize) -> impl Future<Output = (Self::Producer, Vec<Self::Consumer>)> + Send;

    /// Timed: sends the messages of the flow.
    fn produce(producer: &mut Self::Producer, flow: Flow) -> impl Future<Output = ()> + Send;

    /// Timed: takes the messages of the flow.
    fn consume(consumer: &mut Self::Consumer, flow: Flow) -> impl Future<Output = Checksum> + Send;
}

/// When a task's part began and ended, and what it came to, with the side that it used: dropping that is not timed.
struct Part<S, R> {
    began: Instant,
    ended: Instant,
    checksum: R,
    _side: S,
}

/// One operation is one message, to all consumers.
pub(crate) fn measure<C: Tasks>(bench: &mut Bench, work: Work) -> Result<(), BenchError> {
    bench.note(C::NOTE);
    let (flow, consumers) = work.flow();
    let mut tally = Tally::new(flow, consumers);
    let runtime = Builder::new_multi_thread().worker_threads(WORKERS).build().map_err(|error| invalid(&error))?;
    bench.rounds(|| {
        let (elapsed, checksums) = round::<C>(&runtime, flow, consumers);
        tally.add(checksums.iter());
        (elapsed, flow.messages)
    })?;
    tally.state(bench);
    Ok(())
}

fn invalid(error: &std::io::Error) -> BenchError {
    BenchError::Invalid(format!("no runtime: {error}"))
}

/// The time from the first task's start to the last one's end, as the tasks themselves saw it.
fn round<C: Tasks>(runtime: &Runtime, flow: Flow, consumers: usize) -> (Duration, Vec<Checksum>) {
    // A task of the runtime opens, too: what it spawns then is on the workers' own queues.
    let all = runtime.spawn(async move {
        let (mut producer, receivers) = C::open(consumers).await;
        let ready = Arc::new(Barrier::new(consumers + 1));
        let consuming: Vec<JoinHandle<Part<C::Consumer, Checksum>>> = receivers
            .into_iter()
            .map(|mut consumer| {
                let ready = Arc::clone(&ready);
                tokio::spawn(async move {
                    ready.wait().await;
                    let began = Instant::now();
                    let checksum = C::consume(&mut consumer, flow).await;
                    Part { began, ended: Instant::now(), checksum, _side: consumer }
                })
            })
            .collect();
        let producing = tokio::spawn(async move {
            ready.wait().await;
            let began = Instant::now();
            C::produce(&mut producer, flow).await;
            Part { began, ended: Instant::now(), checksum: (), _side: producer }
        });
        let sent = producing.await.expect("the producer does not panic");
        let mut received = Vec::with_capacity(consumers);
        for consuming in consuming {
            received.push(consuming.await.expect("the consumer does not panic"));
        }
        let began = received.iter().map(|part| part.began).fold(sent.began, Instant::min);
        let ended = received.iter().map(|part| part.ended).fold(sent.ended, Instant::max);
        (ended - began, received.into_iter().map(|part| part.checksum).collect())
    });
    runtime.block_on(all).expect("no task panics")
}
