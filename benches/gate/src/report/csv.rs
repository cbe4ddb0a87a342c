//! `report.csv`: the statistics of every benchmark, with the columns that users of pytest-benchmark know.

use crate::outcome::GateReport;

pub(super) fn render(report: &GateReport) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header =
        ["name", "source", "unit", "min", "max", "mean", "stddev", "median", "iqr", "outliers", "ops", "rounds"];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(report.summaries.iter().map(|s| {
        let number = |value: f64| format!("{value:.4}");
        [
            s.bench.clone(),
            s.source.clone(),
            s.unit.clone(),
            number(s.min),
            number(s.max),
            number(s.mean),
            number(s.stddev),
            number(s.median),
            number(s.iqr),
            s.outliers.clone(),
            number(s.ops),
            s.rounds.to_string(),
        ]
    }));
    for row in rows {
        // Writing rows of equal length into memory has nothing to fail at.
        let _ = writer.write_record(row);
    }
    writer.into_inner().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
