//! What the loop monitor sees of a block.

use std::time::Duration;

use bridge_orchestrator::health::{HealthError, LoopMonitor};
use tokio::task::yield_now;
use tokio::time::sleep;

const MILLISECOND: Duration = Duration::from_millis(1);

#[tokio::test]
async fn a_block_shows_as_a_lag_of_its_length_and_as_missed_ticks() {
    let monitor = LoopMonitor::start().expect("a runtime");
    sleep(50 * MILLISECOND).await;
    let before = monitor.report();
    assert!(before.ticks() > 0 && before.ticks() + before.missed() >= 40, "{before:?}");
    std::thread::sleep(200 * MILLISECOND);
    while monitor.report().missed() < before.missed() + 190 {
        yield_now().await;
        sleep(MILLISECOND).await;
    }
    let after = monitor.report();
    assert!(after.longest() >= 190 * MILLISECOND, "{after:?}");
    assert!(after.quantile(1.0) >= 190 * MILLISECOND && after.quantile(1.0) <= after.longest(), "{after:?}");
}

#[tokio::test]
async fn every_tick_is_on_time_late_or_missed() {
    let monitor = LoopMonitor::every(2 * MILLISECOND).expect("a runtime");
    let start = std::time::Instant::now();
    sleep(300 * MILLISECOND).await;
    let (report, passed) = (monitor.report(), start.elapsed());
    let due = passed.as_millis() as u64 / 2;
    let told = report.ticks() + report.missed();
    assert!(told <= due + 1 && told + 25 >= due, "{told} of {due}: {report:?}");
    assert!(report.on_time() <= report.ticks());
    assert!(report.mean() <= report.longest());
}

#[test]
fn without_an_io_driver_the_runtimes_own_timers_do() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let monitor = LoopMonitor::start().expect("a runtime");
        let told = || monitor.report().ticks() + monitor.report().missed();
        let ticking = async {
            while told() < 50 {
                sleep(MILLISECOND).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ticking).await.expect("it ticks");
    });
}

#[test]
fn a_monitor_needs_a_runtime_and_a_tick() {
    assert!(matches!(LoopMonitor::start(), Err(HealthError::NoRuntime)));
    assert!(matches!(LoopMonitor::every(Duration::ZERO), Err(HealthError::OutOfRange { option: "tick", .. })));
}
