//! Random histories: the checker finds nothing in those of correct stores and finds every fault that it is there to find.

mod faulty_store;

use std::sync::Arc;
use std::time::Duration;

use event_store::MemoryStore;
use event_store::testkit::{Anomaly, Exercise, History, check, exercise, exercise_in_threads};
use faulty_store::{Fault, FaultyStore};
use futures::executor::block_on;

/// Histories in which each fault must have shown itself.
const SEEDS: u64 = 20;
/// Long enough for a plain list to deliver what it will ever deliver.
const PATIENCE: Duration = Duration::from_millis(20);

fn history_of(fault: Option<Fault>, seed: u64) -> History {
    let store = Arc::new(FaultyStore::new(fault));
    block_on(exercise(&store, Exercise { seed, operations: 60, patience: PATIENCE, ..Exercise::default() }))
}

#[test]
fn a_plain_store_without_a_fault_has_no_anomalies() {
    let mut snapshots = 0;
    for seed in 0..SEEDS {
        let summary = check(&history_of(None, seed)).unwrap_or_else(|anomalies| panic!("seed {seed}: {anomalies:#?}"));
        assert!(summary.appended > 50 && summary.refused > 10 && summary.deduplicated > 0, "seed {seed}: {summary}");
        assert!(summary.reads > 20 && summary.delivered > 10, "seed {seed}: {summary}");
        snapshots += summary.snapshots;
    }
    assert!(snapshots > SEEDS, "{snapshots}");
}

#[test]
fn each_fault_is_caught_for_what_it_is() {
    for fault in Fault::ALL {
        let found = (0..SEEDS).find_map(|seed| {
            let anomalies = check(&history_of(Some(fault), seed)).err()?;
            let telling = anomalies.iter().find(|anomaly| is_told_by(fault, anomaly))?.to_string();
            Some((seed, anomalies.len(), telling))
        });
        let (seed, count, telling) = found.unwrap_or_else(|| panic!("{fault:?} is not caught in {SEEDS} histories"));
        eprintln!("{fault:?}: seed {seed}, {count} anomalies, among them: {telling}");
    }
    eprintln!("caught {0} of {0}", Fault::ALL.len());
}

/// What shows a fault: any other anomaly would be luck.
fn is_told_by(fault: Fault, anomaly: &Anomaly) -> bool {
    match fault {
        Fault::EarlyAck | Fault::StaleHead | Fault::ReorderedPublish => matches!(anomaly, Anomaly::Read { .. }),
        Fault::LostPublish => matches!(anomaly, Anomaly::Lost { .. } | Anomaly::Reordered { .. }),
        Fault::WatermarkBeforeData => matches!(anomaly, Anomaly::Read { .. } | Anomaly::Delivery { .. }),
        Fault::SkippedSameBatchCheck | Fault::OffByOneAfter | Fault::DedupeIgnoresPayload => {
            matches!(anomaly, Anomaly::Verdict { .. })
        }
        Fault::DuplicatePosition | Fault::DroppedTailOnRollover => matches!(anomaly, Anomaly::Order { .. }),
        Fault::SnapshotAhead => matches!(anomaly, Anomaly::Snapshot { why, .. } if why.contains("ahead of")),
        Fault::CursorAdvancesOnLimit => matches!(anomaly, Anomaly::Delivery { .. }),
        Fault::AcceptsAnyCursor => matches!(anomaly, Anomaly::Delivery { why, .. } if why.contains("caught up")),
        Fault::WaitsForItsCursor => matches!(anomaly, Anomaly::Delivery { why, .. } if why.contains("was not refused")),
        Fault::StuckOnArrival => matches!(anomaly, Anomaly::Delivery { why, .. } if why.contains("nothing came")),
        Fault::DeliversForEver => matches!(anomaly, Anomaly::Delivery { why, .. } if why.contains("was to come")),
        Fault::FailsForEver => matches!(anomaly, Anomaly::Delivery { why, .. } if why.contains("nothing came")),
        Fault::MissedWakeUp => false,
    }
}

#[test]
fn the_memory_store_has_no_anomalies_on_one_task_and_on_four_threads() {
    let mut appended = 0;
    for seed in 0..SEEDS {
        let plan = Exercise { seed, operations: 250, ..Exercise::default() };
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
        let plan = Exercise { seed, operations: 2_500, ..Exercise::default() };
        let history = exercise_in_threads(&Arc::new(MemoryStore::new()), plan);
        let summary = check(&history).unwrap_or_else(|found| panic!("seed {seed}: {found:#?}"));
        done += history.operations.len() as u64;
        seed += 1;
        eprintln!("seed {seed}: {summary}");
    }
    eprintln!("{done} operations, 0 anomalies");
}
