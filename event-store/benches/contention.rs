//! What the store costs beside its floors and beside company: copies and sums that any store would need, a reader next to the
//! writer, two readers, a store that has grown.

mod workload;

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use event_store::{Append, MemoryStore, Position, Read};
use harness::{Bench, BenchError, Suite};
use workload::{PAYLOAD, Workload, expected_sum, stream, sum};

fn main() -> std::process::ExitCode {
    Suite::new()
        .bench("event-store/contention/append-beside-reader", append_beside_reader)
        .bench("event-store/contention/append-beside-tail-reader", append_beside_tail_reader)
        .bench("event-store/contention/append-against-a-lock", append_against_a_lock)
        .bench("event-store/save/10000", save_against_copying)
        .bench("event-store/load/10000", load_against_summing)
        .bench("event-store/scaling/readers", readers)
        .bench("event-store/scaling/append", grown_store)
        .run()
}

/// One thread appends single events while another loads a stream of 10,000 events over and over, against the same thread alone.
fn append_beside_reader(bench: &mut Bench) -> Result<(), BenchError> {
    append_beside(bench, "event-store/floor/append-alone", |_| Read::stream(stream("history")))
}

/// The same beside a thread that reads the newest hundred events as soon as it has read the last hundred: the two meet on the
/// cache lines that were just written.
fn append_beside_tail_reader(bench: &mut Bench) -> Result<(), BenchError> {
    append_beside(bench, "event-store/floor/append-alone-tail", |store| {
        let head = store.head_now().map_or(1, Position::get);
        Read::all_from(Position::new(head.saturating_sub(100)).unwrap_or(Position::FIRST))
    })
}

fn append_beside(bench: &mut Bench, alone: &str, next_read: fn(&MemoryStore) -> Read) -> Result<(), BenchError> {
    const HISTORY: u64 = 10_000;
    const APPENDS: u64 = 20_000;
    let orders = stream("orders-1");
    let stored = AtomicU64::new(0);
    let round = |reading: bool| {
        let mut workload = Workload::new(PAYLOAD);
        let store = workload.store(&stream("history"), HISTORY);
        let prebuilt: Vec<Append> = (0..APPENDS).map(|i| workload.append(&orders, i, 1)).collect();
        let stop = AtomicBool::new(!reading);
        let reads = AtomicU64::new(0);
        let elapsed = thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    black_box(sum(&store, &next_read(&store)));
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
            while reading && reads.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            let start = Instant::now();
            for append in prebuilt {
                store.append_now(append).expect("the version is the expected one");
            }
            let elapsed = start.elapsed();
            stop.store(true, Ordering::Relaxed);
            elapsed
        });
        stored.fetch_add(store.head_now().map_or(0, Position::get), Ordering::Relaxed);
        (elapsed, APPENDS)
    };
    let rounds = bench.against(alone, || round(true), || round(false))?;
    bench.proof(2 * rounds * (HISTORY + APPENDS), stored.into_inner());
    Ok(())
}

/// 10,000 events in one append, against copying the same payloads into one buffer and the same ids into a table.
fn save_against_copying(bench: &mut Bench) -> Result<(), BenchError> {
    const EVENTS: u64 = 10_000;
    let orders = stream("orders-1");
    let mut workload = Workload::new(PAYLOAD);
    let mut stored = 0;
    let payload = vec![0x5a_u8; PAYLOAD];
    let mut copied = 0;
    let rounds = bench.against(
        "event-store/floor/copy-10000",
        || {
            let append = workload.append(&orders, 0, EVENTS);
            let store = MemoryStore::new();
            let start = Instant::now();
            store.append_now(append).expect("the stream is new");
            let elapsed = start.elapsed();
            stored += store.head_now().map_or(0, Position::get);
            (elapsed, EVENTS)
        },
        || {
            let payloads: Vec<Vec<u8>> = vec![payload.clone(); EVENTS as usize];
            let ids: Vec<u128> = (1..=u128::from(EVENTS)).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
            let start = Instant::now();
            let mut log = Vec::with_capacity(EVENTS as usize * PAYLOAD);
            let mut index = hashbrown::HashTable::<u32>::new();
            for (position, (id, payload)) in ids.iter().zip(&payloads).enumerate() {
                log.extend_from_slice(payload);
                let hash = |position: &u32| ids[*position as usize] as u64 ^ (ids[*position as usize] >> 64) as u64;
                index.insert_unique(hash(&(position as u32)), position as u32, hash);
                black_box(id);
            }
            black_box((&log, &index));
            let elapsed = start.elapsed();
            copied += index.len() as u64;
            (elapsed, EVENTS)
        },
    )?;
    bench.proof(2 * rounds * EVENTS, stored + copied);
    Ok(())
}

/// Visiting 10,000 events, against summing the same three numbers from a plain array of them.
fn load_against_summing(bench: &mut Bench) -> Result<(), BenchError> {
    const EVENTS: u64 = 10_000;
    const VISITS: u64 = 20;
    let orders = stream("orders-1");
    let store = Workload::new(PAYLOAD).store(&orders, EVENTS);
    let read = Read::stream(orders);
    let plain: Vec<[u64; 6]> = (0..EVENTS).map(|i| [i + 1, i, PAYLOAD as u64, 0, 0, 0]).collect();
    let (mut ours, mut floor) = (0_u64, 0_u64);
    let rounds = bench.against(
        "event-store/floor/sum-10000",
        || {
            let start = Instant::now();
            for _ in 0..VISITS {
                ours = ours.wrapping_add(sum(black_box(&store), &read));
            }
            (start.elapsed(), EVENTS * VISITS)
        },
        || {
            let start = Instant::now();
            for _ in 0..VISITS {
                for [position, version, length, ..] in black_box(&plain) {
                    floor = floor.wrapping_add(position + version + length);
                }
            }
            (start.elapsed(), EVENTS * VISITS)
        },
    )?;
    let visited = expected_sum(0, EVENTS).wrapping_mul(rounds * VISITS);
    bench.proof(format!("{visited} {visited}"), format!("{ours} {floor}"));
    Ok(())
}

/// Readers on two threads: they share no lock, so two should visit twice as many events as one.
fn readers(bench: &mut Bench) -> Result<(), BenchError> {
    const EVENTS: u64 = 10_000;
    const VISITS: u64 = 200;
    let orders = stream("orders-1");
    let store = Workload::new(PAYLOAD).store(&orders, EVENTS);
    let read = Read::stream(orders);
    let sums = AtomicU64::new(0);
    let runs = bench.speedup_beside("event-store/floor/spinning-threads", 2, |_| {
        let mut local = 0_u64;
        for _ in 0..VISITS {
            local = local.wrapping_add(sum(black_box(&store), &read));
        }
        sums.fetch_add(local, Ordering::Relaxed);
    })?;
    bench.proof(expected_sum(0, EVENTS).wrapping_mul(runs * VISITS), sums.into_inner());
    Ok(())
}

/// A hundred single appends to stores that hold more and more events: the time must not grow with the store. A store that has grown
/// by a tenth is built anew, so that every size stays what it says.
fn grown_store(bench: &mut Bench) -> Result<(), BenchError> {
    const SIZES: [u64; 5] = [1_000, 4_000, 16_000, 64_000, 256_000];
    const APPENDS: u64 = 100;
    let orders = stream("orders-1");
    let mut workload = Workload::new(64);
    let mut stores = SIZES.map(|size| workload.store(&orders, size));
    let mut stored = 0;
    let rounds = bench.exponent(&SIZES, |size| {
        let Some(index) = SIZES.iter().position(|own| *own == size) else { return Duration::ZERO };
        let store = &mut stores[index];
        let mut version = store.head_now().map_or(0, Position::get);
        if version > size + size / 10 {
            *store = workload.store(&orders, size);
            version = size;
        }
        let prebuilt: Vec<Append> = (0..APPENDS).map(|i| workload.append(&orders, version + i, 1)).collect();
        let start = Instant::now();
        for append in prebuilt {
            store.append_now(append).expect("the version is the expected one");
        }
        let elapsed = start.elapsed();
        stored += store.head_now().map_or(0, Position::get) - version;
        elapsed
    })?;
    bench.proof(rounds * SIZES.len() as u64 * APPENDS, stored);
    Ok(())
}

/// Appends beside a reader, against a store of the simplest kind that also has both: a list of events and a table of ids under a
/// read-write lock, which the reader holds while it sums.
fn append_against_a_lock(bench: &mut Bench) -> Result<(), BenchError> {
    const HISTORY: u64 = 10_000;
    const APPENDS: u64 = 2_000;
    let orders = stream("orders-1");
    let mut workload = Workload::new(PAYLOAD);
    let stored = AtomicU64::new(0);
    let ours = || {
        let store = workload.store(&stream("history"), HISTORY);
        let prebuilt: Vec<Append> = (0..APPENDS).map(|i| workload.append(&orders, i, 1)).collect();
        let history = Read::stream(stream("history"));
        let elapsed = beside(
            || {
                black_box(sum(&store, &history));
            },
            || {
                for append in prebuilt {
                    store.append_now(append).expect("the version is the expected one");
                }
            },
        );
        stored.fetch_add(store.head_now().map_or(0, Position::get), Ordering::Relaxed);
        (elapsed, APPENDS)
    };
    let locked = || {
        let event = |number: u64| (number, vec![0x5a_u8; PAYLOAD]);
        let events: Vec<(u64, Vec<u8>)> = (0..HISTORY).map(event).collect();
        let store = RwLock::new((events, (0..HISTORY).collect::<HashSet<u64>>()));
        let prebuilt: Vec<(u64, Vec<u8>)> = (HISTORY..HISTORY + APPENDS).map(event).collect();
        let read = || {
            let events = store.read().expect("no panic under the lock");
            black_box(
                events.0[..HISTORY as usize].iter().map(|(number, bytes)| number + bytes.len() as u64).sum::<u64>(),
            );
        };
        let elapsed = beside(read, || {
            for event in prebuilt {
                let mut store = store.write().expect("no panic under the lock");
                if store.1.insert(event.0) {
                    store.0.push(event);
                }
            }
        });
        stored.fetch_add(store.read().expect("no panic under the lock").0.len() as u64, Ordering::Relaxed);
        (elapsed, APPENDS)
    };
    let rounds = bench.against("event-store/floor/locked-beside-reader", ours, locked)?;
    bench.proof(2 * rounds * (HISTORY + APPENDS), stored.into_inner());
    Ok(())
}

/// The time of `write` while another thread calls `read` over and over.
fn beside(read: impl Fn() + Sync, write: impl FnOnce()) -> Duration {
    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                read();
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        while reads.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        let start = Instant::now();
        write();
        let elapsed = start.elapsed();
        stop.store(true, Ordering::Relaxed);
        elapsed
    })
}
