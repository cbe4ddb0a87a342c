//! Snapshots: the last one, and only where it is usable.

use std::sync::Arc;

use super::{Outcome, append, events, holds, list_cases, same, stream};
use crate::append::{Append, ExpectedVersion};
use crate::event::{StreamVersion, Timestamp};
use crate::snapshot::{Snapshot, SnapshotStore};
use crate::store::EventStore;

list_cases![
    a_snapshot_comes_back_as_it_was_saved,
    the_last_snapshot_of_a_stream_wins,
    a_snapshot_ahead_of_its_stream_is_not_loaded,
    a_snapshot_of_another_schema_is_not_loaded,
    a_snapshot_survives_the_events_that_it_includes,
    a_snapshot_goes_with_its_stream,
];

fn snapshot(name: &str, version: u64) -> Snapshot {
    Snapshot {
        stream: stream(name),
        aggregate_type: "Order".to_owned(),
        version: StreamVersion::new(version),
        schema_version: 2,
        state: vec![0, version as u8, 0xff].into(),
        time: Timestamp::from_micros(12_345),
    }
}

async fn with_three_events<S: EventStore>(store: &S) -> Outcome {
    append(store, Append::stream(stream("a"), ExpectedVersion::Any, events(0..3))).await.map(drop)
}

async fn a_snapshot_comes_back_as_it_was_saved<S: EventStore + SnapshotStore>(store: Arc<S>) -> Outcome {
    with_three_events(&*store).await?;
    same("none yet", store.load_snapshot(&stream("a"), 2).await, Ok(None))?;
    same("saved", store.save_snapshot(snapshot("a", 1)).await, Ok(()))?;
    same("loaded", store.load_snapshot(&stream("a"), 2).await, Ok(Some(snapshot("a", 1))))?;
    same("of another stream", store.load_snapshot(&stream("b"), 2).await, Ok(None))
}

async fn the_last_snapshot_of_a_stream_wins<S: EventStore + SnapshotStore>(store: Arc<S>) -> Outcome {
    with_three_events(&*store).await?;
    for version in [0, 2, 1] {
        same("saved", store.save_snapshot(snapshot("a", version)).await, Ok(()))?;
    }
    same("loaded", store.load_snapshot(&stream("a"), 2).await, Ok(Some(snapshot("a", 1))))
}

async fn a_snapshot_ahead_of_its_stream_is_not_loaded<S: EventStore + SnapshotStore>(store: Arc<S>) -> Outcome {
    with_three_events(&*store).await?;
    same("saved", store.save_snapshot(snapshot("a", 3)).await, Ok(()))?;
    same("ahead", store.load_snapshot(&stream("a"), 2).await, Ok(None))?;
    same("saved", store.save_snapshot(snapshot("b", 0)).await, Ok(()))?;
    same("of no stream", store.load_snapshot(&stream("b"), 2).await, Ok(None))
}

async fn a_snapshot_of_another_schema_is_not_loaded<S: EventStore + SnapshotStore>(store: Arc<S>) -> Outcome {
    with_three_events(&*store).await?;
    same("saved", store.save_snapshot(snapshot("a", 1)).await, Ok(()))?;
    for other in [0, 1, 3, u16::MAX] {
        same("loaded", store.load_snapshot(&stream("a"), other).await, Ok(None))?;
    }
    Ok(())
}

async fn a_snapshot_survives_the_events_that_it_includes<S: EventStore + SnapshotStore>(store: Arc<S>) -> Outcome {
    append(&*store, Append::stream(stream("a"), ExpectedVersion::Any, events(0..9))).await?;
    same("saved", store.save_snapshot(snapshot("a", 4)).await, Ok(()))?;
    for (before, usable) in [(3, true), (5, true), (6, false)] {
        let removed = store.truncate_stream(&stream("a"), StreamVersion::new(before)).await;
        holds("events are removed", matches!(removed, Ok(count) if count > 0))?;
        let expected = usable.then(|| snapshot("a", 4));
        same("loaded where its tail is whole", store.load_snapshot(&stream("a"), 2).await, Ok(expected))?;
    }
    same("a later one", store.save_snapshot(snapshot("a", 7)).await, Ok(()))?;
    same("loaded", store.load_snapshot(&stream("a"), 2).await, Ok(Some(snapshot("a", 7))))
}

async fn a_snapshot_goes_with_its_stream<S: EventStore + SnapshotStore>(store: Arc<S>) -> Outcome {
    for (first, deletes) in [(0, true), (100, false)] {
        let some = events(first..first + 3);
        append(&*store, Append::stream(stream("a"), ExpectedVersion::NoStream, some)).await?;
        let version = store.stream_version(&stream("a")).await.map_err(|error| error.to_string())?;
        let version = version.ok_or("no version")?.get();
        same("saved", store.save_snapshot(snapshot("a", version)).await, Ok(()))?;
        let removed = match deletes {
            true => store.delete_stream(&stream("a")).await,
            false => store.truncate_stream(&stream("a"), StreamVersion::new(u64::MAX)).await,
        };
        same("removed", removed, Ok(3))?;
        same("of a stream without events", store.load_snapshot(&stream("a"), 2).await, Ok(None))?;
        let next = events(first + 10..first + 11);
        append(&*store, Append::stream(stream("a"), ExpectedVersion::NoStream, next)).await?;
        same("of one that went on", store.load_snapshot(&stream("a"), 2).await, Ok(None))?;
        same("removed again", store.delete_stream(&stream("a")).await, Ok(1))?;
    }
    Ok(())
}
