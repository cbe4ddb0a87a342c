//! Crate usearch 2.26: a graph in C++, whose kernels its library `numkong` chooses at run time. What it keeps vectors as is a type.
//!
//! A graph is built once, which takes minutes, and kept beside the corpus.

use std::marker::PhantomData;

use memory_store_contest::{Appends, Candidate, Corpus, DIMENSIONS, Finds, MEMORIES, Setting};
pub use usearch::ScalarKind;
use usearch::{Index, IndexOptions, MetricKind};

/// Neighbours of a memory in the graph, and candidates that are kept while one is added: the library's defaults.
const CONNECTIVITY: usize = 16;
const EXPANSION_ADD: usize = 128;
/// Places for vectors that are added.
const SPARE: usize = 50_000;

/// What vectors are kept as.
pub trait Kept: 'static {
    /// For the library.
    const KIND: ScalarKind;
    /// The file of the graph.
    const FILE: &'static str;
    /// How it is set up and called.
    const NOTE: &'static str;
    /// See [`Finds::SETTINGS`].
    const SETTINGS: &'static [Setting];
}

/// A graph of the corpus.
#[expect(missing_debug_implementations, reason = "the library's index has none")]
pub struct Graph<K> {
    index: Index,
    kept: PhantomData<K>,
}

impl<K: Kept> Graph<K> {
    fn loaded(corpus: &Corpus) -> Result<Self, String> {
        let options = IndexOptions {
            dimensions: DIMENSIONS,
            metric: MetricKind::Cos,
            quantization: K::KIND,
            connectivity: CONNECTIVITY,
            expansion_add: EXPANSION_ADD,
            ..IndexOptions::default()
        };
        let said = |error: &dyn std::error::Error| error.to_string();
        let index = Index::new(&options).map_err(|error| said(&error))?;
        let folder = corpus.folder().ok_or("a small corpus has no folder")?;
        let path = folder.join(K::FILE);
        let path = path.to_str().ok_or("the folder's name is not Unicode")?;
        if index.load(path).is_err() || index.size() != corpus.len() {
            index.reset().map_err(|error| said(&error))?;
            index.reserve(corpus.len()).map_err(|error| said(&error))?;
            for memory in 0..corpus.len() {
                index.add(memory as u64, corpus.vector(memory)).map_err(|error| said(&error))?;
            }
            index.save(path).map_err(|error| said(&error))?;
        }
        Ok(Self { index, kept: PhantomData })
    }
}

impl<K: Kept> Finds for Graph<K> {
    const NOTE: &'static str = K::NOTE;
    const SETTINGS: &'static [Setting] = K::SETTINGS;

    fn open(corpus: &Corpus) -> Result<Self, String> {
        Self::loaded(corpus)
    }

    fn expand(&mut self, expansion: usize) {
        self.index.change_expansion_search(expansion);
    }

    fn find(&mut self, query: &[f32], k: usize, found: &mut Vec<Candidate>) {
        let matches = self.index.search(query, k).expect("a query of the right dimensions");
        let pairs = matches.keys.iter().zip(&matches.distances);
        found.extend(pairs.map(|(&id, &distance)| Candidate { id: id as u32, similarity: 1.0 - distance }));
    }
}

impl<K: Kept> Appends for Graph<K> {
    const NOTE: &'static str = K::NOTE;

    fn open(corpus: &Corpus) -> Result<Self, String> {
        let graph = Self::loaded(corpus)?;
        graph.index.change_expansion_add(EXPANSION_ADD);
        graph.index.reserve(MEMORIES + SPARE).map_err(|error| error.to_string())?;
        Ok(graph)
    }

    fn append(&mut self, number: usize, vector: &[f32]) {
        self.index.add(number as u64, vector).expect("there is a place");
    }

    fn count(&self) -> usize {
        self.index.size()
    }
}
