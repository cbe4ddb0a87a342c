//! What the original does wrong, by its numbers in the README: each test shows that ours differs.

use std::time::Duration;

use memory_store::{
    Capacity, Config, CriticalFull, DecayTable, Dedup, Error, ManualClock, Memory, MemoryId, MemoryStore, MergePolicy,
    Normalizer, Prune, Query, Recency, RetentionClass, Scoring, Timestamp, Update, Written, compat,
};

fn hours(hours: f64) -> Timestamp {
    Timestamp::from_hours(hours)
}

const DAY: Duration = Duration::from_secs(24 * 3600);

fn store(dimensions: usize) -> (MemoryStore<String, ManualClock>, ManualClock) {
    let clock = ManualClock::default();
    let config = Config::builder(dimensions).build().unwrap();
    (MemoryStore::with_clock(config, clock.clone()).unwrap(), clock)
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[test]
fn d1_a_critical_write_makes_the_memory_critical_that_it_is_merged_into() {
    let (store, clock) = store(2);
    let id = store.write(Memory::new(&[1.0, 0.0], text("low")).class(RetentionClass::Low)).unwrap().id();
    assert!(store.write(Memory::new(&[1.0, 0.01], text("critical")).critical()).unwrap().is_merged());
    assert_eq!(store.get(id).unwrap().class, RetentionClass::Critical);
    clock.advance(100 * DAY);
    assert_eq!(store.prune(Prune::new().older_than(DAY)).unwrap().removed, 0);
    // And no later write takes that back.
    store.write(Memory::new(&[1.0, 0.0], text("low")).class(RetentionClass::Low)).unwrap();
    assert_eq!(store.get(id).unwrap().class, RetentionClass::Critical);
}

#[test]
fn d2_what_recurs_stays_young() {
    let (store, clock) = store(2);
    let id = store.write(Memory::new(&[1.0, 0.0], text("fault"))).unwrap().id();
    for _ in 0..48 {
        clock.advance(Duration::from_secs(3600));
        assert!(store.write(Memory::new(&[1.0, 0.0], text("fault"))).unwrap().is_merged());
    }
    assert_eq!(store.prune(Prune::new().older_than(DAY)).unwrap().removed, 0);
    let hit = &store.retrieve(&Query::new(&[1.0, 0.0], 1)).unwrap().hits[0];
    assert_eq!((hit.parts.temporal, hit.recurrence, hit.first_seen), (1.0, 49, hours(0.0)));
    // The original's way is there for those who want it.
    let first = MemoryStore::with_clock(compat::astraguard(2).build().unwrap(), clock.clone()).unwrap();
    first.write(Memory::new(&[1.0, 0.0], ()).at(hours(0.0))).unwrap();
    first.write(Memory::new(&[1.0, 0.0], ()).at(hours(48.0))).unwrap();
    assert_eq!(first.prune(Prune::new().older_than(DAY)).unwrap().removed, 1);
    assert!(first.get(MemoryId(1)).is_none() && store.get(id).is_some());
}

#[test]
fn d3_a_store_of_young_memories_holds_no_more_than_its_capacity() {
    let config = Config::builder(8).dedup(None).max_memories(100).build().unwrap();
    let store = MemoryStore::with_clock(config, ManualClock::default()).unwrap();
    for i in 0..1_000u32 {
        let vector: Vec<f32> = (0..8).map(|j| ((i * 7 + j * 13) % 31) as f32 - 15.0).collect();
        store.write(Memory::new(&vector, ())).unwrap();
        assert!(store.len() <= 100);
    }
    assert_eq!((store.len(), store.stats().evicted), (100, 900));
}

#[test]
fn d4_writers_at_once_lose_no_update_and_make_no_duplicate() {
    let (store, _) = store(3);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..250 {
                    store.write(Memory::new(&[0.1, 0.2, 0.3], text("same"))).unwrap();
                }
            });
        }
    });
    assert_eq!(store.len(), 1);
    assert_eq!(store.get(MemoryId(1)).unwrap().recurrence, 1_000);
}

#[test]
fn d5_the_best_match_wins_not_the_first() {
    let (store, _) = store(2);
    let a = store.write(Memory::new(&[1.0, 0.0], text("a"))).unwrap().id();
    let b = store.write(Memory::new(&[0.6, 0.8], text("b"))).unwrap().id();
    let between = [0.88, 0.475]; // cosine 0.88 with a, 0.908 with b
    assert_eq!(store.write(Memory::new(&between, text("c"))).unwrap().id(), b);
    let original = MemoryStore::with_clock(compat::astraguard(2).build().unwrap(), ManualClock::default()).unwrap();
    for vector in [[1.0, 0.0], [0.6, 0.8], between] {
        original.write(Memory::new(&vector, ())).unwrap();
    }
    assert_eq!(original.get(a).unwrap().recurrence, 2);
}

#[test]
fn d6_a_payload_belongs_to_the_store_and_a_merged_one_need_not_be_thrown_away() {
    let clock = ManualClock::default();
    let latest = Dedup { merge: MergePolicy::KeepLatest, ..Dedup::default() };
    let config = Config::builder(2).dedup(latest).build().unwrap();
    let store = MemoryStore::with_clock(config, clock).unwrap();
    let mut payload = text("first");
    let id = store.write(Memory::new(&[1.0, 0.0], payload.clone())).unwrap().id();
    payload.push_str(" changed by its owner");
    assert_eq!(*store.get(id).unwrap().payload, "first");
    store.write(Memory::new(&[1.0, 0.0], text("second"))).unwrap();
    assert_eq!(*store.get(id).unwrap().payload, "second");
}

#[test]
fn d7_importance_counts_in_a_query() {
    let (store, _) = store(2);
    store.write(Memory::new(&[0.0, 1.0], text("minor")).importance(0.1)).unwrap();
    let major = store.write(Memory::new(&[0.0, -1.0], text("major")).importance(1.0)).unwrap().id();
    // Both are at a right angle to the query.
    assert_eq!(store.retrieve(&Query::new(&[1.0, 0.0], 1)).unwrap().hits[0].id, major);
}

#[test]
fn d8_the_formula_is_the_one_that_the_documentation_of_scoring_gives() {
    let (store, clock) = store(2);
    store.write(Memory::new(&[0.6, 0.8], text("x")).importance(0.7)).unwrap();
    store.boost(MemoryId(1), 3.0).unwrap();
    clock.advance(Duration::from_secs(5 * 3600));
    let hit = &store.retrieve(&Query::new(&[1.0, 0.0], 1)).unwrap().hits[0];
    let expected = 0.5 * f64::from(0.6f32) / (f64::from(0.6f32).powi(2) + f64::from(0.8f32).powi(2)).sqrt()
        + 0.3 * (-0.5f64).exp()
        + 0.2 * (1.0 + 0.3 * 2f64.ln())
        + 0.1 * f64::from(0.7f32)
        + 0.1 * 3f64.ln();
    assert!((hit.score - expected).abs() < 1e-12);
    let Scoring::Additive(weights) = store.config().scoring() else { panic!("the default") };
    assert_eq!((weights.similarity, weights.temporal, weights.recurrence), (0.5, 0.3, 0.2));
}

#[test]
fn d9_a_score_comes_with_its_parts() {
    let (store, _) = store(2);
    let id = store.write(Memory::new(&[1.0, 0.0], text("x"))).unwrap().id();
    for _ in 1..1000 {
        store.write(Memory::new(&[1.0, 0.0], text("x"))).unwrap();
    }
    let hit = store.retrieve(&Query::new(&[1.0, 0.0], 1)).unwrap().hits.remove(0);
    assert_eq!((hit.id, hit.recurrence), (id, 1000));
    assert!((hit.parts.similarity - 1.0).abs() < 1e-12 && hit.parts.temporal == 1.0);
    assert!((hit.parts.recurrence - (1.0 + 0.3 * 1001f64.ln())).abs() < 1e-12);
    assert_eq!(store.config().scoring().score(&hit.parts), hit.score);
}

#[test]
fn d10_a_clock_that_steps_back_makes_no_negative_age() {
    let (store, clock) = store(2);
    clock.set(hours(10.0));
    store.write(Memory::new(&[1.0, 0.0], text("now"))).unwrap();
    store.write(Memory::new(&[0.0, 1.0], text("in the future")).at(hours(1e6))).unwrap();
    clock.set(hours(-50.0));
    let found = store.retrieve(&Query::new(&[1.0, 1.0], 2)).unwrap();
    assert!(found.hits.iter().all(|hit| hit.parts.temporal == 1.0));
    assert_eq!(store.prune(Prune::new().older_than(Duration::from_micros(1))).unwrap().removed, 0);
}

#[test]
fn d11_what_is_no_number_is_refused_wherever_it_comes_in() {
    let (store, _) = store(3);
    let id = store.write(Memory::new(&[1.0, 0.0, 0.0], text("x"))).unwrap().id();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let vector = [0.0, bad, 1.0];
        assert!(matches!(store.write(Memory::new(&vector, text("bad"))), Err(Error::NonFinite { index: 1 })));
        assert!(matches!(store.retrieve(&Query::new(&vector, 1)), Err(Error::NonFinite { index: 1 })));
        assert!(matches!(store.retrieve_batch(&[Query::new(&vector, 1)]), Err(Error::NonFinite { index: 1 })));
        assert!(matches!(store.update(id, Update::new().vector(&vector)), Err(Error::NonFinite { index: 1 })));
        let vector = [1.0, 0.0, 0.0];
        assert!(matches!(
            store.write(Memory::new(&vector, text("bad")).importance(bad)),
            Err(Error::InvalidValue { .. })
        ));
        assert!(matches!(store.boost(id, bad), Err(Error::InvalidValue { .. })));
        assert!(matches!(store.suppress(id, bad), Err(Error::InvalidValue { .. })));
        assert!(matches!(
            store.retrieve(&Query::new(&vector, 1).tolerance(bad.into())),
            Err(Error::InvalidValue { .. })
        ));
    }
    assert!(matches!(store.prune(Prune::new().below(f64::NAN)), Err(Error::InvalidValue { .. })));
    assert_eq!(store.len(), 1);
}

#[test]
fn d12_vectors_of_other_lengths_are_refused() {
    let (store, _) = store(5);
    let long = [1.0; 7];
    let expected = |result: Error| matches!(result, Error::Dimensions { expected: 5, got: 7 });
    assert!(expected(store.write(Memory::new(&long, text("x"))).unwrap_err()));
    assert!(expected(store.retrieve(&Query::new(&long, 1)).unwrap_err()));
}

#[test]
fn d13_raw_measurements_are_told_apart_by_a_normalizer() {
    // Voltage, temperature, gyro, current, wheel speed: two states that a person would not confuse.
    let normal = [[8.1, 25.0, 0.02, 1.1, 3000.0], [8.0, 26.0, 0.01, 1.0, 2900.0], [8.2, 24.0, 0.03, 1.2, 3100.0]];
    let fault = [6.5, 45.0, 0.9, 2.4, 2950.0];
    let raw = MemoryStore::with_clock(Config::builder(5).build().unwrap(), ManualClock::default()).unwrap();
    raw.write(Memory::new(&normal[0], ())).unwrap();
    assert!(raw.write(Memory::new(&fault, ())).unwrap().is_merged(), "which is why one is needed");
    let normalizer = Normalizer::new(&[8.0, 25.0, 0.0, 1.0, 3000.0], &[0.5, 5.0, 0.2, 0.5, 200.0]).unwrap();
    let config = Config::builder(5).normalizer(normalizer).build().unwrap();
    let store = MemoryStore::with_clock(config, ManualClock::default()).unwrap();
    store.write(Memory::new(&normal[0], ())).unwrap();
    assert!(matches!(store.write(Memory::new(&fault, ())).unwrap(), Written::Inserted(_)));
    let learnt = Normalizer::from_samples(&normal).unwrap();
    assert_eq!(learnt.dimensions(), 5);
}

#[test]
fn d16_a_query_without_components_is_refused() {
    let (store, _) = store(3);
    assert!(matches!(store.retrieve(&Query::new(&[], 5)), Err(Error::Dimensions { expected: 3, got: 0 })));
    assert!(matches!(store.retrieve(&Query::new(&[1.0, 0.0, 0.0], 0)), Err(Error::ZeroK)));
    assert!(store.retrieve(&Query::new(&[1.0, 0.0, 0.0], 5)).unwrap().hits.is_empty());
}

#[test]
fn d17_memories_have_ids_to_get_update_and_delete_them_by() {
    let (store, _) = store(2);
    let id = store.write(Memory::new(&[1.0, 0.0], text("x"))).unwrap().id();
    assert!(store.update(id, Update::new().payload(text("y"), 1).class(RetentionClass::High)).unwrap());
    let memory = store.get(id).unwrap();
    assert_eq!((memory.payload.as_str(), memory.class), ("y", RetentionClass::High));
    assert!(store.remove(id).unwrap() && !store.remove(id).unwrap() && store.get(id).is_none());
    assert!(!store.update(id, Update::new().payload(text("z"), 1)).unwrap());
    // An id is never given again.
    assert!(store.write(Memory::new(&[1.0, 0.0], text("x"))).unwrap().id() > id);
}

#[test]
fn d18_an_age_of_zero_is_everything_that_is_not_protected() {
    let (store, _) = store(2);
    let plain = store.write(Memory::new(&[1.0, 0.0], text("plain"))).unwrap().id();
    let critical = store.write(Memory::new(&[0.0, 1.0], text("critical")).critical()).unwrap().id();
    let pinned = store.write(Memory::new(&[-1.0, 0.0], text("pinned"))).unwrap().id();
    store.pin(pinned).unwrap();
    let dry = store.prune(Prune::new().older_than(Duration::ZERO).dry_run()).unwrap();
    assert_eq!((dry.removed, dry.remaining, store.len()), (1, 2, 3));
    assert_eq!(store.prune(Prune::new().older_than(Duration::ZERO)).unwrap().removed, 1);
    assert!(store.get(plain).is_none() && store.get(critical).is_some() && store.get(pinned).is_some());
    assert_eq!(store.prune(Prune::new().older_than(Duration::ZERO).keep_critical(false)).unwrap().removed, 1);
    assert!(store.get(critical).is_none() && store.get(pinned).is_some());
}

#[test]
fn a_match_is_strictly_above_the_threshold() {
    // (3, 4) and (1, 0): the cosine is 3/5, and so is the threshold.
    let exactly = Dedup { threshold: 3.0 / 5.0, ..Dedup::default() };
    let config = Config::builder(2).dedup(exactly).build().unwrap();
    let store = MemoryStore::with_clock(config, ManualClock::default()).unwrap();
    store.write(Memory::new(&[1.0, 0.0], ())).unwrap();
    assert!(!store.write(Memory::new(&[3.0, 4.0], ())).unwrap().is_merged());
    let below = Dedup { threshold: 0.6 - 1e-12, ..Dedup::default() };
    let config = Config::builder(2).dedup(below).build().unwrap();
    let store = MemoryStore::with_clock(config, ManualClock::default()).unwrap();
    store.write(Memory::new(&[1.0, 0.0], ())).unwrap();
    assert!(store.write(Memory::new(&[3.0, 4.0], ())).unwrap().is_merged());
}

#[test]
fn bad_settings_are_refused_by_name() {
    let names = |result: Result<Config, Error>| match result {
        Err(Error::InvalidConfig { option, .. }) => option,
        other => panic!("{other:?}"),
    };
    assert_eq!(names(Config::builder(0).build()), "dimensions");
    assert_eq!(names(Config::builder(4097).build()), "dimensions");
    assert_eq!(names(Config::builder(2).max_memories(0).build()), "capacity");
    assert_eq!(names(Config::builder(2).dedup(Dedup { threshold: f64::NAN, ..Dedup::default() }).build()), "dedup");
    assert_eq!(names(Config::builder(2).decay(DecayTable::per_hour(-1.0)).build()), "decay");
    assert_eq!(names(Config::builder(2).decay(DecayTable::per_hour(f64::NAN)).build()), "decay");
    let weights = memory_store::Weights { temporal: f64::INFINITY, ..memory_store::Weights::default() };
    assert_eq!(names(Config::builder(2).scoring(Scoring::Additive(weights)).build()), "scoring");
    let normalizer = Normalizer::new(&[0.0; 3], &[1.0; 3]).unwrap();
    assert_eq!(names(Config::builder(2).normalizer(normalizer).build()), "normalizer");
    assert!(Normalizer::new(&[0.0], &[0.0]).is_err() && Normalizer::new(&[0.0], &[1.0, 2.0]).is_err());
    assert!(Normalizer::from_samples(&[[f32::NAN]]).is_err() && Normalizer::from_samples::<[f32; 1]>(&[]).is_err());
}

#[test]
fn a_store_full_of_critical_memories_refuses_or_grows_as_told() {
    for (full, expected) in [(CriticalFull::Reject, 3), (CriticalFull::Grow, 5)] {
        let capacity = Capacity { max_memories: 3, max_bytes: None, on_critical_full: full };
        let config = Config::builder(8).dedup(None).capacity(capacity).recency(Recency::LastSeen).build().unwrap();
        let store = MemoryStore::with_clock(config, ManualClock::default()).unwrap();
        let mut refused = 0;
        for i in 0..5 {
            let mut vector = [0.0; 8];
            vector[i] = 1.0;
            match store.write(Memory::new(&vector, ()).critical()) {
                Ok(_) => {}
                Err(Error::CapacityExhausted { protected }) => refused += usize::from(protected == 3),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!((store.len(), refused), (expected, 5 - expected));
        // No room is made for what is not critical.
        assert!(matches!(store.write(Memory::new(&[1.0; 8], ())), Err(Error::CapacityExhausted { .. })));
        assert_eq!(store.stats().evicted, 0);
    }
}

#[test]
fn a_store_holds_no_more_bytes_than_its_capacity() {
    let capacity = Capacity { max_bytes: Some(100_000), ..Capacity::default() };
    let config = Config::builder(64).dedup(None).capacity(capacity).build().unwrap();
    let store = MemoryStore::with_clock(config, ManualClock::default()).unwrap();
    for i in 0..500u32 {
        let vector: Vec<f32> = (0..64).map(|j| ((i * 31 + j * 17) % 97) as f32 - 48.0).collect();
        store.write(Memory::new(&vector, ()).payload_bytes(i % 7 * 1000)).unwrap();
        assert!(store.stats().bytes <= 100_000);
    }
    assert!(store.stats().evicted > 400);
    let one = Memory::new(&[1.0; 64], ()).payload_bytes(200_000);
    assert!(matches!(store.write(one), Err(Error::TooLarge { capacity: 100_000, .. })));
}

#[test]
fn an_update_or_a_merge_holds_to_the_capacity_in_bytes_too() {
    let latest = Dedup { merge: MergePolicy::KeepLatest, ..Dedup::default() };
    let capacity = Capacity { max_bytes: Some(10_000), ..Capacity::default() };
    let config = Config::builder(2).dedup(latest).capacity(capacity).build().unwrap();
    let store = MemoryStore::with_clock(config, ManualClock::default()).unwrap();
    let vectors = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]];
    for vector in &vectors {
        store.write(Memory::new(vector, ()).payload_bytes(2_000)).unwrap();
    }
    assert!(matches!(store.update(MemoryId(3), Update::new().payload((), 20_000)), Err(Error::TooLarge { .. })));
    assert_eq!((store.len(), store.get(MemoryId(3)).unwrap().recurrence), (3, 1), "nothing has changed");
    assert!(store.update(MemoryId(3), Update::new().payload((), 6_000).importance(1.0)).unwrap());
    let stats = store.stats();
    assert!(stats.bytes <= 10_000 && stats.evicted == 1);
    assert!(store.get(MemoryId(1)).is_none() && store.get(MemoryId(3)).is_some(), "the lowest of all went");
    store.write(Memory::new(&vectors[1], ()).payload_bytes(8_000)).unwrap();
    assert!(store.stats().bytes <= 10_000);
    // Nothing may go for a memory that is too large beside what is protected.
    let config = Config::builder(2).dedup(latest).capacity(capacity).build().unwrap();
    let store = MemoryStore::with_clock(config, ManualClock::default()).unwrap();
    store.write(Memory::new(&vectors[0], ()).payload_bytes(6_000).critical()).unwrap();
    store.write(Memory::new(&vectors[1], ()).payload_bytes(1_000)).unwrap();
    let too_large = store.update(MemoryId(2), Update::new().payload((), 5_000));
    assert!(matches!(too_large, Err(Error::CapacityExhausted { protected: 1 })));
    assert_eq!(store.stats().memories, 2);
}

#[test]
fn there_is_one_zero_of_importance() {
    let (store, _) = store(2);
    store.write(Memory::new(&[1.0, 0.0], text("minus zero")).importance(-0.0)).unwrap();
    let id = store.write(Memory::new(&[0.0, 1.0], text("important")).importance(1.0)).unwrap().id();
    assert!(store.update(MemoryId(1), Update::new().importance(-0.0)).unwrap());
    let hits = store.retrieve(&Query::new(&[1.0, 1.0], 1)).unwrap().hits;
    assert_eq!(hits[0].id, id);
}

#[test]
fn a_late_report_does_not_turn_the_order_of_classes_over() {
    let decay = DecayTable::per_hour(0.1).rate(RetentionClass::High, 0.02).rate(RetentionClass::Low, 0.5);
    let config = Config::builder(8).dedup(None).decay(decay).max_memories(2).build().unwrap();
    let store = MemoryStore::with_clock(config, ManualClock::new(hours(200.0))).unwrap();
    let axis = |i: usize| std::array::from_fn::<f32, 8, _>(|j| if i == j { 1.0 } else { 0.0 });
    let low = store.write(Memory::new(&axis(0), text("low")).class(RetentionClass::Low).at(hours(180.0))).unwrap().id();
    let high =
        store.write(Memory::new(&axis(1), text("high")).class(RetentionClass::High).at(hours(190.0))).unwrap().id();
    // At 190 hours, the latest that was seen, the low one has faded by 5 and the high one not at all.
    store.write(Memory::new(&axis(2), text("told late")).at(hours(90.0))).unwrap();
    assert!(store.get(low).is_none() && store.get(high).is_some());
}

/// What scores alike comes in the order of ids, and of those at the end the lowest.
#[test]
fn ties_are_broken_by_id() {
    let config = Config::builder(3).dedup(None).build().unwrap();
    let store = MemoryStore::with_clock(config, ManualClock::default()).unwrap();
    for i in 0..500 {
        let vector = if i % 2 == 0 { [0.3, 0.1, 0.2] } else { [0.1, 0.9, -0.4] };
        store.write(Memory::new(&vector, text("x"))).unwrap();
    }
    let hits = store.retrieve(&Query::new(&[0.3, 0.1, 0.2], 300)).unwrap().hits;
    let ids: Vec<u64> = hits.iter().map(|hit| hit.id.0).collect();
    let expected: Vec<u64> = (0..250).map(|i| 2 * i + 1).chain((0..50).map(|i| 2 * i + 2)).collect();
    assert_eq!(ids, expected);
}

/// However fast memories fade and however far the moment is from 0: of two that were seen at once the less important one goes first, and of
/// two that are as important the one that was seen a little before.
#[test]
fn the_order_of_eviction_is_exact_at_any_moment_and_rate() {
    const TODAY: i64 = 1_800_000_000_000_000;
    let tables = [
        DecayTable::per_hour(0.0),
        DecayTable::per_hour(1e-300),
        DecayTable::per_hour(0.1),
        DecayTable::per_hour(3.6e6),
        DecayTable::per_hour(1e9),
        DecayTable::per_tick(0.75),
        DecayTable::per_tick(1.0),
        DecayTable::per_tick(1e9),
    ];
    for decay in tables {
        for at in [i64::MIN, -TODAY, 0, TODAY, i64::MAX - 1] {
            let first_to_go = |[a, b]: [(f32, i64); 2]| {
                let config = Config::builder(4).dedup(None).decay(decay.clone()).max_memories(2).build().unwrap();
                let store = MemoryStore::with_clock(config, ManualClock::default()).unwrap();
                let write = |(importance, at), component| {
                    let vector = [1.0, component, 0.0, 0.0];
                    let memory = Memory::new(&vector, ()).importance(importance).at(Timestamp(at));
                    store.write(memory).unwrap().id()
                };
                let ids = [write(a, 1.0), write(b, 2.0)];
                write((1.0, at), 3.0);
                ids.map(|id| store.get(id).is_none())
            };
            for (more, less) in [(0.9, 0.1), (0.500_000_06, 0.5), (0.1, 0.0), (1.0, f32::MIN_POSITIVE)] {
                assert_eq!(first_to_go([(more, at), (less, at)]), [false, true], "{more} {less} at {at}: {decay:?}");
                assert_eq!(first_to_go([(less, at), (more, at)]), [true, false], "{less} {more} at {at}: {decay:?}");
            }
            assert_eq!(first_to_go([(0.5, at), (0.5, at)]), [true, false], "of equals the oldest goes: {decay:?}");
            let fades = decay.weight(RetentionClass::Medium, Timestamp(0), Timestamp(1)) < 1.0;
            assert_eq!(first_to_go([(0.5, at + 1), (0.5, at)]), [!fades, fades], "at {at}: {decay:?}");
        }
    }
}
