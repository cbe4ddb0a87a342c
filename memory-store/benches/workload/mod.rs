//! What the suites store and ask: log lines made from templates, as vectors of hashed trigrams under a random projection. Lines of one
//! template are alike (a cosine around 0.6), those of different ones hardly so, and every tenth line is an earlier one with a digit
//! changed: a near-duplicate (0.95 and more), never the same vector.
#![allow(dead_code, reason = "each suite uses what it needs")]

pub(crate) mod filled;

use memory_store::Timestamp;

/// Trigrams are hashed into that many buckets.
const BUCKETS: usize = 4096;
const WORDS: [&str; 48] = [
    "power",
    "bus",
    "voltage",
    "sensor",
    "thruster",
    "attitude",
    "battery",
    "panel",
    "antenna",
    "link",
    "uplink",
    "frame",
    "checksum",
    "retry",
    "timeout",
    "valve",
    "pressure",
    "gyro",
    "wheel",
    "speed",
    "drift",
    "heater",
    "relay",
    "current",
    "orbit",
    "burn",
    "beacon",
    "packet",
    "queue",
    "memory",
    "flash",
    "error",
    "reset",
    "watchdog",
    "clock",
    "sync",
    "telemetry",
    "payload",
    "camera",
    "shutter",
    "star",
    "tracker",
    "array",
    "regulator",
    "limit",
    "warning",
    "nominal",
    "fault",
];

/// Makes lines and their vectors, always the same ones for a seed.
pub(crate) struct Lines {
    rng: fastrand::Rng,
    dimensions: usize,
    templates: Vec<Vec<&'static str>>,
    projection: Vec<f32>,
    line: String,
    earlier: Vec<String>,
}

impl Lines {
    pub(crate) fn new(seed: u64, dimensions: usize, templates: usize) -> Self {
        // Templates and projection are the same for all seeds: queries speak of what is stored.
        let mut rng = fastrand::Rng::with_seed(20_260_101);
        let template =
            |rng: &mut fastrand::Rng| (0..rng.usize(6..14)).map(|_| WORDS[rng.usize(..WORDS.len())]).collect();
        let templates = (0..templates).map(|_| template(&mut rng)).collect();
        let projection = (0..BUCKETS * dimensions).map(|_| if rng.bool() { 1.0 } else { -1.0 }).collect();
        Self {
            rng: fastrand::Rng::with_seed(seed),
            dimensions,
            templates,
            projection,
            line: String::new(),
            earlier: Vec::new(),
        }
    }

    /// The next line's vector, into `vector`. Says whether it is a near-duplicate of an earlier one.
    pub(crate) fn next(&mut self, vector: &mut Vec<f32>) -> bool {
        let repeats = self.rng.usize(..10) == 0 && !self.earlier.is_empty();
        if repeats {
            let at = self.rng.usize(..self.earlier.len());
            self.line.clone_from(&self.earlier[at]);
            self.change_a_digit();
            // Changed again the next time: no line comes twice.
            self.earlier[at].clone_from(&self.line);
        } else {
            self.make_line();
            // A few hundred lines are remembered: enough to repeat, and no burden.
            if self.earlier.len() < 512 {
                self.earlier.push(self.line.clone());
            } else {
                let at = self.rng.usize(..512);
                self.earlier[at].clone_from(&self.line);
            }
        }
        vector.clear();
        vector.resize(self.dimensions, 0.0);
        for gram in self.line.as_bytes().windows(3) {
            let hash =
                gram.iter().fold(2_166_136_261u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
            let bucket = (hash >> 8) as usize % BUCKETS;
            let row = &self.projection[bucket * self.dimensions..(bucket + 1) * self.dimensions];
            vector.iter_mut().zip(row).for_each(|(sum, sign)| *sum += sign);
        }
        repeats
    }

    fn make_line(&mut self) {
        use std::fmt::Write;
        self.line.clear();
        let template = &self.templates[self.rng.usize(..self.templates.len())];
        for word in template {
            self.line.push_str(word);
            self.line.push(' ');
            // Some places are filled with what is measured.
            if self.rng.usize(..3) == 0 {
                write!(self.line, "{} ", self.rng.u32(..1_000_000)).expect("a string takes all");
            }
        }
        write!(self.line, "{}", self.rng.u32(100_000_000..1_000_000_000)).expect("a string takes all");
    }

    fn change_a_digit(&mut self) {
        let mut bytes = std::mem::take(&mut self.line).into_bytes();
        // Every line ends with a number.
        let last = bytes.len() - 1;
        bytes[last] = if bytes[last] == b'9' { b'0' } else { bytes[last] + 1 };
        self.line = String::from_utf8(bytes).expect("digits are text");
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
