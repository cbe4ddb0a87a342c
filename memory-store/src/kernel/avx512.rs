//! The loops with AVX-512: byte dot products (`vpdpbusd`) and 64-entry byte tables (`vpermb`).
#![allow(unsafe_code, reason = "instructions that not every machine has, and loads of registers")]

use super::{BATCH, PLANE_BLOCK, PLANE_GROUPS, ROWS, Work, batch, next_rows, scalar};
use std::arch::x86_64::*;

/// See [`Kernel::run`](super::Kernel::run).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
pub(super) fn run<W: Work>(work: W) -> W::Output {
    work.run()
}

/// See [`Kernel::dots`](super::Kernel::dots).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
pub(super) fn dots(codes: &[u8], query: &[i8], query_sum: i32, mask: u64, out: &mut [i32; ROWS]) {
    if mask == 0 {
        return;
    }
    let query = query.as_chunks::<64>().0;
    let offset = _mm_set1_epi32(128 * query_sum);
    let (mut rows, mut left) = next_rows::<BATCH>(mask);
    loop {
        let (upcoming, after) = if left == 0 { (rows, 0) } else { next_rows::<BATCH>(left) };
        let sums =
            _mm_sub_epi32(dots_of(batch(codes, query.len(), rows), batch(codes, query.len(), upcoming), query), offset);
        let mut dots = [0i32; BATCH];
        // SAFETY: the array has the 16 bytes of the register; an unaligned store takes any address.
        unsafe { _mm_storeu_si128(dots.as_mut_ptr().cast(), sums) };
        for k in 0..BATCH {
            out[rows[k]] = dots[k];
        }
        if left == 0 {
            return;
        }
        (rows, left) = (upcoming, after);
    }
}

/// `Σ code * query` of four rows, the codes taken as they are, without sign.
///
/// Asks for the rows that come after them on the way: a sparse mask hops in ways that the machine does not foresee.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
#[inline]
fn dots_of(rows: [&[[u8; 64]]; BATCH], upcoming: [&[[u8; 64]]; BATCH], query: &[[i8; 64]]) -> __m128i {
    let mut sums = [_mm512_setzero_si512(); BATCH];
    for i in 0..query.len() {
        // SAFETY: the array has the 64 bytes of the register; an unaligned load takes any address.
        let query = unsafe { _mm512_loadu_si512(query[i].as_ptr().cast()) };
        for k in 0..BATCH {
            _mm_prefetch::<_MM_HINT_T0>(upcoming[k].as_ptr().wrapping_add(i).cast());
            sums[k] = _mm512_dpbusd_epi32(sums[k], load(&rows[k][i]), query);
        }
    }
    // Two rounds of interleaved additions leave the four rows side by side in every 128-bit lane.
    let [a, b, c, d] = sums;
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
    _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
}

/// See [`Kernel::dot_and_square`](super::Kernel::dot_and_square).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
pub(super) fn dot_and_square(a: &[f32], b: &[f32]) -> (f64, f64) {
    let (mut dots, mut squares) = ([_mm512_setzero_pd(); 2], [_mm512_setzero_pd(); 2]);
    let mut add = |a: __m512, b: __m512| {
        let (a, b) = (widen(a), widen(b));
        for half in 0..2 {
            dots[half] = _mm512_fmadd_pd(a[half], b[half], dots[half]);
            squares[half] = _mm512_fmadd_pd(b[half], b[half], squares[half]);
        }
    };
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        // SAFETY: the arrays have the 16 floats of a register; an unaligned load takes any address.
        let (a, b) = unsafe { (_mm512_loadu_ps(a.as_ptr()), _mm512_loadu_ps(b.as_ptr())) };
        add(a, b);
    }
    if !a_tail.is_empty() {
        // The lanes beyond the tail add +0 to sums that are never -0: they keep their bits.
        let lanes = (1u16 << a_tail.len()) - 1;
        assert_eq!(a_tail.len(), b_tail.len());
        // SAFETY: a masked load reads only the lanes of its mask, and both tails have as many floats as the mask has bits.
        let (a, b) =
            unsafe { (_mm512_maskz_loadu_ps(lanes, a_tail.as_ptr()), _mm512_maskz_loadu_ps(lanes, b_tail.as_ptr())) };
        add(a, b);
    }
    (fold(dots), fold(squares))
}

/// 16 floats in double precision.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
#[inline]
fn widen(x: __m512) -> [__m512d; 2] {
    [_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(x))]
}

/// Adds 16 lanes up, in the order of the scalar level.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
#[inline]
fn fold([low, high]: [__m512d; 2]) -> f64 {
    let eight = _mm512_add_pd(low, high);
    let four = _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd::<1>(eight));
    let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
    _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
}

/// See [`Kernel::sign_sums`](super::Kernel::sign_sums).
///
/// A table register holds the 16 entries of four groups, a byte of the plane register selects in the table of its position
/// modulo 4, and one `vpdpbusd` by ones adds the four entries of a row in 32 bits: nothing has to be widened.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
pub(super) fn sign_sums(plane: &[u8], lut: &[[u8; 16]], least: u16, sums: &mut [u16; ROWS]) -> u64 {
    /// `(a & b) | c` as a truth table.
    const AND_OR: i32 = 0xEA;
    let table = _mm512_set1_epi32(0x3020_1000);
    let nibble = _mm512_set1_epi8(15);
    let ones = _mm512_set1_epi8(1);
    let mut totals = [[_mm512_setzero_si512(); 2]; ROWS / 16];
    for (block, tables) in plane.as_chunks::<PLANE_BLOCK>().0.iter().zip(lut.as_chunks::<PLANE_GROUPS>().0) {
        let tables = tables.as_flattened().as_chunks::<64>().0;
        let (low, high) = (load(&tables[0]), load(&tables[1]));
        for (bytes, total) in block.as_chunks::<64>().0.iter().zip(&mut totals) {
            let bytes = load(bytes);
            let at_low = _mm512_ternarylogic_epi32::<AND_OR>(bytes, nibble, table);
            let at_high = _mm512_ternarylogic_epi32::<AND_OR>(_mm512_srli_epi16::<4>(bytes), nibble, table);
            total[0] = _mm512_dpbusd_epi32(total[0], _mm512_permutexvar_epi8(at_low, low), ones);
            total[1] = _mm512_dpbusd_epi32(total[1], _mm512_permutexvar_epi8(at_high, high), ones);
        }
    }
    let least = _mm256_set1_epi16(least.cast_signed());
    let mut mask = 0;
    for (i, (total, sums)) in totals.into_iter().zip(sums.as_chunks_mut::<16>().0).enumerate() {
        let total = _mm512_cvtepi32_epi16(_mm512_add_epi32(total[0], total[1]));
        // SAFETY: the array has the 32 bytes of the register; an unaligned store takes any address.
        unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), total) };
        mask |= u64::from(_mm256_cmpge_epu16_mask(total, least)) << (16 * i);
    }
    mask
}

/// See [`Kernel::hadamard`](super::Kernel::hadamard).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
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
const LANES: usize = 16;

/// Sums and differences of the halves of `from`, next to each other.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
#[inline]
fn step(from: &[f32], to: &mut [f32]) {
    let first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    let (low, high) = from.split_at(from.len() / 2);
    let (low, high, to) =
        (low.as_chunks::<LANES>().0, high.as_chunks::<LANES>().0, to.as_chunks_mut::<{ 2 * LANES }>().0);
    for ((low, high), to) in low.iter().zip(high).zip(to) {
        // SAFETY: the arrays have the 16 floats of a register; an unaligned load takes any address.
        let (a, b) = unsafe { (_mm512_loadu_ps(low.as_ptr()), _mm512_loadu_ps(high.as_ptr())) };
        let (sum, difference) = (_mm512_add_ps(a, b), _mm512_sub_ps(a, b));
        let [left, right] = to.as_chunks_mut::<LANES>().0 else { unreachable!("32 floats are twice 16") };
        // SAFETY: the arrays have the 16 floats of a register; an unaligned store takes any address.
        unsafe {
            _mm512_storeu_ps(left.as_mut_ptr(), _mm512_permutex2var_ps(sum, first, difference));
            _mm512_storeu_ps(right.as_mut_ptr(), _mm512_permutex2var_ps(sum, second, difference));
        }
    }
}

/// 64 bytes as a register.
#[target_feature(enable = "avx512f")]
#[inline]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the array has the 64 bytes of the register; an unaligned load takes any address.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}
