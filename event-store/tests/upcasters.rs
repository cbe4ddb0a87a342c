//! Upcasters: a graph that was checked, and one view of the events by whatever way they are read.

#[path = "support/account.rs"]
mod account;
mod support;

use std::sync::Arc;

use account::{Account, Command};
use event_store::{
    Append, AppendCondition, AppendError, BoxError, Clause, Delivery, DynEventStore, EventStore, ExpectedVersion,
    MemoryStore, NewEvent, Piece, Position, Query, QueryItem, Read, ReadError, RecordedEvent, Repository,
    StreamVersion, Subscribe, SubscribeError, Upcasters, UpcastersBuilder, UpcastersError, Upcasting,
};
use futures::executor::block_on;
use futures::{FutureExt as _, StreamExt as _};
use support::{event, head, kind, position, stream, tag};

fn unchanged(payload: &[u8]) -> Result<Vec<u8>, BoxError> {
    Ok(payload.to_vec())
}

fn letter(letter: u8) -> impl Fn(&[u8]) -> Result<Vec<u8>, BoxError> {
    move |payload| Ok([payload, &[letter]].concat())
}

/// `Placed` 1 → 2, then renamed to `Submitted` 1 → 3; `Both` is split into `Left` and `Submitted` 1, or nothing if its payload ends with 7;
/// `Noise` is dropped; `Left` and `Plain` are as they are, `Plain` without being mentioned.
fn upcasters() -> Upcasters {
    let pieces = |payload: &[u8]| -> Result<Vec<Piece>, BoxError> {
        if payload.ends_with(b"7") {
            return Ok(Vec::new());
        }
        Ok(vec![Piece::new(0, payload.to_vec()), Piece::new(1, payload.to_vec()), Piece::new(0, "last")])
    };
    Upcasters::builder()
        .current(kind("Submitted"), 3)
        .current(kind("Left"), 1)
        .step(kind("Placed"), 1, 2, letter(b'a'))
        .rename((kind("Placed"), 2), (kind("Submitted"), 1))
        .step(kind("Submitted"), 1, 3, letter(b'b'))
        .step(kind("Submitted"), 2, 3, letter(b'c'))
        .split((kind("Both"), 1), [(kind("Left"), 1), (kind("Submitted"), 1)], pieces)
        .drop(kind("Noise"), 1)
        .build()
        .expect("a sound graph")
}

const FORMS: [(&str, u16); 8] = [
    ("Placed", 1),
    ("Both", 1),
    ("Plain", 9),
    ("Submitted", 2),
    ("Noise", 1),
    ("Submitted", 3),
    ("Left", 1),
    ("Placed", 2),
];

fn of_kind(name: &str, number: u64) -> NewEvent {
    let mut event = event(number);
    event.event_type = kind(name);
    event
}

/// Events of all forms in two streams and in none, with tags.
fn world() -> MemoryStore {
    let store = MemoryStore::new();
    for number in 0..60_u64 {
        let (name, version) = FORMS[(number * 5 % 8) as usize];
        let event = of_kind(name, number)
            .with_schema_version(version)
            .with_tag(tag(if number % 2 == 0 { "even" } else { "odd" }))
            .with_metadata(format!("m{number}"));
        let append = match number % 5 {
            0 => Append::events([event]),
            1 | 2 => Append::stream(stream("a"), ExpectedVersion::Any, [event]),
            _ => Append::stream(stream("b"), ExpectedVersion::Any, [event]),
        };
        store.append_now(append).expect("nothing is expected");
    }
    store
}

/// What readers are to see, by applying the rules above by hand.
fn expected(store: &MemoryStore) -> Vec<(u64, String, u16, String)> {
    let mut all = Vec::new();
    for event in store.read_now(&Read::all()) {
        let payload = String::from_utf8(event.payload().to_vec()).expect("text");
        let mut add = |name: &str, version: u16, payload: String| {
            all.push((event.position().get(), name.to_owned(), version, payload));
        };
        match (event.event_type().as_str(), event.schema_version()) {
            ("Placed", 1) => add("Submitted", 3, payload + "ab"),
            ("Placed", 2) => add("Submitted", 3, payload + "b"),
            ("Submitted", 2) => add("Submitted", 3, payload + "c"),
            ("Both", 1) if payload.ends_with('7') => {}
            ("Both", 1) => {
                add("Left", 1, payload.clone());
                add("Submitted", 3, payload + "b");
                add("Left", 1, "last".to_owned());
            }
            ("Noise", 1) => {}
            (name, version) => add(name, version, payload),
        }
    }
    all
}

fn seen(events: &[RecordedEvent]) -> Vec<(u64, String, u16, String)> {
    let seen = events.iter().map(|event| {
        let payload = String::from_utf8(event.payload().to_vec()).expect("text");
        (event.position().get(), event.event_type().to_string(), event.schema_version(), payload)
    });
    seen.collect()
}

async fn read<S: EventStore>(store: &S, read: Read) -> Vec<RecordedEvent> {
    store.read(read).map(|event| event.expect("it can be upcast")).collect().await
}

fn delivered(store: &impl EventStore, subscribe: Subscribe) -> Vec<RecordedEvent> {
    let mut subscription = store.subscribe(subscribe);
    let mut events = Vec::new();
    loop {
        match subscription.next().now_or_never().expect("memory waits for nothing").expect("the store is there") {
            Ok(Delivery::Event(event)) => {
                events.push(event);
            }
            Ok(Delivery::CaughtUp(_)) => return events,
            Err(error) => panic!("{error}"),
        }
    }
}

fn queries() -> Vec<Query> {
    let types = |names: &[&str]| QueryItem::types(names.iter().map(|name| kind(name))).expect("types");
    let tagged = QueryItem::tags([tag("even")]).expect("a tag");
    vec![
        Query::All,
        Query::item(types(&["Submitted"])),
        Query::item(types(&["Left"])),
        Query::item(types(&["Plain"])),
        Query::item(types(&["Placed", "Both", "Noise"])),
        Query::item(tagged.clone()),
        Query::item(tagged.of_types([kind("Submitted")])),
        Query::items([types(&["Plain"]), QueryItem::tags([tag("odd")]).expect("a tag").of_types([kind("Left")])])
            .expect("items"),
    ]
}

/// The first events up to `limit`, but what one recorded event became comes whole.
fn limited(events: Vec<RecordedEvent>, limit: usize) -> Vec<RecordedEvent> {
    let Some(last) = limit.checked_sub(1).map(|last| events.get(last).map(RecordedEvent::position)) else {
        return Vec::new();
    };
    let Some(last) = last else { return events };
    let end = events.iter().rposition(|event| event.position() == last).expect("it is there");
    events[..=end].to_vec()
}

#[test]
fn every_read_path_shows_the_same_events() {
    let store = world();
    let reference = expected(&store);
    let recorded = store.read_now(&Read::all());
    let store = Upcasting::new(store, upcasters());
    let all = block_on(read(&store, Read::all()));
    assert_eq!(seen(&all), reference);
    for event in &all {
        let origin = &recorded[event.position().get() as usize - 1];
        assert_eq!((event.id(), event.time(), event.stream()), (origin.id(), origin.time(), origin.stream()));
        assert_eq!((event.tags(), event.metadata()), (origin.tags(), origin.metadata()));
    }

    let store: Arc<dyn DynEventStore> = Arc::new(store);
    let mut paths = 0;
    for query in queries() {
        let matching: Vec<RecordedEvent> =
            all.iter().filter(|event| query.matches(event.event_type(), event.tags())).cloned().collect();
        for from in (1..=62).step_by(7) {
            let at = position(from);
            let ahead: Vec<_> = matching.iter().filter(|event| event.position() >= at).cloned().collect();
            let back: Vec<_> = matching.iter().rev().filter(|event| event.position() <= at).cloned().collect();
            for limit in [0, 1, 2, 3, 5, 1000] {
                let ahead_read = Read::query_from(query.clone(), at).limit(limit as u64);
                assert_eq!(block_on(read(&store, ahead_read.clone())), limited(ahead.clone(), limit));
                assert_eq!(block_on(read(&store, ahead_read.backwards())), limited(back.clone(), limit));
                paths += 2;
            }
            if from <= head_of(&store) {
                let subscribe = Subscribe::after(at).query(query.clone());
                let behind: Vec<_> = matching.iter().filter(|event| event.position() > at).cloned().collect();
                assert_eq!(delivered(&store, subscribe), behind);
            }
        }
        assert_eq!(delivered(&store, Subscribe::from_start().query(query.clone())), matching);
        assert_eq!(block_on(read(&store, Read::query(query.clone()))), matching);
    }
    for name in ["a", "b", "none"] {
        let in_stream = |event: &&RecordedEvent| event.stream().is_some_and(|(own, _)| own.as_str() == name);
        let of_stream: Vec<RecordedEvent> = all.iter().filter(in_stream).cloned().collect();
        for from in 0..30 {
            let version = StreamVersion::new(from);
            let ahead: Vec<_> = of_stream.iter().filter(|e| e.stream_version() >= Some(version)).cloned().collect();
            let back: Vec<_> =
                of_stream.iter().rev().filter(|e| e.stream_version() <= Some(version)).cloned().collect();
            for limit in [0, 1, 2, 3, 1000] {
                let ahead_read = Read::stream_from(stream(name), version).limit(limit as u64);
                assert_eq!(block_on(read(&store, ahead_read.clone())), limited(ahead.clone(), limit));
                assert_eq!(block_on(read(&store, ahead_read.backwards())), limited(back.clone(), limit));
                paths += 2;
            }
        }
        assert_eq!(block_on(read(&store, Read::stream(stream(name)))), of_stream);
    }
    assert!(paths > 1000);
}

fn head_of(store: &Arc<dyn DynEventStore>) -> u64 {
    block_on(store.head()).expect("memory").map_or(0, Position::get)
}

/// The pages of a reader who goes on behind the last position make up the whole, whatever the limit.
#[test]
fn reading_on_behind_the_last_position_misses_no_piece() {
    let store = Upcasting::new(world(), upcasters());
    let all = block_on(read(&store, Read::all()));
    for limit in 1..6 {
        let (mut events, mut from): (Vec<RecordedEvent>, u64) = (Vec::new(), 1);
        loop {
            let page = block_on(read(&store, Read::all_from(position(from)).limit(limit)));
            let is_last = (page.len() as u64) < limit;
            from = page.last().map_or(from, |last| last.position().get() + 1);
            events.extend(page);
            if is_last {
                break;
            }
        }
        assert_eq!(events, all, "pages of {limit}");
    }
}

#[test]
fn a_subscription_tells_whether_more_is_to_come_of_the_same_position() {
    let store = MemoryStore::new();
    let both = of_kind("Both", 1);
    store.append_now(Append::events([both, event(2)])).expect("nothing is expected");
    let store = Upcasting::new(store, upcasters());
    let mut subscription = store.subscribe(Subscribe::from_start());
    let mut more = Vec::new();
    for _ in 0..4 {
        match subscription.next().now_or_never() {
            Some(Some(Ok(Delivery::Event(event)))) => more.push(subscription.has_more_at(event.position())),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(more, [true, true, false, false]);
}

#[test]
fn a_failing_upcaster_is_a_typed_error_after_all_that_is_before_it() {
    let fails = |payload: &[u8]| -> Result<Vec<u8>, BoxError> {
        match payload {
            b"3" => Err("three is too many".into()),
            b"4" => panic!("four"),
            other => Ok(other.to_vec()),
        }
    };
    let upcasters =
        Upcasters::builder().current(kind("Happened"), 2).step(kind("Happened"), 1, 2, fails).build().expect("sound");
    let store = Upcasting::new(support::store_with(6), upcasters);
    let error = |at: u64, reason: &str| ReadError::Upcast {
        position: position(at),
        event_type: kind("Happened"),
        schema_version: 1,
        reason: reason.to_owned(),
    };
    let (three, four) = (error(4, "the upcaster failed: three is too many"), error(5, "the upcaster panicked: four"));
    let results: Vec<_> = block_on(store.read(Read::all()).collect());
    assert_eq!(results.len(), 4);
    assert_eq!(results[3], Err(three.clone()));
    let results: Vec<_> = block_on(store.read(Read::stream(stream("a")).backwards()).collect());
    assert_eq!(results.last(), Some(&Err(four)));

    let mut subscription = store.subscribe(Subscribe::from_start());
    let mut next =
        || subscription.next().now_or_never().expect("memory waits for nothing").expect("the store is there");
    for at in 1..4 {
        assert!(matches!(next(), Ok(Delivery::Event(event)) if event.position().get() == at));
    }
    assert_eq!(next(), Err(SubscribeError::Read(three.clone())));
    assert_eq!(next(), Err(SubscribeError::Read(three)), "it does not go away");
}

#[test]
fn a_version_above_the_current_one_fails_to_be_read() {
    let store = MemoryStore::new();
    let newer = of_kind("Submitted", 1).with_schema_version(4);
    store.append_now(Append::events([newer])).expect("nothing is expected");
    let store = Upcasting::new(store, upcasters());
    let results: Vec<_> = block_on(store.read(Read::all()).collect());
    assert!(matches!(&results[..], [Err(ReadError::Upcast { schema_version: 4, .. })]), "{results:?}");
}

#[test]
fn conditions_look_for_older_names_too() {
    let store = Upcasting::new(MemoryStore::new(), upcasters());
    let append = |event: NewEvent| Append::events([event]);
    let of = |name: &str| Query::item(QueryItem::types([kind(name)]).expect("a type"));
    let submit = |condition| block_on(store.append(append(event(9)).condition(condition)));
    block_on(store.append(append(of_kind("Placed", 1)))).expect("no condition");
    let failed = |clause| Err(AppendError::ConditionFailed { clause, position: position(1) });
    assert_eq!(submit(AppendCondition::fail_if_events_match(of("Submitted"))), failed(Clause::Boundary));
    assert_eq!(submit(AppendCondition::fail_if_exists(of("Submitted"))), failed(Clause::Existence));
    // An event that would be dropped counts as what it might have become: more is refused than need be.
    block_on(store.append(append(of_kind("Both", 7)))).expect("no condition");
    let behind = AppendCondition::fail_if_events_match(of("Left")).after(position(1));
    assert!(submit(behind.clone()).is_err());
    submit(behind.after(position(2))).expect("behind the head it holds");
    assert_eq!(head(store.inner()), 3);
}

fn refused(builder: UpcastersBuilder) -> UpcastersError {
    builder.build().expect_err("it is not sound")
}

#[test]
fn graphs_that_do_not_lead_each_event_to_one_current_form_are_refused() {
    let (a, b) = (|| kind("A"), || kind("B"));
    let hole = |event_type, version| UpcastersError::Hole { event_type, version };
    let ambiguous = |event_type, version| UpcastersError::Ambiguous { event_type, version };
    let builder = Upcasters::builder;
    let steps = |pairs: &[(u16, u16)]| {
        pairs.iter().fold(builder().current(a(), 3), |builder, (from, to)| builder.step(a(), *from, *to, unchanged))
    };

    // Holes: no way on from 2; 2 skipped; a current version without a past.
    assert_eq!(refused(steps(&[(1, 2)])), hole(a(), 2));
    assert_eq!(refused(steps(&[(1, 3)])), hole(a(), 2));
    assert_eq!(refused(builder().current(a(), 2)), hole(a(), 1));
    assert_eq!(refused(builder().current(b(), 1).rename((a(), 3), (b(), 1)).drop(a(), 1)), hole(a(), 2));
    steps(&[(1, 3)]).never_recorded(a(), 2).build().expect("version 2 never was");
    steps(&[(1, 2), (2, 3)]).build().expect("each leads on");
    steps(&[(1, 3), (2, 3)]).build().expect("each leads on");

    // Ambiguity.
    assert_eq!(refused(steps(&[(1, 2), (2, 3), (1, 3)])), ambiguous(a(), 1));
    assert_eq!(refused(steps(&[(1, 2), (2, 3), (3, 4)])), ambiguous(a(), 3));
    assert_eq!(refused(steps(&[(1, 2), (2, 3)]).current(a(), 2)), ambiguous(a(), 2));
    assert_eq!(refused(steps(&[(1, 2), (2, 3)]).drop(a(), 2)), ambiguous(a(), 2));
    assert_eq!(refused(steps(&[(1, 2), (2, 3)]).never_recorded(a(), 2)), ambiguous(a(), 2));

    // Cycles, over steps and over names.
    let cycle = builder().step(a(), 1, 2, unchanged).step(a(), 2, 1, unchanged);
    assert!(matches!(refused(cycle), UpcastersError::Cycle { .. }));
    let renames = builder().rename((a(), 1), (b(), 1)).rename((b(), 1), (a(), 1));
    assert!(matches!(refused(renames), UpcastersError::Cycle { .. }));
    let itself = builder().rename((a(), 1), (a(), 1));
    assert_eq!(refused(itself), UpcastersError::Cycle { event_type: a(), version: 1 });
    let split = builder().current(b(), 1).split((a(), 1), [(b(), 1), (a(), 1)], |_| Ok(Vec::new()));
    assert_eq!(refused(split), UpcastersError::Cycle { event_type: a(), version: 1 });

    // Unknown targets.
    let to_b = builder().rename((a(), 1), (b(), 1));
    let unknown = UpcastersError::UnknownTarget { from_type: a(), from_version: 1, event_type: b(), version: 1 };
    assert_eq!(refused(to_b), unknown);
    let past_current = builder().current(b(), 1).rename((a(), 1), (b(), 2));
    assert!(matches!(refused(past_current), UpcastersError::UnknownTarget { version: 2, .. }));
    assert_eq!(refused(builder().current(a(), 0)), UpcastersError::VersionZero { event_type: a() });
}

#[test]
fn a_diamond_of_splits_is_no_cycle() {
    let form = |name: &str| (kind(name), 1);
    let split = |to: [&str; 2]| (to.map(form), |_: &[u8]| Ok(vec![Piece::new(0, "l"), Piece::new(1, "r")]));
    let (top, left) = (split(["L", "R"]), split(["End", "R"]));
    let upcasters = Upcasters::builder()
        .current(kind("End"), 1)
        .split(form("Top"), top.0, top.1)
        .split(form("L"), left.0, left.1)
        .rename(form("R"), form("End"))
        .build()
        .expect("sound");
    let store = MemoryStore::new();
    store.append_now(Append::events([of_kind("Top", 1)])).expect("no condition");
    let ends = Query::item(QueryItem::types([kind("End")]).expect("a type"));
    let events = block_on(read(&Upcasting::new(store, upcasters), Read::query(ends)));
    assert_eq!(support::payloads(&events), ["l", "r", "r"]);
}

#[test]
fn a_split_that_makes_an_undeclared_piece_fails() {
    let upcasters = Upcasters::builder()
        .current(kind("B"), 1)
        .split((kind("Happened"), 1), [(kind("B"), 1)], |_| Ok(vec![Piece::new(1, "")]))
        .build()
        .expect("sound");
    let store = Upcasting::new(support::store_with(1), upcasters);
    let results: Vec<_> = block_on(store.read(Read::all()).collect());
    assert!(matches!(&results[..], [Err(ReadError::Upcast { .. })]));
}

/// The version that an append expects counts events that nobody sees any more.
#[test]
fn a_repository_goes_on_behind_events_that_are_dropped() {
    let upcasters = Upcasters::builder()
        .current(kind("Deposited"), 1)
        .rename((kind("PaidIn"), 1), (kind("Deposited"), 1))
        .drop(kind("Noise"), 1)
        .build()
        .expect("sound");
    let store = MemoryStore::new();
    let events = [of_kind("PaidIn", 5), of_kind("Noise", 6), of_kind("Noise", 7)];
    store.append_now(Append::stream(stream("a"), ExpectedVersion::NoStream, events)).expect("no stream");
    let accounts = Repository::<Account, _>::new(Arc::new(Upcasting::new(store, upcasters)));
    let executed = block_on(accounts.execute(&stream("a"), &Command::Withdraw(2))).expect("executed");
    assert_eq!((executed.state.balance, executed.version), (3, Some(StreamVersion::new(3))));
    assert_eq!(executed.attempts, 2, "the store told the version");
}
