//! As many byte products as the processor can do, with nothing to read: the floor of every scan of codes of one byte.
#![allow(unsafe_code, reason = "an instruction that not every machine has")]

/// Products of one instruction, or of one step of the loop that stands in for it.
const PRODUCTS: usize = 64;

/// Sums that do not wait for one another: more than an instruction takes cycles, times the units that do it.
const CHAINS: usize = 12;

/// Does at least `products` products of a byte with a signed byte, every one of them one times one, and returns their sum.
pub(crate) fn byte_products(products: usize) -> u64 {
    let steps = products.div_ceil(PRODUCTS * CHAINS);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
        // SAFETY: the instructions were found.
        return unsafe { by_instruction(steps) };
    }
    by_compiler(steps)
}

/// Sixteen lanes of four products each, `CHAINS` times a step.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn by_instruction(steps: usize) -> u64 {
    use std::arch::x86_64::*;
    let (ones, mut sums) = (_mm512_set1_epi8(std::hint::black_box(1)), [_mm512_setzero_si512(); CHAINS]);
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, ones, ones);
        }
    }
    sums.iter().map(|sum| u64::from(_mm512_reduce_add_epi32(*sum) as u32)).sum()
}

/// What the compiler makes of the same products on machines without the instruction.
fn by_compiler(steps: usize) -> u64 {
    let (ones, mut sums) = (std::hint::black_box([1i8; PRODUCTS]), [0i32; PRODUCTS]);
    for _ in 0..steps * CHAINS {
        for (sum, one) in sums.iter_mut().zip(std::hint::black_box(&ones)) {
            *sum += i32::from(*one as u8) * i32::from(*one);
        }
    }
    sums.iter().map(|sum| *sum as u64).sum()
}
