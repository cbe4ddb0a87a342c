//! The bounds against the truth in double precision.

use super::int8::{self, Int8, QueryCode};
use super::rotate::{MAX_DIM, ROUNDING, Rotation};
use super::signs::{self, Least, SignQuery};
use crate::kernel::{Kernel, ROWS};
use proptest::prelude::*;

/// The kinds of vectors that the bounds are tried on.
const SHAPES: usize = 9;

/// A vector of some kind.
fn vector(rng: &mut fastrand::Rng, shape: usize, dim: usize) -> Vec<f32> {
    let hot = rng.usize(..dim);
    let mut noise = || rng.f32() + rng.f32() + rng.f32() - 1.5;
    (0..dim)
        .map(|i| match shape {
            0 => noise(),
            1 => f32::from(u8::from(i == hot)),
            2 => 1.0,
            3 => [1.0, -1.0][i % 2],
            4 => noise() * 1e-38,
            5 => noise() * 1e38,
            6 => 3.0 + noise(),
            7 => noise() * 10f32.powi(-(i as i32 % 30)),
            _ => {
                if i == hot {
                    -100.0
                } else {
                    -1e-3
                }
            }
        })
        .collect()
}

/// A vector that differs from another by `amount` of its largest component.
fn near(rng: &mut fastrand::Rng, other: &[f32], amount: f32) -> Vec<f32> {
    let largest = other.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    other.iter().map(|x| x + (rng.f32() - 0.5) * largest * amount).collect()
}

/// The cosine in double precision.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// More than the double-precision oracle can be off.
const ORACLE: f64 = 1e-12;

/// 64 rows as a segment keeps them.
struct Group {
    codes: Vec<u8>,
    rows: Vec<(Int8, f32)>,
    plane: Vec<u8>,
}

impl Group {
    /// The group of these vectors.
    fn new(rotation: &Rotation, vectors: &[Vec<f32>]) -> Self {
        let (dim, stride) = (vectors[0].len(), rotation.padded());
        let mut unit = vec![0.0; stride];
        let mut codes = vec![0; ROWS * stride];
        let rows = vectors
            .iter()
            .zip(codes.chunks_exact_mut(stride))
            .map(|(vector, codes)| {
                rotation.unit(vector, &mut unit);
                (int8::encode(&unit, codes), signs::alignment(&unit, codes, dim))
            })
            .collect();
        let mut plane = vec![0; stride * ROWS / 8];
        signs::pack(&codes, stride, &mut plane);
        Self { codes, rows, plane }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// The true cosine lies within the bounds by codes and below those by signs, and no row is filtered that reaches it.
    #[test]
    fn bounds_contain_the_true_cosine(
        dim in 1usize..=700, shape in 0..SHAPES, query_shape in 0..SHAPES, amount in 0..3usize, seed in any::<u64>(),
    ) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let query = vector(&mut rng, query_shape, dim);
        let vectors: Vec<Vec<f32>> = (0..ROWS)
            .map(|row| match (row % 4, amount) {
                (0, _) | (_, 0) => vector(&mut rng, shape, dim),
                (1, _) => query.clone(),
                _ => near(&mut rng, &query, [0.0, 0.01, 1.0][amount]),
            })
            .collect();
        let rotation = Rotation::new(dim, seed);
        let group = Group::new(&rotation, &vectors);
        let mut unit = vec![0.0; rotation.padded()];
        let directed = rotation.unit(&query, &mut unit);
        let (mut code, mut sign) = (QueryCode::default(), SignQuery::default());
        code.encode(&unit);
        sign.encode(&unit, dim);
        let (mut dots, mut sums) = ([0; ROWS], [0; ROWS]);
        let kernel = Kernel::detect();
        kernel.dots(&group.codes, &code.codes, code.sum, u64::MAX, &mut dots);
        kernel.sign_sums(&group.plane, &sign.lut, 0, &mut sums);
        let lowest = group.rows.iter().map(|(_, alignment)| *alignment).fold(1.0, f32::min);
        for (row, vector) in vectors.iter().enumerate() {
            // Without a direction a cosine counts as 0.
            let blank = !directed || vector.iter().all(|&x| x == 0.0);
            let truth = if blank { 0.0 } else { cosine(&query, vector) };
            let (codes, alignment) = group.rows[row];
            let (middle, radius) = int8::bounds(&code, codes, dots[row]);
            prop_assert!((f64::from(middle) - truth).abs() <= f64::from(radius) + ORACLE, "{truth} is not {middle} ± {radius}");
            let upper = sign.upper(sums[row], alignment);
            prop_assert!(truth <= f64::from(upper) + ORACLE, "{truth} is above {upper}");
            let least = sign.least_sum(truth - ORACLE, alignment);
            let passes = |least: Least| sums[row] >= least.sum && least.admits(sums[row], alignment);
            prop_assert!(least.is_some_and(passes), "{least:?} filters {} at {truth}", sums[row]);
            // Also by what the least aligned row of the group needs.
            let least = sign.least_sum(truth - ORACLE, lowest);
            prop_assert!(least.is_some_and(passes), "{least:?} filters {} at {truth}", sums[row]);
            // A row that is well below a threshold by its upper bound is filtered.
            if let Some(least) = sign.least_sum(f64::from(upper) + 2e-3, alignment) {
                prop_assert!(upper >= 0.998 || sums[row] <= least.sum, "{least:?} lets {} pass at {upper}", sums[row]);
            }
        }
    }

    /// Residuals are true for the vector that was encoded, and hardly more than true.
    #[test]
    fn residuals_are_true_and_tight(dim in 1usize..=700, shape in 0..SHAPES, seed in any::<u64>()) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rotation = Rotation::new(dim, seed);
        let mut unit = vec![0.0; rotation.padded()];
        rotation.unit(&vector(&mut rng, shape, dim), &mut unit);
        let mut codes = vec![0; unit.len()];
        let row = int8::encode(&unit, &mut codes);
        let rest = |scale: f32, level: &dyn Fn(usize) -> f64| {
            unit.iter().enumerate().map(|(i, &x)| (f64::from(x) - f64::from(scale) * level(i)).powi(2)).sum::<f64>().sqrt()
        };
        let truth = rest(row.scale, &|i| f64::from(codes[i]) - 128.0);
        prop_assert!(codes.iter().all(|&code| code != 0));
        prop_assert!((truth..=truth * 1.0001 + 1e-6).contains(&f64::from(row.residual)), "{} for {truth}", row.residual);
        let mut query = QueryCode::default();
        query.encode(&unit);
        let truth = rest(query.scale, &|i| f64::from(query.codes[i]));
        prop_assert!((truth..=truth * 1.0001 + 1e-6).contains(&f64::from(query.residual)), "{} for {truth}", query.residual);
        prop_assert_eq!(query.sum, query.codes.iter().map(|&code| i32::from(code)).sum::<i32>());
    }

    /// `S` and the alignment lie where a straight sum over the signs in double precision says.
    #[test]
    fn sign_sums_and_alignments_are_true(dim in 1usize..=4096, shape in 0..SHAPES, seed in any::<u64>()) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let vectors: Vec<Vec<f32>> = (0..ROWS).map(|_| vector(&mut rng, shape, dim)).collect();
        let query = vector(&mut rng, 0, dim);
        let rotation = Rotation::new(dim, seed);
        let group = Group::new(&rotation, &vectors);
        let mut unit = vec![0.0; rotation.padded()];
        rotation.unit(&query, &mut unit);
        let mut sign = SignQuery::default();
        sign.encode(&unit, dim);
        let mut sums = [0; ROWS];
        Kernel::detect().sign_sums(&group.plane, &sign.lut, 0, &mut sums);
        let exact = rotation.exact(&query);
        for row in (0..ROWS).step_by(9) {
            let codes = &group.codes[row * rotation.padded()..];
            let along = |exact: &[f64]| exact.iter().zip(codes).map(|(x, &code)| if code >= 128 { *x } else { -*x }).sum::<f64>();
            let s = f64::from(sign.step) * f64::from(sums[row]) + f64::from(sign.base);
            prop_assert!((s - along(&exact)).abs() <= f64::from(sign.error), "{s} for {}", along(&exact));
            if vectors[row].iter().any(|&x| x != 0.0) {
                let truth = along(&rotation.exact(&vectors[row])) / (dim as f64).sqrt();
                prop_assert!((truth - 1e-4..=truth).contains(&f64::from(group.rows[row].1)), "{} for {truth}", group.rows[row].1);
            }
        }
    }
}

/// The rotated vector is within [`ROUNDING`] of the exact one in every small dimension and in the largest.
#[test]
fn rotation_is_as_exact_as_it_says() {
    let mut rng = fastrand::Rng::with_seed(4);
    for dim in (1..=300).chain([383, 384, 511, 512, 513, 768, 1023, 1536, 4095, 4096, MAX_DIM]) {
        let rotation = Rotation::new(dim, dim as u64);
        for shape in 0..SHAPES {
            let vector = vector(&mut rng, shape, dim);
            let mut unit = vec![f32::NAN; rotation.padded()];
            if rotation.unit(&vector, &mut unit) {
                let exact = rotation.exact(&vector);
                let error = exact.iter().zip(&unit).map(|(x, &y)| (x - f64::from(y)).powi(2)).sum::<f64>().sqrt();
                assert!(error <= f64::from(ROUNDING), "{error} in {dim} dimensions, shape {shape}");
            }
            assert!(unit[dim..].iter().all(|&x| x == 0.0));
        }
    }
}

/// The images of the axes are perpendicular and of length one.
#[test]
fn rotation_is_orthogonal() {
    for dim in (1..=66).chain([127, 130]) {
        let rotation = Rotation::new(dim, 9);
        let images: Vec<Vec<f64>> = (0..dim)
            .map(|axis| rotation.exact(&(0..dim).map(|i| f32::from(u8::from(i == axis))).collect::<Vec<_>>()))
            .collect();
        for (i, a) in images.iter().enumerate() {
            for (j, b) in images.iter().enumerate() {
                let dot = a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-13);
            }
        }
    }
}

#[test]
fn rotation_takes_the_smallest_and_the_largest_and_refuses_zero() {
    let rotation = Rotation::new(100, 5);
    let (mut unit, mut other) = (vec![0.0; 128], vec![0.0; 128]);
    assert!(rotation.unit(&[1.0; 100], &mut other));
    for value in [f32::from_bits(1), 1e-38, 1e38, f32::MAX] {
        assert!(rotation.unit(&[value; 100], &mut unit));
        assert_eq!(unit, other);
    }
    assert!(!rotation.unit(&[-0.0; 100], &mut unit));
    assert_eq!(unit, [0.0; 128]);
}

#[test]
fn rotation_has_the_same_bits_on_every_level() {
    let mut rng = fastrand::Rng::with_seed(6);
    for dim in [1, 2, 3, 63, 100, 384, 700, 1536] {
        let vector = vector(&mut rng, 0, dim);
        let images: Vec<Vec<f32>> = Kernel::available()
            .into_iter()
            .map(|kernel| {
                let rotation = Rotation::new(dim, 8).on(kernel);
                let mut unit = vec![0.0; rotation.padded()];
                rotation.unit(&vector, &mut unit);
                unit
            })
            .collect();
        assert!(images.iter().all(|image| *image == images[0]), "in {dim} dimensions");
    }
}

/// A one-hot vector is as well described by its signs and codes as a Gaussian one.
#[test]
fn rotation_makes_spikes_look_gaussian() {
    let mut unit = vec![0.0; 384];
    let mut codes = vec![0; 384];
    for hot in 0..384 {
        let mut spike = vec![0.0; 384];
        spike[hot] = 1.0;
        Rotation::new(384, 1).unit(&spike, &mut unit);
        assert!(int8::encode(&unit, &mut codes).residual < 0.014);
        assert!(signs::alignment(&unit, &codes, 384) > 0.74);
    }
}

/// Where query, row and signs lie in one plane the angles add up exactly: nothing is left that a wrong bound could hide in.
#[test]
fn the_bound_by_signs_holds_and_is_met_in_a_plane() {
    let mut rng = fastrand::Rng::with_seed(10);
    let dim = 384;
    for _ in 0..50 {
        let raw = vector(&mut rng, 0, dim);
        let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
        let unit: Vec<f32> = raw.iter().map(|x| x / length).collect();
        let mut codes = vec![0; dim];
        int8::encode(&unit, &mut codes);
        let alignment = signs::alignment(&unit, &codes, dim);
        let sigma: Vec<f64> =
            codes.iter().map(|&code| if code >= 128 { 1.0 } else { -1.0 } / (dim as f64).sqrt()).collect();
        let along = sigma.iter().zip(&unit).map(|(s, &x)| s * f64::from(x)).sum::<f64>();
        let across = (1.0 - along * along).sqrt();
        for beta in [0.3f64, 0.8, 1.2, 2.0, 3.0] {
            let query: Vec<f32> = sigma
                .iter()
                .zip(&unit)
                .map(|(s, &x)| (beta.cos() * s + beta.sin() * (f64::from(x) - along * s) / across) as f32)
                .collect();
            let mut plane = vec![0; 8 * dim];
            signs::pack_row(&codes, 17, &mut plane);
            let mut sign = SignQuery::default();
            sign.encode(&query, dim);
            let mut sums = [0; ROWS];
            Kernel::detect().sign_sums(&plane, &sign.lut, 0, &mut sums);
            let (truth, upper) = (cosine(&query, &unit), f64::from(sign.upper(sums[17], alignment)));
            assert!(upper >= truth, "{upper} for {truth}");
            assert!(along <= beta.cos() || upper <= truth + 0.05, "{upper} for {truth}");
            assert!(
                sign.least_sum(truth, alignment)
                    .is_some_and(|least| sums[17] >= least.sum && least.admits(sums[17], alignment))
            );
        }
    }
}

#[test]
fn thresholds_beyond_all_cosines_let_all_or_none_pass() {
    let mut sign = SignQuery::default();
    sign.encode(&[0.125; 64], 64);
    assert_eq!(sign.least_sum(1.1, 0.8), None);
    assert_eq!(sign.least_sum(f64::INFINITY, 0.8), None);
    assert_eq!(sign.least_sum(-1.0, 0.8).map(|least| least.sum), Some(0));
    assert_eq!(sign.least_sum(f64::NEG_INFINITY, 0.8).map(|least| least.sum), Some(0));
    assert!(sign.least_sum(0.9, 0.8).is_some_and(|least| least.sum > 0));
}
