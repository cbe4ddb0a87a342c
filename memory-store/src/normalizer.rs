//! Raw measurements as vectors.

use crate::error::Error;

/// Shifts and scales each dimension on its own. Raw measurements make poor vectors: where all values are positive and one dimension is in
/// the thousands, any two have a cosine near 1. Around their mean, in units of their spread, they point apart.
///
/// A vector that equals the mean has no direction: it is refused as [`Error::ZeroNorm`], unless the store takes such vectors as
/// [unrelated](crate::ZeroVectors::Unrelated) to all.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalizer {
    shift: Vec<f32>,
    scale: Vec<f32>,
}

impl Normalizer {
    /// Maps `mean` to 0 and a `deviation` from it to 1, in each dimension.
    ///
    /// # Errors
    ///
    /// [`Error::Dimensions`] if the two differ in length, [`Error::NonFinite`] for a mean or a deviation that is not finite,
    /// [`Error::InvalidValue`] for a deviation that is not above 0, or so small that nothing is left of what is divided by it.
    pub fn new(mean: &[f32], deviation: &[f32]) -> Result<Self, Error> {
        if mean.len() != deviation.len() {
            return Err(Error::Dimensions { expected: mean.len(), got: deviation.len() });
        }
        if let Some(index) = (0..mean.len()).find(|&i| !mean[i].is_finite() || !deviation[i].is_finite()) {
            return Err(Error::NonFinite { index });
        }
        if let Some(&value) = deviation.iter().find(|&&d| d <= 0.0 || (1.0 / d).is_infinite()) {
            return Err(Error::InvalidValue { what: "deviation", value: value.into(), allowed: "above 3e-39" });
        }
        Ok(Self { shift: mean.to_vec(), scale: deviation.iter().map(|d| 1.0 / d).collect() })
    }

    /// Takes means and deviations from `samples`. A dimension that does not vary keeps its unit.
    ///
    /// # Errors
    ///
    /// [`Error::Dimensions`] if there is no sample or they differ in length, [`Error::NonFinite`] for a component that is not finite.
    pub fn from_samples<V: AsRef<[f32]>>(samples: &[V]) -> Result<Self, Error> {
        let dimensions = samples.first().map_or(0, |sample| sample.as_ref().len());
        if dimensions == 0 {
            return Err(Error::Dimensions { expected: 1, got: 0 });
        }
        for sample in samples {
            let sample = sample.as_ref();
            if sample.len() != dimensions {
                return Err(Error::Dimensions { expected: dimensions, got: sample.len() });
            }
            if let Some(index) = sample.iter().position(|x| !x.is_finite()) {
                return Err(Error::NonFinite { index });
            }
        }
        let count = samples.len() as f64;
        let column = |i: usize| samples.iter().map(move |sample| f64::from(sample.as_ref()[i]));
        let mean: Vec<f64> = (0..dimensions).map(|i| column(i).sum::<f64>() / count).collect();
        let deviation = (0..dimensions).map(|i| {
            let variance = column(i).map(|x| (x - mean[i]).powi(2)).sum::<f64>() / count;
            if variance > 0.0 { variance.sqrt() as f32 } else { 1.0 }
        });
        let deviation: Vec<f32> = deviation.map(|d| if (1.0 / d).is_finite() { d } else { 1.0 }).collect();
        let mean: Vec<f32> = mean.iter().map(|&m| m as f32).collect();
        Self::new(&mean, &deviation)
    }

    /// Dimensions of the vectors that it takes.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.shift.len()
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = f32> {
        self.shift.iter().chain(&self.scale).copied()
    }

    pub(crate) fn apply(&self, vector: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.extend(vector.iter().zip(&self.shift).zip(&self.scale).map(|((x, shift), scale)| (x - shift) * scale));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Means and deviations of the samples themselves, not of what they are drawn from.
    #[test]
    fn samples_come_to_their_mean_and_deviation() {
        let samples = [[1.0, 70.0, 5.0], [3.0, 30.0, 5.0], [5.0, 50.0, 5.0], [7.0, 50.0, 5.0]];
        let normalizer = Normalizer::from_samples(&samples).expect("good samples");
        let mut out = Vec::new();
        normalizer.apply(&[4.0 + 5f32.sqrt(), 50.0 - 200f32.sqrt(), 7.0], &mut out);
        for (found, expected) in out.iter().zip([1.0, -1.0, 2.0]) {
            assert!((found - expected).abs() < 1e-5, "{out:?}");
        }
        assert_eq!((out.len(), normalizer.dimensions()), (3, 3));
    }
}
