//! An item of telemetry as a device of a swarm sends it: eleven fields, about 215 B of MessagePack, 250 B of JSON.

use serde::Serialize;

/// See the module.
#[derive(Serialize)]
pub(crate) struct Record {
    id: u64,
    trace: String,
    timestamp: String,
    device: String,
    swarm: &'static str,
    kind: &'static str,
    latitude: f64,
    longitude: f64,
    altitude: f64,
    battery: f64,
    status: &'static str,
}

/// The record of a number. All but the names differ from one to the next, and `trace` cannot be compressed.
pub(crate) fn record(id: u64) -> Record {
    let (high, low) = (scattered(2 * id), scattered(2 * id + 1));
    let part = |value: u64, shift: u32, bits: u32| (value >> shift) & ((1 << bits) - 1);
    let second = id / 20;
    Record {
        id,
        trace: format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            part(high, 32, 32),
            part(high, 16, 16),
            part(high, 0, 12),
            part(low, 48, 12),
            part(low, 0, 48)
        ),
        timestamp: format!(
            "2026-03-14T{:02}:{:02}:{:02}.{:03}Z",
            second / 3600 % 24,
            second / 60 % 60,
            second % 60,
            id % 20 * 50
        ),
        device: format!("agent-{:04}", id % 100),
        swarm: "alpha",
        kind: "position",
        latitude: 48.0 + part(high, 0, 20) as f64 / 1e6,
        longitude: 11.0 + part(high, 20, 20) as f64 / 1e6,
        altitude: 100.0 + part(low, 0, 10) as f64 / 8.0,
        battery: 1.0 - part(low, 10, 10) as f64 / 2048.0,
        status: if id.is_multiple_of(10) { "warning" } else { "nominal" },
    }
}

/// The finaliser of SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
fn scattered(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
