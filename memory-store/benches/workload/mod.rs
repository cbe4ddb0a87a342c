//! What the suites store and ask: log lines made from templates, as vectors of hashed trigrams under a random projection. Lines of one
//! template are alike, those of different ones are not, and two lines that differ in a number are near-duplicates.
#![allow(dead_code, reason = "each suite uses what it needs")]

use memory_store::Timestamp;

/// Trigrams are hashed into that many buckets.
const BUCKETS: usize = 4096;
const WORDS: [&str; 48] = [
    "power", "bus", "voltage", "sensor", "thruster", "attitude", "battery", "panel", "antenna", "link", "uplink", "frame",
    "checksum", "retry", "timeout", "valve", "pressure", "gyro", "wheel", "speed", "drift", "heater", "relay", "current",
    "orbit", "burn", "beacon", "packet", "queue", "memory", "flash", "error", "reset", "watchdog", "clock", "sync",
    "telemetry", "payload", "camera", "shutter", "star", "tracker", "array", "regulator", "limit", "warning", "nominal", "fault",
];

/// Makes lines and their vectors, always the same ones for a seed.
pub(crate) struct Lines {
    rng: fastrand::Rng,
    dimensions: usize,
    templates: Vec<Vec<&'static str>>,
    projection: Vec<f32>,
    line: String,
}

impl Lines {
    pub(crate) fn new(seed: u64, dimensions: usize, templates: usize) -> Self {
        // Templates and projection are the same for all seeds: queries speak of what is stored.
        let mut rng = fastrand::Rng::with_seed(20_260_101);
        let template = |rng: &mut fastrand::Rng| (0..rng.usize(6..14)).map(|_| WORDS[rng.usize(..WORDS.len())]).collect();
        let templates = (0..templates).map(|_| template(&mut rng)).collect();
        let projection = (0..BUCKETS * dimensions).map(|_| if rng.bool() { 1.0 } else { -1.0 }).collect();
        Self { rng: fastrand::Rng::with_seed(seed), dimensions, templates, projection, line: String::new() }
    }

    /// The next line's vector, into `vector`.
    pub(crate) fn next(&mut self, vector: &mut Vec<f32>) {
        use std::fmt::Write;
        self.line.clear();
        let template = &self.templates[self.rng.usize(..self.templates.len())];
        for word in template {
            self.line.push_str(word);
            // Some places are filled with what is measured.
            if self.rng.usize(..3) == 0 {
                write!(self.line, " {}", self.rng.u32(..100_000)).expect("a string takes all");
            }
            self.line.push(' ');
        }
        vector.clear();
        vector.resize(self.dimensions, 0.0);
        for gram in self.line.as_bytes().windows(3) {
            let hash = gram.iter().fold(2_166_136_261u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
            let bucket = (hash >> 8) as usize % BUCKETS;
            let row = &self.projection[bucket * self.dimensions..(bucket + 1) * self.dimensions];
            vector.iter_mut().zip(row).for_each(|(sum, sign)| *sum += sign);
        }
    }

    pub(crate) fn vector(&mut self) -> Vec<f32> {
        let mut vector = Vec::new();
        self.next(&mut vector);
        vector
    }
}

/// When the `i`-th of `all` memories was seen: one after the other, over thirty days.
pub(crate) fn seen(i: usize, all: usize) -> Timestamp {
    Timestamp::from_hours(720.0 * i as f64 / all as f64)
}

/// The present: an hour after the last.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_hours(721.0)
}
