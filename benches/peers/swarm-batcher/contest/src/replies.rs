//! Evidence that every call got its own reply.

use harness::Bench;

use crate::answer;

/// The replies of one caller.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Replies {
    sum: u64,
    difference: u64,
}

impl Replies {
    /// Takes the reply to `item`.
    #[inline]
    pub(crate) fn see(&mut self, item: u64, reply: u64) {
        self.sum = self.sum.wrapping_add(reply);
        self.difference |= reply ^ answer(item);
    }
}

/// What the callers of all rounds should have got, and what they did.
#[derive(Debug)]
pub(crate) struct Tally {
    of_round: u64,
    expected: u64,
    observed: u64,
    misled: u64,
}

impl Tally {
    /// Of rounds whose items are numbered from 0 to `calls`.
    pub(crate) fn new(calls: u64) -> Self {
        let of_round = (0..calls).map(answer).fold(0, u64::wrapping_add);
        Self { of_round, expected: 0, observed: 0, misled: 0 }
    }

    /// Adds one round.
    pub(crate) fn add(&mut self, callers: impl Iterator<Item = Replies>) {
        self.expected = self.expected.wrapping_add(self.of_round);
        for replies in callers {
            self.observed = self.observed.wrapping_add(replies.sum);
            self.misled += u64::from(replies.difference != 0);
        }
    }

    pub(crate) fn state(&self, bench: &mut Bench) {
        bench.proof(self.expected, self.observed());
    }

    fn observed(&self) -> String {
        match self.misled {
            0 => self.observed.to_string(),
            callers => format!("{} and {callers} callers with a reply to another call", self.observed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(of: &[(u64, u64)]) -> Replies {
        let mut replies = Replies::default();
        of.iter().for_each(|&(item, reply)| replies.see(item, reply));
        replies
    }

    #[test]
    fn right_replies_add_up_to_what_is_expected() {
        let mut tally = Tally::new(4);
        tally.add([replies(&[(0, answer(0)), (1, answer(1))]), replies(&[(2, answer(2)), (3, answer(3))])].into_iter());
        assert_eq!(tally.observed(), tally.expected.to_string());
    }

    #[test]
    fn swapped_and_lost_replies_are_seen() {
        let mut tally = Tally::new(2);
        tally.add([replies(&[(0, answer(1))]), replies(&[(1, answer(0))])].into_iter());
        assert_ne!(tally.observed(), tally.expected.to_string());
        let mut tally = Tally::new(2);
        tally.add([replies(&[(0, answer(0))])].into_iter());
        assert_ne!(tally.observed(), tally.expected.to_string());
    }
}
