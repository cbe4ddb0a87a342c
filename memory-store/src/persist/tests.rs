//! Stores on a disk that fails, loses its power, or is looked at between two snapshots.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::durable::sim::SimFiles;
use crate::memory::{Memory, MemoryId};

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
