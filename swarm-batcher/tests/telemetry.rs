//! The batcher of requests against a real server. What the original gets wrong is in `defects_of_the_original.rs`.
#![cfg(feature = "http")]

#[path = "../benches/local_server/mod.rs"]
mod local_server;
#[path = "support/requests.rs"]
mod requests;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use local_server::{Answer, LocalServer};
use requests::{GRACE, NO_BREAKER, requests_to, started, until};
use serde::{Serialize, Serializer};
use swarm_batcher::telemetry::{
    AddError, DeliveryError, EncodeError, EncodedItem, EndpointError, HttpSinkBuilder, RequestBatcher,
    RequestBatcherBuilder, RequestStats, encode_item,
};
use swarm_batcher::{BatchError, BreakerPolicy, DeadLetter, FlushReport, OnFull, Reason};
use tokio::time::{sleep, timeout};

#[derive(Serialize)]
struct Reading {
    id: u64,
}

fn encoded(ids: std::ops::Range<u64>) -> Vec<EncodedItem> {
    ids.map(|id| encode_item(&Reading { id }).expect("encodes")).collect()
}

/// The items of dead letters, each of which has one.
fn items(letters: &[DeadLetter<EncodedItem, DeliveryError>]) -> Vec<EncodedItem> {
    letters.iter().map(|letter| letter.item.clone().expect("an item")).collect()
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
    assert_eq!((report.dead_letters, report.stats.dead_lettered, report.stats.unclaimed), (20, 20, 0));
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
async fn what_fails_after_a_stop_is_sent_no_more_and_kept() {
    let server = LocalServer::start();
    server.script((0..1000).map(|_| Answer::status(503)));
    let batcher = started(requests_to(&server.endpoint()).breaker(NO_BREAKER));
    add_all(&batcher, 0..20);
    until("some failures", || batcher.stats().items.reruns > 60).await;
    let report = batcher.stop(GRACE).await;
    assert!(report.drained);
    assert_eq!((report.stats.failed, report.stats.unclaimed, report.dead_letters), (20, 0, 20));
    let requests = server.seen().requests;
    sleep(Duration::from_millis(20)).await;
    assert_eq!(server.seen().requests, requests, "nothing is sent any more");
    batcher.start();
    assert_eq!(items(&batcher.take_dead_letters()), encoded(0..20));
}

#[tokio::test]
async fn what_is_not_sent_within_the_grace_of_a_stop_is_kept_and_so_is_what_fails_later() {
    let server = LocalServer::start();
    server.script([Answer::Hang]);
    let slow = |sink: HttpSinkBuilder| sink.timeout(Duration::from_millis(300));
    let batcher = started(requests_to(&server.endpoint()).batch_size(5).sink(slow));
    add_all(&batcher, 0..12);
    until("the POST is under way", || server.seen().requests == 1).await;
    let report = batcher.stop(Duration::from_millis(20)).await;
    assert!(!report.drained && report.stats.is_balanced());
    assert_eq!((report.stats.in_flight, report.stats.closed, report.dead_letters), (5, 7, 7));
    let closed = batcher.take_dead_letters();
    assert!(closed.iter().all(|letter| matches!(letter.error, BatchError::Closed { started: false })));
    assert_eq!(items(&closed), encoded(5..12));
    until("the POST has timed out", || batcher.stats().dead_letters == 5).await;
    assert_eq!(items(&batcher.take_dead_letters()), encoded(0..5));
}

/// Whoever waits for a stop or for a flush sees the dead letters of what it waited for, whichever thread they come from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_there_before_who_waits_for_their_posts() {
    let server = LocalServer::start();
    let batcher = requests_to(&server.endpoint()).build().expect("an endpoint");
    for round in 1..50 {
        server.script([Answer::status(400), Answer::status(503)]);
        batcher.start();
        add_all(&batcher, 0..5);
        batcher.flush().await;
        assert_eq!(batcher.stats().dead_letters, 5, "round {round}");
        add_all(&batcher, 5..10);
        assert_eq!(batcher.stop(GRACE).await.dead_letters, 10, "round {round}");
        assert_eq!(items(&batcher.take_dead_letters()), encoded(0..10));
    }
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
async fn what_is_refused_for_good_is_not_sent_again_and_kept() {
    let server = LocalServer::start();
    server.script([Answer::Refuse(422, None, "no such device".to_owned())]);
    let batcher = started(requests_to(&server.endpoint()));
    add_all(&batcher, 0..20);
    let report = batcher.flush().await;
    assert_eq!((report.items, report.failed), (20, 20));
    let stats = batcher.stats();
    assert_eq!((stats.items.dead_lettered, stats.items.unclaimed, server.seen().requests), (20, 0, 1));
    let size: usize = encoded(0..20).iter().map(|item| item.as_bytes().len()).sum();
    assert_eq!((stats.dead_letters, stats.dead_letter_bytes), (20, size as u64));

    let read = batcher.dead_letters();
    let taken = batcher.take_dead_letters();
    for letters in [read, taken] {
        assert_eq!(items(&letters), encoded(0..20));
        for letter in letters {
            let BatchError::Handler(error) = letter.error else { panic!("{letter:?}") };
            assert!(error.is_permanent() && error.to_string().contains("no such device"), "{error}");
        }
    }
    assert!(batcher.dead_letters().is_empty() && batcher.take_dead_letters().is_empty(), "taken");
    assert_eq!(batcher.stats().dead_letters, 0);
}

#[tokio::test]
async fn as_many_dead_letters_as_the_queue_may_hold_refuse_items_until_they_are_taken() {
    let size = encoded(0..1)[0].as_bytes().len() as u64;
    for (max_items, max_bytes) in [(10, u64::MAX), (1 << 16, 10 * size)] {
        let server = LocalServer::start();
        server.script([400, 400].map(Answer::status));
        let builder = requests_to(&server.endpoint()).max_queue_items(max_items).max_queue_bytes(max_bytes);
        let batcher = started(builder);
        add_all(&batcher, 0..9);
        batcher.flush().await;
        // There is room for one, so there is for as many as the queue holds: what was accepted is kept, whatever comes of it.
        add_all(&batcher, 9..19);
        batcher.flush().await;
        assert_eq!(batcher.stats().dead_letters, 19);

        let (refused, item) = (Reading { id: 19 }, encode_item(&19).expect("encodes"));
        for error in [
            batcher.try_add(&refused),
            batcher.add(&refused).await,
            batcher.try_add_encoded(&item),
            batcher.add_encoded(&item).await,
        ] {
            assert!(matches!(error, Err(AddError::TooManyDeadLetters)), "{error:?}");
        }
        assert_eq!(batcher.stats().items.rejected, 4);
        assert_eq!(items(&batcher.take_dead_letters()), encoded(0..19));
        add_all(&batcher, 19..20);
        batcher.flush().await;
        assert_eq!(server.seen().ids, [19]);
        batcher.stop(GRACE).await;
        assert!(matches!(batcher.try_add(&refused), Err(AddError::Stopped)));
    }
}

#[test]
fn what_a_runtime_takes_with_it_is_kept() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = LocalServer::start();
    server.script([Answer::Hang]);
    let batcher = runtime.block_on(async {
        let batcher = started(requests_to(&server.endpoint()).batch_size(5));
        add_all(&batcher, 0..7);
        until("the POST is under way", || server.seen().requests == 1).await;
        batcher
    });
    drop(runtime);
    let mut kept = items(&batcher.take_dead_letters());
    kept.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    assert_eq!(kept, encoded(0..7));
}

/// Who waited for room when the last dead letter came is let in: it would wait for ever for somebody to take them.
#[tokio::test]
async fn dead_letters_leave_nobody_waiting() {
    let server = LocalServer::start();
    server.script([Answer::AcceptAfter(Duration::from_millis(100)), Answer::status(400)]);
    let batcher = started(requests_to(&server.endpoint()).batch_size(5).max_queue_items(5));
    add_all(&batcher, 0..5);
    add_waiting(&batcher, 5..10).await;
    add_waiting(&batcher, 10..15).await;
    batcher.flush().await;
    assert_eq!(items(&batcher.take_dead_letters()), encoded(5..10));
    assert_eq!(server.seen().ids, (0..5).chain(10..15).collect::<Vec<_>>());
}

/// Adds items as fast as there is room for them, all at once.
async fn add_waiting(batcher: &RequestBatcher, ids: std::ops::Range<u64>) {
    let adds = ids.map(|id| batcher.add(&Reading { id }));
    timeout(GRACE, futures::future::try_join_all(adds)).await.expect("nobody hangs").expect("room");
}

/// Whatever a server answers, each item that was accepted has arrived, or is a dead letter.
#[tokio::test]
async fn nothing_that_was_accepted_is_lost() {
    const ITEMS: u64 = 2_000;
    let server = LocalServer::start();
    let answers = [400, 200, 503, 422, 429, 500, 200];
    server.script((0..500).map(|n| match answers[n % answers.len()] {
        200 => Answer::Accept,
        status => Answer::status(status),
    }));
    let batcher = started(requests_to(&server.endpoint()).breaker(NO_BREAKER).max_queue_items(50));
    let (mut letters, mut refusals) = (Vec::new(), 0);
    for id in 0..ITEMS {
        while let Err(error) = batcher.add(&Reading { id }).await {
            assert!(matches!(error, AddError::TooManyDeadLetters), "{error:?}");
            refusals += 1;
            letters.extend(items(&batcher.take_dead_letters()));
        }
    }
    let report = batcher.stop(GRACE).await;
    assert_eq!((report.drained, report.stats.accepted, report.stats.unclaimed), (true, ITEMS, 0));
    letters.extend(items(&batcher.take_dead_letters()));
    let arrived = server.seen().ids;
    assert!(
        refusals > 0 && letters.len() > 100 && arrived.len() > 100,
        "{refusals} {} {}",
        letters.len(),
        arrived.len()
    );
    letters.extend(arrived.into_iter().flat_map(|id| encoded(id..id + 1)));
    let sorted = |mut items: Vec<EncodedItem>| {
        items.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        items
    };
    assert!(sorted(letters) == sorted(encoded(0..ITEMS)));
}

#[tokio::test]
async fn a_dead_letter_is_sent_elsewhere_as_it_is() {
    struct Once(AtomicBool);
    impl Serialize for Once {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            assert!(!self.0.swap(true, Ordering::Relaxed), "encoded anew");
            Reading { id: 7 }.serialize(serializer)
        }
    }
    let (first, second) = (LocalServer::start(), LocalServer::start());
    let (from, to) = (started(requests_to(&first.endpoint())), started(requests_to(&second.endpoint())));
    first.script([Answer::status(400)]);
    from.try_add(&Once(AtomicBool::new(false))).expect("room");
    from.flush().await;
    second.script([Answer::status(400)]);
    for letter in from.take_dead_letters() {
        to.add_encoded(&letter.item.expect("an item")).await.expect("room");
    }
    to.flush().await;
    let letters = to.take_dead_letters();
    assert_eq!(items(&letters), encoded(7..8), "byte for byte");
    to.try_add_encoded(&items(&letters)[0]).expect("room");
    to.flush().await;
    assert_eq!((second.seen().ids, to.stats().delivered), (vec![7], 1));
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
    let stats = batcher.stats();
    assert_eq!((stats.items.shed, stats.items.unclaimed, stats.dead_letters), (3, 3, 0));
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
