//! Snapshots: the last one wins, and one that cannot be right is not used.

mod support;

use bytes::Bytes;
use event_store::{MemoryStore, Snapshot, SnapshotStore, StreamVersion, Timestamp};
use support::{store_with, stream};

fn snapshot(version: u64, state: &'static str) -> Snapshot {
    Snapshot {
        stream: stream("a"),
        aggregate_type: "Account".to_owned(),
        version: StreamVersion::new(version),
        schema_version: 2,
        state: Bytes::from_static(state.as_bytes()),
        time: Timestamp::from_micros(77),
    }
}

#[test]
fn the_last_snapshot_wins_and_keeps_its_time() {
    let store = store_with(10);
    store.save_snapshot_now(snapshot(3, "three"));
    store.save_snapshot_now(snapshot(2, "two"));
    assert_eq!(store.load_snapshot_now(&stream("a"), 2), Some(snapshot(2, "two")));
    assert_eq!(store.load_snapshot_now(&stream("b"), 2), None);
}

#[test]
fn a_snapshot_ahead_of_its_stream_or_of_another_schema_is_not_used() {
    let store = store_with(10);
    store.save_snapshot_now(snapshot(9, "last"));
    assert!(store.load_snapshot_now(&stream("a"), 2).is_some());
    assert_eq!(store.load_snapshot_now(&stream("a"), 3), None);
    store.save_snapshot_now(snapshot(10, "ahead"));
    assert_eq!(store.load_snapshot_now(&stream("a"), 2), None);
    let empty = MemoryStore::new();
    empty.save_snapshot_now(snapshot(0, "of nothing"));
    assert_eq!(empty.load_snapshot_now(&stream("a"), 2), None);
}

#[tokio::test]
async fn the_trait_does_the_same() {
    let store = store_with(10);
    store.save_snapshot(snapshot(4, "four")).await.expect("memory");
    assert_eq!(store.load_snapshot(&stream("a"), 2).await, Ok(Some(snapshot(4, "four"))));
}
