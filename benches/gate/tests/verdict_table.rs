//! The verdicts as a table, and two properties that no table can hold: worse is never better.

use gate::quantity::{Bound, Operator};
use gate::verdict::{Estimate, ExitStatus, Verdict, judge};
use harness::metric::Metric;
use proptest::prelude::*;

const BAND: f64 = 0.1;

fn verdict(metric: Metric, limit: &str, lo: f64, hi: f64) -> Verdict {
    let bound = Bound::parse(limit, metric).expect(limit);
    judge(Estimate { lo, value: f64::midpoint(lo, hi), hi }, bound, metric, BAND).0
}

#[test]
fn intervals_against_limits() {
    use Verdict::{Error, Fail, Inconclusive, Pass, Warn};
    let mean = Metric::LatencyMean;
    let rate = Metric::Throughput;
    let inf = f64::INFINITY;
    for (metric, limit, lo, hi, expected) in [
        // At most: met with headroom, met with little, across, missed.
        (mean, "100ns", 50.0, 90.0, Pass),
        (mean, "100ns", 50.0, 90.1, Warn),
        (mean, "100ns", 100.0, 100.0, Warn),
        (mean, "100ns", 99.0, 100.1, Inconclusive),
        (mean, "100ns", 100.0, 100.1, Inconclusive),
        (mean, "100ns", 100.1, 100.2, Fail),
        (mean, "100ns", 0.0, 0.0, Pass),
        // Below is not met at equality.
        (mean, "< 100ns", 99.0, 99.9, Warn),
        (mean, "< 100ns", 100.0, 100.0, Fail),
        (mean, "< 100ns", 99.0, 100.0, Inconclusive),
        // At least, the mirror.
        (rate, "100/s", 112.0, 120.0, Pass),
        (rate, "100/s", 111.0, 120.0, Warn),
        (rate, "100/s", 100.0, 120.0, Warn),
        (rate, "100/s", 99.9, 120.0, Inconclusive),
        (rate, "100/s", 90.0, 99.9, Fail),
        (rate, "> 100/s", 100.0, 100.0, Fail),
        (rate, "> 100/s", 100.0, 101.0, Inconclusive),
        // Equality, zero and whole counts have no band.
        (Metric::Count, "= 3", 3.0, 3.0, Pass),
        (Metric::Count, "= 3", 2.0, 2.0, Fail),
        (Metric::Count, "= 3", 4.0, 4.0, Fail),
        (Metric::Count, "= 3", 2.0, 4.0, Inconclusive),
        (Metric::Count, ">= 3", 3.0, 3.0, Pass),
        (Metric::AllocsCount, "1", 1.0, 1.0, Pass),
        (Metric::AllocsCount, "0", 0.0, 0.0, Pass),
        (Metric::AllocsCount, "0", 0.1, 0.1, Fail),
        (Metric::MemoryGrowth, "0B", -5.0, -5.0, Pass),
        (Metric::SuccessRate, "= 100%", 1.0, 1.0, Pass),
        (Metric::SuccessRate, "100%", 1.0, 1.0, Pass),
        (Metric::SuccessRate, "100%", 0.99, 0.99, Fail),
        (Metric::ErrorRate, "0%", 0.0, 0.0, Pass),
        // Headroom of a share is taken on the side of the errors.
        (Metric::SuccessRate, "99%", 0.995, 0.995, Pass),
        (Metric::SuccessRate, "99%", 0.9905, 0.9905, Warn),
        (Metric::ErrorRate, "1%", 0.0, 0.009, Pass),
        (Metric::ErrorRate, "1%", 0.0, 0.0095, Warn),
        // What is no figure.
        (mean, "100ns", f64::NAN, 90.0, Error),
        (mean, "100ns", 1.0, inf, Error),
        (mean, "100ns", -inf, 1.0, Error),
        (mean, "100ns", 90.0, 80.0, Error),
    ] {
        assert_eq!(verdict(metric, limit, lo, hi), expected, "{metric} [{lo}, {hi}] {limit}");
    }
}

#[test]
fn exit_codes_rank_error_before_failure_before_missing_before_warnings() {
    use ExitStatus::{Error, Failed, Missing, Ok, Warnings};
    let order = [Ok, Warnings, Missing, Failed, Error];
    for (index, &a) in order.iter().enumerate() {
        for &b in &order[..=index] {
            assert_eq!(a.worse(b), a);
            assert_eq!(b.worse(a), a);
        }
    }
    assert_eq!(order.map(|status| status as u8), [0, 4, 3, 1, 2]);
}

/// From the best verdict to the worst.
fn rank(verdict: Verdict) -> usize {
    [Verdict::Pass, Verdict::Warn, Verdict::Inconclusive, Verdict::Fail, Verdict::Error]
        .iter()
        .position(|&known| known == verdict)
        .expect("what judge returns")
}

fn any_metric() -> impl Strategy<Value = Metric> {
    prop::sample::select(vec![
        Metric::LatencyMean,
        Metric::Throughput,
        Metric::MemoryPerItem,
        Metric::SuccessRate,
        Metric::ErrorRate,
        Metric::AllocsCount,
        Metric::ScalingSpeedup,
    ])
}

fn bound_of(metric: Metric, strict: bool, value: f64) -> Bound {
    let lower = metric.direction() == harness::metric::Direction::Lower;
    let operator = match (lower, strict) {
        (true, false) => Operator::AtMost,
        (true, true) => Operator::Below,
        (false, false) => Operator::AtLeast,
        (false, true) => Operator::Above,
    };
    Bound { operator, value }
}

proptest! {
    /// A result that is worse by `step` at both ends never gets a better verdict.
    #[test]
    fn a_worse_result_is_never_judged_better(
        metric in any_metric(), strict: bool, limit in 0.0_f64..1.0, lo in 0.0_f64..1.0, width in 0.0_f64..0.5, step in 0.0_f64..0.5,
    ) {
        let bound = bound_of(metric, strict, limit);
        let worse = if bound.operator.is_maximum() { step } else { -step };
        let at = |shift: f64| judge(Estimate { lo: lo + shift, value: lo + shift, hi: lo + width + shift }, bound, metric, BAND).0;
        prop_assert!(rank(at(worse)) >= rank(at(0.0)), "{:?} {:?}", at(0.0), at(worse));
    }

    /// The same result under a tighter limit never gets a better verdict.
    #[test]
    fn a_tighter_limit_never_judges_better(
        metric in any_metric(), strict: bool, limit in 0.1_f64..0.9, lo in 0.0_f64..1.0, width in 0.0_f64..0.5, step in 0.0_f64..0.09,
    ) {
        let tighter = if bound_of(metric, strict, limit).operator.is_maximum() { limit - step } else { limit + step };
        let estimate = Estimate { lo, value: lo, hi: lo + width };
        let of = |limit| judge(estimate, bound_of(metric, strict, limit), metric, BAND).0;
        prop_assert!(rank(of(tighter)) >= rank(of(limit)), "{:?} {:?}", of(limit), of(tighter));
    }
}
