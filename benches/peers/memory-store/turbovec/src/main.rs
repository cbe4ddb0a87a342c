//! Crate turbovec 1.1: a flat index of 4 bits a dimension, which looks at a plane of them first. It chooses its kernels at run time.
//!
//! Its thread pool has the one thread that asks.

use std::process::ExitCode;

use memory_store_contest::{Appends, Candidate, Contest, Corpus, DIMENSIONS, Finds, Setting};
use turbovec::TurboQuantIndex;

/// Vectors that the codes are fitted to, spread over all that there are.
const SAMPLE: usize = 4_096;

fn main() -> ExitCode {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
    pool.expect("nothing has used the pool before");
    Contest::of("turbovec").finds::<Flat>().appends::<Flat>().run()
}

struct Flat(TurboQuantIndex);

impl Flat {
    fn built(corpus: &Corpus) -> Result<Self, String> {
        let said = |error: &dyn std::error::Error| error.to_string();
        let mut index = TurboQuantIndex::new(DIMENSIONS, 4).map_err(|error| said(&error))?;
        let step = corpus.len() / SAMPLE;
        let sample: Vec<f32> = (0..SAMPLE).flat_map(|i| corpus.vector(i * step)).copied().collect();
        index.calibrate(&sample).map_err(|error| said(&error))?;
        index.add(&corpus.vectors);
        index.prepare();
        Ok(Self(index))
    }
}

impl Finds for Flat {
    const NOTE: &'static str =
        "TurboQuantIndex, 4 bits, calibrated on 4,096 of the vectors, one query a call, one thread";
    const SETTINGS: &'static [Setting] = &[Setting { expansion: 0, fetch: 10 }];

    fn open(corpus: &Corpus) -> Result<Self, String> {
        Self::built(corpus)
    }

    fn find(&mut self, query: &[f32], k: usize, found: &mut Vec<Candidate>) {
        let results = self.0.search(query, k);
        let pairs = results.indices_for_query(0).iter().zip(results.scores_for_query(0));
        found.extend(pairs.map(|(&id, &similarity)| Candidate { id: id as u32, similarity }));
    }
}

impl Appends for Flat {
    const NOTE: &'static str = "TurboQuantIndex, 4 bits, one vector a call";

    fn open(corpus: &Corpus) -> Result<Self, String> {
        Self::built(corpus)
    }

    fn append(&mut self, _number: usize, vector: &[f32]) {
        self.0.add(vector);
    }

    fn count(&self) -> usize {
        self.0.len()
    }
}
