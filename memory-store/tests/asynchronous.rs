//! A long scan beside an asynchronous runtime: the way that the documentation shows keeps the reactor going.

use std::time::{Duration, Instant};

use memory_store::{Config, ManualClock, Memory, MemoryStore, Query};

const DIMENSIONS: usize = 64;

fn filled() -> MemoryStore<(), ManualClock> {
    let config = Config::builder(DIMENSIONS).dedup(None).build().unwrap();
    let store = MemoryStore::with_clock(config, ManualClock::default()).unwrap();
    let mut rng = fastrand::Rng::with_seed(9);
    let payload = std::sync::Arc::new(());
    for _ in 0..40_000 {
        let vector: Vec<f32> = (0..DIMENSIONS).map(|_| rng.f32() - 0.5).collect();
        store.write(Memory::shared(&vector, payload.clone())).unwrap();
    }
    store
}

/// Scans that take tens of milliseconds, on the blocking pool of a runtime with one thread: its timer of a millisecond ticks on.
#[test]
fn a_millisecond_timer_ticks_on_while_long_scans_run() {
    let store = filled();
    // Every row is looked at and none is taken: as long as a scan gets.
    let query = vec![1.0; DIMENSIONS];
    let began = Instant::now();
    let none = |_, _: &()| false;
    store.retrieve(&Query::new(&query, 5).matching(&none)).unwrap();
    let scan = began.elapsed();
    let scans = (Duration::from_millis(100).as_secs_f64() / scan.as_secs_f64()).ceil() as u32;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (ticks, elapsed) = runtime.block_on(async move {
        let began = Instant::now();
        let scanning = tokio::task::spawn_blocking(move || {
            for _ in 0..scans {
                let none = |_, _: &()| false;
                assert!(store.retrieve(&Query::new(&query, 5).matching(&none)).unwrap().hits.is_empty());
            }
        });
        tokio::pin!(scanning);
        let mut timer = tokio::time::interval(Duration::from_millis(1));
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut ticks = 0u32;
        loop {
            tokio::select! {
                _ = timer.tick() => ticks += 1,
                done = &mut scanning => {
                    done.unwrap();
                    return (ticks, began.elapsed());
                }
            }
        }
    });
    // The machine is shared: half of the ticks. On the runtime's own thread there would be one.
    assert!(elapsed >= Duration::from_millis(20), "scans of {scan:?} took {elapsed:?}");
    assert!(u128::from(ticks) >= elapsed.as_millis() / 2, "{ticks} ticks in {elapsed:?}");
}
