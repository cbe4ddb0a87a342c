//! The disk fails at every operation in turn, or the power does.

use super::*;
use crate::durable::sim::Fault;

/// What is known of a log that was written until it failed.
#[derive(Debug, Default)]
struct Known {
    /// Committed.
    acknowledged: u64,
    /// Appended.
    appended: u64,
    /// The snapshot that the caller would have made.
    snapshot: Option<u64>,
}

/// Opens a log and uses it in every way until something fails. The outcome of each error is checked against its kind.
fn use_until_it_fails(files: &SimFiles, known: &mut Known) -> Result<(), Error> {
    let (log, _, replayed) = open(files, known.snapshot, Durability::Sync)?;
    let last = known.snapshot.unwrap_or_default() + replayed.len() as u64;
    assert!((known.acknowledged..=known.appended.max(known.acknowledged)).contains(&last), "{known:?}, found {last}");
    assert_eq!(replayed, records(known.snapshot.unwrap_or_default() + 1..last + 1));
    known.appended = last;
    let result = script(&log, known);
    if let Err(Error::Io { outcome: Outcome::Unknown, .. }) = &result {
        assert!(matches!(append(&log), Err(Error::LogFailed)));
        assert!(matches!(log.wait_for_room(1), Err(Error::LogFailed)));
        assert!(log.rotate().is_err());
        if known.appended > known.acknowledged {
            assert!(log.sync().is_err());
        }
    }
    result
}

fn script(log: &Log, known: &mut Known) -> Result<(), Error> {
    let step = |known: &mut Known, batch: u64| {
        let mut last = Lsn(0);
        for _ in 0..batch {
            last = append(log)?;
            known.appended = last.0;
        }
        log.commit(last)?;
        known.acknowledged = last.0;
        Ok::<_, Error>(())
    };
    step(known, 1)?;
    step(known, 3)?;
    step(known, 40)?;
    let rotated = log.rotate()?;
    assert_eq!(rotated.0, known.appended);
    known.acknowledged = known.appended;
    step(known, 2)?;
    known.snapshot = Some(rotated.0);
    log.forget(rotated)?;
    step(known, 1)?;
    append(log)?;
    known.appended += 1;
    log.sync()?;
    known.acknowledged = known.appended;
    Ok(())
}

fn operations_of_a_run() -> u64 {
    let files = SimFiles::default();
    use_until_it_fails(&files, &mut Known::default()).expect("nothing fails");
    files.operations()
}

/// After a fault at any operation, with or without a loss of power: what was acknowledged is there, what is there was appended, and the
/// log can be written again, through a second fault and a loss of power at the end.
#[test]
fn a_fault_at_any_operation_loses_nothing_that_was_acknowledged() {
    let total = operations_of_a_run();
    let mut failures = 0;
    for fault in [Fault::Refuse, Fault::Half, Fault::PowerLoss] {
        for at in 0..total {
            for seed in 0..12 {
                let files = SimFiles::default();
                let mut known = Known::default();
                files.fail_at(at, fault, seed);
                failures += u64::from(use_until_it_fails(&files, &mut known).is_err());
                if seed % 2 == 1 || fault == Fault::PowerLoss {
                    files.crash(seed);
                }
                files.fail_at(seed * 3, fault, seed + 100);
                let again = use_until_it_fails(&files, &mut known);
                assert!(!matches!(again, Err(Error::Corrupt { .. })), "{fault:?} at {at}, seed {seed}: {again:?}");
                files.power_off();
                files.crash(seed + 1000);
                use_until_it_fails(&files, &mut known)
                    .unwrap_or_else(|error| panic!("{fault:?} at {at}, seed {seed}: {error}"));
            }
        }
    }
    assert!(failures > 30 * 12, "only {failures} runs failed");
}

/// The power goes after any operation, while the log is open and unaware.
#[test]
fn a_loss_of_power_between_operations_loses_nothing_that_was_acknowledged() {
    for seed in 0..400 {
        let files = SimFiles::default();
        let mut known = Known::default();
        for round in 0..4 {
            let (log, ..) = open(&files, known.snapshot, Durability::Sync).expect("opened");
            for _ in 0..seed % 7 {
                let lsn = append(&log).expect("appended");
                known.appended = lsn.0;
                if seed % 3 != 0 {
                    log.commit(lsn).expect("committed");
                    known.acknowledged = lsn.0;
                }
            }
            files.power_off();
            drop(log);
            files.crash(seed * 10 + round);
            let (_, _, replayed) = open(&files, known.snapshot, Durability::Sync).expect("no damage");
            let last = replayed.len() as u64;
            assert!((known.acknowledged..=known.appended).contains(&last), "seed {seed}: {known:?}, found {last}");
            known.appended = last;
        }
    }
}

/// A page cache that keeps what the disk did not take: the records that a failed sync left behind are written again before a later sync
/// vouches for them.
#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_written_again() {
    for seed in 0..50 {
        let files = SimFiles::default();
        let (log, ..) = open(&files, None, Durability::Sync).expect("made");
        write(&log, 3);
        let lsn = append(&log).expect("appended");
        files.fail_at(1, Fault::Half, seed);
        let error = log.commit(lsn).expect_err("the sync fails");
        assert!(matches!(error, Error::Io { outcome: Outcome::Unknown, .. }));
        drop(log);
        let (log, _, replayed) = open(&files, None, Durability::Sync).expect("opened");
        assert_eq!(replayed, records(1..5));
        write(&log, 1);
        files.power_off();
        drop(log);
        files.crash(seed);
        assert_eq!(open(&files, None, Durability::Sync).expect("opened").2, records(1..6));
    }
}

#[test]
fn a_rotation_that_could_not_make_its_file_leaves_the_log_as_it_was() {
    let files = SimFiles::default();
    let (log, ..) = open(&files, None, Durability::Sync).expect("made");
    write(&log, 3);
    // The sync comes first, then the new file.
    files.fail_at(1, Fault::Refuse, 0);
    let refused = log.rotate().expect_err("no room for the file");
    assert!(matches!(refused, Error::Io { outcome: Outcome::NotApplied, .. }), "{refused}");
    write(&log, 3);
    assert_eq!(log.rotate().expect("rotated"), Lsn(6));
    write(&log, 1);
    drop(log);
    assert_eq!(open(&files, None, Durability::Sync).expect("opened").2, records(1..8));
}
