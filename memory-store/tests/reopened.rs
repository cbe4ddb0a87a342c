//! What is on disk is there again: whatever was done, however often it is opened, with snapshots and without.

use std::path::Path;
use std::time::Duration;

use memory_store::{
    Capacity, Config, Dedup, Durability, Error, ManualClock, Memory, MemoryId, MemoryStore, MergePolicy, Normalizer,
    Prune, Query, Recency, Recovery, RetentionClass, Timestamp, Update,
};
use proptest::prelude::*;

type Store = MemoryStore<String, ManualClock>;

fn open(dir: &Path, config: &Config, clock: &ManualClock) -> (Store, Recovery) {
    MemoryStore::open_with(dir, config.clone(), Durability::Buffered, clock.clone()).expect("a good directory")
}

/// Everything that can be asked of a store.
fn contents(store: &Store) -> Vec<String> {
    let all = store.replay(..).expect("a range");
    let mut text: Vec<String> = all
        .iter()
        .map(|memory| {
            format!("{memory:?} {:?} {:?}", store.vector(memory.id), store.get(memory.id).map(|m| m.recurrence))
        })
        .collect();
    for name in ["storm", "outage"] {
        text.push(format!("{:?}", store.incident(name).map(|i| i.timeline.iter().map(|m| m.id).collect::<Vec<_>>())));
    }
    let query = [0.3; DIMENSIONS];
    let hits = store.retrieve(&Query::new(&query, 20)).expect("an answer").hits;
    text.push(format!("{:?}", hits.iter().map(|hit| (hit.id, hit.score)).collect::<Vec<_>>()));
    let stats = store.stats();
    text.push(format!("{:?}", (stats.memories, stats.bytes, stats.protected, stats.recurrences)));
    text
}

const DIMENSIONS: usize = 10;

fn configuration(rng: &mut fastrand::Rng) -> Config {
    let dedup = Dedup {
        threshold: 0.9,
        merge: [MergePolicy::KeepFirst, MergePolicy::KeepLatest, MergePolicy::RunningMean][rng.usize(..3)],
        ..Dedup::default()
    };
    Config::builder(DIMENSIONS)
        .dedup(dedup)
        .recency([Recency::FirstSeen, Recency::LastSeen, Recency::LastAccessed][rng.usize(..3)])
        .capacity(Capacity { max_memories: [50, 100_000][rng.usize(..2)], ..Capacity::default() })
        .build()
        .expect("a configuration")
}

fn some_operation(store: &Store, clock: &ManualClock, rng: &mut fastrand::Rng) {
    clock.advance(Duration::from_secs(60));
    let id = MemoryId(rng.u64(1..=200));
    let vector: Vec<f32> =
        (0..DIMENSIONS).map(|_| if rng.usize(..3) == 0 { 1.0 } else { rng.f32() * 0.2 - 0.1 }).collect();
    match rng.usize(..16) {
        0..9 => {
            let mut memory = Memory::new(&vector, format!("\"{}\"", rng.u32(..)))
                .class(RetentionClass::ALL[[0, 1, 2, 1, 2, 0, 1, 3][rng.usize(..8)]])
                .importance(rng.f32())
                .payload_bytes(rng.u32(..100));
            if rng.bool() {
                memory = memory.incident(["storm", "outage"][rng.usize(..2)]);
            }
            match store.write(memory) {
                Ok(_) | Err(Error::CapacityExhausted { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        9 => drop(store.update(id, Update::new().payload("new".to_owned(), 3).importance(rng.f32())).expect("updated")),
        10 => {
            let update = if rng.bool() { Update::new().vector(&vector) } else { Update::new() };
            store.update(id, update.incident(["storm", "drift", ""][rng.usize(..3)])).expect("updated");
        }
        11 => drop(store.remove(id).expect("removed")),
        12 => drop(if rng.bool() { store.pin(id) } else { store.unpin(id) }.expect("pinned")),
        13 => drop(store.boost(id, 1.5).and_then(|_| store.suppress(id, 0.9)).expect("weighed")),
        14 if rng.usize(..6) == 0 => {
            store.prune(Prune::new().older_than(Duration::from_secs(rng.u64(..9000)))).expect("pruned");
        }
        15 if rng.usize(..6) == 0 => store.compact().expect("compacted"),
        _ => drop(store.retrieve(&Query::new(&vector, 4).touch()).expect("an answer")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// After random operations, snapshots and openings a store is what it was before it was closed.
    #[test]
    fn a_store_opens_as_it_was_closed(seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().expect("a directory");
        let (config, clock) = (configuration(&mut rng), ManualClock::default());
        let mut before = None;
        for _ in 0..rng.usize(2..6) {
            let (store, recovery) = open(dir.path(), &config, &clock);
            let now = contents(&store);
            prop_assert_eq!(recovery.memories, store.len());
            if let Some(before) = before {
                prop_assert_eq!(&now, &before);
            }
            for _ in 0..rng.usize(..400) {
                some_operation(&store, &clock, &mut rng);
                if rng.usize(..150) == 0 {
                    store.snapshot().expect("a snapshot");
                }
            }
            before = Some(contents(&store));
        }
    }
}

#[test]
fn a_second_store_is_locked_out_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::builder(2).build().unwrap();
    let (first, _) = MemoryStore::<String>::open(dir.path(), config.clone()).unwrap();
    let clone = first.clone();
    drop(first);
    assert!(matches!(MemoryStore::<String>::open(dir.path(), config.clone()), Err(Error::Locked { .. })));
    drop(clone);
    assert!(MemoryStore::<String>::open(dir.path(), config).is_ok());
}

#[test]
fn a_store_of_another_kind_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let config = |dimensions| Config::builder(dimensions).build().unwrap();
    let (store, _) = MemoryStore::<String>::open(dir.path(), config(2)).unwrap();
    store.write(Memory::new(&[1.0, 0.0], "x".to_owned())).unwrap();
    drop(store);
    let refused = |config| MemoryStore::<String>::open(dir.path(), config).map(|_| ()).unwrap_err();
    assert!(matches!(refused(config(3)), Error::Incompatible { .. }));
    let normalized = Config::builder(2).normalizer(Normalizer::new(&[0.0; 2], &[2.0; 2]).unwrap()).build().unwrap();
    assert!(matches!(refused(normalized.clone()), Error::Incompatible { .. }));
    // A payload that is something else.
    assert!(matches!(MemoryStore::<u32>::open(dir.path(), config(2)).map(|_| ()), Err(Error::Payload { .. })));
    // With a snapshot as without.
    let (store, recovery) = MemoryStore::<String>::open(dir.path(), config(2)).unwrap();
    assert_eq!((recovery.memories, recovery.from_snapshot, recovery.replayed), (1, 0, 1));
    store.snapshot().unwrap();
    drop(store);
    assert!(matches!(refused(config(3)), Error::Incompatible { .. }));
    assert!(matches!(refused(normalized), Error::Incompatible { .. }));
    assert!(matches!(MemoryStore::<u32>::open(dir.path(), config(2)).map(|_| ()), Err(Error::Payload { .. })));
    let (_, recovery) = MemoryStore::<String>::open(dir.path(), config(2)).unwrap();
    assert_eq!((recovery.memories, recovery.from_snapshot, recovery.replayed, recovery.torn), (1, 1, 0, None));
}

/// A payload that cannot be written down is refused before anything has changed.
#[test]
fn a_payload_that_is_no_json_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::builder(2).build().unwrap();
    type Keyed = std::collections::BTreeMap<Vec<u8>, u8>;
    let (store, _) = MemoryStore::<Keyed>::open(dir.path(), config.clone()).unwrap();
    let bad = Keyed::from([(vec![1], 1)]);
    assert!(matches!(store.write(Memory::new(&[1.0, 0.0], bad)), Err(Error::Payload { .. })));
    assert!(store.is_empty());
    store.write(Memory::new(&[1.0, 0.0], Keyed::new())).unwrap();
    drop(store);
    assert_eq!(MemoryStore::<Keyed>::open(dir.path(), config).unwrap().1.memories, 1);
}

/// The original's defect 14: what it loads may be a program. Here it is data with checksums, in the directory of the store alone: a pickle in
/// the place of any file is damage, whatever it would do, and a snapshot takes the old one's place as a whole or not at all (see
/// `crash.rs`).
#[test]
fn d14_what_is_loaded_is_data_and_no_program() {
    let pickle = b"cposix\nsystem\n(S'touch executed'\ntR.".repeat(20);
    let dir = tempfile::tempdir().unwrap();
    let config = Config::builder(2).build().unwrap();
    let open = || MemoryStore::<String>::open(dir.path(), config.clone());
    let (store, _) = open().unwrap();
    store.write(Memory::new(&[1.0, 0.0], "x".to_owned())).unwrap();
    store.snapshot().unwrap();
    drop(store);
    for entry in std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
        let whole = std::fs::read(&entry).unwrap();
        if whole.is_empty() {
            continue;
        }
        std::fs::write(&entry, &pickle).unwrap();
        assert!(matches!(open().map(|_| ()), Err(Error::Corrupt { file, .. }) if file == entry), "{entry:?}");
        assert_eq!(std::fs::read(&entry).unwrap(), pickle);
        std::fs::write(&entry, &whole).unwrap();
    }
    // A file beside the directory whose name begins like it is none of the store's.
    let beside = dir.path().with_extension("sections");
    std::fs::write(&beside, b"another's").unwrap();
    let (store, recovery) = open().unwrap();
    store.snapshot().unwrap();
    assert_eq!((recovery.memories, std::fs::read(&beside).unwrap()), (1, b"another's".to_vec()));
    std::fs::remove_file(&beside).unwrap();
}

/// The original's defect 15: damage is an error that leaves the files, and a log that is read again makes no second memory.
#[test]
fn d15_damage_is_an_error_and_the_files_stay() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::builder(2).build().unwrap();
    let open = || MemoryStore::<String>::open(dir.path(), config.clone());
    let (store, _) = open().unwrap();
    for _ in 0..3 {
        store.write(Memory::new(&[1.0, 0.0], "same".to_owned()).at(Timestamp(5))).unwrap();
    }
    drop(store);
    for _ in 0..3 {
        let (store, recovery) = open().unwrap();
        assert_eq!((recovery.memories, recovery.replayed), (1, 3));
        assert_eq!(store.get(MemoryId(1)).unwrap().recurrence, 3);
    }
    open().unwrap().0.snapshot().unwrap();
    let files = || {
        let mut files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect::<Vec<_>>()
    };
    let damaged = files().into_iter().find(|(path, _)| path.to_string_lossy().contains("segment-")).unwrap();
    let mut bytes = damaged.1.clone();
    bytes[100] ^= 1;
    std::fs::write(&damaged.0, &bytes).unwrap();
    let before = files();
    match open() {
        Err(Error::Corrupt { file, .. }) => assert_eq!(file, damaged.0),
        other => panic!("{:?}", other.map(|_| ())),
    }
    assert_eq!(files(), before);
    std::fs::write(&damaged.0, &damaged.1).unwrap();
    assert_eq!(open().unwrap().1.memories, 1);
}

/// Each life leaves a few rows in a segment of their own; many lives do not leave as many segments.
#[test]
fn many_short_lives_do_not_leave_as_many_files() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::default();
    let config = Config::builder(2).dedup(None).build().unwrap();
    for life in 0..60usize {
        let (store, recovery) = open(dir.path(), &config, &clock);
        assert_eq!((recovery.memories, recovery.from_snapshot), (3 * life, 3 * life));
        for i in 0..3 {
            store.write(Memory::new(&[1.0, i as f32], format!("{life} {i}"))).unwrap();
        }
        store.snapshot().unwrap();
        let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let segments = files.filter(|name| name.to_string_lossy().starts_with("segment-")).count();
        assert!(segments <= 36, "{segments} segments in life {life}");
    }
    let (store, _) = open(dir.path(), &config, &clock);
    let payloads: Vec<String> = store.replay(..).unwrap().iter().map(|memory| memory.payload.to_string()).collect();
    let expected: Vec<String> = (0..60).flat_map(|life| (0..3).map(move |i| format!("{life} {i}"))).collect();
    assert_eq!(payloads, expected);
}
