//! Numbers with units: as people write limits, and as reports print figures.

use std::fmt;

use harness::metric::{Dimension, Direction, Metric};

/// How a figure must stand to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// Below; not met at equality.
    Below,
    /// At most.
    AtMost,
    /// Above; not met at equality.
    Above,
    /// At least.
    AtLeast,
    /// Equal.
    Equal,
}

impl Operator {
    /// The sign: `<`, `<=`, `>`, `>=`, `=`.
    #[must_use]
    pub fn sign(self) -> &'static str {
        match self {
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Equal => "=",
        }
    }

    /// Whether less is better.
    #[must_use]
    pub fn is_maximum(self) -> bool {
        matches!(self, Self::Below | Self::AtMost)
    }
}

/// A limit as written: an operator and a value in the canonical unit of its metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// How a figure must stand to the value.
    pub operator: Operator,
    /// The value, in [`Metric::unit`].
    pub value: f64,
}

/// Why a text is not a limit of a metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantityError {
    /// No number stands where one belongs.
    #[error("`{text}` does not begin with a number")]
    NoNumber {
        /// What was read.
        text: String,
    },
    /// A number without the unit that its metric needs.
    #[error("`{text}` has no unit: write for example \"{example}\"")]
    NoUnit {
        /// What was read.
        text: String,
        /// A quantity of the right dimension.
        example: String,
    },
    /// A unit of another dimension, or none at all.
    #[error("`{unit}` is not a unit of {what}: write for example \"{example}\"")]
    WrongUnit {
        /// What was read.
        unit: String,
        /// The dimension.
        what: &'static str,
        /// A quantity of the right dimension.
        example: String,
    },
    /// The metric does not say which way is better.
    #[error("`{metric}` needs an operator (<, <=, >, >= or =)")]
    NoOperator {
        /// The metric.
        metric: Metric,
    },
    /// The number is not finite, or below 0.
    #[error("`{text}` is no quantity that could be measured")]
    OutOfRange {
        /// What was read.
        text: String,
    },
}

/// Units by dimension, each with the number of canonical units in it. The first of a size that fits is used for printing.
const UNITS: &[(Dimension, &[(&str, f64)])] = &[
    (Dimension::Time, &[("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("min", 60e9)]),
    (
        Dimension::Bytes,
        &[
            ("B", 1.0),
            ("kB", 1e3),
            ("MB", 1e6),
            ("GB", 1e9),
            ("KiB", 1024.0),
            ("MiB", 1_048_576.0),
            ("GiB", 1_073_741_824.0),
        ],
    ),
    (
        Dimension::BytesPerHour,
        &[("B/h", 1.0), ("kB/h", 1e3), ("MB/h", 1e6), ("GB/h", 1e9), ("KiB/h", 1024.0), ("MiB/h", 1_048_576.0)],
    ),
    (Dimension::Rate, &[("/s", 1.0)]),
    (Dimension::Share, &[("%", 0.01)]),
    (Dimension::Number, &[]),
];

fn units(dimension: Dimension) -> &'static [(&'static str, f64)] {
    UNITS.iter().find(|(own, _)| *own == dimension).map_or(&[], |(_, units)| units)
}

/// The names of the units of `dimension`, for a description of the file.
pub(crate) fn unit_names(dimension: Dimension) -> impl Iterator<Item = &'static str> {
    units(dimension).iter().map(|(name, _)| *name)
}

fn described(dimension: Dimension) -> (&'static str, &'static str) {
    match dimension {
        Dimension::Time => ("time", "100us"),
        Dimension::Bytes => ("bytes", "64B"),
        Dimension::BytesPerHour => ("bytes an hour", "10MB/h"),
        Dimension::Rate => ("work a second", "100_000/s"),
        Dimension::Share => ("a share", "0.1%"),
        _ => ("a number", "1.5"),
    }
}

/// A quantity of a text: the operator if it has one, the number, the unit, and what stands behind.
struct Parts<'t> {
    operator: Option<Operator>,
    number: f64,
    unit: &'t str,
}

fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    const SIGNS: [(&str, Operator); 5] = [
        ("<=", Operator::AtMost),
        (">=", Operator::AtLeast),
        ("<", Operator::Below),
        (">", Operator::Above),
        ("=", Operator::Equal),
    ];
    let trimmed = text.trim();
    let signed = SIGNS.iter().find_map(|&(sign, operator)| Some((operator, trimmed.strip_prefix(sign)?)));
    let (operator, rest) = signed.map_or((None, trimmed), |(operator, rest)| (Some(operator), rest.trim_start()));
    let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(rest.len());
    let number: String = rest[..digits].chars().filter(|&c| c != '_').collect();
    let number = number.parse::<f64>().map_err(|_| QuantityError::NoNumber { text: text.to_owned() })?;
    if !number.is_finite() {
        return Err(QuantityError::OutOfRange { text: text.to_owned() });
    }
    Ok(Parts { operator, number, unit: rest[digits..].trim_start() })
}

fn operator(metric: Metric, stated: Option<Operator>) -> Result<Operator, QuantityError> {
    stated.map_or_else(
        || match metric.direction() {
            Direction::Lower => Ok(Operator::AtMost),
            Direction::Higher => Ok(Operator::AtLeast),
            Direction::Stated => Err(QuantityError::NoOperator { metric }),
        },
        Ok,
    )
}

impl Bound {
    /// Reads a limit of `thresholds.toml`: `[<|<=|>|>=|=] quantity unit`, the whole text.
    ///
    /// # Errors
    /// [`QuantityError`] if it is not a quantity of `metric`, or lacks an operator where the metric has no direction.
    pub fn parse(text: &str, metric: Metric) -> Result<Self, QuantityError> {
        let parts = split(text)?;
        let value = scale(parts.number, factor(text, parts.unit, metric.dimension())?);
        Ok(Self { operator: operator(metric, parts.operator)?, value })
    }

    /// Reads the limit of a seed row: as [`Bound::parse`], but what stands behind the unit is a remark, work a second may name
    /// its work (`events/s`), and `None` means that the row states no number.
    #[must_use]
    pub fn parse_seed(text: &str, metric: Metric) -> Option<Self> {
        let parts = split(text).ok()?;
        let unit = parts.unit.split([' ', ';', ',']).next().unwrap_or_default();
        let known = units(metric.dimension()).iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        let factor = match metric.dimension() {
            Dimension::Rate => known.or_else(|| unit.ends_with("/s").then_some(1.0)),
            // `10x`, `70 % reduction`, `3 ticks`: plain numbers with a remark.
            Dimension::Number => Some(if unit.starts_with('%') { 0.01 } else { 1.0 }),
            _ => known,
        };
        Some(Self { operator: operator(metric, parts.operator).ok()?, value: scale(parts.number, factor?) })
    }

    /// Whether every figure that meets this bound also meets `other`.
    #[must_use]
    pub fn is_at_least_as_tight_as(self, other: Self) -> bool {
        match (self.operator, other.operator) {
            (Operator::Below, Operator::Below | Operator::AtMost) | (Operator::AtMost, Operator::AtMost) => {
                self.value <= other.value
            }
            (Operator::AtMost | Operator::Equal, Operator::Below) => self.value < other.value,
            (Operator::Above, Operator::Above | Operator::AtLeast) | (Operator::AtLeast, Operator::AtLeast) => {
                self.value >= other.value
            }
            (Operator::AtLeast | Operator::Equal, Operator::Above) => self.value > other.value,
            (Operator::Equal, Operator::AtMost) => self.value <= other.value,
            (Operator::Equal, Operator::AtLeast) => self.value >= other.value,
            (Operator::Equal, Operator::Equal) => (self.value - other.value).abs() < f64::EPSILON,
            _ => false,
        }
    }

    /// The bound as a limit is written: `<= 2.00 us`.
    #[must_use]
    pub fn display(self, metric: Metric) -> String {
        format!("{} {}", self.operator.sign(), Figure(self.value, metric.dimension()))
    }
}

/// A quantity without an operator, in the canonical unit of `dimension`.
///
/// # Errors
/// [`QuantityError`].
pub fn parse(text: &str, dimension: Dimension) -> Result<f64, QuantityError> {
    let parts = split(text)?;
    if parts.operator.is_some() {
        return Err(QuantityError::NoNumber { text: text.to_owned() });
    }
    Ok(scale(parts.number, factor(text, parts.unit, dimension)?))
}

/// `number` units of `factor` canonical ones. 70 % is 0.7 and not 70 times the nearest number to 0.01.
fn scale(number: f64, factor: f64) -> f64 {
    if factor < 1.0 { number / factor.recip() } else { number * factor }
}

fn factor(text: &str, unit: &str, dimension: Dimension) -> Result<f64, QuantityError> {
    let (what, example) = described(dimension);
    let example = example.to_owned();
    match units(dimension).iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => Ok(*factor),
        None if dimension == Dimension::Number && (unit.is_empty() || unit == "x") => Ok(1.0),
        None if unit.is_empty() => Err(QuantityError::NoUnit { text: text.to_owned(), example }),
        None => Err(QuantityError::WrongUnit { unit: unit.to_owned(), what, example }),
    }
}

/// A value in the canonical unit of a dimension, printed with three significant digits in the unit that suits it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure(pub f64, pub Dimension);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, dimension) = *self;
        let text = match dimension {
            Dimension::Time => scaled(value, &[("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)]),
            Dimension::Bytes => scaled(value, &[("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9)]),
            Dimension::BytesPerHour => scaled(value, &[("B/h", 1.0), ("kB/h", 1e3), ("MB/h", 1e6), ("GB/h", 1e9)]),
            Dimension::Rate => scaled(value, &[("/s", 1.0), ("k/s", 1e3), ("M/s", 1e6), ("G/s", 1e9)]),
            Dimension::Share => format!("{} %", digits(value * 100.0)),
            _ => digits(value),
        };
        f.pad(&text)
    }
}

fn scaled(value: f64, units: &[(&str, f64)]) -> String {
    // 999.6 ns is printed as 1.00 us, not as 1000 ns.
    let fits = |factor: f64| value.abs() / factor >= 0.9995;
    let &(unit, factor) = units.iter().rev().find(|(_, factor)| fits(*factor)).unwrap_or(&units[0]);
    format!("{} {unit}", digits(value / factor))
}

/// Three significant digits, no more than the number needs.
fn digits(value: f64) -> String {
    let magnitude = value.abs();
    if value == value.trunc() || magnitude >= 99.95 {
        format!("{value:.0}")
    } else if magnitude >= 9.995 {
        format!("{value:.1}")
    } else if magnitude >= 0.1 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn limits_are_read_with_their_units_and_the_metric_gives_the_direction() {
        for (text, metric, operator, value) in [
            ("100us", Metric::LatencyMean, Operator::AtMost, 100e3),
            ("< 0.1 ms", Metric::LatencyMean, Operator::Below, 100e3),
            ("64B", Metric::MemoryPerItem, Operator::AtMost, 64.0),
            ("1 MiB", Metric::MemoryPeak, Operator::AtMost, 1_048_576.0),
            ("100_000/s", Metric::Throughput, Operator::AtLeast, 100_000.0),
            ("0.1%", Metric::ErrorRate, Operator::AtMost, 0.001),
            ("= 100 %", Metric::SuccessRate, Operator::Equal, 1.0),
            (">= 3", Metric::Count, Operator::AtLeast, 3.0),
            ("1.05", Metric::ScalingExponent, Operator::AtMost, 1.05),
            ("10MB/h", Metric::MemoryGrowthPerHour, Operator::AtMost, 10e6),
        ] {
            let bound = Bound::parse(text, metric).expect(text);
            assert_eq!(bound.operator, operator, "{text}");
            assert!((bound.value - value).abs() <= value * 1e-12, "{text}: {}", bound.value);
        }
    }

    #[test]
    fn what_is_no_limit_of_the_metric_is_refused_with_the_reason() {
        for (text, metric, reason) in [
            ("100", Metric::LatencyMean, "has no unit"),
            ("100 B", Metric::LatencyMean, "not a unit of time"),
            ("fast", Metric::LatencyMean, "does not begin with a number"),
            ("", Metric::LatencyMean, "does not begin with a number"),
            ("100us today", Metric::LatencyMean, "not a unit of time"),
            ("3", Metric::Count, "needs an operator"),
            ("-1us", Metric::LatencyMean, "does not begin with a number"),
            ("5", Metric::ErrorRate, "has no unit"),
        ] {
            let error = Bound::parse(text, metric).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn seed_limits_carry_remarks_and_prose_is_no_limit() {
        for (text, metric, expected) in [
            ("> 100000 events/s", Metric::Throughput, Some((Operator::Above, 100_000.0))),
            ("1000 requests/s sustained", Metric::Throughput, Some((Operator::AtLeast, 1_000.0))),
            ("< 10 MB/h normal; > 50 MB/h leak", Metric::MemoryGrowthPerHour, Some((Operator::Below, 10e6))),
            (">= 10x (as documented)", Metric::Ratio, Some((Operator::AtLeast, 10.0))),
            (">= 70 % reduction", Metric::Ratio, Some((Operator::AtLeast, 0.7))),
            ("= 100 % of 1000", Metric::SuccessRate, Some((Operator::Equal, 1.0))),
            ("< 500 ms total", Metric::LatencyMax, Some((Operator::Below, 500e6))),
            ("none stated", Metric::LatencyMean, None),
            ("second half <= 2x first half", Metric::Ratio, None),
        ] {
            let bound = Bound::parse_seed(text, metric).map(|bound| (bound.operator, bound.value));
            assert_eq!(bound, expected, "{text}");
        }
    }

    #[test]
    fn figures_are_printed_with_three_digits_in_a_unit_that_suits() {
        for (value, dimension, text) in [
            (275.0, Dimension::Time, "275 ns"),
            (999.7, Dimension::Time, "1.00 us"),
            (1_234.0, Dimension::Time, "1.23 us"),
            (0.0, Dimension::Time, "0 ns"),
            (145_440_768.0, Dimension::Bytes, "145 MB"),
            (71.93, Dimension::Bytes, "71.9 B"),
            (0.999, Dimension::Share, "99.9 %"),
            (2.5e6, Dimension::Rate, "2.50 M/s"),
            (1.0, Dimension::Number, "1"),
        ] {
            assert_eq!(Figure(value, dimension).to_string(), text);
        }
    }

    proptest! {
        /// A bound that is printed and read again is the same to the three digits that are printed.
        #[test]
        fn printed_bounds_read_back(value in 0.01_f64..1e12, metric in prop::sample::select(vec![
            Metric::LatencyMean, Metric::MemoryPeak, Metric::ErrorRate,
        ])) {
            let bound = Bound { operator: Operator::AtMost, value };
            let again = Bound::parse(&bound.display(metric), metric).expect("printed by us");
            prop_assert!((again.value / value - 1.0).abs() < 0.01 || (again.value - value).abs() < 1e-4, "{} {}", value, again.value);
        }
    }
}
