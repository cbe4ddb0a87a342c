//! The conformance suite: passed by the store in memory, behind a pointer too, and by a plain list; failed by faulty ones.

mod faulty_store;

use std::time::Duration;

use event_store::MemoryStore;
use event_store::testkit::conformance;
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
fn a_plain_list_conforms() {
    block_on(conformance::run(|| async { FaultyStore::new(None) })).assert_passed();
}

#[test]
fn a_store_with_a_fault_does_not_conform() {
    for fault in Fault::ALL {
        let report = block_on(conformance::run_within(PATIENCE, || async move { FaultyStore::new(Some(fault)) }));
        assert!(!report.failed.is_empty(), "{fault:?} passes");
        eprintln!("{fault:?}: {} of {} cases fail", report.failed.len(), report.failed.len() + report.passed.len());
    }
}
