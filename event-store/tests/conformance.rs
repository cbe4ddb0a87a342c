//! The conformance suite: passed by the store in memory, behind a pointer too, and by a plain list; failed by faulty ones.

mod faulty_store;

use std::sync::Arc;
use std::time::Duration;

use event_store::testkit::conformance::{self, Setting};
use event_store::{DynEventStore, EventType, MemoryStore, Upcasters, Upcasting};
use faulty_store::{Fault, FaultyStore};
use futures::executor::block_on;

/// A fault may make a case wait for ever: long enough to tell.
const PATIENCE: Duration = Duration::from_millis(100);

#[test]
fn the_memory_store_conforms() {
    let report = block_on(conformance::run(|| async { MemoryStore::new() }));
    report.assert_passed();
    assert_eq!(report.passed.len(), conformance::cases::<MemoryStore>().len());
    eprintln!("{} cases", report.passed.len());
}

#[test]
fn the_memory_store_conforms_behind_a_pointer() {
    let make = || async { Arc::new(MemoryStore::new()) as Arc<dyn DynEventStore> };
    let report = block_on(conformance::run_events(&Setting::default(), make));
    report.assert_passed();
    assert!(report.passed.len() < conformance::cases::<MemoryStore>().len(), "without the cases about snapshots");
}

#[test]
fn an_upcasting_store_conforms_as_far_as_its_upcasters_are_about_other_events() {
    let none = Upcasters::builder().build().expect("nothing to refuse");
    let (old, new) = (EventType::new("Old").expect("valid"), EventType::new("New").expect("valid"));
    let others = Upcasters::builder()
        .current(new.clone(), 1)
        .split((old.clone(), 1), [(new, 1)], |_| Ok(Vec::new()))
        .drop(old, 2)
        .build()
        .expect("sound");
    for upcasters in [none, others] {
        let report = block_on(conformance::run(|| async { Upcasting::new(MemoryStore::new(), upcasters.clone()) }));
        report.assert_passed();
    }
}

/// The case that blocks on threads does so beside the executor, which may have one thread, and drives futures as the store needs it.
#[test]
fn the_suite_runs_on_a_runtime_of_one_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let handle = runtime.handle().clone();
    let setting = Setting::default().block_on(move |future| handle.block_on(future));
    runtime.block_on(conformance::run_with(&setting, || async { MemoryStore::new() })).assert_passed();
}

#[test]
fn a_plain_list_conforms() {
    block_on(conformance::run(|| async { FaultyStore::new(None) })).assert_passed();
}

#[test]
fn a_store_with_a_fault_does_not_conform() {
    let setting = Setting::default().limit(PATIENCE);
    for fault in Fault::ALL.into_iter().chain([Fault::MissedWakeUp]) {
        let report = block_on(conformance::run_with(&setting, || async move { FaultyStore::new(Some(fault)) }));
        assert!(!report.failed.is_empty(), "{fault:?} passes");
        eprintln!("{fault:?}: {} of {} cases fail", report.failed.len(), report.failed.len() + report.passed.len());
    }
}

#[test]
fn a_missed_wake_up_fails_the_case_that_is_about_it() {
    let setting = Setting::default().limit(Duration::from_secs(1));
    let make = || async { FaultyStore::new(Some(Fault::MissedWakeUp)) };
    let report = block_on(conformance::run_with(&setting, make));
    let failed: Vec<&str> = report.failed.iter().map(|(name, _)| *name).collect();
    assert!(failed.contains(&"a_subscription_falling_asleep_is_woken_by_a_racing_append"), "{failed:?}");
}
