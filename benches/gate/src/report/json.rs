//! `report.json`: everything, for programs. Versioned.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::outcome::{GateReport, Row};

/// Version of the report's layout.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct JsonRow<'a> {
    benchmark: &'a str,
    metric: Option<&'a str>,
    class: Option<String>,
    limit: &'a str,
    value: Option<f64>,
    interval: Option<[f64; 2]>,
    unit: &'a str,
    verdict: &'a str,
    headroom: Option<f64>,
    reason: &'a str,
    next: &'a str,
    line: Option<usize>,
    source: &'a str,
    samples: u64,
    processes: u64,
    notes: &'a [String],
}

pub(super) fn render(report: &GateReport) -> String {
    let summary: Map<String, Value> =
        report.counts().iter().map(|(verdict, count)| (verdict.word().to_owned(), json!(count))).collect();
    let document = json!({
        "schema": SCHEMA,
        "run": report.run,
        "profile": report.profile,
        "thresholds": report.thresholds,
        "env": report.env,
        "relaxed": report.relaxed,
        "nothing_selected": report.nothing_selected,
        "summary": summary,
        "warnings": report.warnings,
        "rows": report.rows.iter().map(row).collect::<Vec<_>>(),
    });
    format!("{document:#}\n")
}

fn row(row: &Row) -> Value {
    // JSON has no NaN: a figure that is none is absent, and the verdict says ERROR.
    let finite = |value: f64| value.is_finite().then_some(value);
    let row = JsonRow {
        benchmark: &row.bench,
        metric: row.metric.map(|metric| metric.name()),
        class: row.class.map(|class| class.to_string()),
        limit: &row.limit,
        value: row.estimate.and_then(|e| finite(e.value)),
        interval: row.estimate.and_then(|e| Some([finite(e.lo)?, finite(e.hi)?])),
        unit: row.unit(),
        verdict: row.verdict.word(),
        headroom: row.headroom.and_then(finite),
        reason: &row.reason,
        next: &row.next,
        line: row.place.map(|place| place.line),
        source: &row.source,
        samples: row.samples,
        processes: row.processes,
        notes: &row.notes,
    };
    serde_json::to_value(row).unwrap_or(Value::Null)
}
