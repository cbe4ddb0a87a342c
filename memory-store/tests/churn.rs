//! Memories come and go: what is left is ranked exactly, and what went gave its memory back.

mod oracle;

use std::time::Duration;

use memory_store::{
    Config, DecayTable, ManualClock, Memory, MemoryId, MemoryStore, Prune, Query, RetentionClass, Scoring, Timestamp,
};
use oracle::{RATES, Row, assert_best, rank};

const DIMENSIONS: usize = 16;

/// `MEMORIES=100000` is the full count.
#[test]
fn ten_times_as_many_come_and_go_and_answers_stay_exact() {
    let memories: usize = std::env::var("MEMORIES").map_or(3_000, |text| text.parse().expect("a number"));
    let config = Config::builder(DIMENSIONS).dedup(None).build().unwrap();
    let clock = ManualClock::default();
    let store = MemoryStore::with_clock(config, clock.clone()).unwrap();
    let mut rng = fastrand::Rng::with_seed(21);
    let mut rows: Vec<Row> = Vec::new();
    for step in 0..11 * memories {
        let seen = Timestamp(step as i64 * 3_000_000);
        clock.set(seen);
        if rows.len() == memories {
            let gone = rows.swap_remove(rng.usize(..memories));
            assert!(store.remove(MemoryId(gone.id)).unwrap());
        }
        let vector: Vec<f32> = (0..DIMENSIONS).map(|_| rng.f32() - 0.5).collect();
        let class = RetentionClass::ALL[rng.usize(..4)];
        let id = store.write(Memory::new(&vector, ()).class(class)).unwrap().id().0;
        rows.push(Row { id, vector, first_seen: seen, seen, recurrence: 1, importance: 0.5, weight: 1.0, class });
        if step % memories == memories - 1 {
            let stats = store.stats();
            assert_eq!(stats.memories, memories);
            assert!(stats.dead <= memories / 8 + 512, "{} dead rows of {memories}", stats.dead);
            for _ in 0..3 {
                let query: Vec<f32> = (0..DIMENSIONS).map(|_| rng.f32() - 0.5).collect();
                let ranked = rank(&rows, &query, seen, &Scoring::default(), &RATES);
                let hits = store.retrieve(&Query::new(&query, 25)).unwrap().hits;
                let found: Vec<(f64, u64)> = hits.iter().map(|hit| (hit.score, hit.id.0)).collect();
                assert_best(&found, &ranked, 25);
            }
        }
    }
    store.compact().unwrap();
    assert_eq!(store.stats().dead, 0);
    assert_eq!(store.replay(..).unwrap().len(), memories);
}

/// Floods: as many young memories as there are, then critical ones, by number and by bytes. The store holds to its bounds and to its critical
/// memories.
#[test]
fn floods_leave_the_bounds_and_the_critical_memories() {
    use memory_store::{Capacity, CriticalFull, Error};
    for (most, bytes) in [(500, None), (usize::MAX, Some(100_000))] {
        let capacity = Capacity { max_memories: most, max_bytes: bytes, on_critical_full: CriticalFull::Reject };
        let config = Config::builder(DIMENSIONS).dedup(None).capacity(capacity).build().unwrap();
        let store = MemoryStore::with_clock(config, ManualClock::default()).unwrap();
        let mut rng = fastrand::Rng::with_seed(4);
        let (mut critical, mut refused) = (Vec::new(), 0);
        for i in 0..6_000 {
            let vector: Vec<f32> = (0..DIMENSIONS).map(|_| rng.f32() - 0.5).collect();
            let memory = Memory::new(&vector, ()).payload_bytes(rng.u32(..100));
            // Young ones, then critical ones, then both.
            let is_critical = i >= 4_000 || (i >= 2_000 && rng.bool());
            match store.write(if is_critical { memory.critical() } else { memory }) {
                Ok(written) if is_critical => critical.push(written.id()),
                Ok(_) => {}
                Err(Error::CapacityExhausted { protected }) => {
                    assert_eq!(protected, critical.len());
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
            let stats = store.stats();
            assert!(stats.memories <= most && stats.bytes <= bytes.unwrap_or(u64::MAX));
        }
        assert!(refused > 1_000 && critical.len() > 300, "{refused} refused, {} critical", critical.len());
        assert!(critical.iter().all(|&id| store.get(id).is_some()), "critical memories stay");
    }
}

/// Each class is kept as long as the table says, to the tick; what is seen again is as young as its last sight.
#[test]
fn a_prune_by_retention_keeps_each_class_as_long_as_it_is_told() {
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    let kept = |decay: DecayTable, now: Timestamp| {
        let config = Config::builder(2).dedup(None).decay(decay).build().unwrap();
        let store = MemoryStore::with_clock(config, ManualClock::new(now)).unwrap();
        for class in RetentionClass::ALL {
            store.write(Memory::new(&[1.0, 0.0], class).class(class).at(Timestamp(0))).unwrap();
        }
        let planned = store.prune(Prune::new().by_retention().keep_critical(false).dry_run()).unwrap();
        let report = store.prune(Prune::new().by_retention().keep_critical(false)).unwrap();
        assert_eq!((report.removed, report.by_class), (planned.removed, planned.by_class));
        assert_eq!((report.removed + report.remaining, report.remaining), (4, store.len()));
        store.replay(..).unwrap().iter().map(|memory| *memory.payload).collect::<Vec<_>>()
    };
    use RetentionClass::{Critical, High, Low, Medium};
    for (longest, there, left) in [
        (24, vec![Low, Medium, High, Critical], vec![Medium, High, Critical]),
        (72, vec![Medium, High, Critical], vec![High, Critical]),
        (168, vec![High, Critical], vec![Critical]),
    ] {
        let end = Timestamp::from_hours(f64::from(longest));
        assert_eq!(kept(DecayTable::default(), Timestamp(end.0 - 1)), there);
        assert_eq!(kept(DecayTable::default(), end), left);
    }
    let other = DecayTable::default().retention(Low, None).retention(Critical, Some(hours(2)));
    assert_eq!(kept(other.clone(), Timestamp::from_hours(1.9)), [Low, Medium, High, Critical]);
    assert_eq!(kept(other.clone(), Timestamp::from_hours(2.0)), [Low, Medium, High]);
    assert_eq!(kept(other, Timestamp::from_hours(1e6)), [Low]);
}

/// Ages are averaged over memories, of which one was seen three times, last an hour ago.
#[test]
fn what_a_store_holds_is_told_in_numbers() {
    let clock = ManualClock::new(Timestamp::from_hours(10.0));
    let store = MemoryStore::with_clock(Config::builder(2).build().unwrap(), clock).unwrap();
    assert_eq!(store.stats().average_age, Duration::ZERO);
    for (vector, at) in [([1.0, 0.0], 2.0), ([1.0, 0.0], 9.0), ([1.0, 0.0], 4.0), ([0.0, 1.0], 5.0)] {
        store.write(Memory::new(&vector, ()).at(Timestamp::from_hours(at))).unwrap();
    }
    let stats = store.stats();
    assert_eq!((stats.memories, stats.recurrences, stats.max_recurrence), (2, 4, 3));
    assert_eq!(stats.average_age, Duration::from_secs(3 * 3600));
}
