//! Filters, batches, tolerance, moments, incidents.

mod oracle;

use std::time::Duration;

use memory_store::{
    Config, Dedup, Exactness, ManualClock, Memory, MemoryId, MemoryStore, Query, Recency, RetentionClass, Scoring,
    Timestamp,
};
use oracle::{RATES, Row, assert_best, rank};

struct Filled {
    store: MemoryStore<u32, ManualClock>,
    rows: Vec<Row>,
    incidents: Vec<Option<&'static str>>,
    rng: fastrand::Rng,
}

const DIMENSIONS: usize = 20;

fn direction(rng: &mut fastrand::Rng) -> Vec<f32> {
    (0..DIMENSIONS).map(|_| (0..6).map(|_| rng.f32() - 0.5).sum::<f32>()).collect()
}

fn filled(rows: usize) -> Filled {
    let mut rng = fastrand::Rng::with_seed(11);
    // Nothing but the same vector again is merged.
    let dedup = Dedup { threshold: 0.999_999, ..Dedup::default() };
    let config = Config::builder(DIMENSIONS).dedup(dedup).build().unwrap();
    let store = MemoryStore::with_clock(config, ManualClock::new(Timestamp::from_hours(100.0))).unwrap();
    let mut filled = Filled { store, rows: Vec::new(), incidents: Vec::new(), rng: rng.clone() };
    for payload in 0..rows as u32 {
        let vector = direction(&mut rng);
        let hours = rng.f64() * 100.0;
        let (first_seen, mut seen) = (Timestamp::from_hours(hours), Timestamp::from_hours(hours));
        let class = RetentionClass::ALL[rng.usize(..4)];
        let incident = (rng.usize(..20) == 0).then_some("storm");
        let mut memory = Memory::new(&vector, payload).at(seen).class(class);
        if let Some(incident) = incident {
            memory = memory.incident(incident);
        }
        let id = filled.store.write(memory.distinct()).unwrap().id().0;
        // One in four is seen up to three times more.
        let again = if rng.usize(..4) == 0 { rng.u32(1..4) } else { 0 };
        for _ in 0..again {
            let later = Timestamp::from_hours(hours + rng.f64() * (100.0 - hours));
            let memory = Memory::new(&vector, payload).at(later).class(class);
            assert!(filled.store.write(memory).unwrap().is_merged());
            seen = seen.max(later);
        }
        let (recurrence, importance, weight) = (1 + again, 0.5, 1.0);
        filled.rows.push(Row { id, vector, first_seen, seen, recurrence, importance, weight, class });
        filled.incidents.push(incident);
    }
    filled
}

fn pairs<P>(hits: &[memory_store::Hit<P>]) -> Vec<(f64, u64)> {
    hits.iter().map(|hit| (hit.score, hit.id.0)).collect()
}

/// The best of those that pass are found, however few they are.
#[test]
fn a_filter_costs_no_recall() {
    let mut filled = filled(2_000);
    let now = Timestamp::from_hours(100.0);
    let scoring = Scoring::default();
    for round in 0..20 {
        let query = direction(&mut filled.rng);
        let check = |found: Query<'_, u32>, passes: &dyn Fn(usize) -> bool| {
            let kept: Vec<Row> = (0..2_000).filter(|&at| passes(at)).map(|at| filled.rows[at].clone()).collect();
            let found = filled.store.retrieve(&found).unwrap();
            assert_best(&pairs(&found.hits), &rank(&kept, &query, now, &scoring, &RATES), 10);
            assert_eq!(found.exactness, Exactness::Exact);
        };
        let asked = Query::new(&query, 10);
        let rows = &filled.rows;
        check(asked.classes(&[RetentionClass::High]), &|at| rows[at].class == RetentionClass::High);
        let (from, to) = (Timestamp::from_hours(f64::from(round)), Timestamp::from_hours(f64::from(round) + 2.0));
        check(asked.first_seen(from..to), &|at| (from..to).contains(&rows[at].first_seen));
        check(asked.last_seen(..=to), &|at| rows[at].seen <= to);
        check(asked.last_seen(from..), &|at| rows[at].seen >= from);
        check(asked.incident("storm"), &|at| filled.incidents[at].is_some());
        check(asked.incident("nobody knows"), &|_| false);
        check(asked.matching(&|_, payload| payload % 501 == 0), &|at| at % 501 == 0);
        check(asked.min_recurrence(2), &|at| rows[at].recurrence >= 2);
        check(asked.min_recurrence(3), &|at| rows[at].recurrence >= 3);
        check(asked.min_recurrence(9), &|_| false);
        let both = asked.classes(&[RetentionClass::Low]).matching(&|id, _| id.0 < 100);
        check(both, &|at| rows[at].class == RetentionClass::Low && rows[at].id < 100);
    }
}

#[test]
fn a_batch_answers_as_each_query_alone() {
    let mut filled = filled(1_500);
    let vectors: Vec<Vec<f32>> = (0..33).map(|_| direction(&mut filled.rng)).collect();
    let queries: Vec<Query<'_, u32>> = vectors
        .iter()
        .enumerate()
        .map(|(at, vector)| match at % 3 {
            0 => Query::new(vector, 1 + at),
            1 => Query::new(vector, 5).at(Timestamp::from_hours(50.0)),
            _ => Query::new(vector, 7).incident(if at == 2 { "nobody knows" } else { "storm" }),
        })
        .collect();
    let together = filled.store.retrieve_batch(&queries).unwrap();
    assert_eq!(together.len(), queries.len());
    for (query, answer) in queries.iter().zip(&together) {
        assert_eq!(pairs(&answer.hits), pairs(&filled.store.retrieve(query).unwrap().hits));
    }
    assert!(filled.store.retrieve_batch(&[]).unwrap().is_empty());
}

/// Of what is left out nothing is better than the last that is there by more than the tolerance, and fewer vectors are read than for an
/// exact answer.
#[test]
fn a_tolerance_bounds_what_is_missed() {
    let mut filled = filled(3_000);
    let (mut exact, mut bounded) = (0, 0);
    for _ in 0..30 {
        let query = direction(&mut filled.rng);
        let now = Timestamp::from_hours(100.0);
        let ranked = rank(&filled.rows, &query, now, &Scoring::default(), &RATES);
        let answer = filled.store.retrieve(&Query::new(&query, 10).tolerance(0.1)).unwrap();
        assert_eq!(answer.exactness, Exactness::Bounded { tolerance: 0.1 });
        assert_eq!(answer.hits.len(), 10);
        let last = answer.hits[9].score;
        let missed = ranked.iter().find(|(_, id)| answer.hits.iter().all(|hit| hit.id.0 != *id)).unwrap();
        assert!(missed.0 <= last + 0.1);
        exact += filled.store.retrieve(&Query::new(&query, 10)).unwrap().scanned.vectors;
        bounded += answer.scanned.vectors;
    }
    assert!(bounded < exact * 9 / 10, "{bounded} vectors, {exact} for exact answers");
}

#[test]
fn a_query_at_a_moment_sees_what_had_been_seen_by_then() {
    let filled = filled(500);
    let then = Timestamp::from_hours(30.0);
    let query = filled.rows[0].vector.clone();
    let hits = filled.store.retrieve(&Query::new(&query, 1_000).at(then)).unwrap().hits;
    let the_other_way = filled.store.retrieve_at(&Query::new(&query, 1_000), then).unwrap().hits;
    assert_eq!(pairs(&hits), pairs(&the_other_way));
    let expected = filled.rows.iter().filter(|row| row.first_seen <= then).count();
    assert_eq!(hits.len(), expected);
    assert!(hits.iter().all(|hit| hit.first_seen <= then));
}

#[test]
fn a_touch_makes_young_where_the_store_counts_it() {
    for (recency, expected) in [(Recency::LastSeen, 0.0), (Recency::LastAccessed, 24.0)] {
        let clock = ManualClock::default();
        let config = Config::builder(2).recency(recency).build().unwrap();
        let store = MemoryStore::with_clock(config, clock.clone()).unwrap();
        let id = store.write(Memory::new(&[1.0, 0.0], ())).unwrap().id();
        clock.advance(Duration::from_secs(24 * 3600));
        store.retrieve(&Query::new(&[1.0, 0.0], 1)).unwrap();
        assert_eq!(store.get(id).unwrap().last_seen, Timestamp::from_hours(0.0), "a look is no touch");
        store.retrieve(&Query::new(&[1.0, 0.0], 1).touch()).unwrap();
        assert_eq!(store.get(id).unwrap().last_seen, Timestamp::from_hours(expected));
    }
}

#[test]
fn incidents_are_told_in_order_and_found_by_likeness() {
    let config = Config::builder(3).dedup(None).build().unwrap();
    let store = MemoryStore::with_clock(config, ManualClock::default()).unwrap();
    let write = |vector: [f32; 3], incident: &str, hours: f64| {
        store.write(Memory::new(&vector, ()).incident(incident).at(Timestamp::from_hours(hours))).unwrap().id()
    };
    let late = write([1.0, 0.1, 0.0], "alpha", 5.0);
    let early = write([1.0, 0.0, 0.0], "alpha", 1.0);
    let alike = write([0.9, 0.2, 0.1], "beta", 2.0);
    write([0.0, 1.0, 0.0], "beta", 3.0);
    write([0.0, 0.0, 1.0], "gamma", 4.0);
    let alpha = store.incident("alpha").unwrap();
    assert_eq!(alpha.timeline.iter().map(|memory| memory.id).collect::<Vec<_>>(), [early, late]);
    assert_eq!(alpha.began(), Some(Timestamp::from_hours(1.0)));
    let similar = store.similar_incidents("alpha", 5);
    assert_eq!(similar.iter().map(|hit| &*hit.name).collect::<Vec<_>>(), ["beta", "gamma"]);
    assert_eq!((similar[0].closest, similar[0].memories), (alike, 2));
    assert_eq!(store.similar_incidents("alpha", 1).len(), 1);
    assert!(store.incident("omega").is_none() && store.similar_incidents("omega", 3).is_empty());
    store.remove(late).unwrap();
    store.remove(early).unwrap();
    assert!(store.incident("alpha").is_none(), "an incident ends with its last memory");
}

#[test]
fn a_condition_may_use_the_store_and_its_panic_is_its_querys_alone() {
    let filled = filled(300);
    let query = filled.rows[7].vector.clone();
    let store = &filled.store;
    let inner = |id: MemoryId, _: &u32| {
        store.get(id).is_some() && !store.retrieve(&Query::new(&query, 1)).unwrap().hits.is_empty()
    };
    assert_eq!(store.retrieve(&Query::new(&query, 3).matching(&inner)).unwrap().hits.len(), 3);
    let panics = |_: MemoryId, _: &u32| -> bool { panic!("a condition's own") };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.retrieve(&Query::new(&query, 3).matching(&panics))
    }));
    assert!(outcome.is_err());
    assert_eq!(store.retrieve(&Query::new(&query, 3)).unwrap().hits.len(), 3);
    store.write(Memory::new(&query, 1)).unwrap();
}

#[test]
fn boosts_raise_and_suppressions_lower_a_score() {
    let filled = filled(50);
    let query = filled.rows[0].vector.clone();
    let score = || {
        let hits = filled.store.retrieve(&Query::new(&query, 50)).unwrap().hits;
        hits.iter().find(|hit| hit.id == MemoryId(20)).unwrap().score
    };
    let before = score();
    filled.store.boost(MemoryId(20), 10.0).unwrap();
    assert!((score() - before - 0.1 * 10f64.ln()).abs() < 1e-9);
    filled.store.suppress(MemoryId(20), 0.01).unwrap();
    assert!((score() - before + 0.1 * 10f64.ln()).abs() < 1e-6);
    assert!(filled.store.boost(MemoryId(999), 2.0).is_ok_and(|there| !there));
    assert!(filled.store.boost(MemoryId(20), 0.5).is_err() && filled.store.suppress(MemoryId(20), 2.0).is_err());
}

/// What is said to be distinct is a memory of its own, and what comes later may still be merged into it.
#[test]
fn a_distinct_memory_is_not_merged() {
    let store = MemoryStore::<u8>::new(Config::builder(4).build().unwrap()).unwrap();
    let vector = [1.0, 2.0, 3.0, 4.0];
    let first = store.write(Memory::new(&vector, 1)).unwrap().id();
    let second = store.write(Memory::new(&vector, 2).distinct()).unwrap();
    assert!(!second.is_merged() && second.id() != first);
    assert!(store.write(Memory::new(&vector, 3)).unwrap().is_merged());
    assert_eq!(store.len(), 2);
}
