//! Defects of the original in routing and heartbeats: ours shows that it has none of them.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bridge_orchestrator::heartbeat::{Node, Resources, Usage};
use bridge_orchestrator::route::{Retry, RetryBudget};

#[tokio::test(start_paused = true)]
async fn defect_5_a_retry_makes_the_call_again() {
    let calls = Cell::new(0);
    let fails_once = |_| {
        calls.set(calls.get() + 1);
        let first = calls.get() == 1;
        async move { if first { Err("busy") } else { Ok("committed") } }
    };
    let began = tokio::time::Instant::now();
    assert_eq!(Retry::default().run(&RetryBudget::default(), |_| true, fails_once).await, Ok("committed"));
    assert_eq!(calls.get(), 2);
    assert!(began.elapsed() <= Duration::from_millis(1_002));
}

#[test]
fn defect_11_figures_of_the_process_are_read_once_for_all_nodes_and_callers() {
    let start = Instant::now();
    let readings = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&readings);
    let usage = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        // Long enough for the other threads to come by.
        std::thread::sleep(Duration::from_millis(5));
        Ok(Usage { cpu_time: Duration::ZERO, memory: 1 })
    };
    let resources = Arc::new(Resources::from_source(Resources::TTL, start, usage).expect("succeeds"));
    let nodes: Vec<_> =
        (0..100).map(|id| Node::builder(format!("{id}"), "reducer").build(Arc::clone(&resources), start)).collect();
    // Five times to live, in each of which four threads send ten heartbeats for each of a hundred nodes.
    for lifetime in 1..=5 {
        let now = start + lifetime * Resources::TTL;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| nodes.iter().cycle().take(1_000).for_each(|node| drop(node.heartbeat(now))));
            }
        });
    }
    assert_eq!((readings.load(Ordering::Relaxed), resources.reads()), (6, 6), "one at first and one each time");
}
