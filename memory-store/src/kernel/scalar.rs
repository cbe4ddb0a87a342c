//! The plain form of every loop: what the others must equal, and what runs where they cannot.

use super::{PLANE_BLOCK, PLANE_GROUPS, ROWS};

/// See [`Kernel::dots`](super::Kernel::dots).
pub(super) fn dots(codes: &[u8], query: &[i8], query_sum: i32, mut mask: u64, out: &mut [i32; ROWS]) {
    let stride = query.len();
    while mask != 0 {
        let row = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        let codes = &codes[row * stride..][..stride];
        let raw: i32 = codes.iter().zip(query).map(|(&code, &q)| i32::from(code) * i32::from(q)).sum();
        out[row] = raw - 128 * query_sum;
    }
}

/// See [`Kernel::dot_and_square`](super::Kernel::dot_and_square).
pub(super) fn dot_and_square(a: &[f32], b: &[f32]) -> (f64, f64) {
    let (mut dots, mut squares) = ([0.0; 16], [0.0; 16]);
    for (a, b) in a.chunks(16).zip(b.chunks(16)) {
        for (((dot, square), &a), &b) in dots.iter_mut().zip(&mut squares).zip(a).zip(b) {
            let (a, b) = (f64::from(a), f64::from(b));
            *dot += a * b;
            *square += b * b;
        }
    }
    (fold(dots), fold(squares))
}

/// Adds 16 lanes up: the upper half to the lower, until one is left.
fn fold(mut lanes: [f64; 16]) -> f64 {
    for half in [8, 4, 2, 1] {
        let (low, high) = lanes.split_at_mut(half);
        for (low, high) in low.iter_mut().zip(high) {
            *low += *high;
        }
    }
    lanes[0]
}

/// See [`Kernel::sign_sums`](super::Kernel::sign_sums).
pub(super) fn sign_sums(plane: &[u8], lut: &[[u8; 16]], least: u16, sums: &mut [u16; ROWS]) -> u64 {
    *sums = [0; ROWS];
    for (block, tables) in plane.as_chunks::<PLANE_BLOCK>().0.iter().zip(lut.as_chunks::<PLANE_GROUPS>().0) {
        let (low, high) = tables.split_at(PLANE_GROUPS / 2);
        for (bytes, sum) in block.as_chunks::<4>().0.iter().zip(sums.iter_mut()) {
            for ((&byte, low), high) in bytes.iter().zip(low).zip(high) {
                let pair = u16::from(low[usize::from(byte & 15)]) + u16::from(high[usize::from(byte >> 4)]);
                *sum = sum.wrapping_add(pair);
            }
        }
    }
    sums.iter().enumerate().fold(0, |mask, (row, &sum)| mask | u64::from(sum >= least) << row)
}

/// See [`Kernel::hadamard`](super::Kernel::hadamard).
///
/// Every step has the same shape (halves in, neighbours out), after which the index has turned by one bit; when all bits had their
/// turn it stands as it did. So no step has distances shorter than a register, which is what slows the usual form down.
pub(super) fn hadamard(values: &mut [f32], factors: &[f32], other: &mut [f32]) {
    for (value, factor) in values.iter_mut().zip(factors) {
        *value *= factor;
    }
    let steps = values.len().ilog2();
    for i in 0..steps {
        if i % 2 == 0 { step(values, other) } else { step(other, values) }
    }
    if steps % 2 == 1 {
        values.copy_from_slice(other);
    }
}

/// Sums and differences of the halves of `from`, next to each other.
fn step(from: &[f32], to: &mut [f32]) {
    let (low, high) = from.split_at(from.len() / 2);
    for ((pair, &a), &b) in to.as_chunks_mut::<2>().0.iter_mut().zip(low).zip(high) {
        *pair = [a + b, a - b];
    }
}
