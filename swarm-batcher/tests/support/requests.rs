//! Batchers of requests as the tests want them: nothing happens but when they say so.
#![allow(dead_code, reason = "each includer uses a part")]

use std::time::Duration;

use swarm_batcher::BreakerPolicy;
use swarm_batcher::telemetry::{RequestBatcher, RequestBatcherBuilder};
use tokio::time::{sleep, timeout};

/// Longer than anything here takes, where only the order of things matters.
pub(crate) const GRACE: Duration = Duration::from_secs(20);

/// For a server that fails often.
pub(crate) const NO_BREAKER: BreakerPolicy = BreakerPolicy { failures: u32::MAX, reset: GRACE };

/// One attempt a POST, no waits, and items leave by number or by a flush.
pub(crate) fn requests_to(endpoint: &str) -> RequestBatcherBuilder {
    RequestBatcher::builder(endpoint)
        .max_wait(Duration::from_secs(600))
        .sink(|sink| sink.max_attempts(1).backoff(Duration::ZERO, Duration::ZERO))
}

pub(crate) fn started(builder: RequestBatcherBuilder) -> RequestBatcher {
    let batcher = builder.build().expect("an endpoint");
    batcher.start();
    batcher
}

pub(crate) async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let wait = async {
        while !reached() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(timeout(GRACE, wait).await.is_ok(), "never: {what}");
}
