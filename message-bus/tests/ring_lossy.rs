//! The ring with subscribers that lose messages instead of holding publishers up.

use std::sync::{Arc, Weak};
use std::thread;

use message_bus::ring::{Gap, Loss, LossySubscriber, Multicast, Pressure, Received, Refused};

fn numbers(ring: &Multicast<u64>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        ring.try_publish(number).expect("a lossy subscriber refuses nothing");
    }
}

fn drain(subscriber: &mut LossySubscriber<u64>) -> Vec<Received<u64>> {
    std::iter::from_fn(|| subscriber.try_receive()).collect()
}

fn gap(first: u64, last: u64, missed: u64) -> Received<u64> {
    Received::Gap(Gap { first, last, missed })
}

#[test]
fn drop_oldest_keeps_the_latest_and_says_first_what_is_missing() {
    for published in [3, 4, 5, 9, 100] {
        let ring = Multicast::new(8).expect("valid");
        let mut subscriber = ring.subscribe_lossy(4, Loss::DropOldest).expect("valid");
        numbers(&ring, 0..published);
        let received = drain(&mut subscriber);
        let kept = published.min(4);
        let missed = published - kept;
        let expected = (missed > 0).then(|| gap(0, missed - 1, missed));
        let expected: Vec<_> = expected.into_iter().chain((missed..published).map(Received::Message)).collect();
        assert_eq!(received, expected);
        assert_eq!((subscriber.received(), subscriber.dropped()), (kept, missed));
    }
}

#[test]
fn drop_newest_keeps_the_first_and_says_afterwards_what_is_missing() {
    for published in [3, 4, 5, 9, 100] {
        let ring = Multicast::new(8).expect("valid");
        let mut subscriber = ring.subscribe_lossy(4, Loss::DropNewest).expect("valid");
        numbers(&ring, 0..published);
        let mut received = drain(&mut subscriber);
        let kept = published.min(4);
        let mut expected: Vec<_> = (0..kept).map(Received::Message).collect();
        expected.extend((published > kept).then(|| gap(kept, published - 1, published - kept)));
        assert_eq!(received, expected);
        numbers(&ring, published..published + 2);
        received = drain(&mut subscriber);
        assert_eq!(received, [Received::Message(published), Received::Message(published + 1)], "it goes on");
        assert_eq!((subscriber.received(), subscriber.dropped()), (kept + 2, published - kept));
    }
}

#[test]
fn disconnect_delivers_what_was_waiting_then_the_gap_and_the_end() {
    let ring = Multicast::new(8).expect("valid");
    let mut subscriber = ring.subscribe_lossy(2, Loss::Disconnect).expect("valid");
    let mut other = ring.subscribe();
    numbers(&ring, 0..5);
    assert!(!subscriber.is_finished());
    let received: Vec<_> = std::iter::from_fn(|| subscriber.receive_blocking()).collect();
    assert_eq!(received, [Received::Message(0), Received::Message(1), gap(2, 4, 3)]);
    assert!(subscriber.is_finished());
    numbers(&ring, 5..8);
    assert_eq!(subscriber.try_receive(), None);
    assert_eq!(other.try_next_batch(8).expect("there").iter().count(), 8, "others go on");
    drop(subscriber);
    assert_eq!(ring.abandoned(), 0);
}

#[test]
fn conflation_delivers_the_latest_of_each_key_in_the_place_of_the_first() {
    let ring = Multicast::new(4).expect("valid");
    let mut subscriber = ring.subscribe_lossy(4, Loss::conflate_by(|n: &u64| n % 3)).expect("valid");
    numbers(&ring, 0..20);
    assert_eq!(
        drain(&mut subscriber),
        [gap(0, 16, 17), Received::Message(18), Received::Message(19), Received::Message(17)]
    );
    numbers(&ring, 20..22);
    assert_eq!(drain(&mut subscriber), [Received::Message(20), Received::Message(21)]);
    numbers(&ring, 22..24);
    assert_eq!(subscriber.try_receive(), Some(Received::Message(22)));
    assert_eq!((subscriber.received(), subscriber.dropped()), (6, 17));
}

#[test]
fn conflation_of_more_keys_than_the_capacity_drops_the_oldest() {
    let ring = Multicast::new(4).expect("valid");
    let mut subscriber = ring.subscribe_lossy(2, Loss::conflate_by(|n: &u64| *n)).expect("valid");
    numbers(&ring, 0..9);
    assert_eq!(drain(&mut subscriber), [gap(0, 6, 7), Received::Message(7), Received::Message(8)]);
}

#[test]
fn a_lossy_subscriber_that_is_stuck_holds_nobody_up() {
    let ring = Multicast::new(8).expect("valid");
    let losses: [fn() -> Loss<u64>; 4] =
        [|| Loss::DropOldest, || Loss::DropNewest, || Loss::Disconnect, || Loss::conflate_by(|n: &u64| n % 2)];
    let stuck: Vec<_> = losses.iter().map(|loss| ring.subscribe_lossy(8, loss()).expect("valid")).collect();
    let mut reader = ring.subscribe();
    for number in 0..1_000 {
        ring.try_publish(number).expect("room");
        assert_eq!(*reader.try_next().expect("there"), number);
    }
    for mut subscriber in stuck {
        while subscriber.try_receive().is_some() {}
        let seen = subscriber.received() + subscriber.dropped();
        assert!(seen == 1_000 || subscriber.is_finished(), "{seen} of 1,000 accounted for");
    }
}

#[test]
fn a_full_gating_subscriber_still_refuses_beside_lossy_ones() {
    let ring = Multicast::new(4).expect("valid");
    let _lossy = ring.subscribe_lossy(4, Loss::DropOldest).expect("valid");
    let _gating = ring.subscribe_with(2, Pressure::Error).expect("valid");
    numbers(&ring, 0..2);
    assert_eq!(ring.try_publish(2).expect_err("full").reason, Refused::Full);
}

#[test]
fn what_a_dropped_lossy_subscriber_leaves_counts_as_abandoned() {
    let ring = Multicast::new(8).expect("valid");
    let mut subscriber = ring.subscribe_lossy(4, Loss::DropOldest).expect("valid");
    numbers(&ring, 0..10);
    assert_eq!(subscriber.try_receive(), Some(gap(0, 5, 6)));
    assert_eq!(subscriber.try_receive(), Some(Received::Message(6)));
    drop(subscriber);
    assert_eq!(ring.abandoned(), 3);
}

#[test]
fn a_message_whose_key_or_clone_panics_is_lost_and_counted() {
    #[derive(Debug, PartialEq)]
    struct Fragile(u64);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert_ne!(self.0 % 4, 1, "cannot be copied");
            Self(self.0)
        }
    }
    let key = |message: &Fragile| {
        assert_ne!(message.0 % 4, 2, "has no key");
        message.0
    };
    for published in [4, 40] {
        let ring = Multicast::new(8).expect("valid");
        let mut conflating = ring.subscribe_lossy(8, Loss::conflate_by(key)).expect("valid");
        let mut dropping = ring.subscribe_lossy(8, Loss::DropOldest).expect("valid");
        for number in 0..published {
            ring.try_publish(Fragile(number)).expect("room");
        }
        while let Some(received) = conflating.try_receive() {
            assert!(received.message().is_none_or(|m| m.0 % 4 == 0 || m.0 % 4 == 3));
        }
        while let Some(received) = dropping.try_receive() {
            assert!(received.message().is_none_or(|m| m.0 % 4 != 1));
        }
        assert_eq!(conflating.received() + conflating.dropped(), published);
        assert_eq!(dropping.received() + dropping.dropped(), published);
    }
}

/// Whatever the timing, each subscriber's account adds up and its order holds.
#[test]
fn under_load_every_loss_is_counted() {
    const EACH: u64 = if cfg!(miri) { 200 } else { 50_000 };
    const PUBLISHERS: u64 = 2;
    type Shared = Arc<(u64, u64)>;
    let ring: Multicast<Shared> = Multicast::new(16).expect("valid");
    let losses: [fn() -> Loss<Shared>; 3] =
        [|| Loss::DropOldest, || Loss::DropNewest, || Loss::conflate_by(|m: &Shared| m.1 % 5)];
    thread::scope(|scope| {
        for loss in losses {
            let mut subscriber = ring.subscribe_lossy(8, loss()).expect("valid");
            scope.spawn(move || {
                let mut last = [None; PUBLISHERS as usize];
                let (mut received, mut missed) = (0, 0);
                let conflates = matches!(loss(), Loss::Conflate(_));
                while let Some(next) = subscriber.receive_blocking() {
                    match next {
                        Received::Message(message) => {
                            let last = &mut last[message.0 as usize];
                            assert!(conflates || *last < Some(message.1), "order holds");
                            *last = Some(message.1);
                            received += 1;
                        }
                        Received::Gap(gap) => missed += gap.missed,
                    }
                }
                assert_eq!(received + missed, PUBLISHERS * EACH);
                assert_eq!((subscriber.received(), subscriber.dropped()), (received, missed));
            });
        }
        for publisher in 0..PUBLISHERS {
            let ring = ring.clone();
            scope.spawn(move || {
                for number in 0..EACH {
                    ring.try_publish(Arc::new((publisher, number))).expect("nobody to wait for");
                }
            });
        }
        drop(ring);
    });
}

#[test]
fn the_destructor_of_a_lost_message_may_publish_to_the_ring() {
    /// Publishes once more when it is dropped.
    struct Echo(Weak<Multicast<Arc<Echo>>>);
    impl Drop for Echo {
        fn drop(&mut self) {
            if let Some(ring) = self.0.upgrade() {
                ring.try_publish(Arc::new(Echo(Weak::new()))).expect("a lossy subscriber refuses nothing");
            }
        }
    }
    let ring = Arc::new(Multicast::new(1).expect("valid"));
    let mut subscriber = ring.subscribe_lossy(1, Loss::DropOldest).expect("valid");
    for _ in 0..4 {
        ring.try_publish(Arc::new(Echo(Arc::downgrade(&ring)))).expect("a lossy subscriber refuses nothing");
    }
    let (mut received, mut missed) = (0, 0);
    while let Some(next) = subscriber.try_receive() {
        match next {
            Received::Message(_) => received += 1,
            Received::Gap(gap) => missed += gap.missed,
        }
    }
    assert_eq!(received + missed, ring.published(), "published = delivered + dropped");
}

#[test]
fn a_panic_whose_payload_panics_when_dropped_is_one_lost_message() {
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            panic!("boom, again");
        }
    }
    struct Uncloneable;
    impl Clone for Uncloneable {
        fn clone(&self) -> Self {
            std::panic::panic_any(Payload)
        }
    }
    let ring = Multicast::new(2).expect("valid");
    let mut subscriber = ring.subscribe_lossy(2, Loss::DropOldest).expect("valid");
    ring.try_publish(Uncloneable).map_err(|refused| refused.reason).expect("room");
    assert!(matches!(subscriber.try_receive(), Some(Received::Gap(Gap { first: 0, last: 0, missed: 1 }))));
    assert!(subscriber.try_receive().is_none());
}
