//! Rings with one publisher and with any number of them do what a simple model does, step by step.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use message_bus::ring::{
    Loss, LossySubscriber, Multicast, Pressure, PublishError, Received, Refused, SolePublisher, Subscriber,
    Subscriptions, TryNextError,
};
use proptest::prelude::*;

/// Counts how many of it are alive.
#[derive(Debug)]
struct Tracked(u64, Arc<AtomicUsize>);

impl Drop for Tracked {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

type Message = Arc<Tracked>;

/// What both kinds of ring can do.
trait Publishes {
    fn with_capacity(capacity: usize) -> (Self, Subscriptions<Message>)
    where
        Self: Sized;
    fn try_publish(&mut self, message: Message) -> Result<u64, PublishError<Message>>;
    fn try_publish_all(&mut self, messages: &mut Vec<Message>) -> Result<u64, Refused>;
    fn published(&self) -> u64;
    fn trim(&mut self) -> usize;
    fn close(&mut self);
}

macro_rules! publishes {
    ($ring:ident, $capacity:ident, $new:expr) => {
        impl Publishes for $ring<Message> {
            fn with_capacity($capacity: usize) -> (Self, Subscriptions<Message>) {
                $new
            }
            fn try_publish(&mut self, message: Message) -> Result<u64, PublishError<Message>> {
                $ring::try_publish(self, message)
            }
            fn try_publish_all(&mut self, messages: &mut Vec<Message>) -> Result<u64, Refused> {
                $ring::try_publish_all(self, messages)
            }
            fn published(&self) -> u64 {
                $ring::published(self)
            }
            fn trim(&mut self) -> usize {
                $ring::trim(self)
            }
            fn close(&mut self) {
                $ring::close(self);
            }
        }
    };
}

publishes!(SolePublisher, capacity, SolePublisher::new(capacity).expect("valid"));
publishes!(Multicast, capacity, {
    let ring = Multicast::new(capacity).expect("valid");
    let subscriptions = ring.subscriptions();
    (ring, subscriptions)
});

#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    Subscribe { capacity: usize },
    SubscribeLossy { capacity: usize },
    Read { who: usize, most: usize, take: usize },
    Leave { who: usize },
    Trim,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_usize..6).prop_map(Step::Publish),
        1 => (1_usize..9).prop_map(|capacity| Step::Subscribe { capacity }),
        1 => (1_usize..9).prop_map(|capacity| Step::SubscribeLossy { capacity }),
        6 => (0_usize..4, 1_usize..9, 0_usize..9).prop_map(|(who, most, take)| Step::Read { who, most, take }),
        1 => (0_usize..4).prop_map(|who| Step::Leave { who }),
        1 => Just(Step::Trim),
    ];
    prop::collection::vec(step, 1..120)
}

/// A subscriber and what the model says of it.
struct Lossless {
    subscriber: Subscriber<Message>,
    capacity: usize,
    waiting: VecDeque<u64>,
}

struct Dropping {
    subscriber: LossySubscriber<Message>,
    next: u64,
}

impl Lossless {
    fn read(&mut self, most: usize, take: usize) {
        assert_eq!(self.subscriber.pending(), self.waiting.len() as u64);
        match self.subscriber.try_next_batch(most) {
            Ok(batch) => {
                assert!(batch.len() <= most && batch.len() <= self.waiting.len());
                let read: Vec<u64> = batch.iter().take(take).map(|message| message.0).collect();
                assert_eq!(read, self.waiting.drain(..read.len()).collect::<Vec<_>>());
            }
            Err(reason) => assert_eq!((reason, self.waiting.len()), (TryNextError::Empty, 0)),
        }
    }
}

impl Dropping {
    /// Messages and gaps are in order and leave out nothing.
    fn read(&mut self, count: usize) {
        for _ in 0..count {
            match self.subscriber.try_receive() {
                Some(Received::Message(message)) => {
                    assert_eq!(message.0, self.next);
                    self.next += 1;
                }
                Some(Received::Gap(gap)) => {
                    assert_eq!((gap.first, gap.last + 1 - gap.first), (self.next, gap.missed));
                    self.next = gap.last + 1;
                }
                None => return,
            }
        }
    }
}

fn check<R: Publishes>(ring_capacity: usize, steps: Vec<Step>) {
    let alive = Arc::new(AtomicUsize::new(0));
    let message = |number| {
        alive.fetch_add(1, Ordering::SeqCst);
        Arc::new(Tracked(number, Arc::clone(&alive)))
    };
    let (mut ring, feed) = R::with_capacity(ring_capacity);
    let (mut lossless, mut lossy) = (Vec::<Lossless>::new(), Vec::<Dropping>::new());
    let (mut published, mut abandoned) = (0, 0);
    for step in steps {
        match step {
            Step::Publish(count) => {
                let fits =
                    count <= ring_capacity && lossless.iter().all(|one| one.waiting.len() + count <= one.capacity);
                let mut messages: Vec<Message> = (published..).take(count).map(message).collect();
                let granted = if count == 1 {
                    ring.try_publish(messages.remove(0)).map_err(|refused| refused.reason)
                } else {
                    ring.try_publish_all(&mut messages)
                };
                if fits || count == 0 {
                    assert_eq!(granted, Ok(published));
                    for one in &mut lossless {
                        one.waiting.extend(published..published + count as u64);
                    }
                    published += count as u64;
                } else {
                    let fits_once = count <= ring_capacity && lossless.iter().all(|one| count <= one.capacity);
                    assert_eq!(granted, Err(if fits_once { Refused::Full } else { Refused::TooLarge }));
                }
            }
            Step::Subscribe { capacity } if lossless.len() < 4 => {
                let capacity = capacity.min(ring_capacity);
                let subscriber = feed.subscribe_with(capacity, Pressure::Block).expect("valid");
                lossless.push(Lossless { subscriber, capacity, waiting: VecDeque::new() });
            }
            Step::SubscribeLossy { capacity } if lossy.len() < 2 => {
                let subscriber = feed.subscribe_lossy(capacity.min(ring_capacity), Loss::DropOldest).expect("valid");
                lossy.push(Dropping { subscriber, next: published });
            }
            Step::Subscribe { .. } | Step::SubscribeLossy { .. } => {}
            Step::Read { who, most, take } => {
                if let Some(one) = lossless.get_mut(who) {
                    one.read(most, take);
                }
                if let Some(one) = lossy.get_mut(who) {
                    one.read(take);
                }
            }
            Step::Leave { who } => {
                if who < lossless.len() {
                    abandoned += lossless.swap_remove(who).waiting.len() as u64;
                }
            }
            Step::Trim => {
                ring.trim();
                if lossy.is_empty() {
                    let longest = lossless.iter().map(|one| one.waiting.len()).max().unwrap_or(0);
                    assert_eq!(alive.load(Ordering::SeqCst), longest, "only what has yet to be read is kept");
                }
            }
        }
        assert_eq!((ring.published(), feed.subscribers()), (published, lossless.len() + lossy.len()));
        assert_eq!(feed.abandoned(), abandoned);
    }
    ring.close();
    for mut one in lossless {
        while !one.waiting.is_empty() {
            one.read(8, 8);
        }
        assert_eq!(one.subscriber.try_next().err(), Some(TryNextError::Closed));
    }
    for mut one in lossy {
        one.read(2 * published as usize);
        assert_eq!(one.next, published, "published = delivered + dropped");
    }
    drop((ring, feed));
    assert_eq!(alive.load(Ordering::SeqCst), 0, "every message is dropped once");
}

proptest! {
    #[test]
    fn a_ring_with_one_publisher_does_what_the_model_does(shift in 0_u32..4, steps in steps()) {
        check::<SolePublisher<Message>>(1 << shift, steps);
    }

    #[test]
    fn a_ring_with_many_publishers_does_what_the_model_does(shift in 0_u32..4, steps in steps()) {
        check::<Multicast<Message>>(1 << shift, steps);
    }
}
