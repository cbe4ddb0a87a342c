//! Pictures in SVG: a distribution, and how much of a limit is used.

use std::fmt::Write as _;

use harness::metric::Dimension;

use super::Text;
use crate::measurement::Summary;
use crate::outcome::Row;
use crate::quantity::Figure;

/// Width and height of a distribution, in units of its own.
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 64.0;
/// Where the limit stands on a headroom bar of 100 units: what misses it has room to show by how much.
const LIMIT: f64 = 70.0;

/// The shape of what was timed on a logarithmic axis, with its median and its last percentile.
pub(super) fn push_distribution(page: &mut String, summary: &Summary) {
    let time = |value: f64| Figure(value, Dimension::Time).to_string();
    let (Some(first), Some(last)) = (summary.distribution.first(), summary.distribution.last()) else { return };
    let (lo, hi) = (first.from.max(0.1).ln(), last.to.max(0.2).ln());
    let most = summary.distribution.iter().map(|bin| bin.count).max().unwrap_or(1).max(1) as f64;
    let x = |value: f64| if hi > lo { (value.max(0.1).ln() - lo) / (hi - lo) * WIDTH } else { 0.0 };
    let mut path = String::from("M0 64");
    for bin in &summary.distribution {
        // The square root keeps a thin tail visible beside a high peak.
        let height = (bin.count as f64 / most).sqrt() * (HEIGHT - 4.0);
        let _ = write!(path, "V{:.1}H{:.1}", HEIGHT - height, x(bin.to));
    }
    path.push_str("V64Z");
    let mut marks = vec![("p50", summary.median)];
    marks
        .extend(summary.percentiles.iter().filter(|(q, _)| *q > 0.989 && *q < 0.991).map(|(_, value)| ("p99", *value)));
    let _ = write!(
        page,
        "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"distribution, {}\" preserveAspectRatio=\"none\">\
         <path class=\"shape\" d=\"{path}\"/>",
        Text(&summary.source),
    );
    for (name, value) in &marks {
        let _ = write!(page, "<path class=\"mark {name}\" d=\"M{0:.1} 0V64\"/>", x(*value));
    }
    let _ = write!(page, "</svg><figcaption>{} to {}", time(summary.min), time(summary.max));
    for (name, value) in &marks {
        let _ = write!(page, ", <b class=\"{name}\">{name} {}</b>", time(*value));
    }
    let _ = writeln!(page, "; {}, n = {}</figcaption></figure>", Text(&summary.source), summary.rounds);
}

/// How much of the limit the figure uses, with its interval; the line is the limit.
pub(super) fn push_headroom(page: &mut String, row: &Row) {
    let (Some(estimate), Some(bound)) = (row.estimate, row.bound) else { return };
    let used = |value: f64| if bound.operator.is_maximum() { value / bound.value } else { bound.value / value };
    let (a, b) = (used(estimate.lo), used(estimate.hi));
    let (lo, value, hi) = (a.min(b), used(estimate.value), a.max(b));
    if ![lo, value, hi].iter().all(|share| share.is_finite() && *share >= 0.0) {
        return;
    }
    let x = |share: f64| (share * LIMIT).min(100.0);
    let _ = write!(
        page,
        "<svg class=\"bar\" viewBox=\"0 0 100 12\" role=\"img\" aria-label=\"{0:.0} % of the limit\" preserveAspectRatio=\"none\">\
         <path class=\"track\" d=\"M0 6H100\"/><path class=\"used\" d=\"M0 6H{1:.1}\"/>\
         <path class=\"interval\" d=\"M{2:.1} 6H{3:.1}\"/><path class=\"limit\" d=\"M{LIMIT} 0V12\"/></svg> <small>{0:.0} %</small>",
        value * 100.0,
        x(value),
        x(lo),
        x(hi).max(x(lo) + 0.5),
    );
}
