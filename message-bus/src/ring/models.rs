//! Models of the ring: loom visits every order that the memory model allows for a few messages, shuttle random orders of many.
//!
//! `RUSTFLAGS="--cfg message_bus_loom" cargo test -p message-bus --lib --release loom`; `RUSTFLAGS="--cfg message_bus_shuttle"
//! cargo test -p message-bus --lib --release shuttle`, where `SCHEDULES` says how many. Followed are the crate's own atomics and the
//! memory of [`super::slots`]; event-listener, atomic-waker and the line of waiting publishers (tokio's `Mutex`) are taken at
//! their word.

use super::{Loss, Multicast, Received, SolePublisher};

#[cfg(message_bus_loom)]
mod every_order {
    use loom::future::block_on;
    use loom::thread;

    use super::{Loss, Multicast, Received, SolePublisher};

    /// Explores every schedule with up to `preemptions`.
    fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(model);
    }

    /// The payload is on the heap, so that a slot read too late or dropped twice shows.
    fn payload(number: u64) -> Box<u64> {
        Box::new(number)
    }

    #[test]
    fn loom_two_publishers_and_two_subscribers_on_two_slots() {
        explore(2, || {
            let ring = Multicast::new(2).expect("valid");
            let readers: Vec<_> = (0..2).map(|_| ring.subscribe()).collect();
            let publishers: Vec<_> = [10, 20]
                .map(|first| {
                    let ring = ring.clone();
                    thread::spawn(move || {
                        let mut accepted = 0;
                        for number in first..first + 2 {
                            accepted += u64::from(ring.try_publish(payload(number)).is_ok());
                        }
                        accepted
                    })
                })
                .into_iter()
                .collect();
            let mut readers = readers.into_iter();
            let (mut one, mut other) = (readers.next().expect("two"), readers.next().expect("two"));
            let reader = thread::spawn(move || {
                let read = one.try_next().map(|item| **item).ok();
                (one, read)
            });
            let seen = other.try_next().map(|item| **item).ok();
            let accepted: u64 = publishers.into_iter().map(|p| p.join().expect("no panic")).sum();
            let (mut one, read) = reader.join().expect("no panic");
            let drain = |subscriber: &mut crate::ring::Subscriber<Box<u64>>, first: Option<u64>| {
                let mut all: Vec<u64> = first.into_iter().collect();
                while let Ok(item) = subscriber.try_next() {
                    all.push(**item);
                }
                all
            };
            let (one, other) = (drain(&mut one, read), drain(&mut other, seen));
            assert_eq!(one, other, "one order for all");
            assert_eq!(one.len() as u64, accepted, "published = delivered");
        });
    }

    /// What a subscriber of batches has found, another reads without a look of its own. One that came when a number was claimed and not
    /// yet published has found nothing that others could rely on.
    #[test]
    fn loom_what_one_has_found_serves_the_others() {
        explore(2, || {
            let ring = Multicast::new(4).expect("valid");
            let mut early = ring.subscribe();
            let publishers = [1, 2].map(|number| {
                let ring = ring.clone();
                thread::spawn(move || ring.try_publish(payload(number)).expect("room"))
            });
            let read = |subscriber: &mut crate::ring::Subscriber<Box<u64>>| {
                let mut all = Vec::new();
                while let Ok(batch) = subscriber.try_next_batch(4) {
                    all.extend(batch.iter().map(|number| **number));
                }
                all
            };
            let reader = thread::spawn(move || {
                let seen = read(&mut early);
                (early, seen)
            });
            let mut late = ring.subscribe();
            let mut seen_late = read(&mut late);
            let (mut early, mut seen) = reader.join().expect("no panic");
            for publisher in publishers {
                publisher.join().expect("no panic");
            }
            seen.extend(read(&mut early));
            seen_late.extend(read(&mut late));
            assert_eq!(seen.len(), 2, "published = delivered");
            assert!(seen.ends_with(&seen_late), "one order for all");
        });
    }

    /// What one publisher writes without a claim is read in order and whole, and not overwritten while it is read.
    #[test]
    fn loom_one_publisher_and_two_subscribers_on_two_slots() {
        explore(2, || {
            let (mut publisher, feed) = SolePublisher::<Box<u64>>::new(2).expect("valid");
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let mut reader = feed.subscribe();
                    thread::spawn(move || {
                        let mut next = 0;
                        for _ in 0..2 {
                            while let Ok(batch) = reader.try_next_batch(2) {
                                for number in &batch {
                                    assert_eq!(**number, next);
                                    next += 1;
                                }
                            }
                        }
                        (reader, next)
                    })
                })
                .collect();
            let accepted = (0..3).take_while(|number| publisher.try_publish(payload(*number)).is_ok()).count() as u64;
            for reader in readers {
                let (mut reader, read) = reader.join().expect("no panic");
                let rest = std::iter::from_fn(|| reader.try_next().ok().map(|item| **item)).collect::<Vec<_>>();
                assert_eq!(rest, (read..accepted).collect::<Vec<_>>(), "published = delivered");
            }
        });
    }

    /// The publisher is not held up by who subscribes, and does not overwrite what the newcomer has yet to read.
    #[test]
    fn loom_a_subscriber_that_comes_while_one_publisher_publishes_sees_a_suffix() {
        explore(2, || {
            let (mut publisher, feed) = SolePublisher::<Box<u64>>::new(2).expect("valid");
            let publishing = thread::spawn(move || {
                let accepted =
                    (0..5).take_while(|number| publisher.try_publish(payload(*number)).is_ok()).count() as u64;
                (publisher.trim() as u64, accepted)
            });
            let mut reader = feed.subscribe();
            let mut seen: Vec<u64> = reader.try_next().ok().map(|item| **item).into_iter().collect();
            let (_, accepted) = publishing.join().expect("no panic");
            while let Ok(item) = reader.try_next() {
                seen.push(**item);
            }
            assert_eq!(seen, (accepted - seen.len() as u64..accepted).collect::<Vec<_>>());
        });
    }

    #[test]
    fn loom_one_publisher_waits_and_wakes() {
        explore(2, || {
            let (mut publisher, feed) = SolePublisher::<Box<u64>>::new(1).expect("valid");
            let mut reader = feed.subscribe();
            let publishing = thread::spawn(move || {
                for number in 0..2 {
                    block_on(publisher.publish(payload(number))).expect("open");
                }
            });
            for number in 0..2 {
                assert_eq!(block_on(reader.next()).map(|item| **item), Some(number));
            }
            assert!(block_on(reader.next()).is_none(), "the end is seen");
            publishing.join().expect("no panic");
        });
    }

    #[test]
    fn loom_a_subscriber_that_sleeps_is_woken() {
        explore(3, || {
            let ring = Multicast::new(1).expect("valid");
            let mut reader = ring.subscribe();
            let publisher = thread::spawn(move || {
                ring.try_publish(payload(1)).expect("room");
            });
            assert_eq!(block_on(reader.next()).map(|item| **item), Some(1));
            assert!(block_on(reader.next()).is_none(), "the end is seen");
            publisher.join().expect("no panic");
        });
    }

    /// Two sleep at different times, two publish: nobody is counted out while another falls asleep.
    #[test]
    fn loom_of_two_subscribers_that_sleep_none_is_forgotten() {
        explore(2, || {
            let ring = Multicast::<Box<u64>>::new(2).expect("valid");
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let mut reader = ring.subscribe();
                    thread::spawn(move || {
                        for number in 0..2 {
                            assert_eq!(block_on(reader.next()).map(|item| **item), Some(number));
                        }
                    })
                })
                .collect();
            for number in 0..2 {
                ring.try_publish(payload(number)).expect("room");
            }
            for reader in readers {
                reader.join().expect("no panic");
            }
        });
    }

    #[test]
    fn loom_a_publisher_that_waits_for_room_is_woken() {
        explore(3, || {
            let ring = Multicast::new(1).expect("valid");
            let mut reader = ring.subscribe();
            let publisher = thread::spawn(move || {
                for number in 0..2 {
                    block_on(ring.publish(payload(number))).expect("open");
                }
            });
            for number in 0..2 {
                assert_eq!(block_on(reader.next()).map(|item| **item), Some(number));
            }
            publisher.join().expect("no panic");
        });
    }

    #[test]
    fn loom_a_publisher_waits_for_a_subscriber_that_leaves() {
        explore(3, || {
            let ring = Multicast::new(1).expect("valid");
            let reader = ring.subscribe();
            ring.try_publish(payload(0)).expect("room");
            let leaver = thread::spawn(move || drop(reader));
            block_on(ring.publish(payload(1))).expect("open");
            leaver.join().expect("no panic");
            assert_eq!(ring.abandoned(), 1);
        });
    }

    #[test]
    fn loom_drop_oldest_against_a_slow_reader() {
        explore(3, || {
            let ring = Multicast::new(1).expect("valid");
            let mut reader = ring.subscribe_lossy(1, Loss::DropOldest).expect("valid");
            let publisher = thread::spawn(move || {
                for number in 0..2 {
                    ring.try_publish(std::sync::Arc::new(number)).expect("nobody to wait for");
                }
            });
            let (mut received, mut missed, mut next) = (0, 0, 0);
            while let Some(message) = block_on(reader.receive()) {
                match message {
                    Received::Message(number) => {
                        assert_eq!(*number, next, "a gap comes before what follows it");
                        next += 1;
                        received += 1;
                    }
                    Received::Gap(gap) => {
                        assert_eq!(gap.first, next);
                        next = gap.last + 1;
                        missed += gap.missed;
                    }
                }
            }
            publisher.join().expect("no panic");
            assert_eq!(received + missed, 2);
        });
    }

    #[test]
    fn loom_a_subscriber_that_comes_while_publishing_sees_a_suffix() {
        explore(3, || {
            let ring = Multicast::new(2).expect("valid");
            let publishing = ring.clone();
            let publisher = thread::spawn(move || {
                for number in 0..3 {
                    if publishing.try_publish(payload(number)).is_err() {
                        return number;
                    }
                }
                3
            });
            let mut reader = ring.subscribe();
            let accepted = publisher.join().expect("no panic");
            let mut seen = Vec::new();
            while let Ok(item) = reader.try_next() {
                seen.push(**item);
            }
            assert_eq!(seen, (accepted - seen.len() as u64..accepted).collect::<Vec<_>>());
        });
    }

    #[test]
    fn loom_publishers_lap_each_other_when_nobody_subscribes() {
        explore(2, || {
            let ring = Multicast::new(1).expect("valid");
            let other = ring.clone();
            let publisher = thread::spawn(move || other.try_publish(payload(1)).expect("nobody to wait for"));
            ring.try_publish(payload(2)).expect("nobody to wait for");
            let mut late = ring.subscribe();
            publisher.join().expect("no panic");
            assert!(ring.try_publish(payload(3)).is_ok() || late.try_next().is_ok());
        });
    }

    #[test]
    fn loom_a_trim_beside_a_publisher_and_a_reader() {
        explore(3, || {
            let ring = Multicast::new(1).expect("valid");
            let mut reader = ring.subscribe();
            ring.try_publish(payload(0)).expect("room");
            let trimming = ring.clone();
            let trimmer = thread::spawn(move || trimming.trim());
            assert_eq!(reader.try_next().map(|item| **item), Ok(0));
            ring.try_publish(payload(1)).expect("room");
            trimmer.join().expect("no panic");
            assert_eq!(reader.try_next().map(|item| **item), Ok(1));
        });
    }

    #[test]
    fn loom_reserved_room_beside_a_publisher() {
        explore(3, || {
            let ring = Multicast::new(2).expect("valid");
            let mut reader = ring.subscribe();
            let publishing = ring.clone();
            let publisher =
                thread::spawn(move || (0..2).filter(|n| publishing.try_publish(payload(*n)).is_ok()).count());
            let mut count = 0;
            if let Ok(mut permit) = ring.try_reserve(1) {
                permit.publish(payload(9)).expect("room was set aside");
                count += 1;
            }
            count += publisher.join().expect("no panic");
            let read = std::iter::from_fn(|| reader.try_next().ok().map(|item| **item)).count();
            assert_eq!(read, count, "published = delivered");
        });
    }
}

#[cfg(all(message_bus_shuttle, not(message_bus_loom)))]
mod random_orders {
    use shuttle::future::block_on;
    use shuttle::thread;

    use super::{Loss, Multicast, Received, SolePublisher};

    const PUBLISHERS: u64 = 3;
    const EACH: u64 = 6;

    fn schedules() -> usize {
        std::env::var("SCHEDULES").map_or(1_000, |number| number.parse().expect("a number"))
    }

    /// Publishers that wait, in batches and singly, subscribers that come, stay and leave, and lossy ones: every account adds up.
    fn everyone() {
        let ring: Multicast<std::sync::Arc<(u64, u64)>> = Multicast::new(2).expect("valid");
        let mut threads = Vec::new();
        for _ in 0..2 {
            let mut subscriber = ring.subscribe();
            threads.push(thread::spawn(move || {
                let mut next = [0; PUBLISHERS as usize];
                let mut count = 0;
                while let Some(batch) = block_on(subscriber.next_batch(2)) {
                    for message in &batch {
                        assert_eq!(message.1, next[message.0 as usize], "the order of each publisher");
                        next[message.0 as usize] += 1;
                        count += 1;
                    }
                }
                assert_eq!(count, PUBLISHERS * EACH, "published = delivered");
            }));
        }
        for loss in [Loss::DropOldest, Loss::DropNewest, Loss::conflate_by(|m: &std::sync::Arc<(u64, u64)>| m.1 % 2)] {
            let mut subscriber = ring.subscribe_lossy(1, loss).expect("valid");
            threads.push(thread::spawn(move || {
                let (mut received, mut missed) = (0, 0);
                while let Some(next) = block_on(subscriber.receive()) {
                    match next {
                        Received::Message(_) => received += 1,
                        Received::Gap(gap) => missed += gap.missed,
                    }
                }
                assert_eq!(received + missed, PUBLISHERS * EACH, "published = delivered + dropped");
            }));
        }
        {
            let ring = ring.clone();
            threads.push(thread::spawn(move || {
                let mut passing = ring.subscribe();
                drop(passing.try_next());
                ring.trim();
                drop(ring);
                drop(passing);
            }));
        }
        for publisher in 0..PUBLISHERS {
            let ring = ring.clone();
            threads.push(thread::spawn(move || {
                for number in (0..EACH).step_by(2) {
                    let pair = [number, number + 1].map(|number| std::sync::Arc::new((publisher, number)));
                    if publisher == 0 {
                        block_on(ring.publish_all(&mut pair.into())).expect("open");
                    } else if publisher == 1 {
                        let mut permit = block_on(ring.reserve(2)).expect("open");
                        for message in pair {
                            permit.publish(message).expect("room was set aside");
                        }
                    } else {
                        for message in pair {
                            block_on(ring.publish(message)).expect("open");
                        }
                    }
                }
            }));
        }
        drop(ring);
        for thread in threads {
            thread.join().expect("no panic");
        }
    }

    /// The same with one publisher, and subscribers that come and go beside it.
    fn one_publisher() {
        const SENT: u64 = 12;
        let (mut publisher, feed) = SolePublisher::<std::sync::Arc<u64>>::new(4).expect("valid");
        let mut threads = Vec::new();
        for most in [2, 3] {
            let mut subscriber = feed.subscribe_with(most, crate::ring::Pressure::Block).expect("valid");
            threads.push(thread::spawn(move || {
                let mut next = 0;
                while let Some(batch) = block_on(subscriber.next_batch(most)) {
                    for message in &batch {
                        assert_eq!(**message, next, "the order of the publisher");
                        next += 1;
                    }
                }
                assert_eq!(next, SENT, "published = delivered");
            }));
        }
        let mut lossy = feed.subscribe_lossy(1, Loss::DropOldest).expect("valid");
        threads.push(thread::spawn(move || {
            let (mut received, mut missed) = (0, 0);
            while let Some(next) = block_on(lossy.receive()) {
                match next {
                    Received::Message(_) => received += 1,
                    Received::Gap(gap) => missed += gap.missed,
                }
            }
            assert_eq!(received + missed, SENT, "published = delivered + dropped");
        }));
        threads.push(thread::spawn(move || {
            for _ in 0..2 {
                let mut passing = feed.subscribe();
                let first = block_on(passing.next()).map(|message| **message);
                let second = block_on(passing.next()).map(|message| **message);
                assert!(second.is_none_or(|second| Some(second - 1) == first), "a newcomer misses nothing");
            }
        }));
        threads.push(thread::spawn(move || {
            for number in 0..SENT / 2 {
                block_on(publisher.publish(std::sync::Arc::new(number))).expect("open");
                if number == 3 {
                    publisher.trim();
                }
            }
            for number in (SENT / 2..SENT).step_by(2) {
                let mut pair = [number, number + 1].map(std::sync::Arc::new).into();
                block_on(publisher.publish_all(&mut pair)).expect("open");
            }
        }));
        for thread in threads {
            thread.join().expect("no panic");
        }
    }

    #[test]
    fn shuttle_one_publisher() {
        shuttle::check_random(one_publisher, schedules());
    }

    #[test]
    fn shuttle_one_publisher_with_few_preemptions() {
        shuttle::check_pct(one_publisher, schedules(), 3);
    }

    #[test]
    fn shuttle_everyone_at_once() {
        shuttle::check_random(everyone, schedules());
    }

    #[test]
    fn shuttle_everyone_at_once_with_few_preemptions() {
        shuttle::check_pct(everyone, schedules(), 3);
    }
}
