//! Vectors in few bytes, with bounds that hold for every input.
//!
//! A vector is scaled to length one and rotated by a [`Rotation`]; what is kept of it for the scan is one byte a dimension
//! ([`int8`]) and one bit a dimension ([`signs`]). Both answer with intervals that contain the true cosine: nothing here is
//! probable only. Chance decides how narrow an interval is, never whether it is right.

pub(crate) mod int8;
pub(crate) mod rotate;
pub(crate) mod signs;
#[cfg(test)]
mod tests;

use rotate::ROUNDING;

/// Half the distance from 1 to the next `f32`: the largest relative error of one rounding.
const UNIT_ROUNDOFF: f32 = f32::EPSILON / 2.0;

/// The nearest whole number, for magnitudes below 2²².
///
/// Adding 1.5·2²³ leaves no bits for a fraction, so the addition itself rounds. Unlike `f32::round` it needs no instruction that
/// the oldest machines lack, and the compiler can do many at once.
#[inline(always)]
fn nearest(x: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC).to_bits().cast_signed() - MAGIC.to_bits().cast_signed()
}
