//! Reading what was appended.

use std::time::Instant;

use event_store::{Delivery, EventStore, Read, Subscribe};
use futures::StreamExt as _;
use harness::{Bench, BenchError};

use crate::setting::Setting;
use crate::stores::{PAYLOAD, append, stream};

/// All events of a store, one after the other.
pub(crate) fn catch_up(bench: &mut Bench) -> Result<(), BenchError> {
    const EVENTS: u64 = 50_000;
    const APPEND: u64 = 1_000;
    let setting = Setting::threaded();
    let store = setting.runtime.block_on(async {
        let store = setting.store(2).await;
        let stream = stream(0);
        for already in (0..EVENTS).step_by(APPEND as usize) {
            store.append(append(&stream, already, already, APPEND)).await.expect("appended");
        }
        store
    });
    let mut read = 0u64;
    let rounds = bench.rounds(|| {
        let start = Instant::now();
        let found = setting.runtime.block_on(async {
            let mut events = std::pin::pin!(store.read(Read::all()));
            let mut found = 0u64;
            while let Some(event) = events.next().await {
                let event = event.expect("readable");
                found += u64::from(event.payload().len() == PAYLOAD && event.position().get() == found + 1);
            }
            found
        });
        let elapsed = start.elapsed();
        read += found;
        (elapsed, EVENTS)
    })?;
    bench.proof(rounds * EVENTS, read);
    Ok(())
}

/// From the beginning of an append to the event in the hands of a subscriber of the same process.
pub(crate) fn wake(bench: &mut Bench) -> Result<(), BenchError> {
    const PER_ROUND: u64 = 20;
    let setting = Setting::threaded();
    let store = setting.runtime.block_on(setting.store(4));
    let stream = stream(0);
    let mut subscription = store.subscribe(Subscribe::from_start());
    let (mut appended, mut seen) = (0u64, 0u64);
    let rounds = bench.rounds(|| {
        let start = Instant::now();
        setting.runtime.block_on(async {
            for _ in 0..PER_ROUND {
                store.append(append(&stream, appended, appended, 1)).await.expect("appended");
                appended += 1;
                loop {
                    match subscription.next().await.expect("the store is there").expect("readable") {
                        Delivery::Event(event) => {
                            assert_eq!(event.position().get(), appended);
                            seen += 1;
                            break;
                        }
                        Delivery::CaughtUp(_) => {}
                    }
                }
            }
        });
        (start.elapsed(), PER_ROUND)
    })?;
    bench.proof(rounds * PER_ROUND, seen);
    Ok(())
}
