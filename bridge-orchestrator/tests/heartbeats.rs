//! Heartbeats as a sink sees them, and the figures in them.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bridge_orchestrator::heartbeat::{
    BeatError, Beater, Health, Heartbeat, HeartbeatError, Node, Resources, SinkError, Usage,
};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

fn resources() -> Arc<Resources> {
    let usage = || Ok(Usage { cpu_time: Duration::ZERO, memory: 1 << 20 });
    Arc::new(Resources::from_source(Resources::TTL, Instant::now(), usage).expect("a source that succeeds"))
}

fn node() -> Arc<Node> {
    let now = tokio::time::Instant::now().into_std();
    Arc::new(Node::builder("orchestrator-1", "orchestrator").build(resources(), now))
}

type Taken = Arc<Mutex<Vec<Heartbeat>>>;

fn taking() -> (Taken, impl Fn(Heartbeat) -> std::future::Ready<Result<(), SinkError>>) {
    let taken = Taken::default();
    let sink = Arc::clone(&taken);
    let take = move |heartbeat| {
        sink.lock().expect("no panic").push(heartbeat);
        std::future::ready(Ok(()))
    };
    (taken, take)
}

#[tokio::test(start_paused = true)]
async fn the_first_comes_after_one_interval_and_then_one_every_thirty_seconds() {
    let node = node();
    let (taken, sink) = taking();
    let beater = Beater::builder(Arc::clone(&node)).start(sink).expect("a runtime");
    sleep(29 * SECOND).await;
    assert_eq!(taken.lock().expect("no panic").len(), 0);
    let operation = node.operation();
    sleep(2 * SECOND).await;
    drop(operation);
    node.set_health(Health::Degraded);
    sleep(60 * SECOND).await;
    assert_eq!(beater.stop().await.sent, 3);
    let taken = taken.lock().expect("no panic");
    let told: Vec<_> = taken.iter().map(|one| (one.uptime.as_secs(), one.health, one.active_operations)).collect();
    assert_eq!(told, [(30, Health::Healthy, 1), (60, Health::Degraded, 0), (90, Health::Degraded, 0)]);
    assert_eq!((&*taken[0].node_id, &*taken[0].node_type), ("orchestrator-1", "orchestrator"));
    assert_eq!((taken[0].figures.memory, Health::Unhealthy.name()), (1 << 20, "UNHEALTHY"));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_or_panics_costs_that_heartbeat_alone() {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let beater = Beater::builder(node())
        .interval(SECOND)
        .start(move |_| {
            let call = counted.fetch_add(1, Ordering::Relaxed);
            assert!(call != 1, "the second one");
            async move {
                assert!(call != 2, "the third one, when polled");
                if call == 0 { Err("refused".into()) } else { Ok(()) }
            }
        })
        .expect("a runtime");
    sleep(SECOND * 11 / 2).await;
    let stats = beater.stop().await;
    assert_eq!((stats.failed, stats.sent, stats.missed), (3, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_did_is_told_to_who_asked_for_a_heartbeat() {
    let failing = Beater::builder(node()).start(|_| async { Err("refused".into()) }).expect("a runtime");
    assert_eq!(failing.beat().await.expect_err("refused").to_string(), "the sink failed: refused");
    let panicking = |_: Heartbeat| async { panic!("no reason") };
    let panicking = Beater::builder(node()).start(panicking).expect("a runtime");
    assert!(matches!(panicking.beat().await, Err(BeatError::Panicked)));
    let slow = |_: Heartbeat| async { pending().await };
    let slow = Beater::builder(node()).send_within(SECOND).start(slow).expect("a runtime");
    assert!(matches!(slow.beat().await, Err(BeatError::TimedOut(SECOND))));
    assert_eq!((failing.stats().failed, panicking.stats().failed, slow.stats().timed_out), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_slow_sink_piles_nothing_up_and_what_is_left_out_is_counted() {
    let under_way = Arc::new(AtomicU64::new(0));
    let (sink, most) = (Arc::clone(&under_way), Arc::new(AtomicU64::new(0)));
    let seen = Arc::clone(&most);
    let beater = Beater::builder(node())
        .interval(SECOND)
        .send_within(SECOND * 7 / 2)
        .start(move |_| {
            let (under_way, most) = (Arc::clone(&sink), Arc::clone(&seen));
            async move {
                most.fetch_max(under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                sleep(SECOND * 5 / 2).await;
                under_way.fetch_sub(1, Ordering::Relaxed);
                Ok(())
            }
        })
        .expect("a runtime");
    sleep(99 * SECOND + SECOND / 4).await;
    let stats = beater.stop().await;
    assert_eq!(most.load(Ordering::Relaxed), 1, "one is under way at a time");
    assert_eq!((stats.sent, stats.missed), (33, 66), "of three that come due while one is under way, the two others");
}

#[tokio::test(start_paused = true)]
async fn stopping_lets_the_heartbeat_under_way_arrive_and_takes_five_seconds_at_most() {
    let start = |time| {
        let sink = move |_: Heartbeat| async move {
            sleep(time).await;
            Ok(())
        };
        Beater::builder(node()).interval(SECOND).send_within(60 * SECOND).start(sink).expect("a runtime")
    };
    for (time, expected, takes) in [(3, (1, 0), 3), (30, (0, 1), 5)] {
        let beater = start(time * SECOND);
        sleep(SECOND + Duration::from_millis(1)).await;
        let began = tokio::time::Instant::now();
        let stats = beater.stop().await;
        assert_eq!((stats.sent, stats.aborted), expected);
        assert!(began.elapsed() <= takes * SECOND + Duration::from_millis(2), "{:?}", began.elapsed());
    }
    let idle = start(SECOND);
    let began = tokio::time::Instant::now();
    idle.stop().await;
    assert!(began.elapsed() < Duration::from_millis(2));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_beater_sends_nothing_more() {
    let (taken, sink) = taking();
    drop(Beater::builder(node()).interval(SECOND).start(sink).expect("a runtime"));
    sleep(10 * SECOND).await;
    assert_eq!(taken.lock().expect("no panic").len(), 0);
}

#[test]
fn a_beater_needs_a_runtime_and_an_interval() {
    let sink = |_: Heartbeat| std::future::ready(Ok(()));
    assert!(matches!(Beater::builder(node()).start(sink), Err(HeartbeatError::NoRuntime)));
    let none = Beater::builder(node()).interval(Duration::ZERO).start(sink);
    assert!(matches!(none, Err(HeartbeatError::OutOfRange { option: "interval", .. })));
}

#[test]
fn keys_that_look_secret_are_left_out() {
    let secret = [
        "password",
        "DB_PASSWORD",
        "Api-Key",
        "apikey",
        "github.token",
        "AUTH",
        "clientSecret",
        "aws_access_key_id",
        "Set-Cookie",
        "pwd",
    ];
    let plain = ["region", "version", "author", "keyboard", "capabilities", "passenger"];
    let mut builder = Node::builder("n", "t");
    for key in secret.iter().chain(&plain) {
        builder = builder.metadata(*key, "value");
    }
    let node = builder.build(resources(), Instant::now());
    let kept: Vec<_> = node.heartbeat(Instant::now()).metadata.iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(kept, ["author", "capabilities", "keyboard", "passenger", "region", "version"]);
    assert_eq!(node.withheld(), secret.len());
}

#[test]
fn figures_are_read_again_when_they_are_too_old() {
    let start = Instant::now();
    let used = Arc::new(AtomicU64::new(0));
    let source = Arc::clone(&used);
    let usage = move || Ok(Usage { cpu_time: SECOND * source.load(Ordering::Relaxed) as u32, memory: 7 << 10 });
    let resources = Resources::from_source(10 * SECOND, start, usage).expect("succeeds");
    used.store(5, Ordering::Relaxed);
    assert_eq!((resources.figures(start + 9 * SECOND).cpu, resources.reads()), (0.0, 1));
    assert_eq!((resources.figures(start + 10 * SECOND).cpu, resources.reads()), (0.5, 2), "5 s of 10");
    assert_eq!((resources.figures(start + 19 * SECOND).cpu, resources.reads()), (0.5, 2));
    used.store(25, Ordering::Relaxed);
    assert_eq!((resources.figures(start + 20 * SECOND).cpu, resources.reads()), (2.0, 3), "20 s of 10: two processors");
}

#[test]
fn a_reading_that_fails_leaves_the_old_figures_and_is_counted() {
    let (start, calls) = (Instant::now(), AtomicU64::new(0));
    let usage = move || match calls.fetch_add(1, Ordering::Relaxed) {
        0 => Ok(Usage { cpu_time: Duration::ZERO, memory: 7 << 10 }),
        _ => Err(std::io::Error::other("out of descriptors")),
    };
    let resources = Resources::from_source(SECOND, start, usage).expect("the first succeeds");
    assert_eq!((resources.figures(start + SECOND).memory, resources.failures(), resources.reads()), (7 << 10, 1, 2));
    assert_eq!((resources.figures(start + SECOND).memory, resources.reads()), (7 << 10, 2), "not again at once");
    let failing = Resources::from_source(SECOND, start, || Err(std::io::Error::other("none")));
    assert!(matches!(failing, Err(HeartbeatError::Unreadable(_))));
}

#[test]
#[cfg(target_os = "linux")]
fn the_figures_of_this_process_are_the_kernels() {
    let start = Instant::now();
    let resources = Resources::of_this_process(Duration::ZERO, start).expect("Linux tells");
    // Half a second of one processor, by the process's own account: however busy the machine is, the share is not above that of the clock.
    let mut state = 1_u64;
    while start.elapsed() < SECOND / 2 {
        state = std::hint::black_box(state.wrapping_mul(3));
    }
    let figures = resources.figures(Instant::now());
    assert!(figures.cpu > 0.05, "{figures:?}");
    let ballast = std::hint::black_box(vec![1_u8; 64 << 20]);
    let after = resources.figures(Instant::now());
    assert!(after.memory >= figures.memory + (60 << 20), "{figures:?}, then {after:?}");
    drop(ballast);
}
