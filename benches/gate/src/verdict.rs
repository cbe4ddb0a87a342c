//! What a measured interval says about a limit: one pure function.

use std::fmt;

use harness::metric::{Dimension, Metric};
use serde::Serialize;

use crate::quantity::{Bound, Operator};

/// The answer for one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// The result is wrong in itself.
    Error,
    /// The limit is missed.
    Fail,
    /// There is no valid result.
    Missing,
    /// The interval straddles the limit, or the machine cannot tell.
    Inconclusive,
    /// Met with little headroom.
    Warn,
    /// Not met, and let pass until a stated day.
    Waived,
    /// Met.
    Pass,
    /// Outside the filter or the profile: says nothing.
    #[serde(rename = "NOT SELECTED")]
    NotSelected,
}

impl Verdict {
    /// Every verdict, the worst first.
    pub const ALL: [Self; 8] = [
        Self::Error,
        Self::Fail,
        Self::Missing,
        Self::Inconclusive,
        Self::Warn,
        Self::Waived,
        Self::Pass,
        Self::NotSelected,
    ];

    /// The word that reports print.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fail => "FAIL",
            Self::Missing => "MISSING",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::Warn => "WARN",
            Self::Waived => "WAIVED",
            Self::Pass => "PASS",
            Self::NotSelected => "NOT SELECTED",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A measured figure with the ends of its interval; an exact figure has all three equal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Lower end.
    pub lo: f64,
    /// Point estimate.
    pub value: f64,
    /// Upper end.
    pub hi: f64,
}

impl Estimate {
    /// A figure without an interval.
    #[must_use]
    pub fn exact(value: f64) -> Self {
        Self { lo: value, value, hi: value }
    }
}

/// The verdict on `estimate` under `bound`, and its headroom where it is met: the share of the limit that is left (for shares,
/// of the error that is allowed).
///
/// Met with less than `warn_band` of headroom is WARN, except where a band would always warn: limits at 0 or at a physical bound,
/// equalities, whole counts. An interval that the limit lies in is INCONCLUSIVE. A figure that is no number is ERROR.
#[must_use]
pub fn judge(estimate: Estimate, bound: Bound, metric: Metric, warn_band: f64) -> (Verdict, Option<f64>) {
    let Estimate { lo, value, hi } = estimate;
    if ![lo, value, hi].iter().all(|v| v.is_finite()) || lo > hi || !bound.value.is_finite() {
        return (Verdict::Error, None);
    }
    let limit = bound.value;
    let (is_met, is_missed) = match bound.operator {
        Operator::Below => (hi < limit, lo >= limit),
        Operator::AtMost => (hi <= limit, lo > limit),
        Operator::Above => (lo > limit, hi <= limit),
        Operator::AtLeast => (lo >= limit, hi < limit),
        Operator::Equal => {
            (equal(lo, limit) && equal(hi, limit), lo > limit && !equal(lo, limit) || hi < limit && !equal(hi, limit))
        }
    };
    if is_missed {
        return (Verdict::Fail, None);
    }
    if !is_met {
        return (Verdict::Inconclusive, None);
    }
    let headroom = headroom(estimate, bound, metric);
    let is_near = has_band(bound, metric) && headroom.is_some_and(|headroom| headroom < warn_band - ROUNDING);
    (if is_near { Verdict::Warn } else { Verdict::Pass }, headroom)
}

/// What the arithmetic of a headroom may be off by: exactly a tenth left is a tenth.
const ROUNDING: f64 = 1e-9;

fn equal(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
}

fn headroom(Estimate { lo, hi, .. }: Estimate, bound: Bound, metric: Metric) -> Option<f64> {
    let limit = bound.value;
    // For a share that should be high, what counts is the rest: 99.9 % against 99 % has nine tenths left.
    let (used, allowed) = match (bound.operator.is_maximum(), metric.dimension()) {
        (true, _) => (hi, limit),
        (false, Dimension::Share) => (1.0 - lo, 1.0 - limit),
        (false, _) => (limit, lo),
    };
    (allowed > 0.0 && bound.operator != Operator::Equal).then(|| 1.0 - used / allowed)
}

fn has_band(bound: Bound, metric: Metric) -> bool {
    let is_count = matches!(metric, Metric::AllocsCount | Metric::Count);
    let is_at_physical_bound = bound.value <= 0.0 || metric.dimension() == Dimension::Share && bound.value >= 1.0;
    !is_count && !is_at_physical_bound && bound.operator != Operator::Equal
}

/// What the command exits with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitStatus {
    /// Every limit that was asked about is met, possibly with warnings.
    Ok = 0,
    /// A limit is missed.
    Failed = 1,
    /// The command line, a file or a result is wrong, or a tool failed.
    Error = 2,
    /// Something was not measured, or could not be told.
    Missing = 3,
    /// There are warnings and `--deny-warnings` was given.
    Warnings = 4,
}

impl ExitStatus {
    /// The worse of two: 2 before 1 before 3 before 4 before 0.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        let rank = |status| match status {
            Self::Error => 4,
            Self::Failed => 3,
            Self::Missing => 2,
            Self::Warnings => 1,
            Self::Ok => 0,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}
