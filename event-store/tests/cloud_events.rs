//! CloudEvents in JSON lines: the same bytes come back, the same lines twice happen once, and a bad line is named.

mod support;

use event_store::cloudevents::{
    EventLine, ExportError, ExportProblem, ImportError, ImportOptions, ImportProblem, ImportReport, LineProblem,
    WriteProblem, export, import,
};
use event_store::{
    Append, AppendError, EventId, ExpectedVersion, MemoryStore, NewEvent, Position, Read, RecordedEvent, StreamVersion,
    Timestamp,
};
use futures::executor::block_on;
use proptest::prelude::*;
use serde_json::Value;
use support::{all, event, events, kind, stream, tag};
use uuid::Uuid;

const SOURCE: &str = "/shop/berlin";

fn exported(store: &MemoryStore, read: Read) -> Vec<u8> {
    let mut lines = Vec::new();
    block_on(export(store, read, SOURCE, &mut lines)).expect("memory");
    lines
}

fn imported(store: &MemoryStore, lines: &[u8], options: &ImportOptions) -> Result<ImportReport, ImportError> {
    block_on(import(store, lines, options))
}

fn counts(report: ImportReport) -> (u64, u64, u64) {
    (report.lines, report.imported, report.deduplicated)
}

/// Two streams and events without one, with all that an event may carry.
fn world() -> MemoryStore {
    let store = MemoryStore::new();
    for number in 0..20_u64 {
        let event = event(number)
            .with_schema_version(number as u16 % 3 + 1)
            .with_tag(tag("a \"tag\""))
            .with_tag(tag(&format!("number:{number}")))
            .with_metadata(vec![number as u8, 0, 255])
            .with_correlation_id(Uuid::from_u128(7))
            .with_causation_id(Uuid::from_u128(number.into()));
        let append = match number % 4 {
            0 => Append::events([event]),
            1 => Append::stream(stream("b"), ExpectedVersion::Any, [event]),
            _ => Append::stream(stream("a"), ExpectedVersion::Any, [event]),
        };
        store.append_now(append).expect("nothing is expected");
    }
    store
}

#[test]
fn a_line_is_a_cloud_event_with_these_attributes() {
    let store = MemoryStore::new();
    let event = NewEvent::with_given_id(EventId::from_u128(0xabc), kind("OrderPlaced"), r#"{"total": 1.50}"#)
        .with_schema_version(2)
        .with_tag(tag("order:1"))
        .with_metadata("by Ada")
        .with_time(Timestamp::from_micros(1_700_000_000_000_001))
        .with_correlation_id(Uuid::from_u128(1));
    store.append_now(Append::stream(stream("order-1"), ExpectedVersion::NoStream, [event])).expect("no stream");
    let line = String::from_utf8(exported(&store, Read::all())).expect("text");
    let expected = concat!(
        r#"{"specversion":"1.0","id":"00000000-0000-0000-0000-000000000abc","source":"/shop/berlin","type":"OrderPlaced","#,
        r#""subject":"order-1","streamversion":"0","time":"2023-11-14T22:13:20.000001Z","schemaversion":2,"position":"1","#,
        r#""tags":"[\"order:1\"]","metadata":"YnkgQWRh","correlationid":"00000000-0000-0000-0000-000000000001","#,
        r#""datacontenttype":"application/json","data":{"total": 1.50}}"#,
        "\n"
    );
    assert_eq!(line, expected);
    let Value::Object(attributes) = serde_json::from_str(&line).expect("JSON") else { panic!("an object") };
    for name in attributes.keys().filter(|name| *name != "data_base64") {
        let is_sound = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        assert!(is_sound && name.len() <= 20, "{name}");
    }
}

#[test]
fn payloads_come_back_as_the_same_bytes() {
    let payloads: [&[u8]; 17] = [
        b"",
        b"null",
        b"1",
        b"1.000e+5",
        br#"{"b":1, "a":2, "b":3}"#,
        br#""\u0000\ud800""#,
        b" {} ",
        b"{\n}",
        b"{}\r",
        b"{} {}",
        b"not json",
        b"\xff\xfe",
        b"\"\xff\"",
        "\"\u{2028}\"".as_bytes(),
        b"123456789012345678901234567890",
        b"[",
        &[b'['; 100_000],
    ];
    let store = MemoryStore::new();
    let events = payloads.iter().enumerate().map(|(number, payload)| {
        NewEvent::with_given_id(EventId::from_u128(number as u128 + 1), kind("Happened"), payload.to_vec())
    });
    store.append_now(Append::events(events)).expect("no condition");
    let deep = [vec![b'['; 5_000], vec![b']'; 5_000]].concat();
    store.append_now(Append::events([NewEvent::new(kind("Deep"), deep)])).expect("no condition");
    let lines = exported(&store, Read::all());
    let copy = MemoryStore::new();
    imported(&copy, &lines, &ImportOptions::default()).expect("all of them");
    assert_eq!(all(&copy), all(&store));
    let text = String::from_utf8(lines).expect("lines are text");
    let as_json = text.lines().filter(|line| line.contains(r#""data":"#)).count();
    assert_eq!(as_json, 8, "those that are JSON on one line");
}

#[test]
fn an_import_that_is_repeated_happens_once_whatever_its_batches() {
    let store = world();
    let lines = exported(&store, Read::all());
    for (first, second) in [(1, 500), (7, 3), (500, 1), (4, 6)] {
        let copy = MemoryStore::new();
        // An event of another origin stands in between: what was imported in two appends is not one stretch.
        let half: Vec<u8> = lines.split_inclusive(|byte| *byte == b'\n').take(9).flatten().copied().collect();
        let with = |events| ImportOptions::default().batch_events(events);
        assert_eq!(counts(imported(&copy, &half, &with(first)).expect("imported")), (9, 9, 0));
        copy.append_now(Append::events([event(1000)])).expect("no condition");
        assert_eq!(counts(imported(&copy, &lines, &with(second)).expect("imported")), (20, 11, 9));
        assert_eq!(counts(imported(&copy, &lines, &with(second)).expect("imported")), (20, 0, 20));
        let of_stream = |store: &MemoryStore| -> Vec<EventId> {
            store.read_now(&Read::stream(stream("a"))).iter().map(RecordedEvent::id).collect()
        };
        assert_eq!(of_stream(&copy), of_stream(&store));
        assert_eq!(copy.head_now(), Position::new(21));
    }
}

#[test]
fn batches_are_bounded_by_events_and_bytes() {
    let store = support::store_with(100);
    let lines = exported(&store, Read::all());
    for options in [ImportOptions::default().batch_bytes(0), ImportOptions::default().batch_events(0)] {
        let copy = MemoryStore::new();
        assert_eq!(counts(imported(&copy, &lines, &options).expect("imported")), (100, 100, 0));
        assert_eq!(all(&copy), all(&store));
    }
}

#[test]
fn a_bad_line_is_named_and_nothing_behind_it_is_imported() {
    let good = exported(&support::store_with(3), Read::all());
    let good: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
    let lines = [good[0], b"\n", good[1], b"{]\n", good[2]].concat();
    for batch in [1, 500] {
        let copy = MemoryStore::new();
        let error = imported(&copy, &lines, &ImportOptions::default().batch_events(batch)).expect_err("line 4");
        assert!(matches!(error.problem, ImportProblem::Line(LineProblem::Json(_))), "{error}");
        assert_eq!((error.line, counts(error.report)), (4, (3, 2, 0)));
        assert_eq!(copy.head_now(), Position::new(2));
    }
}

#[test]
fn what_is_wrong_with_a_line_is_told() {
    let attribute = |changes: &[(&str, &str)]| {
        let mut attributes: Vec<(&str, &str)> = vec![
            ("specversion", r#""1.0""#),
            ("id", r#""00000000-0000-0000-0000-000000000001""#),
            ("source", r#""s""#),
            ("type", r#""T""#),
        ];
        for (name, value) in changes {
            match attributes.iter_mut().find(|(own, _)| own == name) {
                Some((_, own)) => *own = value,
                None => attributes.push((name, value)),
            }
        }
        let attributes: Vec<String> = attributes.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        EventLine::parse(format!("{{{}}}", attributes.join(",")).as_bytes())
    };
    let wrong = |name: &'static str| move |problem: &LineProblem| matches!(problem, LineProblem::Value { name: own, .. } if *own == name);
    attribute(&[]).expect("a minimal event");
    assert_eq!(attribute(&[("type", "null")]), Err(LineProblem::Missing("type")));
    assert_eq!(attribute(&[("source", r#""""#)]), Err(LineProblem::Missing("source")));
    assert_eq!(attribute(&[("specversion", r#""0.3""#)]), Err(LineProblem::Version("0.3".to_owned())));
    assert_eq!(attribute(&[("traceparent", r#""x""#)]), Err(LineProblem::Unknown("traceparent".to_owned())));
    assert_eq!(attribute(&[("data", "1"), ("data_base64", r#""MQ==""#)]), Err(LineProblem::TwoData));
    assert_eq!(attribute(&[("streamversion", "1")]), Err(LineProblem::VersionWithoutStream));
    for (name, value) in [
        ("id", r#""7""#),
        ("type", r#""a\u0007b""#),
        ("subject", "3"),
        ("time", r#""2023-11-14""#),
        ("time", r#""2023-11-14T22:13:20""#),
        ("time", r#""2023-13-14T22:13:20Z""#),
        ("time", r#""0000-01-01T00:00:00+01:00""#),
        ("schemaversion", "65536"),
        ("schemaversion", "-1"),
        ("schemaversion", "\"\""),
        ("position", "0"),
        ("tags", r#""a,b""#),
        ("tags", r#""[\"\"]""#),
        ("metadata", r#""?""#),
        ("data_base64", "{}"),
        ("correlationid", r#""x""#),
    ] {
        let problem = attribute(&[(name, value)]).expect_err(value);
        assert!(wrong(name)(&problem), "{name} {value}: {problem}");
    }
    assert_eq!(EventLine::parse(br#"{"id":"1","id":"2"}"#), Err(LineProblem::Twice("id".to_owned())));
    for line in ["", "[]", "1", "{\"a\":}", "\u{feff}{}"] {
        assert!(matches!(EventLine::parse(line.as_bytes()), Err(LineProblem::Json(_))), "{line}");
    }
}

#[test]
fn what_others_write_is_read_too() {
    let line = br#" { "data" : "plain text", "datacontenttype": "text/plain", "id":"00000000-0000-0000-0000-00000000000A", "subject":null,
        "time":"2023-11-14t23:13:20.1234567891234+01:00", "type":"T", "source":"s", "specversion":"1.0", "schemaversion":"3" } "#;
    let read = EventLine::parse(line).expect("an event");
    assert_eq!(&read.event.payload[..], b"plain text");
    assert_eq!(read.event.time, Some(Timestamp::from_micros(1_700_000_000_123_456)));
    assert_eq!((read.event.schema_version, read.stream, read.event.id), (3, None, EventId::from_u128(10)));
}

#[test]
fn a_line_that_is_too_long_is_not_read_to_its_end() {
    let lines = exported(&support::store_with(2), Read::all());
    let first = lines.iter().position(|byte| *byte == b'\n').expect("a line");
    let options = ImportOptions::default().max_line_bytes(first);
    let copy = MemoryStore::new();
    assert_eq!(counts(imported(&copy, &lines, &options).expect("just long enough")), (2, 2, 0));
    let endless = std::io::BufReader::new(std::io::repeat(b'x'));
    let error = block_on(import(&copy, endless, &options)).expect_err("it has no end");
    assert!(matches!(error.problem, ImportProblem::Line(LineProblem::TooLong { limit }) if limit == first));
}

#[test]
fn stream_versions_are_kept_or_the_line_is_refused() {
    let store = support::store_with(6);
    let tail = exported(&store, Read::stream_from(stream("a"), StreamVersion::new(2)));
    let copy = MemoryStore::new();
    let error = imported(&copy, &tail, &ImportOptions::default()).expect_err("versions 0 and 1 are missing");
    assert!(
        matches!(&error.problem, ImportProblem::StreamVersion { version, actual: None, .. } if version.get() == 2),
        "{error}"
    );
    assert_eq!((error.line, copy.head_now()), (1, None));

    // A gap in the middle: what is before it is imported.
    let lines = exported(&store, Read::all());
    let gap: Vec<u8> = lines
        .split_inclusive(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(at, _)| *at != 3)
        .flat_map(|(_, line)| line)
        .copied()
        .collect();
    let error = imported(&copy, &gap, &ImportOptions::default()).expect_err("version 3 is missing");
    assert!(
        matches!(&error.problem, ImportProblem::StreamVersion { version, actual: Some(actual), .. } if (version.get(), actual.get()) == (4, 2)),
        "{error}"
    );
    assert_eq!((error.line, counts(error.report)), (4, (3, 3, 0)));

    // Renumbered, the tail makes a stream of its own; as it stands elsewhere now, its lines do not fit any more.
    let copy = MemoryStore::new();
    assert_eq!(
        counts(imported(&copy, &tail, &ImportOptions::default().renumber_streams()).expect("imported")),
        (4, 4, 0)
    );
    assert_eq!(copy.stream_version_now(&stream("a")), Some(StreamVersion::new(3)));
    let error = imported(&copy, &tail, &ImportOptions::default()).expect_err("at other versions");
    assert!(matches!(error.problem, ImportProblem::StreamVersion { .. }), "{error}");
}

#[test]
fn an_id_that_is_taken_by_another_event_is_refused() {
    let lines = exported(&support::store_with(3), Read::all());
    let copy = MemoryStore::new();
    copy.append_now(Append::events([event(1).with_metadata("another")])).expect("no condition");
    let error = imported(&copy, &lines, &ImportOptions::default()).expect_err("id 2 is taken");
    assert!(matches!(error.problem, ImportProblem::Append(AppendError::DuplicateEventId { .. })), "{error}");
    assert_eq!((error.line, error.report.imported), (2, 1));
}

#[test]
fn what_cannot_be_written_is_told() {
    let store = MemoryStore::new();
    store
        .append_now(Append::events([event(0), event(1).with_time(Timestamp::from_micros(i64::MAX))]))
        .expect("no condition");
    let mut lines = Vec::new();
    let ExportError { report, problem } =
        block_on(export(&store, Read::all(), SOURCE, &mut lines)).expect_err("the year 294,247");
    assert_eq!((report.events, report.bytes), (1, lines.len() as u64));
    assert!(matches!(problem, ExportProblem::Write(WriteProblem::Time { position }) if position.get() == 2));
    let error = block_on(export(&store, Read::all(), "", &mut Vec::new())).expect_err("no source");
    assert!(matches!(error.problem, ExportProblem::Write(WriteProblem::Source)));
}

fn any_event() -> impl Strategy<Value = NewEvent> {
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        "[ \\[\\]{}\",:0-9a-z\\n]{0,12}".prop_map(String::into_bytes),
        any::<Option<f64>>().prop_map(|number| serde_json::to_vec(&number).expect("JSON")),
        any::<String>().prop_map(|text| serde_json::to_vec(&text).expect("JSON")),
    ];
    let names = "[^\\p{Cc}]{1,20}";
    let rest = (
        any::<u16>(),
        proptest::collection::vec(names, 0..4),
        proptest::collection::vec(any::<u8>(), 0..20),
        -62_167_219_200_000_000..253_402_300_799_999_999_i64,
        any::<[Option<u128>; 2]>(),
    );
    (any::<u128>(), names, payload, rest).prop_map(|(id, name, payload, (schema, tags, metadata, time, ids))| {
        let mut event = NewEvent::with_given_id(EventId::from_u128(id), kind(&name), payload)
            .with_schema_version(schema)
            .with_metadata(metadata)
            .with_time(Timestamp::from_micros(time));
        event.tags = tags.iter().map(|name| tag(name)).collect();
        event.correlation_id = ids[0].map(Uuid::from_u128);
        event.causation_id = ids[1].map(Uuid::from_u128);
        event
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A store that is exported and imported is the same store.
    #[test]
    fn what_is_exported_is_imported_as_it_was(
        appends in proptest::collection::vec((proptest::collection::vec(any_event(), 1..4), 0..4_u8), 0..8),
        batch in 1..8_usize,
    ) {
        let store = MemoryStore::new();
        for (events, target) in appends {
            let append = if target == 0 {
                Append::events(events)
            } else {
                Append::stream(stream(&format!("s \"{target}\" ü")), ExpectedVersion::Any, events)
            };
            // The same id may have been made twice.
            let _ = store.append_now(append);
        }
        let lines = exported(&store, Read::all());
        let copy = MemoryStore::new();
        imported(&copy, &lines, &ImportOptions::default().batch_events(batch)).expect("imported");
        prop_assert_eq!(all(&copy), all(&store));
        prop_assert_eq!(exported(&copy, Read::all()), lines);
    }

    /// Whatever the bytes, they are an event or a typed problem.
    #[test]
    fn no_line_panics(line in "\\PC{0,60}", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = (EventLine::parse(line.as_bytes()), EventLine::parse(&bytes));
    }
}

#[test]
fn events_without_a_stream_keep_their_place_between_the_others() {
    let store = MemoryStore::new();
    store.append_now(Append::events(events(0..2))).expect("no condition");
    store.append_now(Append::stream(stream("a"), ExpectedVersion::Any, events(2..4))).expect("no condition");
    store.append_now(Append::events(events(4..5))).expect("no condition");
    let copy = MemoryStore::new();
    imported(&copy, &exported(&store, Read::all()), &ImportOptions::default()).expect("imported");
    assert_eq!(all(&copy), all(&store));
}
