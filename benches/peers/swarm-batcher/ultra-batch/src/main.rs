//! The crate ultra-batch: a task that gathers until nothing came for a while, or until there is enough.

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::Duration;

use swarm_batcher_contest::{BATCH, Calls, Contest, Handler};
use ultra_batch::{BatchExecutor, Executor};

fn main() -> ExitCode {
    Contest::of("ultra-batch").calls::<Batches>().run()
}

#[derive(Clone)]
struct Batches(BatchExecutor<Answers>);

impl Calls for Batches {
    const NOTE: &'static str = "BatchExecutor, eager at 100, a delay of 0, which its timer makes a millisecond";
    const LINGERS: bool = true;

    fn open(handler: Handler) -> Self {
        let executor = BatchExecutor::build(Answers(handler));
        let executor = executor.eager_batch_size(Some(BATCH)).delay_duration(Duration::ZERO);
        Self(executor.finish())
    }

    async fn call(&mut self, item: u64) -> u64 {
        let answer = self.0.execute(item).await.expect("the executor answers");
        answer.expect("an answer to each item")
    }
}

struct Answers(Handler);

impl Executor for Answers {
    type Value = u64;
    type Result = u64;
    type Error = Infallible;

    async fn execute(&self, items: Vec<u64>) -> Result<Vec<u64>, Infallible> {
        Ok(self.0.answers(items.into_iter()).await)
    }
}
