//! The ring between two threads, beside the least that two threads need: a ring of two counters.
//!
//! Both sides of both rings try and spin: what is compared is the hand-over, not the waiting.

mod floors;

use std::hint::spin_loop;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use floors::{Message, TwoCounterRing, checksum, checksum_of, message};
use harness::{Bench, BenchError, Suite, together};
use message_bus::ring::{Multicast, Subscriber};

const CAPACITY: usize = 1024;
/// Ten milliseconds or more a round: far above what starting and stopping the threads disturbs.
const MESSAGES: u64 = 1 << 20;
const FLOOR: &str = "message-bus/floor/two-counter-ring";

fn main() -> ExitCode {
    Suite::new()
        .bench("message-bus/ring/spsc-1", |bench: &mut Bench| hand_over(bench, 1))
        .bench("message-bus/ring/spsc-32", |bench: &mut Bench| hand_over(bench, 32))
        .run()
}

fn hand_over(bench: &mut Bench, batch: usize) -> Result<(), BenchError> {
    let floor = format!("{FLOOR}-{batch}");
    let sums = Mutex::new(0u64);
    let rounds = bench.against(&floor, || note(&sums, ours(batch)), || note(&sums, two_counters(batch)))?;
    let sum = *sums.lock().expect("no panic");
    // What was warmed up is in the sum too: every round has come to the same.
    assert_eq!(sum % checksum_of(MESSAGES), 0, "a consumer has not read what was sent");
    bench.proof(rounds * 2, sum / checksum_of(MESSAGES));
    Ok(())
}

fn note(sums: &Mutex<u64>, (time, sum): (Duration, u64)) -> (Duration, u64) {
    *sums.lock().expect("no panic") += sum;
    (time, MESSAGES)
}

enum Side<P, C> {
    Producer(P),
    Consumer(C),
}

fn take<T>(cell: &Mutex<Option<T>>) -> T {
    cell.lock().expect("no panic").take().expect("each side is taken once")
}

/// One producer and one consumer at once: the time of both, and the consumer's sum.
fn pair<P: Send, C: Send>(
    producer: P,
    consumer: C,
    produce: impl Fn(P) + Sync,
    consume: impl Fn(C) -> u64 + Sync,
) -> (Duration, u64) {
    let (producer, consumer) = (Mutex::new(Some(producer)), Mutex::new(Some(consumer)));
    let prepare = |thread| if thread == 0 { Side::Producer(take(&producer)) } else { Side::Consumer(take(&consumer)) };
    let (time, sums) = together(2, prepare, |side| match side {
        Side::Producer(producer) => {
            produce(producer);
            0
        }
        Side::Consumer(consumer) => consume(consumer),
    });
    (time, sums.iter().sum())
}

fn ours(batch: usize) -> (Duration, u64) {
    let ring = Multicast::new(CAPACITY).expect("valid");
    let subscriber = ring.subscribe();
    pair(ring, subscriber, |ring| produce(&ring, batch), |subscriber| consume(subscriber, batch))
}

fn produce(ring: &Multicast<Message>, batch: usize) {
    if batch == 1 {
        for number in 0..MESSAGES {
            while ring.try_publish(message(number)).is_err() {
                spin_loop();
            }
        }
        return;
    }
    let mut messages = Vec::with_capacity(batch);
    for first in (0..MESSAGES).step_by(batch) {
        messages.extend((first..first + batch as u64).map(message));
        while ring.try_publish_all(&mut messages).is_err() {
            spin_loop();
        }
    }
}

fn consume(mut subscriber: Subscriber<Message>, batch: usize) -> u64 {
    let (mut sum, mut read) = (0, 0);
    while read < MESSAGES {
        if batch == 1 {
            let Ok(item) = subscriber.try_next() else {
                spin_loop();
                continue;
            };
            sum += checksum(&item);
            read += 1;
        } else {
            let Ok(messages) = subscriber.try_next_batch(batch) else {
                spin_loop();
                continue;
            };
            sum += messages.iter().map(checksum).sum::<u64>();
            read += messages.len() as u64;
        }
    }
    sum
}

fn two_counters(batch: usize) -> (Duration, u64) {
    let mut ring = TwoCounterRing::new(CAPACITY);
    let (producer, consumer) = ring.split();
    pair(
        producer,
        consumer,
        |mut producer| {
            let mut messages = Vec::with_capacity(batch);
            for first in (0..MESSAGES).step_by(batch) {
                messages.clear();
                messages.extend((first..first + batch as u64).map(message));
                while !producer.try_push(&messages) {
                    spin_loop();
                }
            }
        },
        |mut consumer| {
            let (mut sum, mut read) = (0, 0);
            while read < MESSAGES {
                let count = consumer.read(batch as u64, |message| sum += checksum(message));
                if count == 0 {
                    spin_loop();
                }
                read += count;
            }
            sum
        },
    )
}
