//! The ring with subscribers that lose nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use message_bus::ring::{CapacityError, Multicast, Pressure, Refused, SolePublisher, Subscriber, TryNextError};

/// Does not implement `Clone`; counts how many of it are alive.
struct Tracked(u64, Arc<AtomicUsize>);

impl Tracked {
    fn new(number: u64, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self(number, Arc::clone(alive))
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn every_subscriber_reads_the_same_message_where_it_lies() {
    let ring = Multicast::new(4).expect("valid");
    let mut subscribers: Vec<_> = (0..10).map(|_| ring.subscribe()).collect();
    let alive = Arc::new(AtomicUsize::new(0));
    ring.try_publish(Tracked::new(7, &alive)).expect("room");
    let places: Vec<*const Tracked> =
        subscribers.iter_mut().map(|s| &raw const *s.try_next().expect("there")).collect();
    assert!(places.iter().all(|place| *place == places[0]), "one place for all");
    assert_eq!(alive.load(Ordering::SeqCst), 1, "nothing was copied");
    drop((ring, subscribers));
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn capacities_out_of_range_are_refused_and_others_rounded_up() {
    assert_eq!(Multicast::<u8>::new(0).err(), Some(CapacityError::Ring(0)));
    assert_eq!(Multicast::<u8>::new(usize::MAX).err(), Some(CapacityError::Ring(usize::MAX)));
    assert_eq!(SolePublisher::<u8>::new(0).err(), Some(CapacityError::Ring(0)));
    let ring = Multicast::<u8>::new(5).expect("valid");
    assert_eq!(ring.capacity(), 8);
    for asked in [0, 9] {
        let refused = ring.subscribe_with(asked, Pressure::Block).err();
        assert_eq!(refused, Some(CapacityError::Subscriber { asked, ring: 8 }));
    }
}

#[test]
fn a_full_subscriber_refuses_and_the_message_comes_back() {
    for capacity in [1, 2, 3, 8] {
        let ring = Multicast::new(8).expect("valid");
        let mut subscriber = ring.subscribe_with(capacity, Pressure::Block).expect("valid");
        for number in 0..capacity as u64 {
            assert_eq!(ring.try_publish(number), Ok(number));
        }
        let refused = ring.try_publish(99).expect_err("full");
        assert_eq!((refused.reason, refused.message), (Refused::Full, 99));
        assert_eq!(*subscriber.try_next().expect("there"), 0);
        assert_eq!(ring.try_publish(99), Ok(capacity as u64), "what was read made room");
        assert_eq!((subscriber.read(), subscriber.pending()), (1, capacity as u64));
    }
}

#[test]
fn a_ring_of_one_slot_works() {
    let ring = Multicast::new(1).expect("valid");
    let mut subscriber = ring.subscribe();
    for number in 0..10 {
        ring.try_publish(number).expect("room");
        assert_eq!(ring.try_publish(99).expect_err("full").reason, Refused::Full);
        assert_eq!(*subscriber.try_next().expect("there"), number);
        assert_eq!(subscriber.try_next().err(), Some(TryNextError::Empty));
    }
}

#[test]
fn without_subscribers_everything_is_accepted_and_old_messages_are_dropped() {
    let alive = Arc::new(AtomicUsize::new(0));
    let ring = Multicast::new(4).expect("valid");
    for number in 0..100 {
        ring.try_publish(Tracked::new(number, &alive)).expect("nobody to wait for");
    }
    assert_eq!(alive.load(Ordering::SeqCst), 4);
    let mut late = ring.subscribe();
    assert_eq!(late.try_next().err(), Some(TryNextError::Empty), "a subscriber sees what comes after it");
    ring.try_publish(Tracked::new(100, &alive)).expect("room");
    assert_eq!(late.try_next().expect("there").0, 100);
    assert_eq!(ring.trim(), 4, "all of them were read or published to nobody");
    assert_eq!((alive.load(Ordering::SeqCst), ring.trim()), (0, 0));
    for number in 101..110 {
        ring.try_publish(Tracked::new(number, &alive)).expect("room");
        assert_eq!(late.try_next().expect("there").0, number);
    }
    drop(ring);
    drop(late);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn a_trim_leaves_what_somebody_has_yet_to_read() {
    let alive = Arc::new(AtomicUsize::new(0));
    let ring = Multicast::new(8).expect("valid");
    let (mut fast, mut slow) = (ring.subscribe(), ring.subscribe());
    for number in 0..6 {
        ring.try_publish(Tracked::new(number, &alive)).expect("room");
    }
    for _ in 0..6 {
        drop(fast.try_next().expect("there"));
    }
    drop((slow.try_next().expect("there"), ()));
    assert_eq!((ring.trim(), alive.load(Ordering::SeqCst)), (1, 5));
    let batch = slow.try_next_batch(8).expect("there");
    assert_eq!(batch.iter().map(|m| m.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    drop(batch);
    assert_eq!((ring.trim(), alive.load(Ordering::SeqCst)), (5, 0));
}

#[test]
fn a_batch_is_published_whole_or_not_at_all() {
    let ring = Multicast::new(8).expect("valid");
    let mut subscriber = ring.subscribe();
    let mut small = ring.subscribe_with(4, Pressure::Block).expect("valid");
    let mut batch: Vec<u64> = (0..3).collect();
    assert_eq!(ring.try_publish_all(&mut batch), Ok(0));
    assert!(batch.is_empty() && batch.capacity() >= 3);
    batch.extend(3..6);
    assert_eq!(ring.try_publish_all(&mut batch), Err(Refused::Full));
    assert_eq!(batch, [3, 4, 5]);
    batch.extend(6..9);
    assert_eq!(ring.try_publish_all(&mut batch), Err(Refused::TooLarge), "more than a subscriber ever holds");
    batch.extend(9..12);
    assert_eq!(ring.try_publish_all(&mut batch), Err(Refused::TooLarge), "more than the ring holds");
    assert_eq!(ring.try_publish_all(&mut Vec::new()), Ok(3), "nothing is published at once");
    assert_eq!(subscriber.try_next_batch(10).expect("there").iter().sum::<u64>(), 3);
    assert_eq!(small.try_next_batch(2).expect("there").len(), 2);
}

#[test]
fn what_is_not_taken_from_a_batch_comes_again() {
    let ring = Multicast::new(8).expect("valid");
    let mut subscriber = ring.subscribe();
    ring.try_publish_all(&mut (0..6).collect()).expect("room");
    {
        let batch = subscriber.try_next_batch(5).expect("there");
        assert_eq!(batch.len(), 5);
        assert_eq!(batch.iter().take(2).copied().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(batch.iter().next(), Some(&0), "the batch can be looked at twice");
    }
    drop(subscriber.try_next_batch(5).expect("there"));
    assert_eq!(*subscriber.try_next().expect("there"), 2, "a batch that is not looked at counts for nothing");
    assert_eq!((subscriber.read(), subscriber.position()), (3, 3));
}

#[test]
fn after_the_close_subscribers_read_what_was_published_and_see_the_end() {
    let ring = Multicast::new(4).expect("valid");
    let mut subscriber = ring.subscribe();
    ring.try_publish(1).expect("room");
    ring.close();
    let refused = ring.try_publish(2).expect_err("closed");
    assert_eq!((refused.reason, refused.message), (Refused::Closed, 2));
    assert_eq!(ring.try_reserve(1).err(), Some(Refused::Closed));
    assert_eq!(*subscriber.next_blocking().expect("there"), 1);
    assert!(subscriber.next_blocking().is_none());
    assert_eq!(subscriber.try_next().err(), Some(TryNextError::Closed));
}

#[test]
fn the_last_publisher_closes_the_ring() {
    let ring = Multicast::<u8>::new(4).expect("valid");
    let mut subscriber = ring.subscribe();
    let other = ring.clone();
    drop(ring);
    assert_eq!(subscriber.try_next().err(), Some(TryNextError::Empty));
    drop(other);
    assert_eq!(subscriber.try_next().err(), Some(TryNextError::Closed));
}

#[test]
fn a_dropped_subscriber_makes_room_and_its_backlog_counts_as_abandoned() {
    let ring = Multicast::new(4).expect("valid");
    let (stuck, mut other) = (ring.subscribe(), ring.subscribe());
    ring.try_publish_all(&mut (0..4).collect()).expect("room");
    for _ in 0..4 {
        drop(other.try_next());
    }
    assert_eq!(ring.try_publish(4).expect_err("full").reason, Refused::Full);
    drop(stuck);
    assert_eq!((ring.abandoned(), ring.subscribers()), (4, 1));
    ring.try_publish(4).expect("room");
    assert_eq!(*other.try_next().expect("there"), 4);
}

#[test]
fn reserved_room_is_kept_from_others_and_given_back() {
    let ring = Multicast::new(4).expect("valid");
    let mut subscriber = ring.subscribe();
    let mut permit = ring.try_reserve(3).expect("room");
    assert_eq!(ring.try_publish(0), Ok(0));
    assert_eq!(ring.try_publish(9).expect_err("the rest is reserved").reason, Refused::Full);
    assert_eq!(ring.try_reserve(1).err(), Some(Refused::Full));
    assert_eq!(ring.try_reserve(5).err(), Some(Refused::TooLarge));
    assert_eq!(permit.publish(1), Ok(1));
    assert_eq!(permit.left(), 2);
    drop(permit);
    assert_eq!(ring.try_publish_all(&mut vec![2, 3]), Ok(2));
    let read: Vec<u64> = subscriber.try_next_batch(8).expect("there").iter().copied().collect();
    assert_eq!(read, [0, 1, 2, 3]);
    let mut permit = ring.try_reserve(1).expect("room");
    permit.publish(4).expect("reserved");
    assert_eq!(permit.publish(5).expect_err("used up").reason, Refused::Full);
}

#[tokio::test]
async fn a_publisher_waits_for_a_blocking_subscriber_alone() {
    let ring = Multicast::new(2).expect("valid");
    let mut block = ring.subscribe();
    ring.publish(0).await.expect("room");
    ring.publish(1).await.expect("room");
    let mut waiting = Box::pin(ring.publish(2));
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    drop(block.next().await);
    assert_eq!(waiting.await, Ok(2));
    let mut error = ring.subscribe_with(1, Pressure::Error).expect("valid");
    drop(block.next().await);
    ring.publish(3).await.expect("room");
    let refused = ring.publish(4).await.expect_err("one of two would wait, the other does not");
    assert_eq!((refused.reason, refused.message), (Refused::Full, 4));
    assert_eq!(*error.next().await.expect("there"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_waits_no_longer_than_the_subscriber_lets_it() {
    let ring = Multicast::new(1).expect("valid");
    let mut subscriber = ring.subscribe_with(1, Pressure::BlockTimeout(Duration::from_millis(50))).expect("valid");
    ring.publish(0).await.expect("room");
    let before = tokio::time::Instant::now();
    let (first, second) = tokio::join!(ring.publish(1), ring.publish(2));
    assert_eq!(first.expect_err("full").reason, Refused::Timeout);
    assert_eq!(second.expect_err("full").reason, Refused::Timeout, "waiting in line counts");
    assert_eq!(before.elapsed().as_millis(), 50);
    let (published, ()) = tokio::join!(ring.publish(3), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(subscriber.next().await);
    });
    assert_eq!(published, Ok(1));
}

#[test]
fn blocking_publishers_and_subscribers_lose_nothing_and_keep_the_order_of_each_publisher() {
    const EACH: u64 = if cfg!(miri) { 200 } else { 20_000 };
    for (publishers, subscribers, capacity) in [(1, 1, 1), (1, 3, 2), (3, 2, 4), (2, 2, 64)] {
        let ring = Multicast::new(capacity).expect("valid");
        let start = Barrier::new(publishers + subscribers);
        let readers: Vec<_> = (0..subscribers).map(|_| ring.subscribe()).collect();
        thread::scope(|scope| {
            let start = &start;
            for mut reader in readers {
                scope.spawn(move || {
                    start.wait();
                    let mut next = vec![0; publishers];
                    let mut count = 0;
                    while let Some(message) = reader.next_blocking() {
                        let (publisher, number): (usize, u64) = *message;
                        assert_eq!(number, next[publisher]);
                        next[publisher] += 1;
                        count += 1;
                    }
                    assert_eq!(count, publishers as u64 * EACH);
                    assert_eq!(reader.read(), count, "published = delivered");
                });
            }
            for publisher in 0..publishers {
                let ring = ring.clone();
                scope.spawn(move || {
                    start.wait();
                    for number in 0..EACH {
                        ring.publish_blocking((publisher, number)).expect("open");
                    }
                });
            }
            drop(ring);
        });
    }
}

#[test]
fn one_publisher_loses_nothing_while_subscribers_come_and_go() {
    const SENT: u64 = if cfg!(miri) { 200 } else { 20_000 };
    for capacity in [1, 2, 64] {
        let (mut publisher, feed) = SolePublisher::new(capacity).expect("valid");
        // On the heap: what is read too late shows.
        let steady: Vec<Subscriber<Box<u64>>> = (0..2).map(|_| feed.subscribe()).collect();
        thread::scope(|scope| {
            for mut subscriber in steady {
                scope.spawn(move || {
                    let mut next = 0;
                    while let Some(batch) = subscriber.next_batch_blocking(3) {
                        for message in &batch {
                            assert_eq!(**message, next);
                            next += 1;
                        }
                    }
                    assert_eq!(next, SENT, "published = delivered");
                });
            }
            let feed = feed.clone();
            scope.spawn(move || {
                loop {
                    let mut passing = feed.subscribe();
                    let Some(first) = passing.next_blocking().map(|message| **message) else { return };
                    for number in first + 1..first + 5 {
                        match passing.next_blocking() {
                            Some(message) => assert_eq!(**message, number, "a newcomer misses nothing"),
                            None => assert_eq!(number, SENT),
                        }
                        if number == SENT {
                            return;
                        }
                    }
                }
            });
            scope.spawn(move || {
                for number in 0..SENT {
                    publisher.publish_blocking(Box::new(number)).expect("open");
                    if number % 1_000 == 0 {
                        publisher.trim();
                    }
                }
                assert_eq!(publisher.published(), SENT);
            });
        });
        assert_eq!(feed.subscribers(), 0);
        assert_eq!(feed.subscribe().try_next().err(), Some(TryNextError::Closed), "the publisher is gone");
    }
}

/// Publisher and subscriber wait in an executor of their own inside of a task, whose worker does nothing else meanwhile.
#[tokio::test]
async fn who_waits_in_an_executor_inside_of_a_task_is_woken() {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let (mut publisher, feed) = SolePublisher::new(1).expect("valid");
    let mut subscriber = feed.subscribe();
    publisher.try_publish(0).expect("room");
    let reader = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        (0..2).map(|_| subscriber.next_blocking().map(|number| *number)).collect::<Vec<_>>()
    });
    fn block_on<F: Future>(future: F) -> F::Output {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut future = std::pin::pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    }
    block_on(publisher.publish(1)).expect("open");
    assert_eq!(reader.join().expect("no panic"), [Some(0), Some(1)]);

    let mut subscriber = feed.subscribe();
    let writer = thread::spawn(move || {
        for number in 2..4 {
            thread::sleep(Duration::from_millis(5));
            publisher.publish_blocking(number).expect("open");
        }
    });
    // The second batch comes after one that was shorter than it could have been.
    for number in 2..4 {
        let batch = block_on(subscriber.next_batch(10)).expect("open");
        assert!(batch.iter().copied().eq([number]));
        tokio::task::yield_now().await;
    }
    writer.join().expect("no panic");
}

#[test]
fn a_destructor_that_panics_leaves_a_ring_with_one_publisher_whole() {
    struct Bomb(bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.0, "boom");
        }
    }
    let (mut publisher, feed) = SolePublisher::new(2).expect("valid");
    let mut subscriber = feed.subscribe();
    for round in 0..3 {
        let published = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            publisher.try_publish(Bomb(round == 0)).expect("room")
        }));
        assert_eq!(published.is_ok(), round < 2, "the third overwrites the bomb");
        assert_eq!(subscriber.try_next().expect("there").0, round == 0);
    }
    publisher.try_publish(Bomb(false)).expect("room");
    assert!(!subscriber.try_next().expect("there").0);
}

#[test]
fn a_publish_refused_for_a_timeout_on_a_thread_comes_back() {
    let ring = Multicast::new(1).expect("valid");
    let _subscriber = ring.subscribe_with(1, Pressure::BlockTimeout(Duration::from_millis(5))).expect("valid");
    ring.publish_blocking(0).expect("room");
    let refused = ring.publish_blocking(1).expect_err("full");
    assert_eq!((refused.reason, refused.message), (Refused::Timeout, 1));
    assert_eq!(ring.publish_all_blocking(&mut vec![1]), Err(Refused::Timeout));
}

#[test]
fn a_panic_while_a_message_is_lent_or_dropped_leaves_the_ring_whole() {
    struct Bomb(bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.0, "boom");
        }
    }
    let ring = Multicast::new(2).expect("valid");
    let mut subscriber = ring.subscribe();
    ring.try_publish(Bomb(true)).expect("room");
    let lent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _item = subscriber.try_next().expect("there");
        panic!("the reader's own");
    }));
    assert!(lent.is_err());
    assert_eq!(subscriber.read(), 1, "it was lent");
    ring.try_publish(Bomb(false)).expect("room");
    let overwriting = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ring.try_publish(Bomb(false))));
    assert!(overwriting.is_err(), "the publisher drops what it overwrites");
    assert_eq!(subscriber.try_next_batch(4).expect("there").iter().count(), 2, "and its own message is published");
}

#[test]
fn a_subscriber_polled_once_and_left_is_woken_and_forgotten() {
    let ring = Multicast::new(2).expect("valid");
    let mut subscriber = ring.subscribe();
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(subscriber.poll_ready(&mut context), Poll::Pending);
    ring.try_publish(1).expect("room");
    assert_eq!(subscriber.poll_ready(&mut context), Poll::Ready(true));
    assert_eq!(subscriber.poll_ready(&mut context), Poll::Ready(true), "a message that was not taken is still there");
    assert_eq!(*subscriber.try_next().expect("there"), 1);
}

#[tokio::test]
async fn messages_of_any_shape_arrive_whole() {
    #[derive(Clone, Debug, PartialEq)]
    struct Padded {
        small: u8,
        word: u64,
        half: u16,
    }
    async fn arrives<T: Clone + std::fmt::Debug + PartialEq + Send + Sync + 'static>(messages: &[T]) {
        let ring = Multicast::new(2).expect("valid");
        let mut subscriber = ring.subscribe();
        // More than a lap: old values are dropped, and none twice.
        for message in messages.iter().cycle().take(7) {
            ring.publish(message.clone()).await.expect("room");
            assert_eq!(*subscriber.next().await.expect("open"), *message);
        }
        let (mut sole, feed) = SolePublisher::new(2).expect("valid");
        let mut of_sole = feed.subscribe();
        for message in messages.iter().cycle().take(5) {
            for publish in 0..3 {
                if publish < 2 {
                    ring.try_publish(message.clone()).expect("room");
                    sole.try_publish(message.clone()).expect("room");
                } else {
                    assert_eq!(ring.try_publish(message.clone()).expect_err("full").message, *message);
                    assert_eq!(sole.try_publish(message.clone()).expect_err("full").message, *message);
                }
            }
            for _ in 0..2 {
                assert_eq!(*subscriber.try_next().expect("there"), *message);
                assert_eq!(*of_sole.try_next().expect("there"), *message);
            }
            sole.publish(message.clone()).await.expect("room");
            assert_eq!(*of_sole.next().await.expect("open"), *message);
        }
    }
    arrives(&[()]).await;
    arrives(&[1_u8, 255]).await;
    arrives(&[u128::MAX, 1]).await;
    arrives(&[Padded { small: 1, word: 2, half: 3 }, Padded { small: 255, word: u64::MAX, half: 0 }]).await;
    arrives(&[[1_u64; 16], [u64::MAX; 16]]).await;
    arrives(&[[1_u64; 17], [u64::MAX; 17]]).await;
    arrives(&[[3_u8; 72]]).await;
    arrives(&["text".to_owned(), String::new()]).await;
    arrives(&[Some(Arc::new(7)), None]).await;
    arrives(&[vec![Box::new(1)], Vec::new()]).await;
}

#[tokio::test]
async fn a_batch_has_all_that_waits() {
    let ring = Multicast::new(1024).expect("valid");
    let (mut one, mut other, mut late) = (ring.subscribe(), ring.subscribe(), ring.subscribe());
    for number in 0..1000_u64 {
        ring.publish(number).await.expect("room");
    }
    for subscriber in [&mut one, &mut other] {
        let mut batches = 0;
        while subscriber.read() < 1000 {
            let from = subscriber.read();
            let batch = subscriber.next_batch(1000).await.expect("open");
            assert!(batch.iter().copied().eq(from..from + batch.len() as u64));
            batches += 1;
        }
        assert!(batches <= 10, "{batches} batches for what was there all the time");
    }
    let batch = late.next_batch(10).await.expect("open");
    assert_eq!(batch.len(), 10, "no more than was asked for");
    let mut iterator = batch.iter();
    assert_eq!((iterator.next(), iterator.len()), (Some(&0), 9));
    drop(iterator);
    drop(batch);
    assert_eq!(late.read(), 1, "what was not iterated over comes again");
    let mut newcomer = ring.subscribe();
    ring.publish(1000).await.expect("room");
    assert_eq!(newcomer.next_batch(10).await.expect("open").iter().sum::<u64>(), 1000);
}
