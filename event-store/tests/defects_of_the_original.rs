//! What the store that this one replaces does wrong, each as a test that this one does not. Numbers are those of the list in the
//! README; 8 and 10 are about migrations and other back ends.

#[path = "support/account.rs"]
mod account;
#[path = "support/shaky.rs"]
#[allow(dead_code, reason = "each test file uses a part")]
mod shaky;
mod support;

use std::sync::Arc;

use account::{Account, Command};
use event_store::{
    Append, AppendError, EventStore, ExpectedVersion, MemoryReadModel, MemoryStore, NewEvent, ProjectionId,
    ProjectionRunner, Read, Repository, StreamVersion, Upcasters, UpcastersError, Upcasting,
};
use futures::StreamExt as _;
use futures::executor::block_on;
use support::{all, event, events, exact, head, kind, payloads, store_with, stream};

#[test]
fn defect_1_an_empty_stream_has_no_version_and_the_first_is_0() {
    let store = MemoryStore::new();
    assert_eq!(store.stream_version_now(&stream("a")), None);
    let appended = store.append_now(Append::stream(stream("a"), ExpectedVersion::NoStream, [event(0)])).expect("new");
    assert_eq!(appended.versions(), [(stream("a"), StreamVersion::FIRST)]);
    assert_eq!(StreamVersion::FIRST.get(), 0);
}

#[test]
fn defect_2_from_is_inclusive_and_cannot_be_negative() {
    let store = store_with(5);
    let from = |version| payloads(&store.read_now(&Read::stream_from(stream("a"), StreamVersion::new(version))));
    assert_eq!(from(3), ["3", "4"]);
    assert_eq!(from(0).len(), 5);
    assert!(from(5).is_empty());
}

#[test]
fn defect_3_an_unknown_stream_reads_as_empty() {
    let store = store_with(5);
    assert!(store.read_now(&Read::stream(stream("unknown"))).is_empty());
    assert_eq!(store.stream_version_now(&stream("unknown")), None);
}

#[test]
fn defect_4_saving_nothing_checks_the_expected_version() {
    let store = store_with(5);
    assert!(store.append_now(Append::stream(stream("a"), exact(4), [])).is_ok());
    assert!(store.append_now(Append::stream(stream("a"), exact(3), [])).is_err());
    assert_eq!(head(&store), 5);
}

#[test]
fn defect_5_a_failed_check_on_an_unknown_stream_leaves_no_key() {
    let store = MemoryStore::new();
    assert!(store.append_now(Append::stream(stream("a"), exact(3), [event(0)])).is_err());
    assert!(store.append_now(Append::stream(stream("a"), ExpectedVersion::Exists, [event(0)])).is_err());
    assert_eq!(store.stream_version_now(&stream("a")), None);
    store.append_now(Append::stream(stream("a"), ExpectedVersion::NoStream, [event(0)])).expect("it never existed");
}

#[test]
fn defect_6_of_two_decisions_on_one_state_the_second_is_made_anew() {
    let accounts = Repository::<Account, _>::new(Arc::new(MemoryStore::new()));
    block_on(accounts.execute(&stream("a"), &Command::Deposit(10))).expect("executed");
    let withdrawn = std::thread::scope(|scope| {
        let withdraw = || block_on(accounts.execute(&stream("a"), &Command::Withdraw(10))).is_ok();
        let both = [scope.spawn(withdraw), scope.spawn(withdraw)];
        both.map(|one| one.join().expect("no panic")).into_iter().filter(|is_ok| *is_ok).count()
    });
    assert_eq!(withdrawn, 1);
    assert_eq!(block_on(accounts.load(&stream("a"))).expect("loaded").state.balance, 0);
}

#[test]
fn defect_7_a_duplicate_id_is_a_repetition_or_an_error() {
    let store = store_with(1);
    let again = store.append_now(Append::stream(stream("a"), ExpectedVersion::Any, [event(0)])).expect("a repetition");
    assert!(again.deduplicated);
    let other = event(0).with_metadata("other");
    let error = store.append_now(Append::stream(stream("a"), ExpectedVersion::Any, [other])).unwrap_err();
    assert!(matches!(error, AppendError::DuplicateEventId { .. }));
    assert_eq!(head(&store), 1);
}

#[test]
fn defect_9_bytes_in_are_the_same_bytes_out() {
    let store = MemoryStore::new();
    for (number, payload) in
        [&br#"{"b":1,"a":2,"a":3}"#[..], b"\"\\u0000\"", b"\x00\xff\xfe", b""].into_iter().enumerate()
    {
        let event =
            NewEvent::with_given_id(event_store::EventId::from_u128(number as u128), kind("Kept"), payload.to_vec());
        store.append_now(Append::events([event])).expect("no condition");
        assert_eq!(all(&store)[number].payload(), payload);
    }
}

#[test]
fn defect_11_every_event_has_its_own_position() {
    let store = store_with(3);
    store.append_now(Append::stream(stream("b"), ExpectedVersion::Any, events(10..13))).expect("new");
    let positions: Vec<u64> = all(&store).iter().map(|event| event.position().get()).collect();
    assert_eq!(positions, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn defect_11_a_projection_counts_each_event_once_however_often_it_is_run() {
    let (store, model) = (Arc::new(store_with(3)), Arc::new(MemoryReadModel::new()));
    for _ in 0..3 {
        let runner =
            ProjectionRunner::new(Arc::clone(&store), Arc::clone(&model), shaky::Ledger::new(), shaky::no_sleep);
        block_on(runner.catch_up()).expect("caught up");
    }
    let id = ProjectionId { name: "ledger".to_owned(), version: 1 };
    assert_eq!(model.read_version(&id, Vec::len), Some(3));
}

#[test]
fn defect_12_an_upcaster_over_two_versions_is_reached_or_refused() {
    let happened = || kind("Happened");
    let over_two = |payload: &[u8]| Ok([payload, b"!"].concat());
    let upcasters = Upcasters::builder().current(happened(), 3).step(happened(), 1, 3, over_two);
    let store = Upcasting::new(store_with(1), upcasters.never_recorded(happened(), 2).build().expect("sound"));
    let events: Vec<_> = block_on(store.read(Read::all()).map(|event| event.expect("upcast")).collect());
    assert_eq!((events[0].schema_version(), events[0].payload()), (3, &b"0!"[..]));
    let hole = Upcasters::builder().current(happened(), 3).step(happened(), 1, 3, over_two).build();
    assert_eq!(hole.unwrap_err(), UpcastersError::Hole { event_type: happened(), version: 2 });
}

#[test]
fn defect_13_the_same_append_twice_does_not_grow_the_store() {
    let store = MemoryStore::new();
    for _ in 0..1_000 {
        store
            .append_now(Append::stream(stream("a"), ExpectedVersion::Any, [event(0)]))
            .expect("new, then a repetition");
    }
    assert_eq!(head(&store), 1);
}
