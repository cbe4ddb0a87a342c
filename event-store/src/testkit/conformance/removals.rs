//! Truncated and deleted streams.

use std::sync::Arc;

use super::{Outcome, append, at, event, events, exact, holds, list_cases, positions, read, refuse, same, stream, tag};
use crate::append::{Append, AppendCondition, Appended, ExpectedVersion};
use crate::error::{AppendError, Clause};
use crate::event::StreamVersion;
use crate::query::{Query, QueryItem};
use crate::read::Read;
use crate::store::EventStore;
use crate::subscription::{Delivery, Subscribe};

list_cases![
    a_truncated_stream_keeps_its_tail_with_its_versions,
    a_deleted_stream_has_no_events_and_its_versions_go_on,
    removed_positions_stay_used_and_reads_skip_them,
    a_read_with_a_limit_counts_what_is_there,
    conditions_do_not_see_what_is_removed,
    ids_of_removed_events_are_free,
    a_repetition_of_what_is_partly_removed_is_refused,
    subscriptions_skip_what_is_removed_and_vouch_for_it,
    a_removal_of_nothing_changes_nothing,
    an_append_and_a_check_in_a_deleted_stream_answer_as_in_a_new_one,
    many_streams_come_and_go,
];

fn version(number: u64) -> StreamVersion {
    StreamVersion::new(number)
}

/// Streams a and b in turn, six events each, tagged with the name of their stream; the last one, at 13, belongs to none.
async fn thirteen<S: EventStore>(store: &S) -> Outcome {
    for number in 0..12 {
        let name = if number % 2 == 0 { "a" } else { "b" };
        let tagged = event(number).with_tag(tag(name));
        append(store, Append::stream(stream(name), ExpectedVersion::Any, [tagged])).await?;
    }
    append(store, Append::events([event(12).with_tag(tag("a"))])).await.map(drop)
}

fn tagged(name: &str) -> Query {
    Query::item(QueryItem::tags([tag(name)]).expect("one tag"))
}

async fn truncate<S: EventStore>(store: &S, name: &str, before: u64, expected: u64) -> Outcome {
    same("events removed", store.truncate_stream(&stream(name), version(before)).await, Ok(expected))
}

async fn delete<S: EventStore>(store: &S, name: &str, expected: u64) -> Outcome {
    same("events removed", store.delete_stream(&stream(name)).await, Ok(expected))
}

async fn versions<S: EventStore>(store: &S, query: Read) -> Result<Vec<Option<u64>>, String> {
    Ok(read(store, query).await?.iter().map(|event| event.stream_version().map(StreamVersion::get)).collect())
}

async fn a_truncated_stream_keeps_its_tail_with_its_versions<S: EventStore>(store: Arc<S>) -> Outcome {
    thirteen(&*store).await?;
    truncate(&*store, "a", 4, 4).await?;
    let of_a = || Read::stream(stream("a"));
    same("its positions", positions(&*store, of_a()).await?, vec![9, 11])?;
    same("its versions", versions(&*store, of_a()).await?, vec![Some(4), Some(5)])?;
    same("back", positions(&*store, of_a().backwards()).await?, vec![11, 9])?;
    let from = |version| Read::stream_from(stream("a"), StreamVersion::new(version));
    same("from what is gone", positions(&*store, from(1)).await?, vec![9, 11])?;
    same("back from what is gone", positions(&*store, from(3).backwards()).await?, vec![])?;
    same("back from what is there", positions(&*store, from(4).backwards()).await?, vec![9])?;
    same("the other stream", positions(&*store, Read::stream(stream("b"))).await?, vec![2, 4, 6, 8, 10, 12])?;
    same("its version", store.stream_version(&stream("a")).await, Ok(Some(version(5))))?;
    let next = append(&*store, Append::stream(stream("a"), exact(5), [event(20)])).await?;
    same("the next version", next.versions().to_vec(), vec![(stream("a"), version(6))])?;
    truncate(&*store, "a", 6, 2).await?;
    same("what is left", versions(&*store, of_a()).await?, vec![Some(6)])
}

async fn a_deleted_stream_has_no_events_and_its_versions_go_on<S: EventStore>(store: Arc<S>) -> Outcome {
    thirteen(&*store).await?;
    delete(&*store, "a", 6).await?;
    same("its events", positions(&*store, Read::stream(stream("a"))).await?, vec![])?;
    same("back", positions(&*store, Read::stream(stream("a")).backwards()).await?, vec![])?;
    same("its version", store.stream_version(&stream("a")).await, Ok(None))?;
    for expected in [ExpectedVersion::Exists, exact(5), exact(0)] {
        let wrong = AppendError::WrongExpectedVersion { stream: stream("a"), expected, actual: None };
        refuse(&*store, Append::stream(stream("a"), expected, [event(20)]), wrong).await?;
    }
    let anew = Append::stream(stream("a"), ExpectedVersion::NoStream, events(20..22));
    let answer = Appended::new(Some((at(14), at(15))), [(stream("a"), version(7))], false);
    same("the answer to an append", append(&*store, anew).await?, answer)?;
    same("the versions", versions(&*store, Read::stream(stream("a"))).await?, vec![Some(6), Some(7)])?;
    append(&*store, Append::stream(stream("a"), exact(7), [event(22)])).await?;
    delete(&*store, "a", 3).await?;
    append(&*store, Append::stream(stream("a"), ExpectedVersion::Any, [event(23)])).await?;
    same("the versions", versions(&*store, Read::stream(stream("a"))).await?, vec![Some(9)])
}

async fn removed_positions_stay_used_and_reads_skip_them<S: EventStore>(store: Arc<S>) -> Outcome {
    thirteen(&*store).await?;
    delete(&*store, "b", 6).await?;
    same("all", positions(&*store, Read::all()).await?, vec![1, 3, 5, 7, 9, 11, 13])?;
    same("all back", positions(&*store, Read::all().backwards()).await?, vec![13, 11, 9, 7, 5, 3, 1])?;
    same("from what is gone", positions(&*store, Read::all_from(at(4))).await?, vec![5, 7, 9, 11, 13])?;
    same("back from what is gone", positions(&*store, Read::all_from(at(4)).backwards()).await?, vec![3, 1])?;
    same("its tag", positions(&*store, Read::query(tagged("b"))).await?, vec![])?;
    same("the other tag", positions(&*store, Read::query(tagged("a"))).await?, vec![1, 3, 5, 7, 9, 11, 13])?;
    let of_type = || Query::item(QueryItem::types([super::event_type("Happened")]).expect("one type"));
    same("by type", positions(&*store, Read::query(of_type())).await?, vec![1, 3, 5, 7, 9, 11, 13])?;
    same("back by type", positions(&*store, Read::query(of_type()).backwards()).await?, vec![13, 11, 9, 7, 5, 3, 1])?;
    append(&*store, Append::stream(stream("c"), ExpectedVersion::NoStream, [event(30)])).await?;
    delete(&*store, "c", 1).await?;
    same("the head, which is gone", store.head().await, Ok(Some(at(14))))?;
    let next = append(&*store, Append::events([event(31)])).await?;
    same("the next position", next.positions, Some((at(15), at(15))))
}

async fn a_read_with_a_limit_counts_what_is_there<S: EventStore>(store: Arc<S>) -> Outcome {
    thirteen(&*store).await?;
    truncate(&*store, "a", 3, 3).await?;
    same("all", positions(&*store, Read::all().limit(4)).await?, vec![2, 4, 6, 7])?;
    same("back", positions(&*store, Read::all_from(at(8)).backwards().limit(4)).await?, vec![8, 7, 6, 4])?;
    same("the stream", positions(&*store, Read::stream(stream("a")).limit(2)).await?, vec![7, 9])?;
    same("the tag", positions(&*store, Read::query(tagged("a")).limit(2)).await?, vec![7, 9])
}

async fn conditions_do_not_see_what_is_removed<S: EventStore>(store: Arc<S>) -> Outcome {
    thirteen(&*store).await?;
    let guarded =
        |number, name: &str| Append::events([event(number)]).condition(AppendCondition::fail_if_exists(tagged(name)));
    let failed = |clause, position| AppendError::ConditionFailed { clause, position: at(position) };
    refuse(&*store, guarded(20, "b"), failed(Clause::Existence, 2)).await?;
    truncate(&*store, "b", 5, 5).await?;
    refuse(&*store, guarded(20, "b"), failed(Clause::Existence, 12)).await?;
    delete(&*store, "b", 1).await?;
    append(&*store, guarded(20, "b")).await?;
    delete(&*store, "a", 6).await?;
    refuse(&*store, guarded(21, "a"), failed(Clause::Existence, 13)).await?;
    let everything = |after| {
        let boundary = AppendCondition::fail_if_events_match(Query::All).after(at(after));
        Append::events([event(22)]).condition(boundary)
    };
    refuse(&*store, everything(1), failed(Clause::Boundary, 13)).await?;
    append(&*store, everything(14)).await.map(drop)
}

async fn ids_of_removed_events_are_free<S: EventStore>(store: Arc<S>) -> Outcome {
    let first = || Append::stream(stream("a"), ExpectedVersion::NoStream, events(0..3));
    append(&*store, first()).await?;
    delete(&*store, "a", 3).await?;
    let again = append(&*store, first()).await?;
    same("an append like any other", again, Appended::new(Some((at(4), at(6))), [(stream("a"), version(5))], false))?;
    let repeated = append(&*store, first()).await?;
    same("and then it is known", repeated.deduplicated, true)?;
    same("the positions", positions(&*store, Read::all()).await?, vec![4, 5, 6])
}

async fn a_repetition_of_what_is_partly_removed_is_refused<S: EventStore>(store: Arc<S>) -> Outcome {
    let whole = || Append::stream(stream("a"), ExpectedVersion::Any, events(0..4));
    append(&*store, whole()).await?;
    truncate(&*store, "a", 2, 2).await?;
    let taken = AppendError::DuplicateEventId { id: event(2).id, position: at(3) };
    refuse(&*store, whole(), taken).await?;
    let rest = append(&*store, Append::stream(stream("a"), ExpectedVersion::Any, events(2..4))).await?;
    same("what is left", rest, Appended::new(Some((at(3), at(4))), [(stream("a"), version(3))], true))
}

async fn subscriptions_skip_what_is_removed_and_vouch_for_it<S: EventStore>(store: Arc<S>) -> Outcome {
    thirteen(&*store).await?;
    delete(&*store, "a", 6).await?;
    append(&*store, Append::stream(stream("c"), ExpectedVersion::Any, [event(20)])).await?;
    delete(&*store, "c", 1).await?;
    let mut subscription = store.subscribe(Subscribe::after(at(3)));
    let mut delivered = Vec::new();
    loop {
        match subscription.next().await {
            Some(Ok(Delivery::Event(event))) if delivered.len() < 13 => delivered.push(event.position().get()),
            Some(Ok(Delivery::CaughtUp(position))) => {
                same("the arrival", position, Some(at(14)))?;
                break;
            }
            other => return Err(format!("{other:?} was delivered")),
        }
    }
    same("what is there", delivered, vec![4, 6, 8, 10, 12, 13])?;
    append(&*store, Append::stream(stream("a"), ExpectedVersion::NoStream, [event(21)])).await?;
    match subscription.next().await {
        Some(Ok(Delivery::Event(event))) => same("the next", event.position(), at(15)),
        other => Err(format!("{other:?} was delivered")),
    }
}

async fn a_removal_of_nothing_changes_nothing<S: EventStore>(store: Arc<S>) -> Outcome {
    delete(&*store, "unknown", 0).await?;
    truncate(&*store, "unknown", 7, 0).await?;
    same("the head", store.head().await, Ok(None))?;
    append(&*store, Append::stream(stream("unknown"), ExpectedVersion::NoStream, [event(0)])).await?;
    same("versions from 0", versions(&*store, Read::all()).await?, vec![Some(0)])?;
    truncate(&*store, "unknown", 0, 0).await?;
    append(&*store, Append::stream(stream("unknown"), exact(0), events(1..5))).await?;
    truncate(&*store, "unknown", 3, 3).await?;
    truncate(&*store, "unknown", 2, 0).await?;
    same("what is left", positions(&*store, Read::all()).await?, vec![4, 5])?;
    truncate(&*store, "unknown", u64::MAX, 2).await?;
    delete(&*store, "unknown", 0).await?;
    same("no version", store.stream_version(&stream("unknown")).await, Ok(None))
}

async fn an_append_and_a_check_in_a_deleted_stream_answer_as_in_a_new_one<S: EventStore>(store: Arc<S>) -> Outcome {
    append(&*store, Append::stream(stream("a"), ExpectedVersion::Any, events(0..2))).await?;
    delete(&*store, "a", 2).await?;
    let check = append(&*store, Append::stream(stream("a"), ExpectedVersion::NoStream, [])).await?;
    same("a check", check, Appended::new(None, [], false))?;
    let twice = Append::stream(stream("a"), ExpectedVersion::NoStream, [event(2)]).and_stream(
        stream("a"),
        exact(2),
        [event(3)],
    );
    append(&*store, twice).await?;
    same("the version", store.stream_version(&stream("a")).await, Ok(Some(version(3))))
}

/// More than fits in the memory that a store may take at a time: each stream is written while others are there, and then removed.
async fn many_streams_come_and_go<S: EventStore>(store: Arc<S>) -> Outcome {
    const STREAMS: u64 = 60;
    const ALIVE: u64 = 7;
    const EVENTS: u64 = 20;
    let name = |number: u64| format!("flow-{number}");
    for number in 0..STREAMS {
        for part in 0..2 {
            let first = number * EVENTS + part * EVENTS / 2;
            let some = events(first..first + EVENTS / 2)
                .into_iter()
                .map(|event| event.with_metadata(vec![number as u8; 1_024]).with_tag(tag(&name(number % 3))));
            append(&*store, Append::stream(stream(&name(number)), ExpectedVersion::Any, some)).await?;
        }
        if number == 3 {
            append(&*store, Append::stream(stream("kept"), ExpectedVersion::NoStream, [event(1_000_000)])).await?;
        }
        if let Some(old) = number.checked_sub(ALIVE) {
            delete(&*store, &name(old), EVENTS).await?;
        }
    }
    let kept = 4 * EVENTS + 1;
    let first = (STREAMS - ALIVE) * EVENTS + 2;
    let expected: Vec<u64> = std::iter::once(kept).chain(first..first + ALIVE * EVENTS).collect();
    same("what is left", positions(&*store, Read::all()).await?, expected.clone())?;
    let back: Vec<u64> = expected.iter().rev().copied().collect();
    same("back", positions(&*store, Read::all().backwards()).await?, back)?;
    let events = read(&*store, Read::all()).await?;
    let is_right = |event: &crate::RecordedEvent| match event.position().get() {
        position if position == kept => event.payload() == b"1000000",
        position => {
            let number = (position - 2) / EVENTS;
            event.payload() == (position - 2).to_string().as_bytes() && event.metadata() == vec![number as u8; 1_024]
        }
    };
    holds("with its content", events.iter().all(is_right))?;
    let third = read(&*store, Read::query(tagged(&name(1)))).await?;
    let expected = (STREAMS - ALIVE..STREAMS).filter(|number| number % 3 == 1).count() as u64 * EVENTS;
    same("by tag", third.len() as u64, expected)
}
