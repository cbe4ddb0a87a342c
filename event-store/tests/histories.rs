//! Random histories: the checker finds nothing in those of correct stores and finds every fault that it is there to find.

mod faulty_store;

use std::sync::Arc;

use event_store::MemoryStore;
use event_store::testkit::{Anomaly, Exercise, History, check, exercise, exercise_in_threads};
use faulty_store::{Fault, FaultyStore};
use futures::executor::block_on;

/// Histories in which each fault must have shown itself.
const SEEDS: u64 = 20;

fn history_of(fault: Option<Fault>, seed: u64) -> History {
    let store = Arc::new(FaultyStore::new(fault));
    block_on(exercise(&store, Exercise { seed, clients: 4, operations: 60 }))
}

#[test]
fn a_plain_store_without_a_fault_has_no_anomalies() {
    for seed in 0..SEEDS {
        let summary = check(&history_of(None, seed)).unwrap_or_else(|anomalies| panic!("seed {seed}: {anomalies:#?}"));
        assert!(summary.appended > 50 && summary.refused > 10 && summary.deduplicated > 0, "seed {seed}: {summary}");
        assert!(summary.reads > 20 && summary.delivered > 10 && summary.snapshots > 0, "seed {seed}: {summary}");
    }
}

#[test]
fn each_of_the_twelve_faults_is_caught_for_what_it_is() {
    let mut caught = 0;
    for fault in Fault::ALL {
        let found = (0..SEEDS).find_map(|seed| Some((seed, check(&history_of(Some(fault), seed)).err()?)));
        let (seed, anomalies) = found.unwrap_or_else(|| panic!("{fault:?} is not caught in {SEEDS} histories"));
        assert!(anomalies.iter().any(|anomaly| is_told_by(fault, anomaly)), "{fault:?}: {anomalies:#?}");
        caught += 1;
        eprintln!("{fault:?}: seed {seed}, {} anomalies, first: {}", anomalies.len(), anomalies[0]);
    }
    eprintln!("caught {caught} of {}", Fault::ALL.len());
}

/// What shows a fault: any other anomaly would be luck.
fn is_told_by(fault: Fault, anomaly: &Anomaly) -> bool {
    match fault {
        Fault::EarlyAck => matches!(anomaly, Anomaly::Read { .. } | Anomaly::Lost { .. }),
        Fault::LostPublish => matches!(anomaly, Anomaly::Lost { .. } | Anomaly::Reordered { .. }),
        Fault::WatermarkBeforeData => matches!(anomaly, Anomaly::Read { .. } | Anomaly::Delivery { .. }),
        Fault::StaleHead | Fault::ReorderedPublish => matches!(anomaly, Anomaly::Read { .. }),
        Fault::SkippedSameBatchCheck | Fault::OffByOneAfter | Fault::DedupeIgnoresPayload => {
            matches!(anomaly, Anomaly::Verdict { .. })
        }
        Fault::DuplicatePosition | Fault::DroppedTailOnRollover => matches!(anomaly, Anomaly::Order { .. }),
        Fault::SnapshotAhead => matches!(anomaly, Anomaly::Snapshot { .. }),
        Fault::CursorAdvancesOnLimit => matches!(anomaly, Anomaly::Delivery { .. }),
    }
}

#[test]
fn the_memory_store_has_no_anomalies_on_one_task_and_on_four_threads() {
    let mut appended = 0;
    for seed in 0..SEEDS {
        let plan = Exercise { seed, clients: 4, operations: 250 };
        let store = || Arc::new(MemoryStore::new());
        for history in [block_on(exercise(&store(), plan)), exercise_in_threads(&store(), plan)] {
            appended += check(&history).unwrap_or_else(|found| panic!("seed {seed}: {found:#?}")).appended;
        }
    }
    assert!(appended > 5_000, "{appended}");
}

/// `cargo test --release -p event-store --features testkit --test histories -- --ignored --nocapture`, with `OPERATIONS` for more.
#[test]
#[ignore = "the long form of the test above, which runs by itself with 40,000"]
fn a_million_operations_on_four_threads_have_no_anomalies() {
    let operations: u64 = std::env::var("OPERATIONS").map_or(1_000_000, |n| n.parse().expect("a number"));
    let (mut done, mut seed) = (0, 1_000);
    while done < operations {
        let plan = Exercise { seed, clients: 4, operations: 2_500 };
        let history = exercise_in_threads(&Arc::new(MemoryStore::new()), plan);
        let summary = check(&history).unwrap_or_else(|found| panic!("seed {seed}: {found:#?}"));
        done += history.operations.len() as u64;
        seed += 1;
        eprintln!("seed {seed}: {summary}");
    }
    eprintln!("{done} operations, 0 anomalies");
}
