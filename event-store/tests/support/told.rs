//! Listeners of the facades `metrics` and `tracing`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, Once};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata as MetricMetadata, Recorder,
    SharedString, Unit,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps counters, and how often a histogram was told something.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<BTreeMap<String, u64>>>);

struct One(Kept, String);

impl CounterFn for One {
    fn increment(&self, by: u64) {
        *self.0.0.lock().expect("no panic").entry(self.1.clone()).or_default() += by;
    }

    fn absolute(&self, to: u64) {
        self.0.0.lock().expect("no panic").insert(self.1.clone(), to);
    }
}

impl GaugeFn for One {
    fn increment(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn decrement(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn set(&self, to: f64) {
        CounterFn::absolute(self, to as u64);
    }
}

impl HistogramFn for One {
    fn record(&self, seconds: f64) {
        assert!((0.0..10.0).contains(&seconds), "{seconds} s");
        CounterFn::increment(self, 1);
    }
}

fn name(key: &Key) -> String {
    let labels: Vec<String> = key.labels().map(|label| format!("{{{}={}}}", label.key(), label.value())).collect();
    format!("{}{}", key.name(), labels.concat())
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &MetricMetadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(One(self.clone(), name(key))))
    }

    fn register_gauge(&self, key: &Key, _: &MetricMetadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(One(self.clone(), name(key))))
    }

    fn register_histogram(&self, key: &Key, _: &MetricMetadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(One(self.clone(), name(key))))
    }
}

type FieldTexts = BTreeMap<&'static str, String>;

/// Keeps spans: their names and fields.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<(String, FieldTexts)>>>);

struct Fields<'a>(&'a mut FieldTexts);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut spans = self.0.lock().expect("no panic");
        let mut fields = FieldTexts::new();
        span.record(&mut Fields(&mut fields));
        spans.push((span.metadata().name().to_owned(), fields));
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut spans = self.0.lock().expect("no panic");
        values.record(&mut Fields(&mut spans[span.into_u64() as usize - 1].1));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Spans {
    fn texts(&self) -> Vec<String> {
        let spans = self.0.lock().expect("no panic");
        let text = |(name, fields): &(String, FieldTexts)| {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
            format!("{name}{}", fields.concat())
        };
        spans.iter().map(text).collect()
    }
}

/// Wants all spans of threads that have no listener of their own, and keeps none.
struct Elsewhere;

impl Subscriber for Elsewhere {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// To be called by every test of a file that has one that listens, before it does anything that tells. `tracing` asks once
/// whether a place is listened to, and where there is one listener, asks that of the thread which comes by first: one without
/// would silence the place for all.
pub(crate) fn listening_everywhere() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Elsewhere).expect("nobody else sets one"));
}

/// Does `work`, on this thread; what it told.
pub(crate) fn told(work: impl FnOnce()) -> (BTreeMap<String, u64>, Vec<String>) {
    listening_everywhere();
    let (kept, spans) = (Kept::default(), Spans::default());
    tracing::subscriber::with_default(spans.clone(), || metrics::with_local_recorder(&kept, work));
    let figures = kept.0.lock().expect("no panic").clone();
    (figures, spans.texts())
}

pub(crate) fn counts(figures: &[(&str, u64)]) -> BTreeMap<String, u64> {
    figures.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}
