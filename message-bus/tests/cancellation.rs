//! Every public future may be dropped at any of its polls: nothing is lost, nothing comes twice, nobody hangs.
//!
//! `CANCELLATIONS=1000000 cargo test -p message-bus --release --test cancellation` is the full count, for each runtime.

mod support;

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use message_bus::ring::{Loss, LossySubscriber, Multicast, Received, SolePublisher, Subscriber};
use message_bus::{Bus, Delivery, HandlerError, Metadata, PublishError, RawMessage, Subject, command};
use support::{Calls, Order, balanced};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, yield_now};

fn cancellations() -> u64 {
    let default = if cfg!(miri) { 50 } else { 10_000 };
    std::env::var("CANCELLATIONS").map_or(default, |number| number.parse().expect("a number"))
}

/// A random number that is the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64 (G. Marsaglia, Xorshift RNGs, 2003)
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// How many futures were dropped before they were done.
#[derive(Clone, Default)]
struct Cut(Arc<AtomicU64>);

impl Cut {
    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Polls a future up to so many times, whenever it wants to be polled, and drops it then.
    async fn after<F: Future>(&self, polls: u64, future: F) -> Option<F::Output> {
        let mut left = polls;
        let output = {
            let mut future = pin!(future);
            poll_fn(|context| {
                if left == 0 {
                    return Poll::Ready(None);
                }
                left -= 1;
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => Poll::Ready(Some(output)),
                    // The last poll was left pending: it is dropped now, not when it is woken.
                    Poll::Pending if left == 0 => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await
        };
        if output.is_none() {
            self.0.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
        }
        output
    }

    /// Polls a future and drops it, again and again, until one is done.
    async fn until_done<F: Future>(&self, dice: &mut Dice, mut future: impl FnMut() -> F) -> F::Output {
        loop {
            if let Some(output) = self.after(dice.below(4), future()).await {
                return output;
            }
        }
    }
}

/// Runs a scenario on one thread, on two, and on two beside two threads that do nothing but compute.
fn everywhere<Fut: Future<Output = ()> + Send + 'static>(scenario: impl Fn() -> Fut) {
    let finish = |runtime: &Runtime| {
        let limit = Duration::from_secs(300);
        runtime
            .block_on(async { tokio::time::timeout(limit, tokio::spawn(scenario())).await })
            .expect("nobody hangs")
            .expect("nobody panics");
    };
    finish(&Builder::new_current_thread().enable_all().build().expect("a runtime"));
    let two = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    finish(&two);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let finished = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| finish(&two)));
        stop.store(true, Ordering::Relaxed);
        assert!(finished.is_ok(), "beside two that compute");
    });
}

const PUBLISHERS: u64 = 3;

/// A publisher and a number of it.
type Numbered = Arc<(u64, u64)>;

/// Reads everything by futures that are dropped at any poll; returns how much it was.
fn reading(mut subscriber: Subscriber<Numbered>, cut: Cut, mut dice: Dice) -> JoinHandle<u64> {
    tokio::spawn(async move {
        let mut next = [0; PUBLISHERS as usize];
        loop {
            let polls = dice.below(4);
            let mut read = |message: &Numbered| {
                assert_eq!(message.1, next[message.0 as usize], "nothing lost, nothing twice");
                next[message.0 as usize] += 1;
            };
            if dice.below(2) == 0 {
                match cut.after(polls, subscriber.next()).await {
                    Some(Some(message)) => read(&message),
                    Some(None) => return next.iter().sum::<u64>(),
                    None => {}
                }
            } else {
                match cut.after(polls, subscriber.next_batch(2)).await {
                    Some(Some(batch)) => batch.iter().for_each(&mut read),
                    Some(None) => return next.iter().sum(),
                    None => {}
                }
            }
        }
    })
}

/// The same of what a lossy subscriber receives and misses.
fn losing(mut lossy: LossySubscriber<Numbered>, cut: Cut) -> JoinHandle<u64> {
    tokio::spawn(async move {
        let mut dice = Dice(99);
        let mut seen = 0;
        while let Some(received) = {
            let mut done = None;
            while done.is_none() {
                done = cut.after(dice.below(4), lossy.receive()).await;
            }
            done.flatten()
        } {
            seen += match received {
                Received::Message(_) => 1,
                Received::Gap(gap) => gap.missed,
            };
        }
        seen
    })
}

#[test]
fn futures_of_the_ring() {
    everywhere(async || {
        let goal = cancellations();
        let cut = Cut::default();
        let ring = Multicast::new(2).expect("valid");
        let readers = [7, 8].map(|seed| reading(ring.subscribe(), cut.clone(), Dice(seed)));
        let losing = losing(ring.subscribe_lossy(1, Loss::DropOldest).expect("valid"), cut.clone());
        let publishers = (0..PUBLISHERS).map(|publisher| {
            let (ring, cut) = (ring.clone(), cut.clone());
            tokio::spawn(async move {
                let mut dice = Dice(1_000 + publisher);
                let mut number = 0;
                while cut.count() < goal {
                    let message = || Arc::new((publisher, number));
                    let sent = match dice.below(3) {
                        0 => cut.after(dice.below(4), ring.publish(message())).await.map(|sent| sent.is_ok()),
                        1 => {
                            let mut batch = vec![message(), Arc::new((publisher, number + 1))];
                            let sent = cut.after(dice.below(4), ring.publish_all(&mut batch)).await;
                            assert_eq!(batch.is_empty(), sent.is_some(), "whole or not at all");
                            number += u64::from(sent.is_some());
                            sent.map(|sent| sent.is_ok())
                        }
                        _ => match cut.after(dice.below(4), ring.reserve(1)).await {
                            Some(permit) => {
                                let mut permit = permit.expect("open");
                                (dice.below(2) == 0).then(|| permit.publish(message()).is_ok())
                            }
                            None => None,
                        },
                    };
                    assert_ne!(sent, Some(false), "open, and somebody reads");
                    number += u64::from(sent.is_some());
                }
                number
            })
        });
        let mut published = 0;
        for publisher in publishers.collect::<Vec<_>>() {
            published += publisher.await.expect("no panic");
        }
        drop(ring);
        for reader in readers {
            assert_eq!(reader.await.expect("no panic"), published, "published = delivered");
        }
        assert_eq!(losing.await.expect("no panic"), published, "published = delivered + dropped");
    });
}

#[test]
fn futures_of_a_ring_with_one_publisher() {
    everywhere(async || {
        let goal = cancellations();
        let cut = Cut::default();
        let (mut publisher, feed) = SolePublisher::new(2).expect("valid");
        let readers = [7, 8].map(|seed| reading(feed.subscribe(), cut.clone(), Dice(seed)));
        let losing = losing(feed.subscribe_lossy(1, Loss::DropOldest).expect("valid"), cut.clone());
        let mut dice = Dice(1_000);
        let mut published = 0;
        while cut.count() < goal {
            if dice.below(2) == 0 {
                let sent = cut.after(dice.below(4), publisher.publish(Arc::new((0, published)))).await;
                assert!(sent.as_ref().is_none_or(Result::is_ok), "open, and somebody reads");
                published += u64::from(sent.is_some());
            } else {
                let mut batch = vec![Arc::new((0, published)), Arc::new((0, published + 1))];
                let sent = cut.after(dice.below(4), publisher.publish_all(&mut batch)).await;
                assert_eq!(batch.is_empty(), sent.is_some(), "whole or not at all");
                published += 2 * u64::from(sent.is_some());
            }
        }
        assert_eq!(publisher.published(), published);
        drop(publisher);
        for reader in readers {
            assert_eq!(reader.await.expect("no panic"), published, "published = delivered");
        }
        assert_eq!(losing.await.expect("no panic"), published, "published = delivered + dropped");
    });
}

#[test]
fn futures_of_a_publish() {
    everywhere(async || {
        let goal = cancellations();
        let (cut, bus, handled) = (Cut::default(), Bus::new(), Calls::default());
        let recorder = handled.clone();
        let _inline = bus.subscribe(|_: Delivery<Order>| yield_now()).expect("open");
        let queue = bus.subscription().queue(2);
        let subscription = queue
            .run(move |order: Delivery<Order>| {
                let handled = recorder.clone();
                async move {
                    yield_now().await;
                    handled.add(order.0);
                }
            })
            .expect("valid");
        let publishers = (0..3).map(|publisher| {
            let (bus, cut) = (bus.clone(), cut.clone());
            tokio::spawn(async move {
                let mut dice = Dice(3 + publisher);
                let mut number = publisher;
                while cut.count() < goal {
                    if let Some(report) = cut.after(dice.below(6), bus.publish(Order(number))).await {
                        assert_eq!(report.expect("open").queued, 1);
                        number += 3;
                    }
                }
                number / 3
            })
        });
        let mut published = 0;
        for publisher in publishers.collect::<Vec<_>>() {
            published += publisher.await.expect("no panic");
        }
        let mut shutdown = Dice(5);
        let report = cut.until_done(&mut shutdown, || bus.shutdown(Duration::from_secs(60))).await;
        drop(report);
        let stats = subscription.unsubscribe().await.expect("a queue");
        balanced(stats, published);
        assert_eq!(stats.delivered, published);
        let mut handled = handled.all();
        handled.sort_unstable();
        handled.dedup();
        assert_eq!(handled.len() as u64, published, "each once");
        assert!(matches!(bus.publish(Order(0)).await, Err(PublishError::Closed(_))));
    });
}

struct Add(u64);
command!(Add => u64);

#[test]
fn futures_of_a_command() {
    everywhere(async || {
        let goal = cancellations();
        let (cut, bus) = (Cut::default(), Bus::new());
        let handler = async |add: Add| {
            yield_now().await;
            yield_now().await;
            Ok::<_, HandlerError>(add.0 + 1)
        };
        let subscription = bus.command().at_most(1).run(handler).expect("the first");
        let mut dice = Dice(11);
        while cut.count() < goal {
            let number = dice.below(1_000);
            if let Some(reply) = cut.after(dice.below(4), bus.send(Add(number))).await {
                assert_eq!(reply.expect("a call that was dropped has left its place"), number + 1);
            }
            let limit = Duration::from_secs(1);
            if let Some(reply) = cut.after(dice.below(4), bus.send_within(limit, Add(number))).await {
                assert_eq!(reply.expect("in time"), number + 1);
            }
        }
        drop(subscription.unsubscribe());
        assert!(!bus.handles::<Add>(), "a dropped `unsubscribe` has ended the subscription");
    });
}

#[test]
fn futures_of_subjects_and_requests() {
    everywhere(async || {
        let goal = cancellations();
        let (cut, bus) = (Cut::default(), Bus::builder().pending_requests(1).build().expect("valid"));
        let echo = |request: Delivery<RawMessage>| async move {
            yield_now().await;
            Ok::<_, HandlerError>(request.payload.clone())
        };
        let _inline = bus.respond("s.a", echo).expect("open");
        let seen = Calls::default();
        let queues = ["s.*", "s.a", ">"].map(|pattern| {
            let recorder = seen.clone();
            let recording = move |request: Delivery<RawMessage>| {
                recorder.add((pattern, request.metadata().id));
                echo(request)
            };
            let queue = bus.subject_subscription(pattern).expect("a pattern").queue(2);
            queue.run(bus.responder(recording)).expect("open")
        });
        let mut dice = Dice(17);
        let (mut published, mut answered, mut accepted) = (0, 0, Vec::new());
        let message = || RawMessage::new(Subject::new("s.a").expect("a subject"), "payload");
        let limit = Duration::from_secs(60);
        while cut.count() < goal {
            let metadata = Metadata::new();
            let id = metadata.id;
            if let Some(report) = cut.after(dice.below(6), bus.publish_subject_with(metadata, message())).await {
                assert_eq!(report.expect("open").queued, 3);
                accepted.push(id);
                published += 1;
            }
            if let Some(answer) = cut.after(dice.below(8), bus.request(message(), limit)).await {
                assert_eq!(&answer.expect("the only place is free").payload[..], b"payload");
                answered += 1;
            }
            if let Some(report) = cut.after(dice.below(10), bus.scatter(message(), limit)).await {
                assert!(report.expect("the only place is free").is_complete());
                answered += 1;
            }
        }
        drop(cut.until_done(&mut dice, || bus.shutdown(limit)).await);
        // What was asked was published to all queues or to none; a request that was cut off may have come to be either.
        let totals = queues.map(|queue| queue.stats().expect("a queue"));
        for stats in totals {
            assert_eq!(stats.total(), totals[0].total());
            assert_eq!(stats.delivered, stats.total());
            assert!(stats.total() >= published + answered);
        }
        let seen = seen.all();
        let each: HashSet<_> = seen.iter().copied().collect();
        assert_eq!((seen.len(), seen.len() as u64), (each.len(), 3 * totals[0].total()), "each once to each queue");
        for id in accepted {
            assert!(["s.*", "s.a", ">"].iter().all(|pattern| each.contains(&(*pattern, id))), "and none is lost");
        }
    });
}
