use std::time::Duration;
use swarm_batcher::*;

struct Doubles;
impl BatchHandler<u64> for Doubles {
    type Output = u64;
    type Error = String;
    async fn handle(&self, mut batch: Batch<'_, u64, u64, String>) {
        tokio::task::yield_now().await;
        for slot in batch.iter_mut() {
            let item = *slot.item();
            slot.reply(Ok(item * 2));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke() {
    let batcher: Batcher<u64, u64, String> = Batcher::builder(Doubles).build().unwrap();
    assert_eq!(batcher.call(4).await, Ok(8));
    let mut tasks = Vec::new();
    for t in 0..100 {
        let batcher = batcher.clone();
        tasks.push(tokio::spawn(async move {
            for n in 0..1000 {
                assert_eq!(batcher.call(n + t).await, Ok(2 * (n + t)));
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    println!("{:?}", batcher.stats());
    assert!(batcher.stats().is_balanced());
    let all = batcher.call_all(0..250).await;
    assert_eq!(all, (0..250).map(|n| Ok(2 * n)).collect::<Vec<_>>());
    let report = batcher.shutdown(Duration::from_secs(1)).await;
    println!("{report:?}");
    assert!(report.drained && report.stats.is_balanced());
    assert!(batcher.call(1).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linger() {
    let batcher: Batcher<u64, u64, String> =
        Batcher::builder(Doubles).policy(Policy::Linger(Duration::from_micros(300))).build().unwrap();
    for _ in 0..10 {
        let start = std::time::Instant::now();
        assert_eq!(batcher.call(4).await, Ok(8));
        println!("{:?}", start.elapsed());
    }
}
