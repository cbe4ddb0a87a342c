//! What the `metrics` facade is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

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
