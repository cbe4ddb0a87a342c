//! What is uploaded.

use serde::{Deserialize, Serialize};

/// A position as an agent reports it; about 230 bytes of MessagePack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TelemetryRecord {
    /// A UUID.
    pub id: String,
    /// By RFC 3339.
    pub timestamp: String,
    /// The agent.
    pub device: String,
    /// The agent's swarm.
    pub swarm: String,
    /// What is reported.
    pub kind: String,
    /// Counts the agent's reports.
    pub sequence: u64,
    /// Degrees.
    pub latitude: f64,
    /// Degrees.
    pub longitude: f64,
    /// Metres.
    pub altitude: f64,
    /// What is left, from 0 to 1.
    pub battery: f64,
    /// How the agent is.
    pub status: String,
}

/// So many records, always the same, of which no two are alike.
#[must_use]
pub fn records(count: usize) -> Vec<TelemetryRecord> {
    (0..count as u64).map(record).collect()
}

fn record(number: u64) -> TelemetryRecord {
    let (high, low) = (spread(2 * number), spread(2 * number + 1));
    TelemetryRecord {
        id: uuid(high, low),
        timestamp: format!("2026-03-01T12:{:02}:{:02}.{:06}+00:00", number / 60 % 60, number % 60, low % 1_000_000),
        device: format!("agent-{:04}", high % 64),
        swarm: ["alpha", "bravo", "delta"][(low % 3) as usize].to_owned(),
        kind: "position".to_owned(),
        sequence: 40_000 + number,
        latitude: 52.0 + fraction(high),
        longitude: 13.0 + fraction(low),
        altitude: 120.0 * fraction(high ^ low),
        battery: fraction(high.rotate_left(32)),
        status: if low.is_multiple_of(8) { "degraded" } else { "nominal" }.to_owned(),
    }
}

/// Random in its looks, as a version 4.
fn uuid(high: u64, low: u64) -> String {
    let (first, second, third) = (high >> 32, high >> 16 & 0xffff, high & 0xfff);
    let (fourth, fifth) = (low >> 48 & 0x3fff | 0x8000, low & 0xffff_ffff_ffff);
    format!("{first:08x}-{second:04x}-4{third:03x}-{fourth:04x}-{fifth:012x}")
}

/// From 0 to 1, with all its digits.
fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// SplitMix64, <https://prng.di.unimi.it/splitmix64.c>: the output for the state `number`.
fn spread(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_has_about_230_bytes() {
        for record in records(1_000) {
            let bytes = rmp_serde::to_vec_named(&record).expect("encodes");
            assert!((222..240).contains(&bytes.len()), "{} bytes: {record:?}", bytes.len());
        }
    }

    #[test]
    fn no_two_records_are_alike() {
        let mut ids: Vec<String> = records(1_000).into_iter().map(|record| record.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 1_000);
    }
}
