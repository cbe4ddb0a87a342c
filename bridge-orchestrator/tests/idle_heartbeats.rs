//! Nothing spins: what the processor spends while nodes wait for their next heartbeat and a detector for tasks that block, for the process
//! as a whole, hence in a binary of its own.

#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_orchestrator::health::BlockingDetector;
use bridge_orchestrator::heartbeat::{Beater, Heartbeat, Node, Resources};

/// What this process has used of all processors, by the clock of the kernel's accounts.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells");
    // The name, in parentheses, may hold anything; the times are the 14th and 15th field, in hundredths of a second.
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(10 * ticks)
}

#[test]
fn a_thousand_idle_nodes_and_a_detector_take_no_time() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let detector = BlockingDetector::on_block(drop);
    let resources = Arc::new(Resources::of_this_process(Resources::TTL, Instant::now()).expect("Linux tells"));
    let beaters: Vec<_> = (0..1_000)
        .map(|number| {
            let node = Node::builder(format!("node-{number}"), "reducer").build(Arc::clone(&resources), Instant::now());
            let sink = |_: Heartbeat| std::future::ready(Ok(()));
            Beater::builder(Arc::new(node)).start(sink).expect("a runtime")
        })
        .collect();
    let waiting = detector.spawn("waits", std::future::pending::<()>());
    // Until all have gone to sleep.
    std::thread::sleep(Duration::from_millis(300));
    let before = processor_time();
    std::thread::sleep(Duration::from_secs(1));
    let spent = processor_time() - before;
    assert!(spent <= Duration::from_millis(50), "{spent:?} in a second in which nothing happens");
    waiting.abort();
    drop(beaters);
}
