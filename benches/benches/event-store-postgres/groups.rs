//! Many writers at once.

use std::sync::Arc;
use std::time::Instant;

use event_store::{EventStore, PostgresStore};
use harness::metric::Metric;
use harness::record::{Figure, Source};
use harness::{Bench, BenchError};

use crate::flushes::flushes;
use crate::setting::Setting;
use crate::stores::{append, stream};

const WRITERS: usize = 64;
/// Appends of a writer in a round.
const APPENDS: u64 = 8;

/// Each of the writers appends to a stream of its own, one event at a time, through the store that it is given.
async fn write(stores: &[Arc<PostgresStore>], round: u64, base: u64) {
    let writer = |number: usize| {
        let store = Arc::clone(&stores[number % stores.len()]);
        tokio::spawn(async move {
            let stream = stream(base as usize + number);
            for at in 0..APPENDS {
                let already = round * APPENDS + at;
                let id = (base + number as u64) << 32 | already;
                store.append(append(&stream, already, id, 1)).await.expect("appended");
            }
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(writer).collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
}

/// 64 writers through one store, which groups them; beside 64 stores of one writer each, which cannot.
pub(crate) fn writers(bench: &mut Bench) -> Result<(), BenchError> {
    const EVENTS: u64 = WRITERS as u64 * APPENDS;
    let setting = Setting::threaded();
    let (one, each) = setting.runtime.block_on(async {
        let one = vec![Arc::new(setting.store(4).await)];
        let mut each = Vec::new();
        for _ in 0..WRITERS {
            each.push(Arc::new(setting.store(1).await));
        }
        (one, each)
    });
    let (mut grouped, mut single) = (0, 0);
    let rounds = bench.against(
        "event-store/floor/postgres-writers-64-ungrouped",
        || {
            let start = Instant::now();
            setting.runtime.block_on(write(&one, grouped, 0));
            grouped += 1;
            (start.elapsed(), EVENTS)
        },
        || {
            let start = Instant::now();
            setting.runtime.block_on(write(&each, single, 1 << 16));
            single += 1;
            (start.elapsed(), EVENTS)
        },
    )?;
    let head = setting.runtime.block_on(one[0].head()).expect("a head").map_or(0, |head| head.get());
    bench.proof(2 * rounds * EVENTS, head);
    Ok(())
}

/// Events that the log is flushed for at a time, by the server's own account, with 64 writers.
pub(crate) fn events_per_flush(bench: &mut Bench) -> Result<(), BenchError> {
    const ROUNDS: u64 = 16;
    let setting = Setting::threaded();
    let (head, flushes) = setting.runtime.block_on(async {
        let store = vec![Arc::new(setting.store(4).await)];
        let before = flushes(&setting).await;
        for round in 0..ROUNDS {
            write(&store, round, 0).await;
        }
        let head = store[0].head().await.expect("a head").map_or(0, |head| head.get());
        drop(store);
        (head, flushes(&setting).await - before)
    });
    let events = ROUNDS * APPENDS * WRITERS as u64;
    bench.note(format!("{events} events, {flushes} flushes"));
    bench.figure(Source::Round, Figure::exact(Metric::Count, events as f64 / flushes.max(1) as f64), events);
    bench.proof(events, head);
    Ok(())
}
