//! Loads: mean time to visit the events of a stream. `load/*` borrows them in place; `load-owned/*` keeps the list, `load-recorded/*`
//! hands each out as a value of its own.

mod workload;

use std::hint::black_box;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use event_store::{Delivery, EventStore as _, MemoryStore, Position, Read, StreamVersion, Subscribe};
use futures::StreamExt as _;
use harness::{timed, together};
use workload::{PAYLOAD, Workload, checksum, expected_sum, stream, sum};

fn load(c: &mut Criterion) {
    for count in [1, 100, 1_000, 10_000] {
        borrowed(c, &format!("event-store/load/{count}"), 0, count);
    }
    borrowed(c, "event-store/load/from-version-100-of-1000", 100, 900);
}

/// Visits `count` events from version `from` on.
fn borrowed(c: &mut Criterion, id: &str, from: u64, count: u64) {
    let mut prepared = None;
    timed(c, id, Throughput::Elements(count), |iterations, tally| {
        let orders = stream("orders-1");
        let store = prepared.get_or_insert_with(|| Workload::new(PAYLOAD).store(&orders, from + count));
        let read = Read::stream_from(orders, StreamVersion::new(from));
        assert_eq!(checksum(store, &read), 0x5a * PAYLOAD as u64 * count);
        let mut sums = 0_u64;
        let start = Instant::now();
        for _ in 0..iterations {
            sums = sums.wrapping_add(sum(black_box(store), black_box(&read)));
        }
        let elapsed = start.elapsed();
        tally.expect(expected_sum(from, count).wrapping_mul(iterations));
        tally.observe(sums);
        elapsed
    });
}

/// A list of the stream's events that outlives the call, each payload's length read.
fn owned(c: &mut Criterion) {
    for count in [1, 100, 10_000] {
        let mut prepared = None;
        timed(c, &format!("event-store/load-owned/{count}"), Throughput::Elements(count), |iterations, tally| {
            let orders = stream("orders-1");
            let store = prepared.get_or_insert_with(|| Workload::new(PAYLOAD).store(&orders, count));
            let read = Read::stream(orders);
            let mut elapsed = Duration::ZERO;
            for _ in 0..iterations {
                let start = Instant::now();
                let events = black_box(store.events_now(black_box(&read)));
                let bytes = black_box(events.iter().map(|event| event.payload().len() as u64).sum::<u64>());
                elapsed += start.elapsed();
                tally.expect(count * PAYLOAD as u64 + count);
                tally.observe(bytes + events.len() as u64);
            }
            elapsed
        });
    }
}

/// Collects the events of a stream, each with its own handle on payload, stream, type and tags.
fn recorded(c: &mut Criterion) {
    for count in [1, 100, 10_000] {
        let mut prepared = None;
        timed(c, &format!("event-store/load-recorded/{count}"), Throughput::Elements(count), |iterations, tally| {
            let orders = stream("orders-1");
            let store = prepared.get_or_insert_with(|| Workload::new(PAYLOAD).store(&orders, count));
            let read = Read::stream(orders);
            let mut elapsed = Duration::ZERO;
            for _ in 0..iterations {
                let start = Instant::now();
                let events = black_box(store.read_now(&read));
                elapsed += start.elapsed();
                tally.expect(expected_sum(0, count));
                for event in &events {
                    let version = event.stream_version().map_or(0, StreamVersion::get);
                    tally.observe(event.position().get() + version + event.payload().len() as u64);
                }
            }
            elapsed
        });
    }
}

/// One event from each of a hundred streams.
fn aggregates(c: &mut Criterion) {
    const AGGREGATES: u64 = 100;
    let mut prepared = None;
    timed(c, "event-store/aggregates/load-100", Throughput::Elements(AGGREGATES), |iterations, tally| {
        let (store, reads) = prepared.get_or_insert_with(|| one_event_each(AGGREGATES));
        let mut sums = 0_u64;
        let start = Instant::now();
        for _ in 0..iterations {
            for read in black_box(&*reads) {
                sums = sums.wrapping_add(sum(black_box(store), read));
            }
        }
        let elapsed = start.elapsed();
        tally.expect(sum_of_first_versions(AGGREGATES).wrapping_mul(iterations));
        tally.observe(sums);
        elapsed
    });
}

/// One event from each of ten streams, two threads with five streams each: one iteration is all ten.
fn concurrent(c: &mut Criterion) {
    const STREAMS: u64 = 10;
    const THREADS: usize = 2;
    let mut prepared = None;
    timed(c, "event-store/concurrent/load-10", Throughput::Elements(STREAMS), |iterations, tally| {
        let (store, reads) = prepared.get_or_insert_with(|| one_event_each(STREAMS));
        let share = reads.len() / THREADS;
        let (elapsed, sums) = together(
            THREADS,
            |thread| &reads[thread * share..][..share],
            |reads| {
                let mut sums = 0_u64;
                for _ in 0..iterations {
                    for read in black_box(reads) {
                        sums = sums.wrapping_add(sum(black_box(store), read));
                    }
                }
                sums
            },
        );
        tally.expect(sum_of_first_versions(STREAMS).wrapping_mul(iterations));
        tally.observe(sums.iter().fold(0, |total, sum| total.wrapping_add(*sum)));
        elapsed
    });
}

fn one_event_each(streams: u64) -> (MemoryStore, Vec<Read>) {
    let store = MemoryStore::new();
    let mut workload = Workload::new(PAYLOAD);
    let ids: Vec<_> = (0..streams).map(|i| stream(&format!("order-{i}"))).collect();
    for id in &ids {
        store.append_now(workload.append(id, 0, 1)).expect("the stream is new");
    }
    (store, ids.into_iter().map(Read::stream).collect())
}

/// Positions 1 to `streams`, version 0 each.
fn sum_of_first_versions(streams: u64) -> u64 {
    (1..=streams).map(|position| position + PAYLOAD as u64).sum()
}

/// A subscription takes what there is, each event as a value of its own, and arrives.
fn caught_up(c: &mut Criterion) {
    const EVENTS: u64 = 10_000;
    let mut prepared = None;
    timed(c, "event-store/subscription/catch-up-10000", Throughput::Elements(EVENTS), |iterations, tally| {
        let store = prepared.get_or_insert_with(|| Workload::new(PAYLOAD).store(&stream("orders-1"), EVENTS));
        let mut context = Context::from_waker(Waker::noop());
        let mut elapsed = Duration::ZERO;
        for _ in 0..iterations {
            let start = Instant::now();
            let mut subscription = store.subscribe(Subscribe::from_start());
            let (mut sum, mut arrived) = (0, None);
            while let Poll::Ready(Some(Ok(delivery))) = subscription.poll_next_unpin(&mut context) {
                match delivery {
                    Delivery::Event(event) => sum += event.position().get() + event.payload().len() as u64,
                    Delivery::CaughtUp(position) => arrived = position,
                }
            }
            elapsed += start.elapsed();
            tally.expect((1..=EVENTS).sum::<u64>() + EVENTS * PAYLOAD as u64 + EVENTS);
            tally.observe(sum + arrived.map_or(0, Position::get));
        }
        elapsed
    });
}

criterion_group!(
    name = benches;
    config = harness::criterion();
    targets = load, owned, recorded, caught_up, aggregates, concurrent
);
criterion_main!(benches);
