//! A batcher behind tower's layers.

mod support;

use std::time::Duration;

use support::{AtOnce, Gated, answer, settle};
use swarm_batcher::{BatchError, Batcher, Reason};
use tower::{Service, ServiceBuilder, ServiceExt};

type Ours = Batcher<u64, u64, String>;

#[tokio::test]
async fn a_batcher_is_a_service() {
    let mut batcher: Ours = Batcher::builder(AtOnce::default()).build().unwrap();
    assert_eq!(batcher.ready().await.unwrap().call(1).await, Ok(answer(1)));
    let replies = futures::future::join_all((0..50).map(|item| batcher.clone().oneshot(item))).await;
    assert_eq!(replies, (0..50).map(|item| Ok(answer(item))).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_layer_that_drops_its_response_takes_the_item_out() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone()).max_queue_items(2).build().unwrap();
    let running = batcher.submit(0).unwrap();
    settle().await;
    let hasty = ServiceBuilder::new().timeout(Duration::from_millis(5)).service(batcher.clone());
    assert!(hasty.oneshot(1).await.is_err());
    assert_eq!(batcher.stats().cancelled, 1);
    let _waits = batcher.submit(2).unwrap();
    assert_eq!(batcher.clone().oneshot(3).await, Err(BatchError::Rejected(Reason::Full)));
    drop(running);
}
