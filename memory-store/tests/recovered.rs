//! What a reopen must not change, and what must not come to need one.

use memory_store::{
    Capacity, Config, DecayTable, Dedup, Durability, Error, ManualClock, Memory, MemoryStore, MergePolicy, Query,
    RetentionClass, Timestamp, Update,
};

/// What JSON writes and does not read back is refused as well: a store that held it could not be opened.
#[test]
fn a_payload_that_does_not_read_back_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::builder(2).build().unwrap();
    let (store, _) = MemoryStore::<f64>::open(dir.path(), config.clone()).unwrap();
    assert!(matches!(store.write(Memory::new(&[1.0, 0.0], f64::NAN)), Err(Error::Payload { place: None, .. })));
    let id = store.write(Memory::new(&[1.0, 0.0], 1.5)).unwrap().id();
    assert!(matches!(store.update(id, Update::new().payload(f64::INFINITY, 8)), Err(Error::Payload { .. })));
    drop(store);
    let (store, recovery) = MemoryStore::<f64>::open(dir.path(), config).unwrap();
    assert_eq!((recovery.memories, *store.get(id).unwrap().payload), (1, 1.5));
    // A list in a list, 200 times.
    let dir = tempfile::tempdir().unwrap();
    let config = Config::builder(2).build().unwrap();
    let (store, _) = MemoryStore::<serde_json::Value>::open(dir.path(), config.clone()).unwrap();
    let deep = (0..200).fold(serde_json::Value::Null, |inner, _| serde_json::Value::Array(vec![inner]));
    assert!(matches!(store.write(Memory::new(&[1.0, 0.0], deep)), Err(Error::Payload { .. })));
    drop(store);
    MemoryStore::<serde_json::Value>::open(dir.path(), config).unwrap();
}

/// A payload of another kind is named by its file and its memory, whether the log or a snapshot holds it.
#[test]
fn a_payload_of_another_kind_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::builder(2).build().unwrap();
    let (store, _) = MemoryStore::<String>::open(dir.path(), config.clone()).unwrap();
    let id = store.write(Memory::new(&[1.0, 0.0], "text".to_owned())).unwrap().id();
    drop(store);
    for ending in ["wal", "sections"] {
        if ending == "sections" {
            MemoryStore::<String>::open(dir.path(), config.clone()).unwrap().0.snapshot().unwrap();
        }
        let refused = MemoryStore::<u32>::open(dir.path(), config.clone()).map(|_| ()).unwrap_err();
        assert!(
            matches!(&refused, Error::Payload { place: Some((file, found)), .. }
                if *found == id.0 && file.extension().is_some_and(|e| e == ending)),
            "{refused}"
        );
    }
}

/// Capacities in bytes: what went for a larger payload is gone after a reopen, and nothing else is.
#[test]
fn what_was_evicted_for_a_larger_payload_stays_what_it_was() {
    let capacity = |max_bytes| Capacity { max_bytes: Some(max_bytes), ..Capacity::default() };
    let config = |max_bytes| Config::builder(2).dedup(None).capacity(capacity(max_bytes)).build().unwrap();
    let open = |dir: &tempfile::TempDir, max_bytes| {
        let clock = ManualClock::new(Timestamp::from_hours(1.0));
        MemoryStore::<String, _>::open_with(dir.path(), config(max_bytes), Durability::Buffered, clock).unwrap()
    };
    let memory = |hours: f64, bytes| {
        Memory::new(&[1.0, 0.5], String::new()).at(Timestamp::from_hours(hours)).payload_bytes(bytes)
    };
    let ids = |store: &MemoryStore<String, ManualClock>| {
        let mut ids: Vec<u64> = store.replay(..).unwrap().iter().map(|memory| memory.id.0).collect();
        ids.sort_unstable();
        ids
    };
    for snapshot in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(&dir, 10_000);
        let [_a, b, c] = [1.0, 2.0, 3.0].map(|hours| store.write(memory(hours, 2_000)).unwrap().id());
        // The first goes for it.
        store.update(c, Update::new().payload("larger".to_owned(), 6_000)).unwrap();
        // Told of late, so the next to go.
        let late = store.write(memory(0.5, 1_000)).unwrap().id();
        assert_eq!(ids(&store), [b.0, c.0, late.0]);
        if snapshot {
            store.snapshot().unwrap();
        }
        drop(store);
        let (store, recovery) = open(&dir, 10_000);
        assert_eq!((recovery.memories, ids(&store)), (3, vec![b.0, c.0, late.0]));
        let next = store.write(memory(4.0, 1_000)).unwrap().id();
        assert_eq!(ids(&store), [b.0, c.0, next.0], "the one told of late has gone");
        store.remove(b).unwrap();
        store.remove(c).unwrap();
        let last = store.write(memory(5.0, 9_000)).unwrap().id();
        assert_eq!(ids(&store), [last.0]);
        drop(store);
        // A smaller store takes what is there, and has room for its own from the next write on.
        let (store, recovery) = open(&dir, 4_000);
        assert_eq!(recovery.memories, 1);
        let small = store.write(memory(6.0, 100)).unwrap().id();
        assert_eq!(ids(&store), [small.0]);
    }
}

/// Ages count from the latest moment ever seen, also if what was seen then is gone.
#[test]
fn the_order_of_eviction_survives_a_reopen() {
    let decay = DecayTable::per_hour(0.1).rate(RetentionClass::Low, 0.5).rate(RetentionClass::High, 0.02);
    let capacity = Capacity { max_memories: 2, ..Capacity::default() };
    let config = Config::builder(2).dedup(None).decay(decay).capacity(capacity).build().unwrap();
    let memory =
        |hours: f64, class| Memory::new(&[1.0, 0.5], String::new()).at(Timestamp::from_hours(hours)).class(class);
    let gone = |reopen: bool| {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let clock = ManualClock::new(Timestamp::from_hours(1.0));
            MemoryStore::<String, _>::open_with(dir.path(), config.clone(), Durability::Buffered, clock).unwrap().0
        };
        let mut store = open();
        let newest = store.write(memory(200.0, RetentionClass::High)).unwrap().id();
        store.remove(newest).unwrap();
        let low = store.write(memory(99.0, RetentionClass::Low)).unwrap().id();
        let high = store.write(memory(10.0, RetentionClass::High)).unwrap().id();
        if reopen {
            store.snapshot().unwrap();
            drop(store);
            store = open();
        }
        store.write(memory(50.0, RetentionClass::High)).unwrap();
        (store.get(low).is_none(), store.get(high).is_none())
    };
    assert_eq!(gone(false), (true, false));
    assert_eq!(gone(true), (true, false));
}

/// The empty name of an incident is none, from the log as from a snapshot.
#[test]
fn an_incident_without_a_name_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::builder(2).build().unwrap();
    let (store, _) = MemoryStore::<String>::open(dir.path(), config.clone()).unwrap();
    let id = store.write(Memory::new(&[1.0, 0.0], String::new()).incident("")).unwrap().id();
    let is_none = |store: &MemoryStore<String>| {
        assert_eq!(store.get(id).unwrap().incident, None);
        assert!(store.incident("").is_none());
    };
    is_none(&store);
    drop(store);
    for _ in 0..2 {
        let (store, _) = MemoryStore::<String>::open(dir.path(), config.clone()).unwrap();
        is_none(&store);
        store.snapshot().unwrap();
    }
}

/// A merge brings a memory of no incident into that of the write, an update brings any into another: before and after it is reopened, from
/// the log as from a snapshot.
#[test]
fn an_incident_that_came_later_is_kept() {
    for merge in [MergePolicy::KeepFirst, MergePolicy::KeepLatest, MergePolicy::RunningMean] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::builder(2).dedup(Dedup { merge, ..Dedup::default() }).build().unwrap();
        let open = || MemoryStore::<String>::open(dir.path(), config.clone()).unwrap().0;
        let store = open();
        let write = |vector: [f32; 2], incident: &str| {
            store.write(Memory::new(&vector, String::new()).incident(incident)).unwrap()
        };
        let (merged, moved) = (write([1.0, 0.0], "").id(), write([0.0, 1.0], "calm").id());
        for incident in ["storm", "outage", ""] {
            assert!(write([1.0, 0.0], incident).is_merged());
        }
        assert!(store.update(moved, Update::new().incident("drift")).unwrap());
        assert!(store.update(moved, Update::new().incident("").importance(0.75)).unwrap());
        let check = |store: &MemoryStore<String>| {
            let of = |name: &str| store.incident(name).map(|incident| incident.timeline.iter().map(|m| m.id).collect());
            assert_eq!((of("storm"), of("outage")), (Some(vec![merged]), None), "{merge:?}");
            assert_eq!((of("drift"), of("calm")), (Some(vec![moved]), None));
            let found = store.retrieve(&Query::new(&[0.5, 0.5], 9).incident("storm")).unwrap().hits;
            assert_eq!(found.iter().map(|hit| (hit.id, hit.recurrence)).collect::<Vec<_>>(), [(merged, 4)]);
            assert_eq!(store.get(moved).unwrap().importance, 0.75);
        };
        check(&store);
        drop(store);
        for _ in 0..2 {
            let store = open();
            check(&store);
            store.snapshot().unwrap();
        }
    }
}

/// What is left of a store whose manifest and log are lost is not taken for an empty one.
#[test]
fn columns_without_a_manifest_and_a_log_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::builder(2).build().unwrap();
    let (store, _) = MemoryStore::<String>::open(dir.path(), config.clone()).unwrap();
    store.write(Memory::new(&[1.0, 0.0], "kept".to_owned())).unwrap();
    store.snapshot().unwrap();
    drop(store);
    let files = || std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    for file in files().iter().filter(|file| file.extension().is_none_or(|ending| ending != "sections")) {
        std::fs::remove_file(file).unwrap();
    }
    let before = files().len();
    let refused = MemoryStore::<String>::open(dir.path(), config).map(|_| ()).unwrap_err();
    assert!(matches!(&refused, Error::Corrupt { file, .. } if file.ends_with("MANIFEST")), "{refused}");
    assert!(files().len() >= before && before > 0, "nothing was removed");
}
