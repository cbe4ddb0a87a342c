//! What keeps a producer from overwriting messages that were not read: the channel's capacity in two halves, each of which is used again
//! when every consumer has acknowledged it. One acknowledgement a half and consumer: little beside what the messages cost.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// The producer's side.
#[derive(Debug)]
pub(crate) struct Window {
    half: u64,
    consumers: u32,
    acknowledged: Arc<[Semaphore; 2]>,
}

/// A consumer's side.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledge {
    half: u64,
    acknowledged: Arc<[Semaphore; 2]>,
}

/// A window of `capacity` messages.
pub(crate) fn window(capacity: u64, consumers: usize) -> (Window, Acknowledge) {
    let half = capacity / 2;
    // Both halves start out empty.
    let acknowledged = Arc::new([Semaphore::new(consumers), Semaphore::new(consumers)]);
    let acknowledge = Acknowledge { half, acknowledged: Arc::clone(&acknowledged) };
    (Window { half, consumers: consumers as u32, acknowledged }, acknowledge)
}

impl Window {
    /// Waits until there is room for the message of this number; messages are numbered from 0 and each is asked for.
    #[inline]
    pub(crate) async fn room_for(&self, number: u64) {
        if number.is_multiple_of(self.half) {
            let half = &self.acknowledged[(number / self.half % 2) as usize];
            half.acquire_many(self.consumers).await.expect("open").forget();
        }
    }
}

impl Acknowledge {
    /// A consumer has read so many messages; each number is told once.
    #[inline]
    pub(crate) fn has_read(&self, count: u64) {
        if count.is_multiple_of(self.half) {
            self.acknowledged[((count / self.half + 1) % 2) as usize].add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn producer_gets_a_capacity_ahead_of_the_slowest_consumer_and_no_further() {
        let (window, acknowledge) = window(8, 2);
        let is_ready = |number: u64| {
            let mut room = pin!(window.room_for(number));
            room.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
        };
        assert!((0..8).all(is_ready));
        assert!(!is_ready(8));
        (1..=8).for_each(|count| acknowledge.has_read(count));
        assert!(!is_ready(8), "the other consumer has read nothing");
        (1..=4).for_each(|count| acknowledge.has_read(count));
        assert!((8..12).all(is_ready));
        assert!(!is_ready(12));
        (5..=8).for_each(|count| acknowledge.has_read(count));
        assert!((12..16).all(is_ready));
    }
}
