//! The DataLoader of the crate async-graphql: keys gathered under a mutex, and a task for every batch.

use std::collections::HashMap;
use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::dataloader::{DataLoader, Loader};
use swarm_batcher_contest::{BATCH, Calls, Contest, Handler, answer};

fn main() -> ExitCode {
    Contest::of("async-graphql").calls::<Batches>().run()
}

#[derive(Clone)]
struct Batches(Arc<DataLoader<Answers>>);

impl Calls for Batches {
    const NOTE: &'static str = "DataLoader without a cache, batches of 100, a delay of 0 by the timer of async-io, which is none; \
                                every call has a key of its own";
    const LINGERS: bool = false;

    fn open(handler: Handler) -> Self {
        let loader = DataLoader::new(Answers(handler), tokio::spawn);
        let loader = loader.delay(Duration::ZERO).max_batch_size(BATCH);
        loader.enable_all_cache(false);
        Self(Arc::new(loader))
    }

    async fn call(&mut self, item: u64) -> u64 {
        let answer = self.0.load_one(item).await.expect("the loader answers");
        answer.expect("an answer to each key")
    }
}

struct Answers(Handler);

impl Loader<u64> for Answers {
    type Value = u64;
    type Error = Infallible;

    async fn load(&self, keys: &[u64]) -> Result<HashMap<u64, u64>, Infallible> {
        self.0.begin().await;
        Ok(keys.iter().map(|&key| (key, answer(key))).collect())
    }
}
