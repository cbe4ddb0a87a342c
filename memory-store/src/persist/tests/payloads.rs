//! Code of the user's that is run by a store: payloads that change, that ask the store while they are written down, and when they go.

use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::thread;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::*;

type Hook = Cell<Option<Box<dyn FnOnce()>>>;

thread_local! {
    static ON_WRITING: Hook = const { Cell::new(None) };
    static ON_DROP: Hook = const { Cell::new(None) };
}

/// A payload that does something once, when the thread next writes one down or drops one.
#[derive(Debug, Deserialize)]
struct Busy(String);

impl Serialize for Busy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(hook) = ON_WRITING.take() {
            hook();
        }
        self.0.serialize(serializer)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // None at the end of the thread.
        if let Ok(Some(hook)) = ON_DROP.try_with(Cell::take) {
            hook();
        }
    }
}

type BusyStore = MemoryStore<Busy, ManualClock>;

fn busy_store(dir: &Path, durability: Durability) -> BusyStore {
    let capacity = Capacity { max_memories: 256, ..Capacity::default() };
    let config = Config::builder(4).dedup(None).capacity(capacity).build().expect("a configuration");
    BusyStore::open_with(dir, config, durability, ManualClock::default()).expect("a good directory").0
}

fn put(store: &BusyStore, number: u64, payload: String) -> MemoryId {
    let vector = vector(number);
    store.write(Memory::new(&vector, Busy(payload)).at(Timestamp(number as i64))).expect("written").id()
}

/// Fails where a thread waits for itself.
#[track_caller]
fn ends(work: impl FnOnce() + Send + 'static) {
    let (done, waiting) = mpsc::channel();
    let working = thread::spawn(move || {
        work();
        done.send(()).expect("somebody waits");
    });
    let in_time = waiting.recv_timeout(Duration::from_secs(30));
    if in_time == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("it waits for itself");
    }
    working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Which payloads go with a change depends on what is compacted by it. By then the change must hold nothing that another waits for.
#[test]
fn a_payload_may_write_when_it_goes() {
    for durability in [Durability::Buffered, Durability::Sync] {
        ends(move || {
            let dir = tempfile::tempdir().expect("a directory");
            let store = busy_store(dir.path(), durability);
            for number in 0..256 {
                put(&store, number, number.to_string());
            }
            // In the next segment, so that the first can be compacted.
            store.remove(MemoryId(256)).expect("removed");
            let last = put(&store, 256, "last".to_owned());
            let wrote = Arc::new(AtomicU64::new(0));
            let hook = {
                let (store, wrote) = (store.clone(), Arc::clone(&wrote));
                move || {
                    assert!(store.get(last).is_some() && store.stats().memories > 200);
                    // More than the buffer of the log holds.
                    wrote.store(put(&store, 300, "x".repeat(3 << 20)).0, Ordering::Relaxed);
                }
            };
            ON_DROP.set(Some(Box::new(hook)));
            for id in 1..40 {
                store.remove(MemoryId(id)).expect("removed");
            }
            let wrote = MemoryId(wrote.load(Ordering::Relaxed));
            assert_eq!(store.get(wrote).expect("it was written").payload.0.len(), 3 << 20);
            drop(store);
            assert!(busy_store(dir.path(), durability).get(wrote).is_some());
        });
    }
}

/// Tries at each payload that goes: those that were only read back go while the snapshot is written.
fn snapshot_on_drop(store: BusyStore, tell: Arc<AtomicBool>) {
    ON_DROP.set(Some(Box::new(move || match store.snapshot() {
        Ok(()) => tell.store(true, Ordering::Relaxed),
        Err(Error::WouldDeadlock) => snapshot_on_drop(store, tell),
        Err(other) => panic!("{other}"),
    })));
}

/// A snapshot may be the last to hold what was removed while it was written.
#[test]
fn a_payload_may_take_a_snapshot_when_it_goes() {
    ends(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let store = busy_store(dir.path(), Durability::Sync);
        for number in 0..256 {
            put(&store, number, number.to_string());
        }
        let taken = Arc::new(AtomicBool::new(false));
        let (in_drop, removing, tell) = (store.clone(), store.clone(), Arc::clone(&taken));
        ON_WRITING.set(Some(Box::new(move || {
            removing.remove(MemoryId(7)).expect("removed");
            removing.compact().expect("compacted");
            snapshot_on_drop(in_drop, tell);
        })));
        store.snapshot().expect("a snapshot");
        assert!(taken.load(Ordering::Relaxed), "the payload has gone with the snapshot");
    });
}

#[test]
fn a_payload_that_takes_a_snapshot_while_it_is_written_down_is_told() {
    ends(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let store = busy_store(dir.path(), Durability::Sync);
        let inner = store.clone();
        // By a write it may.
        ON_WRITING.set(Some(Box::new(move || inner.snapshot().expect("a snapshot"))));
        put(&store, 1, "one".to_owned());
        let (inner, told) = (store.clone(), Arc::new(AtomicBool::new(false)));
        let tell = Arc::clone(&told);
        ON_WRITING.set(Some(Box::new(move || {
            tell.store(matches!(inner.snapshot(), Err(Error::WouldDeadlock)), Ordering::Relaxed);
            put(&inner, 2, "two".to_owned());
        })));
        store.snapshot().expect("a snapshot");
        assert!(told.load(Ordering::Relaxed));
        // And so may whoever comes after.
        store.snapshot().expect("a snapshot");
        drop(store);
        assert_eq!(busy_store(dir.path(), Durability::Sync).len(), 2);
    });
}

/// A number that changes after it was written.
#[derive(Debug, Clone, Default)]
struct Changing(Arc<AtomicU64>);

impl Serialize for Changing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        f64::from_bits(self.0.load(Ordering::Relaxed)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Changing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(|number| Self(Arc::new(number.to_bits().into())))
    }
}

/// No snapshot holds what does not read back, though it was good when it was written.
#[test]
fn a_payload_that_has_become_unreadable_is_in_no_snapshot() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || {
        MemoryStore::<Changing, _>::open_with(dir.path(), no_dedup(), Durability::Sync, ManualClock::default())
            .expect("a good directory")
    };
    let (store, _) = open();
    let payload = Changing::default();
    store.write(Memory::new(&vector(1), payload.clone())).expect("written");
    payload.0.store(f64::NAN.to_bits(), Ordering::Relaxed);
    assert!(matches!(store.snapshot(), Err(Error::Payload { place: None, .. })));
    store.write(Memory::new(&vector(2), Changing::default())).expect("it goes on");
    drop(store);
    let (store, recovery) = open();
    assert_eq!((recovery.memories, recovery.from_snapshot), (2, 0));
    store.snapshot().expect("it is as it was written");
}
