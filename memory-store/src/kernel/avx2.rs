//! The loops with AVX2 and FMA.
#![allow(unsafe_code, reason = "instructions that not every machine has, and loads of registers")]

use super::{BATCH, PLANE_BLOCK, PLANE_GROUPS, ROWS, Work, batch, next_rows, scalar};
use std::arch::x86_64::*;

/// See [`Kernel::run`](super::Kernel::run).
#[target_feature(enable = "avx2,fma")]
pub(super) fn run<W: Work>(work: W) -> W::Output {
    work.run()
}

/// See [`Kernel::dots`](super::Kernel::dots).
#[target_feature(enable = "avx2,fma")]
pub(super) fn dots(codes: &[u8], query: &[i8], query_sum: i32, mut mask: u64, out: &mut [i32; ROWS]) {
    let query = query.as_chunks::<16>().0;
    let offset = _mm_set1_epi32(128 * query_sum);
    while mask != 0 {
        let (rows, left) = next_rows::<BATCH>(mask);
        mask = left;
        let sums = _mm_sub_epi32(dots_of(batch(codes, query.len(), rows), query), offset);
        let mut dots = [0i32; BATCH];
        // SAFETY: the array has the 16 bytes of the register; an unaligned store takes any address.
        unsafe { _mm_storeu_si128(dots.as_mut_ptr().cast(), sums) };
        for k in 0..BATCH {
            out[rows[k]] = dots[k];
        }
    }
}

/// `Σ code * query` of four rows, the codes taken as they are, without sign.
///
/// In 16 bits and not by `vpmaddubsw`, which saturates when two large products meet.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn dots_of(rows: [&[[u8; 16]]; BATCH], query: &[[i8; 16]]) -> __m128i {
    let mut sums = [_mm256_setzero_si256(); BATCH];
    for i in 0..query.len() {
        // SAFETY: the array has the 16 bytes of the register; an unaligned load takes any address.
        let query = _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(query[i].as_ptr().cast()) });
        for k in 0..BATCH {
            let codes = _mm256_cvtepu8_epi16(load_half(&rows[k][i]));
            sums[k] = _mm256_add_epi32(sums[k], _mm256_madd_epi16(codes, query));
        }
    }
    let [a, b, c, d] = sums;
    let all = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all))
}

/// See [`Kernel::dot_and_square`](super::Kernel::dot_and_square).
#[target_feature(enable = "avx2,fma")]
pub(super) fn dot_and_square(a: &[f32], b: &[f32]) -> (f64, f64) {
    let (mut dots, mut squares) = ([_mm256_setzero_pd(); 4], [_mm256_setzero_pd(); 4]);
    let mut add = |a: &[f32; 16], b: &[f32; 16]| {
        let (a, b) = (a.as_chunks::<4>().0, b.as_chunks::<4>().0);
        for lanes in 0..4 {
            let (a, b) = (widen(&a[lanes]), widen(&b[lanes]));
            dots[lanes] = _mm256_fmadd_pd(a, b, dots[lanes]);
            squares[lanes] = _mm256_fmadd_pd(b, b, squares[lanes]);
        }
    };
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        add(a, b);
    }
    if !a_tail.is_empty() {
        // The lanes beyond the tail add +0 to sums that are never -0: they keep their bits.
        let (mut a, mut b) = ([0.0; 16], [0.0; 16]);
        a[..a_tail.len()].copy_from_slice(a_tail);
        b[..b_tail.len()].copy_from_slice(b_tail);
        add(&a, &b);
    }
    (fold(dots), fold(squares))
}

/// Four floats in double precision.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn widen(x: &[f32; 4]) -> __m256d {
    // SAFETY: the array has the four floats of the register; an unaligned load takes any address.
    _mm256_cvtps_pd(unsafe { _mm_loadu_ps(x.as_ptr()) })
}

/// Adds 16 lanes up, in the order of the scalar level.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn fold([a, b, c, d]: [__m256d; 4]) -> f64 {
    let four = _mm256_add_pd(_mm256_add_pd(a, c), _mm256_add_pd(b, d));
    let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
    _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
}

/// See [`Kernel::sign_sums`](super::Kernel::sign_sums).
#[target_feature(enable = "avx2,fma")]
pub(super) fn sign_sums(plane: &[u8], lut: &[[u8; 16]], least: u16, sums: &mut [u16; ROWS]) -> u64 {
    let low = half_sums(plane, lut, 0, least, &mut sums.as_chunks_mut().0[0]);
    let high = half_sums(plane, lut, 1, least, &mut sums.as_chunks_mut().0[1]);
    u64::from(low) | u64::from(high) << 32
}

/// The sums of one half of the rows, and the mask of those that reach `least`.
///
/// `vpshufb` has one table a register, so the bytes are first sorted by their position in their row.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn half_sums(plane: &[u8], lut: &[[u8; 16]], half: usize, least: u16, sums: &mut [u16; ROWS / 2]) -> u32 {
    let by_position = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    let nibble = _mm256_set1_epi8(15);
    // Two bytes share a lane of 16 bits: one sum adds both, the other the upper one alone, and the lower is what is left.
    let (mut both, mut upper) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    for (block, tables) in plane.as_chunks::<PLANE_BLOCK>().0.iter().zip(lut.as_chunks::<PLANE_GROUPS>().0) {
        let block = &block.as_chunks::<{ PLANE_BLOCK / 2 }>().0[half];
        let quarters = block.as_chunks::<32>().0;
        let sorted = |i: usize| _mm256_shuffle_epi8(load(&quarters[i]), by_position);
        let (a, b, c, d) = (sorted(0), sorted(1), sorted(2), sorted(3));
        let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        let positions = [
            _mm256_unpacklo_epi64(ab_low, cd_low),
            _mm256_unpackhi_epi64(ab_low, cd_low),
            _mm256_unpacklo_epi64(ab_high, cd_high),
            _mm256_unpackhi_epi64(ab_high, cd_high),
        ];
        for (position, bytes) in positions.into_iter().enumerate() {
            let table = |group: usize| _mm256_broadcastsi128_si256(load_half(&tables[group]));
            let at_low = _mm256_and_si256(bytes, nibble);
            let at_high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), nibble);
            let low = _mm256_shuffle_epi8(table(position), at_low);
            let high = _mm256_shuffle_epi8(table(PLANE_GROUPS / 2 + position), at_high);
            both = _mm256_add_epi16(both, _mm256_add_epi16(low, high));
            upper =
                _mm256_add_epi16(upper, _mm256_add_epi16(_mm256_srli_epi16::<8>(low), _mm256_srli_epi16::<8>(high)));
        }
    }
    let lower = _mm256_sub_epi16(both, _mm256_slli_epi16::<8>(upper));
    // Sorting has put rows 8i + 4j .. 8i + 4j + 4 into 128-bit lane j: swapping the middle quarters restores their order.
    let first = _mm256_permute4x64_epi64::<0xD8>(_mm256_unpacklo_epi16(lower, upper));
    let second = _mm256_permute4x64_epi64::<0xD8>(_mm256_unpackhi_epi16(lower, upper));
    for (sums, rows) in sums.as_chunks_mut::<16>().0.iter_mut().zip([first, second]) {
        // SAFETY: the array has the 32 bytes of the register; an unaligned store takes any address.
        unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), rows) };
    }
    let least = _mm256_set1_epi16(least.cast_signed());
    let reaches = |rows: __m256i| _mm256_cmpeq_epi16(_mm256_max_epu16(rows, least), rows);
    let packed = _mm256_packs_epi16(reaches(first), reaches(second));
    _mm256_movemask_epi8(_mm256_permute4x64_epi64::<0xD8>(packed)).cast_unsigned()
}

/// See [`Kernel::hadamard`](super::Kernel::hadamard).
#[target_feature(enable = "avx2,fma")]
pub(super) fn hadamard(values: &mut [f32], factors: &[f32], other: &mut [f32]) {
    if values.len() < 2 * LANES {
        return scalar::hadamard(values, factors, other);
    }
    for (value, &factor) in values.iter_mut().zip(factors) {
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

/// Floats in a register.
const LANES: usize = 8;

/// Sums and differences of the halves of `from`, next to each other.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn step(from: &[f32], to: &mut [f32]) {
    let (low, high) = from.split_at(from.len() / 2);
    let (low, high, to) =
        (low.as_chunks::<LANES>().0, high.as_chunks::<LANES>().0, to.as_chunks_mut::<{ 2 * LANES }>().0);
    for ((low, high), to) in low.iter().zip(high).zip(to) {
        // SAFETY: the arrays have the eight floats of a register; an unaligned load takes any address.
        let (a, b) = unsafe { (_mm256_loadu_ps(low.as_ptr()), _mm256_loadu_ps(high.as_ptr())) };
        let (sum, difference) = (_mm256_add_ps(a, b), _mm256_sub_ps(a, b));
        // Interleaving works within 128-bit lanes: the lower ones of both results come first.
        let (even, odd) = (_mm256_unpacklo_ps(sum, difference), _mm256_unpackhi_ps(sum, difference));
        let [left, right] = to.as_chunks_mut::<LANES>().0 else { unreachable!("16 floats are twice eight") };
        // SAFETY: the arrays have the eight floats of a register; an unaligned store takes any address.
        unsafe {
            _mm256_storeu_ps(left.as_mut_ptr(), _mm256_permute2f128_ps::<0x20>(even, odd));
            _mm256_storeu_ps(right.as_mut_ptr(), _mm256_permute2f128_ps::<0x31>(even, odd));
        }
    }
}

/// 32 bytes as a register.
#[target_feature(enable = "avx2")]
#[inline]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the array has the 32 bytes of the register; an unaligned load takes any address.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// 16 bytes as a register.
#[target_feature(enable = "avx2")]
#[inline]
fn load_half(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the array has the 16 bytes of the register; an unaligned load takes any address.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}
