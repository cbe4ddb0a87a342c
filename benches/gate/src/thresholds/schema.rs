//! The file of limits as a JSON schema.

use harness::metric::{Dimension, Direction, Metric};
use serde_json::{Map, Value, json};

use crate::quantity::unit_names;

/// A number as quantities are written: digits, a point, underscores.
const NUMBER: &str = r"_*(\d[\d_]*(\.[\d_]*)?|\._*\d[\d_]*)";

pub(super) fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "thresholds.toml",
        "description": "Limits that measured results are held against. What a schema cannot say (a waiver that has expired, a glob that matches nothing, a rival of another benchmark) the gate says.",
        "type": "object",
        "required": ["version"],
        "additionalProperties": false,
        "properties": {
            "version": { "const": 1, "description": "Version of the format." },
            "gate": gate(),
            "profile": { "type": "object", "additionalProperties": profile() },
            "bench": {
                "type": "object",
                "description": "One table a benchmark: its id, or a glob over ids.",
                "additionalProperties": bench(),
            },
        },
    })
}

fn gate() -> Value {
    object(
        "What holds for every benchmark.",
        &[],
        json!({
            "warn_band": text("A limit that is met with less headroom is a warning; 10 % unless set.", &quantity(Dimension::Share)),
            "confidence": {
                "type": "string",
                "description": "The level at which intervals are measured; there is no other.",
                "pattern": r"^\s*0*95(\.0*)?\s*%\s*$",
            },
            "unknown_bench": choice("What a benchmark without limits is.", &["ignore", "warn", "fail"]),
            "on_missing": choice("What a limit that was not measured does.", &["exit-3", "warn"]),
            "on_inconclusive": choice("What a limit that could not be told does.", &["exit-3", "warn"]),
            "seeds": object(
                "The benchmarks of the systems that the project replaces.",
                &["file"],
                json!({
                    "file": { "type": "string", "description": "CSV file, relative to this one." },
                    "due": texts("Rows whose benchmark matches one of these globs must be answered."),
                }),
            ),
        }),
    )
}

fn profile() -> Value {
    object(
        "Which benchmarks a profile judges.",
        &[],
        json!({
            "include": texts("Only what matches one of these globs."),
            "exclude": texts("Nothing that matches one of these globs."),
            "budget": text("Time for repeats of what was inconclusive.", &quantity(Dimension::Time)),
        }),
    )
}

fn bench() -> Value {
    let mut table = object(
        "The limits of a benchmark, and why they are what they are.",
        &[],
        json!({
            "seeds": texts("Rows of the replaced systems that the benchmark answers: \"004 test_save_single_event\"."),
            "seed": limits("The targets of the system that is replaced."),
            "own": limits("Our own limits."),
            "versus": {
                "type": "array",
                "minItems": 1,
                "description": "Against other benchmarks of the same run; a ratio above 1 means that ours is better.",
                "items": comparison(),
            },
            "rationale": { "type": "string", "description": "Why the limits are what they are." },
            "waive": waiver(&json!({
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 1,
                "description": "The share of a limit below which it is not let pass: 0.5 lets a time twice as long pass.",
            })),
        }),
    );
    let states = |key: &str| json!({ "required": [key] });
    table["anyOf"] = json!([states("seed"), states("own"), states("versus")]);
    table
}

fn comparison() -> Value {
    let metrics: Vec<&str> =
        Metric::all().filter(|metric| metric.direction() != Direction::Stated).map(Metric::name).collect();
    let times = |what: &str| json!({ "type": "number", "exclusiveMinimum": 0, "description": what });
    let mut table = object(
        "A comparison with a floor or a rival.",
        &["of", "metric"],
        json!({
            "of": { "type": "string", "description": "The other benchmark." },
            "metric": { "enum": metrics },
            "at_least_times": times("How many times better ours must be: for rivals."),
            "at_most_times": times("How many times worse ours may be: for floors."),
            "waive": waiver(&times("The ratio below which it is not let pass.")),
        }),
    );
    table["oneOf"] = json!([{ "required": ["at_least_times"] }, { "required": ["at_most_times"] }]);
    table
}

fn waiver(down_to: &Value) -> Value {
    object(
        "A miss that is let pass until a day.",
        &["until", "reason"],
        json!({
            "until": text("The last day, YYYY-MM-DD.", r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$"),
            "reason": { "type": "string" },
            "down_to": down_to,
        }),
    )
}

/// A table of limits by metric: dotted keys are tables in tables, and a whole name may also be quoted.
fn limits(what: &str) -> Value {
    let mut properties = Map::new();
    for metric in Metric::all() {
        let limit = limit(metric);
        if let Some((group, name)) = metric.name().split_once('.') {
            let group = properties.entry(group).or_insert_with(|| at_least_one(object("", &[], json!({}))));
            group["properties"][name] = limit.clone();
        }
        properties.insert(metric.name().to_owned(), limit);
    }
    at_least_one(object(what, &[], Value::Object(properties)))
}

fn at_least_one(mut table: Value) -> Value {
    table["minProperties"] = 1.into();
    table
}

fn limit(metric: Metric) -> Value {
    match metric {
        Metric::ScalingSpeedup => {
            let table = object(
                "For a measurement with that many threads.",
                &["min"],
                json!({ "threads": { "type": "integer", "minimum": 2 }, "min": bound(metric) }),
            );
            json!({ "anyOf": [table, bound(metric)] })
        }
        Metric::MemoryGrowthPerHour => {
            let units: Vec<&str> = unit_names(Dimension::BytesPerHour).chain(unit_names(Dimension::Bytes)).collect();
            let amount = format!(r"^\s*{NUMBER}\s*({})\s*$", units.join("|"));
            let table = object(
                "Two lines: a warning above the first, a failure above the second.",
                &["fail"],
                json!({
                    "warn": text("Above this it is a warning.", &amount),
                    "fail": text("Above this it is a failure.", &amount),
                    "ops_per_second": {
                        "type": "number",
                        "exclusiveMinimum": 0,
                        "description": "The rate at which growth an operation becomes growth an hour.",
                    },
                }),
            );
            json!({ "anyOf": [table, bound(metric)] })
        }
        _ => bound(metric),
    }
}

/// `[<|<=|>|>=|=] quantity unit`; a plain number where the metric has no unit and says what is better.
fn bound(metric: Metric) -> Value {
    let operator = if metric.direction() == Direction::Stated { "(<=|>=|<|>|=)" } else { "(<=|>=|<|>|=)?" };
    let written = text("", &format!(r"^\s*{operator}\s*{NUMBER}\s*{}\s*$", unit(metric.dimension())));
    if metric.dimension() != Dimension::Number || metric.direction() == Direction::Stated {
        return written;
    }
    json!({ "anyOf": [{ "type": "number", "minimum": 0 }, written] })
}

fn quantity(dimension: Dimension) -> String {
    format!(r"^\s*{NUMBER}\s*{}\s*$", unit(dimension))
}

fn unit(dimension: Dimension) -> String {
    let names: Vec<&str> = unit_names(dimension).collect();
    if names.is_empty() { "x?".to_owned() } else { format!("({})", names.join("|")) }
}

/// A table with these keys and no others.
fn object(what: &str, required: &[&str], properties: Value) -> Value {
    let mut table = described(what, json!({ "type": "object", "required": required, "additionalProperties": false }));
    table["properties"] = properties;
    table
}

fn text(what: &str, pattern: &str) -> Value {
    described(what, json!({ "type": "string", "pattern": pattern }))
}

fn texts(what: &str) -> Value {
    described(what, json!({ "type": "array", "items": { "type": "string" } }))
}

fn choice(what: &str, words: &[&str]) -> Value {
    described(what, json!({ "enum": words }))
}

fn described(what: &str, mut value: Value) -> Value {
    if !what.is_empty() {
        value["description"] = what.into();
    }
    value
}
