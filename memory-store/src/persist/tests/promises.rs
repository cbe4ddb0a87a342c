//! What is promised beside what was acknowledged: what an error says, what a snapshot leaves behind, and how much each durability may lose.

use std::thread;
use std::time::Instant;

use super::*;
use crate::durable::manifest::Manifest;

/// A snapshot is one once its manifest is in place. What the disk then refuses to remove goes with the next.
#[test]
fn files_that_stay_behind_are_no_failure_of_a_snapshot() {
    let (mut stayed, mut failed) = (0, 0);
    for fault in [Fault::Refuse, Fault::Half] {
        for n in 0.. {
            let what = format!("{fault:?} at operation {n}");
            let disk = SimDir::new();
            let (store, _) = disk.open(&no_dedup(), Durability::Sync).expect("a new store");
            for number in 0..3 {
                write(&store, number).expect("written");
                if number < 2 {
                    store.snapshot().expect("a snapshot");
                }
            }
            let lsn = store.shared.disk.as_ref().expect("on disk").log.appended();
            disk.files.fail_at(n, fault, n);
            let taken = store.snapshot();
            if !disk.files.has_failed() {
                break;
            }
            let manifest = Manifest::load(&disk.files, disk.dir.path()).expect("read").expect("there");
            match &taken {
                Ok(()) => assert_eq!(manifest.lsn, lsn, "{what}"),
                Err(Error::Io { outcome: Outcome::NotApplied, .. }) => assert_ne!(manifest.lsn, lsn, "{what}"),
                Err(_) => {}
            }
            let left = store.stats().cleanups_failed;
            stayed += left;
            failed += u64::from(taken.is_err());
            if taken.is_ok() {
                write(&store, 3).expect("it goes on");
                store.snapshot().unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(store.stats().cleanups_failed, left, "{what}");
                // The manifest, the log, a state and one segment, which has grown since the last.
                assert_eq!(disk.files.contents().len(), 4, "{what}: {:?}", disk.files.contents().keys());
            }
        }
    }
    assert!(stayed >= 6 && failed > 10, "{stayed} left files behind, {failed} failed");
}

/// What another run could not remove does not keep a store from being opened.
#[test]
fn files_that_stay_behind_are_no_failure_of_an_opening() {
    let disk = SimDir::new();
    let (store, _) = disk.open(&no_dedup(), Durability::Sync).expect("a new store");
    write(&store, 1).expect("written");
    store.snapshot().expect("a snapshot");
    drop(store);
    disk.files.create(&disk.dir.path().join(format!("state-77{ENDING}"))).expect("left behind");
    // The sync of the directory comes first.
    disk.files.fail_at(1, Fault::Refuse, 0);
    let (store, _) = disk.open(&no_dedup(), Durability::Sync).expect("opened");
    assert!(disk.files.has_failed());
    assert_eq!((store.len(), store.stats().cleanups_failed), (1, 1));
}

/// The first store of a directory may die before it has synced the name: the next does, since it finds nothing there.
#[test]
fn the_name_of_a_directory_is_synced_by_whoever_makes_the_first_log() {
    let disk = SimDir::new();
    let parents: Vec<_> = disk.dir.path().ancestors().skip(1).map(Path::to_owned).collect();
    assert!(parents.len() > 1);
    // The directory is there, and nothing in it.
    let (store, _) = disk.open(&no_dedup(), Durability::Sync).expect("a new store");
    assert!(parents.iter().all(|parent| disk.files.has_synced_dir(parent)), "{parents:?}");
    drop(store);
    let again = SimDir { files: SimFiles::with(&disk.files.contents()), dir: disk.dir };
    again.open(&no_dedup(), Durability::Sync).expect("opened");
    assert!(!again.files.has_synced_dir(&parents[0]), "once is enough");
}

/// A change of several records, some of which the log has taken before it failed: they may survive.
#[test]
fn a_change_that_the_log_has_taken_in_part_is_not_said_to_be_none() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let disk = SimDir::new();
        let (store, _) = disk.open(&no_dedup(), durability).expect("a new store");
        for number in 0..2 {
            write(&store, number).expect("written");
        }
        let shared = &store.shared;
        let log = &shared.disk.as_ref().expect("on disk").log;
        let told = shared.change(100, |_, journal| {
            journal.remove(&[1])?;
            log.sync()?;
            disk.files.fail_at(0, Fault::Refuse, 0);
            log.rotate().expect_err("the disk refuses");
            journal.remove(&[2])
        });
        assert!(matches!(told, Err(Error::Io { outcome: Outcome::Unknown, .. })), "{told:?}");
        // What comes after it has not begun.
        assert!(matches!(store.remove(MemoryId(2)), Err(Error::LogFailed)));
        drop(store);
        let (store, _) = disk.open(&no_dedup(), durability).expect("opened");
        assert_eq!((store.len(), store.get(MemoryId(1)).is_none()), (1, true), "a part has survived");
    }
}

/// A loss of power takes from a store with an interval what was acknowledged within it, and nothing older.
#[test]
fn a_loss_of_power_takes_no_more_than_the_interval() {
    const INTERVAL: Duration = Duration::from_millis(30);
    // For the disk, and for a machine that is busy with something else.
    const GRACE: Duration = Duration::from_secs(2);
    for seed in 0..2 {
        let disk = SimDir::new();
        disk.files.slow_down(Duration::from_millis(3));
        let (store, _) = disk.open(&no_dedup(), Durability::Interval(INTERVAL)).expect("a new store");
        let mut rng = fastrand::Rng::with_seed(seed);
        let (begin, mut told) = (Instant::now(), Vec::new());
        while begin.elapsed() < GRACE + Duration::from_millis(400) {
            for _ in 0..rng.u64(1..20) {
                write(&store, told.len() as u64).expect("written");
                told.push(Instant::now());
            }
            thread::sleep(Duration::from_micros(rng.u64(..20_000)));
        }
        let off = Instant::now();
        disk.files.power_off();
        drop(store);
        disk.files.crash(seed);
        let old = told.iter().filter(|then| off.duration_since(**then) > INTERVAL + GRACE).count();
        let (store, _) = disk.open(&no_dedup(), Durability::Sync).expect("opened");
        assert!((old..=told.len()).contains(&store.len()), "{} of {}, {old} of them old", store.len(), told.len());
        assert!(old > 10, "{old}");
    }
}

/// A write that is in effect and may not survive is not counted as one that was acknowledged.
#[cfg(feature = "metrics")]
#[test]
fn writes_are_counted_once_they_are_acknowledged() {
    use std::sync::atomic::AtomicU64;

    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

    #[derive(Default)]
    struct Writes(Arc<AtomicU64>);

    impl Recorder for Writes {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            let is_ours = key.name() == "memory_store_writes_total";
            if is_ours { Counter::from_arc(Arc::clone(&self.0)) } else { Counter::noop() }
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    let (disk, writes) = (SimDir::new(), Writes::default());
    metrics::with_local_recorder(&writes, || {
        let (store, _) = disk.open(&no_dedup(), Durability::Sync).expect("a new store");
        let (one, two) = (vector(1), vector(2));
        let batch = || [Memory::new(&one, "one".to_owned()), Memory::new(&two, "two".to_owned())];
        write(&store, 0).expect("written");
        store.write_batch(batch(), &mut Vec::new()).expect("written");
        assert_eq!(writes.0.load(Ordering::Relaxed), 3);
        disk.files.fail_at(0, Fault::Refuse, 0);
        store.write_batch(batch(), &mut Vec::new()).expect_err("the disk refuses");
        write(&store, 3).expect_err("the log has failed");
        assert_eq!((writes.0.load(Ordering::Relaxed), store.len()), (3, 5));
    });
}
