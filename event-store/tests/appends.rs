//! What an append is judged by, in which order, and what a refusal leaves behind: nothing.

mod support;

use event_store::{
    Append, AppendCondition, AppendError, Clause, EventId, ExpectedVersion, MemoryOptions, MemoryStore, Query,
    QueryItem, Read, StreamVersion,
};
use support::{all, event, events, exact, head, kind, payloads, position, store_with, stream, tag};

fn tagged(name: &str) -> Query {
    Query::item(QueryItem::tags([tag(name)]).expect("one tag"))
}

#[test]
fn each_expectation_accepts_what_it_says() {
    let versions = [None, Some(StreamVersion::new(0)), Some(StreamVersion::new(4))];
    for (expected, accepted) in [
        (ExpectedVersion::Any, [true, true, true]),
        (ExpectedVersion::NoStream, [true, false, false]),
        (ExpectedVersion::Exists, [false, true, true]),
        (exact(0), [false, true, false]),
        (exact(4), [false, false, true]),
        (exact(5), [false, false, false]),
    ] {
        assert_eq!(versions.map(|version| expected.accepts(version)), accepted, "{expected}");
    }
}

#[test]
fn an_append_answers_with_its_positions_and_the_versions_to_expect_next() {
    let store = store_with(3);
    let appended = store
        .append_now(
            Append::stream(stream("a"), exact(2), [event(10)])
                .and_stream(stream("b"), ExpectedVersion::NoStream, [event(11), event(12)])
                .and_events([event(13)]),
        )
        .expect("as expected");
    assert_eq!(appended.positions, Some((position(4), position(7))));
    assert_eq!(appended.versions(), [(stream("a"), StreamVersion::new(3)), (stream("b"), StreamVersion::new(1))]);
    assert!(!appended.deduplicated);
    let recorded = all(&store);
    let places: Vec<_> = recorded[3..].iter().map(|e| e.stream().map(|(s, v)| (s.to_string(), v.get()))).collect();
    assert_eq!(places, [Some(("a".into(), 3)), Some(("b".into(), 0)), Some(("b".into(), 1)), None]);
}

#[test]
fn a_stale_version_is_refused_with_the_actual_one_and_writes_nothing() {
    let store = store_with(3);
    let error = store.append_now(Append::stream(stream("a"), exact(1), [event(10)])).unwrap_err();
    let actual = Some(StreamVersion::new(2));
    assert_eq!(error, AppendError::WrongExpectedVersion { stream: stream("a"), expected: exact(1), actual });
    assert!(error.is_definite());
    assert_eq!(head(&store), 3);
}

#[test]
fn one_refused_stream_refuses_them_all() {
    let store = store_with(1);
    let append = Append::stream(stream("b"), ExpectedVersion::NoStream, [event(10)]).and_stream(
        stream("a"),
        exact(7),
        [event(11)],
    );
    assert!(matches!(store.append_now(append), Err(AppendError::WrongExpectedVersion { .. })));
    assert_eq!(head(&store), 1);
    assert_eq!(store.stream_version_now(&stream("b")), None);
}

#[test]
fn a_stream_named_twice_sees_its_own_earlier_events() {
    let store = MemoryStore::new();
    let twice = |second| {
        Append::stream(stream("a"), ExpectedVersion::NoStream, events(0..2)).and_stream(
            stream("a"),
            second,
            events(2..3),
        )
    };
    assert!(store.append_now(twice(ExpectedVersion::NoStream)).is_err());
    let first = store.append_now(twice(exact(1))).expect("two events stand before the third");
    assert_eq!(first.versions(), [(stream("a"), StreamVersion::new(2)), (stream("a"), StreamVersion::new(2))]);
    let versions: Vec<u64> = all(&store).iter().filter_map(|e| e.stream_version()).map(StreamVersion::get).collect();
    assert_eq!(versions, [0, 1, 2]);
    let again = store.append_now(twice(exact(1))).expect("a repetition");
    assert!(again.deduplicated);
    assert_eq!(again.versions(), [(stream("a"), StreamVersion::new(2)), (stream("a"), StreamVersion::new(2))]);
}

#[test]
fn an_append_without_events_is_a_check() {
    let store = store_with(2);
    let check = |expected| store.append_now(Append::stream(stream("a"), expected, []));
    let appended = check(exact(1)).expect("as expected");
    assert_eq!((appended.positions, appended.deduplicated), (None, false));
    assert_eq!(appended.versions(), [(stream("a"), StreamVersion::new(1))]);
    assert!(check(exact(0)).is_err());
    assert!(check(ExpectedVersion::NoStream).is_err());
    let unknown = store.append_now(Append::stream(stream("b"), ExpectedVersion::NoStream, [])).expect("as expected");
    assert_eq!(unknown.versions(), []);
    assert_eq!(store.stream_version_now(&stream("b")), None);
    assert_eq!(head(&store), 2);
}

#[test]
fn a_repetition_answers_as_the_first_did_and_writes_nothing() {
    let store = store_with(1);
    let append = || Append::stream(stream("a"), exact(0), events(10..13)).and_events([event(20)]);
    let first = store.append_now(append()).expect("as expected");
    let again = store.append_now(append()).expect("a repetition");
    assert!(again.deduplicated);
    assert_eq!((again.positions, again.versions()), (first.positions, first.versions()));
    assert_eq!(head(&store), 5);
}

#[test]
fn a_repetition_is_recognised_behind_later_appends_and_without_a_time() {
    let store = MemoryStore::new();
    let untimed = || event_store::NewEvent::with_given_id(EventId::from_u128(1), kind("Happened"), "0");
    store.append_now(Append::events([untimed()])).expect("no condition");
    store.append_now(Append::events(events(10..200))).expect("no condition");
    let again = store.append_now(Append::events([untimed()])).expect("a repetition");
    assert_eq!((again.deduplicated, again.positions), (true, Some((position(1), position(1)))));
}

#[test]
fn what_shares_ids_without_being_a_repetition_is_refused_by_the_id() {
    let store = MemoryStore::new();
    let stored = || events(0..3);
    store.append_now(Append::stream(stream("a"), ExpectedVersion::Any, stored())).expect("new");
    let id = |number: u64| EventId::from_u128(u128::from(number) + 1);
    let to_a = |events: Vec<_>| Append::stream(stream("a"), ExpectedVersion::Any, events);
    for (what, append, taken, at) in [
        ("other payload", to_a(vec![event(0).with_metadata("m")]), 0, 1),
        (
            "other type",
            to_a(vec![{
                let mut e = event(1);
                e.event_type = kind("Other");
                e
            }]),
            1,
            2,
        ),
        ("other tags", to_a(vec![event(1).with_tag(tag("x"))]), 1, 2),
        ("other time", to_a(vec![event(1).with_time(event_store::Timestamp::from_micros(99))]), 1, 2),
        ("other stream", Append::stream(stream("b"), ExpectedVersion::Any, vec![event(0)]), 0, 1),
        ("no stream", Append::events(vec![event(0)]), 0, 1),
        ("a new event before", to_a(vec![event(9), event(0)]), 0, 1),
        ("a new event behind", to_a(vec![event(2), event(9)]), 2, 3),
        ("another order", to_a(vec![event(1), event(0)]), 1, 2),
        ("the same id twice", to_a(vec![event(8), event(9), event(8)]), 8, 4),
    ] {
        let error = store.append_now(append).expect_err(what);
        assert_eq!(error, AppendError::DuplicateEventId { id: id(taken), position: position(at) }, "{what}");
    }
    assert_eq!(head(&store), 3);
    store.append_now(to_a(vec![event(9), event(8)])).expect("no refused id was kept");
}

#[test]
fn the_boundary_looks_only_behind_its_position_and_existence_everywhere() {
    let store = MemoryStore::new();
    store.append_now(Append::events([event(0).with_tag(tag("course:1"))])).expect("no condition");
    let boundary = |after: Option<u64>| {
        let condition = AppendCondition::fail_if_events_match(tagged("course:1"));
        after.map_or(condition.clone(), |after| condition.after(position(after)))
    };
    let attempt = |condition| store.append_now(Append::events([event(head(&store) + 10)]).condition(condition));
    let failed = |clause| Err(AppendError::ConditionFailed { clause, position: position(1) });
    assert_eq!(attempt(boundary(None)), failed(Clause::Boundary));
    assert!(attempt(boundary(Some(1))).is_ok());
    assert!(attempt(boundary(Some(1_000_000))).is_ok(), "a position in the future");
    assert_eq!(attempt(AppendCondition::fail_if_exists(tagged("course:1"))), failed(Clause::Existence));
    let both = boundary(Some(1)).and_fail_if_exists(tagged("course:1"));
    assert_eq!(attempt(both), failed(Clause::Existence));
    assert!(attempt(AppendCondition::fail_if_exists(tagged("course:2"))).is_ok());
}

#[test]
fn the_earlier_verdict_wins_where_several_apply() {
    let options = MemoryOptions::default().max_event_bytes(100).max_append_bytes(150);
    let store = MemoryStore::with_options(options).expect("in range");
    store.append_now(Append::stream(stream("a"), ExpectedVersion::Any, [event(0).with_tag(tag("t"))])).expect("new");
    let condition = || AppendCondition::fail_if_events_match(tagged("t")).and_fail_if_exists(tagged("t"));
    let large = || event(0).with_metadata(vec![0; 101]);
    let append = |event| Append::stream(stream("a"), exact(7), [event]).condition(condition());
    let verdicts = [
        store.append_now(append(large())),
        store.append_now(append(event(0).with_metadata("other"))),
        store.append_now(append(event(1))),
        store.append_now(Append::stream(stream("a"), exact(0), [event(1)]).condition(condition())),
        store.append_now(Append::events([event(1)]).condition(AppendCondition::fail_if_exists(tagged("t")))),
    ];
    let words: Vec<&str> = verdicts
        .iter()
        .map(|verdict| match verdict {
            Err(AppendError::TooLarge { size: 102, limit: 100 }) => "size",
            Err(AppendError::DuplicateEventId { .. }) => "id",
            Err(AppendError::WrongExpectedVersion { .. }) => "version",
            Err(AppendError::ConditionFailed { clause: Clause::Boundary, .. }) => "boundary",
            Err(AppendError::ConditionFailed { clause: Clause::Existence, .. }) => "existence",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(words, ["size", "id", "version", "boundary", "existence"]);
    let repetition = Append::stream(stream("a"), exact(7), [event(0).with_tag(tag("t"))]).condition(condition());
    assert!(store.append_now(repetition).expect("ids come before versions").deduplicated);
}

#[test]
fn an_append_that_is_too_large_in_all_is_refused() {
    let store = MemoryStore::with_options(MemoryOptions::default().max_append_bytes(10)).expect("in range");
    let error = store.append_now(Append::events(events(100..104))).unwrap_err();
    assert_eq!(error, AppendError::TooLarge { size: 12, limit: 10 });
    store.append_now(Append::events(events(100..103))).expect("nine bytes");
}

#[test]
fn an_option_outside_its_range_is_an_error_that_names_it() {
    for bytes in [0, u64::from(u32::MAX) + 1] {
        let error = MemoryStore::with_options(MemoryOptions::default().max_append_bytes(bytes)).unwrap_err();
        assert_eq!((error.option, error.value), ("max_append_bytes", bytes));
    }
}

#[test]
fn content_comes_back_byte_for_byte_from_copied_and_from_adopted_appends() {
    let store = MemoryStore::new();
    let ids = [uuid::Uuid::from_u128(7), uuid::Uuid::from_u128(8)];
    let full = |number: u64| {
        event(number)
            .with_metadata(vec![number as u8; 3])
            .with_schema_version(9)
            .with_tag(tag("b"))
            .with_tag(tag("a"))
            .with_tag(tag("b"))
            .with_correlation_id(ids[0])
            .with_causation_id(ids[1])
    };
    store.append_now(Append::stream(stream("a"), ExpectedVersion::Any, [full(0)])).expect("new");
    store.append_now(Append::stream(stream("a"), ExpectedVersion::Any, (1..300).map(full))).expect("new");
    store.append_now(Append::stream(stream("a"), ExpectedVersion::Any, [full(300)])).expect("new");
    let recorded = all(&store);
    assert_eq!(recorded.len(), 301);
    for (number, event) in recorded.iter().enumerate() {
        assert_eq!(event.payload(), number.to_string().as_bytes());
        assert_eq!(event.payload_bytes(), number.to_string());
        assert_eq!(event.metadata(), vec![number as u8; 3]);
        assert_eq!(event.schema_version(), 9);
        assert_eq!(event.tags().iter().map(ToString::to_string).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((event.correlation_id(), event.causation_id()), (Some(ids[0]), Some(ids[1])));
        assert_eq!(event.time().as_micros(), number as i64);
        assert_eq!(event.id(), EventId::from_u128(number as u128 + 1));
    }
}

#[test]
fn an_event_without_a_time_gets_the_stores_own() {
    let store = MemoryStore::new();
    let before = event_store::Timestamp::now();
    store.append_now(Append::events([event_store::NewEvent::new(kind("Happened"), "")])).expect("no condition");
    let time = all(&store)[0].time();
    assert!(before <= time && time <= event_store::Timestamp::now());
}

#[test]
fn a_read_is_not_changed_by_what_its_visitor_appends() {
    let store = store_with(3);
    let mut seen = 0;
    store.scan(&Read::all(), |_| {
        seen += 1;
        store.append_now(Append::events([event(100 + seen)])).expect("no lock is held across the visitor");
        std::ops::ControlFlow::<()>::Continue(())
    });
    assert_eq!((seen, head(&store)), (3, 6));
    assert_eq!(payloads(&all(&store))[3..], ["101", "102", "103"]);
}
