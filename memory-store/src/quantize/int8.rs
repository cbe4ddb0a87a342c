//! One byte a dimension, with what was lost.

use super::{ROUNDING, UNIT_ROUNDOFF, nearest};
use crate::kernel::Kernel;

/// What no code accounts for in [`bounds`], in units of cosine; derived there.
const SLOP: f32 = 3.0 * ROUNDING;

/// What belongs to the codes of a row: `|x − scale · (code − 128)| ≤ residual`, for the `x` that was encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Int8 {
    /// Length of one step of the codes; 0 for a vector of zeros.
    pub(crate) scale: f32,
    /// Bound of the length of what the codes leave out.
    pub(crate) residual: f32,
}

/// Writes the codes of a rotated unit vector, in offset binary (128 is zero).
///
/// They span the largest component exactly. Clipping it to get finer steps was tried and loses: with 254 steps the error of one
/// clipped component soon outweighs what all the others gain.
///
/// # Panics
/// When the lengths differ.
pub(crate) fn encode(unit: &[f32], codes: &mut [u8]) -> Int8 {
    assert_eq!(unit.len(), codes.len(), "one code for each component");
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "128 ± 127 is a byte")]
    Kernel::detect().run(|| quantize(unit, codes, |level| (level + 128) as u8))
}

/// The codes of a query, which are signed, and what belongs to them. Its memory is used again by the next query.
#[derive(Debug, Clone, Default)]
pub(crate) struct QueryCode {
    /// One code for each component.
    pub(crate) codes: Vec<i8>,
    /// Sum of the codes.
    pub(crate) sum: i32,
    /// Length of one step of the codes; 0 for a vector of zeros.
    pub(crate) scale: f32,
    /// Bound of the length of what the codes leave out.
    pub(crate) residual: f32,
}

impl QueryCode {
    /// Replaces the query by another rotated unit vector.
    pub(crate) fn encode(&mut self, unit: &[f32]) {
        self.codes.resize(unit.len(), 0);
        let codes = &mut self.codes[..];
        #[expect(clippy::cast_possible_truncation, reason = "±127 is a signed byte")]
        let (code, sum) = Kernel::detect().run(|| {
            let code = quantize(unit, codes, |level| level as i8);
            (code, codes.iter().map(|&code| i32::from(code)).sum())
        });
        (self.sum, self.scale, self.residual) = (sum, code.scale, code.residual);
    }
}

/// Rounds components to multiples of a scale and bounds what that leaves out.
///
/// With `u = 2⁻²⁴`: a computed component of the rest, `x − scale · level`, is off by one rounding of the product and one of the
/// difference. Over the vector that is at most `u (|x| + rest) + u rest`; as `|x| ≤ 1 + ROUNDING` and the rest is never longer
/// than `x`, less than `4 u`. Squares that underflow lose less than `2⁻⁶⁰`. Summing the squares in 16 lanes of `n / 16` and the
/// final root cost at most `(n / 16 + 8) u ≤ n u` of the length, `n` being a multiple of 64 or the sum having fewer terms.
#[inline(always)]
fn quantize<T>(unit: &[f32], codes: &mut [T], code: impl Fn(i32) -> T) -> Int8 {
    let largest = f32::from_bits(unit.iter().map(|x| x.to_bits() & 0x7FFF_FFFF).max().unwrap_or(0));
    let scale = largest / 127.0;
    let steps = if scale > 0.0 { 127.0 / largest } else { 0.0 };
    let mut squares = [0.0f32; 16];
    for (xs, codes) in unit.chunks(16).zip(codes.chunks_mut(16)) {
        for ((&x, slot), square) in xs.iter().zip(codes).zip(&mut squares) {
            let level = nearest(x * steps);
            *slot = code(level);
            let rest = x - scale * level as f32;
            *square += rest * rest;
        }
    }
    let rest = squares.iter().sum::<f32>().sqrt();
    Int8 { scale, residual: rest * (1.0 + (unit.len() as f32 + 8.0) * UNIT_ROUNDOFF) + 4.0 * UNIT_ROUNDOFF }
}

/// The cosine of a query and a row: `(middle, radius)` of an interval that contains it.
///
/// `dot` is what [`Kernel::dots`](crate::kernel::Kernel::dots) gives for their codes. Let `x̂`, `q̂` be the exact rotated unit
/// vectors, `x`, `q` the computed ones, `x'`, `q'` what the codes stand for, `ρ` = [`ROUNDING`], and `r_x`, `r_q` the residuals.
/// By the inequality of Cauchy and Schwarz
///
/// * `|x̂·q̂ − x·q| ≤ |x̂ − x| |q̂| + |x| |q̂ − q| ≤ ρ + (1 + ρ) ρ`,
/// * `|x·q − x'·q'| ≤ |x − x'| |q| + |x'| |q − q'| ≤ r_x (1 + ρ) + (1 + ρ + r_x) r_q`.
///
/// Up to 8192 dimensions a residual is at most `√8192 / 254 < 0.36`. So beyond `r_x + r_q (1 + r_x)` there are at most
/// `2.73 ρ`; computing `x'·q'` and the radius in `f32` adds fewer than 8 roundings of numbers below 1.9, which is `0.24 ρ`.
#[inline]
pub(crate) fn bounds(query: &QueryCode, row: Int8, dot: i32) -> (f32, f32) {
    let middle = query.scale * row.scale * dot as f32;
    (middle, row.residual + query.residual * (1.0 + row.residual) + SLOP)
}
