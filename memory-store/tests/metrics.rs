//! What the `metrics` facade is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use memory_store::{Config, ManualClock, Memory, MemoryStore, Prune, Query};
use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// Keeps the last value of everything.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<HashMap<String, f64>>>);

struct One(Kept, String);

impl One {
    fn change(&self, change: impl FnOnce(&mut f64)) {
        change(self.0.0.lock().unwrap().entry(self.1.clone()).or_default());
    }
}

impl CounterFn for One {
    fn increment(&self, by: u64) {
        self.change(|value| *value += by as f64);
    }

    fn absolute(&self, to: u64) {
        self.change(|value| *value = to as f64);
    }
}

impl GaugeFn for One {
    fn increment(&self, by: f64) {
        self.change(|value| *value += by);
    }

    fn decrement(&self, by: f64) {
        self.change(|value| *value -= by);
    }

    fn set(&self, to: f64) {
        self.change(|value| *value = to);
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<&str> = key.labels().map(|label| label.value()).collect();
        Counter::from_arc(Arc::new(One(self.clone(), [&[key.name()][..], &labels].concat().join(" "))))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(One(self.clone(), key.name().to_owned())))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Hands on what it is told, and waits at the first word of one entry until another thread has told of two.
struct Slow {
    kept: Kept,
    is_told: Arc<Barrier>,
    has_waited: Arc<AtomicBool>,
}

impl Recorder for Slow {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.kept.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        if !self.has_waited.swap(true, Ordering::Relaxed) {
            // The first lets the other begin, the second says that it has ended.
            self.is_told.wait();
            self.is_told.wait();
        }
        self.kept.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.kept.register_histogram(key, metadata)
    }
}

/// Two writers at once, of which the first tells of the store last.
#[test]
fn the_last_word_of_a_level_is_the_present_one() {
    let (kept, is_told) = (Kept::default(), Arc::new(Barrier::new(2)));
    let store = MemoryStore::with_clock(Config::builder(2).build().unwrap(), ManualClock::default()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let has_waited = Arc::new(AtomicBool::new(false));
            let slow = Slow { kept: kept.clone(), is_told: Arc::clone(&is_told), has_waited };
            metrics::with_local_recorder(&slow, || store.write(Memory::new(&[1.0, 0.0], ())).unwrap());
        });
        is_told.wait();
        metrics::with_local_recorder(&kept, || store.write(Memory::new(&[0.0, 1.0], ())).unwrap());
        is_told.wait();
    });
    let kept = kept.0.lock().unwrap();
    assert_eq!(kept["memory_store_entries"], 2.0);
    assert_eq!(kept["memory_store_size_bytes"], store.stats().bytes as f64);
}

#[test]
fn what_happens_is_counted() {
    let kept = Kept::default();
    metrics::with_local_recorder(&kept, || {
        let config = Config::builder(2).max_memories(2).build().unwrap();
        let store = MemoryStore::with_clock(config, ManualClock::default()).unwrap();
        for vector in [[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [-1.0, 0.0]] {
            store.write(Memory::new(&vector, ())).unwrap();
        }
        store.retrieve(&Query::new(&[1.0, 0.0], 1)).unwrap();
        store.prune(Prune::new().older_than(std::time::Duration::ZERO).dry_run()).unwrap();
        store.prune(Prune::new().older_than(std::time::Duration::ZERO)).unwrap();
    });
    let kept = kept.0.lock().unwrap();
    for (name, value) in [
        ("memory_store_writes_total inserted", 3.0),
        ("memory_store_writes_total merged", 1.0),
        ("memory_store_evictions_total", 1.0),
        ("memory_store_retrievals_total", 1.0),
        ("memory_store_prunings_total", 1.0),
        ("memory_store_pruned_total", 2.0),
        ("memory_store_entries", 0.0),
        ("memory_store_size_bytes", 0.0),
    ] {
        assert_eq!(kept.get(name), Some(&value), "{name}: {kept:?}");
    }
}
