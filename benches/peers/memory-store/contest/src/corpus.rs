//! What is stored and what is asked.

use std::path::{Path, PathBuf};

use crate::files::{self, FileError, kept};
use crate::lines::Lines;
use crate::{APPENDS, DIMENSIONS, MEMORIES, QUERIES};

/// One memory in so many recurs.
const RECURRING: usize = 200;
/// A memory that recurs was seen up to so many times.
const MOST_TIMES: u32 = 64;

/// Memories: unit vectors, when each was seen and how often; and queries, lines that are not stored, of the templates that are.
#[derive(Debug)]
pub struct Corpus {
    /// Vectors of memories, one after the other.
    pub vectors: Vec<f32>,
    /// When each memory was seen: one after the other, over thirty days.
    pub hours: Vec<f64>,
    /// How often each memory was seen.
    pub times: Vec<u32>,
    /// Vectors of queries, one after the other.
    pub queries: Vec<f32>,
    /// Vectors that are appended to what is stored.
    pub further: Vec<f32>,
    folder: Option<PathBuf>,
}

impl Corpus {
    /// What all contenders use, from the files that the first of them writes: `vectors.f32`, `hours.f64`, `times.u32`, `queries.f32` and
    /// `further.f32`.
    ///
    /// # Errors
    /// [`FileError`] if a file can be neither read nor written.
    pub fn shared() -> Result<Self, FileError> {
        let folder = files::folder()?;
        let vectors = |count: usize, seed| move || Lines::new(seed).vectors(count);
        Ok(Self {
            vectors: kept(&folder.join("vectors.f32"), MEMORIES * DIMENSIONS, vectors(MEMORIES, 1))?,
            queries: kept(&folder.join("queries.f32"), QUERIES * DIMENSIONS, vectors(QUERIES, 2))?,
            further: kept(&folder.join("further.f32"), APPENDS * DIMENSIONS, vectors(APPENDS, 3))?,
            hours: kept(&folder.join("hours.f64"), MEMORIES, || hours(MEMORIES))?,
            times: kept(&folder.join("times.u32"), MEMORIES, || times(MEMORIES))?,
            folder: Some(folder),
        })
    }

    /// A small one for tests, kept in no file.
    #[must_use]
    pub fn small(memories: usize, queries: usize) -> Self {
        Self {
            vectors: Lines::new(1).vectors(memories),
            queries: Lines::new(2).vectors(queries),
            further: Lines::new(3).vectors(1),
            hours: hours(memories),
            times: times(memories),
            folder: None,
        }
    }

    /// Where the files are; what takes long to build is kept there too. `None` for a small one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Memories.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hours.len()
    }

    /// Whether there are no memories.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hours.is_empty()
    }

    /// The vector of a memory.
    ///
    /// # Panics
    /// If there is no such memory.
    #[must_use]
    pub fn vector(&self, memory: usize) -> &[f32] {
        &self.vectors[memory * DIMENSIONS..][..DIMENSIONS]
    }

    /// The vectors of all queries.
    pub fn each_query(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.queries.chunks_exact(DIMENSIONS)
    }
}

fn hours(memories: usize) -> Vec<f64> {
    (0..memories).map(|i| 720.0 * i as f64 / memories as f64).collect()
}

/// 1 for most; the logarithms of the others are spread evenly.
fn times(memories: usize) -> Vec<u32> {
    let mut rng = fastrand::Rng::with_seed(4);
    let most = f64::from(MOST_TIMES).ln();
    let recurs = |i: usize| i % RECURRING == RECURRING / 2;
    (0..memories).map(|i| if recurs(i) { (rng.f64() * most).exp().round().max(2.0) as u32 } else { 1 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_memory_in_two_hundred_recurs() {
        let times = times(10_000);
        assert_eq!(times.iter().filter(|&&times| times > 1).count(), 50);
        assert!(times.iter().all(|times| (1..=MOST_TIMES).contains(times)));
    }

    #[test]
    fn memories_are_seen_one_after_the_other_and_before_now() {
        let hours = hours(100);
        assert!(hours.is_sorted() && hours.iter().all(|&seen| seen < crate::NOW_HOURS));
    }
}
