//! A vector made ready to be compared with all others.

use crate::config::{Config, ZeroVectors};
use crate::error::Error;
use crate::kernel::Kernel;
use crate::quantize::{int8::QueryCode, rotate::Rotation, signs::SignQuery};

/// A vector in the forms that a scan needs. Its memory is used again.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// As the store keeps it.
    pub(crate) vector: Vec<f32>,
    /// Its length.
    pub(crate) norm: f64,
    /// Of length 1, rotated.
    pub(crate) unit: Vec<f32>,
    pub(crate) code: QueryCode,
    pub(crate) signs: SignQuery,
}

impl Prepared {
    /// Takes over `vector`, normalised as the store has it.
    pub(crate) fn set(
        &mut self,
        vector: &[f32],
        config: &Config,
        rotation: &Rotation,
        kernel: Kernel,
    ) -> Result<(), Error> {
        if vector.len() != config.dimensions {
            return Err(Error::Dimensions { expected: config.dimensions, got: vector.len() });
        }
        match &config.normalizer {
            Some(normalizer) => normalizer.apply(vector, &mut self.vector),
            None => {
                self.vector.clear();
                self.vector.extend_from_slice(vector);
            }
        }
        // Without a way out in the middle, so that many are looked at together.
        if self.vector.iter().fold(false, |found, x| found | !x.is_finite()) {
            let index = self.vector.iter().position(|x| !x.is_finite()).unwrap_or_default();
            return Err(Error::NonFinite { index });
        }
        self.unit.resize(rotation.padded(), 0.0);
        let has_direction = rotation.unit(&self.vector, &mut self.unit);
        if !has_direction {
            if config.zero_vectors == ZeroVectors::Refuse {
                return Err(Error::ZeroNorm);
            }
            self.unit.fill(0.0);
        }
        self.norm = kernel.dot_and_square(&self.vector, &self.vector).1.sqrt();
        Ok(())
    }

    /// Makes ready what a scan needs beyond the vector.
    pub(crate) fn encode(&mut self, dimensions: usize) {
        self.code.encode(&self.unit);
        self.signs.encode(&self.unit, dimensions);
    }

    /// The cosine with `other`, which every rank is decided by: products and sums in `f64`, in an order that does not depend on the
    /// machine; 0 if either has no direction.
    pub(crate) fn cosine(&self, other: &[f32], epsilon: f64, kernel: Kernel) -> f64 {
        let (dot, square) = kernel.dot_and_square(&self.vector, other);
        if self.norm == 0.0 || square == 0.0 {
            return 0.0;
        }
        // Rounding alone takes it past 1.
        (dot / (self.norm * square.sqrt() + epsilon)).clamp(-1.0, 1.0)
    }
}
