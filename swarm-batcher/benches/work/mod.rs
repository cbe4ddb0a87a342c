//! The work of the benchmarks.

use std::convert::Infallible;

use swarm_batcher::{Batch, BatchHandler, Batcher};
use tokio::task::yield_now;

/// Items that a batch has at most.
pub(crate) const BATCH: usize = 100;

/// What a handler makes of an item.
pub(crate) fn answer(item: u64) -> u64 {
    item.wrapping_mul(3) + 1
}

/// What a handler does before it answers.
pub(crate) trait Work: Default + Send + Sync + 'static {
    fn wait(&self) -> impl Future<Output = ()> + Send;
}

#[derive(Default)]
pub(crate) struct AtOnce;

impl Work for AtOnce {
    async fn wait(&self) {}
}

/// The handler gives the processor up once, as one that waits does: batches form.
#[derive(Default)]
pub(crate) struct Yields;

impl Work for Yields {
    async fn wait(&self) {
        yield_now().await;
    }
}

/// Answers each item of a batch.
#[derive(Default)]
pub(crate) struct Answers<W>(W);

impl<W: Work> BatchHandler<u64> for Answers<W> {
    type Output = u64;
    type Error = Infallible;

    async fn handle(&self, mut batch: Batch<'_, u64, u64, Infallible>) {
        self.0.wait().await;
        for slot in batch.iter_mut() {
            let reply = answer(*slot.item());
            slot.reply(Ok(reply));
        }
    }
}

pub(crate) type Ours = Batcher<u64, u64, Infallible>;

/// Ours, of the same handler.
pub(crate) fn ours<W: Work>() -> Ours {
    Batcher::builder(Answers::<W>::default()).max_batch_items(BATCH).build().expect("valid")
}
