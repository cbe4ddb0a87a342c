//! Order, versions, ids.

use std::sync::Arc;

use uuid::Uuid;

use super::Outcome;
use super::{
    append, at, event, event_type, events, exact, holds, list_cases, positions, read, refuse, same, stream, tag,
};
use crate::append::{Append, Appended, ExpectedVersion};
use crate::error::AppendError;
use crate::event::{EventId, StreamVersion, Timestamp};
use crate::read::Read;
use crate::store::EventStore;

list_cases![
    positions_are_dense_from_1_and_versions_from_0,
    an_append_to_several_streams_is_one,
    an_append_answers_with_its_positions_and_versions,
    content_comes_back_byte_for_byte,
    an_event_without_a_time_gets_that_of_the_append,
    a_wrong_expected_version_is_refused_with_the_actual_one,
    expected_versions_are_judged_in_the_order_given,
    the_second_mention_of_a_stream_sees_the_first,
    no_events_are_a_check_without_a_write,
    a_refused_append_leaves_no_stream,
    the_same_append_again_is_a_repetition,
    a_repetition_is_one_although_its_expectation_no_longer_holds,
    known_ids_with_other_content_are_refused,
    known_ids_in_another_order_or_with_others_are_refused,
    an_id_twice_in_an_append_is_refused,
    a_large_append_is_whole,
    of_many_appends_for_one_version_one_wins,
    an_append_that_is_not_polled_does_not_happen,
];

async fn positions_are_dense_from_1_and_versions_from_0<S: EventStore>(store: Arc<S>) -> Outcome {
    same("the head of an empty store", store.head().await, Ok(None))?;
    append(&*store, Append::stream(stream("a"), ExpectedVersion::NoStream, events(0..3))).await?;
    append(&*store, Append::events([event(3)])).await?;
    append(&*store, Append::stream(stream("b"), ExpectedVersion::Any, events(4..6))).await?;
    append(&*store, Append::stream(stream("a"), exact(2), [event(6)])).await?;
    same("the positions", positions(&*store, Read::all()).await?, (1..=7).collect())?;
    let places = read(&*store, Read::all()).await?;
    let places: Vec<_> = places.iter().map(|e| e.stream().map(|(s, v)| (s.as_str().to_owned(), v.get()))).collect();
    let place = |name: &str, version| Some((name.to_owned(), version));
    let expected = [place("a", 0), place("a", 1), place("a", 2), None, place("b", 0), place("b", 1), place("a", 3)];
    same("the places in streams", places, expected.to_vec())?;
    same("the head", store.head().await, Ok(Some(at(7))))?;
    same("the version of a", store.stream_version(&stream("a")).await, Ok(Some(StreamVersion::new(3))))?;
    same("the version of an unknown stream", store.stream_version(&stream("c")).await, Ok(None))
}

async fn an_append_to_several_streams_is_one<S: EventStore>(store: Arc<S>) -> Outcome {
    append(&*store, Append::stream(stream("a"), ExpectedVersion::Any, [event(0)])).await?;
    let both = Append::stream(stream("b"), ExpectedVersion::NoStream, [event(1)]);
    let refused = both.clone().and_stream(stream("a"), ExpectedVersion::NoStream, [event(2)]).and_events([event(3)]);
    let actual = Some(StreamVersion::FIRST);
    let expected = ExpectedVersion::NoStream;
    refuse(&*store, refused, AppendError::WrongExpectedVersion { stream: stream("a"), expected, actual }).await?;
    append(&*store, both.and_stream(stream("a"), exact(0), [event(2)]).and_events([event(3)])).await?;
    same("the positions", positions(&*store, Read::all()).await?, vec![1, 2, 3, 4])?;
    same("those of b", positions(&*store, Read::stream(stream("b"))).await?, vec![2])?;
    same("those of a", positions(&*store, Read::stream(stream("a"))).await?, vec![1, 3])
}

async fn an_append_answers_with_its_positions_and_versions<S: EventStore>(store: Arc<S>) -> Outcome {
    append(&*store, Append::stream(stream("a"), ExpectedVersion::Any, events(0..2))).await?;
    let both = Append::stream(stream("b"), ExpectedVersion::Any, events(2..4))
        .and_stream(stream("a"), exact(1), [event(4)])
        .and_stream(stream("untouched"), ExpectedVersion::NoStream, []);
    let versions = [(stream("b"), StreamVersion::new(1)), (stream("a"), StreamVersion::new(2))];
    same("the answer", append(&*store, both).await?, Appended::new(Some((at(3), at(5))), versions, false))?;
    same("a stream that got nothing", store.stream_version(&stream("untouched")).await, Ok(None))
}

async fn content_comes_back_byte_for_byte<S: EventStore>(store: Arc<S>) -> Outcome {
    let bytes: Vec<u8> = (0..=255).chain([0, 0, 0xff, 0xfe]).collect();
    let json = r#"{"b":1,"a":2,"a":3,"c":"\u0000","n":1.10}"#;
    let full = event(0)
        .with_schema_version(7)
        .with_metadata(json)
        .with_tag(tag("ü:1 2"))
        .with_tag(tag("b"))
        .with_correlation_id(Uuid::from_u128(u128::MAX))
        .with_causation_id(Uuid::from_u128(1))
        .with_time(Timestamp::from_micros(-1));
    let full = crate::NewEvent { payload: bytes.clone().into(), event_type: event_type("Ünïcode Type"), ..full };
    let empty = crate::NewEvent::with_given_id(EventId::from_u128(u128::MAX), event_type("Empty"), "")
        .with_causation_id(Uuid::from_u128(9));
    append(&*store, Append::stream(stream("s/ü ?"), ExpectedVersion::Any, [full.clone(), empty])).await?;
    let found = read(&*store, Read::stream(stream("s/ü ?"))).await?;
    let [first, second] = &found[..] else { return Err(format!("{} events", found.len())) };
    same("payload", first.payload(), &bytes[..])?;
    same("metadata", first.metadata(), json.as_bytes())?;
    same("schema version", first.schema_version(), 7)?;
    same("type", first.event_type(), &full.event_type)?;
    same("tags", first.tags(), &full.tags)?;
    same("time", first.time(), Timestamp::from_micros(-1))?;
    same("id", first.id(), full.id)?;
    same("ids", (first.correlation_id(), first.causation_id()), (full.correlation_id, full.causation_id))?;
    same("empty payload", (second.payload(), second.metadata()), (&b""[..], &b""[..]))?;
    same("one id alone", (second.correlation_id(), second.causation_id()), (None, Some(Uuid::from_u128(9))))?;
    same("schema version unless given", second.schema_version(), 1)
}

async fn an_event_without_a_time_gets_that_of_the_append<S: EventStore>(store: Arc<S>) -> Outcome {
    let before = Timestamp::now();
    let timeless = || crate::NewEvent::new(event_type("Happened"), "{}");
    append(&*store, Append::events([timeless(), event(1), timeless()])).await?;
    let after = Timestamp::now();
    let times: Vec<Timestamp> = read(&*store, Read::all()).await?.iter().map(|event| event.time()).collect();
    // A server's clock may differ from ours by a little.
    let second = 1_000_000;
    let is_near = |t: Timestamp| (before.as_micros() - second..=after.as_micros() + second).contains(&t.as_micros());
    holds("a time near that of the append", times.len() == 3 && is_near(times[0]))?;
    same("the given time", times[1], Timestamp::from_micros(1))?;
    same("one clock reading an append", times[2], times[0])
}

async fn a_wrong_expected_version_is_refused_with_the_actual_one<S: EventStore>(store: Arc<S>) -> Outcome {
    append(&*store, Append::stream(stream("a"), ExpectedVersion::Any, events(0..3))).await?;
    let wrong = |name: &str, expected, actual: Option<u64>| {
        let (stream, actual) = (stream(name), actual.map(StreamVersion::new));
        let error = AppendError::WrongExpectedVersion { stream: stream.clone(), expected, actual };
        (Append::stream(stream, expected, [event(9)]), error)
    };
    for (append, error) in [
        wrong("a", exact(1), Some(2)),
        wrong("a", exact(3), Some(2)),
        wrong("a", exact(u64::MAX), Some(2)),
        wrong("a", ExpectedVersion::NoStream, Some(2)),
        wrong("b", exact(0), None),
        wrong("b", ExpectedVersion::Exists, None),
    ] {
        refuse(&*store, append, error).await?;
    }
    append(&*store, Append::stream(stream("a"), ExpectedVersion::Exists, [event(9)])).await.map(drop)
}

async fn expected_versions_are_judged_in_the_order_given<S: EventStore>(store: Arc<S>) -> Outcome {
    let both = Append::stream(stream("b"), exact(4), [event(0)]).and_stream(stream("a"), exact(5), [event(1)]);
    let expected = exact(4);
    refuse(&*store, both, AppendError::WrongExpectedVersion { stream: stream("b"), expected, actual: None }).await
}

async fn the_second_mention_of_a_stream_sees_the_first<S: EventStore>(store: Arc<S>) -> Outcome {
    let twice = |second| {
        Append::stream(stream("a"), ExpectedVersion::NoStream, events(0..2)).and_stream(stream("a"), second, [event(2)])
    };
    let (expected, actual) = (ExpectedVersion::NoStream, Some(StreamVersion::new(1)));
    let error = AppendError::WrongExpectedVersion { stream: stream("a"), expected, actual };
    refuse(&*store, twice(ExpectedVersion::NoStream), error).await?;
    append(&*store, twice(exact(1))).await?;
    same("the version", store.stream_version(&stream("a")).await, Ok(Some(StreamVersion::new(2))))
}

async fn no_events_are_a_check_without_a_write<S: EventStore>(store: Arc<S>) -> Outcome {
    append(&*store, Append::stream(stream("a"), ExpectedVersion::Any, [event(0)])).await?;
    let check = |expected| Append::stream(stream("a"), expected, []);
    let answer = Appended::new(None, [(stream("a"), StreamVersion::FIRST)], false);
    same("the answer to a check", append(&*store, check(exact(0))).await?, answer)?;
    let (expected, actual) = (exact(1), Some(StreamVersion::FIRST));
    refuse(&*store, check(exact(1)), AppendError::WrongExpectedVersion { stream: stream("a"), expected, actual })
        .await?;
    same("the head", store.head().await, Ok(Some(at(1))))
}

async fn a_refused_append_leaves_no_stream<S: EventStore>(store: Arc<S>) -> Outcome {
    let expected = ExpectedVersion::Exists;
    let refused = Append::stream(stream("a"), expected, [event(0)]);
    refuse(&*store, refused, AppendError::WrongExpectedVersion { stream: stream("a"), expected, actual: None }).await?;
    append(&*store, Append::stream(stream("a"), ExpectedVersion::NoStream, [event(0)])).await.map(drop)
}

async fn the_same_append_again_is_a_repetition<S: EventStore>(store: Arc<S>) -> Outcome {
    let both = || {
        Append::stream(stream("a"), ExpectedVersion::NoStream, events(0..2)).and_events([event(2)]).and_stream(
            stream("b"),
            ExpectedVersion::Any,
            [event(3)],
        )
    };
    let first = append(&*store, both()).await?;
    append(&*store, Append::stream(stream("a"), ExpectedVersion::Any, [event(9)])).await?;
    let again = append(&*store, both()).await?;
    let expected = Appended::new(first.positions, first.versions().to_vec(), true);
    same("the answer to a repetition", again, expected)?;
    same("the head", store.head().await, Ok(Some(at(5))))
}

async fn a_repetition_is_one_although_its_expectation_no_longer_holds<S: EventStore>(store: Arc<S>) -> Outcome {
    let first = || Append::stream(stream("a"), ExpectedVersion::NoStream, [event(0)]);
    append(&*store, first()).await?;
    append(&*store, Append::stream(stream("a"), exact(0), [event(1)])).await?;
    let again = append(&*store, first()).await?;
    same("the answer", again, Appended::new(Some((at(1), at(1))), [(stream("a"), StreamVersion::FIRST)], true))
}

async fn known_ids_with_other_content_are_refused<S: EventStore>(store: Arc<S>) -> Outcome {
    let full = || event(0).with_tag(tag("t")).with_metadata("m").with_correlation_id(Uuid::from_u128(1));
    append(&*store, Append::stream(stream("a"), ExpectedVersion::Any, [full()])).await?;
    let taken = || AppendError::DuplicateEventId { id: full().id, position: at(1) };
    let others = [
        crate::NewEvent { payload: "other".into(), ..full() },
        crate::NewEvent { event_type: event_type("Other"), ..full() },
        full().with_tag(tag("u")),
        full().with_metadata("n"),
        full().with_schema_version(2),
        full().with_correlation_id(Uuid::from_u128(2)),
        full().with_causation_id(Uuid::from_u128(1)),
        full().with_time(Timestamp::from_micros(77)),
    ];
    for other in others {
        refuse(&*store, Append::stream(stream("a"), ExpectedVersion::Any, [other]), taken()).await?;
    }
    refuse(&*store, Append::stream(stream("b"), ExpectedVersion::Any, [full()]), taken()).await?;
    refuse(&*store, Append::events([full()]), taken()).await
}

async fn known_ids_in_another_order_or_with_others_are_refused<S: EventStore>(store: Arc<S>) -> Outcome {
    append(&*store, Append::events(events(0..3))).await?;
    let taken = |number: u64| AppendError::DuplicateEventId { id: event(number).id, position: at(number + 1) };
    refuse(&*store, Append::events([event(1), event(0)]), taken(1)).await?;
    refuse(&*store, Append::events([event(0), event(2)]), taken(0)).await?;
    refuse(&*store, Append::events([event(2), event(3)]), taken(2)).await?;
    refuse(&*store, Append::events([event(3), event(2)]), taken(2)).await?;
    let again = append(&*store, Append::events([event(1), event(2)])).await?;
    same("a part of an append in its order", again, Appended::new(Some((at(2), at(3))), [], true))
}

async fn an_id_twice_in_an_append_is_refused<S: EventStore>(store: Arc<S>) -> Outcome {
    append(&*store, Append::events([event(9)])).await?;
    let twice = Append::events([event(0), event(1), event(0)]);
    refuse(&*store, twice, AppendError::DuplicateEventId { id: event(0).id, position: at(2) }).await
}

async fn a_large_append_is_whole<S: EventStore>(store: Arc<S>) -> Outcome {
    const COUNT: u64 = 5_000;
    append(&*store, Append::events([event(COUNT)])).await?;
    append(&*store, Append::stream(stream("a"), ExpectedVersion::NoStream, events(0..COUNT))).await?;
    let found = read(&*store, Read::stream(stream("a"))).await?;
    same("the number of events", found.len() as u64, COUNT)?;
    let is_right = |(event, number): (&crate::RecordedEvent, u64)| {
        event.position() == at(number + 2)
            && event.stream_version() == Some(StreamVersion::new(number))
            && event.payload() == number.to_string().as_bytes()
    };
    holds("each in its place with its content", found.iter().zip(0..).all(is_right))
}

async fn of_many_appends_for_one_version_one_wins<S: EventStore>(store: Arc<S>) -> Outcome {
    for version in 0..8_u64 {
        let expected = version.checked_sub(1).map_or(ExpectedVersion::NoStream, exact);
        let rivals =
            (0..16).map(|rival| store.append(Append::stream(stream("a"), expected, [event(version * 100 + rival)])));
        let outcomes = futures::future::join_all(rivals).await;
        same("winners", outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1)?;
        let is_refusal = |error: &AppendError| matches!(error, AppendError::WrongExpectedVersion { .. });
        holds("the others are told why", outcomes.iter().filter_map(|o| o.as_ref().err()).all(is_refusal))?;
    }
    same("the events", positions(&*store, Read::stream(stream("a"))).await?, (1..=8).collect())
}

async fn an_append_that_is_not_polled_does_not_happen<S: EventStore>(store: Arc<S>) -> Outcome {
    drop(store.append(Append::events([event(0)])));
    same("the head", store.head().await, Ok(None))?;
    append(&*store, Append::events([event(0)])).await.map(drop)
}
