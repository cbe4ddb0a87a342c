//! Subscriptions: cursors, tails, windows.

use std::num::NonZeroU32;
use std::sync::Arc;

use futures::FutureExt as _;

use super::{Outcome, append, at, event, events, holds, list_cases, same, stream, tag};
use crate::append::{Append, ExpectedVersion};
use crate::query::{Query, QueryItem};
use crate::store::EventStore;
use crate::subscription::{AcknowledgeError, Delivery, Subscribe, SubscribeError, Subscription};

list_cases![
    a_subscription_delivers_old_events_and_then_new_ones,
    a_subscription_begins_behind_its_cursor,
    a_tail_begins_with_the_next_event,
    a_query_delivers_its_matches_and_vouches_for_the_rest,
    a_cursor_beyond_the_head_is_an_error,
    a_subscriber_that_pauses_misses_nothing,
    a_sleeping_subscription_is_woken,
    a_window_bounds_what_is_not_acknowledged,
    a_wait_may_be_dropped,
    every_subscriber_gets_every_event,
];

/// What comes next: a position, or `None` for the arrival at the watermark.
async fn next(subscription: &mut Subscription) -> Result<Option<u64>, String> {
    match subscription.next().await {
        Some(Ok(Delivery::Event(event))) => Ok(Some(event.position().get())),
        Some(Ok(Delivery::CaughtUp(_))) => Ok(None),
        other => Err(format!("{other:?} was delivered")),
    }
}

/// The positions that come until the subscription has seen all up to `head`.
async fn until(subscription: &mut Subscription, head: u64) -> Result<Vec<u64>, String> {
    let mut positions = Vec::new();
    loop {
        match subscription.next().await {
            Some(Ok(Delivery::Event(event))) => {
                positions.push(event.position().get());
                if positions.len() as u64 > head {
                    return Err(format!("more than {head} events were delivered up to position {head}"));
                }
            }
            Some(Ok(Delivery::CaughtUp(position))) if position >= Some(at(head)) => return Ok(positions),
            Some(Ok(Delivery::CaughtUp(_))) => {}
            other => return Err(format!("{other:?} was delivered")),
        }
    }
}

async fn a_subscription_delivers_old_events_and_then_new_ones<S: EventStore>(store: Arc<S>) -> Outcome {
    let mut early = store.subscribe(Subscribe::from_start());
    same("nothing in an empty store", early.next().await, Some(Ok(Delivery::CaughtUp(None))))?;
    append(&*store, Append::events(events(0..3))).await?;
    let mut late = store.subscribe(Subscribe::from_start());
    for subscription in [&mut early, &mut late] {
        same("the first three", until(subscription, 3).await?, vec![1, 2, 3])?;
    }
    append(&*store, Append::events(events(3..5))).await?;
    same("the next two", until(&mut early, 5).await?, vec![4, 5])?;
    same("the next two", until(&mut late, 5).await?, vec![4, 5])
}

async fn a_subscription_begins_behind_its_cursor<S: EventStore>(store: Arc<S>) -> Outcome {
    append(&*store, Append::events(events(0..5))).await?;
    same("behind 3", until(&mut store.subscribe(Subscribe::after(at(3))), 5).await?, vec![4, 5])?;
    let mut at_head = store.subscribe(Subscribe::after(at(5)));
    same("at the head", at_head.next().await, Some(Ok(Delivery::CaughtUp(Some(at(5))))))?;
    append(&*store, Append::events([event(5)])).await?;
    same("the next", next(&mut at_head).await?, Some(6))
}

async fn a_tail_begins_with_the_next_event<S: EventStore>(store: Arc<S>) -> Outcome {
    append(&*store, Append::events(events(0..3))).await?;
    let mut tail = store.subscribe(Subscribe::tail());
    same("at the head", tail.next().await, Some(Ok(Delivery::CaughtUp(Some(at(3))))))?;
    append(&*store, Append::events([event(3)])).await?;
    same("the next", next(&mut tail).await?, Some(4))
}

async fn a_query_delivers_its_matches_and_vouches_for_the_rest<S: EventStore>(store: Arc<S>) -> Outcome {
    let tagged =
        |number: u64| if number.is_multiple_of(100) { event(number).with_tag(tag("hundred")) } else { event(number) };
    append(&*store, Append::events((0..1_000).map(tagged))).await?;
    let hundred = Query::item(QueryItem::tags([tag("hundred")]).expect("one tag"));
    let mut subscription = store.subscribe(Subscribe::from_start().query(hundred));
    let expected: Vec<u64> = (0..10).map(|n| n * 100 + 1).collect();
    same("the matches", until(&mut subscription, 1_000).await?, expected)?;
    append(&*store, Append::events([event(1_001)])).await?;
    same("no match", subscription.next().await, Some(Ok(Delivery::CaughtUp(Some(at(1_001))))))?;
    append(&*store, Append::events([event(2_000).with_tag(tag("hundred"))])).await?;
    same("a match", next(&mut subscription).await?, Some(1_002))
}

async fn a_cursor_beyond_the_head_is_an_error<S: EventStore>(store: Arc<S>) -> Outcome {
    let beyond =
        |cursor, head: Option<u64>| Some(Err(SubscribeError::BeyondHead { cursor: at(cursor), head: head.map(at) }));
    same("in an empty store", store.subscribe(Subscribe::after(at(1))).next().await, beyond(1, None))?;
    append(&*store, Append::events(events(0..3))).await?;
    let mut subscription = store.subscribe(Subscribe::after(at(4)));
    same("one too far", subscription.next().await, beyond(4, Some(3)))?;
    append(&*store, Append::events(events(3..9))).await?;
    same("it has ended", subscription.next().await, None)
}

async fn a_subscriber_that_pauses_misses_nothing<S: EventStore>(store: Arc<S>) -> Outcome {
    append(&*store, Append::events([event(0)])).await?;
    let mut subscription = store.subscribe(Subscribe::from_start());
    same("the first", next(&mut subscription).await?, Some(1))?;
    for first in (1..5_001).step_by(100) {
        append(&*store, Append::stream(stream("a"), ExpectedVersion::Any, events(first..first + 100))).await?;
    }
    same("the rest", until(&mut subscription, 5_001).await?, (2..=5_001).collect())
}

async fn a_sleeping_subscription_is_woken<S: EventStore>(store: Arc<S>) -> Outcome {
    let mut subscription = store.subscribe(Subscribe::from_start());
    same("asleep", next(&mut subscription).await?, None)?;
    for number in 0..20 {
        // The wait begins before the append: only a wake-up ends it.
        let (delivered, appended) =
            futures::join!(next(&mut subscription), append(&*store, Append::events([event(number)])));
        appended?;
        same("what woke it", delivered?, Some(number + 1))?;
        same("asleep again", next(&mut subscription).await?, None)?;
    }
    Ok(())
}

async fn a_window_bounds_what_is_not_acknowledged<S: EventStore>(store: Arc<S>) -> Outcome {
    append(&*store, Append::events(events(0..10))).await?;
    let window = NonZeroU32::new(3).expect("not zero");
    let mut subscription = store.subscribe(Subscribe::from_start().window(window));
    for position in 1..=3 {
        same("within the window", next(&mut subscription).await?, Some(position))?;
    }
    holds("a full window holds back", subscription.next().now_or_never().is_none())?;
    let early = Err(AcknowledgeError::NotDelivered { position: at(4) });
    same("what was not delivered", subscription.acknowledge(at(4)), early)?;
    same("two of three", subscription.acknowledge(at(2)), Ok(()))?;
    same("there is room for two", next(&mut subscription).await?, Some(4))?;
    same("there is room for two", next(&mut subscription).await?, Some(5))?;
    holds("full again", subscription.next().now_or_never().is_none())?;
    let acknowledger = subscription.acknowledger();
    let (delivered, acknowledged) = futures::join!(next(&mut subscription), async { acknowledger.acknowledge(at(5)) });
    same("from another task", acknowledged, Ok(()))?;
    same("it goes on", delivered?, Some(6))?;
    same("twice is once", acknowledger.acknowledge(at(1)), Ok(()))?;
    let nothing = Query::item(QueryItem::tags([tag("nowhere")]).expect("one tag"));
    let mut without_events = store.subscribe(Subscribe::from_start().query(nothing).window(window));
    let early = Err(AcknowledgeError::NotDelivered { position: at(10) });
    same("before the arrival", without_events.acknowledge(at(10)), early)?;
    same("the arrival", without_events.next().await, Some(Ok(Delivery::CaughtUp(Some(at(10))))))?;
    same("an arrival is acknowledged", without_events.acknowledge(at(10)), Ok(()))?;
    let without = store.subscribe(Subscribe::from_start());
    same("without a window", without.acknowledge(at(1)), Err(AcknowledgeError::NoWindow))
}

async fn a_wait_may_be_dropped<S: EventStore>(store: Arc<S>) -> Outcome {
    let mut subscription = store.subscribe(Subscribe::from_start());
    same("asleep", next(&mut subscription).await?, None)?;
    for number in 0..5 {
        holds("nothing comes", subscription.next().now_or_never().is_none())?;
        append(&*store, Append::events([event(number)])).await?;
        // Given up before it was there, or with it.
        let given_up = subscription.next().now_or_never();
        let delivered = match given_up {
            Some(Some(Ok(Delivery::Event(event)))) => Some(event.position().get()),
            Some(other) => return Err(format!("{other:?} was delivered")),
            None => next(&mut subscription).await?,
        };
        same("the next one", delivered, Some(number + 1))?;
        same("asleep again", next(&mut subscription).await?, None)?;
    }
    Ok(())
}

async fn every_subscriber_gets_every_event<S: EventStore>(store: Arc<S>) -> Outcome {
    const EVENTS: u64 = 200;
    let mut subscribers: Vec<Subscription> = (0..20).map(|_| store.subscribe(Subscribe::from_start())).collect();
    let writing = async {
        for number in 0..EVENTS {
            append(&*store, Append::events([event(number)])).await?;
        }
        Outcome::Ok(())
    };
    let reading = futures::future::join_all(subscribers.iter_mut().map(|subscriber| until(subscriber, EVENTS)));
    let (read, written) = futures::join!(reading, writing);
    written?;
    for positions in read {
        same("all in order", positions?, (1..=EVENTS).collect())?;
    }
    Ok(())
}
