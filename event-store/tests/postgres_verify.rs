//! What a verification finds: each rule, broken by hand.

mod postgres;
mod support;

use ephemeral_postgres::Database;
use event_store::{
    Append, EventStore as _, ExpectedVersion, PgFault, PostgresStore, Snapshot, SnapshotStore as _, StreamVersion,
    Tags, Timestamp,
};
use support::{event, events, stream, tag};

/// Streams of three and two events, one of them removed, an event of none, tags, a snapshot.
async fn filled(database: &Database) -> PostgresStore {
    let store = postgres::store(database).await;
    let tags: Tags = [tag("x"), tag("y")].into_iter().collect();
    let append = Append::stream(stream("a"), ExpectedVersion::NoStream, events(0..3))
        .and_stream(stream("b"), ExpectedVersion::NoStream, [event(3).with_tags(tags), event(4)])
        .and_events([event(5)]);
    store.append(append).await.expect("nothing speaks against it");
    store.truncate_stream(&stream("a"), StreamVersion::new(1)).await.expect("it truncates");
    let (version, time) = (StreamVersion::new(1), Timestamp::from_micros(0));
    let (aggregate_type, state) = ("Counter".into(), "{}".into());
    let snapshot = Snapshot { stream: stream("b"), aggregate_type, version, schema_version: 1, state, time };
    store.save_snapshot(snapshot).await.expect("it saves");
    store
}

fn rules(faults: &[PgFault]) -> Vec<&'static str> {
    faults.iter().map(|fault| fault.rule).collect()
}

const HEAD: &str = "the head is one row";
const POSITIONS: &str = "positions are from 1 to the head";
const ACCOUNT: &str = "every position is of an event or of a removed one";
const VERSIONS: &str = "versions of a stream are dense";
const BOTH: &str = "an event has a stream and a version, or neither";
const ASCENDING: &str = "versions ascend with positions";
const IDS: &str = "ids are unique";
const TAGS: &str = "each tag of an event is in the index of tags";
const INDEX: &str = "each entry of the index of tags is of an event";
const SNAPSHOT: &str = "a snapshot is of a stream with events, and of a version that it has had";
const PROJECTIONS: &str = "projections have come no further than the head";
const READABLE: &str = "every event can be read";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_is_looked_at() {
    let server = postgres::server().await;
    for (damage, expected) in [
        ("SELECT", &[][..]),
        ("DELETE FROM es_head", &[HEAD]),
        ("UPDATE es_head SET position = 5", &[POSITIONS, ACCOUNT]),
        ("UPDATE es_head SET position = 7", &[ACCOUNT]),
        ("DELETE FROM es_events WHERE position = 6", &[ACCOUNT]),
        ("DELETE FROM es_events WHERE position = 3", &[ACCOUNT]),
        ("DELETE FROM es_events WHERE position = 2", &[ACCOUNT, VERSIONS]),
        ("DELETE FROM es_truncated WHERE stream = 'a'", &[ACCOUNT, VERSIONS]),
        ("UPDATE es_truncated SET first_version = 2 WHERE stream = 'a'", &[ACCOUNT, VERSIONS]),
        ("UPDATE es_events SET version = 7 WHERE position = 5", &[VERSIONS]),
        ("UPDATE es_events SET version = 0 WHERE position = 6", &[BOTH]),
        (
            "UPDATE es_events SET version = 9 WHERE position = 2; UPDATE es_events SET version = 1 WHERE position = 3;
                UPDATE es_events SET version = 2 WHERE position = 2",
            &[ASCENDING],
        ),
        (
            "DROP INDEX es_events_event_id; UPDATE es_events SET event_id = (SELECT event_id FROM es_events WHERE position = 2)
                WHERE position = 6",
            &[IDS],
        ),
        ("DELETE FROM es_tags WHERE tag = 'x'", &[TAGS]),
        ("INSERT INTO es_tags VALUES ('z', 4)", &[INDEX]),
        ("UPDATE es_tags SET position = 5 WHERE tag = 'y'", &[TAGS, INDEX]),
        ("UPDATE es_snapshots SET version = 2", &[SNAPSHOT]),
        ("INSERT INTO es_checkpoints VALUES ('p', 1, 7)", &[PROJECTIONS]),
        ("INSERT INTO es_parked VALUES ('p', 1, 8, 'Happened', 'why', 1)", &[PROJECTIONS]),
        ("UPDATE es_events SET type = '' WHERE position = 4", &[READABLE]),
        ("UPDATE es_events SET schema_version = 70000 WHERE position = 4", &[READABLE]),
    ] {
        let database = server.database().await.expect("a database");
        let store = filled(&database).await;
        let client = database.connect().await.expect("a client");
        client.batch_execute(damage).await.expect("it is damaged");
        let verified = store.verify().await.expect("it can be found out");
        assert_eq!(rules(&verified.faults), expected, "{damage}: {verified:#?}");
        for fault in &verified.faults {
            assert!(fault.count == 1 && fault.examples.len() == 1, "{damage}: {verified:#?}");
        }
        if expected.is_empty() {
            assert_eq!((verified.events, verified.bytes, verified.head.map(|head| head.get())), (5, 5, Some(6)));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_exceptions_are_counted_and_ten_are_shown() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let store = postgres::store(&database).await;
    store
        .append(Append::events((0..50).map(|n| event(n).with_tags([tag("x")].into_iter().collect()))))
        .await
        .expect("it appends");
    let client = database.connect().await.expect("a client");
    client.execute("DELETE FROM es_tags WHERE position > 3", &[]).await.expect("it deletes");
    let faults = store.verify().await.expect("it can be found out").faults;
    assert_eq!(rules(&faults), [TAGS]);
    assert_eq!((faults[0].count, faults[0].examples.len()), (47, 10));
    assert_eq!(faults[0].examples[0], "tag x of the event at position 4");
}
