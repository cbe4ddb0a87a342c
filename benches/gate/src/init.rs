//! First limits for what was measured and has none: from the far end of each interval, with headroom.

use std::fmt;
use std::io;

use harness::metric::{Dimension, Direction, Metric};
use toml_edit::{DocumentMut, InlineTable, Item, Table, Value};

use crate::evaluate::Combined;
use crate::quantity::Figure;
use crate::thresholds::Pattern;
use crate::verdict::Estimate;

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// How far a first limit stands from what was measured: 2 lets a time double.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Headroom(f64);

impl Default for Headroom {
    fn default() -> Self {
        Self(2.0)
    }
}

impl std::str::FromStr for Headroom {
    type Err = String;

    /// Reads `2x`, `1.5`, from 1 to 1000.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('x').unwrap_or(text).parse::<f64>().ok();
        let number = number.filter(|number| (1.0..=1_000.0).contains(number));
        number.map(Self).ok_or_else(|| format!("`{text}` is no headroom: write for example 2x, from 1x to 1000x"))
    }
}

impl fmt::Display for Headroom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x", self.0)
    }
}

impl Headroom {
    /// The limit for a figure: its far end, and as much room again as the metric has a meaning for.
    ///
    /// A time, a size or a count is multiplied, a rate divided. A share keeps its distance from perfection multiplied, a speed-up what
    /// it is above 1 divided. An exponent is that of a time which is off by the headroom over three decades of size. What is exact and
    /// counted in whole numbers has no room: one allocation more is one too many. `None` where the metric does not say what is better.
    fn limit(self, metric: Metric, Estimate { lo, hi, .. }: Estimate) -> Option<f64> {
        let Self(times) = self;
        let far = match metric.direction() {
            Direction::Stated => return None,
            Direction::Lower => hi,
            Direction::Higher => lo,
        };
        Some(match metric {
            Metric::AllocsCount if far == far.trunc() => far,
            Metric::ScalingExponent => far + times.log10() / 3.0,
            Metric::ScalingSpeedup if far > 1.0 => 1.0 + (far - 1.0) / times,
            Metric::SuccessRate | Metric::ScalingLinear => (1.0 - (1.0 - far) * times).max(0.0),
            Metric::ErrorRate => (far * times).min(1.0),
            _ if metric.direction() == Direction::Higher => far / times,
            _ => far * times,
        })
    }
}

/// Limits that were added to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// The whole text of the file, with what was there as it was.
    pub text: String,
    /// The benchmarks that have limits now, with those limits as written.
    pub benches: Vec<(String, String)>,
    /// Benchmarks whose ids would be globs in the file.
    pub left_out: Vec<String>,
}

/// Adds to the file of limits `text` one table for each benchmark in `figures`, whose limits stand `headroom` away from what was
/// measured. `day` goes into the rationale. A benchmark that is in the file already, or without a metric that can be limited, is left out.
///
/// # Errors
/// If `text` is not TOML, or has `bench` as something else than a table.
pub fn add_limits(text: &str, figures: &[Combined], headroom: Headroom, day: &str) -> io::Result<Added> {
    let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidData, message);
    // The TOML library writes neither a mark nor line ends of two characters.
    let (mark, plain) = text.strip_prefix(BYTE_ORDER_MARK).map_or(("", text), |rest| (BYTE_ORDER_MARK, rest));
    // A file that mixes them gets lines of its majority.
    let ends_in_two = 2 * plain.matches("\r\n").count() > plain.matches('\n').count();
    let mut document: DocumentMut = plain.parse().map_err(|error: toml_edit::TomlError| invalid(error.to_string()))?;
    let tables = document.entry("bench").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let tables = tables.as_table_mut().ok_or_else(|| invalid("`bench` is not a table".to_owned()))?;
    let mut benches: Vec<(String, String)> = Vec::new();
    let mut left_out = Vec::new();
    let mut ids: Vec<&str> = figures.iter().map(|figure| figure.bench.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let of_bench: Vec<&Combined> = figures.iter().filter(|figure| figure.bench == id).collect();
        let limits = limits(&of_bench, headroom);
        if limits.is_empty() || tables.contains_key(id) {
            continue;
        }
        if Pattern::new(id).map_or(true, |pattern| pattern.is_glob()) {
            left_out.push(id.to_owned());
            continue;
        }
        let mut table = Table::new();
        table.decor_mut().set_prefix("\n");
        benches.push((id.to_owned(), limits.to_string().trim().to_owned()));
        table.insert("own", Item::Value(Value::InlineTable(limits)));
        table.insert("rationale", Item::Value(format!("as measured on {day}, with {headroom} headroom").into()));
        tables.insert(id, Item::Table(table));
    }
    let written = document.to_string();
    let written = if ends_in_two { written.replace("\r\n", "\n").replace('\n', "\r\n") } else { written };
    Ok(Added { text: format!("{mark}{written}"), benches, left_out })
}

/// `{ latency.mean = "300ns", allocs.count = 1 }`, for the metrics that say something of their own.
fn limits(figures: &[&Combined], headroom: Headroom) -> InlineTable {
    let has = |metric: Metric| figures.iter().any(|figure| figure.metric == metric);
    let is_chosen = |metric: Metric| match metric {
        Metric::LatencyMean | Metric::LatencyP99 => true,
        Metric::LatencyMedian | Metric::LatencyP50 => !has(Metric::LatencyMean),
        // The rest of a distribution follows from these, and a maximum or a deviation is one operation's.
        _ if metric.dimension() == Dimension::Time => false,
        Metric::Throughput => !has(Metric::LatencyMean),
        _ => true,
    };
    let mut table = InlineTable::new();
    for figure in figures.iter().filter(|figure| is_chosen(figure.metric) && figure.inconclusive.is_none()) {
        let Some(limit) = headroom.limit(figure.metric, figure.estimate) else { continue };
        // The growth of a store that lets go of memory is below 0, for which there is no limit to write.
        let Some(limit) = Some(limit).filter(|limit| limit.is_finite() && *limit >= 0.0) else { continue };
        insert(&mut table, figure, written(figure.metric, limit));
    }
    table
}

fn insert(table: &mut InlineTable, figure: &Combined, limit: Value) {
    let limit = match (figure.metric, figure.threads) {
        (Metric::ScalingSpeedup, Some(threads)) => {
            let fields = [("threads", Value::from(threads.cast_signed())), ("min", limit)];
            Value::InlineTable(fields.into_iter().collect())
        }
        _ => limit,
    };
    let Some((group, name)) = figure.metric.name().split_once('.') else {
        table.insert(figure.metric.name(), limit);
        return;
    };
    let mut dotted = InlineTable::new();
    dotted.set_dotted(true);
    let group = table.entry(group).or_insert(Value::InlineTable(dotted));
    if let Value::InlineTable(group) = group {
        group.insert(name, limit);
    }
}

/// A limit with two significant digits, rounded away from the figure, in the unit that suits it.
fn written(metric: Metric, limit: f64) -> Value {
    let is_maximum = metric.direction() == Direction::Lower;
    let limit = if metric.dimension() == Dimension::Number && limit == limit.trunc() {
        limit
    } else {
        rounded(limit, is_maximum)
    };
    match metric.dimension() {
        Dimension::Number if limit == limit.trunc() => Value::from(limit as i64),
        Dimension::Number => Value::from(limit),
        Dimension::Rate if limit >= 1.0 => Value::from(format!("{limit:.0}/s")),
        Dimension::Rate => Value::from(format!("{}/s", trimmed(limit))),
        Dimension::Share => Value::from(format!("{} %", trimmed(limit * 100.0))),
        dimension => Value::from(trimmed_unit(&Figure(limit, dimension).to_string())),
    }
}

/// Up, or down, to two significant digits.
fn rounded(value: f64, up: bool) -> f64 {
    if value <= 0.0 {
        return 0.0;
    }
    let unit = 10_f64.powf(value.log10().floor() - 1.0);
    // What is off by the arithmetic alone is already round.
    let digits = if up { (value / unit - 1e-9).ceil() } else { (value / unit + 1e-9).floor() };
    if unit < 1.0 { digits / unit.recip().round() } else { digits * unit.round() }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `1.20 us` is written `1.2us`.
fn trimmed_unit(figure: &str) -> String {
    let (number, unit) = figure.split_once(' ').unwrap_or((figure, ""));
    let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    format!("{number}{unit}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::quantity::Bound;
    use crate::thresholds::Thresholds;
    use crate::verdict::{Verdict, judge};
    use proptest::prelude::*;

    fn figure(bench: &str, metric: Metric, lo: f64, hi: f64) -> Combined {
        Combined {
            bench: bench.to_owned(),
            metric,
            estimate: Estimate { lo, value: (lo + hi) / 2.0, hi },
            samples: 100,
            processes: 1,
            source: "op".to_owned(),
            notes: Vec::new(),
            inconclusive: None,
            threads: (metric == Metric::ScalingSpeedup).then_some(2),
        }
    }

    fn added(text: &str, figures: &[Combined]) -> String {
        add_limits(text, figures, Headroom::default(), "2026-01-31").expect("limits").text
    }

    #[test]
    fn limits_stand_as_far_from_the_interval_as_asked_and_what_was_there_stays_as_it_was() {
        let text = "# Ours.\nversion = 1 # the first\n\n[bench.\"a/b/c\"] # mine\nown   = { latency.mean = \"1us\" }\n# the end\n";
        let figures = [
            figure("a/b/c", Metric::LatencyMean, 1.0, 2.0),
            figure("d/e/f", Metric::LatencyMean, 140.0, 151.0),
            figure("d/e/f", Metric::LatencyP99, 400.0, 420.0),
            figure("d/e/f", Metric::LatencyMax, 9e6, 9e6),
            figure("d/e/f", Metric::Throughput, 6e6, 7e6),
            figure("d/e/f", Metric::AllocsCount, 3.0, 3.0),
            figure("g/h/i", Metric::Throughput, 1_234_567.0, 2e6),
            figure("g/h/i", Metric::MemoryPerItem, 72.0, 72.0),
            figure("g/h/i", Metric::ScalingSpeedup, 1.8, 1.9),
            figure("g/h/i", Metric::ErrorRate, 0.0, 0.001),
            figure("j/k/l", Metric::Count, 7.0, 7.0),
        ];
        let expected = "\n[bench.\"d/e/f\"]\nown = { latency.mean = \"310ns\", latency.p99 = \"840ns\", allocs.count = 3 }\n\
            rationale = \"as measured on 2026-01-31, with 2x headroom\"\n\
            \n[bench.\"g/h/i\"]\nown = { throughput = \"610000/s\", memory.per_item = \"150B\", scaling.speedup = { threads = 2, min = 1.4 }, error_rate = \"0.2 %\" }\n\
            rationale = \"as measured on 2026-01-31, with 2x headroom\"\n";
        let text_after = added(text, &figures);
        assert_eq!(text_after.replace(expected, ""), text, "{text_after}");
        assert_eq!(added(&text_after, &figures), text_after, "once is enough");
    }

    #[test]
    fn headroom_is_a_factor_from_1() {
        assert_eq!("1.5x".parse(), Ok(Headroom(1.5)));
        assert_eq!("3".parse(), Ok(Headroom(3.0)));
        for text in ["", "x", "0.5x", "-1", "nanx", "inf", "2%", "1001x"] {
            assert!(text.parse::<Headroom>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_table_of_limits_is_left_alone() {
        let figures = [figure("d/e/f", Metric::LatencyMean, 140.0, 151.0)];
        for text in ["bench = 3", "version = ", "[[bench]]\n"] {
            assert!(add_limits(text, &figures, Headroom::default(), "2026-01-31").is_err(), "{text}");
        }
    }

    proptest! {
        /// Every limit that is written can be read, and what it was made from meets it.
        #[test]
        fn a_written_limit_is_met_by_its_figure(
            metric in prop::sample::select(Metric::all().filter(|m| m.direction() != Direction::Stated).collect::<Vec<_>>()),
            exponent in -3_i32..12,
            digits in 1.0_f64..10.0,
            width in 0.0_f64..0.5,
        ) {
            let value = digits * 10_f64.powi(exponent);
            let is_share = metric.dimension() == Dimension::Share || metric == Metric::ScalingLinear;
            let (lo, hi) = if is_share { (1.0 - (digits + width) / 20.0, 1.0 - digits / 20.0) } else { (value, value * (1.0 + width)) };
            let found = figure("a/b/c", metric, lo, hi);
            let limits = limits(&[&found], Headroom::default());
            prop_assume!(!limits.is_empty());
            let text = format!("version = 1\n[bench.\"a/b/c\"]\nown = {limits}\n");
            let read = Thresholds::parse(&text, Path::new("t.toml"), "2026-01-31").map_err(|errors| {
                TestCaseError::fail(format!("{text}{errors:?}"))
            })?;
            let bound: Bound = read.benches[0].limits[0].bound;
            let (verdict, _) = judge(found.estimate, bound, metric, 0.0);
            prop_assert_eq!(verdict, Verdict::Pass, "{} {:?}", text, found.estimate);
        }
    }
}
