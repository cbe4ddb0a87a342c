//! The crate batch-aint-one: a worker task that owns all queues, and tasks for the batches.

use std::convert::Infallible;
use std::process::ExitCode;

use batch_aint_one::{Batcher, BatchingPolicy, Limits, Processor};
use swarm_batcher_contest::{BATCH, Calls, Contest, Handler};

/// Batches under way at the same time: its default.
const CONCURRENCY: usize = 10;
/// More calls than there are in any work: none is rejected.
const QUEUE: usize = 1 << 13;

fn main() -> ExitCode {
    Contest::of("batch-aint-one").calls::<Batches>().run()
}

#[derive(Clone)]
struct Batches(Batcher<Answers>);

impl Calls for Batches {
    const NOTE: &'static str = "policy Balanced with a hint of 100, batches of 100, 10 at the same time, one key, a queue of 8,192; \
                                resources are had at once";
    const LINGERS: bool = false;

    fn open(handler: Handler) -> Self {
        let limits = Limits::builder().max_batch_size(BATCH).max_key_concurrency(CONCURRENCY);
        let batcher = Batcher::builder()
            .name("answers")
            .processor(Answers(handler))
            .limits(limits.max_key_queued_items(QUEUE).build())
            // Less than a full batch starts only when none is under way: `Immediate` makes more and smaller ones.
            .batching_policy(BatchingPolicy::Balanced { min_size_hint: BATCH });
        Self(batcher.build())
    }

    async fn call(&mut self, item: u64) -> u64 {
        self.0.add((), item).await.expect("the processor answers")
    }
}

#[derive(Debug, Clone)]
struct Answers(Handler);

impl Processor for Answers {
    type Key = ();
    type Input = u64;
    type Output = u64;
    type Error = Infallible;
    type Resources = ();

    async fn acquire_resources(&self, (): ()) -> Result<(), Infallible> {
        Ok(())
    }

    async fn process(&self, (): (), items: impl Iterator<Item = u64> + Send, (): ()) -> Result<Vec<u64>, Infallible> {
        Ok(self.0.answers(items).await)
    }
}
