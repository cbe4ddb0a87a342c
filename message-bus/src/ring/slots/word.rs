//! A slot's word: the number last published there, how many were published with it from there on, and whether the message is gone.
//! The count spares subscribers a look at each word of a batch. Numbers may wrap in 47 bits: a slot is a lap, not 2⁴⁷, behind.

pub(super) const EMPTY: u64 = 1;
const COUNT_SHIFT: u32 = 1;
const NUMBER_SHIFT: u32 = 17;
pub(super) const MOST: u64 = (1 << (NUMBER_SHIFT - COUNT_SHIFT)) - 1;

#[inline]
pub(super) fn of(number: u64, count: u64) -> u64 {
    number << NUMBER_SHIFT | count.min(MOST) << COUNT_SHIFT
}

/// How many numbers from this one on are published, if it is.
#[inline]
pub(super) fn published(word: u64, number: u64) -> Option<u64> {
    (word >> NUMBER_SHIFT == number << NUMBER_SHIFT >> NUMBER_SHIFT).then_some(word >> COUNT_SHIFT & MOST)
}
