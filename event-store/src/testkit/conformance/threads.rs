//! What holds when several threads are at work on one store.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use futures::future::{Either, select};

use super::histories::judge;
use super::{BlockOn, Case, Outcome, append, event, event_type, same, stream, tag};
use crate::append::{Append, AppendCondition, ExpectedVersion};
use crate::error::AppendError;
use crate::event::StreamVersion;
use crate::query::{Query, QueryItem};
use crate::snapshot::SnapshotStore;
use crate::store::EventStore;
use crate::subscription::{Delivery, Subscribe};
use crate::testkit::{Exercise, exercise_in_threads_by};

const RACERS: u64 = 8;
const RACES: u64 = 20;
/// How long a writer waits for what it has written to be delivered.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn list<S: EventStore + SnapshotStore>() -> Vec<Case<S>> {
    vec![
        Case {
            name: "a_random_history_on_threads_has_no_anomalies",
            run: |store, block_on| on_a_thread(move || a_random_history(&store, &block_on)),
        },
        Case {
            name: "a_subscription_falling_asleep_is_woken_by_a_racing_append",
            run: |store, block_on| on_a_thread(move || a_racing_append(&store, &block_on)),
        },
        Case {
            name: "of_racing_appends_that_expect_the_same_version_one_wins",
            run: |store, block_on| on_a_thread(move || racing_versions(&store, &block_on)),
        },
        Case {
            name: "of_racing_appends_under_the_same_condition_one_wins",
            run: |store, block_on| on_a_thread(move || racing_conditions(&store, &block_on)),
        },
    ]
}

/// What blocks does so on a thread of its own: the suite may be the only task of its executor.
fn on_a_thread(case: impl FnOnce() -> Outcome + Send + 'static) -> crate::BoxFuture<'static, Outcome> {
    let (done, outcome) = oneshot::channel();
    thread::spawn(move || {
        let _ = done.send(case());
    });
    Box::pin(async { outcome.await.unwrap_or_else(|_| Err("a thread of the case panicked".to_owned())) })
}

/// The output of a future that `block_on` drives.
fn drive<T: Send>(block_on: &BlockOn, future: impl Future<Output = T> + Send) -> Result<T, String> {
    let mut output = None;
    block_on(Box::pin(async { output = Some(future.await) }));
    output.ok_or_else(|| "the future was not driven to its end".to_owned())
}

fn a_random_history<S: EventStore + SnapshotStore>(store: &Arc<S>, block_on: &BlockOn) -> Outcome {
    judge(&exercise_in_threads_by(&**block_on, store, Exercise { seed: 2, ..Exercise::default() }))
}

/// Each append waits until the last one was delivered: the subscription is about to sleep when it comes. Whoever ends first, well or
/// not, lets the other one go.
fn a_racing_append<S: EventStore>(store: &Arc<S>, block_on: &BlockOn) -> Outcome {
    const EVENTS: u64 = 200;
    let (delivered, reader_ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let (writing, mut writer_ended) = oneshot::channel::<()>();
    let mut subscription = store.subscribe(Subscribe::from_start());
    let reading = async {
        for next in 1..=EVENTS {
            loop {
                let delivery = match select(pin!(subscription.next()), &mut writer_ended).await {
                    Either::Left((delivery, _)) => delivery,
                    Either::Right(_) => return Err("the reader waits in vain".to_owned()),
                };
                match delivery {
                    Some(Ok(Delivery::Event(event))) => {
                        same("the next event", event.position().get(), next)?;
                        break;
                    }
                    Some(Ok(Delivery::CaughtUp(_))) => {}
                    other => return Err(format!("{other:?} was delivered")),
                }
            }
            delivered.store(next, Ordering::Release);
        }
        Outcome::Ok(())
    };
    let wait_for = |number: u64| {
        let end = Instant::now() + PATIENCE;
        while delivered.load(Ordering::Acquire) < number {
            if reader_ended.load(Ordering::Acquire) {
                return Err("the reader has ended".to_owned());
            }
            if Instant::now() > end {
                return Err(format!("event {number} was not delivered in {PATIENCE:?}"));
            }
            thread::yield_now();
        }
        Ok(())
    };
    thread::scope(|scope| {
        let write = || {
            for number in 0..EVENTS {
                wait_for(number)?;
                drive(block_on, append(&**store, Append::events([event(number)])))??;
            }
            wait_for(EVENTS)
        };
        let writer = scope.spawn(move || {
            let outcome = write();
            drop(writing);
            outcome
        });
        let read = drive(block_on, reading).flatten();
        reader_ended.store(true, Ordering::Release);
        let written = writer.join().unwrap_or_else(|_| Err("the writer panicked".to_owned()));
        match (read, written) {
            (Err(reader), Err(writer)) => Err(format!("{writer}; {reader}")),
            (read, written) => read.and(written),
        }
    })
}

fn racing_versions<S: EventStore>(store: &Arc<S>, block_on: &BlockOn) -> Outcome {
    race(store, block_on, |race, racer| {
        let stream = stream(&format!("race-{race}"));
        let lost = AppendError::WrongExpectedVersion {
            stream: stream.clone(),
            expected: ExpectedVersion::NoStream,
            actual: Some(StreamVersion::new(0)),
        };
        let append = Append::stream(stream, ExpectedVersion::NoStream, [event(race * RACERS + racer)]);
        (append, move |error: &AppendError| *error == lost)
    })
}

fn racing_conditions<S: EventStore>(store: &Arc<S>, block_on: &BlockOn) -> Outcome {
    race(store, block_on, |race, racer| {
        let tag = tag(&format!("race:{race}"));
        let item = QueryItem::tags([tag.clone()]).expect("one tag").of_types([event_type("Happened")]);
        let query = Query::item(item);
        let event = event(race * RACERS + racer).with_tag(tag);
        let append = Append::events([event]).condition(AppendCondition::fail_if_exists(query));
        (append, |error: &AppendError| matches!(error, AppendError::ConditionFailed { .. }))
    })
}

/// Each race begins at a barrier; `of` gives a racer's append and tells how it may lose.
fn race<S: EventStore, L>(store: &Arc<S>, block_on: &BlockOn, of: impl Fn(u64, u64) -> (Append, L) + Sync) -> Outcome
where
    L: Fn(&AppendError) -> bool,
{
    let start = Barrier::new(RACERS as usize);
    let winners: Vec<AtomicU64> = (0..RACES).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        let race = |racer: u64| {
            // A racer that fails goes on: the others wait for it at the barrier.
            let mut outcome = Outcome::Ok(());
            for race in 0..RACES {
                let (append, has_lost) = of(race, racer);
                start.wait();
                let appending = AssertUnwindSafe(|| drive(block_on, store.append(append)));
                match catch_unwind(appending).unwrap_or_else(|_| Err("a racer panicked".to_owned())) {
                    Ok(Ok(_)) => {
                        winners[race as usize].fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(Err(error)) if has_lost(&error) => {}
                    Ok(Err(error)) => outcome = Err(format!("a racer was refused with: {error}")),
                    Err(why) => outcome = Err(why),
                }
            }
            outcome
        };
        let racers: Vec<_> = (0..RACERS).map(|racer| scope.spawn(move || race(racer))).collect();
        let mut outcomes = racers.into_iter().map(thread::ScopedJoinHandle::join);
        outcomes.try_for_each(|outcome| outcome.unwrap_or_else(|_| Err("a racer panicked".to_owned())))
    })?;
    let winners: Vec<u64> = winners.into_iter().map(AtomicU64::into_inner).collect();
    same("winners of each race", winners, vec![1; RACES as usize])
}
