//! What the telemetry codec allocates once it is warm, counted in a binary of its own.
#![cfg(feature = "http")]

use std::collections::BTreeMap;

use harness::{AllocStats, CountingAlloc, alloc_scope};
use swarm_batcher::telemetry::{EncodedItem, Encoder, encode_item};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::system();

/// The least of a few rounds: what the test's own runner does in the meantime counts too.
fn least<T>(mut work: impl FnMut() -> T) -> (T, AllocStats) {
    let rounds = (0..5).map(|_| alloc_scope(&mut work));
    rounds.min_by_key(|(_, stats)| stats.count).expect("five rounds")
}

#[test]
fn an_item_is_one_allocation_of_its_size_and_a_body_one_of_its_own() {
    let items: Vec<BTreeMap<&str, u64>> = (0..100).map(|id| BTreeMap::from([("id", id), ("cpu", id * id)])).collect();
    let mut encoded: Vec<EncodedItem> = Vec::with_capacity(items.len());
    let ((), stats) = least(|| {
        encoded.clear();
        encoded.extend(items.iter().map(|item| encode_item(item).expect("encodes")));
    });
    let size: usize = encoded.iter().map(|item| item.as_bytes().len()).sum();
    assert_eq!((stats.count, stats.bytes), (100, size as u64));

    let mut encoder = Encoder::new().expect("memory");
    let (payload, stats) = least(|| encoder.encode(&encoded).expect("encodes"));
    assert_eq!((stats.count, stats.bytes), (1, payload.body.len() as u64));
}
