//! Reads: sources, directions, limits.

use std::sync::Arc;

use futures::StreamExt as _;

use super::{Outcome, append, at, event, event_type, events, list_cases, positions, read, same, stream, tag};
use crate::append::{Append, ExpectedVersion};
use crate::event::StreamVersion;
use crate::query::{Query, QueryItem};
use crate::read::Read;
use crate::store::EventStore;

list_cases![
    an_unknown_stream_reads_as_empty,
    from_is_inclusive_in_both_directions,
    a_from_behind_the_end_is_empty_ahead_and_everything_backwards,
    a_limit_cuts_and_zero_reads_nothing,
    a_query_reads_its_matches_in_both_directions,
    a_long_read_is_whole_in_both_directions,
    a_read_sees_what_was_there_when_it_began,
    a_read_may_be_dropped_half_way,
];

/// Streams a and b in turn, six events each; every third is tagged.
async fn twelve<S: EventStore>(store: &S) -> Outcome {
    for number in 0..12 {
        let event = if number % 3 == 0 { event(number).with_tag(tag("third")) } else { event(number) };
        let name = if number % 2 == 0 { "a" } else { "b" };
        append(store, Append::stream(stream(name), ExpectedVersion::Any, [event])).await?;
    }
    Ok(())
}

async fn an_unknown_stream_reads_as_empty<S: EventStore>(store: Arc<S>) -> Outcome {
    same("in an empty store", positions(&*store, Read::stream(stream("a"))).await?, vec![])?;
    same("all of an empty store", positions(&*store, Read::all().backwards()).await?, vec![])?;
    twelve(&*store).await?;
    same("in a full one", positions(&*store, Read::stream(stream("c")).backwards()).await?, vec![])
}

async fn from_is_inclusive_in_both_directions<S: EventStore>(store: Arc<S>) -> Outcome {
    twelve(&*store).await?;
    let of_a = |version| Read::stream_from(stream("a"), StreamVersion::new(version));
    same("a stream ahead", positions(&*store, of_a(4)).await?, vec![9, 11])?;
    same("a stream back", positions(&*store, of_a(1).backwards()).await?, vec![3, 1])?;
    same("all ahead", positions(&*store, Read::all_from(at(11))).await?, vec![11, 12])?;
    same("all back", positions(&*store, Read::all_from(at(2)).backwards()).await?, vec![2, 1])
}

async fn a_from_behind_the_end_is_empty_ahead_and_everything_backwards<S: EventStore>(store: Arc<S>) -> Outcome {
    twelve(&*store).await?;
    for behind in [6, 1_000, u64::MAX] {
        let of_a = || Read::stream_from(stream("a"), StreamVersion::new(behind));
        same("a stream ahead", positions(&*store, of_a()).await?, vec![])?;
        same("a stream back", positions(&*store, of_a().backwards()).await?, vec![11, 9, 7, 5, 3, 1])?;
    }
    for behind in [13, u64::MAX] {
        same("all ahead", positions(&*store, Read::all_from(at(behind))).await?, vec![])?;
        let back = positions(&*store, Read::all_from(at(behind)).backwards().limit(2)).await?;
        same("all back", back, vec![12, 11])?;
    }
    Ok(())
}

async fn a_limit_cuts_and_zero_reads_nothing<S: EventStore>(store: Arc<S>) -> Outcome {
    twelve(&*store).await?;
    same("two", positions(&*store, Read::all().limit(2)).await?, vec![1, 2])?;
    same("two back", positions(&*store, Read::stream(stream("b")).backwards().limit(2)).await?, vec![12, 10])?;
    same("none", positions(&*store, Read::all().limit(0)).await?, vec![])?;
    same("none back", positions(&*store, Read::stream(stream("a")).backwards().limit(0)).await?, vec![])?;
    same("more than there are", positions(&*store, Read::all().limit(u64::MAX)).await?.len(), 12)
}

async fn a_query_reads_its_matches_in_both_directions<S: EventStore>(store: Arc<S>) -> Outcome {
    twelve(&*store).await?;
    let third = || Query::item(QueryItem::tags([tag("third")]).expect("one tag"));
    same("ahead", positions(&*store, Read::query(third())).await?, vec![1, 4, 7, 10])?;
    same("back", positions(&*store, Read::query(third()).backwards()).await?, vec![10, 7, 4, 1])?;
    same("from a match", positions(&*store, Read::query_from(third(), at(4))).await?, vec![4, 7, 10])?;
    same("from between", positions(&*store, Read::query_from(third(), at(5)).limit(1)).await?, vec![7])?;
    same("back from between", positions(&*store, Read::query_from(third(), at(9)).backwards()).await?, vec![7, 4, 1])?;
    let unknown = Query::item(QueryItem::types([event_type("Never")]).expect("one type"));
    same("of nothing", positions(&*store, Read::query(unknown)).await?, vec![])
}

async fn a_long_read_is_whole_in_both_directions<S: EventStore>(store: Arc<S>) -> Outcome {
    const COUNT: u64 = 3_000;
    for first in (0..COUNT).step_by(500) {
        let some = events(first..first + 500).into_iter().map(|event| event.with_tag(tag("all")));
        append(&*store, Append::stream(stream("a"), ExpectedVersion::Any, some)).await?;
    }
    let tagged = Query::item(QueryItem::tags([tag("all")]).expect("one tag"));
    for source in [Read::all(), Read::stream(stream("a")), Read::query(tagged)] {
        same("ahead", positions(&*store, source.clone()).await?, (1..=COUNT).collect())?;
        same("back", positions(&*store, source.clone().backwards()).await?, (1..=COUNT).rev().collect())?;
        let most = positions(&*store, source.backwards().limit(COUNT - 1)).await?;
        same("all but one", most, (2..=COUNT).rev().collect())?;
    }
    Ok(())
}

async fn a_read_sees_what_was_there_when_it_began<S: EventStore>(store: Arc<S>) -> Outcome {
    append(&*store, Append::events(events(0..1_000))).await?;
    let mut reading = Box::pin(store.read(Read::all()));
    let mut seen = 0;
    while let Some(event) = reading.next().await {
        event.map_err(|error| error.to_string())?;
        if seen == 0 {
            append(&*store, Append::events(events(1_000..1_100))).await?;
        }
        seen += 1;
    }
    same("events of the read", seen, 1_000)?;
    drop(reading);
    same("events of the next one", read(&*store, Read::all()).await?.len(), 1_100)
}

async fn a_read_may_be_dropped_half_way<S: EventStore>(store: Arc<S>) -> Outcome {
    append(&*store, Append::events(events(0..1_000))).await?;
    for taken in [0, 1, 300] {
        let mut reading = Box::pin(store.read(Read::all()));
        for _ in 0..taken {
            reading.next().await.ok_or("the read ended early")?.map_err(|error| error.to_string())?;
        }
    }
    append(&*store, Append::events([event(1_000)])).await?;
    same("all events afterwards", read(&*store, Read::all()).await?.len(), 1_001)
}
