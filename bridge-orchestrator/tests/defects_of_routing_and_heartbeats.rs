//! Defects of the original in routing and heartbeats: ours shows that it has none of them.

use std::cell::Cell;
use std::time::Duration;

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
