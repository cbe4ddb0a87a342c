//! Heartbeats sent and heartbeats watched for.

use std::cell::Cell;
use std::fmt::Write;
use std::future::ready;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bridge_orchestrator::health::LoopMonitor;
use bridge_orchestrator::heartbeat::{Beater, Heartbeat, Node, NodeStatus, PhiDetector, Resources, SinkError};
use harness::metric::Metric;
use harness::record::{Figure, Source};
use harness::{Bench, BenchError, Suite};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    Suite::new()
        .bench("bridge-orchestrator/heartbeat/single", |bench: &mut Bench| single(bench, Resources::TTL))
        .bench("bridge-orchestrator/heartbeat/with-resources", |bench: &mut Bench| single(bench, Duration::ZERO))
        .bench("bridge-orchestrator/heartbeat/non-blocking", non_blocking)
        .bench("bridge-orchestrator/heartbeat/concurrent-1000", concurrent)
        .bench("bridge-orchestrator/heartbeat/sustained", sustained)
        .bench("bridge-orchestrator/heartbeat/resource-cache", resource_cache)
        .bench("bridge-orchestrator/heartbeat/resource-cached", resource_cached)
        .bench("bridge-orchestrator/heartbeat/concurrent-resources", concurrent_resources)
        .bench("bridge-orchestrator/heartbeat/ingest", ingest)
        .bench("bridge-orchestrator/heartbeat/ingest-in-any-order", ingest_in_any_order)
        .bench("bridge-orchestrator/heartbeat/storm-1000", storm)
        .bench("bridge-orchestrator/heartbeat/sweep-1000000", sweep)
        .run()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn resources(ttl: Duration) -> Arc<Resources> {
    Arc::new(Resources::of_this_process(ttl, Instant::now()).expect("this platform tells"))
}

/// Writes each heartbeat as the line of JSON that would go out, counts them, and adds up what is in them.
#[derive(Default)]
struct Receiver {
    received: AtomicU64,
    memory: AtomicU64,
    line: Mutex<String>,
}

fn write(line: &mut String, heartbeat: &Heartbeat) -> std::fmt::Result {
    let Heartbeat { node_id, node_type, health, uptime, active_operations, figures, metadata } = heartbeat;
    line.clear();
    write!(line, r#"{{"node_id":{node_id:?},"node_type":{node_type:?},"status":"{}","#, health.name())?;
    write!(line, r#""uptime":{},"active_operations":{active_operations},"#, uptime.as_secs_f64())?;
    write!(line, r#""cpu":{},"memory":{}"#, figures.cpu, figures.memory)?;
    metadata.iter().try_for_each(|(key, value)| write!(line, ",{key:?}:{value:?}"))?;
    line.write_char('}')
}

impl Receiver {
    fn sink(self: &Arc<Self>) -> impl Fn(Heartbeat) -> std::future::Ready<Result<(), SinkError>> + use<> {
        let receiver = Arc::clone(self);
        move |heartbeat| {
            let mut line = receiver.line.lock().expect("no panic");
            write(&mut line, &heartbeat).expect("a string takes anything");
            assert!(line.len() > 100, "a whole line");
            receiver.received.fetch_add(1, Ordering::Relaxed);
            receiver.memory.fetch_add(heartbeat.figures.memory, Ordering::Relaxed);
            ready(Ok(()))
        }
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// A node with its beater, which never comes due by itself while this runs.
fn beater(
    number: u64,
    resources: &Arc<Resources>,
    receiver: &Arc<Receiver>,
) -> Beater<impl Fn(Heartbeat) -> std::future::Ready<Result<(), SinkError>> + use<>> {
    let node = Node::builder(format!("node-{number}"), "orchestrator").metadata("region", "here");
    let node = Arc::new(node.build(Arc::clone(resources), Instant::now()));
    Beater::builder(node).interval(Duration::from_secs(3600)).start(receiver.sink()).expect("a runtime")
}

/// One heartbeat, sent by a task of its own on the thread that asks for it; its figures as old as `ttl` allows.
fn single(bench: &mut Bench, ttl: Duration) -> Result<(), BenchError> {
    const BEATS: u64 = 1_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (resources, receiver) = (resources(ttl), Arc::new(Receiver::default()));
    let beater = Arc::new(runtime.block_on(async { beater(0, &resources, &receiver) }));
    let before = Cell::new(0);
    let rounds = bench.ops(
        BEATS,
        || before.set(receiver.received()),
        |(), _| {
            let beater = Arc::clone(&beater);
            let sent = runtime.block_on(async { tokio::spawn(async move { beater.beat().await.is_ok() }).await });
            assert!(sent.expect("no panic"), "the sink takes it");
        },
        |()| receiver.received() - before.get(),
    )?;
    let expected = rounds * BEATS;
    let read = if ttl.is_zero() { resources.reads() - 1 == expected } else { resources.reads() == 1 };
    assert!(read, "{} readings for {expected} heartbeats", resources.reads());
    assert!(receiver.memory.load(Ordering::Relaxed) >> 20 >= expected, "a process takes a megabyte and more");
    bench.proof(expected, bench.observed());
    Ok(())
}

/// Polls a future once, as a task does that is being polled already.
fn at_once<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("the sink is ready at once"),
    }
}

/// Ticks of a millisecond that are on time while heartbeats, each with figures read anew, are sent for a second in the same thread.
fn non_blocking(bench: &mut Bench) -> Result<(), BenchError> {
    /// Ten heartbeats, and the loop is let go: the original counts ticks during ten collections.
    const BURST: u64 = 10;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (resources, receiver) = (resources(Duration::ZERO), Arc::new(Receiver::default()));
    let (sent, report) = runtime.block_on(async {
        let beater = beater(0, &resources, &receiver);
        let monitor = LoopMonitor::start().expect("a runtime");
        let (start, mut sent) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs(1) {
            for _ in 0..BURST {
                beater.beat().await.expect("the sink takes it");
            }
            sent += BURST;
            tokio::task::yield_now().await;
        }
        (sent, monitor.report())
    });
    bench.figure(
        Source::Round,
        Figure::exact(Metric::Count, report.on_time() as f64),
        report.ticks() + report.missed(),
    );
    bench.note(format!("{sent} heartbeats; {report:?}"));
    assert_eq!(resources.reads() - 1, sent, "every heartbeat has read");
    bench.proof(sent, receiver.received());
    Ok(())
}

/// A thousand nodes, each a task, send one heartbeat each at the same time.
fn concurrent(bench: &mut Bench) -> Result<(), BenchError> {
    const NODES: u64 = 1_000;
    let runtime = runtime();
    let (resources, receiver) = (resources(Resources::TTL), Arc::new(Receiver::default()));
    let beaters: Arc<Vec<_>> = {
        let _inside = runtime.enter();
        Arc::new((0..NODES).map(|number| beater(number, &resources, &receiver)).collect())
    };
    let (mut asked, mut succeeded) = (0_u64, 0_u64);
    let rounds = bench.ops(
        1,
        || (),
        |(), _| {
            runtime.block_on(async {
                let tasks: Vec<_> = (0..NODES as usize)
                    .map(|number| {
                        let beaters = Arc::clone(&beaters);
                        tokio::spawn(async move { beaters[number].beat().await.is_ok() })
                    })
                    .collect();
                for task in tasks {
                    asked += 1;
                    succeeded += u64::from(task.await.expect("no panic"));
                }
            });
        },
        |()| 0,
    )?;
    bench.figure(Source::Op, Figure::exact(Metric::SuccessRate, succeeded as f64 / asked as f64), asked);
    bench.proof(rounds * NODES, receiver.received());
    Ok(())
}

/// A hundred nodes send a thousand rounds of heartbeats: the median round of the second half over that of the first.
fn sustained(bench: &mut Bench) -> Result<(), BenchError> {
    const NODES: u64 = 100;
    let rounds = if bench.is_test() { 20 } else { 1_000 };
    let runtime = runtime();
    let _inside = runtime.enter();
    let (resources, receiver) = (resources(Resources::TTL), Arc::new(Receiver::default()));
    let beaters: Vec<_> = (0..NODES).map(|number| beater(number, &resources, &receiver)).collect();
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        for beater in &beaters {
            at_once(beater.beat()).expect("the sink takes it");
        }
        times.push(start.elapsed());
    }
    let median = |times: &mut [Duration]| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    };
    let (first, second) = times.split_at_mut(rounds / 2);
    let ratio = median(second) / median(first);
    bench.figure(Source::Round, Figure::exact(Metric::Ratio, ratio), rounds as u64);
    bench.proof(rounds as u64 * NODES, receiver.received());
    Ok(())
}

/// What it takes to look at figures that are there, over what it takes to read them.
fn resource_cache(bench: &mut Bench) -> Result<(), BenchError> {
    const LOOKS: u64 = 2_000;
    let (cached, read) = (resources(Resources::TTL), resources(Duration::ZERO));
    let look = |resources: &Resources| {
        let (start, now) = (Instant::now(), Instant::now());
        // Figures of different processes' worth of memory would add up to something else.
        let memory: u64 = (0..LOOKS).map(|_| black_box(resources).figures(now).memory).sum();
        assert!(memory >> 20 >= LOOKS, "a process takes a megabyte and more");
        start.elapsed().as_secs_f64()
    };
    let rounds = if bench.is_test() { 3 } else { 50 };
    let mut ratios: Vec<f64> = (0..rounds).map(|_| look(&cached) / look(&read)).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    bench.figure(Source::Pair, Figure::exact(Metric::Ratio, ratios[rounds / 2]), rounds as u64);
    bench.proof(format!("1 and {}", rounds as u64 * LOOKS), format!("{} and {}", cached.reads(), read.reads() - 1));
    Ok(())
}

fn resource_cached(bench: &mut Bench) -> Result<(), BenchError> {
    const LOOKS: u64 = 100_000;
    let resources = resources(Resources::TTL);
    let (now, known) = (Instant::now(), resources.figures(Instant::now()).memory);
    let mut seen = 0;
    let rounds = bench.rounds(|| {
        let start = Instant::now();
        for _ in 0..LOOKS {
            seen += u64::from(black_box(&*resources).figures(now).memory == known);
        }
        (start.elapsed(), LOOKS)
    })?;
    assert_eq!(resources.reads(), 1, "all looks were at the first figures");
    bench.proof(rounds * LOOKS, seen);
    Ok(())
}

/// A hundred tasks ask for figures that have just become too old: all get some, and one has read.
fn concurrent_resources(bench: &mut Bench) -> Result<(), BenchError> {
    const NODES: u64 = 100;
    let (runtime, rounds) = (runtime(), 50);
    let start = Instant::now();
    let resources = Arc::new(Resources::of_this_process(Resources::TTL, start).expect("this platform tells"));
    let mut got = 0;
    for round in 1..=rounds {
        let now = start + round * Resources::TTL;
        runtime.block_on(async {
            let tasks: Vec<_> = (0..NODES)
                .map(|_| {
                    let resources = Arc::clone(&resources);
                    tokio::spawn(async move { resources.figures(now).memory >> 20 > 0 })
                })
                .collect();
            for task in tasks {
                got += u64::from(task.await.expect("no panic"));
            }
        });
    }
    let rounds = u64::from(rounds);
    bench.figure(Source::Op, Figure::exact(Metric::SuccessRate, got as f64 / (rounds * NODES) as f64), rounds * NODES);
    bench.note(format!("{} readings for {} callers", resources.reads() - 1, rounds * NODES));
    bench.proof(rounds, resources.reads() - 1);
    Ok(())
}

const MILLION: u64 = 1_000_000;
/// The most that a heartbeat comes after its time: not so long that anyone is suspected.
const JITTER: u64 = 1_000;

/// Ids as they are given out: spread over all 64 bits (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
fn id(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ mixed >> 27
}

fn watched(nodes: u64, start: Instant) -> PhiDetector<u64> {
    let mut detector = PhiDetector::builder().build(start).expect("valid");
    (0..nodes).for_each(|number| detector.heartbeat(&id(number), start).expect("room"));
    detector
}

/// Heartbeats of a million nodes in the order in which they became known; each round is one interval of 30 s later.
fn ingest(bench: &mut Bench) -> Result<(), BenchError> {
    ingest_by(bench, |number| number)
}

/// The same in another order in each node's place, for a cache the worst: what is at hand is never what is needed.
fn ingest_in_any_order(bench: &mut Bench) -> Result<(), BenchError> {
    // An odd multiplier that shares no factor with a million visits every node once.
    ingest_by(bench, |number| number * 7_368_787 % MILLION)
}

fn ingest_by(bench: &mut Bench, order: impl Fn(u64) -> u64) -> Result<(), BenchError> {
    let nodes = if bench.is_test() { 10_000 } else { MILLION };
    let start = Instant::now();
    let mut detector = watched(MILLION, start);
    let order: Vec<u64> = (0..MILLION).map(|number| id(order(number))).collect();
    let mut now = start;
    let rounds = bench.rounds(|| {
        now += Duration::from_secs(30);
        let times: Vec<Instant> = (0..JITTER).map(|late| now + Duration::from_millis(late)).collect();
        let begin = Instant::now();
        for nodes in order[..nodes as usize].chunks(JITTER as usize) {
            for (node, at) in nodes.iter().zip(&times) {
                detector.heartbeat(node, *at).expect("known");
            }
        }
        (begin.elapsed(), nodes)
    })?;
    // All who beat were heard: their silence is that since the last round, and φ is next to nothing.
    let heard = order[..nodes as usize].iter().filter(|node| {
        let phi = detector.phi(node, now + Duration::from_secs(20)).expect("known");
        phi < 0.1 || rounds < 20
    });
    bench.proof(format!("{nodes} of {MILLION}"), format!("{} of {}", heard.count(), detector.len()));
    Ok(())
}

/// A thousand nodes beat at once.
fn storm(bench: &mut Bench) -> Result<(), BenchError> {
    const NODES: u64 = 1_000;
    let start = Instant::now();
    let mut detector = watched(NODES, start);
    let nodes: Vec<u64> = (0..NODES).map(id).collect();
    let mut now = start;
    let storms = bench.rounds(|| {
        now += Duration::from_secs(30);
        let begin = Instant::now();
        for node in &nodes {
            detector.heartbeat(node, now).expect("known");
        }
        (begin.elapsed(), 1)
    })?;
    assert!(storms > 0 && detector.sweep(now).is_empty(), "nobody is silent");
    // From the third on, intervals of exactly 30 s have made the deviation small.
    let phi = detector.phi(&nodes[7], now + Duration::from_secs(3600)).expect("known");
    bench.proof(format!("{NODES} nodes, {:?} after an hour", NodeStatus::Down), {
        let status = if phi > 8.0 { NodeStatus::Down } else { NodeStatus::Up };
        format!("{} nodes, {status:?} after an hour", detector.len())
    });
    Ok(())
}

/// A look at a million nodes, of which a thousand, others each time, fall silent and return.
fn sweep(bench: &mut Bench) -> Result<(), BenchError> {
    const SILENT: u64 = 1_000;
    let start = Instant::now();
    let mut detector = watched(MILLION, start);
    let (mut now, mut transitions) = (start, 0);
    let mut round = |silent: std::ops::Range<u64>| {
        now += Duration::from_secs(30);
        for number in (0..MILLION).filter(|number| !silent.contains(number)) {
            detector.heartbeat(&id(number), now).expect("known");
        }
        let begin = Instant::now();
        transitions += black_box(&mut detector).sweep(now).len() as u64;
        begin.elapsed().as_nanos() as f64
    };
    let (times, mut sweeps) = (if bench.is_test() { 2 } else { 10 }, Vec::new());
    for time in 0..times {
        let silent = time * SILENT..(time + 1) * SILENT;
        // Three intervals are beyond any of their rhythms.
        for _ in 0..3 {
            sweeps.push(round(silent.clone()));
        }
        sweeps.push(round(0..0));
    }
    bench.rounds_measured(&sweeps)?;
    bench.proof(2 * times * SILENT, transitions);
    Ok(())
}
