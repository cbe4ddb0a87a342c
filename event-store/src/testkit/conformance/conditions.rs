//! Append conditions and the order of verdicts.

use std::sync::Arc;

use super::{Outcome, append, at, event, event_type, exact, list_cases, positions, refuse, same, stream, tag};
use crate::append::{Append, AppendCondition, ExpectedVersion};
use crate::error::{AppendError, Clause};
use crate::event::NewEvent;
use crate::query::{Query, QueryItem};
use crate::read::Read;
use crate::store::EventStore;

list_cases![
    a_boundary_fails_for_a_match_behind_it_and_not_for_one_before,
    a_boundary_without_a_position_looks_everywhere,
    a_boundary_in_the_future_holds,
    an_existence_guard_looks_everywhere,
    an_item_asks_for_any_of_its_types_and_all_of_its_tags,
    items_are_alternatives,
    every_event_matches_the_query_for_all,
    the_first_match_is_named,
    ids_go_before_versions_before_boundary_before_existence,
    a_condition_and_an_expected_version_hold_together,
    a_condition_without_events_is_a_check,
    of_two_decisions_on_one_state_one_holds,
];

fn of_type(name: &str) -> QueryItem {
    QueryItem::types([event_type(name)]).expect("one type")
}

fn of_tag(name: &str) -> QueryItem {
    QueryItem::tags([tag(name)]).expect("one tag")
}

fn typed(number: u64, name: &str) -> NewEvent {
    NewEvent { event_type: event_type(name), ..event(number) }
}

fn failed(clause: Clause, position: u64) -> AppendError {
    AppendError::ConditionFailed { clause, position: at(position) }
}

/// Events 0 to 3, each with a tag of its number, two of type `Even` and two of type `Odd`.
async fn four<S: EventStore>(store: &S) -> Outcome {
    let events = (0..4).map(|n| typed(n, if n % 2 == 0 { "Even" } else { "Odd" }).with_tag(tag(&format!("n:{n}"))));
    append(store, Append::events(events)).await.map(drop)
}

async fn a_boundary_fails_for_a_match_behind_it_and_not_for_one_before<S: EventStore>(store: Arc<S>) -> Outcome {
    four(&*store).await?;
    let boundary = |after| AppendCondition::fail_if_events_match(Query::item(of_tag("n:2"))).after(at(after));
    let decided = |after| Append::events([event(9)]).condition(boundary(after));
    refuse(&*store, decided(1), failed(Clause::Boundary, 3)).await?;
    refuse(&*store, decided(2), failed(Clause::Boundary, 3)).await?;
    append(&*store, decided(3)).await?;
    same("the positions", positions(&*store, Read::all()).await?, vec![1, 2, 3, 4, 5])
}

async fn a_boundary_without_a_position_looks_everywhere<S: EventStore>(store: Arc<S>) -> Outcome {
    four(&*store).await?;
    let decided = |item| Append::events([event(9)]).condition(AppendCondition::fail_if_events_match(Query::item(item)));
    refuse(&*store, decided(of_tag("n:0")), failed(Clause::Boundary, 1)).await?;
    append(&*store, decided(of_tag("n:9"))).await.map(drop)
}

async fn a_boundary_in_the_future_holds<S: EventStore>(store: Arc<S>) -> Outcome {
    four(&*store).await?;
    for (number, after) in [(10, 4), (11, 100), (12, u64::MAX)] {
        let boundary = AppendCondition::fail_if_events_match(Query::item(of_type("Even"))).after(at(after));
        append(&*store, Append::events([event(number)]).condition(boundary)).await?;
    }
    Ok(())
}

async fn an_existence_guard_looks_everywhere<S: EventStore>(store: Arc<S>) -> Outcome {
    four(&*store).await?;
    let guarded =
        |name| Append::events([event(9)]).condition(AppendCondition::fail_if_exists(Query::item(of_tag(name))));
    refuse(&*store, guarded("n:3"), failed(Clause::Existence, 4)).await?;
    append(&*store, guarded("n:4")).await.map(drop)
}

async fn an_item_asks_for_any_of_its_types_and_all_of_its_tags<S: EventStore>(store: Arc<S>) -> Outcome {
    let both = typed(0, "A").with_tag(tag("x")).with_tag(tag("y"));
    append(&*store, Append::events([both, typed(1, "B").with_tag(tag("x")), typed(2, "C")])).await?;
    let tags = |names: &[&str]| QueryItem::tags(names.iter().map(|name| tag(name))).expect("some tag");
    for (item, expected) in [
        (tags(&["x"]), vec![1, 2]),
        (tags(&["x", "y"]), vec![1]),
        (tags(&["x", "z"]), vec![]),
        (of_type("A").of_types([event_type("C")]), vec![1, 3]),
        (tags(&["x"]).of_types([event_type("B"), event_type("C")]), vec![2]),
        (tags(&["y"]).of_types([event_type("B")]), vec![]),
    ] {
        let query = Query::item(item);
        same("a read", positions(&*store, Read::query(query.clone())).await?, expected.clone())?;
        let guarded =
            Append::stream(stream("s"), ExpectedVersion::Any, []).condition(AppendCondition::fail_if_exists(query));
        let verdict = store.append(guarded).await.map(|_| ());
        let expected = expected.first().map_or(Ok(()), |first| Err(failed(Clause::Existence, *first)));
        same("a guard", verdict, expected)?;
    }
    Ok(())
}

async fn items_are_alternatives<S: EventStore>(store: Arc<S>) -> Outcome {
    four(&*store).await?;
    let query = || Query::items([of_tag("n:3"), of_type("Even"), of_tag("n:0")]).expect("three items");
    same("each match once, in order", positions(&*store, Read::query(query())).await?, vec![1, 3, 4])?;
    let boundary = AppendCondition::fail_if_events_match(query()).after(at(3));
    refuse(&*store, Append::events([event(9)]).condition(boundary), failed(Clause::Boundary, 4)).await
}

async fn every_event_matches_the_query_for_all<S: EventStore>(store: Arc<S>) -> Outcome {
    let nothing_else = |after| AppendCondition::fail_if_events_match(Query::All).after(at(after));
    append(&*store, Append::events([event(8)]).condition(AppendCondition::fail_if_exists(Query::All))).await?;
    append(&*store, Append::events([event(9)]).condition(nothing_else(1))).await?;
    refuse(&*store, Append::events([event(10)]).condition(nothing_else(1)), failed(Clause::Boundary, 2)).await
}

async fn the_first_match_is_named<S: EventStore>(store: Arc<S>) -> Outcome {
    four(&*store).await?;
    let query = || Query::items([of_tag("n:3"), of_type("Odd")]).expect("two items");
    let guarded = Append::events([event(9)]).condition(AppendCondition::fail_if_exists(query()));
    refuse(&*store, guarded, failed(Clause::Existence, 2)).await?;
    let boundary = AppendCondition::fail_if_events_match(query()).after(at(2));
    refuse(&*store, Append::events([event(9)]).condition(boundary), failed(Clause::Boundary, 4)).await
}

async fn ids_go_before_versions_before_boundary_before_existence<S: EventStore>(store: Arc<S>) -> Outcome {
    four(&*store).await?;
    let boundary = || AppendCondition::fail_if_events_match(Query::item(of_type("Odd")));
    let both = || boundary().and_fail_if_exists(Query::item(of_type("Even")));
    let everything = |number, expected| Append::stream(stream("s"), expected, [event(number)]).condition(both());
    let taken = AppendError::DuplicateEventId { id: event(0).id, position: at(1) };
    refuse(&*store, everything(0, exact(5)), taken).await?;
    let wrong = AppendError::WrongExpectedVersion { stream: stream("s"), expected: exact(5), actual: None };
    refuse(&*store, everything(9, exact(5)), wrong).await?;
    refuse(&*store, everything(9, ExpectedVersion::NoStream), failed(Clause::Boundary, 2)).await?;
    let late = Append::events([event(9)]).condition(both().after(at(4)));
    refuse(&*store, late, failed(Clause::Existence, 1)).await
}

async fn a_condition_and_an_expected_version_hold_together<S: EventStore>(store: Arc<S>) -> Outcome {
    four(&*store).await?;
    let boundary = |after| AppendCondition::fail_if_events_match(Query::item(of_type("Odd"))).after(at(after));
    let to_stream = |number| Append::stream(stream("s"), ExpectedVersion::NoStream, [event(number)]);
    append(&*store, to_stream(9).condition(boundary(4))).await?;
    let wrong = AppendError::WrongExpectedVersion {
        stream: stream("s"),
        expected: ExpectedVersion::NoStream,
        actual: Some(crate::StreamVersion::FIRST),
    };
    refuse(&*store, to_stream(10).condition(boundary(4)), wrong).await
}

async fn a_condition_without_events_is_a_check<S: EventStore>(store: Arc<S>) -> Outcome {
    four(&*store).await?;
    let check = |name| Append::events([]).condition(AppendCondition::fail_if_exists(Query::item(of_tag(name))));
    refuse(&*store, check("n:1"), failed(Clause::Existence, 2)).await?;
    let answer = append(&*store, check("n:9")).await?;
    same("no positions", answer.positions, None)
}

async fn of_two_decisions_on_one_state_one_holds<S: EventStore>(store: Arc<S>) -> Outcome {
    four(&*store).await?;
    for round in 0..8 {
        let known = store.head().await.map_err(|error| error.to_string())?.expect("four events");
        let decided = |number| {
            let boundary = AppendCondition::fail_if_events_match(Query::item(of_tag("seat"))).after(known);
            store.append(Append::events([event(number).with_tag(tag("seat"))]).condition(boundary))
        };
        let rivals = (0..8).map(|rival| decided(100 + round * 8 + rival));
        let outcomes = futures::future::join_all(rivals).await;
        same("decisions that hold", outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1)?;
    }
    Ok(())
}
