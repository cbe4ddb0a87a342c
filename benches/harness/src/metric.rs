//! The names of what can be measured, with the dimension and the direction that each name implies.

use std::fmt;
use std::str::FromStr;

/// One measurable figure of a benchmark.
///
/// The name fixes the dimension and, but for [`Metric::Count`] and [`Metric::Ratio`], the direction: less latency is better,
/// more throughput is better. Limits and measurements of one metric therefore always compare like with like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Metric {
    /// Shortest operation seen.
    LatencyMin,
    /// Arithmetic mean of the operations.
    LatencyMean,
    /// Median; the same statistic as [`Metric::LatencyP50`] under the name that criterion's users know.
    LatencyMedian,
    /// 50th percentile of single operations.
    LatencyP50,
    /// 90th percentile of single operations.
    LatencyP90,
    /// 95th percentile of single operations.
    LatencyP95,
    /// 99th percentile of single operations.
    LatencyP99,
    /// 99.9th percentile of single operations.
    LatencyP999,
    /// Longest operation seen.
    LatencyMax,
    /// Standard deviation of the operations (n − 1).
    LatencyStddev,
    /// Units of work a second.
    Throughput,
    /// A plain number whose meaning the benchmark states.
    Count,
    /// A quotient whose meaning the benchmark states.
    Ratio,
    /// Share of the operations that succeeded, 0 to 1.
    SuccessRate,
    /// Share of the operations that failed, 0 to 1.
    ErrorRate,
    /// Heap allocations an operation.
    AllocsCount,
    /// Heap bytes requested an operation.
    AllocsBytes,
    /// Instructions an operation.
    Instructions,
    /// Live bytes an item, the slope over several sizes.
    MemoryPerItem,
    /// Largest resident size of the process.
    MemoryPeak,
    /// Growth of live bytes from the first to the last operation.
    MemoryGrowth,
    /// Slope of live bytes over operations.
    MemoryGrowthPerOp,
    /// Slope of live bytes at a declared rate of operations, an hour.
    MemoryGrowthPerHour,
    /// Slope of log time over log size: 1 is linear, 2 quadratic.
    ScalingExponent,
    /// R² of a straight line through time over size.
    ScalingLinear,
    /// One thread's time over the time of several threads for the same work.
    ScalingSpeedup,
    /// Speed-up over the number of threads.
    ScalingEfficiency,
}

/// What kind of quantity a metric is, and so which units it may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dimension {
    /// Nanoseconds (`ns`).
    Time,
    /// Bytes (`B`).
    Bytes,
    /// Bytes an hour (`B/h`).
    BytesPerHour,
    /// Units of work a second (`1/s`).
    Rate,
    /// A share between 0 and 1 (`1`), written in per cent by people.
    Share,
    /// A number without a unit (`1`).
    Number,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Less is better: a limit is a maximum.
    Lower,
    /// More is better: a limit is a minimum.
    Higher,
    /// The metric alone does not say; a limit must name its operator.
    Stated,
}

const NAMES: &[(Metric, &str)] = &[
    (Metric::LatencyMin, "latency.min"),
    (Metric::LatencyMean, "latency.mean"),
    (Metric::LatencyMedian, "latency.median"),
    (Metric::LatencyP50, "latency.p50"),
    (Metric::LatencyP90, "latency.p90"),
    (Metric::LatencyP95, "latency.p95"),
    (Metric::LatencyP99, "latency.p99"),
    (Metric::LatencyP999, "latency.p999"),
    (Metric::LatencyMax, "latency.max"),
    (Metric::LatencyStddev, "latency.stddev"),
    (Metric::Throughput, "throughput"),
    (Metric::Count, "count"),
    (Metric::Ratio, "ratio"),
    (Metric::SuccessRate, "success_rate"),
    (Metric::ErrorRate, "error_rate"),
    (Metric::AllocsCount, "allocs.count"),
    (Metric::AllocsBytes, "allocs.bytes"),
    (Metric::Instructions, "instructions"),
    (Metric::MemoryPerItem, "memory.per_item"),
    (Metric::MemoryPeak, "memory.peak"),
    (Metric::MemoryGrowth, "memory.growth"),
    (Metric::MemoryGrowthPerOp, "memory.growth_per_op"),
    (Metric::MemoryGrowthPerHour, "memory.growth_per_hour"),
    (Metric::ScalingExponent, "scaling.exponent"),
    (Metric::ScalingLinear, "scaling.linear"),
    (Metric::ScalingSpeedup, "scaling.speedup"),
    (Metric::ScalingEfficiency, "scaling.efficiency"),
];

impl Metric {
    /// Every metric, in the order in which tables list them.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|&(metric, _)| metric)
    }

    /// The name used in `thresholds.toml` and in measurement files.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|&&(metric, _)| metric == self).map_or("", |&(_, name)| name)
    }

    /// The kind of quantity.
    #[must_use]
    pub fn dimension(self) -> Dimension {
        match self {
            Self::LatencyMin
            | Self::LatencyMean
            | Self::LatencyMedian
            | Self::LatencyP50
            | Self::LatencyP90
            | Self::LatencyP95
            | Self::LatencyP99
            | Self::LatencyP999
            | Self::LatencyMax
            | Self::LatencyStddev => Dimension::Time,
            Self::Throughput => Dimension::Rate,
            Self::SuccessRate | Self::ErrorRate => Dimension::Share,
            Self::AllocsBytes
            | Self::MemoryPerItem
            | Self::MemoryPeak
            | Self::MemoryGrowth
            | Self::MemoryGrowthPerOp => Dimension::Bytes,
            Self::MemoryGrowthPerHour => Dimension::BytesPerHour,
            Self::Count
            | Self::Ratio
            | Self::AllocsCount
            | Self::Instructions
            | Self::ScalingExponent
            | Self::ScalingLinear
            | Self::ScalingSpeedup
            | Self::ScalingEfficiency => Dimension::Number,
        }
    }

    /// Which way is better.
    #[must_use]
    pub fn direction(self) -> Direction {
        match self {
            Self::Count | Self::Ratio => Direction::Stated,
            Self::Throughput
            | Self::SuccessRate
            | Self::ScalingLinear
            | Self::ScalingSpeedup
            | Self::ScalingEfficiency => Direction::Higher,
            _ => Direction::Lower,
        }
    }

    /// The unit of this metric in measurement files.
    #[must_use]
    pub fn unit(self) -> &'static str {
        self.dimension().unit()
    }

    /// Whether the figure is exact in one run (allocations, instructions), so that repeating it says nothing more.
    #[must_use]
    pub fn is_deterministic(self) -> bool {
        matches!(self, Self::AllocsCount | Self::AllocsBytes | Self::Instructions | Self::Count)
    }
}

impl Dimension {
    /// The unit in measurement files: `ns`, `B`, `B/h`, `1/s` or `1`.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Time => "ns",
            Self::Bytes => "B",
            Self::BytesPerHour => "B/h",
            Self::Rate => "1/s",
            Self::Share | Self::Number => "1",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The name is not that of a metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a metric")]
pub struct UnknownMetric {
    /// What was read.
    pub name: String,
}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        NAMES
            .iter()
            .find(|&&(_, known)| known == name)
            .map(|&(metric, _)| metric)
            .ok_or_else(|| UnknownMetric { name: name.to_owned() })
    }
}

impl serde::Serialize for Metric {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> serde::Deserialize<'de> for Metric {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back_to_its_metric() {
        for metric in Metric::all() {
            assert_eq!(metric.name().parse(), Ok(metric));
        }
    }

    #[test]
    fn unknown_name_is_an_error_that_repeats_it() {
        let error = "latency.p98".parse::<Metric>().unwrap_err();
        assert_eq!(error.name, "latency.p98");
    }
}
