//! What a store is set to, and what may be asked of it.

use std::num::NonZeroUsize;

use crate::decay::DecayTable;
use crate::error::Error;
use crate::normalizer::Normalizer;
use crate::scoring::Scoring;

/// The most dimensions that a store takes.
pub const MAX_DIMENSIONS: usize = 4096;

/// What a store is set to. Made by [`Config::builder`], or by [`compat::astraguard`](crate::compat::astraguard).
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) dimensions: usize,
    pub(crate) scoring: Scoring,
    pub(crate) decay: DecayTable,
    pub(crate) dedup: Option<Dedup>,
    pub(crate) recency: Recency,
    pub(crate) capacity: Capacity,
    pub(crate) normalizer: Option<Normalizer>,
    pub(crate) zero_vectors: ZeroVectors,
    /// Added to the product of the norms in a cosine; above 0 only in the original's arithmetic.
    pub(crate) epsilon: f64,
    pub(crate) query_threads: usize,
}

/// Which moment of a memory its age is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recency {
    /// When it was first written, as in the original.
    FirstSeen,
    /// When it was last written: what recurs stays young.
    #[default]
    LastSeen,
    /// When it was last written or returned by a query that [touches](crate::Query::touch) what it finds.
    LastAccessed,
}

/// When a write is taken for a memory that is there already.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dedup {
    /// A memory matches if its cosine with the new vector is strictly greater. -1 to 1.
    pub threshold: f64,
    /// Which of several memories that match.
    pub pick: MatchPick,
    /// What becomes of the new vector and payload.
    pub merge: MergePolicy,
}

impl Default for Dedup {
    /// More than 0.85, the best match, the first payload stays.
    fn default() -> Self {
        Self { threshold: 0.85, pick: MatchPick::Best, merge: MergePolicy::KeepFirst }
    }
}

/// Which of several memories that match a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MatchPick {
    /// The most similar, the oldest id among equals.
    #[default]
    Best,
    /// The oldest id, as in the original.
    First,
}

/// What becomes of the vector and the payload of a write that is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MergePolicy {
    /// The memory keeps its own.
    #[default]
    KeepFirst,
    /// The memory takes the new ones.
    KeepLatest,
    /// The vector moves towards the new one: the direction of the old, weighted by how often the memory was seen, and that of the new are
    /// added. The payload is the new one.
    RunningMean,
}

/// How much a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Memories at most. What has the lowest base score then goes (see [`MemoryStore::write`](crate::MemoryStore::write)).
    pub max_memories: usize,
    /// Bytes at most: for each memory what its dimensions take and what [`Memory::payload_bytes`](crate::Memory::payload_bytes) stated.
    pub max_bytes: Option<u64>,
    /// What a write gets when all that could go is critical or pinned.
    pub on_critical_full: CriticalFull,
}

impl Default for Capacity {
    /// No bound on bytes, as many memories as ids of rows allow.
    fn default() -> Self {
        Self { max_memories: usize::MAX, max_bytes: None, on_critical_full: CriticalFull::Reject }
    }
}

/// What a write gets when a store is full of memories that are critical or pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CriticalFull {
    /// [`Error::CapacityExhausted`].
    #[default]
    Reject,
    /// A place: a store of critical memories grows past its capacity.
    Grow,
}

/// What a store does with a vector that has no direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ZeroVectors {
    /// [`Error::ZeroNorm`].
    #[default]
    Refuse,
    /// Its cosine with anything is 0, as in the original.
    Unrelated,
}

impl Config {
    /// A configuration for vectors of `dimensions` components, 1 to [`MAX_DIMENSIONS`], with a default for everything else.
    pub fn builder(dimensions: usize) -> ConfigBuilder {
        ConfigBuilder(Self {
            dimensions,
            scoring: Scoring::default(),
            decay: DecayTable::default(),
            dedup: Some(Dedup::default()),
            recency: Recency::default(),
            capacity: Capacity::default(),
            normalizer: None,
            zero_vectors: ZeroVectors::default(),
            epsilon: 0.0,
            query_threads: 1,
        })
    }

    /// Components of a vector.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// How scores are made up.
    #[must_use]
    pub fn scoring(&self) -> &Scoring {
        &self.scoring
    }

    /// How memories fade.
    #[must_use]
    pub fn decay(&self) -> &DecayTable {
        &self.decay
    }
}

/// Makes a [`Config`]. A value out of its range is an error of [`build`](Self::build).
#[derive(Debug, Clone)]
#[must_use = "a builder makes nothing until it is built"]
pub struct ConfigBuilder(Config);

impl ConfigBuilder {
    /// How scores are made up. Default: [`Scoring::Additive`] with [`Weights::default`](crate::Weights).
    pub fn scoring(mut self, scoring: Scoring) -> Self {
        self.0.scoring = scoring;
        self
    }

    /// How memories fade. Default: 0.1 an hour for all classes.
    pub fn decay(mut self, decay: DecayTable) -> Self {
        self.0.decay = decay;
        self
    }

    /// When a write is taken for a memory that is there already; `None` is never. Default: [`Dedup::default`].
    pub fn dedup(mut self, dedup: impl Into<Option<Dedup>>) -> Self {
        self.0.dedup = dedup.into();
        self
    }

    /// Which moment ages are counted from. Default: [`Recency::LastSeen`].
    pub fn recency(mut self, recency: Recency) -> Self {
        self.0.recency = recency;
        self
    }

    /// How much the store holds. Default: as much as there is memory for.
    pub fn capacity(mut self, capacity: Capacity) -> Self {
        self.0.capacity = capacity;
        self
    }

    /// At most this many memories, at least 1: short for [`capacity`](Self::capacity) with one bound.
    pub fn max_memories(mut self, memories: usize) -> Self {
        self.0.capacity.max_memories = memories;
        self
    }

    /// Maps every vector, written or asked for, before anything else is done with it. Default: none.
    pub fn normalizer(mut self, normalizer: Normalizer) -> Self {
        self.0.normalizer = Some(normalizer);
        self
    }

    /// What is done with a vector that has no direction. Default: it is refused.
    pub fn zero_vectors(mut self, zero_vectors: ZeroVectors) -> Self {
        self.0.zero_vectors = zero_vectors;
        self
    }

    /// How many threads one query of a large store runs on, the caller's among them. Default 1. Others are started for the query and end
    /// with it, which takes some 50 us: worth it from about 200,000 memories on.
    pub fn query_threads(mut self, threads: NonZeroUsize) -> Self {
        self.0.query_threads = threads.get();
        self
    }

    pub(crate) fn epsilon(mut self, epsilon: f64) -> Self {
        self.0.epsilon = epsilon;
        self
    }

    /// The configuration.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] names the first option whose value is out of its range.
    pub fn build(self) -> Result<Config, Error> {
        let config = self.0;
        let refuse = |option, reason: String| Err(Error::InvalidConfig { option, reason });
        if !(1..=MAX_DIMENSIONS).contains(&config.dimensions) {
            return refuse("dimensions", format!("{}: 1 to {MAX_DIMENSIONS}", config.dimensions));
        }
        config.scoring.check()?;
        config.decay.check()?;
        if let Some(dedup) = config.dedup
            && !(-1.0..=1.0).contains(&dedup.threshold)
        {
            return refuse("dedup", format!("a threshold of {}: -1 to 1", dedup.threshold));
        }
        if config.capacity.max_memories == 0 {
            return refuse("capacity", "0 memories: at least 1".to_owned());
        }
        if let Some(normalizer) = &config.normalizer
            && normalizer.dimensions() != config.dimensions
        {
            let reason = format!("it has {} dimensions, the store {}", normalizer.dimensions(), config.dimensions);
            return refuse("normalizer", reason);
        }
        if config.query_threads > 256 {
            return refuse("query_threads", format!("{}: at most 256", config.query_threads));
        }
        Ok(config)
    }
}
