//! Stores on a disk that fails, loses its power, or is looked at between two snapshots.

mod payloads;
mod promises;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::capacity::row_bytes;
use crate::clock::ManualClock;
use crate::config::{Capacity, Dedup};
use crate::durable::Durability;
use crate::durable::files::OsFiles;
use crate::durable::log::LogHeader;
use crate::durable::manifest::SegmentFile;
use crate::durable::sim::{Fault, SimFiles};
use crate::journal::{Journal, RowRecord};
use crate::memory::{Memory, MemoryId};
use crate::segment::Shape;
use crate::{Outcome, Prune, Query, Timestamp, Update};

type Store = MemoryStore<String, ManualClock>;

/// A directory on a simulated disk. What a store maps, it maps from the machine's: section files are put there before it is opened.
struct SimDir {
    files: SimFiles,
    dir: tempfile::TempDir,
}

impl SimDir {
    fn new() -> Self {
        Self { files: SimFiles::default(), dir: tempfile::tempdir().expect("a directory") }
    }

    fn open(&self, config: &Config, durability: Durability) -> Result<(Store, Recovery), Error> {
        for entry in fs::read_dir(self.dir.path()).expect("listed") {
            fs::remove_file(entry.expect("an entry").path()).expect("removed");
        }
        for (path, bytes) in self.files.contents() {
            if path.to_string_lossy().ends_with(ENDING) {
                fs::write(path, bytes).expect("written");
            }
        }
        let (files, clock) = (Arc::new(self.files.clone()), ManualClock::default());
        Store::open_on(files, self.dir.path(), config.clone(), durability, clock)
    }
}

/// Everything that is to survive.
fn contents(store: &Store) -> Vec<String> {
    let all = store.replay(..).expect("a range");
    all.iter().map(|memory| format!("{memory:?} {:?}", store.vector(memory.id))).collect()
}

fn vector(number: u64) -> [f32; 4] {
    let mut rng = fastrand::Rng::with_seed(number);
    std::array::from_fn(|_| rng.f32() - 0.5)
}

fn write(store: &Store, number: u64) -> Result<MemoryId, Error> {
    let vector = vector(number);
    let memory = Memory::new(&vector, number.to_string()).at(Timestamp(number as i64));
    store.write(memory).map(|written| written.id())
}

fn no_dedup() -> Config {
    Config::builder(4).dedup(None).build().expect("a configuration")
}

/// Compaction changes which rows there are, and no record says so.
#[test]
fn a_snapshot_after_a_compaction_is_one_of_what_it_left() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Store::open_with(dir.path(), no_dedup(), Durability::Buffered, ManualClock::default());
    let (store, _) = open().expect("a new store");
    for number in 0..40 {
        write(&store, number).expect("written");
    }
    store.remove(MemoryId(7)).expect("removed");
    store.snapshot().expect("a snapshot");
    store.compact().expect("compacted");
    store.snapshot().expect("a snapshot");
    let before = contents(&store);
    drop(store);
    let (store, recovery) = open().expect("a good directory");
    assert_eq!((recovery.from_snapshot, recovery.replayed), (39, 0));
    assert_eq!(contents(&store), before);
}

/// Segments are gone and others take their place, in one life of a store and from one to the next: no file is taken for one of another
/// segment, and the file of a segment that stays is not written again.
#[test]
fn a_segment_keeps_its_file_from_life_to_life() {
    for seed in 0..4 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().expect("a directory");
        let mut before = None;
        let mut next = 0;
        for life in 0..5 {
            let opened = Store::open_with(dir.path(), no_dedup(), Durability::Buffered, ManualClock::default());
            let (store, recovery) = opened.unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
            if let Some(before) = &before {
                assert!(contents(&store) == *before, "seed {seed}, life {life}, {recovery:?}");
            }
            for _ in 0..rng.u64(200..1200) {
                write(&store, next).expect("written");
                next += 1;
                if rng.usize(..3) == 0 {
                    store.remove(MemoryId(rng.u64(1..=next))).expect("removed");
                }
                if rng.usize(..400) == 0 {
                    store.snapshot().expect("a snapshot");
                }
            }
            store.snapshot().expect("a snapshot");
            before = Some(contents(&store));
        }
        let files = || {
            let names = fs::read_dir(dir.path()).expect("listed").map(|entry| entry.expect("an entry").path());
            names.filter(|path| path.to_string_lossy().contains("segment-")).collect::<HashSet<_>>()
        };
        let written = files();
        let (store, _) = Store::open_with(dir.path(), no_dedup(), Durability::Buffered, ManualClock::default())
            .expect("a good directory");
        store.snapshot().expect("a snapshot");
        assert_eq!(files(), written, "seed {seed}");
    }
}

/// What is written while the log is rotated is in the snapshot, and in no more than the memory of the log: it has to be on disk before the
/// snapshot counts, or the log would end before the snapshot does.
#[test]
fn a_snapshot_is_never_ahead_of_the_log() {
    for seed in 0..20 {
        let disk = SimDir::new();
        let (store, _) = disk.open(&no_dedup(), Durability::Buffered).expect("a new store");
        write(&store, 0).expect("written");
        disk.files.slow_down(Duration::from_millis(2));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut number = 1;
                while !done.load(Ordering::Relaxed) {
                    // The power may be gone already.
                    let _ = write(&store, number);
                    number += 1;
                    std::thread::sleep(Duration::from_micros(20));
                }
            });
            std::thread::sleep(Duration::from_millis(1));
            let taken = store.snapshot();
            disk.files.power_off();
            done.store(true, Ordering::Relaxed);
            taken.expect("a snapshot");
        });
        drop(store);
        disk.files.crash(seed);
        let opened = disk.open(&no_dedup(), Durability::Buffered);
        let (_, recovery) = opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(recovery.from_snapshot > 0, "{recovery:?}");
    }
}

/// A small store that is nearly always full, by number or by bytes.
fn full() -> Config {
    let max_bytes = 6 * row_bytes(Shape::new(4)) + 200;
    let capacity = Capacity { max_memories: 6, max_bytes: Some(max_bytes), ..Capacity::default() };
    let dedup = Dedup { threshold: 0.99, ..Dedup::default() };
    Config::builder(4).capacity(capacity).dedup(dedup).build().expect("a configuration")
}

/// Steps of the script that follows.
const STEPS: u64 = 36;

/// Everything that a store does, one step at a time. Each step depends on what the store holds alone.
fn step(store: &Store, number: u64) -> Result<(), Error> {
    let all = store.replay(..).expect("a range");
    let some = all.get(number as usize % all.len().max(1)).map(|memory| memory.id);
    let vector = vector(number + 100);
    match (number % 12, some) {
        (3, Some(id)) => store.update(id, Update::new().payload("updated".to_owned(), 200).vector(&vector)).map(drop),
        (4, Some(id)) => {
            let again = store.vector(id).expect("a vector");
            store.write(Memory::new(&again, "merged".to_owned()).at(Timestamp(number as i64))).map(drop)
        }
        (5, Some(id)) => store.pin(id).map(drop),
        (6, Some(id)) => match all.iter().find(|memory| memory.pinned).filter(|_| number > 12) {
            Some(pinned) => store.unpin(pinned.id).map(drop),
            None => store.boost(id, 1.5).map(drop),
        },
        (7, Some(id)) => store.remove(id).map(drop),
        (8, _) => store.snapshot(),
        (9, _) if number > 24 => {
            let prune = Prune::new().older_than(Duration::from_micros(12)).at(Timestamp(number as i64));
            store.prune(prune).map(drop)
        }
        (10, _) => store.compact(),
        (11, _) => store.sync(),
        _ => {
            let memory = Memory::new(&vector, format!("new at {number}")).at(Timestamp(number as i64));
            let memory = memory.payload_bytes((number % 5) as u32 * 20);
            let memory = if number % 12 == 2 { memory.critical().incident("storm") } else { memory };
            store.write(memory).map(drop)
        }
    }
}

/// What a store holds after each step when nothing fails, and how often it then changes something on the disk.
fn without_faults() -> (Vec<BTreeSet<String>>, u64) {
    let disk = SimDir::new();
    let (store, _) = disk.open(&full(), Durability::Sync).expect("a new store");
    let mut states = vec![BTreeSet::from_iter(contents(&store))];
    for number in 0..STEPS {
        step(&store, number).expect("done");
        states.push(BTreeSet::from_iter(contents(&store)));
    }
    assert!(store.stats().evicted > 2 && store.stats().by_class[3] > 0, "{:?}", store.stats());
    let for_bytes = |at: &usize| at % 12 == 3 && states[at + 1].len() < states[*at].len();
    assert!((0..STEPS as usize).any(|at| for_bytes(&at)), "an update takes the room of others");
    (states, disk.files.operations())
}

/// What is known of a store in which something has failed: the states that it may be in.
#[derive(Debug, Default)]
struct Known {
    /// Acknowledged up to here.
    least: usize,
    /// What may have happened up to here.
    most: usize,
    snapshots_that_failed: usize,
}

/// Goes through the script until the log fails, and checks what each error says.
fn run(store: &Store, states: &[BTreeSet<String>]) -> Known {
    let mut known = Known::default();
    for number in 0..STEPS {
        let at = number as usize;
        let done = step(store, number);
        let now = BTreeSet::from_iter(contents(store));
        known.most = at + 1;
        match done {
            Ok(()) => {
                assert_eq!(now, states[at + 1], "step {number}");
                known.least = at + 1;
            }
            // The log failed when it left word of what it had acknowledged.
            Err(Error::LogFailed) => {
                assert_eq!(now, states[at], "step {number}");
                known.most = at;
                break;
            }
            // A snapshot changes nothing, and the store goes on.
            Err(Error::Io { .. }) if states[at] == states[at + 1] && write_is_taken(store) => {
                assert_eq!(now, states[at], "step {number}");
                known.least = at + 1;
                known.snapshots_that_failed += 1;
            }
            Err(Error::Io { outcome: Outcome::NotApplied, .. }) => {
                panic!("step {number}: every step but a snapshot goes through the log")
            }
            Err(Error::Io { outcome: Outcome::Unknown, .. }) => {
                assert_eq!(now, states[at + 1], "step {number}: it is in effect here");
                let query = [0.5, 0.25, -0.5, 1.0];
                assert_eq!(store.retrieve(&Query::new(&query, 100)).expect("an answer").hits.len(), now.len());
                assert!(matches!(write(store, 1), Err(Error::LogFailed)));
                assert!(matches!(store.prune(Prune::new().older_than(Duration::ZERO)), Err(Error::LogFailed)));
                assert!(store.snapshot().is_err());
                assert_eq!(BTreeSet::from_iter(contents(store)), now, "what was refused has not happened");
                break;
            }
            Err(other) => panic!("step {number}: {other}"),
        }
    }
    known
}

/// Whether the log has not failed: an id that was never given is not to be removed, and only a log that failed minds.
fn write_is_taken(store: &Store) -> bool {
    store.remove(MemoryId(1 << 40)).is_ok()
}

/// The states in which a store may be after a crash. A memory and the ones that went for it are several records.
fn is_allowed(now: &BTreeSet<String>, known: &Known, states: &[BTreeSet<String>]) -> bool {
    let id = |memory: &str| memory.split_once(',').expect("a memory").0.to_owned();
    let between = |at: usize| {
        let ids: HashSet<String> = states[at + 1].iter().map(|memory| id(memory)).collect();
        let is_of_before = |memory: &String| states[at].contains(memory) && !ids.contains(&id(memory));
        now.is_superset(&states[at + 1]) && now.difference(&states[at + 1]).all(is_of_before)
    };
    states[known.least..=known.most].contains(now) || (known.least..known.most).any(between)
}

/// Lets each operation on the disk fail in turn.
#[expect(clippy::print_stdout, reason = "how often what has failed")]
fn fail_everywhere(fault: Fault, power_loss: bool) {
    let (states, operations) = without_faults();
    let (mut snapshots_that_failed, mut failed_logs, mut one_too_many) = (0, 0, 0);
    for n in 0..operations {
        let what = format!("{fault:?} at operation {n}");
        let disk = SimDir::new();
        disk.files.fail_at(n, fault, n);
        let known = match disk.open(&full(), Durability::Sync) {
            Ok((store, _)) => run(&store, &states),
            Err(Error::Io { .. }) => Known::default(),
            Err(other) => panic!("{what}: {other}"),
        };
        assert!(disk.files.has_failed(), "{what}: not reached");
        if power_loss {
            disk.files.crash(n);
        }
        let (store, recovery) = disk.open(&full(), Durability::Sync).unwrap_or_else(|error| panic!("{what}: {error}"));
        let now = BTreeSet::from_iter(contents(&store));
        assert!(is_allowed(&now, &known, &states), "{what}: {known:?}, {recovery:?}: {now:#?}");
        assert_eq!(recovery.memories, now.len(), "{what}");
        snapshots_that_failed += known.snapshots_that_failed;
        failed_logs += usize::from(known.most < states.len() - 1 || known.least < known.most);
        one_too_many += usize::from(!states.contains(&now));

        // And it goes on from there.
        write(&store, 500 + n).unwrap_or_else(|error| panic!("{what}: {error}"));
        if n % 2 == 0 {
            store.snapshot().unwrap_or_else(|error| panic!("{what}: {error}"));
            write(&store, 5000 + n).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        assert!(store.len() <= 6.max(store.stats().protected), "{what}: room is made by the next write");
        let before = contents(&store);
        drop(store);
        if power_loss {
            disk.files.power_off();
            disk.files.crash(n);
        }
        let (store, _) = disk.open(&full(), Durability::Sync).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(contents(&store), before, "{what}");
    }
    println!(
        "{fault:?}: {operations} operations, {failed_logs} failed logs, {snapshots_that_failed} failed snapshots, {one_too_many} between two records"
    );
    assert!(fault == Fault::PowerLoss || snapshots_that_failed > 20, "{snapshots_that_failed}");
    assert!(failed_logs > 50, "{failed_logs}");
}

#[test]
fn a_disk_that_refuses_once_loses_nothing_that_was_acknowledged() {
    fail_everywhere(Fault::Refuse, false);
}

#[test]
fn a_disk_that_fails_half_way_loses_nothing_that_was_acknowledged() {
    fail_everywhere(Fault::Half, false);
}

#[test]
fn a_disk_that_fails_before_the_power_goes_loses_nothing_that_was_acknowledged() {
    fail_everywhere(Fault::Half, true);
}

#[test]
fn a_loss_of_power_loses_nothing_that_was_acknowledged() {
    fail_everywhere(Fault::PowerLoss, true);
}

/// A buffered store keeps what was synced and, of what followed, the beginning.
#[test]
fn a_loss_of_power_leaves_a_buffered_store_a_prefix_that_holds_what_was_synced() {
    let (states, _) = without_faults();
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..4 {
        for steps in 0..=STEPS {
            let what = format!("seed {seed}, {steps} steps");
            let disk = SimDir::new();
            let (store, _) = disk.open(&full(), Durability::Buffered).expect("a new store");
            let mut known = Known { most: steps as usize, ..Known::default() };
            for number in 0..steps {
                step(&store, number).expect("done");
                // A snapshot syncs, and so does a sync.
                if matches!(number % 12, 8 | 11) {
                    known.least = number as usize + 1;
                }
                if (number + seed) % 7 == 0 {
                    // The log is written meanwhile.
                    std::thread::sleep(Duration::from_millis(12));
                }
            }
            disk.files.power_off();
            drop(store);
            disk.files.crash(seed * 1000 + steps);
            let opened = disk.open(&full(), Durability::Buffered);
            let (store, recovery) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
            let now = BTreeSet::from_iter(contents(&store));
            assert!(is_allowed(&now, &known, &states), "{what}: {known:?}, {recovery:?}: {now:#?}");
            if now == states[known.most] { kept += 1 } else { lost += 1 }
        }
    }
    assert!(lost > 10 && kept > 10, "{lost} lost something, {kept} nothing");
}

/// A manifest whose checksum is right, and that no store has written.
#[test]
fn a_manifest_that_does_not_fit_its_files_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Store::open_with(dir.path(), no_dedup(), Durability::Sync, ManualClock::default());
    for life in 0..2 {
        let (store, _) = open().expect("a good directory");
        for number in 0..3 {
            write(&store, life * 3 + number).expect("written");
        }
        store.snapshot().expect("a snapshot");
    }
    let good = Manifest::load(&OsFiles, dir.path()).expect("read").expect("there");
    let (first, second) = (good.segments[0].clone(), good.segments[1].clone());
    let with = |segments| Manifest { segments, ..good.clone() };
    let bad = [
        Manifest { next_id: 0, ..good.clone() },
        Manifest { next_id: 3, ..good.clone() },
        Manifest { next_id: 1 << 63, ..good.clone() },
        with(vec![second.clone(), first.clone()]),
        with(vec![first.clone(), first.clone()]),
        with(vec![first.clone(), SegmentFile { rows: u64::MAX, ..second.clone() }]),
        with(vec![SegmentFile { name: "rows.sections".to_owned(), ..first }, second]),
        Manifest { state: format!("state-{}{ENDING}", u64::MAX), ..good.clone() },
    ];
    for manifest in bad {
        manifest.store(&OsFiles, dir.path()).expect("stored");
        match open().map(|_| ()) {
            Err(Error::Corrupt { file, .. }) => assert_eq!(file, dir.path().join("MANIFEST"), "{manifest:?}"),
            other => panic!("{manifest:?}: {other:?}"),
        }
    }
    good.store(&OsFiles, dir.path()).expect("stored");
    assert_eq!(open().expect("as it was").1.memories, 6);
}

/// A record whose checksum is right, of a memory whose number was never given: the numbers after it would run out.
#[test]
fn a_record_of_a_memory_that_was_never_numbered_is_refused() {
    for (id, is_good) in [(1, true), (2, false), (1 << 63, false), (u64::MAX - 1, false), (u64::MAX, false)] {
        let disk = SimDir::new();
        let header = LogHeader { dim: 4, fingerprint: fingerprint(&no_dedup()) };
        let files = Arc::new(disk.files.clone());
        let (log, _) =
            Log::open(files, disk.dir.path(), header, None, Durability::Sync, &mut |_| Ok(())).expect("made");
        let mut journal = Journal::of(&log, 100).expect("room");
        let (first_seen, last_seen, payload) = (Timestamp(1), Timestamp(1), &b"\"forged\""[..]);
        let (recurrence, importance, weight, class, pinned, payload_bytes) = (1, 0.5, 1.0, 1, false, 0);
        let row = RowRecord {
            id,
            first_seen,
            last_seen,
            recurrence,
            importance,
            weight,
            class,
            pinned,
            payload_bytes,
            incident: "",
            payload,
        };
        journal.row(&row, &vector(1)).expect("taken");
        drop(journal);
        drop(log);
        match disk.open(&no_dedup(), Durability::Sync).map(|(store, _)| store) {
            Ok(store) => assert!(is_good && write(&store, 2).expect("written") == MemoryId(2), "{id}"),
            Err(Error::Corrupt { offset, .. }) => assert!(!is_good && offset == 44, "{id}"),
            Err(other) => panic!("{id}: {other}"),
        }
    }
}
