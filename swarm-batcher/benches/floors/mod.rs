//! The work of the benchmarks, and what a good engineer writes by hand in thirty lines for it: measured in the same run.

use std::convert::Infallible;

use swarm_batcher::{Batch, BatchHandler, Batcher};
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

/// Items that a batch has at most, here and in ours.
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

/// Who can be called.
pub(crate) trait Calls: Clone + Send + Sync + 'static {
    fn call_it(&self, item: u64) -> impl Future<Output = u64> + Send;
}

impl Calls for Ours {
    async fn call_it(&self, item: u64) -> u64 {
        self.call(item).await.expect("answered")
    }
}

impl Calls for RecvMany {
    async fn call_it(&self, item: u64) -> u64 {
        let (sender, receiver) = oneshot::channel();
        self.sender.send((item, sender)).await.expect("its task runs");
        receiver.await.expect("it answers")
    }
}

type Waiting = (u64, oneshot::Sender<u64>);

/// A channel to one task that takes what is there and answers each by a channel of its own.
#[derive(Clone)]
pub(crate) struct RecvMany {
    sender: mpsc::Sender<Waiting>,
}

impl RecvMany {
    /// Its task runs in the runtime of the caller, and does `work` for each batch before it answers.
    pub(crate) fn spawn<W: Work>(work: W) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Waiting>(1024);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while receiver.recv_many(&mut batch, BATCH).await > 0 {
                work.wait().await;
                for (item, caller) in batch.drain(..) {
                    let _gone = caller.send(answer(item));
                }
            }
        });
        Self { sender }
    }
}
