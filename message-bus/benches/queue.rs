//! Queues and the ring beside their floors: the hand-over between two threads, fan-out, what one more subscriber costs a publisher,
//! and what sleeping costs.

mod floors;

use std::cell::Cell;
use std::hint::spin_loop;
use std::process::ExitCode;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use floors::{Message, TwoCounterRing, checksum, checksum_of, message};
use harness::{Bench, BenchError, Suite, together};
use message_bus::ring::{Multicast, SolePublisher, Subscriber};

const CAPACITY: usize = 1024;
/// Ten milliseconds or more a round: far above what starting and stopping the threads disturbs.
const MESSAGES: u64 = 1 << 20;

fn main() -> ExitCode {
    Suite::new()
        .bench("message-bus/ring/spsc-1", |bench: &mut Bench| hand_over(bench, false, 1))
        .bench("message-bus/ring/spsc-32", |bench: &mut Bench| hand_over(bench, false, 32))
        .bench("message-bus/ring/shared-1", |bench: &mut Bench| hand_over(bench, true, 1))
        .bench("message-bus/ring/shared-32", |bench: &mut Bench| hand_over(bench, true, 32))
        .bench("message-bus/ring/fan-out-10", fan_out)
        .bench("message-bus/ring/one-more-subscriber", one_more_subscriber)
        .bench("message-bus/ring/ping-pong", ping_pong)
        .bench("message-bus/ring/blocking-turn", blocking_turn)
        .run()
}

/// How long either side leaves the other alone when it finds nothing, or no room: some time to get something done. At each other's heels
/// both wait for the same cache lines with every message, and chance would say which of the rings gets there.
const PAUSE: Duration = Duration::from_nanos(400);

/// Waits for [`PAUSE`]. The processor's own pause takes 8 ns on one machine and 60 ns on another.
fn pause() {
    static TURNS: LazyLock<u32> = LazyLock::new(|| {
        const TIMED: u32 = 1000;
        let time = |_| {
            let start = Instant::now();
            (0..TIMED).for_each(|_| spin_loop());
            start.elapsed()
        };
        let least = (0..10).map(time).min().expect("timed").max(Duration::from_nanos(1));
        (TIMED * PAUSE.as_nanos() as u32).div_ceil(least.as_nanos() as u32)
    });
    (0..*TURNS).for_each(|_| spin_loop());
}

/// Both sides of both rings try and pause: what is compared is the hand-over, not the waiting.
fn hand_over(bench: &mut Bench, claims: bool, batch: usize) -> Result<(), BenchError> {
    let ours = if claims { shared } else { sole };
    let floor =
        format!("message-bus/floor/{}-{batch}", if claims { "claimed-two-counter-ring" } else { "two-counter-ring" });
    let sum = Cell::new(0);
    let note = |(time, read): (Duration, u64)| {
        sum.set(sum.get() + read);
        (time, MESSAGES)
    };
    bench.against(&floor, || note(ours(batch)), || note(two_counters(batch, claims)))?;
    prove(bench, sum.get(), checksum_of(MESSAGES));
    Ok(())
}

/// Every round, warm-up included, has come to the same sum.
fn prove(bench: &mut Bench, sum: u64, of_a_round: u64) {
    bench.proof(sum.div_ceil(of_a_round).max(1) * of_a_round, sum);
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

/// Through a ring that has one publisher.
fn sole(batch: usize) -> (Duration, u64) {
    let (publisher, feed) = SolePublisher::new(CAPACITY).expect("valid");
    let subscriber = feed.subscribe();
    let produce = |mut publisher: SolePublisher<Message>| {
        if batch == 1 {
            singly(|message| publisher.try_publish(message).is_ok());
        } else {
            in_batches(batch, |messages| publisher.try_publish_all(messages).is_ok());
        }
    };
    pair(publisher, subscriber, produce, |subscriber| consume(subscriber, batch))
}

/// Through a ring that could have more.
fn shared(batch: usize) -> (Duration, u64) {
    let ring = Multicast::new(CAPACITY).expect("valid");
    let subscriber = ring.subscribe();
    let produce = |ring: Multicast<Message>| {
        if batch == 1 {
            singly(|message| ring.try_publish(message).is_ok());
        } else {
            in_batches(batch, |messages| ring.try_publish_all(messages).is_ok());
        }
    };
    pair(ring, subscriber, produce, |subscriber| consume(subscriber, batch))
}

fn singly(mut try_send: impl FnMut(Message) -> bool) {
    for number in 0..MESSAGES {
        while !try_send(message(number)) {
            pause();
        }
    }
}

fn in_batches(batch: usize, mut try_send: impl FnMut(&mut Vec<Message>) -> bool) {
    let mut messages = Vec::with_capacity(batch);
    for first in (0..MESSAGES).step_by(batch) {
        messages.clear();
        messages.extend((first..first + batch as u64).map(message));
        while !try_send(&mut messages) {
            pause();
        }
    }
}

fn consume(mut subscriber: Subscriber<Message>, batch: usize) -> u64 {
    let (mut sum, mut read) = (0, 0);
    while read < MESSAGES {
        if batch == 1 {
            let Ok(item) = subscriber.try_next() else {
                pause();
                continue;
            };
            sum += checksum(&item);
            read += 1;
        } else {
            let Ok(messages) = subscriber.try_next_batch(batch) else {
                pause();
                continue;
            };
            sum += messages.iter().map(checksum).sum::<u64>();
            read += messages.len() as u64;
        }
    }
    sum
}

/// Through the bare ring. A producer that `claims` could be one of several.
fn two_counters(batch: usize, claims: bool) -> (Duration, u64) {
    let mut ring = TwoCounterRing::new(CAPACITY);
    let (producer, consumer) = ring.split();
    pair(
        producer,
        consumer,
        |mut producer| {
            if batch == 1 {
                singly(|message| (!claims || producer.claim(1)) && producer.try_push_one(message));
            } else {
                in_batches(batch, |messages| (!claims || producer.claim(batch as u64)) && producer.try_push(messages));
            }
        },
        |mut consumer| {
            let (mut sum, mut read) = (0, 0);
            while read < MESSAGES {
                let count = consumer.read(batch as u64, |message| sum += checksum(message));
                if count == 0 {
                    pause();
                }
                read += count;
            }
            sum
        },
    )
}

/// Ten subscribers, read in turn by one thread, each in batches as they come; the floor's one message is one delivery.
fn fan_out(bench: &mut Bench) -> Result<(), BenchError> {
    const SUBSCRIBERS: u64 = 10;
    const SENT: u64 = MESSAGES / 4;
    let (ours, theirs) = (Cell::new(0), Cell::new(0));
    bench.against(
        "message-bus/floor/two-counter-ring-for-fan-out",
        || {
            let ring = Multicast::new(CAPACITY).expect("valid");
            let subscribers: Vec<_> = (0..SUBSCRIBERS).map(|_| ring.subscribe()).collect();
            let consume = |mut subscribers: Vec<Subscriber<Message>>| {
                let (mut sum, mut read) = (0, 0);
                while read < SENT * SUBSCRIBERS {
                    for subscriber in &mut subscribers {
                        let Ok(messages) = subscriber.try_next_batch(32) else { continue };
                        read += messages.len() as u64;
                        sum += messages.iter().map(checksum).sum::<u64>();
                    }
                }
                sum
            };
            let produce = |ring: Multicast<Message>| {
                for number in 0..SENT {
                    while ring.try_publish(message(number)).is_err() {
                        pause();
                    }
                }
            };
            let (time, sum) = pair(ring, subscribers, produce, consume);
            ours.set(ours.get() + sum);
            (time, SENT * SUBSCRIBERS)
        },
        || {
            let (time, sum) = two_counters(1, false);
            theirs.set(theirs.get() + sum);
            (time, MESSAGES)
        },
    )?;
    assert_eq!(theirs.get() % checksum_of(MESSAGES), 0, "the floor has not read what was sent");
    prove(bench, ours.get(), SUBSCRIBERS * checksum_of(SENT));
    Ok(())
}

/// What a publish costs for each subscriber beyond the first: that of a hundred and one, less that of one, over a hundred. Subscribers
/// read between the timed bursts. A difference that drowns in the clock counts as a hundredth of a nanosecond.
fn one_more_subscriber(bench: &mut Bench) -> Result<(), BenchError> {
    const MORE: usize = 100;
    const BURSTS: usize = 40;
    let mut read = 0;
    let mut burst = |subscribers: usize| {
        let ring = Multicast::new(CAPACITY).expect("valid");
        let mut readers: Vec<_> = (0..subscribers).map(|_| ring.subscribe()).collect();
        let mut time = Duration::ZERO;
        for first in (0..BURSTS as u64).map(|burst| burst * CAPACITY as u64) {
            let start = Instant::now();
            for number in first..first + CAPACITY as u64 {
                ring.try_publish(message(number)).expect("room");
            }
            time += start.elapsed();
            for reader in &mut readers {
                while let Ok(batch) = reader.try_next_batch(CAPACITY) {
                    read += batch.iter().len() as u64;
                    batch.iter().for_each(drop);
                }
            }
        }
        time.as_secs_f64() * 1e9 / (BURSTS * CAPACITY) as f64
    };
    let mut slopes = Vec::new();
    let start = Instant::now();
    while slopes.len() < 10 || start.elapsed() < bench.effort().warm_up + bench.effort().measure {
        slopes.push(((burst(1 + MORE) - burst(1)) / MORE as f64).max(0.01));
    }
    bench.rounds_measured(&slopes)?;
    bench.proof(slopes.len() * (2 + MORE) * BURSTS * CAPACITY, read);
    Ok(())
}

/// One message there and one back, both sides spinning, against a cache line that goes there and back.
fn ping_pong(bench: &mut Bench) -> Result<(), BenchError> {
    let spinning = |subscriber: &mut Subscriber<u64>| loop {
        if let Ok(number) = subscriber.try_next() {
            return *number;
        }
        spin_loop();
    };
    there_and_back(bench, 100_000, spinning, "message-bus/floor/cache-line", floors::cache_line_ping_pong)
}

/// The same by the calls that sleep when nothing comes, after a moment's spin, against threads that park and unpark each other.
fn blocking_turn(bench: &mut Bench) -> Result<(), BenchError> {
    let blocking = |subscriber: &mut Subscriber<u64>| *subscriber.next_blocking().expect("open");
    there_and_back(bench, 200, blocking, "message-bus/floor/park", floors::park_ping_pong)
}

fn there_and_back(
    bench: &mut Bench,
    turns: u64,
    next: impl Fn(&mut Subscriber<u64>) -> u64 + Copy + Send,
    floor: &str,
    floor_of: fn(u64) -> (Duration, u64),
) -> Result<(), BenchError> {
    let sum = Cell::new(0);
    let note = |(time, back): (Duration, u64)| {
        sum.set(sum.get() + back);
        (time, turns)
    };
    let ours = || {
        let (there, back) = (Multicast::new(16).expect("valid"), Multicast::new(16).expect("valid"));
        let (mut at_other, mut at_one) = (there.subscribe(), back.subscribe());
        let one = move || {
            let turn = |number| {
                there.try_publish(number).expect("room");
                next(&mut at_one)
            };
            (0..turns).map(turn).sum()
        };
        let other = move || {
            for _ in 0..turns {
                back.try_publish(next(&mut at_other)).expect("room");
            }
            0
        };
        both(one, other)
    };
    bench.against(floor, || note(ours()), || note(floor_of(turns)))?;
    prove(bench, sum.get(), turns * (turns - 1) / 2);
    Ok(())
}

/// Two pieces of work at once: the time of both and the sum of what they return.
fn both(one: impl FnOnce() -> u64 + Send, other: impl FnOnce() -> u64 + Send) -> (Duration, u64) {
    let (one, other) = (Mutex::new(Some(one)), Mutex::new(Some(other)));
    let prepare = |thread| if thread == 0 { Side::Producer(take(&one)) } else { Side::Consumer(take(&other)) };
    let (time, sums) = together(2, prepare, |side| match side {
        Side::Producer(one) => one(),
        Side::Consumer(other) => other(),
    });
    (time, sums.iter().sum())
}
