//! A query's answer is the head of all scores sorted, whatever the data.

mod oracle;

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;

use memory_store::{Config, ConfigBuilder, Dedup, ManualClock, Memory, MemoryStore, Query, RetentionClass};
use memory_store::{Scoring, Timestamp, Weights};
use oracle::{RATES, Row, assert_best, rank};
use proptest::prelude::*;

/// How vectors lie.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// In all directions alike.
    Random,
    /// Around a few centres.
    Clustered,
    /// A few components at a time.
    Sparse,
    /// Lengths from 1e-30 to 1e30.
    WildNorms,
    /// Only a handful of different memories, so that many scores are equal to the last bit.
    Equal,
}

struct Data {
    rng: fastrand::Rng,
    shape: Shape,
    dimensions: usize,
    centres: Vec<Vec<f32>>,
}

impl Data {
    fn new(seed: u64, shape: Shape, dimensions: usize) -> Self {
        let mut data = Self { rng: fastrand::Rng::with_seed(seed), shape, dimensions, centres: Vec::new() };
        data.centres = (0..7).map(|_| data.direction()).collect();
        data
    }

    fn direction(&mut self) -> Vec<f32> {
        let mut normal = || (0..6).map(|_| self.rng.f32() - 0.5).sum::<f32>();
        (0..self.dimensions).map(|_| normal()).collect()
    }

    fn vector(&mut self) -> Vec<f32> {
        let centre = self.centres[self.rng.usize(..7)].clone();
        let mut vector = match self.shape {
            Shape::Random => self.direction(),
            Shape::Clustered => {
                let spread = self.rng.f32() * 0.8;
                centre.iter().zip(self.direction()).map(|(c, d)| c + spread * d).collect()
            }
            Shape::Sparse => {
                let mut vector = vec![0.0; self.dimensions];
                for _ in 0..3 {
                    vector[self.rng.usize(..self.dimensions)] = self.rng.f32() * 2.0 - 1.0;
                }
                vector
            }
            Shape::WildNorms => {
                let length = 10f32.powf(self.rng.f32() * 60.0 - 30.0);
                self.direction().into_iter().map(|x| x * length).collect()
            }
            Shape::Equal => centre,
        };
        if vector.iter().all(|&x| x == 0.0) {
            vector[0] = 1.0;
        }
        vector
    }
}

const YEARS: f64 = 3.0 * 365.0 * 24.0;

fn fill<F: Fn(ConfigBuilder) -> ConfigBuilder>(
    data: &mut Data,
    rows: usize,
    configure: F,
) -> (MemoryStore<(), ManualClock>, Vec<Row>) {
    let dedup = Dedup { threshold: 0.99, ..Dedup::default() };
    let config = configure(Config::builder(data.dimensions).dedup(dedup)).build().expect("a configuration");
    let store = MemoryStore::with_clock(config, ManualClock::default()).expect("a store");
    let mut all: Vec<Row> = Vec::new();
    for _ in 0..rows {
        let vector = data.vector();
        // Mostly one after the other, with some from long before.
        let is_equal = matches!(data.shape, Shape::Equal);
        let hours = if is_equal { [0.1, 0.4, 0.7][data.rng.usize(..3)] } else { data.rng.f64() } * YEARS;
        let seen = Timestamp::from_hours(hours);
        let class = RetentionClass::ALL[data.rng.usize(..4)];
        let importance = if is_equal { 0.5 } else { data.rng.f32() };
        let memory = Memory::new(&vector, ()).at(seen).class(class).importance(importance);
        let id = store.write(memory.distinct()).expect("written").id();
        let mut weight = 1.0;
        if !is_equal && data.rng.usize(..10) == 0 {
            store.boost(id, 7.5).expect("boosted");
            weight = 7.5;
        }
        let row = Row { id: id.0, vector, first_seen: seen, seen, recurrence: 1, importance, weight, class };
        all.push(row.clone());
        // Some are seen again, or what is as close to them.
        for _ in 0..if is_equal || data.rng.usize(..20) > 0 { 0 } else { data.rng.usize(1..6) } {
            let later = Timestamp::from_hours(data.rng.f64() * YEARS);
            let memory = Memory::new(&row.vector, ()).at(later).class(RetentionClass::Low).importance(0.0);
            let written = store.write(memory).expect("written");
            assert!(written.is_merged());
            let merged = &mut all[written.id().0 as usize - 1];
            (merged.recurrence, merged.seen) = (merged.recurrence + 1, merged.seen.max(later));
        }
    }
    (store, all)
}

fn scorings() -> [Scoring; 5] {
    let original = Weights { importance: 0.0, feedback: 0.0, ..Weights::default() };
    let temporal = Weights { similarity: 0.05, temporal: 2.0, ..Weights::default() };
    [
        Scoring::default(),
        Scoring::Additive(original),
        Scoring::Additive(temporal),
        Scoring::Multiplicative(Weights::default()),
        Scoring::Additive(Weights { similarity: 0.0, ..Weights::default() }),
    ]
}

fn check(seed: u64, shape: Shape, dimensions: usize, rows: usize, k: usize, scoring: Scoring, threads: usize) {
    let mut data = Data::new(seed, shape, dimensions);
    let rates = [3.0, 0.1, 0.01, 0.1];
    let threads = NonZeroUsize::new(threads).expect("a thread");
    let configure = |config: ConfigBuilder| config.scoring(scoring).decay(oracle::table(&rates)).query_threads(threads);
    let (store, all) = fill(&mut data, rows, configure);
    for instant in 0..50 {
        let now = Timestamp::from_hours(YEARS * f64::from(instant) / 49.0);
        let query = data.vector();
        let present: Vec<Row> = all.iter().filter(|row| row.first_seen <= now).cloned().collect();
        let ranked = rank(&present, &query, now, &scoring, &rates);
        let found = store.retrieve(&Query::new(&query, k).at(now)).expect("an answer");
        let found: Vec<(f64, u64)> = found.hits.iter().map(|hit| (hit.score, hit.id.0)).collect();
        assert_best(&found, &ranked, k);
        if matches!(shape, Shape::Equal) {
            ties_go_by_id(&found, &present);
        }
    }
}

/// Of memories that are equal in all that counts, the lowest ids are found, in ascending order.
fn ties_go_by_id(found: &[(f64, u64)], present: &[Row]) {
    let key = |row: &Row| (row.vector.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), row.seen, row.class as u8);
    let mut equals: HashMap<_, VecDeque<u64>> = HashMap::new();
    for row in present {
        equals.entry(key(row)).or_default().push_back(row.id);
    }
    for (_, id) in found {
        let row = present.iter().find(|row| row.id == *id).expect("a memory that there is");
        let first = equals.get_mut(&key(row)).and_then(VecDeque::pop_front);
        assert_eq!(Some(*id), first, "the first of its equals");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// For 50 moments over three years the answer is the head of all scores sorted. Up to 8 segments, on one thread or two.
    #[test]
    fn answers_are_those_of_brute_force(
        seed: u64, shape in 0..5usize, dimensions in 1..200usize, rows in prop_oneof![1..900usize, 1_000..4_000usize], k in 1..40usize, scoring in 0..5usize, threads in 1..3usize,
    ) {
        let shape = [Shape::Random, Shape::Clustered, Shape::Sparse, Shape::WildNorms, Shape::Equal][shape];
        check(seed, shape, dimensions, rows, k, scorings()[scoring], threads);
    }
}

/// What a list of similar memories misses: old ones that were seen a thousand times, fresh ones that are hardly alike.
#[test]
fn old_but_frequent_and_fresh_but_dissimilar_memories_are_ranked_exactly() {
    const DIMENSIONS: usize = 64;
    const MEMORIES: usize = 3_000;
    let mut data = Data::new(77, Shape::Clustered, DIMENSIONS);
    let dedup = Dedup { threshold: 0.999_999, ..Dedup::default() };
    let config = Config::builder(DIMENSIONS).dedup(dedup).build().expect("a configuration");
    let now = Timestamp::from_hours(1_000.0);
    let store = MemoryStore::with_clock(config, ManualClock::new(now)).expect("a store");
    let mut all = Vec::new();
    for i in 0..MEMORIES {
        let (vector, times, hours) = match i % 100 {
            // Seen a thousand times, long ago.
            0 => (data.direction(), 1_000, 10.0),
            // Seen just now, in any direction.
            1 => (data.direction(), 1, 999.9),
            _ => (data.vector(), 1, data.rng.f64() * 900.0),
        };
        let seen = Timestamp::from_hours(hours);
        let written = (0..times).map(|_| store.write(Memory::new(&vector, ()).at(seen)).expect("written").id());
        let id = written.fold(0, |_, id| id.0);
        // A few are so close to a centre that they are the same.
        if let Some(same) = all.iter_mut().find(|row: &&mut Row| row.id == id) {
            same.recurrence += times;
            same.seen = same.seen.max(seen);
            continue;
        }
        let (importance, weight, class) = (0.5, 1.0, RetentionClass::Medium);
        all.push(Row { id, vector, first_seen: seen, seen, recurrence: times, importance, weight, class });
    }
    assert!(store.len() == all.len() && all.len() > MEMORIES - 50);
    let mut far = 0;
    for _ in 0..40 {
        let query = data.vector();
        let ranked = rank(&all, &query, now, &Scoring::default(), &RATES);
        let hits = store.retrieve(&Query::new(&query, 10)).expect("an answer").hits;
        let found: Vec<(f64, u64)> = hits.iter().map(|hit| (hit.score, hit.id.0)).collect();
        assert_best(&found, &ranked, 10);
        let mut cosines: Vec<f64> = all.iter().map(|row| oracle::cosine(&query, &row.vector)).collect();
        cosines.sort_by(|a, b| b.total_cmp(a));
        far += hits.iter().filter(|hit| cosines[1_000] > hit.parts.similarity).count();
    }
    assert!(far > 10, "{far} of the best are past the thousandth by similarity");
}
