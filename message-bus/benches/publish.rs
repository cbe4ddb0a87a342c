//! What a publish costs, with the runtime running before the clock starts. Handlers add what they get to a sum, which is the proof.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::metric::Metric;
use harness::record::{Figure, Source};
use harness::{Bench, BenchError, Suite};
use message_bus::{Bus, Delivery, HandlerError, Publisher, Subscription, command, event};
use tokio::runtime::Runtime;
use tokio::task::yield_now;

/// Publishes in a round: long enough for the clock, short enough for many rounds.
const ROUND: u64 = 10_000;

fn main() -> ExitCode {
    Suite::new()
        .bench("message-bus/publish/single-event", single_event)
        .bench("message-bus/publish/single-command", single_command)
        .bench("message-bus/publish/100-messages", |bench: &mut Bench| in_turn(bench, 100))
        .bench("message-bus/publish/1000-messages", |bench: &mut Bench| in_turn(bench, 1_000))
        .bench("message-bus/handlers/5", |bench: &mut Bench| handlers(bench, 5))
        .bench("message-bus/handlers/10", |bench: &mut Bench| handlers(bench, 10))
        .bench("message-bus/payload/100-bytes", |bench: &mut Bench| payload(bench, 100))
        .bench("message-bus/payload/10-kilobytes", |bench: &mut Bench| payload(bench, 10_000))
        .bench("message-bus/payload/100-kilobytes", |bench: &mut Bench| payload(bench, 100_000))
        .bench("message-bus/payload/10-megabytes", |bench: &mut Bench| payload(bench, 10_000_000))
        .bench("message-bus/concurrent/10", |bench: &mut Bench| concurrent(bench, 10))
        .bench("message-bus/concurrent/100", |bench: &mut Bench| concurrent(bench, 100))
        .bench("message-bus/concurrent/distinct-types", distinct_types)
        .bench("message-bus/inline/one-sync", one_sync)
        .bench("message-bus/inline/one-sync-by-bus", one_sync_by_bus)
        .bench("message-bus/inline/one-async", one_async)
        .bench("message-bus/inline/in-a-handler", in_a_handler)
        .run()
}

struct Number(u64);
event!(Number);

struct Double(u64);
command!(Double => u64);

struct Payload(Arc<[u8]>);
event!(Payload);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// What handlers got.
#[derive(Clone, Default)]
struct Sum(Arc<Line>);

/// On cache lines of its own: two threads that add to two sums do not meet.
#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Sum {
    /// Without a locked instruction: one thread adds at a time.
    fn add(&self, number: u64) {
        self.0.0.store(self.get() + number, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed)
    }
}

fn synchronous(bus: &Bus, sum: &Sum) -> Subscription {
    let sum = sum.clone();
    bus.subscribe_sync(move |number: &Number| sum.add(number.0)).expect("open")
}

fn asynchronous(bus: &Bus, sum: &Sum) -> Subscription {
    let sum = sum.clone();
    let handler = move |number: Delivery<Number>| {
        sum.add(number.0);
        std::future::ready(())
    };
    bus.subscribe(handler).expect("open")
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Rounds of `ROUND` publishes of 1 each: every handler call adds 1.
fn numbers(
    bench: &mut Bench,
    calls: u64,
    sum: &Sum,
    publishes: u64,
    mut round: impl FnMut() -> Duration,
) -> Result<(), BenchError> {
    let rounds = bench.rounds(|| (round(), publishes))?;
    bench.proof(rounds * publishes * calls, sum.get());
    Ok(())
}

fn single_event(bench: &mut Bench) -> Result<(), BenchError> {
    let (runtime, bus, sum) = (runtime(), Bus::new(), Sum::default());
    let _subscription = asynchronous(&bus, &sum);
    numbers(bench, 1, &sum, ROUND, || publish_by_bus(&runtime, &bus, ROUND))
}

fn single_command(bench: &mut Bench) -> Result<(), BenchError> {
    let (runtime, bus) = (runtime(), Bus::new());
    let handler = |command: Double| std::future::ready(Ok::<_, HandlerError>(command.0 * 2));
    let _subscription = bus.handle(handler).expect("the first");
    let mut replies = 0;
    let rounds = bench.rounds(|| {
        runtime.block_on(async {
            let start = Instant::now();
            for _ in 0..ROUND {
                replies += bus.send(Double(black_box(1))).await.expect("answered");
            }
            (start.elapsed(), ROUND)
        })
    })?;
    bench.proof(rounds * ROUND * 2, replies);
    Ok(())
}

/// One operation is the publishing of all of them.
fn in_turn(bench: &mut Bench, messages: u64) -> Result<(), BenchError> {
    let (runtime, bus, sum) = (runtime(), Bus::new(), Sum::default());
    let _subscription = asynchronous(&bus, &sum);
    let times = ROUND / messages;
    let mut total = Duration::ZERO;
    let rounds = bench.rounds(|| {
        let elapsed = runtime.block_on(async {
            let start = Instant::now();
            for _ in 0..times {
                for _ in 0..messages {
                    bus.publish(Number(black_box(1))).await.expect("succeeds");
                }
            }
            start.elapsed()
        });
        total += elapsed;
        (elapsed, times)
    })?;
    let published = rounds * times * messages;
    let throughput = Figure::exact(Metric::Throughput, published as f64 / total.as_secs_f64());
    bench.figure(Source::Round, throughput, rounds);
    bench.proof(published, sum.get());
    Ok(())
}

/// Each handler yields once, as the original's.
fn handlers(bench: &mut Bench, handlers: u64) -> Result<(), BenchError> {
    const PUBLISHES: u64 = 1_000;
    let (runtime, bus, sum) = (runtime(), Bus::new(), Sum::default());
    let _subscriptions: Vec<_> = (0..handlers)
        .map(|_| {
            let sum = sum.clone();
            let handler = move |number: Delivery<Number>| {
                let sum = sum.clone();
                async move {
                    yield_now().await;
                    sum.add(number.0);
                }
            };
            bus.subscribe(handler).expect("open")
        })
        .collect();
    numbers(bench, handlers, &sum, PUBLISHES, || publish_by_bus(&runtime, &bus, PUBLISHES))
}

/// Ten handlers look at where the payload lies and how long it is: what they would read of it is not the bus's work. The payloads exist
/// before the clock starts.
fn payload(bench: &mut Bench, bytes: usize) -> Result<(), BenchError> {
    const HANDLERS: u64 = 10;
    const PUBLISHES: u64 = 1_000;
    let (runtime, bus, sum) = (runtime(), Bus::new(), Sum::default());
    let _subscriptions: Vec<_> = (0..HANDLERS)
        .map(|_| {
            let sum = sum.clone();
            let look = move |payload: Delivery<Payload>| {
                sum.add((payload.0.as_ptr().addr() ^ payload.0.len()) as u64 & 0xffff);
                std::future::ready(())
            };
            bus.subscribe(look).expect("open")
        })
        .collect();
    let publisher = bus.publisher();
    let (large, small): (Arc<[u8]>, Arc<[u8]>) = (vec![1; bytes].into(), vec![1; 100].into());
    let round = |payload: &Arc<[u8]>| {
        let payloads: Vec<Payload> = (0..PUBLISHES).map(|_| Payload(Arc::clone(payload))).collect();
        let elapsed = runtime.block_on(async {
            let start = Instant::now();
            for payload in payloads {
                publisher.publish(payload).await.expect("succeeds");
            }
            start.elapsed()
        });
        (elapsed, PUBLISHES)
    };
    let floor = format!("message-bus/floor/payload-of-100-bytes-for-{bytes}");
    let rounds = bench.against(&floor, || round(&large), || round(&small))?;
    let seen = |payload: &Arc<[u8]>| (payload.as_ptr().addr() ^ payload.len()) as u64 & 0xffff;
    bench.proof(rounds * PUBLISHES * HANDLERS * (seen(&large) + seen(&small)), sum.get());
    Ok(())
}

/// A task a message, each with a handler that computes for some microseconds: the tasks of one worker against those of two.
fn concurrent(bench: &mut Bench, messages: u64) -> Result<(), BenchError> {
    const SPINS: u64 = 2_000;
    let calls = Arc::new(AtomicU64::new(0));
    let buses: Vec<_> = (0..2)
        .map(|_| {
            let bus = Bus::new();
            let counter = Arc::clone(&calls);
            let handler = move |number: Delivery<Number>| {
                black_box((0..SPINS).fold(number.0, |sum, n| black_box(sum ^ n)));
                counter.fetch_add(1, Ordering::Relaxed);
                std::future::ready(())
            };
            let subscription = bus.subscribe(handler).expect("open");
            (runtime(), bus, subscription)
        })
        .map(std::sync::Mutex::new)
        .collect();
    const TIMES: u64 = 20;
    let ran = bench.speedup(2, |thread| {
        let (runtime, bus, _) = &*buses[thread].lock().expect("each thread has its own");
        for _ in 0..TIMES {
            let publishes = (0..messages).map(|number| bus.publish(Number(number)));
            let reports = runtime.block_on(futures::future::join_all(publishes));
            assert!(reports.into_iter().all(|report| report.is_ok()));
        }
    })?;
    bench.proof(ran * TIMES * messages, calls.load(Ordering::Relaxed));
    Ok(())
}

struct Other(u64);
event!(Other);

/// One thread publishes numbers, the other another type, on one bus: nothing that either writes is the other's.
fn distinct_types(bench: &mut Bench) -> Result<(), BenchError> {
    const PUBLISHES: u64 = 200_000;
    let (bus, sums) = (Bus::new(), [Sum::default(), Sum::default()]);
    let [numbers, others] = sums.clone();
    let _numbers = bus.subscribe_sync(move |number: &Number| numbers.add(number.0)).expect("open");
    let _others = bus.subscribe_sync(move |other: &Other| others.add(other.0)).expect("open");
    let (numbers, others) = (bus.publisher::<Number>(), bus.publisher::<Other>());
    let runs = bench.speedup_beside("message-bus/floor/spinning-threads", 2, |thread| {
        for _ in 0..PUBLISHES {
            let published = match thread {
                0 => numbers.try_publish(Number(black_box(1))).is_ok(),
                _ => others.try_publish(Other(black_box(1))).is_ok(),
            };
            assert!(published);
        }
    })?;
    bench.proof(runs * PUBLISHES, sums[0].get() + sums[1].get());
    Ok(())
}

/// Every publish looks the type up.
fn publish_by_bus(runtime: &Runtime, bus: &Bus, publishes: u64) -> Duration {
    runtime.block_on(async {
        let start = Instant::now();
        for _ in 0..publishes {
            bus.publish(Number(black_box(1))).await.expect("succeeds");
        }
        start.elapsed()
    })
}

fn publish_all(runtime: &Runtime, publisher: &Publisher<Number>) -> Duration {
    runtime.block_on(async {
        let start = Instant::now();
        for _ in 0..ROUND {
            publisher.publish(Number(black_box(1))).await.expect("succeeds");
        }
        start.elapsed()
    })
}

/// Beside the call of a function that is not known: the least that a handler costs.
fn one_sync(bench: &mut Bench) -> Result<(), BenchError> {
    let (runtime, bus, sum, called) = (runtime(), Bus::new(), Sum::default(), Sum::default());
    let _subscription = synchronous(&bus, &sum);
    let publisher = bus.publisher();
    let function: Box<dyn Fn(&Number)> = {
        let called = called.clone();
        Box::new(move |number: &Number| called.add(number.0))
    };
    let rounds = bench.against(
        "message-bus/floor/indirect-call",
        || (publish_all(&runtime, &publisher), ROUND),
        || (timed(|| (0..ROUND).for_each(|_| black_box(&function)(&Number(black_box(1))))), ROUND),
    )?;
    bench.proof(rounds * ROUND * 2, sum.get() + called.get());
    Ok(())
}

fn one_sync_by_bus(bench: &mut Bench) -> Result<(), BenchError> {
    let (runtime, bus, sum) = (runtime(), Bus::new(), Sum::default());
    let _subscription = synchronous(&bus, &sum);
    numbers(bench, 1, &sum, ROUND, || publish_by_bus(&runtime, &bus, ROUND))
}

fn one_async(bench: &mut Bench) -> Result<(), BenchError> {
    let (runtime, bus, sum) = (runtime(), Bus::new(), Sum::default());
    let _subscription = asynchronous(&bus, &sum);
    let publisher = bus.publisher();
    numbers(bench, 1, &sum, ROUND, || publish_all(&runtime, &publisher))
}

struct Outer(u64);
event!(Outer);

/// A publish by a handler: the message inherits.
fn in_a_handler(bench: &mut Bench) -> Result<(), BenchError> {
    let (runtime, bus, sum) = (runtime(), Bus::new(), Sum::default());
    let _inner = synchronous(&bus, &sum);
    let publisher = bus.publisher::<Number>();
    let handler = move |outer: &Outer| {
        for _ in 0..outer.0 {
            publisher.try_publish(Number(black_box(1))).expect("synchronous");
        }
    };
    let _outer = bus.subscribe_sync(handler).expect("open");
    let publisher = bus.publisher();
    numbers(bench, 1, &sum, ROUND, || {
        runtime.block_on(async {
            let start = Instant::now();
            publisher.publish(Outer(ROUND)).await.expect("succeeds");
            start.elapsed()
        })
    })
}
