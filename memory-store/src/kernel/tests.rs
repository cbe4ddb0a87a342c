//! Every level against the scalar one, bit for bit.

use super::{Kernel, PLANE_BLOCK, PLANE_GROUPS, ROWS};

/// The levels that are compared with the first.
fn levels() -> (Kernel, Vec<Kernel>) {
    let mut levels = Kernel::available();
    let scalar = levels.remove(0);
    (scalar, levels)
}

/// Dimensions rounded up to what a row occupies.
fn padded(dim: usize) -> usize {
    dim.next_multiple_of(64)
}

#[test]
fn the_detected_level_is_the_best_of_those_available() {
    assert_eq!(Kernel::available().last(), Some(&Kernel::detect()));
    assert!(Kernel::available().iter().any(|level| level.name() == "scalar"));
}

/// `dots` equals a straight sum and is the same on every level, for every dimension, with dense, sparse and single-row masks.
#[test]
fn dots_are_exact_on_every_level_in_every_dimension() {
    let (scalar, levels) = levels();
    let mut rng = fastrand::Rng::with_seed(1);
    let random: Vec<u8> = (0..ROWS * padded(2049)).map(|_| rng.u8(..)).collect();
    let extremes = [1, 255, 0, 128].map(|code| vec![code; ROWS * padded(2049)]);
    for dim in 1..=2049 {
        let stride = padded(dim);
        for (case, codes) in std::iter::once(&random).chain(&extremes).enumerate() {
            let query: Vec<i8> = (0..stride)
                .map(|i| match (i < dim, (case + dim) % 4) {
                    (false, _) => 0,
                    (true, 0) => 127,
                    (true, 1) => -127,
                    (true, 2) => -128,
                    (true, _) => rng.i8(..),
                })
                .collect();
            let sum = query.iter().map(|&q| i32::from(q)).sum();
            let mask = match dim % 8 {
                0 if case == 0 => u64::MAX,
                1 => 1 << rng.u32(..64),
                2 => 0,
                _ => rng.u64(..) & rng.u64(..) & rng.u64(..),
            };
            // The codes end with the last row that the mask names.
            let codes = &codes[..(ROWS - mask.leading_zeros() as usize) * stride];
            let mut expected = [i32::MIN; ROWS];
            scalar.dots(codes, &query, sum, mask, &mut expected);
            if let Some(row) = (0..ROWS).find(|row| mask >> row & 1 == 1) {
                let straight: i32 = query
                    .iter()
                    .zip(&codes[row * stride..])
                    .map(|(&q, &code)| i32::from(q) * (i32::from(code) - 128))
                    .sum();
                assert_eq!(expected[row], straight);
            }
            for level in &levels {
                let mut out = [i32::MIN; ROWS];
                level.dots(codes, &query, sum, mask, &mut out);
                assert_eq!(out, expected, "{} in {dim} dimensions, case {case}", level.name());
            }
        }
    }
}

/// `dot_and_square` has the same bits on every level, for every dimension and for magnitudes from denormal to the largest.
#[test]
fn dot_and_square_has_the_same_bits_on_every_level_in_every_dimension() {
    let (scalar, levels) = levels();
    let mut rng = fastrand::Rng::with_seed(2);
    let cases: [fn(&mut fastrand::Rng, usize) -> f32; 6] = [
        |rng, _| rng.f32() - 0.5,
        |rng, _| f32::from_bits(rng.u32(..0x0080_0000) | rng.u32(..) & 0x8000_0000),
        |rng, _| if rng.bool() { f32::MAX } else { f32::MIN },
        |rng, _| (rng.f32() - 0.5) * 10f32.powi(rng.i32(-38..=38)),
        |_, i| if i % 2 == 0 { 1.0 } else { -1.0 },
        |_, _| -0.0,
    ];
    for dim in 0..=2049 {
        for (case, value) in cases.iter().enumerate() {
            let a: Vec<f32> = (0..dim).map(|i| value(&mut rng, i)).collect();
            let b: Vec<f32> = (0..dim).map(|i| value(&mut rng, i)).collect();
            let (dot, square) = scalar.dot_and_square(&a, &b);
            for level in &levels {
                let (other_dot, other_square) = level.dot_and_square(&a, &b);
                assert_eq!(dot.to_bits(), other_dot.to_bits(), "{} in {dim} dimensions, case {case}", level.name());
                assert_eq!(
                    square.to_bits(),
                    other_square.to_bits(),
                    "{} in {dim} dimensions, case {case}",
                    level.name()
                );
            }
        }
    }
}

/// `hadamard` has the same bits on every level, for every power of two that dimensions have.
#[test]
fn hadamard_has_the_same_bits_on_every_level() {
    let (scalar, levels) = levels();
    let mut rng = fastrand::Rng::with_seed(4);
    for span in (0..=13).map(|bits| 1 << bits) {
        let values: Vec<f32> = (0..span).map(|_| rng.f32() - 0.5).collect();
        let factors: Vec<f32> = (0..span).map(|_| if rng.bool() { 0.3 } else { -0.3 }).collect();
        let (mut expected, mut other) = (values.clone(), vec![0.0; span]);
        scalar.hadamard(&mut expected, &factors, &mut other);
        for level in &levels {
            let mut out = values.clone();
            level.hadamard(&mut out, &factors, &mut other);
            assert_eq!(out, expected, "{} on {span} values", level.name());
        }
    }
}

/// `sign_sums` and its mask are the same on every level, for every number of groups that up to 4096 dimensions make.
#[test]
fn sign_sums_are_the_same_on_every_level_in_every_dimension() {
    let (scalar, levels) = levels();
    let mut rng = fastrand::Rng::with_seed(3);
    for dim in (1..=2049).chain([3072, 4032, 4096]) {
        let groups = padded(dim) / 4;
        let plane: Vec<u8> = (0..groups * PLANE_BLOCK / PLANE_GROUPS)
            .map(|_| match dim % 5 {
                0 => 0xFF,
                1 => 0,
                _ => rng.u8(..),
            })
            .collect();
        let most = u8::try_from((u16::MAX as usize / groups).min(255)).expect("at most 255");
        let lut: Vec<[u8; 16]> =
            (0..groups).map(|_| [(); 16].map(|()| if dim % 3 == 0 { most } else { rng.u8(..=most) })).collect();
        let mut expected = [0; ROWS];
        scalar.sign_sums(&plane, &lut, 0, &mut expected);
        let mut sorted = expected;
        sorted.sort_unstable();
        for least in [0, sorted[32], sorted[63], sorted[63].saturating_add(1), u16::MAX] {
            let mask = scalar.sign_sums(&plane, &lut, least, &mut expected);
            for (row, &sum) in expected.iter().enumerate() {
                assert_eq!(mask >> row & 1 == 1, sum >= least);
            }
            for level in &levels {
                let mut sums = [0; ROWS];
                assert_eq!(
                    level.sign_sums(&plane, &lut, least, &mut sums),
                    mask,
                    "{} in {dim} dimensions",
                    level.name()
                );
                assert_eq!(sums, expected, "{} in {dim} dimensions", level.name());
            }
        }
    }
}

/// One row and one group at a time, so that the layout itself is pinned and not only agreed upon.
#[test]
fn a_plane_holds_each_row_where_its_layout_says() {
    for level in Kernel::available() {
        for (row, group) in (0..ROWS).flat_map(|row| (0..16).map(move |group| (row, group))) {
            let mut plane = vec![0; 2 * PLANE_BLOCK];
            let (block, group_in_block) = (group / PLANE_GROUPS, group % PLANE_GROUPS);
            plane[block * PLANE_BLOCK + 4 * row + group_in_block % 4] = if group_in_block < 4 { 5 } else { 5 << 4 };
            let mut lut = vec![[0; 16]; 16];
            lut[group][5] = 200;
            let mut sums = [0; ROWS];
            assert_eq!(level.sign_sums(&plane, &lut, 1, &mut sums), 1 << row, "{}", level.name());
            assert_eq!(sums[row], 200, "{}", level.name());
        }
    }
}

#[test]
#[should_panic(expected = "the mask names a row that is not there")]
fn a_mask_beyond_the_codes_is_refused() {
    Kernel::detect().dots(&[128; 64], &[1; 64], 64, 0b10, &mut [0; ROWS]);
}
