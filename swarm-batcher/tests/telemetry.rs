//! The batcher of requests against a real server. What the original gets wrong is in `defects_of_the_original.rs`.
#![cfg(feature = "http")]

#[path = "../benches/local_server/mod.rs"]
mod local_server;
#[path = "support/requests.rs"]
mod requests;

use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use local_server::{Answer, LocalServer};
use requests::{GRACE, NO_BREAKER, requests_to, started, until};
use serde::{Serialize, Serializer};
use swarm_batcher::telemetry::{
    AddError, DeliveryError, EncodeError, EndpointError, RequestBatcher, RequestBatcherBuilder, RequestStats,
};
use swarm_batcher::{BatchError, BreakerPolicy, FlushReport, OnFull, Reason};
use tokio::time::{sleep, timeout};

#[derive(Serialize)]
struct Reading {
    id: u64,
}

fn add_all(batcher: &RequestBatcher, ids: std::ops::Range<u64>) {
    for id in ids {
        batcher.try_add(&Reading { id }).expect("room");
    }
}

#[tokio::test]
async fn by_default_twenty_items_are_a_post_and_fewer_leave_in_time() {
    let server = LocalServer::start();
    let batcher = RequestBatcher::new(&server.endpoint()).expect("an endpoint");
    batcher.start();
    add_all(&batcher, 0..50);
    until("all of it", || server.seen().items == 50).await;
    let seen = server.seen();
    assert_eq!((seen.requests, seen.ids), (3, (0..50).collect()));
    let size = seen.headers.iter().find(|(name, _)| name == "x-batch-size").map(|(_, size)| size.as_str());
    assert_eq!(size, Some("10"));
}

#[tokio::test]
async fn requests_and_their_bytes_are_counted() {
    let server = LocalServer::start();
    let batcher = started(requests_to(&server.endpoint()));
    server.script([Answer::Accept, Answer::status(400)]);
    add_all(&batcher, 0..40);
    batcher.flush().await;
    let stats = batcher.stats();
    assert_eq!((stats.requests, stats.delivered), (2, 1));
    assert_eq!((stats.items.accepted, stats.items.succeeded, stats.items.failed), (40, 20, 20));
    // A map of a key and an array with a header of three bytes; `{"id": n}` with n below 128 is five bytes.
    assert_eq!(stats.encoded_bytes, 2 * (11 + 3 + 20 * 5));
    assert_eq!(stats.body_bytes, server.seen().body_bytes);
    assert!(stats.items.is_balanced());
}

#[tokio::test]
async fn nothing_is_taken_before_it_is_started() {
    let server = LocalServer::start();
    let batcher = requests_to(&server.endpoint()).build().expect("an endpoint");
    assert!(!batcher.is_started());
    assert!(matches!(batcher.add(&Reading { id: 0 }).await, Err(AddError::Stopped)));
    assert!(matches!(batcher.try_add(&Reading { id: 0 }), Err(AddError::Stopped)));
    assert_eq!(batcher.flush().await, FlushReport::default());
    assert!(batcher.stop(GRACE).await.drained);
    assert_eq!(batcher.stats(), RequestStats::default());
    batcher.start();
    assert!(batcher.is_started());
}

#[tokio::test]
async fn a_start_while_it_runs_changes_nothing() {
    let server = LocalServer::start();
    let batcher = started(requests_to(&server.endpoint()));
    add_all(&batcher, 0..3);
    batcher.start();
    assert_eq!(batcher.stats().items.accepted, 3);
    assert_eq!(batcher.flush().await.items, 3);
    assert_eq!(server.seen().ids, [0, 1, 2]);
}

#[tokio::test]
async fn a_stop_sends_what_is_there_and_adds_up() {
    let server = LocalServer::start();
    let batcher = started(requests_to(&server.endpoint()));
    server.script([Answer::Accept, Answer::status(404)]);
    add_all(&batcher, 0..50);
    let report = batcher.stop(GRACE).await;
    assert!(report.drained && report.stats.is_balanced());
    assert_eq!((report.stats.accepted, report.stats.succeeded, report.stats.failed), (50, 30, 20));
    assert_eq!(report.stats.unclaimed, 20);
    assert_eq!(batcher.stop(GRACE).await, report, "stopped is stopped");
    assert!(!batcher.is_started());
    assert_eq!(server.seen().ids, (0..20).chain(40..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn when_the_grace_of_a_stop_ends_what_is_left_goes_to_the_sink() {
    let server = LocalServer::start();
    server.script([Answer::Hang]);
    let closed = Arc::new(Mutex::new(Vec::new()));
    let letters = Arc::clone(&closed);
    let batcher = started(requests_to(&server.endpoint()).batch_size(5).dead_letter(move |letter| {
        letters.lock().expect("no panic").push((letter.item.is_some(), letter.error.to_string()));
    }));
    add_all(&batcher, 0..12);
    until("the POST is under way", || server.seen().requests == 1).await;
    let report = batcher.stop(Duration::from_millis(20)).await;
    assert!(!report.drained && report.stats.is_balanced());
    assert_eq!((report.stats.in_flight, report.stats.queued, report.stats.closed), (5, 0, 7));
    let expected = BatchError::<DeliveryError>::Closed { started: false }.to_string();
    assert_eq!(*closed.lock().expect("no panic"), vec![(true, expected); 7]);
}

#[tokio::test]
async fn what_fails_after_a_stop_is_given_up() {
    let server = LocalServer::start();
    server.script((0..1000).map(|_| Answer::status(503)));
    let batcher = started(requests_to(&server.endpoint()).breaker(NO_BREAKER));
    add_all(&batcher, 0..20);
    until("some failures", || batcher.stats().items.reruns > 60).await;
    let report = batcher.stop(GRACE).await;
    assert!(report.drained);
    assert_eq!((report.stats.failed, report.stats.unclaimed), (20, 20));
    let requests = server.seen().requests;
    sleep(Duration::from_millis(20)).await;
    assert_eq!(server.seen().requests, requests, "nothing is sent any more");
}

#[tokio::test]
async fn dropping_the_last_handle_sends_what_is_there() {
    let server = LocalServer::start();
    let batcher = started(requests_to(&server.endpoint()));
    let clone = batcher.clone();
    add_all(&batcher, 0..3);
    drop(batcher);
    add_all(&clone, 3..6);
    assert_eq!(server.seen().requests, 0);
    drop(clone);
    until("all of it", || server.seen().items == 6).await;
    assert_eq!(server.seen().ids, (0..6).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_item_that_cannot_be_encoded_is_refused_alone() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    let server = LocalServer::start();
    let batcher = started(requests_to(&server.endpoint()));
    for refused in [batcher.try_add(&Refuses), batcher.add(&Refuses).await] {
        let error = refused.expect_err("refused");
        assert!(matches!(error, AddError::Encode(EncodeError::Item(_))));
        assert_eq!(error.to_string(), "the item cannot be encoded: not today");
    }
    add_all(&batcher, 0..1);
    assert_eq!(batcher.flush().await.items, 1);
}

#[tokio::test]
async fn an_add_can_be_sent_to_another_thread_whatever_its_item_is() {
    let server = LocalServer::start();
    let batcher = started(requests_to(&server.endpoint()));
    let id = Cell::new(7);
    let add = {
        #[derive(Serialize)]
        struct Shared<'a> {
            id: &'a Cell<u64>,
        }
        let add = batcher.add(&Shared { id: &id });
        id.set(8);
        add
    };
    fn sendable<F: Future + Send>(future: F) -> F {
        future
    }
    sendable(add).await.expect("room");
    batcher.flush().await;
    assert_eq!(server.seen().ids, [7], "encoded when it was given");
}

#[tokio::test]
async fn a_refusal_for_good_is_counted_and_not_sent_again() {
    let server = LocalServer::start();
    server.script([Answer::status(422)]);
    let batcher = started(requests_to(&server.endpoint()));
    add_all(&batcher, 0..20);
    let report = batcher.flush().await;
    assert_eq!((report.items, report.failed), (20, 20));
    assert_eq!((batcher.stats().items.unclaimed, server.seen().requests), (20, 1));
}

#[tokio::test]
async fn a_dead_letter_says_what_its_post_died_of() {
    let server = LocalServer::start();
    server.script([Answer::Refuse(422, None, "no such device".to_owned())]);
    let told = Arc::new(Mutex::new(Vec::new()));
    let letters = Arc::clone(&told);
    let batcher = started(requests_to(&server.endpoint()).dead_letter(move |letter| {
        let BatchError::Handler(error) = letter.error else { return };
        letters.lock().expect("no panic").push((error.is_permanent(), error.to_string()));
    }));
    add_all(&batcher, 0..2);
    batcher.flush().await;
    let expected = r#"given up after 1 attempts: answered with status 422: "no such device""#;
    assert_eq!(*told.lock().expect("no panic"), vec![(true, expected.to_owned()); 2]);
}

#[tokio::test]
async fn kept_items_count_towards_the_bound_until_they_are_taken() {
    let server = LocalServer::start();
    server.script((0..5).map(|_| Answer::status(503)));
    let breaker = BreakerPolicy { failures: 5, reset: Duration::from_millis(300) };
    let batcher = started(requests_to(&server.endpoint()).batch_size(10).max_queue_items(10).breaker(breaker));
    add_all(&batcher, 0..10);
    until("the breaker is open", || server.seen().requests == 5).await;
    assert!(matches!(batcher.try_add(&Reading { id: 10 }), Err(AddError::Rejected(Reason::Full))));
    batcher.add(&Reading { id: 10 }).await.expect("room, in time");
    batcher.flush().await;
    assert_eq!(server.seen().ids, (0..11).collect::<Vec<_>>());
}

#[tokio::test]
async fn kept_items_are_not_sent_again_before_the_server_wants_them() {
    let server = LocalServer::start();
    server.script([Answer::status(503), Answer::retry_after(429, "1")]);
    let batcher = started(requests_to(&server.endpoint()).sink(|sink| sink.max_attempts(2)));
    add_all(&batcher, 0..20);
    until("both attempts", || server.seen().requests == 2).await;
    let begun = Instant::now();
    batcher.flush().await;
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
    assert_eq!((server.seen().requests, server.seen().ids), (3, (0..20).collect()));
}

#[tokio::test]
async fn a_stop_sends_nothing_before_the_server_wants_it() {
    let server = LocalServer::start();
    server.script([Answer::retry_after(503, "1")]);
    let batcher = started(requests_to(&server.endpoint()));
    add_all(&batcher, 0..20);
    until("an answer", || batcher.stats().items.reruns == 20).await;
    let begun = Instant::now();
    let report = batcher.stop(GRACE).await;
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
    assert_eq!((report.drained, report.stats.succeeded, server.seen().requests), (true, 20, 2));
}

/// Ten POSTs of one item each are to be sent, and two failures in a row open the breaker: `expected` are sent.
async fn posts_are_sent(answers: impl IntoIterator<Item = Answer>, expected: u64) {
    let server = LocalServer::start();
    server.script(answers);
    let breaker = BreakerPolicy { failures: 2, reset: Duration::from_secs(3600) };
    let builder = requests_to(&server.endpoint()).batch_size(1).breaker(breaker).dead_letter(drop);
    let batcher = started(builder);
    add_all(&batcher, 0..10);
    let ended = || batcher.stats().items.failed + batcher.stats().items.succeeded;
    until("the POSTs", || ended() == expected).await;
    sleep(Duration::from_millis(20)).await;
    assert_eq!((ended(), server.seen().requests), (expected, expected));
}

#[tokio::test]
async fn the_breaker_opens_when_the_server_is_away_or_busy_not_when_it_refuses_items() {
    for answer in [Answer::status(500), Answer::status(429), Answer::status(408), Answer::Close] {
        posts_are_sent([answer.clone(), answer], 2).await;
    }
    for status in [400, 413, 422, 307] {
        posts_are_sent(vec![Answer::status(status); 9], 10).await;
    }
    // A refusal is an answer: the row begins anew.
    posts_are_sent([503, 422, 503, 503].map(Answer::status), 4).await;
}

#[tokio::test]
async fn the_oldest_make_room_if_so_said() {
    let server = LocalServer::start();
    let batcher = started(requests_to(&server.endpoint()).max_queue_items(5).on_full(OnFull::ShedOldest));
    add_all(&batcher, 0..8);
    batcher.flush().await;
    assert_eq!(server.seen().ids, [3, 4, 5, 6, 7]);
    assert_eq!((batcher.stats().items.shed, batcher.stats().items.unclaimed), (3, 3));
}

#[tokio::test]
async fn as_many_posts_are_under_way_as_was_said() {
    let server = LocalServer::start();
    server.script([Answer::Hang, Answer::Hang]);
    let batcher = started(requests_to(&server.endpoint()).batch_size(1).max_in_flight(3));
    add_all(&batcher, 0..5);
    until("the others pass those that hang", || server.seen().items == 3).await;
    assert_eq!(server.seen().requests, 5);
    assert_eq!(batcher.stats().items.in_flight, 2);
}

#[tokio::test]
async fn a_flush_waits_while_the_server_is_away() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}/telemetry", listener.local_addr().expect("an address"));
    drop(listener);
    let waits = Duration::from_millis(1);
    let builder = requests_to(&endpoint).breaker(NO_BREAKER).sink(|sink| sink.backoff(waits, waits));
    let batcher = started(builder);
    add_all(&batcher, 0..1);
    assert!(timeout(Duration::from_millis(200), batcher.flush()).await.is_err());
    let stats = batcher.stats().items;
    assert!(stats.reruns > 10 && stats.queued + stats.in_flight == 1, "{stats:?}");
}

#[test]
fn without_a_runtime_an_add_is_refused() {
    let batcher = started(RequestBatcher::builder("http://127.0.0.1:9/telemetry"));
    assert!(matches!(batcher.try_add(&Reading { id: 0 }), Err(AddError::Rejected(Reason::NoRuntime))));
}

#[test]
fn what_is_out_of_range_is_an_error_of_the_builder() {
    let build = |set: fn(RequestBatcherBuilder) -> RequestBatcherBuilder| match set(RequestBatcher::builder(
        "http://127.0.0.1:9/telemetry",
    ))
    .build()
    {
        Err(EndpointError::Setting(problem)) => problem,
        other => panic!("{other:?}"),
    };
    assert_eq!(build(|builder| builder.batch_size(0)), "batch_size: from 1 to 2^24");
    assert_eq!(build(|builder| builder.max_wait(Duration::ZERO)), "max_wait: from 1 us to 1 h");
    assert_eq!(build(|builder| builder.max_queue_items(0)), "max_queue_items: from 1 to 2^30");
    assert_eq!(build(|builder| builder.max_queue_bytes(0)), "max_queue_bytes: at least 1");
    assert_eq!(build(|builder| builder.max_in_flight(0)), "max_in_flight: from 1 to 4096");
    assert_eq!(build(|builder| builder.sink(|sink| sink.max_attempts(0))), "max_attempts: from 1 to 100");
    let no_failures =
        |builder: RequestBatcherBuilder| builder.breaker(BreakerPolicy { failures: 0, ..Default::default() });
    assert_eq!(build(no_failures), "breaker: at least one failure, a reset from 1 us to 1 h");
    assert!(matches!(RequestBatcher::new("ftp://127.0.0.1/"), Err(EndpointError::UnsupportedScheme { .. })));
}

#[tokio::test]
async fn secrets_are_not_shown() {
    let builder =
        RequestBatcher::builder("http://127.0.0.1:9/telemetry").sink(|sink| sink.header("authorization", "hush"));
    let shown = format!("{builder:?}");
    let batcher = started(builder);
    assert!(!(shown + &format!("{batcher:?}")).contains("hush"));
}
