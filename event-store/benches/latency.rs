//! Single operations: medians and percentiles of one append, one refused append, one condition.

mod workload;

use event_store::{Append, AppendCondition, AppendError, MemoryStore, Position, Query, QueryItem};
use harness::{Bench, BenchError, Suite};
use workload::{PAYLOAD, Reused, Workload, stream};

/// Appends built ahead of a round: few enough that they are still in the cache when their turn comes, as a fresh append is.
const APPENDS_A_ROUND: u64 = 512;

fn main() -> std::process::ExitCode {
    Suite::new()
        .bench("event-store/save/1", save_one)
        .bench("event-store/save/100", save_hundred)
        .bench("event-store/save/refused", refused)
        .bench("event-store/condition/recent-after", condition)
        .bench("event-store/load/1", load_one)
        .run()
}

/// A store and the appends that it is about to receive.
type Prepared = (MemoryStore, std::vec::IntoIter<Append>);

fn save_one(bench: &mut Bench) -> Result<(), BenchError> {
    let orders = stream("orders-1");
    let mut workload = Workload::new(PAYLOAD);
    let reused = Reused::default();
    let rounds = bench.ops(
        APPENDS_A_ROUND,
        || -> Prepared {
            let (store, version) = reused.take();
            let appends: Vec<_> = (0..APPENDS_A_ROUND).map(|i| workload.append(&orders, version + i, 1)).collect();
            (store, appends.into_iter())
        },
        |(store, appends), _| store.append_now(appends.next().expect("one an operation")),
        |(store, _)| reused.put_back(store),
    )?;
    bench.proof(rounds * APPENDS_A_ROUND, bench.observed());
    Ok(())
}

/// A hundred events in one call, into a store that has some: long enough to time each call, so that there are percentiles.
fn save_hundred(bench: &mut Bench) -> Result<(), BenchError> {
    const EVENTS: u64 = 100;
    const APPENDS: u64 = 40;
    let orders = stream("orders-1");
    let mut workload = Workload::new(PAYLOAD);
    let reused = Reused::default();
    let rounds = bench.ops(
        APPENDS,
        || -> Prepared {
            let (store, version) = reused.take();
            let build = |i| workload.append(&orders, version + i * EVENTS, EVENTS);
            let appends: Vec<_> = (0..APPENDS).map(build).collect();
            (store, appends.into_iter())
        },
        |(store, appends), _| store.append_now(appends.next().expect("one an operation")),
        |(store, _)| reused.put_back(store),
    )?;
    bench.proof(rounds * APPENDS * EVENTS, bench.observed());
    Ok(())
}

/// A stale expected version: the refusal that a lost race gets.
fn refused(bench: &mut Bench) -> Result<(), BenchError> {
    let orders = stream("orders-1");
    let mut workload = Workload::new(PAYLOAD);
    let mut refusals = 0;
    let rounds = bench.ops(
        APPENDS_A_ROUND,
        || -> Prepared {
            let store = workload.store(&orders, 10);
            let appends: Vec<_> = (0..APPENDS_A_ROUND).map(|_| workload.append(&orders, 5, 1)).collect();
            (store, appends.into_iter())
        },
        |(store, appends), _| {
            let refused = store.append_now(appends.next().expect("one an operation"));
            refusals += u64::from(matches!(refused, Err(AppendError::WrongExpectedVersion { .. })));
        },
        |(store, _)| store.head_now().map_or(0, Position::get),
    )?;
    bench.proof(rounds * (10 + APPENDS_A_ROUND), bench.observed() + refusals);
    Ok(())
}

/// A dynamic consistency boundary over 10,000 tags with a recent `after`: the check walks only what came later.
fn condition(bench: &mut Bench) -> Result<(), BenchError> {
    const TAGS: u64 = 10_000;
    let rounds = bench.ops(
        APPENDS_A_ROUND,
        || -> Prepared {
            let store = MemoryStore::new();
            let mut workload = Workload::new(PAYLOAD);
            let courses = (0..TAGS).map(|i| workload.event().with_tag(tag(i)));
            store.append_now(Append::events(courses)).expect("no condition");
            let appends: Vec<_> = (0..APPENDS_A_ROUND)
                .map(|i| {
                    let item = QueryItem::tags([tag(i % TAGS)]).expect("one tag");
                    let after = Position::new(TAGS + i).expect("not zero");
                    let condition = AppendCondition::fail_if_events_match(Query::item(item)).after(after);
                    Append::events([workload.event().with_tag(tag(i % TAGS))]).condition(condition)
                })
                .collect();
            (store, appends.into_iter())
        },
        |(store, appends), _| store.append_now(appends.next().expect("one an operation")),
        |(store, _)| store.head_now().map_or(0, Position::get),
    )?;
    bench.proof(rounds * (TAGS + APPENDS_A_ROUND), bench.observed());
    Ok(())
}

fn tag(number: u64) -> event_store::Tag {
    format!("course:{number}").parse().expect("a valid tag")
}

fn load_one(bench: &mut Bench) -> Result<(), BenchError> {
    const LOADS: u64 = 10_000;
    let orders = stream("orders-1");
    let store = Workload::new(PAYLOAD).store(&orders, 1);
    let read = event_store::Read::stream(orders);
    let rounds = bench.ops(
        LOADS,
        || 0_u64,
        |sums, _| *sums += workload::sum(std::hint::black_box(&store), &read),
        |sums| sums,
    )?;
    bench.proof(rounds * LOADS * workload::expected_sum(0, 1), bench.observed());
    Ok(())
}
