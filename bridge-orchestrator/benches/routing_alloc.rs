//! Allocations of routing, heartbeats and their detection, and memory a node: counted, in a binary of its own.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_orchestrator::heartbeat::{Node, PhiDetector, Resources};
use bridge_orchestrator::route::{Balancer, CircuitBreaker, RetryBudget};
use harness::{Bench, BenchError, CountingAlloc, Suite, alloc_scope};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::system();

const TIMES: u64 = 10_000;
const MILLISECOND: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    Suite::new()
        .bench("bridge-orchestrator/allocs/route", route)
        .bench("bridge-orchestrator/allocs/heartbeat", heartbeat)
        .bench("bridge-orchestrator/allocs/heartbeat-ingest", ingest)
        .bench("bridge-orchestrator/heartbeat/memory-per-node", memory_per_node)
        .bench("bridge-orchestrator/heartbeat/sustained-memory", sustained_memory)
        .run()
}

/// Does it once for warmth, then counts.
fn counted(bench: &mut Bench, mut once: impl FnMut() -> u64) -> Result<(), BenchError> {
    once();
    let (done, stats) = alloc_scope(|| (0..TIMES).map(|_| once()).sum::<u64>());
    bench.allocations(TIMES, stats)?;
    bench.proof(TIMES, done);
    Ok(())
}

/// Breaker, budget, pick and outcome; every tenth call fails and is retried.
fn route(bench: &mut Bench) -> Result<(), BenchError> {
    let breaker = CircuitBreaker::builder().window(48).failures(6).build().expect("valid");
    let (balancer, budget) = (Balancer::new(0..1_000).expect("endpoints"), RetryBudget::default());
    let (mut now, mut calls) = (Instant::now(), 0_u64);
    counted(bench, || {
        (now, calls) = (now + MILLISECOND, calls + 1);
        budget.call();
        let (permit, endpoint) = (breaker.permit(now).expect("closed"), balancer.pick(now));
        if calls.is_multiple_of(10) {
            permit.failed(now);
            endpoint.failed(now);
            u64::from(budget.try_retry(now))
        } else {
            permit.succeeded();
            endpoint.succeeded(now + MILLISECOND);
            1
        }
    })
}

fn resources() -> Arc<Resources> {
    Arc::new(Resources::of_this_process(Resources::TTL, Instant::now()).expect("this platform tells"))
}

/// A heartbeat made, with figures that are there.
fn heartbeat(bench: &mut Bench) -> Result<(), BenchError> {
    let node = Node::builder("node", "orchestrator").metadata("region", "here").build(resources(), Instant::now());
    let now = Instant::now();
    counted(bench, || u64::from(black_box(node.heartbeat(now)).figures.memory > 0))
}

/// A heartbeat of a known node taken in.
fn ingest(bench: &mut Bench) -> Result<(), BenchError> {
    let start = Instant::now();
    let mut detector = PhiDetector::builder().build::<u64>(start).expect("valid");
    (0..100).for_each(|node| detector.heartbeat(&node, start).expect("room"));
    let (mut now, mut node) = (start, 0);
    counted(bench, || {
        (now, node) = (now + 300 * MILLISECOND, (node + 1) % 100);
        detector.heartbeat(&node, now).expect("known");
        u64::from(detector.phi(&node, now).is_some_and(|phi| phi < 1.0))
    })
}

/// Ids of eight bytes that spread over all bits. The sizes are such that the index has just grown, where it is largest, and a million.
fn memory_per_node(bench: &mut Bench) -> Result<(), BenchError> {
    let build = |nodes: u64| {
        let start = Instant::now();
        let mut detector = PhiDetector::builder().build::<u64>(start).expect("valid");
        for number in 0..nodes {
            detector.heartbeat(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15), start).expect("room");
        }
        detector
    };
    bench.memory_at(1_000_000, 0, build, |detector| detector.len() as u64)?;
    bench.proof(1_000_000, bench.observed().max(u64::from(bench.is_test()) * 1_000_000));
    Ok(())
}

/// Live bytes while a hundred nodes beat and a detector takes it in.
fn sustained_memory(bench: &mut Bench) -> Result<(), BenchError> {
    const NODES: usize = 100;
    let (resources, start) = (resources(), Instant::now());
    let nodes: Vec<_> = (0..NODES)
        .map(|number| Node::builder(format!("node-{number}"), "reducer").build(Arc::clone(&resources), start))
        .collect();
    let mut detector = PhiDetector::builder().build::<Arc<str>>(start).expect("valid");
    let (mut now, mut beats, mut transitions) = (start, 0_u64, 0);
    bench.growth(50, || {
        now += Duration::from_secs(30);
        for node in &nodes {
            let heartbeat = node.heartbeat(now);
            detector.heartbeat(&heartbeat.node_id, now).expect("room");
            beats += 1;
        }
        transitions += detector.sweep(now).len();
    })?;
    assert_eq!((transitions, detector.len()), (0, NODES), "all are up");
    assert!(resources.reads() > 1, "figures were read on the way");
    bench.proof(true, beats >= 50 * NODES as u64);
    Ok(())
}
