//! Calls that are answered by batches.

use std::convert::Infallible;

use swarm_batcher::{Batch, BatchHandler, Batcher};
use swarm_batcher_contest::{BATCH, Calls, Handler, answer};

#[derive(Clone)]
pub(crate) struct Batches(Batcher<u64, u64, Infallible>);

impl Calls for Batches {
    const NOTE: &'static str =
        "Batcher with its defaults, batches of 100: no linger, the caller that finds it idle polls the handler";
    const LINGERS: bool = false;

    fn open(handler: Handler) -> Self {
        let batcher = Batcher::builder(Answers(handler)).max_batch_items(BATCH);
        Self(batcher.build().expect("100 items are within the range"))
    }

    async fn call(&mut self, item: u64) -> u64 {
        self.0.call(item).await.expect("the handler answers")
    }
}

struct Answers(Handler);

impl BatchHandler<u64> for Answers {
    type Output = u64;
    type Error = Infallible;

    async fn handle(&self, mut batch: Batch<'_, u64, u64, Infallible>) {
        self.0.begin().await;
        for slot in batch.iter_mut() {
            let item = *slot.item();
            slot.reply(Ok(answer(item)));
        }
    }
}
