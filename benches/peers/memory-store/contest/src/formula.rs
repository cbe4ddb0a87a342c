//! The composite score: `0.5 cos + 0.3 exp(-0.1 age) + 0.2 (1 + 0.3 ln(1 + n))`, ages in hours.

/// The present: an hour after the last memory.
pub const NOW_HOURS: f64 = 721.0;

/// What age and recurrence add to half the cosine.
pub(crate) fn bias(seen_hours: f64, times: u32) -> f64 {
    0.3 * (-0.1 * (NOW_HOURS - seen_hours)).exp() + recurrence_term(times)
}

/// What recurrence adds, which no question changes: whoever re-ranks may keep it.
#[must_use]
pub fn recurrence_term(times: u32) -> f64 {
    0.2 * (1.0 + 0.3 * f64::from(times).ln_1p())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_the_original() {
        let score = |cosine: f64, age: f64, times| 0.5 * cosine + bias(NOW_HOURS - age, times);
        for (score, expected) in [
            (score(1.0, 0.0, 1), 1.041_588_831),
            (score(0.5, 6.0, 10), 0.758_517_207),
            (score(0.594, 46.0, 1), 0.541_604_382),
            (score(0.2541, 0.0, 1000), 1.041_575_287),
        ] {
            assert!((score - expected).abs() < 1e-9, "{score} for {expected}");
        }
    }
}
