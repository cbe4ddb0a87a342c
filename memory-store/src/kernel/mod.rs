//! The hot loops of the store, written once for each instruction set and chosen at run time.
//!
//! Every level gives the same bits: integers are exact, and floating-point sums have one fixed order. A memory
//! has the same cosine on every machine therefore, and the scalar level is the oracle of the others.
#![allow(unsafe_code, reason = "instructions that not every machine has, and loads of registers")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;
#[cfg(test)]
mod tests;

/// Rows that are scanned together: one bit of a `u64` each.
pub(crate) const ROWS: usize = 64;

/// Bytes of the sign plane that hold eight neighbouring groups of four dimensions of [`ROWS`] rows.
///
/// Row `r` owns bytes `4r..4r + 4` of such a block. Byte `b` of the four holds group `b` in its low half and group `4 + b` in its
/// high half. So the bytes that `vpdpbusd` adds into one 32-bit lane belong to one row, and the tables of the four groups fill
/// one 64-byte register. A row's four bytes are aligned, so a row can be added to a plane without touching its neighbours.
pub(crate) const PLANE_BLOCK: usize = 4 * ROWS;

/// Groups of four dimensions that share a [`PLANE_BLOCK`].
pub(crate) const PLANE_GROUPS: usize = 8;

/// Which instructions a store uses; chosen once, at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kernel(Level);

/// An instruction set. A variant is only ever made after its instructions were found: that is what makes calling them sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// What every machine of the target has.
    Scalar,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 with byte permutations and byte dot products (Ice Lake, Zen 4 and later).
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kernel {
    /// The best level that this machine has.
    #[inline]
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() {
                return Self(Level::Avx512);
            }
            if has_avx2() {
                return Self(Level::Avx2);
            }
        }
        Self(Level::Scalar)
    }

    /// Every level that this machine has, the plainest first.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        let mut levels = vec![Self(Level::Scalar)];
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx2() {
                levels.push(Self(Level::Avx2));
            }
            if has_avx512() {
                levels.push(Self(Level::Avx512));
            }
        }
        levels
    }

    /// What the level is called in reports.
    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            Level::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
        }
    }

    /// Dot products of rows of codes with a query.
    ///
    /// Row `r` starts at `codes[r * query.len()]`, in offset binary (128 is zero). For every bit `r` of `mask`,
    /// `out[r] = Σ (codes[i] - 128) * query[i]`; the other elements of `out` keep their values. Exact for up to 65 536
    /// dimensions. `query_sum` is `Σ query[i]`.
    ///
    /// # Panics
    /// When `query.len()` is not a multiple of 64, or `codes` ends before the last row of the mask.
    pub(crate) fn dots(self, codes: &[u8], query: &[i8], query_sum: i32, mask: u64, out: &mut [i32; ROWS]) {
        assert!(query.len().is_multiple_of(64), "rows are padded to multiples of 64");
        let rows = ROWS - mask.leading_zeros() as usize;
        assert!(codes.len() >= rows * query.len(), "the mask names a row that is not there");
        match self.0 {
            Level::Scalar => scalar::dots(codes, query, query_sum, mask, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a kernel of this level is only made where its instructions were found.
            Level::Avx2 => unsafe { avx2::dots(codes, query, query_sum, mask, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a kernel of this level is only made where its instructions were found.
            Level::Avx512 => unsafe { avx512::dots(codes, query, query_sum, mask, out) },
        }
    }

    /// `(Σ a[i] b[i], Σ b[i] b[i])` in double precision.
    ///
    /// Lane `j` of 16 adds up the products at `i ≡ j (mod 16)`, in ascending order; then the lanes are folded in halves. The
    /// product of two `f32` is exact in `f64`, so it makes no difference whether a level fuses the addition with it.
    ///
    /// # Panics
    /// When the lengths differ.
    pub(crate) fn dot_and_square(self, a: &[f32], b: &[f32]) -> (f64, f64) {
        assert_eq!(a.len(), b.len(), "vectors of different dimensions have no dot product");
        match self.0 {
            Level::Scalar => scalar::dot_and_square(a, b),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a kernel of this level is only made where its instructions were found.
            Level::Avx2 => unsafe { avx2::dot_and_square(a, b) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a kernel of this level is only made where its instructions were found.
            Level::Avx512 => unsafe { avx512::dot_and_square(a, b) },
        }
    }

    /// Sums of table entries that the sign plane of a group of rows selects.
    ///
    /// `plane` is laid out as [`PLANE_BLOCK`] says. `sums[r] = Σ lut[g][nibble of row r in group g]`, modulo 2¹⁶: whoever makes
    /// the tables keeps the sums below that. The result has a bit for every row whose sum is at least `least`.
    ///
    /// # Panics
    /// When the number of groups is not a multiple of [`PLANE_GROUPS`], or `plane` has not 32 bytes for each group.
    pub(crate) fn sign_sums(self, plane: &[u8], lut: &[[u8; 16]], least: u16, sums: &mut [u16; ROWS]) -> u64 {
        assert!(lut.len().is_multiple_of(PLANE_GROUPS), "groups are padded to whole blocks");
        assert_eq!(plane.len(), lut.len() * PLANE_BLOCK / PLANE_GROUPS, "a plane has 32 bytes for each group");
        match self.0 {
            Level::Scalar => scalar::sign_sums(plane, lut, least, sums),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a kernel of this level is only made where its instructions were found.
            Level::Avx2 => unsafe { avx2::sign_sums(plane, lut, least, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a kernel of this level is only made where its instructions were found.
            Level::Avx512 => unsafe { avx512::sign_sums(plane, lut, least, sums) },
        }
    }

    /// The Walsh–Hadamard transform of `values` times `factors`, component by component; `other` is scratch.
    ///
    /// # Panics
    /// When the lengths differ or are no power of two.
    pub(crate) fn hadamard(self, values: &mut [f32], factors: &[f32], other: &mut [f32]) {
        assert!(values.len().is_power_of_two(), "only powers of two can be halved to the end");
        assert_eq!(
            (factors.len(), other.len()),
            (values.len(), values.len()),
            "one factor and one slot for each value"
        );
        match self.0 {
            Level::Scalar => scalar::hadamard(values, factors, other),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a kernel of this level is only made where its instructions were found.
            Level::Avx2 => unsafe { avx2::hadamard(values, factors, other) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a kernel of this level is only made where its instructions were found.
            Level::Avx512 => unsafe { avx512::hadamard(values, factors, other) },
        }
    }

    /// Does plain work compiled for this level, so that the compiler may use its vectors.
    ///
    /// The result does not depend on the level: the compiler neither reorders nor fuses floating-point operations.
    #[inline]
    pub(crate) fn run<W: Work>(self, work: W) -> W::Output {
        match self.0 {
            Level::Scalar => work.run(),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a kernel of this level is only made where its instructions were found.
            Level::Avx2 => unsafe { avx2::run(work) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a kernel of this level is only made where its instructions were found.
            Level::Avx512 => unsafe { avx512::run(work) },
        }
    }
}

/// Plain code that is compiled once for each level.
///
/// A trait and not a closure, because only what is inlined into a function for some instructions may use them: `run` and all that
/// it calls have to be `#[inline(always)]`, which a closure cannot say.
pub(crate) trait Work {
    /// What comes of it.
    type Output;

    /// Does it.
    fn run(self) -> Self::Output;
}

/// Whether the instructions of `Level::Avx2` are there.
#[cfg(target_arch = "x86_64")]
#[inline]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Whether the instructions of `Level::Avx512` are there.
#[cfg(target_arch = "x86_64")]
#[inline]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512vbmi")
}

/// Rows whose dot products are computed side by side: one alone would wait for its own sums, and the query is loaded once.
#[cfg(target_arch = "x86_64")]
const BATCH: usize = 4;

/// The codes of some rows, in registers of `N` bytes, `registers` of them a row.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn batch<const N: usize>(codes: &[u8], registers: usize, rows: [usize; BATCH]) -> [&[[u8; N]]; BATCH] {
    let codes = codes.as_chunks().0;
    let mut batch = [&codes[..0]; BATCH];
    for k in 0..BATCH {
        batch[k] = &codes[rows[k] * registers..][..registers];
    }
    batch
}

/// The next rows of a mask, as many as a level works on at once, and the mask without them.
///
/// When fewer are left, the last one is repeated: computing it again is cheaper than another loop. The mask must not be empty.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn next_rows<const N: usize>(mut mask: u64) -> ([usize; N], u64) {
    let mut rows = [0; N];
    let mut row = 0;
    for slot in &mut rows {
        if mask != 0 {
            row = mask.trailing_zeros() as usize;
            mask &= mask - 1;
        }
        *slot = row;
    }
    (rows, mask)
}
