//! The items of the benchmarks: stamped files of workflows that go through their states.

use bridge_orchestrator::reduce::{Item, Timestamp};

/// What items borrow their texts from.
#[derive(Debug)]
pub(crate) struct Stamps {
    namespaces: Vec<String>,
    rows: Vec<Stamp>,
}

#[derive(Debug)]
struct Stamp {
    id: String,
    hash: String,
    path: String,
    workflow: String,
    state: &'static str,
    size: u64,
    namespace: usize,
    content_type: &'static str,
}

const TYPES: [&str; 4] = ["application/pdf", "image/png", "text/plain", "application/json"];
const STATES: [&str; 3] = ["PENDING", "PROCESSING", "COMPLETED"];

impl Stamps {
    /// `count` items of `namespaces` namespaces, in the random order of a fixed generator. Three items make a workflow.
    pub(crate) fn new(count: usize, namespaces: usize) -> Self {
        let names = (0..namespaces).map(|n| format!("omninode.namespace-{n:03}")).collect();
        let rows = (0..count)
            .map(|n| {
                let (random, group) = (mix(n as u64), (n / 3) as u64);
                Stamp {
                    id: format!("stamp-{random:016x}"),
                    hash: format!("{random:016x}{:016x}{:016x}{:016x}", mix(random), !random, n),
                    path: format!("/data/in/{n:06}.bin"),
                    workflow: format!(
                        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
                        group,
                        group,
                        group % 7,
                        group % 5,
                        mix(group) >> 16
                    ),
                    state: STATES[n % 3],
                    size: 1_024 + random % 65_536,
                    // All items of a workflow are of one namespace, and each namespace has as many, but for a remainder.
                    namespace: group as usize % namespaces,
                    content_type: TYPES[(random >> 40) as usize % TYPES.len()],
                }
            })
            .collect();
        Self { namespaces: names, rows }
    }

    /// One item a millisecond.
    pub(crate) fn items(&self) -> Vec<Item<'_>> {
        self.rows
            .iter()
            .enumerate()
            .map(|(n, row)| Item {
                stamp_id: &row.id,
                file_hash: &row.hash,
                file_path: &row.path,
                file_size: row.size,
                namespace: &self.namespaces[row.namespace],
                content_type: row.content_type,
                workflow_id: &row.workflow,
                workflow_state: row.state,
                created_at: Timestamp::from_micros(n as i64 * 1_000),
            })
            .collect()
    }

    #[allow(dead_code, reason = "not every suite has a look at it")]
    pub(crate) fn bytes(&self) -> i128 {
        self.rows.iter().map(|row| i128::from(row.size)).sum()
    }
}

/// The last step of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
