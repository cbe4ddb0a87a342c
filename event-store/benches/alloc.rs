//! Allocations and memory: counted, in a binary of its own.

mod workload;

use event_store::{Append, AppendCondition, MemoryStore, Position, Query, Read};
use harness::{Bench, BenchError, CountingAlloc, Suite, alloc_scope};
use workload::{PAYLOAD, Workload, expected_sum, stream, sum};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::system();

/// Bytes of a payload of the rows that fill a store with many small events.
const SMALL: usize = 64;

fn main() -> std::process::ExitCode {
    Suite::new()
        .bench("event-store/allocs/save-1", save_one)
        .bench("event-store/allocs/load-10000", load)
        .bench("event-store/memory/refused-appends", refused_appends)
        .bench("event-store/memory/save-10000", save_many)
        .bench("event-store/memory/event", slope)
        .bench("event-store/memory/stream", streams)
        .bench("event-store/memory/100000-events", |bench| filled(bench, 100_000))
        .bench("event-store/memory/1000000-events", |bench| filled(bench, 1_000_000))
        .run()
}

/// Allocations of one append: what the store itself needs on top of the append that it is given.
fn save_one(bench: &mut Bench) -> Result<(), BenchError> {
    const APPENDS: u64 = 1_000;
    let orders = stream("orders-1");
    let mut workload = Workload::new(PAYLOAD);
    let store = workload.store(&orders, APPENDS);
    let prebuilt: Vec<_> = (0..APPENDS).map(|i| workload.append(&orders, APPENDS + i, 1)).collect();
    let (saved, stats) =
        alloc_scope(|| prebuilt.into_iter().filter_map(|append| store.append_now(append).ok()).count());
    bench.allocations(APPENDS, stats)?;
    bench.proof(APPENDS, saved);
    Ok(())
}

fn load(bench: &mut Bench) -> Result<(), BenchError> {
    const EVENTS: u64 = 10_000;
    const LOADS: u64 = 10;
    let orders = stream("orders-1");
    let store = Workload::new(PAYLOAD).store(&orders, EVENTS);
    let read = Read::stream(orders);
    let (sums, stats) = alloc_scope(|| (0..LOADS).map(|_| sum(&store, &read)).sum::<u64>());
    bench.allocations(LOADS, stats)?;
    bench.proof(expected_sum(0, EVENTS) * LOADS, sums);
    Ok(())
}

/// Appends that are refused, by version to a stream that does not exist, by id, beside a new one and alone, and by condition in turn:
/// 10,500 of them leave nothing behind.
fn refused_appends(bench: &mut Bench) -> Result<(), BenchError> {
    const APPENDS: u64 = 500;
    let mut workload = Workload::new(PAYLOAD);
    let orders = stream("orders-1");
    let store = workload.store(&orders, 10);
    let taken = workload.event();
    store.append_now(Append::events([taken.clone()])).expect("no condition");
    let (mut refused, mut next) = (0, 0_u64);
    bench.growth(APPENDS, || {
        next += 1;
        let append = match next % 4 {
            0 => workload.append(&stream(&format!("unknown-{next}")), 1, 1),
            1 => Append::events([workload.event(), taken.clone().with_metadata("other")]),
            2 => Append::events([taken.clone().with_metadata("other")]),
            _ => Append::events([workload.event()]).condition(AppendCondition::fail_if_exists(Query::All)),
        };
        refused += u64::from(store.append_now(append).is_err());
    })?;
    bench.proof(format!("{next} refused, 11 stored"), format!("{refused} refused, {} stored", head(&store)));
    Ok(())
}

/// One append of 10,000 events: everything that lives afterwards, less the payloads.
fn save_many(bench: &mut Bench) -> Result<(), BenchError> {
    const EVENTS: u64 = 10_000;
    bench.memory_at(EVENTS, PAYLOAD as u64, in_one_append, head)?;
    bench.proof(EVENTS, bench.observed());
    Ok(())
}

fn in_one_append(events: u64) -> MemoryStore {
    let store = MemoryStore::new();
    store.append_now(Workload::new(PAYLOAD).append(&stream("orders-1"), 0, events)).expect("the stream is new");
    store
}

/// What one more event takes, in appends of a thousand.
fn slope(bench: &mut Bench) -> Result<(), BenchError> {
    const SIZES: [u64; 4] = [20_000, 40_000, 80_000, 160_000];
    bench.memory_per_item(
        &SIZES,
        SMALL as u64,
        |events| Workload::new(SMALL).store(&stream("orders-1"), events),
        head,
    )?;
    bench.proof(SIZES.iter().sum::<u64>(), bench.observed());
    Ok(())
}

/// What one more stream of one event takes.
fn streams(bench: &mut Bench) -> Result<(), BenchError> {
    const SIZES: [u64; 3] = [20_000, 40_000, 80_000];
    let build = |count| {
        let store = MemoryStore::new();
        let mut workload = Workload::new(SMALL);
        for i in 0..count {
            store.append_now(workload.append(&stream(&format!("order-{i:08}")), 0, 1)).expect("the stream is new");
        }
        store
    };
    bench.memory_per_item(&SIZES, SMALL as u64, build, head)?;
    bench.proof(SIZES.iter().sum::<u64>(), bench.observed());
    Ok(())
}

fn filled(bench: &mut Bench, events: u64) -> Result<(), BenchError> {
    bench.memory_at(events, SMALL as u64, |events| Workload::new(SMALL).store(&stream("orders-1"), events), head)?;
    bench.proof(events, bench.observed());
    Ok(())
}

fn head(store: &MemoryStore) -> u64 {
    store.head_now().map_or(0, Position::get)
}
