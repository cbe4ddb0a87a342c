//! One operation is one vector that is added to what is stored.

use std::time::Instant;

use harness::{Bench, BenchError};

use crate::{Corpus, DIMENSIONS};

/// Vectors that are there to be added, in turn.
pub const APPENDS: usize = 4096;
/// Vectors that are added in a round: a graph takes milliseconds for each.
const ROUND: usize = 32;

/// Takes vectors one at a time.
pub trait Appends: Sized + 'static {
    /// How it is set up and called; every report repeats it.
    const NOTE: &'static str;

    /// Not timed: holds what is stored.
    ///
    /// # Errors
    /// Why there is no index.
    fn open(corpus: &Corpus) -> Result<Self, String>;

    /// Timed: adds `vector`, the `number`-th of all.
    fn append(&mut self, number: usize, vector: &[f32]);

    /// What it holds by now.
    fn count(&self) -> usize;
}

pub(crate) fn measure<A: Appends>(bench: &mut Bench) -> Result<(), BenchError> {
    bench.note(A::NOTE);
    let corpus = Corpus::shared().map_err(|error| BenchError::Invalid(error.to_string()))?;
    let mut store = A::open(&corpus).map_err(BenchError::Invalid)?;
    let mut number = corpus.len();
    let mut vectors = corpus.further.chunks_exact(DIMENSIONS).cycle();
    bench.rounds(|| {
        let vectors: Vec<&[f32]> = vectors.by_ref().take(ROUND).collect();
        let start = Instant::now();
        for vector in vectors {
            store.append(number, vector);
            number += 1;
        }
        (start.elapsed(), ROUND as u64)
    })?;
    bench.proof(number, store.count());
    Ok(())
}
