//! Appends that wait for one another share a transaction, and each is judged as if it came alone.

mod postgres;
mod support;

use std::sync::Arc;
use std::time::Duration;

use event_store::tokio_postgres::Client;
use event_store::{
    Append, AppendCondition, AppendError, Appended, Clause, EventStore, ExpectedVersion, PgOptions, PostgresStore,
    Query, QueryItem, Read, StreamVersion,
};
use futures::StreamExt;
use futures::future::join_all;
use support::{event, exact, position, stream, tag};
use tokio::task::JoinHandle;

type Verdict = Result<Appended, AppendError>;

/// Appends that wait together while `client` holds the head: the first one alone in its call, the others in the next.
async fn in_one_group(store: &Arc<PostgresStore>, client: &mut Client, appends: Vec<Append>) -> Vec<Verdict> {
    let holding = client.transaction().await.expect("a transaction");
    holding.execute("SELECT FROM es_head FOR UPDATE", &[]).await.expect("the head");
    let mut waiting: Vec<JoinHandle<Verdict>> = Vec::new();
    for append in std::iter::once(Append::events([event(1_000_000)])).chain(appends) {
        let store = Arc::clone(store);
        waiting.push(tokio::spawn(async move { store.append(append).await }));
        // One after the other into the queue.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    holding.commit().await.expect("it commits");
    let mut verdicts = join_all(waiting).await.into_iter().map(|verdict| verdict.expect("no panic"));
    verdicts.next().expect("the first").expect("nothing speaks against it");
    verdicts.collect()
}

async fn transactions(client: &Client) -> i64 {
    client.query_one("SELECT count(DISTINCT xmin::text) FROM es_events", &[]).await.expect("a count").get(0)
}

async fn with_store<F: Future<Output = ()>>(test: impl FnOnce(Arc<PostgresStore>, Client) -> F) {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let store = Arc::new(postgres::store(&database).await);
    let client = database.connect().await.expect("a client");
    test(store, client).await;
    drop(database);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appends_share_transactions() {
    with_store(|store, client| async move {
        let appending = (0..64_u64).map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for number in 0..10 {
                    let append = Append::stream(
                        stream(&format!("s-{task}")),
                        ExpectedVersion::Any,
                        [event(task * 10 + number).with_tag(tag("t"))],
                    );
                    store.append(append).await.expect("nothing speaks against it");
                }
            })
        });
        join_all(appending).await.into_iter().for_each(|task| task.expect("no panic"));
        let transactions = transactions(&client).await;
        assert!(transactions <= 640 / 8, "{transactions} transactions for 640 appends");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_append_of_a_group_sees_those_before_it() {
    with_store(|store, mut client| async move {
        let guarded = |number: u64| {
            let item = QueryItem::tags([tag("seat:1")]).expect("one tag");
            let guard = AppendCondition::fail_if_exists(Query::item(item));
            Append::events([event(number).with_tag(tag("seat:1"))]).condition(guard)
        };
        let behind = |after: u64, number: u64| {
            let boundary = AppendCondition::fail_if_events_match(Query::All).after(position(after));
            Append::events([event(number)]).condition(boundary)
        };
        let verdicts = in_one_group(
            &store,
            &mut client,
            vec![
                Append::stream(stream("a"), ExpectedVersion::NoStream, [event(0)]), // at 2
                Append::stream(stream("a"), exact(0), [event(1), event(2)]),        // at 3 and 4
                Append::stream(stream("a"), exact(0), [event(3)]),
                Append::stream(stream("a"), exact(2), [event(4)]).and_events([event(5)]).and_stream(
                    stream("a"),
                    exact(3),
                    [event(6)],
                ), // at 5 to 7
                guarded(7), // at 8
                guarded(8),
                behind(7, 9),
                behind(8, 10),  // at 9
                behind(10, 11), // at 10
                Append::stream(stream("a"), exact(4), []),
                Append::stream(stream("b"), ExpectedVersion::Exists, [event(12)]),
            ],
        )
        .await;
        let wrote = |first, last| Some((position(first), position(last)));
        let version = |name: &str, version| (stream(name), StreamVersion::new(version));
        let wrong = |name: &str, expected, actual: Option<u64>| AppendError::WrongExpectedVersion {
            stream: stream(name),
            expected,
            actual: actual.map(StreamVersion::new),
        };
        let failed = |clause, at| AppendError::ConditionFailed { clause, position: position(at) };
        let expected = vec![
            Ok(Appended::new(wrote(2, 2), [version("a", 0)], false)),
            Ok(Appended::new(wrote(3, 4), [version("a", 2)], false)),
            Err(wrong("a", exact(0), Some(2))),
            Ok(Appended::new(wrote(5, 7), [version("a", 4), version("a", 4)], false)),
            Ok(Appended::new(wrote(8, 8), [], false)),
            Err(failed(Clause::Existence, 8)),
            Err(failed(Clause::Boundary, 8)),
            Ok(Appended::new(wrote(9, 9), [], false)),
            Ok(Appended::new(wrote(10, 10), [], false)),
            Ok(Appended::new(None, [version("a", 4)], false)),
            Err(wrong("b", ExpectedVersion::Exists, None)),
        ];
        assert_eq!(verdicts, expected);
        assert_eq!(transactions(&client).await, 2, "the first append, and the group");
        let head = store.head().await;
        assert_eq!(head, Ok(Some(position(10))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_with_an_id_of_its_group_is_judged_by_what_became_of_the_other() {
    with_store(|store, mut client| async move {
        let to_a = |number| Append::stream(stream("a"), ExpectedVersion::Any, [event(number)]);
        let refused = Append::stream(stream("a"), ExpectedVersion::NoStream, [event(2)]);
        let verdicts = in_one_group(
            &store,
            &mut client,
            vec![to_a(1), to_a(1), Append::stream(stream("b"), ExpectedVersion::Any, [event(1)]), refused, to_a(2)],
        )
        .await;
        let at = |number, version, deduplicated| {
            let versions = [(stream("a"), StreamVersion::new(version))];
            Ok(Appended::new(Some((position(number), position(number))), versions, deduplicated))
        };
        assert_eq!(verdicts[0], at(2, 0, false));
        assert_eq!(verdicts[1], at(2, 0, true));
        assert_eq!(verdicts[2], Err(AppendError::DuplicateEventId { id: event(1).id, position: position(2) }));
        assert!(matches!(verdicts[3], Err(AppendError::WrongExpectedVersion { .. })), "{:?}", verdicts[3]);
        assert_eq!(verdicts[4], at(3, 1, false), "a refused append has taken no id");
    })
    .await;
}

/// The server itself refuses one of a group: the transaction is lost for all, and each gets one of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_append_of_a_group_fails_alone() {
    with_store(|store, mut client| async move {
        let trigger = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF NEW.metadata = 'poison' THEN RAISE EXCEPTION 'not that'; END IF; RETURN NEW; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON es_events FOR EACH ROW EXECUTE FUNCTION refuse()";
        client.batch_execute(trigger).await.expect("a trigger");
        let mut appends: Vec<Append> = (0..10).map(|number| Append::events([event(number)])).collect();
        appends[4] = Append::events([event(4).with_metadata("poison")]);
        let verdicts = in_one_group(&store, &mut client, appends).await;
        for (number, verdict) in verdicts.iter().enumerate() {
            match verdict {
                Err(AppendError::Unavailable(why)) if number == 4 => assert!(why.contains("not that"), "{why}"),
                Ok(_) if number != 4 => {}
                other => panic!("append {number}: {other:?}"),
            }
        }
        let events: Vec<_> = store.read(Read::all()).collect().await;
        assert_eq!(events.len(), 10, "the first, and nine of the group");
    })
    .await;
}

/// The head's lock is taken before anything is looked at. One statement with the update in a CTE would look with the eyes of its beginning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_judged_by_what_was_committed_when_it_got_the_head() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let store = Arc::new(postgres::store(&database).await);
    let mut client = database.connect().await.expect("a client");
    let holding = client.transaction().await.expect("a transaction");
    let first = Append::stream(stream("a"), ExpectedVersion::NoStream, [event(0).with_tag(tag("t"))]);
    store.append_in_tx(&holding, first).await.expect("it is empty");

    let other = database.connect().await.expect("a client");
    let control = tokio::spawn(async move {
        let statement = "WITH head AS (UPDATE es_head SET position = position RETURNING position)
                SELECT head.position, (SELECT count(*) FROM es_events) FROM head";
        let row = other.query_one(statement, &[]).await.expect("an answer");
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    });
    let guard = AppendCondition::fail_if_exists(Query::item(QueryItem::tags([tag("t")]).expect("one tag")));
    let appends = [
        Append::stream(stream("a"), ExpectedVersion::NoStream, [event(1)]),
        Append::events([event(2)]).condition(guard),
        Append::stream(stream("a"), ExpectedVersion::NoStream, [event(0).with_tag(tag("t"))]),
        Append::stream(stream("a"), exact(0), [event(3)]),
    ];
    let waiting: Vec<_> = appends
        .into_iter()
        .map(|append| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.append(append).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    holding.commit().await.expect("it commits");
    let verdicts: Vec<Verdict> = join_all(waiting).await.into_iter().map(|v| v.expect("no panic")).collect();
    assert!(matches!(verdicts[0], Err(AppendError::WrongExpectedVersion { .. })), "{:?}", verdicts[0]);
    assert!(matches!(verdicts[1], Err(AppendError::ConditionFailed { .. })), "{:?}", verdicts[1]);
    assert!(matches!(&verdicts[2], Ok(appended) if appended.deduplicated), "{:?}", verdicts[2]);
    assert!(matches!(&verdicts[3], Ok(appended) if appended.positions.is_some()), "{:?}", verdicts[3]);
    let (head, seen) = control.await.expect("no panic");
    assert!(head >= 1, "the control waited for the lock and has the new head");
    assert_eq!(seen, 0, "and has not seen the event that made it: the test is about something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_tasks_that_append_to_one_version_one_wins_each() {
    let versions = postgres::count("VERSIONS", 10);
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    // Two stores, as of two processes.
    let stores = [postgres::store(&database).await, postgres::store_with(&database, PgOptions::new()).await];
    let stores = stores.map(Arc::new);
    let barrier = Arc::new(tokio::sync::Barrier::new(64));
    let tasks = (0..64_u64).map(|task| {
        let (store, barrier) = (Arc::clone(&stores[task as usize % 2]), Arc::clone(&barrier));
        tokio::spawn(async move {
            let mut won = Vec::new();
            for version in 0..versions {
                barrier.wait().await;
                let expected = version.checked_sub(1).map_or(ExpectedVersion::NoStream, exact);
                match store.append(Append::stream(stream("a"), expected, [event(version * 64 + task)])).await {
                    Ok(_) => won.push(version),
                    Err(AppendError::WrongExpectedVersion { actual, .. }) => {
                        assert_eq!(actual, Some(StreamVersion::new(version)));
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            won
        })
    });
    let mut won: Vec<u64> = join_all(tasks).await.into_iter().flat_map(|task| task.expect("no panic")).collect();
    won.sort_unstable();
    assert_eq!(won, (0..versions).collect::<Vec<_>>(), "one winner a version");
}
