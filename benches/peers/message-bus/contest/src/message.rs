//! What is sent.

use std::ops::Range;

/// 64 bytes: a number and seven words more.
pub type Message = [u64; 8];

/// The message of this number.
#[must_use]
#[inline]
pub fn message(number: u64) -> Message {
    [number, 1, 2, 3, 4, 5, 6, 7]
}

/// The messages of these numbers.
#[inline]
pub fn messages(numbers: Range<u64>) -> impl ExactSizeIterator<Item = Message> {
    // A range of 64 bits does not know its length; a round is far below 2³².
    (0..(numbers.end - numbers.start) as u32).map(move |offset| message(numbers.start + u64::from(offset)))
}
