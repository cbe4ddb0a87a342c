//! CloudEvents 1.0 in JSON: what is written is valid, what is read is checked, and what belongs together stays together.

mod support;

use std::time::{Duration, SystemTime};

use message_bus::{
    Bus, CloudEvent, CloudEventError, Data, Delivery, ExtensionValue, Message as _, MessageId, Metadata, TraceContext,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Calls, Order, Step};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn json_of(event: &CloudEvent) -> Value {
    serde_json::from_slice(&event.to_json().expect("valid")).expect("JSON")
}

fn read(value: &Value) -> Result<CloudEvent, CloudEventError> {
    CloudEvent::from_json(&serde_json::to_vec(value).expect("JSON"))
}

/// The delivery of a message published with this metadata.
async fn delivered(metadata: Metadata, step: Step) -> Delivery<Step> {
    let bus = Bus::new();
    let calls = Calls::default();
    let recorder = calls.clone();
    let _steps = bus.subscribe(move |step: Delivery<Step>| {
        recorder.add(step);
        async {}
    });
    bus.publisher().publish_with(metadata, step).await.expect("succeeds");
    calls.all().remove(0)
}

#[tokio::test]
async fn defect_10_the_envelope_has_the_names_of_the_specification() {
    let mut metadata = Metadata::new();
    metadata.causation = Some(MessageId::new());
    metadata.time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    metadata.trace = Some(TraceContext::parse(TRACEPARENT, Some("a=1")).expect("valid"));
    let delivery = delivered(metadata.clone(), Step { customer: 42, number: 7 }).await;
    let event = CloudEvent::of("/shop", &delivery).with_json(&json!({ "number": 7 })).expect("JSON");
    assert_eq!(
        json_of(&event),
        json!({
            "specversion": "1.0",
            "id": metadata.id.to_string(),
            "source": "/shop",
            "type": Step::TYPE,
            "time": "2023-11-14T22:13:20.123Z",
            "datacontenttype": "application/json",
            "correlationid": metadata.correlation.to_string(),
            "causationid": metadata.causation.expect("set").to_string(),
            "traceparent": TRACEPARENT,
            "tracestate": "a=1",
            "partitionkey": "42",
            "data": { "number": 7 },
        })
    );
    let extensions = json_of(&event);
    for name in extensions.as_object().expect("an object").keys() {
        assert!(name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()), "{name}");
    }
    assert_eq!(read(&extensions).expect("valid").metadata(), metadata, "and back");
}

#[tokio::test]
async fn defect_11_the_payload_is_json_and_the_publish_is_awaited() {
    let delivery = delivered(Metadata::new(), Step { customer: 1, number: 2 }).await;
    let data = json!({ "text": "it's \"quoted\"", "none": null, "yes": true });
    let event = CloudEvent::of("/shop", &delivery).with_json(&data).expect("JSON");
    let payload = event.to_json().expect("valid");
    assert_eq!(serde_json::from_slice::<Value>(&payload).expect("JSON, not a repr")["data"], data);
    // What a publish returns it returns when the handlers are done.
    let bus = Bus::new();
    let calls = Calls::default();
    let recorder = calls.clone();
    let _slow = bus.subscribe(move |order: Delivery<Order>| {
        let calls = recorder.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            calls.add(order.0);
        }
    });
    bus.publish(Order(1)).await.expect("succeeds");
    assert_eq!(calls.all(), [1]);
}

#[test]
fn an_event_is_read_as_it_was_written() {
    let mut event = CloudEvent::new("1", "urn:x", "t");
    event.subject = Some("about".to_owned());
    event.dataschema = Some("https://example.com/schema".to_owned());
    event.datacontenttype = Some("application/octet-stream".to_owned());
    event.time = Some(SystemTime::UNIX_EPOCH - Duration::from_nanos(1));
    event.extensions.insert("flag".to_owned(), ExtensionValue::Boolean(true));
    event.extensions.insert("count9".to_owned(), ExtensionValue::Integer(i32::MIN));
    event.data = Some(Data::Binary(vec![0, 255, 10].into()));
    assert_eq!(json_of(&event)["data_base64"], "AP8K");
    assert_eq!(read(&json_of(&event)).expect("valid"), event);
}

#[test]
fn what_breaks_the_rules_is_refused_by_name() {
    let with = |name: &str, value: Value| {
        let mut event = json!({ "specversion": "1.0", "id": "1", "source": "/", "type": "t" });
        event[name] = value;
        read(&event).map_err(|error| error.to_string())
    };
    assert!(with("id", json!("1")).is_ok());
    for (name, value, wanted) in [
        ("id", json!(""), "the attribute `id` is missing or empty"),
        ("id", json!(null), "the attribute `id` is missing or empty"),
        ("id", json!(1), "the attribute `id` is not a text"),
        ("source", json!(""), "the attribute `source` is missing or empty"),
        ("type", json!(null), "the attribute `type` is missing or empty"),
        ("specversion", json!("0.3"), "specversion `0.3` is not 1.0"),
        ("specversion", json!(1.0), "the attribute `specversion` is not a text"),
        ("subject", json!(""), "the attribute `subject` is missing or empty"),
        ("time", json!("yesterday"), "the attribute `time` is not a time by RFC 3339"),
        ("time", json!("2024-06-19"), "the attribute `time` is not a time by RFC 3339"),
        ("time", json!("2024-06-19 15:22:45Z"), "the attribute `time` is not a time by RFC 3339"),
        ("time", json!("2024-06-19T15:22Z"), "the attribute `time` is not a time by RFC 3339"),
        ("time", json!("2024-06-19T15:22:45"), "the attribute `time` is not a time by RFC 3339"),
        ("time", json!("2024-06-19T15:22:45+02"), "the attribute `time` is not a time by RFC 3339"),
        ("time", json!("2024-06-19T15:22:45Z[UTC]"), "the attribute `time` is not a time by RFC 3339"),
        ("time", json!("2024-06-19T25:22:45Z"), "the attribute `time` is not a time by RFC 3339"),
        ("data_base64", json!("?"), "the attribute `data_base64` is not bytes in base64"),
        ("data_base64", json!(1), "the attribute `data_base64` is not bytes in base64"),
        ("correlation_id", json!("1"), "`correlation_id` is no name of an extension"),
        ("correlationId", json!("1"), "`correlationId` is no name of an extension"),
        ("", json!("1"), "`` is no name of an extension"),
        ("big", json!(2_147_483_648_i64), "the attribute `big` is not an integer of 32 bits"),
        ("half", json!(0.5), "the attribute `half` is not an integer of 32 bits"),
        ("list", json!([1]), "the attribute `list` is not a truth value, an integer or a text"),
        ("bell", json!("\u{7}"), "the attribute `bell` is not a text without control characters"),
    ] {
        let error = with(name, value.clone()).expect_err(name);
        assert!(error.starts_with(wanted), "{name} = {value}: {error}");
    }
    let twice =
        json!({ "specversion": "1.0", "id": "1", "source": "/", "type": "t", "data": 1, "data_base64": "AA==" });
    assert!(matches!(read(&twice), Err(CloudEventError::TwoData)));
    for text in [&b"[]"[..], b"", b"{", b"\xff"] {
        assert!(matches!(CloudEvent::from_json(text), Err(CloudEventError::Json(_))), "{text:?}");
    }
    assert!(with("null", json!(null)).expect("what is null is not there").extensions.is_empty());
    let digits = with("time", json!("2024-06-19T15:22:45.12345678901234Z")).expect("more digits than are kept");
    assert_eq!(json_of(&digits)["time"], "2024-06-19T15:22:45.123456789Z");
    for time in ["2024-06-19T15:22:45Z", "2024-06-19t15:22:45.5z", "2024-06-19T17:22:45+02:00"] {
        assert!(with("time", json!(time)).is_ok(), "{time}");
    }
    let mut event = CloudEvent::new("1", "/", "t");
    for name in ["Upper", "data", "id", ""] {
        event.extensions = [(name.to_owned(), ExtensionValue::Boolean(true))].into();
        assert!(matches!(event.to_json(), Err(CloudEventError::Name(_))), "{name}");
    }
    event.extensions.clear();
    for days in [366 * 1_971, 366 * 9_999] {
        event.time = SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(86_400 * days));
        assert!(event.to_json().is_err(), "a time that nobody could read");
    }
    event.time = None;
    event.source.clear();
    assert!(matches!(event.to_json(), Err(CloudEventError::Missing("source"))));
}

#[test]
fn ids_that_are_no_uuid_have_one_that_is_always_the_same() {
    let one = CloudEvent::new("A-1", "/a", "t");
    assert_eq!(one.metadata().id, one.metadata().id);
    assert_eq!(one.metadata().correlation, one.metadata().id);
    let mut child = CloudEvent::new("B-2", "/b", "t");
    for link in ["correlationid", "causationid"] {
        child.extensions.insert(link.to_owned(), ExtensionValue::Text("A-1".to_owned()));
    }
    assert_ne!(child.metadata().id, one.metadata().id);
    assert_eq!(child.metadata().correlation, one.metadata().id, "the links hold over sources");
    assert_eq!(child.metadata().causation, Some(one.metadata().id));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_event_that_can_be_written_reads_back(
        (id, source, event_type) in ("\\PC{1,8}", "\\PC{1,8}", "\\PC{1,8}"),
        subject in prop::option::of("\\PC{1,8}"),
        nanoseconds in prop::option::of(-60_000_000_000_000_000_000_i128..250_000_000_000_000_000_000),
        extensions in prop::collection::btree_map("[a-z0-9]{1,6}x", "\\PC{0,8}", 0..4),
        binary in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
    ) {
        let mut event = CloudEvent::new(&id, &source, &event_type);
        event.subject = subject;
        event.time = nanoseconds.map(|since| {
            let by = Duration::from_nanos_u128(since.unsigned_abs());
            if since < 0 { SystemTime::UNIX_EPOCH - by } else { SystemTime::UNIX_EPOCH + by }
        });
        event.extensions = extensions.into_iter().map(|(name, text)| (name, ExtensionValue::Text(text))).collect();
        event.data = binary.map(|bytes| Data::Binary(bytes.into()));
        prop_assert_eq!(CloudEvent::from_json(&event.to_json().expect("sound")).expect("valid"), event);
    }
}
