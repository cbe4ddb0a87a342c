//! The few statistics that measurements need. Quantiles of Student's t come from `statrs`.

use statrs::distribution::{ContinuousCDF as _, StudentsT};

use crate::record::Interval;

/// Confidence of every interval that this crate writes.
pub const CONFIDENCE: f64 = 0.95;

/// Arithmetic mean; NaN for no values.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample standard deviation (n − 1); 0 for fewer than two values.
#[must_use]
pub fn stddev(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let centre = mean(values);
    let squares: f64 = values.iter().map(|v| (v - centre).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

/// The value at quantile `q` of ascending `sorted`, interpolated between neighbours (Hyndman and Fan, "Sample quantiles in
/// statistical packages", 1996, type 7). NaN for no values.
#[must_use]
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let rank = q.clamp(0.0, 1.0) * last as f64;
    let below = rank.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (rank - below as f64)
}

/// The two-sided critical value of Student's t at [`CONFIDENCE`] with `degrees` of freedom; infinite for none.
#[must_use]
pub fn t_critical(degrees: usize) -> f64 {
    t_critical_of_looks(degrees, 1)
}

/// As [`t_critical`], for data that are looked at up to `looks` times while they come in: whether it is told at any of the looks, the
/// error stays that of one (Bonferroni).
fn t_critical_of_looks(degrees: usize, looks: u32) -> f64 {
    let error = (1.0 - CONFIDENCE) / f64::from(looks.max(1));
    StudentsT::new(0.0, 1.0, degrees as f64).map_or(f64::INFINITY, |t| t.inverse_cdf(1.0 - error / 2.0))
}

/// The t interval of the mean of independent `values`; `None` for fewer than two.
#[must_use]
pub fn mean_interval(values: &[f64]) -> Option<Interval> {
    mean_interval_of_looks(values, 1)
}

fn mean_interval_of_looks(values: &[f64], looks: u32) -> Option<Interval> {
    if values.len() < 2 {
        return None;
    }
    let half = t_critical_of_looks(values.len() - 1, looks) * stddev(values) / (values.len() as f64).sqrt();
    let centre = mean(values);
    Some(Interval { lo: centre - half, hi: centre + half, level: CONFIDENCE })
}

/// The ranks (from 1) between which quantile `q` of `n` samples lies with [`CONFIDENCE`]: the normal approximation of the
/// binomial order-statistic interval (Conover, "Practical Nonparametric Statistics", § 3.2).
#[must_use]
pub fn quantile_ranks(n: u64, q: f64) -> (u64, u64) {
    let z = t_critical(1_000_000);
    let count = n as f64;
    let half = z * (count * q * (1.0 - q)).sqrt();
    let lo = (count * q - half).floor().max(1.0);
    let hi = (count * q + half).ceil().min(count).max(1.0);
    (lo as u64, hi as u64)
}

/// How many samples the upper bound of quantile `q` needs: below that, the largest of all samples lies under the quantile
/// with more than 5 % probability (`q^n <= 0.05`: 59 for the 95th percentile, 299 for the 99th).
#[must_use]
pub fn samples_needed(q: f64) -> u64 {
    ((1.0 - CONFIDENCE).ln() / q.ln()).ceil() as u64
}

/// A straight line through points, by least squares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Change of y for one x.
    pub slope: f64,
    /// y at x = 0.
    pub intercept: f64,
    /// Share of the variance that the line explains.
    pub r_squared: f64,
    /// Interval of the slope; `None` for fewer than three points.
    pub slope_interval: Option<Interval>,
}

/// Fits a line; `None` for fewer than two different x.
#[must_use]
pub fn fit_line(points: &[(f64, f64)]) -> Option<Line> {
    let n = points.len() as f64;
    let mean_x = points.iter().map(|p| p.0).sum::<f64>() / n;
    let mean_y = points.iter().map(|p| p.1).sum::<f64>() / n;
    let spread_x: f64 = points.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
    if points.len() < 2 || spread_x <= 0.0 {
        return None;
    }
    let slope = points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum::<f64>() / spread_x;
    let intercept = mean_y - slope * mean_x;
    let residual: f64 = points.iter().map(|p| (p.1 - intercept - slope * p.0).powi(2)).sum();
    let total: f64 = points.iter().map(|p| (p.1 - mean_y).powi(2)).sum();
    let slope_interval = (points.len() > 2).then(|| {
        let degrees = points.len() - 2;
        let half = t_critical(degrees) * (residual / degrees as f64 / spread_x).sqrt();
        Interval { lo: slope - half, hi: slope + half, level: CONFIDENCE }
    });
    let r_squared = if total > 0.0 { 1.0 - residual / total } else { 1.0 };
    Some(Line { slope, intercept, r_squared, slope_interval })
}

/// The geometric mean of positive `ratios` with its t interval over their logarithms; `None` for fewer than two.
#[must_use]
pub fn ratio_interval(ratios: &[f64]) -> Option<(f64, Interval)> {
    ratio_interval_of_looks(ratios, 1)
}

/// As [`ratio_interval`], where more ratios are taken if these do not tell, up to `looks` times in all: the interval is as much wider
/// as keeps the error over all looks (Bonferroni).
#[must_use]
pub fn ratio_interval_of_looks(ratios: &[f64], looks: u32) -> Option<(f64, Interval)> {
    let logs: Vec<f64> = ratios.iter().map(|r| r.ln()).collect();
    let interval = mean_interval_of_looks(&logs, looks)?;
    Some((mean(&logs).exp(), Interval { lo: interval.lo.exp(), hi: interval.hi.exp(), level: interval.level }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_critical_agrees_with_printed_tables() {
        for (degrees, expected) in [(1, 12.706), (4, 2.776), (10, 2.228), (30, 2.042)] {
            assert!((t_critical(degrees) - expected).abs() < 1e-3, "{degrees} degrees: {}", t_critical(degrees));
        }
    }

    #[test]
    fn two_looks_have_the_critical_value_of_half_the_error() {
        for (degrees, expected) in [(5, 3.163), (17, 2.458)] {
            let critical = t_critical_of_looks(degrees, 2);
            assert!((critical - expected).abs() < 1e-3, "{degrees} degrees: {critical}");
        }
    }

    #[test]
    fn samples_needed_for_common_percentiles() {
        assert_eq!([0.95, 0.99, 0.999].map(samples_needed), [59, 299, 2995]);
    }

    #[test]
    fn exact_line_is_found_with_an_empty_interval() {
        let line = fit_line(&[(1.0, 5.0), (2.0, 7.0), (3.0, 9.0)]).expect("three points");
        assert!((line.slope - 2.0).abs() < 1e-12 && (line.intercept - 3.0).abs() < 1e-12);
        assert!((line.r_squared - 1.0).abs() < 1e-12);
        let interval = line.slope_interval.expect("three points");
        assert!(interval.hi - interval.lo < 1e-9);
    }

    #[test]
    fn one_point_is_no_line() {
        assert_eq!(fit_line(&[(1.0, 1.0)]), None);
        assert_eq!(fit_line(&[(1.0, 1.0), (1.0, 2.0)]), None);
    }

    #[test]
    fn mean_interval_covers_the_true_mean_about_as_often_as_it_says() {
        // Sums of twelve uniform numbers from a fixed linear congruential sequence: nearly normal around 6.
        let mut state = 88_172_645_463_325_252_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let trials = 2_000;
        let covered = (0..trials)
            .filter(|_| {
                let sample: Vec<f64> = (0..10).map(|_| (0..12).map(|_| uniform()).sum()).collect();
                let interval = mean_interval(&sample).expect("ten values");
                interval.lo <= 6.0 && 6.0 <= interval.hi
            })
            .count();
        let share = covered as f64 / f64::from(trials);
        assert!((0.93..=0.97).contains(&share), "covered {share}");
    }

    #[test]
    fn quantile_interpolates_between_neighbours() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn ranks_stay_inside_the_sample() {
        for n in [1, 2, 10, 1_000] {
            let (lo, hi) = quantile_ranks(n, 0.99);
            assert!(1 <= lo && lo <= hi && hi <= n);
        }
    }
}
