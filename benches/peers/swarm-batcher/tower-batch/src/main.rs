//! The crate tower-batch: a tower service behind a worker task, which hands it item by item and then asks it to flush.

mod service;

use std::future::poll_fn;
use std::process::ExitCode;
use std::time::Duration;

use swarm_batcher_contest::{BATCH, Calls, Contest, Handler};
use tower_batch::Batch;
use tower_service::Service;

use service::Answers;

fn main() -> ExitCode {
    Contest::of("tower-batch").calls::<Batches>().run()
}

#[derive(Clone)]
struct Batches(Batch<Answers, u64>);

impl Calls for Batches {
    const NOTE: &'static str = "Batch of 100 or a time of 0, which its timer makes a millisecond";
    const LINGERS: bool = true;

    fn open(handler: Handler) -> Self {
        Self(Batch::new(Answers::of(handler), BATCH, Duration::ZERO))
    }

    async fn call(&mut self, item: u64) -> u64 {
        poll_fn(|context| self.0.poll_ready(context)).await.expect("the worker lives");
        self.0.call(item).await.expect("the service answers")
    }
}
