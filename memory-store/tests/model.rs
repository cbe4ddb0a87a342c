//! Random operations on a store beside a list that does the same the slow way.

mod oracle;

use std::time::Duration;

use memory_store::{
    Capacity, Config, CriticalFull, Dedup, Error, ManualClock, MatchPick, Memory, MemoryId, MemoryStore, MergePolicy,
    Prune, Query, Recency, RetentionClass, Scoring, Timestamp, Update, Written,
};
use oracle::{CLOSE, assert_best, cosine, rank};

const DIMENSIONS: usize = 12;

#[derive(Debug, Clone)]
struct Kept {
    row: oracle::Row,
    last_seen: Timestamp,
    pinned: bool,
    payload: u64,
    payload_bytes: u32,
    incident: Option<&'static str>,
}

#[derive(Debug, PartialEq)]
enum Refused {
    Full,
    TooLarge,
}

/// The list, and what it is set to.
struct Model {
    kept: Vec<Kept>,
    next_id: u64,
    config: Settings,
    evicted: usize,
    evicted_recurrences: u64,
    newest: Timestamp,
}

#[derive(Debug, Clone)]
struct Settings {
    dedup: Option<Dedup>,
    recency: Recency,
    capacity: usize,
    max_bytes: Option<u64>,
    /// Bytes of a memory without its payload.
    row_bytes: u64,
    full: CriticalFull,
    rates: [f64; 4],
    scoring: Scoring,
}

impl Model {
    fn is_protected(kept: &Kept) -> bool {
        kept.pinned || kept.row.class == RetentionClass::Critical
    }

    fn bytes(&self) -> u64 {
        self.kept.iter().map(|kept| self.bytes_of(kept.payload_bytes)).sum()
    }

    fn bytes_of(&self, payload: u32) -> u64 {
        self.config.row_bytes + u64::from(payload)
    }

    /// Whether room can be made for a memory that takes so many bytes, the one of `id` or a new one.
    fn check_room(&self, id: Option<u64>, payload: u32, class: RetentionClass) -> Result<(), Refused> {
        let most = self.config.max_bytes.unwrap_or(u64::MAX);
        if self.bytes_of(payload) > most {
            return Err(Refused::TooLarge);
        }
        if class == RetentionClass::Critical && self.config.full == CriticalFull::Grow {
            return Ok(());
        }
        let others = self.kept.iter().filter(|kept| Self::is_protected(kept) && Some(kept.row.id) != id);
        let (count, bytes) =
            others.fold((0, 0), |(count, bytes), kept| (count + 1, bytes + self.bytes_of(kept.payload_bytes)));
        let is_full = id.is_none() && count >= self.config.capacity || bytes + self.bytes_of(payload) > most;
        if is_full { Err(Refused::Full) } else { Ok(()) }
    }

    /// Evicts the lowest until `is_enough`, or nothing may go. Ages count from the latest moment that was ever seen.
    fn evict_until(&mut self, is_enough: impl Fn(&Self) -> bool) {
        while !is_enough(self) && self.kept.iter().any(|kept| !Self::is_protected(kept)) {
            let candidates = self.kept.iter().enumerate().filter(|(_, kept)| !Self::is_protected(kept));
            let (index, _) = candidates
                .min_by(|a, b| {
                    self.effective(a.1, self.newest)
                        .total_cmp(&self.effective(b.1, self.newest))
                        .then(a.1.row.id.cmp(&b.1.row.id))
                })
                .expect("something to evict");
            self.evicted += 1;
            self.evicted_recurrences += u64::from(self.kept[index].row.recurrence);
            self.kept.remove(index);
        }
    }

    fn evict_bytes(&mut self, more: u64) {
        let most = self.config.max_bytes.unwrap_or(u64::MAX);
        self.evict_until(|model| model.bytes() + more <= most);
    }

    fn effective(&self, kept: &Kept, now: Timestamp) -> f64 {
        let base = f64::from(kept.row.importance)
            * f64::from(kept.row.weight)
            * self.config.scoring.recurrence(kept.row.recurrence);
        base * oracle::left(self.config.rates[kept.row.class as usize], kept.row.seen, now)
    }

    /// The match of a vector. Of those whose similarities differ only as sums in another order do, the one that the
    /// store `took`; but equal vectors are equal, and there the lowest id is right.
    fn find_match(&self, vector: &[f32], dedup: Dedup, took: MemoryId) -> Option<(usize, f64)> {
        let all = self.kept.iter().enumerate().map(|(at, kept)| (at, cosine(vector, &kept.row.vector)));
        let matching: Vec<_> = all.filter(|(_, similarity)| *similarity > dedup.threshold).collect();
        let id = |at: usize| self.kept[at].row.id;
        if dedup.pick == MatchPick::First {
            return matching.into_iter().min_by_key(|&(at, _)| id(at));
        }
        let best = matching.iter().map(|&(_, similarity)| similarity).max_by(f64::total_cmp)?;
        let as_good = || matching.iter().filter(|(_, similarity)| best - similarity < CLOSE);
        let taken = as_good().find(|&&(at, _)| id(at) == took.0);
        let (taken, _) = *taken.or_else(|| as_good().min_by_key(|&&(at, _)| id(at)))?;
        let equal = as_good().filter(|&&(at, _)| self.kept[at].row.vector == self.kept[taken].row.vector);
        equal.copied().min_by_key(|&(at, _)| id(at))
    }

    fn write(
        &mut self,
        vector: &[f32],
        (payload, payload_bytes): (u64, u32),
        at: Timestamp,
        (class, importance): (RetentionClass, f32),
        incident: Option<&'static str>,
        took: MemoryId,
    ) -> Result<Written, Refused> {
        let found = self.config.dedup.and_then(|dedup| Some((self.find_match(vector, dedup, took)?, dedup)));
        if let Some(((index, similarity), dedup)) = found {
            if dedup.merge != MergePolicy::KeepFirst {
                let kept = &self.kept[index];
                self.check_room(Some(kept.row.id), payload_bytes, class.max(kept.row.class))?;
            }
            let first_seen_counts = self.config.recency == Recency::FirstSeen;
            let kept = &mut self.kept[index];
            kept.last_seen = kept.last_seen.max(at);
            if !first_seen_counts {
                kept.row.seen = kept.last_seen;
            }
            match dedup.merge {
                MergePolicy::KeepFirst => {}
                MergePolicy::KeepLatest => {
                    kept.row.vector = vector.to_vec();
                    (kept.payload, kept.payload_bytes) = (payload, payload_bytes);
                }
                MergePolicy::RunningMean => {
                    let norm = |v: &[f32]| v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
                    let (a, b, n) = (norm(&kept.row.vector), norm(vector), f64::from(kept.row.recurrence));
                    let mean = kept.row.vector.iter().zip(vector);
                    kept.row.vector =
                        mean.map(|(&x, &y)| ((f64::from(x) / a * n + f64::from(y) / b) / (n + 1.0)) as f32).collect();
                    (kept.payload, kept.payload_bytes) = (payload, payload_bytes);
                }
            }
            self.newest = self.newest.max(kept.row.seen);
            kept.row.recurrence += 1;
            kept.row.class = kept.row.class.max(class);
            kept.row.importance = kept.row.importance.max(importance);
            kept.incident = kept.incident.or(incident);
            let (id, recurrence) = (MemoryId(kept.row.id), kept.row.recurrence);
            if dedup.merge != MergePolicy::KeepFirst {
                self.evict_bytes(0);
            }
            return Ok(Written::Merged { id, recurrence, similarity });
        }
        self.check_room(None, payload_bytes, class)?;
        self.newest = self.newest.max(at);
        self.evict_until(|model| model.kept.len() < model.config.capacity);
        self.evict_bytes(self.bytes_of(payload_bytes));
        let id = self.next_id;
        self.next_id += 1;
        let row = oracle::Row {
            id,
            vector: vector.to_vec(),
            first_seen: at,
            seen: at,
            recurrence: 1,
            importance,
            weight: 1.0,
            class,
        };
        self.kept.push(Kept { row, last_seen: at, pinned: false, payload, payload_bytes, incident });
        Ok(Written::Inserted(MemoryId(id)))
    }

    fn get(&mut self, id: u64) -> Option<&mut Kept> {
        self.kept.iter_mut().find(|kept| kept.row.id == id)
    }
}

fn vector(rng: &mut fastrand::Rng, centres: &[Vec<f32>]) -> Vec<f32> {
    let spread = [0.0, 0.05, 0.4, 2.0][rng.usize(..4)];
    let centre = &centres[rng.usize(..centres.len())];
    centre.iter().map(|x| x + spread * (rng.f32() - 0.5)).collect()
}

/// Nothing, something, or more than some stores hold.
fn payload_bytes(rng: &mut fastrand::Rng) -> u32 {
    match rng.usize(..20) {
        0 => rng.u32(..5_000),
        1..8 => rng.u32(..300),
        _ => 0,
    }
}

const INCIDENTS: [&str; 3] = ["storm", "outage", "drift"];

/// Bytes of a memory without its payload, as the capacity counts.
fn row_bytes() -> u64 {
    let store = MemoryStore::new(Config::builder(DIMENSIONS).build().expect("a configuration")).expect("a store");
    store.write(Memory::new(&[1.0; DIMENSIONS], 0_u64)).expect("written");
    store.stats().bytes
}

fn run(seed: u64, operations: usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let dedup = Dedup {
        threshold: [0.85, 0.97, 0.5][rng.usize(..3)],
        pick: [MatchPick::Best, MatchPick::First][rng.usize(..2)],
        merge: [MergePolicy::KeepFirst, MergePolicy::KeepLatest, MergePolicy::RunningMean][rng.usize(..3)],
    };
    // Where all classes fade alike, ranks of eviction compare across classes by the digits of the same sums.
    let rates = if rng.bool() { oracle::RATES } else { [0.5, 0.1, 0.02, 0.1] };
    let row_bytes = row_bytes();
    let settings = Settings {
        dedup: (rng.usize(..4) > 0).then_some(dedup),
        recency: [Recency::FirstSeen, Recency::LastSeen, Recency::LastAccessed][rng.usize(..3)],
        capacity: [3, 40, 300, 100_000][rng.usize(..4)],
        max_bytes: [None, None, Some(3 * row_bytes + 500), Some(40 * row_bytes), Some(200 * row_bytes)][rng.usize(..5)],
        row_bytes,
        full: [CriticalFull::Reject, CriticalFull::Grow][rng.usize(..2)],
        rates,
        scoring: Scoring::default(),
    };
    let config = Config::builder(DIMENSIONS)
        .dedup(settings.dedup)
        .recency(settings.recency)
        .decay(oracle::table(&rates))
        .capacity(Capacity {
            max_memories: settings.capacity,
            max_bytes: settings.max_bytes,
            on_critical_full: settings.full,
        })
        .build()
        .expect("a configuration");
    let clock = ManualClock::default();
    let store = MemoryStore::with_clock(config, clock.clone()).expect("a store");
    let mut model = Model {
        kept: Vec::new(),
        next_id: 1,
        config: settings.clone(),
        evicted: 0,
        evicted_recurrences: 0,
        newest: Timestamp::MIN,
    };
    let centres: Vec<Vec<f32>> = (0..12).map(|_| (0..DIMENSIONS).map(|_| rng.f32() - 0.5).collect()).collect();
    // So that nothing is told from before the clock began; in some runs since today.
    clock.advance(Duration::from_secs([1_000_000, 1_800_000_000][rng.usize(..2)]));
    let (mut acknowledged, mut removed) = (0, 0);
    for operation in 0..operations {
        clock.advance(Duration::from_secs(rng.u64(1..3600)));
        let now = memory_store::Clock::now(&clock);
        let some_id = MemoryId(rng.u64(1..model.next_id + 2));
        match rng.usize(..20) {
            0..11 => {
                let vector = vector(&mut rng, &centres);
                let class = RetentionClass::ALL[[0, 1, 2, 2, 1, 0, 1, 3][rng.usize(..8)]];
                let importance = rng.f32();
                let incident = (rng.usize(..5) == 0).then(|| INCIDENTS[rng.usize(..3)]);
                let (payload, payload_bytes) = (rng.u64(..), payload_bytes(&mut rng));
                // Some are told late.
                let late = if rng.usize(..8) == 0 { Duration::from_secs(rng.u64(..900_000)) } else { Duration::ZERO };
                let seen = now.before(late);
                let mut memory = Memory::new(&vector, payload).at(seen).class(class).importance(importance);
                memory = memory.payload_bytes(payload_bytes);
                if let Some(incident) = incident {
                    memory = memory.incident(incident);
                }
                let ours = store.write(memory);
                let took = ours.as_ref().map_or(MemoryId(0), Written::id);
                let theirs = model.write(&vector, (payload, payload_bytes), seen, (class, importance), incident, took);
                match (ours, theirs) {
                    (Ok(ours), Ok(theirs)) => {
                        acknowledged += 1;
                        assert_eq!(ours.id(), theirs.id(), "seed {seed}, operation {operation}: {ours:?} {theirs:?}");
                        if let (
                            Written::Merged { recurrence: a, similarity: x, .. },
                            Written::Merged { recurrence: b, similarity: y, .. },
                        ) = (ours, theirs)
                        {
                            assert!(a == b && (x - y).abs() < CLOSE);
                        }
                        assert_eq!(ours.is_merged(), theirs.is_merged());
                    }
                    (Err(Error::CapacityExhausted { .. }), Err(Refused::Full))
                    | (Err(Error::TooLarge { .. }), Err(Refused::TooLarge)) => {}
                    (ours, theirs) => panic!("seed {seed}, operation {operation}: {ours:?} {theirs:?}"),
                }
            }
            11 => {
                let (vector, importance) = (vector(&mut rng, &centres), rng.f32());
                let (payload, class) = (rng.u64(..), RetentionClass::ALL[rng.usize(..4)]);
                let (with_vector, with_payload, bytes) = (rng.bool(), rng.bool(), payload_bytes(&mut rng));
                let incident = rng.bool().then(|| INCIDENTS[rng.usize(..3)]);
                let mut update = Update::new().importance(importance).class(class);
                if with_vector {
                    update = update.vector(&vector);
                }
                if let Some(incident) = incident {
                    update = update.incident(incident);
                }
                if with_payload {
                    update = update.payload(payload, bytes);
                }
                let ours = store.update(some_id, update);
                let kept_bytes = model.get(some_id.0).map(|kept| if with_payload { bytes } else { kept.payload_bytes });
                let revises = with_vector || with_payload;
                let refused = kept_bytes
                    .filter(|_| revises)
                    .and_then(|bytes| model.check_room(Some(some_id.0), bytes, class).err());
                match (ours, refused) {
                    (Ok(was_there), None) => {
                        assert_eq!(was_there, kept_bytes.is_some());
                        if let Some(kept) = model.get(some_id.0) {
                            (kept.row.importance, kept.row.class) = (importance, class);
                            kept.incident = incident.or(kept.incident);
                            if with_vector {
                                kept.row.vector = vector;
                            }
                            if with_payload {
                                (kept.payload, kept.payload_bytes) = (payload, bytes);
                            }
                            if revises {
                                model.evict_bytes(0);
                            }
                        }
                    }
                    (Err(Error::CapacityExhausted { .. }), Some(Refused::Full))
                    | (Err(Error::TooLarge { .. }), Some(Refused::TooLarge)) => {}
                    (ours, refused) => panic!("seed {seed}, operation {operation}: {ours:?} {refused:?}"),
                }
            }
            12 => {
                assert_eq!(store.remove(some_id).expect("removed"), model.get(some_id.0).is_some());
                if let Some(kept) = model.get(some_id.0) {
                    removed += u64::from(kept.row.recurrence);
                }
                model.kept.retain(|kept| kept.row.id != some_id.0);
            }
            13 => {
                let pins = rng.bool();
                let was_there = if pins { store.pin(some_id) } else { store.unpin(some_id) };
                assert_eq!(was_there.expect("pinned"), model.get(some_id.0).is_some());
                if let Some(kept) = model.get(some_id.0) {
                    kept.pinned = pins;
                }
            }
            14 => {
                let boosts = rng.bool();
                let factor = if boosts { 1.0 + rng.f32() * 9.0 } else { 0.1 + rng.f32() * 0.9 };
                let was_there = if boosts { store.boost(some_id, factor) } else { store.suppress(some_id, factor) };
                assert_eq!(was_there.expect("a good factor"), model.get(some_id.0).is_some());
                if let Some(kept) = model.get(some_id.0) {
                    kept.row.weight = (kept.row.weight * factor).clamp(1e-6, 1e6);
                }
            }
            15 if rng.usize(..10) == 0 => {
                let age = Duration::from_secs(rng.u64(..400 * 3600));
                let keep_critical = rng.usize(..4) > 0;
                let dry = rng.bool();
                let mut prune = Prune::new().older_than(age).keep_critical(keep_critical);
                if dry {
                    prune = prune.dry_run();
                }
                let report = store.prune(prune).expect("a prune");
                let goes = |kept: &Kept| {
                    let is_old = now.0 - kept.row.seen.0 >= i64::try_from(age.as_micros()).expect("hours");
                    is_old && !kept.pinned && !(keep_critical && kept.row.class == RetentionClass::Critical)
                };
                assert_eq!(report.removed, model.kept.iter().filter(|kept| goes(kept)).count());
                if !dry {
                    removed += report.recurrences;
                    model.kept.retain(|kept| !goes(kept));
                }
            }
            16 if rng.usize(..8) == 0 => {
                let score = rng.f64() * 0.02;
                let goes =
                    |model: &Model, kept: &Kept| model.effective(kept, now) < score && !Model::is_protected(kept);
                let report = store.prune(Prune::new().below(score)).expect("a prune");
                let leaving: Vec<u64> =
                    model.kept.iter().filter(|kept| goes(&model, kept)).map(|kept| kept.row.id).collect();
                assert_eq!(report.removed, leaving.len());
                removed += report.recurrences;
                model.kept.retain(|kept| !leaving.contains(&kept.row.id));
            }
            17 if rng.usize(..30) == 0 => store.compact().expect("compacted"),
            _ => {
                let query = vector(&mut rng, &centres);
                let rows: Vec<oracle::Row> = model.kept.iter().map(|kept| kept.row.clone()).collect();
                let k = rng.usize(1..30);
                let found = store.retrieve(&Query::new(&query, k).touch()).expect("an answer").hits;
                let ranked = rank(&rows, &query, now, &settings.scoring, &rates);
                let pairs: Vec<(f64, u64)> = found.iter().map(|hit| (hit.score, hit.id.0)).collect();
                assert_best(&pairs, &ranked, k);
                for hit in &found {
                    let kept = model.get(hit.id.0).expect("a memory that there is");
                    assert_eq!(
                        (*hit.payload, hit.recurrence, hit.class),
                        (kept.payload, kept.row.recurrence, kept.row.class)
                    );
                    if settings.recency == Recency::LastAccessed {
                        kept.last_seen = now;
                        kept.row.seen = now;
                        model.newest = model.newest.max(now);
                    }
                }
            }
        }
        if operation % 64 == 0 || operation + 1 == operations {
            compare(&store, &mut model, seed, operation);
            let stats = store.stats();
            let expected: u64 = model.kept.iter().map(|kept| u64::from(kept.row.recurrence)).sum();
            assert_eq!(stats.recurrences, expected);
            assert_eq!(stats.recurrences, acknowledged - stats.evicted_recurrences - removed, "nothing is lost");
            assert_eq!((stats.bytes, stats.evicted as usize), (model.bytes(), model.evicted));
            assert_eq!(stats.evicted_recurrences, model.evicted_recurrences);
        }
    }
}

fn compare(store: &MemoryStore<u64, ManualClock>, model: &mut Model, seed: u64, operation: usize) {
    let all = store.replay(..).expect("a range");
    assert_eq!(all.len(), model.kept.len(), "seed {seed}, operation {operation}");
    assert_eq!(store.len(), all.len());
    for ours in all {
        let by_id = store.get(ours.id).expect("a memory that there is");
        let kept = model.get(ours.id.0).expect("a memory that there is");
        assert_eq!((by_id.recurrence, *by_id.payload), (ours.recurrence, *ours.payload));
        assert_eq!((ours.first_seen, ours.last_seen), (kept.row.first_seen, kept.last_seen));
        assert_eq!((ours.class, ours.pinned, *ours.payload), (kept.row.class, kept.pinned, kept.payload));
        assert_eq!((ours.importance, ours.weight), (kept.row.importance, kept.row.weight));
        assert_eq!(ours.incident.as_deref(), kept.incident);
        assert_eq!(store.vector(ours.id).as_ref(), Some(&kept.row.vector));
    }
    for name in INCIDENTS {
        let of_name = model.kept.iter().filter(|kept| kept.incident == Some(name));
        let mut times: Vec<(Timestamp, u64)> = of_name.map(|kept| (kept.row.first_seen, kept.row.id)).collect();
        times.sort_unstable();
        let ids: Vec<u64> = times.into_iter().map(|(_, id)| id).collect();
        let ours = store.incident(name).map(|incident| incident.timeline.iter().map(|m| m.id.0).collect::<Vec<_>>());
        assert_eq!(ours.unwrap_or_default(), ids);
    }
}

/// `SEQUENCES=10000` is the full count.
#[test]
fn random_operations_do_what_a_list_does() {
    let sequences: u64 = std::env::var("SEQUENCES").map_or(100, |text| text.parse().expect("a number"));
    let only: Option<u64> = std::env::var("SEED").ok().map(|text| text.parse().expect("a number"));
    for seed in 0..sequences {
        run(only.unwrap_or(seed), 1_000);
    }
}
