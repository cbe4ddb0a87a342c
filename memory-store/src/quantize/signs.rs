//! One bit a dimension: a plane that tells most rows apart from a query before their codes are read.
//!
//! Let `σ` be the signs of a row. Angles obey the triangle inequality, so when `α` is the angle between the row and `σ` and `β` the
//! one between the query and `σ`, query and row are at least `β − α` apart. `cos α` is kept with the row; `cos β` is `S / √dim`
//! with `S = Σ σ_i q_i`, which tables of four dimensions each add up for 64 rows at a time.

use super::{ROUNDING, UNIT_ROUNDOFF, nearest};
use crate::kernel::{Kernel, PLANE_BLOCK, ROWS, Work};

/// The sign that code `code` has in the plane, as the sign bit of a float: set for a minus.
#[inline(always)]
fn minus(code: u8) -> u32 {
    (u32::from(!code) & 0x80) << 24
}

/// Lower bound of the cosine between a rotated unit vector and its signs, `Σ σ_i x_i / √dim` with `σ_i = +1` iff `codes[i] ≥ 128`.
///
/// It is rounded down, past what [`ROUNDING`] allows the vector itself to be off. That is the safe side: a smaller cosine is a
/// larger `α`, hence a smaller least angle `β − α` to a query, hence a larger upper bound of the row's cosine. For the same reason
/// the least of several rows' alignments may stand for each of them.
///
/// With `u = 2⁻²⁴`, adding `n` numbers in 16 lanes is off by `(n / 16 + 17) u Σ |x_i| ≤ (n / 16 + 17) u √dim (1 + ρ)`, and the
/// division and the subtraction by a few `u`.
///
/// # Panics
/// When either is shorter than `dim`.
pub(crate) fn alignment(unit: &[f32], codes: &[u8], dim: usize) -> f32 {
    let sum = Kernel::detect().run(Signed { unit: &unit[..dim], codes: &codes[..dim] });
    sum / (dim as f32).sqrt() - ROUNDING - (dim as f32 / 16.0 + 24.0) * UNIT_ROUNDOFF
}

/// `Σ σ_i x_i`.
struct Signed<'a> {
    unit: &'a [f32],
    codes: &'a [u8],
}

impl Work for Signed<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        let mut sums = [0.0f32; 16];
        let (units, unit_tail) = self.unit.as_chunks::<16>();
        let (signs, sign_tail) = self.codes.as_chunks::<16>();
        for (xs, codes) in units.iter().zip(signs) {
            for ((sum, x), &code) in sums.iter_mut().zip(xs).zip(codes) {
                *sum += f32::from_bits(x.to_bits() ^ minus(code));
            }
        }
        for ((sum, x), &code) in sums.iter_mut().zip(unit_tail).zip(sign_tail) {
            *sum += f32::from_bits(x.to_bits() ^ minus(code));
        }
        let mut total = 0.0;
        for sum in sums {
            total += sum;
        }
        total
    }
}

/// Writes the sign plane of 64 rows of codes, `stride` bytes apart.
///
/// # Panics
/// When `stride` is not a multiple of 64, `codes` has not 64 rows or `plane` not `8 · stride` bytes.
pub(crate) fn pack(codes: &[u8], stride: usize, plane: &mut [u8]) {
    assert_eq!(codes.len(), ROWS * stride, "a plane covers 64 rows");
    for (row, codes) in codes.chunks_exact(stride).enumerate() {
        pack_row(codes, row, plane);
    }
}

/// Writes the signs of one row into a plane and leaves those of the other rows alone.
///
/// # Panics
/// When `codes` is not a multiple of 64 long, `row` is 64 or more, or `plane` has not `8 · codes.len()` bytes.
pub(crate) fn pack_row(codes: &[u8], row: usize, plane: &mut [u8]) {
    assert!(codes.len().is_multiple_of(64) && row < ROWS, "rows are padded and there are 64");
    assert_eq!(plane.len(), codes.len() * ROWS / 8, "a plane has a bit for each code");
    for (codes, block) in codes.as_chunks::<32>().0.iter().zip(plane.as_chunks_mut::<PLANE_BLOCK>().0) {
        block.as_chunks_mut::<4>().0[row] = word(codes).to_le_bytes();
    }
}

/// The four bytes that a row has in one block of a plane.
fn word(codes: &[u8; 32]) -> u32 {
    // Multiplying gathers the top bits of eight bytes in the top byte, the first byte's lowest.
    let gathered = |codes: &[u8; 8]| {
        ((u64::from_le_bytes(*codes) >> 7 & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
    };
    let [a, b, c, d] = [0, 1, 2, 3].map(|eighth| gathered(&codes.as_chunks().0[eighth]));
    // Four nibbles to the low halves of four bytes.
    let spread = |nibbles: u32| {
        let pairs = (nibbles | nibbles << 8) & 0x00FF_00FF;
        (pairs | pairs << 4) & 0x0F0F_0F0F
    };
    spread(a | b << 8) | spread(c | d << 8) << 4
}

/// What a query needs to read a sign plane: `S = Σ σ_i q_i` lies within `step · sum + base ± error`.
///
/// `S` belongs to the exact rotated unit vector of the query, not only to the computed one.
#[derive(Debug, Clone, Default)]
pub(crate) struct SignQuery {
    /// For each group of four dimensions and each combination of signs, what it adds to the sum.
    pub(crate) lut: Vec<[u8; 16]>,
    /// What one unit of the sum adds to `S`.
    pub(crate) step: f32,
    /// `S` where the sum is 0.
    pub(crate) base: f32,
    /// How far `S` may be off.
    pub(crate) error: f32,
    /// `√dim`, the length of `σ`.
    length: f64,
}

impl SignQuery {
    /// Replaces the query by another rotated unit vector.
    ///
    /// An entry is rounded to the nearest step: half a step for each of the groups, plus what `f32` does to the entries (eight
    /// roundings of at most `2 Σ |q_i| ≤ 2 √dim` in all groups together), to `base` (one), and what [`ROUNDING`] allows the
    /// query itself to be off.
    ///
    /// # Panics
    /// When `unit` is shorter than `dim` or not a multiple of 64 long.
    pub(crate) fn encode(&mut self, unit: &[f32], dim: usize) {
        assert!(unit.len().is_multiple_of(64) && dim <= unit.len(), "queries are padded");
        let groups = dim.div_ceil(4);
        // 255 steps as long as the sums of all groups stay within 16 bits.
        let most = (usize::from(u16::MAX) / groups.max(1)).min(255) as f32;
        self.lut.clear();
        self.lut.resize(unit.len() / 4, [0; 16]);
        let lut = &mut self.lut[..groups];
        let (step, base) = Kernel::detect().run(Fill { unit: &unit[..dim], lut, most });
        self.length = (dim as f64).sqrt();
        (self.step, self.base) = (step, base);
        self.error = groups as f32 * step * 0.5001 + self.length as f32 * (ROUNDING + 32.0 * UNIT_ROUNDOFF);
    }

    /// What the sums of rows have to be whose cosine with the query can reach `cosine`, their alignment being at least `alignment`.
    ///
    /// A sum of 0 when all can and `None` when none can. It is rounded down, so that no row is lost to the arithmetic of this
    /// function; slop of the caller's own has to be taken off `cosine`, which is a number.
    pub(crate) fn least_sum(&self, cosine: f64, alignment: f32) -> Option<Least> {
        if cosine > 1.0 + ARITHMETIC {
            return None;
        }
        let (alpha, gamma) = (f64::from(alignment).clamp(-1.0, 1.0), (cosine - ARITHMETIC).clamp(-1.0, 1.0));
        let all = Least { sum: 0, alignment, slope: 0.0 };
        // β ≤ α + γ is needed, which every β is when the right side reaches π, that is when cos α ≤ −cos γ.
        if alpha <= -gamma {
            return Some(all);
        }
        let (sine_alpha, sine_gamma) = (sine(alpha), sine(gamma));
        let beta = alpha * gamma - sine_alpha * sine_gamma;
        let short = self.length * (beta - ARITHMETIC) - f64::from(self.base) - f64::from(self.error);
        if short <= 0.0 {
            return Some(all);
        }
        let least = short / f64::from(self.step);
        // Near an alignment of 1 the tangent is too steep for `f32`, and there is next to nothing above it.
        let slope = if sine_alpha > 1e-2 { gamma + alpha * sine_gamma / sine_alpha } else { 0.0 };
        let slope = (self.length * slope.max(0.0) / f64::from(self.step)) as f32;
        (least <= f64::from(u16::MAX)).then_some(Least { sum: least as u16, alignment, slope })
    }

    /// Upper bound of the cosine of a row with this sum and at least this alignment.
    #[cfg(test)]
    pub(crate) fn upper(&self, sum: u16, alignment: f32) -> f32 {
        let sum = f64::from(self.step) * f64::from(sum) + f64::from(self.base) + f64::from(self.error);
        let (alpha, beta) = (f64::from(alignment).clamp(-1.0, 1.0), (sum / self.length).clamp(-1.0, 1.0));
        if beta >= alpha {
            return 1.0;
        }
        ((alpha * beta + sine(alpha) * sine(beta) + ARITHMETIC) as f32).min(1.0)
    }
}

/// The sums of rows that can reach a cosine.
///
/// What a row needs is `cos(α + γ)` of its alignment `cos α`, which is convex in the alignment: the tangent at the least alignment of
/// many rows lies below it everywhere, and asks of a better aligned row nearly all that its own bound would.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Least {
    /// What a row needs that is aligned the least.
    pub(crate) sum: u16,
    alignment: f32,
    slope: f32,
}

impl Least {
    /// Whether a row of this sum, which is at least [`sum`](Self::sum), and of this alignment can reach the cosine. The 1 is for rounding.
    #[inline]
    pub(crate) fn admits(&self, sum: u16, alignment: f32) -> bool {
        f32::from(sum) + 1.0 >= f32::from(self.sum) + self.slope * (alignment - self.alignment)
    }
}

/// More than the arithmetic of the bounds can be off, in units of cosine. A cosine off by `2⁻⁵²` makes a sine off by up to `2⁻²⁵·⁵`
/// where the angle is small, and rounding the result to `f32` costs `2⁻²⁵` at most.
const ARITHMETIC: f64 = 2.0e-7;

/// The sine that belongs to the cosine of an angle in `0..=π`.
#[inline]
fn sine(cosine: f64) -> f64 {
    ((1.0 - cosine) * (1.0 + cosine)).sqrt()
}

/// For each of four dimensions the signs that the 16 combinations have there.
const SIGNS: [[f32; 16]; 4] = {
    let mut signs = [[-1.0; 16]; 4];
    let mut i = 0;
    while i < 64 {
        if (i % 16) >> (i / 16) & 1 == 1 {
            signs[i / 16][i % 16] = 1.0;
        }
        i += 1;
    }
    signs
};

/// Fills the tables with at most `most` steps each; gives the length of a step, and what a sum of 0 stands for.
struct Fill<'a> {
    unit: &'a [f32],
    lut: &'a mut [[u8; 16]],
    most: f32,
}

impl Work for Fill<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run(self) -> (f32, f32) {
        let (whole, tail) = self.unit.as_chunks::<4>();
        let mut rest = [0.0; 4];
        rest[..tail.len()].copy_from_slice(tail);
        let (mut total, mut widest) = (f64::from(reach(&rest)), reach(&rest));
        for q in whole {
            total += f64::from(reach(q));
            widest = widest.max(reach(q));
        }
        // A query of zeros has zeros for entries, whatever the step.
        let step = if widest > 0.0 { 2.0 * widest / self.most } else { 1.0 };
        let (tables, last) = self.lut.split_at_mut(whole.len());
        for (table, q) in tables.iter_mut().zip(whole) {
            tabulate(table, q, 1.0 / step);
        }
        for table in last {
            tabulate(table, &rest, 1.0 / step);
        }
        (step, -total as f32)
    }
}

/// The largest sum of four dimensions.
#[inline(always)]
fn reach(q: &[f32; 4]) -> f32 {
    (q[0].abs() + q[1].abs()) + (q[2].abs() + q[3].abs())
}

/// The table of one group, in steps above its least sum.
#[inline(always)]
fn tabulate(table: &mut [u8; 16], q: &[f32; 4], per_unit: f32) {
    let reach = reach(q);
    for (i, entry) in table.iter_mut().enumerate() {
        let sum = (q[0] * SIGNS[0][i] + q[1] * SIGNS[1][i]) + (q[2] * SIGNS[2][i] + q[3] * SIGNS[3][i]);
        *entry = nearest((sum + reach) * per_unit) as u8;
    }
}
