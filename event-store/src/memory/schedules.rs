//! Random schedules of a writer, 64 appenders and subscribers, where loom's every schedule would be too many.
//!
//! `RUSTFLAGS="--cfg event_store_shuttle" cargo test -p event-store --features testkit --lib --release shuttle`; `SCHEDULES` says
//! how many.

use std::num::NonZeroU32;
use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread;

use super::MemoryStore;
use crate::append::{Append, ExpectedVersion};
use crate::error::AppendError;
use crate::event::{EventId, NewEvent, Position, Timestamp};
use crate::name::{EventType, StreamId};
use crate::read::Read;
use crate::subscription::{Delivery, Subscribe};
use crate::testkit::{Recorder, check};

const APPENDERS: u64 = 64;
const BATCHES: u64 = 4;
/// Events of a batch: enough to be adopted instead of copied.
const BATCH: u64 = 70;
const SUBSCRIBERS: usize = 3;
const WINDOW: NonZeroU32 = NonZeroU32::new(2).expect("not 0");
const EVENTS: u64 = APPENDERS + BATCHES * BATCH;

fn schedules() -> usize {
    std::env::var("SCHEDULES").map_or(100, |number| number.parse().expect("a number"))
}

fn event(number: u64) -> NewEvent {
    let kind = EventType::new("Happened").expect("a valid type");
    NewEvent::with_given_id(EventId::from_u128(u128::from(number) + 1), kind, number.to_le_bytes().to_vec())
        .with_time(Timestamp::from_micros(0))
}

/// Everyone at once on one store; what they saw is held against the contract.
fn everyone() {
    let store = Arc::new(MemoryStore::new());
    let recorder = Recorder::new(Arc::clone(&store));
    let mut threads = Vec::new();
    for number in 0..SUBSCRIBERS {
        // The first acknowledges from a thread of its own and is held back at times.
        let subscribe = Subscribe::from_start();
        let subscribe = if number == 0 { subscribe.window(WINDOW) } else { subscribe };
        let mut subscriber = recorder.client().subscribe(subscribe);
        if number == 0 {
            threads.push(thread::spawn({
                let acknowledger = subscriber.subscription().acknowledger();
                move || {
                    let mut done = 0;
                    while done < EVENTS {
                        // What is not delivered yet is refused and changes nothing.
                        match acknowledger.acknowledge(Position::new(done + 1).expect("from 1")) {
                            Ok(()) => done += 1,
                            Err(_) => thread::yield_now(),
                        }
                    }
                }
            }));
        }
        threads.push(thread::spawn(move || {
            block_on(async {
                let mut next = 1;
                while next <= EVENTS {
                    match subscriber.next().await {
                        Some(Ok(Delivery::Event(event))) => {
                            assert_eq!(event.position().get(), next);
                            next += 1;
                        }
                        Some(Ok(Delivery::CaughtUp(position))) => {
                            assert_eq!(position.map_or(0, Position::get), next - 1);
                        }
                        other => panic!("{other:?}"),
                    }
                }
            });
        }));
    }
    let client = recorder.client();
    threads.push(thread::spawn(move || {
        let bulk = StreamId::new("bulk").expect("a valid stream");
        for batch in 0..BATCHES {
            let first = 1_000 + batch * BATCH;
            let append = Append::stream(bulk.clone(), ExpectedVersion::Any, (first..first + BATCH).map(event));
            block_on(client.append(append)).expect("nothing is expected");
        }
    }));
    for number in 0..APPENDERS {
        let client = recorder.client();
        threads.push(thread::spawn(move || {
            // Four appenders a stream: each goes on from what it was refused with.
            let stream = StreamId::new(&format!("stream-{}", number % 16)).expect("a valid stream");
            let mut expected = ExpectedVersion::NoStream;
            loop {
                match block_on(client.append(Append::stream(stream.clone(), expected, [event(number)]))) {
                    Ok(_) => break,
                    Err(AppendError::WrongExpectedVersion { actual, .. }) => {
                        expected = actual.map_or(ExpectedVersion::NoStream, ExpectedVersion::Exact);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            let own = block_on(client.read(Read::stream(stream))).expect("in memory");
            assert!(own.iter().any(|e| e.payload() == number.to_le_bytes()), "an append is seen by who made it");
        }));
    }
    for thread in threads {
        thread.join().expect("nobody panics");
    }
    let history = block_on(recorder.finish());
    assert_eq!(history.events.len() as u64, EVENTS);
    check(&history).unwrap_or_else(|anomalies| panic!("{anomalies:#?}"));
}

/// Frames of code that is optimised little are large.
fn run(scheduler: impl Scheduler + 'static) {
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 18;
    shuttle::Runner::new(scheduler, config).run(everyone);
}

#[test]
fn shuttle_writer_appenders_and_subscribers_agree_in_random_schedules() {
    run(RandomScheduler::new(schedules()));
}

/// Few changes of priority find what even chances at each step do not.
#[test]
fn shuttle_writer_appenders_and_subscribers_agree_in_schedules_by_priority() {
    run(PctScheduler::new(3, schedules()));
}
