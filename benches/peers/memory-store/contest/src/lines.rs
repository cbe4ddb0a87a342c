//! What is stored and asked: log lines made from templates, as unit vectors of hashed trigrams under a random projection. Lines of one
//! template are alike (a cosine around 0.6), those of different ones hardly so, and every tenth line is an earlier one with a digit
//! changed: a near-duplicate, never the same line.

use std::collections::HashSet;
use std::fmt::Write;

use crate::DIMENSIONS;

/// Trigrams are hashed into that many buckets.
const BUCKETS: usize = 4096;
/// Kinds of lines.
const TEMPLATES: usize = 1_000;
/// Lines that may be repeated at any time.
const REMEMBERED: usize = 512;
/// Every line ends with a number of so many digits.
const DIGITS: usize = 9;
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
#[derive(Debug)]
pub(crate) struct Lines {
    rng: fastrand::Rng,
    templates: Vec<Vec<&'static str>>,
    projection: Vec<f32>,
    earlier: Vec<String>,
    made: HashSet<String>,
}

impl Lines {
    pub(crate) fn new(seed: u64) -> Self {
        // Templates and projection are the same for all seeds: queries speak of what is stored.
        let mut rng = fastrand::Rng::with_seed(20_260_101);
        let template =
            |rng: &mut fastrand::Rng| (0..rng.usize(6..14)).map(|_| WORDS[rng.usize(..WORDS.len())]).collect();
        let templates = (0..TEMPLATES).map(|_| template(&mut rng)).collect();
        let projection = (0..BUCKETS * DIMENSIONS).map(|_| if rng.bool() { 1.0 } else { -1.0 }).collect();
        let (earlier, made) = (Vec::new(), HashSet::new());
        Self { rng: fastrand::Rng::with_seed(seed), templates, projection, earlier, made }
    }

    /// The unit vectors of so many further lines, one after the other.
    pub(crate) fn vectors(&mut self, count: usize) -> Vec<f32> {
        let mut vectors = Vec::with_capacity(count * DIMENSIONS);
        for _ in 0..count {
            let line = self.line();
            self.project(&line, &mut vectors);
        }
        vectors
    }

    fn line(&mut self) -> String {
        loop {
            let repeats = self.rng.usize(..10) == 0 && !self.earlier.is_empty();
            let line = if repeats { self.changed() } else { self.fresh() };
            if !self.made.insert(line.clone()) {
                continue;
            }
            if self.earlier.len() < REMEMBERED {
                self.earlier.push(line.clone());
            } else if !repeats {
                let at = self.rng.usize(..REMEMBERED);
                self.earlier[at].clone_from(&line);
            }
            return line;
        }
    }

    fn fresh(&mut self) -> String {
        let mut line = String::new();
        let template = &self.templates[self.rng.usize(..self.templates.len())];
        for word in template {
            line.push_str(word);
            line.push(' ');
            // Some places are filled with what is measured.
            if self.rng.usize(..3) == 0 {
                write!(line, "{} ", self.rng.u32(..1_000_000)).expect("a string takes all");
            }
        }
        write!(line, "{}", self.rng.u32(100_000_000..1_000_000_000)).expect("a string takes all");
        line
    }

    fn changed(&mut self) -> String {
        let mut line = self.earlier[self.rng.usize(..self.earlier.len())].clone();
        let at = line.len() - 1 - self.rng.usize(..DIGITS);
        let digit = char::from(b'0' + self.rng.u8(..10));
        line.replace_range(at..=at, digit.encode_utf8(&mut [0; 4]));
        line
    }

    fn project(&self, line: &str, vectors: &mut Vec<f32>) {
        let start = vectors.len();
        vectors.resize(start + DIMENSIONS, 0.0);
        let vector = &mut vectors[start..];
        for gram in line.as_bytes().windows(3) {
            let hash =
                gram.iter().fold(2_166_136_261_u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
            let bucket = (hash >> 8) as usize % BUCKETS;
            let row = &self.projection[bucket * DIMENSIONS..(bucket + 1) * DIMENSIONS];
            vector.iter_mut().zip(row).for_each(|(sum, sign)| *sum += sign);
        }
        let norm = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_for_a_seed_and_never_repeat_themselves() {
        let (mut one, mut same, mut other) = (Lines::new(1), Lines::new(1), Lines::new(2));
        let lines: Vec<String> = (0..2_000).map(|_| one.line()).collect();
        assert!((0..2_000).all(|i| same.line() == lines[i]));
        assert_ne!(other.line(), lines[0]);
        assert_eq!(lines.iter().collect::<HashSet<_>>().len(), 2_000);
    }

    #[test]
    fn vectors_have_length_1() {
        let vectors = Lines::new(3).vectors(50);
        for vector in vectors.chunks(DIMENSIONS) {
            let norm: f32 = vector.iter().map(|x| x * x).sum();
            assert!((norm - 1.0).abs() < 1e-5, "{norm}");
        }
    }
}
