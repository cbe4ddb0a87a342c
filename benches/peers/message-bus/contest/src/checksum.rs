//! What a consumer makes of its messages.

use crate::Message;

/// The words of all messages that one consumer got, added up, and whether they came in order.
#[derive(Debug, Default, Clone)]
pub struct Checksum {
    seen: u64,
    sum: u64,
    disorder: u64,
}

impl Checksum {
    /// Takes the next message.
    #[inline]
    pub fn see(&mut self, message: &Message) {
        self.disorder |= message[0] ^ self.seen;
        self.seen += 1;
        self.sum += message.iter().sum::<u64>();
    }

    /// Messages so far.
    #[must_use]
    #[inline]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The sum; nothing where a message came out of its order, came twice, or was left out.
    pub(crate) fn in_order(&self) -> Option<u64> {
        (self.disorder == 0).then_some(self.sum)
    }

    /// The sum of the first `count` messages.
    pub(crate) fn of_first(count: u64) -> u64 {
        count * count.saturating_sub(1) / 2 + 28 * count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message;

    #[test]
    fn sum_of_what_came_in_order_is_that_of_the_first_messages() {
        let mut checksum = Checksum::default();
        (0..1_000).for_each(|number| checksum.see(&message(number)));
        assert_eq!(checksum.in_order(), Some(Checksum::of_first(1_000)));
    }

    #[test]
    fn swapped_doubled_and_lost_messages_give_no_sum() {
        for numbers in [&[0, 2, 1][..], &[0, 0, 1], &[0, 2]] {
            let mut checksum = Checksum::default();
            numbers.iter().for_each(|&number| checksum.see(&message(number)));
            assert_eq!(checksum.in_order(), None, "{numbers:?}");
        }
    }
}
