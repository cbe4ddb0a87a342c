//! The tail of the normal distribution, in decimal orders of magnitude.

use std::f64::consts::{LN_10, SQRT_2, TAU};

/// From here on the tail is computed from its expansion: `erfc` loses digits near the smallest numbers, and is 0 from 38 on.
const FAR: f64 = 10.0;

/// `−log₁₀ P(X > deviations)` of a standard normal X.
///
/// Near, `P = erfc(x / √2) / 2`; far, the asymptotic expansion `φ(x) / x · (1 − 1/x² + 3/x⁴ − 15/x⁶)` (Abramowitz and Stegun, "Handbook of
/// Mathematical Functions", 26.2.12).
pub(super) fn phi_of(deviations: f64) -> f64 {
    if deviations < FAR {
        return -(libm::erfc(deviations / SQRT_2) / 2.0).log10();
    }
    let inverse = 1.0 / (deviations * deviations);
    let series = 1.0 - inverse * (1.0 - inverse * (3.0 - inverse * 15.0));
    (deviations * deviations / 2.0 + (deviations * TAU.sqrt()).ln() - series.ln()) / LN_10
}

/// The deviations at which φ is `phi` (0.5 to 100), by halving.
pub(super) fn deviations_at(phi: f64) -> f64 {
    let (mut below, mut above) = (0.0, 64.0);
    for _ in 0..64 {
        let middle = (below + above) / 2.0;
        if phi_of(middle) < phi { below = middle } else { above = middle }
    }
    above
}

#[cfg(all(test, not(bridge_orchestrator_loom)))]
mod tests {
    use super::*;

    /// Quantiles of the normal distribution from tables.
    #[test]
    fn phi_is_that_of_the_tables() {
        for (deviations, probability) in
            [(0.0, 0.5), (1.0, 0.158_655_253_931), (2.326_347_874, 0.01), (3.719_016_485, 1e-4), (5.612_001_244, 1e-8)]
        {
            let (found, expected) = (phi_of(deviations), -f64::log10(probability));
            assert!((found - expected).abs() < 1e-8, "{found} instead of {expected}");
        }
        // 10 and 20 deviations: 7.6199e-24 and 2.7536e-89.
        assert!((phi_of(10.0) - 23.118_053_4).abs() < 1e-5, "{}", phi_of(10.0));
        assert!((phi_of(20.0) - 88.560_1).abs() < 1e-4, "{}", phi_of(20.0));
    }

    #[test]
    fn both_formulas_meet_and_phi_rises_everywhere() {
        assert!((phi_of(FAR) - phi_of(FAR - 1e-9)).abs() < 1e-6);
        let mut last = phi_of(-6.0);
        for step in -599..=10_000 {
            let phi = phi_of(f64::from(step) / 100.0);
            assert!(phi > last || step < -500, "at {step}");
            last = phi;
        }
    }

    #[test]
    fn deviations_are_the_inverse_of_phi() {
        for phi in [0.5, 1.0, 8.0, 16.0, 24.0, 100.0] {
            assert!((phi_of(deviations_at(phi)) - phi).abs() < 1e-9);
        }
    }
}
