//! What the loop monitor and the blocking detector see, and what they cost.

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bridge_orchestrator::health::{BlockingDetector, LagHistogram, LoopMonitor};
use bridge_orchestrator::heartbeat::{Beater, Heartbeat, Node, Resources, Sink, SinkError};
use harness::metric::Metric;
use harness::record::{Figure, Source};
use harness::{Bench, BenchError, Suite};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tokio::task::yield_now;

fn main() -> ExitCode {
    Suite::new()
        .bench("bridge-orchestrator/health/loop-lag", loop_lag)
        .bench("bridge-orchestrator/health/no-blocking", no_blocking)
        .bench("bridge-orchestrator/health/parallel-speedup", parallel_speedup)
        .bench("bridge-orchestrator/health/blocked-tasks", blocked_tasks)
        .bench("bridge-orchestrator/health/watched-poll", watched_poll)
        .run()
}

const SECOND: Duration = Duration::from_secs(1);

fn one_thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn two_workers() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn node(number: usize, resources: &Arc<Resources>) -> Arc<Node> {
    let node = Node::builder(format!("node-{number}"), "orchestrator");
    Arc::new(node.build(Arc::clone(resources), Instant::now()))
}

fn resources(ttl: Duration) -> Arc<Resources> {
    Arc::new(Resources::of_this_process(ttl, Instant::now()).expect("this platform tells"))
}

/// Beaters of so many nodes beat ten times a second each, for a second, in a runtime of one thread.
fn beating(nodes: usize, ttl: Duration) -> (LagHistogram, u64, u64) {
    const INTERVAL: Duration = Duration::from_millis(100);
    let received = Arc::new(AtomicU64::new(0));
    one_thread().block_on(async {
        let resources = resources(ttl);
        let mut beaters = Vec::new();
        for number in 0..nodes {
            let received = Arc::clone(&received);
            let sink = move |_: Heartbeat| {
                received.fetch_add(1, Ordering::Relaxed);
                std::future::ready(Ok::<(), SinkError>(()))
            };
            beaters.push(Beater::builder(node(number, &resources)).interval(INTERVAL).start(sink).expect("a runtime"));
            // Spread over the interval, as nodes are that have started at different times.
            if number % 10 == 9 {
                tokio::time::sleep(INTERVAL * 10 / nodes as u32).await;
            }
        }
        let before: u64 = beaters.iter().map(|beater| beater.stats().sent).sum();
        let monitor = LoopMonitor::start().expect("a runtime");
        tokio::time::sleep(SECOND).await;
        let report = monitor.report();
        let mut sent = 0;
        for beater in beaters {
            sent += beater.stop().await.sent;
        }
        assert_eq!(sent, received.load(Ordering::Relaxed), "the sink has taken what was sent");
        (report, before, sent)
    })
}

fn ticks(bench: &mut Bench, report: &LagHistogram) {
    bench.figure(
        Source::Round,
        Figure::exact(Metric::Count, report.on_time() as f64),
        report.ticks() + report.missed(),
    );
    bench.note(format!("{report:?}"));
}

/// The lag while 500 nodes beat: 5,000 heartbeats in a second.
fn loop_lag(bench: &mut Bench) -> Result<(), BenchError> {
    let (report, before, sent) = beating(500, Resources::TTL);
    let samples = report.ticks();
    bench.figure(Source::Round, Figure::exact(Metric::LatencyMean, report.mean().as_nanos() as f64), samples);
    bench.figure(Source::Round, Figure::exact(Metric::LatencyMax, report.longest().as_nanos() as f64), samples);
    ticks(bench, &report);
    let beat = sent - before;
    bench.proof(true, (4_000..=5_600).contains(&beat));
    Ok(())
}

/// Ticks on time while a hundred nodes beat, each heartbeat with figures read anew.
fn no_blocking(bench: &mut Bench) -> Result<(), BenchError> {
    let (report, before, sent) = beating(100, Duration::ZERO);
    ticks(bench, &report);
    let beat = sent - before;
    bench.proof(true, (800..=1_120).contains(&beat));
    Ok(())
}

/// A connection to who answers with what it was sent.
struct RoundTrip(Mutex<TcpStream>);

impl Sink for RoundTrip {
    async fn send(&self, heartbeat: Heartbeat) -> Result<(), SinkError> {
        let (mut stream, mut answer) = (self.0.lock().await, [0; 16]);
        let uptime = heartbeat.uptime.as_nanos().to_le_bytes();
        stream.write_all(&uptime).await?;
        stream.read_exact(&mut answer).await?;
        if answer == uptime { Ok(()) } else { Err("another's answer".into()) }
    }
}

/// A hundred nodes whose heartbeats go over a loopback connection each to a sink that answers after a millisecond: one after the other, over
/// all at once.
fn parallel_speedup(bench: &mut Bench) -> Result<(), BenchError> {
    const NODES: usize = 100;
    let rounds = if bench.is_test() { 1 } else { 10 };
    let runtime = two_workers();
    let answered = Arc::new(AtomicU64::new(0));
    let (mut ratios, mut totals) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let count = Arc::clone(&answered);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let mut uptime = [0; 16];
                    while stream.read_exact(&mut uptime).await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        count.fetch_add(1, Ordering::Relaxed);
                        if stream.write_all(&uptime).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let resources = resources(Resources::TTL);
        let mut beaters = Vec::new();
        for number in 0..NODES {
            let stream = TcpStream::connect(address).await.expect("listening");
            stream.set_nodelay(true).expect("a TCP stream");
            let builder = Beater::builder(node(number, &resources)).interval(3600 * SECOND);
            beaters.push(Arc::new(builder.start(RoundTrip(Mutex::new(stream))).expect("a runtime")));
        }
        for _ in 0..rounds {
            let start = Instant::now();
            for beater in &beaters {
                beater.beat().await.expect("answered");
            }
            let singly = start.elapsed();
            let start = Instant::now();
            let tasks: Vec<_> = beaters
                .iter()
                .map(|beater| {
                    let beater = Arc::clone(beater);
                    tokio::spawn(async move { beater.beat().await.is_ok() })
                })
                .collect();
            for task in tasks {
                assert!(task.await.expect("no panic"), "answered");
            }
            totals.push(start.elapsed().as_nanos() as f64);
            ratios.push(singly.as_nanos() as f64 / start.elapsed().as_nanos() as f64);
        }
    });
    ratios.sort_unstable_by(f64::total_cmp);
    let longest = totals.iter().copied().fold(0.0, f64::max);
    bench.figure(Source::Round, Figure::exact(Metric::Ratio, ratios[rounds / 2]), rounds as u64);
    bench.figure(Source::Round, Figure::exact(Metric::LatencyMax, longest), rounds as u64);
    bench.proof(2 * rounds * NODES, answered.load(Ordering::Relaxed));
    Ok(())
}

/// A thousand tasks block for 5 to 8 ms, each in one of its polls, among as many that do not: the share of them that is named, and how many are
/// named that were short by their own clock.
fn blocked_tasks(bench: &mut Bench) -> Result<(), BenchError> {
    const THRESHOLD: Duration = Duration::from_millis(5);
    let injected = if bench.is_test() { 20 } else { 1_000 };
    let (told, events) = channel();
    let detector = BlockingDetector::on_block(move |event| drop(told.send(event)));
    let (mut blocked, mut short) = (HashSet::new(), HashSet::new());
    two_workers().block_on(async {
        let tasks: Vec<_> = (0..2 * injected)
            .map(|number: u64| {
                let name = format!("task-{number}");
                let time = THRESHOLD + Duration::from_millis(number / 2 % 4);
                let task = detector.spawn(name.clone(), async move {
                    yield_now().await;
                    let start = Instant::now();
                    if number.is_multiple_of(2) {
                        std::thread::sleep(time);
                    }
                    let took = start.elapsed();
                    yield_now().await;
                    took
                });
                (name, task)
            })
            .collect();
        for (name, task) in tasks {
            let took = task.await.expect("no panic");
            if took >= THRESHOLD {
                blocked.insert(name)
            } else {
                short.insert(name)
            };
        }
    });
    assert_eq!(detector.stats().dropped, 0, "all were reported");
    drop(detector);
    let named: HashSet<String> = events.try_iter().map(|event| event.task.to_string()).collect();
    let found = blocked.intersection(&named).count();
    let wrong = named.intersection(&short).count();
    assert!(blocked.len() as u64 >= injected, "a sleep takes as long as it should, at least");
    bench.figure(Source::Op, Figure::exact(Metric::SuccessRate, found as f64 / blocked.len() as f64), injected);
    bench.figure(Source::Op, Figure::exact(Metric::Count, wrong as f64), injected);
    bench.note("count: tasks named that were short by their own clock; the machine may have put them aside in between");
    bench.proof(blocked.len(), found);
    Ok(())
}

/// A watched poll of a future that does next to nothing.
fn watched_poll(bench: &mut Bench) -> Result<(), BenchError> {
    const POLLS: u64 = 100_000;
    let detector = BlockingDetector::on_block(|_| ());
    let polls = AtomicU64::new(0);
    let rounds = bench.rounds(|| {
        let mut left = POLLS;
        let yields = poll_fn(|_| {
            polls.fetch_add(1, Ordering::Relaxed);
            left -= 1;
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        let mut future = pin!(detector.watch("poller", yields));
        let mut context = Context::from_waker(Waker::noop());
        let start = Instant::now();
        while future.as_mut().poll(&mut context).is_pending() {}
        (start.elapsed(), POLLS)
    })?;
    bench.proof(rounds * POLLS, polls.load(Ordering::Relaxed));
    Ok(())
}
