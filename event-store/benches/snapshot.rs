//! Snapshots: mean time to save and to load one of 1 KiB.

mod workload;

use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use event_store::{Append, ExpectedVersion, MemoryStore, Snapshot, StreamVersion, Timestamp};
use harness::timed;
use workload::{Workload, stream};

/// Bytes of a snapshot's state.
const STATE: usize = 1_024;

fn snapshot(version: u64) -> Snapshot {
    Snapshot {
        stream: stream("orders-1"),
        aggregate_type: "Order".to_owned(),
        version: StreamVersion::new(version),
        schema_version: 1,
        state: Bytes::from(vec![0x5a; STATE]),
        time: Timestamp::from_micros(1_700_000_000_000_000),
    }
}

fn save(c: &mut Criterion) {
    timed(c, "event-store/snapshot/save", Throughput::Elements(1), |iterations, tally| {
        let store = MemoryStore::new();
        let mut elapsed = Duration::ZERO;
        let mut version = 0;
        while version < iterations {
            let prebuilt: Vec<Snapshot> =
                (version..iterations.min(version + 1_000)).map(|version| snapshot(version % 1_000)).collect();
            version += prebuilt.len() as u64;
            let start = Instant::now();
            for snapshot in prebuilt {
                store.save_snapshot_now(snapshot);
            }
            elapsed += start.elapsed();
        }
        // A snapshot is loaded only when its stream has reached its version, which here is the number of the last save.
        let mut workload = Workload::new(0);
        let orders = stream("orders-1");
        store
            .append_now(Append::stream(orders.clone(), ExpectedVersion::NoStream, workload.events(version.min(1_000))))
            .expect("new");
        tally.expect((iterations - 1) % 1_000 + 1);
        tally.observe(store.load_snapshot_now(&orders, 1).map_or(0, |last| last.version.get() + 1));
        elapsed
    });
}

fn load(c: &mut Criterion) {
    timed(c, "event-store/snapshot/load", Throughput::Elements(1), |iterations, tally| {
        let orders = stream("orders-1");
        let store = Workload::new(0).store(&orders, 42);
        store.save_snapshot_now(snapshot(41));
        let mut bytes = 0;
        let start = Instant::now();
        for _ in 0..iterations {
            let snapshot = std::hint::black_box(&store).load_snapshot_now(&orders, 1);
            bytes += snapshot.map_or(0, |snapshot| snapshot.state.len() as u64);
        }
        let elapsed = start.elapsed();
        tally.expect(iterations * STATE as u64);
        tally.observe(bytes);
        elapsed
    });
}

criterion_group!(name = benches; config = harness::criterion(); targets = save, load);
criterion_main!(benches);
