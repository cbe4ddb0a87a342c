//! The measurement file: what is written can be read, and what is wrong is refused by name.

use std::fs;
use std::path::Path;

use harness::environment::{Environment, Noise};
use harness::metric::Metric;
use harness::record::{Figure, Interval, Proof, Record, RecordError, Replication, SCHEMA, Source, replace_file};

fn record() -> Record {
    Record {
        schema: SCHEMA,
        run: "latest".to_owned(),
        bench: "strings/push/one".to_owned(),
        source: Source::Op,
        metrics: vec![Figure::sampled(Metric::LatencyMean, 12.5, Interval { lo: 12.0, hi: 13.0, level: 0.95 })],
        paired: Vec::new(),
        n: Replication::one_process(100),
        proof: Some(Proof { expected: "1".to_owned(), observed: "1".to_owned() }),
        env: Environment::current(),
        noise: Noise::default(),
        notes: vec!["closed loop".to_owned()],
        histogram: None,
    }
}

#[test]
fn record_reads_back_as_it_was_written() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = record().write(folder.path()).expect("writes");
    assert_eq!(path.file_name().expect("named").to_string_lossy(), "strings+push+one.op.json");
    assert_eq!(Record::read(&path).expect("reads"), record());
    let files = fs::read_dir(folder.path()).expect("lists").count();
    assert_eq!(files, 1, "no temporary file stays behind");
}

#[test]
fn figure_that_is_no_number_is_refused_and_the_old_file_stays() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = record().write(folder.path()).expect("writes");
    for value in [f64::NAN, f64::INFINITY] {
        let mut broken = record();
        broken.metrics[0].value = value;
        assert!(matches!(broken.write(folder.path()), Err(RecordError::NotFinite { .. })));
        let mut broken = record();
        broken.metrics[0].ci = Some(Interval { lo: 0.0, hi: value, level: 0.95 });
        assert!(matches!(broken.write(folder.path()), Err(RecordError::NotFinite { .. })));
    }
    assert_eq!(Record::read(&path).expect("reads"), record());
}

#[test]
fn another_schema_is_named_before_its_fields_are_judged() {
    let text = br#"{"schema": 7, "something": "else"}"#;
    let error = Record::parse(Path::new("x.json"), text).unwrap_err();
    assert!(matches!(error, RecordError::Schema { found: 7, .. }), "{error}");
}

#[test]
fn unknown_field_and_half_a_file_are_malformed() {
    let text = serde_json::to_string(&record()).expect("serialises");
    let unknown = text.replacen("\"schema\":1", "\"schema\":1,\"median\":3", 1);
    for broken in [unknown.as_str(), &text[..text.len() / 2], "", "[]"] {
        let error = Record::parse(Path::new("x.json"), broken.as_bytes()).unwrap_err();
        assert!(matches!(error, RecordError::Malformed { .. }), "{error}");
    }
}

#[test]
fn replacing_a_file_in_a_missing_folder_is_an_error_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("temporary folder");
    assert!(replace_file(&folder.path().join("absent/report.json"), b"{}").is_err());
    assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 0);
}
