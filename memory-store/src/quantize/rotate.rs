//! A fixed rotation that spreads what stands in few components over all.
//!
//! Codes with one scale a vector are only as fine as its largest component allows, and signs say little about a vector whose
//! length sits in a few components. After a random rotation every vector looks like a Gaussian one, whatever it was before.

use super::UNIT_ROUNDOFF;
use crate::kernel::Kernel;

/// How often signs are flipped and both ends transformed.
///
/// Measured on one-hot and few-hot vectors of 384 dimensions: one round leaves a third of a one-hot vector zero; after two the
/// cosine to the own signs and the largest component are those of Gaussian vectors, and a third round changes neither.
const ROUNDS: usize = 2;

/// Most dimensions that the bounds are derived for.
pub(crate) const MAX_DIM: usize = 8192;

/// Largest length of `computed − exact` for a rotated unit vector of up to [`MAX_DIM`] dimensions.
///
/// Let `u = 2⁻²⁴`. Scaling to length one rounds each component once, beside what `f64` rounds: `1.01 u` of the length. One
/// transform of `p ≤ 2¹³` components multiplies by a rounded constant (`2 u`) and adds `log₂ p ≤ 13` times; each addition rounds
/// each component by at most `u` of itself, hence the vector by at most `u` of its length, and being orthogonal up to a factor it
/// passes earlier errors on at the same relative length. There are `2 ROUNDS = 4` transforms, so the sum is
/// `(1 + u)^61.01 − 1 < 61.02 u`. What underflows adds less than `2⁻¹⁰⁰`. The rest up to `64 u` is reserve.
pub(crate) const ROUNDING: f32 = 64.0 * UNIT_ROUNDOFF;

/// Components up to which the second buffer of a transform lives on the stack.
const ON_STACK: usize = 512;

/// A fixed orthogonal transform of `dim` dimensions, made from a seed: spreads what stands in few components over all.
///
/// One round flips signs at random, transforms the first `p` components by Walsh and Hadamard, `p` being the largest power of two
/// that fits, then does the same to the last `p`.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    dim: usize,
    /// For each transform `p` factors `±1/√p`.
    factors: Vec<f32>,
    kernel: Kernel,
}

impl Rotation {
    /// The transform of `dim` dimensions that belongs to `seed`, the same on every machine and in every version.
    ///
    /// # Panics
    /// When `dim` is 0 or more than [`MAX_DIM`].
    pub(crate) fn new(dim: usize, seed: u64) -> Self {
        assert!((1..=MAX_DIM).contains(&dim), "a rotation has 1 to 8192 dimensions");
        let span = 1 << dim.ilog2();
        #[expect(clippy::cast_possible_truncation, reason = "the rounding of this constant is part of ROUNDING")]
        let factor = (1.0 / (span as f64).sqrt()) as f32;
        let mut bits = SplitMix(seed);
        let factors = (0..2 * ROUNDS * span).map(|_| if bits.next() >> 63 == 0 { factor } else { -factor }).collect();
        Self { dim, factors, kernel: Kernel::detect() }
    }

    /// Length of a rotated vector: the dimensions rounded up to a multiple of 64.
    pub(crate) fn padded(&self) -> usize {
        self.dim.next_multiple_of(64)
    }

    /// Writes the rotated unit vector of `vector` to `out`, zeros beyond its dimensions; `false` if `vector` has no direction.
    ///
    /// In that case `out` is all zeros. The components have to be finite; any finite ones will do, since the length is taken in
    /// `f64`, where neither the square of a denormal `f32` nor that of the largest one leaves the range.
    ///
    /// # Panics
    /// When `vector` has not `dim` components or `out` not [`padded`](Self::padded).
    pub(crate) fn unit(&self, vector: &[f32], out: &mut [f32]) -> bool {
        assert_eq!((vector.len(), out.len()), (self.dim, self.padded()), "lengths that the rotation was not made for");
        let (square, _) = self.kernel.dot_and_square(vector, vector);
        if square == 0.0 {
            out.fill(0.0);
            return false;
        }
        let span = 1 << self.dim.ilog2();
        let (mut small, mut large);
        let other = if span <= ON_STACK {
            small = [0.0; ON_STACK];
            &mut small[..span]
        } else {
            large = vec![0.0; span];
            &mut large[..]
        };
        self.kernel.run(|| {
            let (unit, padding) = out.split_at_mut(self.dim);
            padding.fill(0.0);
            normalize(vector, 1.0 / square.sqrt(), unit);
            for factors in self.factors.chunks_exact(2 * span) {
                let (first, last) = factors.split_at(span);
                transform(&mut unit[..span], first, other);
                transform(&mut unit[self.dim - span..], last, other);
            }
        });
        true
    }
}

/// Scales `vector` by a factor that may be out of the range of `f32`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "this rounding is part of ROUNDING")]
fn normalize(vector: &[f32], factor: f64, unit: &mut [f32]) {
    for (unit, &x) in unit.iter_mut().zip(vector) {
        *unit = (f64::from(x) * factor) as f32;
    }
}

/// The Walsh–Hadamard transform of `values` times `factors`; `other` is scratch of the same length, a power of two.
///
/// Every step has the same shape (halves in, neighbours out), after which the index has turned by one bit; when all bits had their
/// turn it stands as it did. So no step has distances shorter than a register, which is what slows the usual form down.
#[inline(always)]
fn transform(values: &mut [f32], factors: &[f32], other: &mut [f32]) {
    for (value, factor) in values.iter_mut().zip(factors) {
        *value *= factor;
    }
    let steps = values.len().ilog2();
    let (mut from, mut to) = (&mut *values, &mut *other);
    for _ in 0..steps {
        step(from, to);
        (from, to) = (to, from);
    }
    if steps % 2 == 1 {
        values.copy_from_slice(other);
    }
}

/// Sums and differences of the halves of `from`, next to each other.
#[inline(always)]
fn step(from: &[f32], to: &mut [f32]) {
    let (low, high) = from.split_at(from.len() / 2);
    for ((pair, &a), &b) in to.as_chunks_mut::<2>().0.iter_mut().zip(low).zip(high) {
        *pair = [a + b, a - b];
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014). Written out here because stored codes depend on its numbers: those of a library may
/// change with its version.
struct SplitMix(u64);

impl SplitMix {
    /// The next 64 bits.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
