//! Saves: mean time of one `append_now`. The appends are built before the clock starts; no id is saved twice. Single events go into a
//! store that grows to 5 MB and is then replaced, batches into an empty one.

mod workload;

use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use event_store::{Append, Delivery, EventStore as _, MemoryStore, Position, Read, StreamId, Subscribe};
use futures::StreamExt as _;
use harness::{Tally, timed, together};
use workload::{PAYLOAD, Reused, Workload, checksum, expected, stream};

/// Events that are built ahead of a round: few enough that they are still in the cache when their turn comes, as a fresh append is.
const EVENTS_A_ROUND: u64 = 512;

fn save(c: &mut Criterion) {
    save_batches(c, "event-store/save/1", 1, PAYLOAD);
    save_batches(c, "event-store/save/100", 100, PAYLOAD);
    save_batches(c, "event-store/save/1000", 1_000, PAYLOAD);
    save_batches(c, "event-store/save/10000", 10_000, PAYLOAD);
}

/// A payload of 4 KiB, which does not lie inside the append but on the heap.
fn save_large(c: &mut Criterion) {
    save_batches(c, "event-store/save-4096-bytes/1", 1, 4_096);
}

fn save_batches(c: &mut Criterion, id: &str, batch: u64, payload: usize) {
    let prepare = |workload: &mut Workload, orders: &StreamId, version| workload.append(orders, version, batch);
    saves(c, id, batch, payload, prepare, |_, append| append);
}

/// From events that exist already: the making of the append is inside the timing.
fn save_from_events(c: &mut Criterion) {
    for (id, batch) in [
        ("event-store/save-from-events/1", 1),
        ("event-store/save-from-events/100", 100),
        ("event-store/save-from-events/10000", 10_000),
    ] {
        let prepare = |workload: &mut Workload, orders: &StreamId, version| {
            (orders.clone(), expected(version), workload.events(batch))
        };
        saves(c, id, batch, PAYLOAD, prepare, |_, (orders, version, events)| Append::stream(orders, version, events));
    }
}

/// The whole way from field values: events are made and encoded inside the timing.
fn save_from_fields(c: &mut Criterion) {
    for (id, batch) in [("event-store/save-from-fields/1", 1), ("event-store/save-from-fields/1000", 1_000)] {
        let prepare = |_: &mut Workload, orders: &StreamId, version| (orders.clone(), version);
        saves(c, id, batch, PAYLOAD, prepare, |workload, (orders, version)| workload.append(&orders, version, batch));
    }
}

/// Times `append`, which makes what is appended of what `prepare` has made before for the stream's version, and the save.
fn saves<P>(
    c: &mut Criterion,
    id: &str,
    batch: u64,
    payload: usize,
    prepare: impl Fn(&mut Workload, &StreamId, u64) -> P,
    append: impl Fn(&mut Workload, P) -> Append,
) {
    timed(c, id, Throughput::Elements(batch), |iterations, tally| {
        let orders = stream("orders-1");
        let mut workload = Workload::new(payload);
        let reused = Reused::default();
        let mut elapsed = Duration::ZERO;
        let mut left = iterations;
        while left > 0 {
            // As many bytes ahead, whatever an event has of them.
            let appends = left.min((EVENTS_A_ROUND * PAYLOAD as u64 / payload as u64).div_ceil(batch));
            let (store, version) = reused.take();
            let prepared: Vec<P> = (0..appends).map(|i| prepare(&mut workload, &orders, version + i * batch)).collect();
            let start = Instant::now();
            for prepared in prepared {
                store.append_now(append(&mut workload, prepared)).expect("the version is the expected one");
            }
            elapsed += start.elapsed();
            prove(&store, version, appends * batch, payload, tally);
            if batch == 1 {
                reused.put_back(store);
            }
            left -= appends;
        }
        elapsed
    });
}

/// The store holds `events` more than the `before` of the round's start, and their bytes are there.
fn prove(store: &MemoryStore, before: u64, events: u64, payload: usize, tally: &mut Tally) {
    let appended = Position::new(before + 1).map_or_else(Read::all, Read::all_from);
    tally.expect(before + events * (1 + 0x5a * payload as u64));
    tally.observe(store.head_now().map_or(0, Position::get) + checksum(store, &appended));
}

/// Saves one event, which wakes a subscription, which takes it, arrives and sleeps again: all of that is one operation.
fn delivered(c: &mut Criterion) {
    timed(c, "event-store/subscription/save-and-deliver", Throughput::Elements(1), |iterations, tally| {
        let orders = stream("orders-1");
        let mut workload = Workload::new(PAYLOAD);
        let reused = Reused::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut elapsed = Duration::ZERO;
        let mut left = iterations;
        while left > 0 {
            let appends = left.min(EVENTS_A_ROUND);
            let (store, version) = reused.take();
            let prebuilt: Vec<Append> = (0..appends).map(|i| workload.append(&orders, version + i, 1)).collect();
            let mut subscription = store.subscribe(Subscribe::tail());
            let mut taken = 0;
            let mut take_all = || {
                while let Poll::Ready(Some(Ok(delivery))) = subscription.poll_next_unpin(&mut context) {
                    if let Delivery::Event(event) = delivery {
                        taken += event.position().get();
                    }
                }
            };
            take_all();
            let start = Instant::now();
            for append in prebuilt {
                store.append_now(append).expect("the version is the expected one");
                take_all();
            }
            elapsed += start.elapsed();
            tally.expect((version + 1..=version + appends).sum::<u64>());
            tally.observe(taken);
            drop(subscription);
            reused.put_back(store);
            left -= appends;
        }
        elapsed
    });
}

/// One event to each of a hundred streams that do not exist yet.
fn aggregates(c: &mut Criterion) {
    const AGGREGATES: u64 = 100;
    timed(c, "event-store/aggregates/save-100", Throughput::Elements(AGGREGATES), |iterations, tally| {
        let streams: Vec<_> = (0..AGGREGATES).map(|i| stream(&format!("order-{i}"))).collect();
        let mut workload = Workload::new(PAYLOAD);
        let mut elapsed = Duration::ZERO;
        for _ in 0..iterations {
            let prebuilt: Vec<Append> = streams.iter().map(|stream| workload.append(stream, 0, 1)).collect();
            let store = MemoryStore::new();
            let start = Instant::now();
            for append in prebuilt {
                store.append_now(append).expect("the stream is new");
            }
            elapsed += start.elapsed();
            prove(&store, 0, AGGREGATES, PAYLOAD, tally);
        }
        elapsed
    });
}

/// One event to each of ten streams, two threads with five streams each: one iteration is all ten.
fn concurrent(c: &mut Criterion) {
    const STREAMS: u64 = 10;
    const THREADS: u64 = 2;
    timed(c, "event-store/concurrent/save-10", Throughput::Elements(STREAMS), |iterations, tally| {
        let mut elapsed = Duration::ZERO;
        let mut left = iterations;
        while left > 0 {
            let rounds = left.min(EVENTS_A_ROUND / STREAMS);
            let store = MemoryStore::new();
            let prepare = |thread: usize| -> Vec<Append> {
                let mut workload = Workload::for_thread(PAYLOAD, thread as u64);
                let streams: Vec<_> = (0..STREAMS / THREADS).map(|i| stream(&format!("order-{thread}-{i}"))).collect();
                let places = (0..rounds).flat_map(|version| streams.iter().map(move |stream| (stream, version)));
                places.map(|(stream, version)| workload.append(stream, version, 1)).collect()
            };
            let (time, _) = together(THREADS as usize, prepare, |appends| {
                for append in appends {
                    store.append_now(append).expect("nobody else writes this stream");
                }
            });
            elapsed += time;
            prove(&store, 0, rounds * STREAMS, PAYLOAD, tally);
            left -= rounds;
        }
        elapsed
    });
}

criterion_group!(
    name = benches;
    config = harness::criterion();
    targets = save, save_large, save_from_events, save_from_fields, delivered, aggregates, concurrent
);
criterion_main!(benches);
