use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;
use serde::Serializer;
use serde_json::{Value, json};
use zstd::zstd_safe::get_frame_content_size;

use super::*;

/// Decompresses in one shot, into a buffer of the size that the frame states.
fn decompressed(payload: &Payload) -> Vec<u8> {
    let size = get_frame_content_size(&payload.body).expect("a frame").expect("the frame states its size");
    assert_eq!(size, payload.uncompressed as u64);
    zstd::bulk::decompress(&payload.body, payload.uncompressed).expect("a whole frame")
}

/// The whole map encoded at once.
fn at_once<T: Serialize>(items: &[T]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer = rmp_serde::Serializer::new(&mut bytes).with_struct_map().with_human_readable();
    BTreeMap::from([("telemetry", items)]).serialize(&mut serializer).expect("encodes");
    bytes
}

fn encoded<T: Serialize>(items: &[T]) -> Vec<EncodedItem> {
    items.iter().map(|item| encode_item(item).expect("encodes")).collect()
}

fn encoder() -> Encoder {
    Encoder::new().expect("memory")
}

#[test]
fn a_batch_is_the_map_encoded_at_once_at_every_border_of_the_header() {
    let mut encoder = encoder();
    for count in [0, 1, 15, 16, 65_535, 65_536] {
        let items: Vec<u32> = (0..count).collect();
        let payload = encoder.encode(&encoded(&items)).expect("encodes");
        assert_eq!(payload.items, items.len());
        assert_eq!(decompressed(&payload), at_once(&items), "{count} items");
    }
}

#[test]
fn structs_are_maps_with_names_and_bytes_are_binary() {
    #[derive(Serialize)]
    struct Sample {
        name: &'static str,
        from: Ipv4Addr,
        #[serde(serialize_with = "as_bytes")]
        raw: [u8; 2],
    }
    fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }
    let item = encode_item(&Sample { name: "cpu", from: Ipv4Addr::LOCALHOST, raw: [7, 8] }).expect("encodes");
    let expected = b"\x83\xa4name\xa3cpu\xa4from\xa9127.0.0.1\xa3raw\xc4\x02\x07\x08";
    assert_eq!(item.as_bytes(), expected);
}

#[test]
fn an_item_that_refuses_leaves_the_next_one_whole() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    let error =
        encode_item(&[json!("begun"), json!(null)]).and_then(|_| encode_item(&(1, Refuses))).expect_err("refused");
    assert!(matches!(&error, EncodeError::Item(_)), "{error:?}");
    assert_eq!(error.to_string(), "the item cannot be encoded: not today");
    assert_eq!(encode_item(&1_u8).expect("encodes").as_bytes(), [1]);
}

#[test]
fn an_item_may_encode_another_one_while_it_is_encoded() {
    struct Outer;
    impl Serialize for Outer {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let inner = encode_item("inner").expect("encodes");
            serializer.serialize_bytes(inner.as_bytes())
        }
    }
    assert_eq!(encode_item(&("a", Outer)).expect("encodes").as_bytes(), b"\x92\xa1a\xc4\x06\xa5inner");
}

#[test]
fn memory_of_a_huge_item_and_of_a_huge_batch_is_given_back() {
    let huge = encode_item(&"x".repeat(2 * KEPT_BUFFER)).expect("encodes");
    let kept = SCRATCH.take();
    assert!(kept.capacity() <= KEPT_SCRATCH);
    SCRATCH.set(kept);
    let mut encoder = encoder();
    encoder.encode([&huge]).expect("encodes");
    assert!(encoder.raw.capacity() <= KEPT_BUFFER && encoder.compressed.capacity() <= KEPT_BUFFER);
    let payload = encoder.encode(&encoded(&[1])).expect("encodes");
    assert_eq!(decompressed(&payload), at_once(&[1]));
}

#[test]
fn an_iterator_that_panics_leaves_the_encoder_usable() {
    let items = encoded(&[1, 2, 3]);
    let mut encoder = encoder();
    let panicking = items.iter().inspect(|item| assert!(item.as_bytes() != [2], "two"));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| encoder.encode(panicking)));
    assert!(caught.is_err());
    assert_eq!(decompressed(&encoder.encode(&items).expect("encodes")), at_once(&[1, 2, 3]));
}

#[test]
fn the_parts_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<EncodedItem>();
    check::<Encoder>();
    check::<Payload>();
    check::<EncodeError>();
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            prop::collection::btree_map(".{0,12}", inner, 0..20).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    /// Batch after batch of one encoder reads back as its items, and is the map encoded at once byte for byte.
    #[test]
    fn batches_read_back(batches in prop::collection::vec(prop::collection::vec(any_value(), 0..40), 1..4)) {
        let mut encoder = encoder();
        for items in batches {
            let payload = encoder.encode(&encoded(&items)).expect("encodes");
            let bytes = decompressed(&payload);
            prop_assert_eq!(&bytes, &at_once(&items));
            let read: Value = rmp_serde::from_slice(&bytes).expect("decodes");
            prop_assert_eq!(read, json!({ "telemetry": items }));
        }
    }
}
