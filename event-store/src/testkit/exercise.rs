//! Random work for several clients at once, in a small world in which they meet.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::future::join_all;

use super::history::{Client, History, Recorder, Subscriber};
use crate::append::{Append, AppendCondition, Appended, ExpectedVersion};
use crate::error::AppendError;
use crate::event::{EventId, NewEvent, Position, StreamVersion, Timestamp};
use crate::name::{EventType, StreamId, Tag};
use crate::query::{Query, QueryItem};
use crate::read::Read;
use crate::snapshot::{Snapshot, SnapshotStore};
use crate::store::{BoxFuture, EventStore};
use crate::subscription::{Delivery, Subscribe};

const STREAMS: u64 = 4;
const TYPES: u64 = 3;
const TAGS: u64 = 4;
/// Deliveries that a client takes in one go.
const DELIVERIES: u32 = 40;
/// How far beyond everything a cursor is that no store has reached.
const BEYOND: u64 = 1 << 40;

/// How much work, and which: the same seed makes the same choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exercise {
    /// Where the choices come from.
    pub seed: u64,
    /// Clients at work at the same time, from 1.
    pub clients: u32,
    /// Operations of each.
    pub operations: u32,
    /// How long a delivery that is due may take before it counts as missing.
    pub patience: Duration,
}

impl Default for Exercise {
    /// Four clients with a hundred operations each, from seed 0; five seconds for a delivery.
    fn default() -> Self {
        Self { seed: 0, clients: 4, operations: 100, patience: Duration::from_secs(5) }
    }
}

/// Works on `store`, which is empty, and returns what happened. Up to three clients are under way at a time, all on the calling
/// task: the order of events is that of the seed wherever the store does not wait.
pub async fn exercise<S: EventStore + SnapshotStore>(store: &Arc<S>, exercise: Exercise) -> History {
    let recorder = Recorder::new(Arc::clone(store));
    let mut actors: Vec<Actor<S>> =
        (0..exercise.clients.max(1)).map(|number| Actor::new(recorder.client(), exercise, number)).collect();
    let mut choices = Choices(exercise.seed);
    for _ in 0..u64::from(exercise.operations) * actors.len() as u64 {
        let first = choices.below(actors.len() as u64) as usize;
        let together = 1 + choices.below(3) as usize;
        actors.rotate_left(first);
        join_all(actors.iter_mut().take(together).map(Actor::step)).await;
    }
    for actor in &mut actors {
        actor.catch_up().await;
    }
    drop(actors);
    recorder.finish().await
}

/// As [`exercise`], each client on a thread of its own. It blocks the calling thread and drives futures by a plain executor: for a store
/// that needs its runtime, [`exercise_in_threads_by`].
///
/// # Panics
/// If a client does.
pub fn exercise_in_threads<S: EventStore + SnapshotStore>(store: &Arc<S>, exercise: Exercise) -> History {
    exercise_in_threads_by(&|future| block_on(future), store, exercise)
}

/// As [`exercise_in_threads`]; each thread drives its futures by `block_on`.
///
/// # Panics
/// If a client does, or if `block_on` returns before its future is done.
pub fn exercise_in_threads_by<S: EventStore + SnapshotStore>(
    block_on: &(dyn Fn(BoxFuture<'_, ()>) + Sync),
    store: &Arc<S>,
    exercise: Exercise,
) -> History {
    let recorder = Recorder::new(Arc::clone(store));
    thread::scope(|scope| {
        for number in 0..exercise.clients.max(1) {
            let mut actor = Actor::new(recorder.client(), exercise, number);
            scope.spawn(move || {
                block_on(Box::pin(async {
                    for _ in 0..exercise.operations {
                        actor.step().await;
                    }
                    actor.catch_up().await;
                }));
            });
        }
    });
    let mut history = None;
    // On a thread of its own as well: the caller may be inside an executor.
    thread::scope(|scope| {
        let finishing = scope.spawn(|| block_on(Box::pin(async { history = Some(recorder.finish().await) })));
        finishing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    history.expect("`block_on` drives its future to the end")
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
struct Choices(u64);

impl Choices {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `bound` − 1.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn is_one_of(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// A client that acts on what it has seen.
struct Actor<S> {
    client: Client<S>,
    subscriber: Subscriber,
    choices: Choices,
    next_id: u128,
    /// The last version of each stream that it knows of.
    versions: HashMap<StreamId, Option<StreamVersion>>,
    /// The last position that it has read.
    seen: Option<Position>,
    /// The last position that it was given.
    written: Option<Position>,
    /// How far its subscription has come.
    delivered: Option<Position>,
    last: Option<Append>,
    patience: Duration,
}

impl<S: EventStore + SnapshotStore> Actor<S> {
    fn new(client: Client<S>, exercise: Exercise, number: u32) -> Self {
        let mut choices = Choices(exercise.seed ^ (u64::from(number) + 1).wrapping_mul(0xa076_1d64_78bd_642f));
        let subscribe = match choices.below(4) {
            0 => Subscribe::tail(),
            1 => Subscribe::from_start(),
            _ => Subscribe::from_start().query(query(&mut choices)),
        };
        Self {
            subscriber: client.subscribe(subscribe),
            client,
            choices,
            next_id: (u128::from(number) + 1) << 64,
            versions: HashMap::new(),
            seen: None,
            written: None,
            delivered: None,
            last: None,
            patience: exercise.patience,
        }
    }

    /// One operation.
    async fn step(&mut self) {
        match self.choices.below(20) {
            0..=6 => {
                let append = self.append_to_stream();
                self.append(append).await;
            }
            7 => {
                let append = self.append_to_stream();
                let (stream, expected) = self.target();
                let events = self.events();
                self.append(append.and_stream(stream, expected, events)).await;
            }
            8..=9 => {
                let condition = self.condition();
                let events = self.events();
                self.append(Append::events(events).condition(condition)).await;
            }
            10 => {
                if let Some(append) = self.last.clone() {
                    self.append(append).await;
                }
            }
            11 => {
                if let Some(append) = self.last.as_ref().map(with_another_payload) {
                    self.append(append).await;
                }
            }
            12 => {
                let (stream, expected) = self.target();
                self.append(Append::stream(stream, expected, [])).await;
            }
            13..=15 => {
                let read = self.read();
                if let Ok(events) = self.client.read(read).await {
                    self.seen = self.seen.max(events.iter().map(crate::RecordedEvent::position).max());
                }
            }
            16 => {
                if let Ok(head) = self.client.head().await {
                    self.seen = self.seen.max(head);
                }
            }
            17 => {
                let stream = stream(&mut self.choices);
                if let Ok(version) = self.client.stream_version(&stream).await {
                    self.versions.insert(stream, version);
                }
            }
            18 => self.take_deliveries().await,
            19 if self.choices.is_one_of(8) => self.subscribe_beyond().await,
            _ => self.snapshot().await,
        }
    }

    async fn append(&mut self, append: Append) {
        self.last = Some(append.clone());
        match self.client.append(append).await {
            Ok(Appended { positions, versions, .. }) => {
                self.written = self.written.max(positions.map(|(_, last)| last));
                self.versions.extend(versions.into_iter().map(|(stream, version)| (stream, Some(version))));
            }
            Err(AppendError::WrongExpectedVersion { stream, actual, .. }) => {
                self.versions.insert(stream, actual);
            }
            Err(_) => {}
        }
    }

    fn append_to_stream(&mut self) -> Append {
        let (stream, expected) = self.target();
        let events = self.events();
        Append::stream(stream, expected, events)
    }

    /// A stream and what to expect of it: mostly what this client knows.
    fn target(&mut self) -> (StreamId, ExpectedVersion) {
        let stream = stream(&mut self.choices);
        let known = self.versions.get(&stream).copied().flatten();
        let expected = match self.choices.below(8) {
            0 => ExpectedVersion::Any,
            1 => ExpectedVersion::Exists,
            2 => ExpectedVersion::Exact(StreamVersion::new(known.map_or(0, |version| version.get() + 1))),
            _ => known.map_or(ExpectedVersion::NoStream, ExpectedVersion::Exact),
        };
        (stream, expected)
    }

    fn events(&mut self) -> Vec<NewEvent> {
        let count = if self.choices.is_one_of(40) { 70 } else { 1 + self.choices.below(3) };
        (0..count).map(|_| self.event()).collect()
    }

    fn event(&mut self) -> NewEvent {
        self.next_id += 1;
        let id = EventId::from_u128(self.next_id.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        let tags = (0..self.choices.below(3)).map(|_| tag(&mut self.choices)).collect();
        let payload = self.next_id.to_le_bytes().repeat(1 + self.choices.below(3) as usize);
        NewEvent::with_given_id(id, event_type(&mut self.choices), payload)
            .with_tags(tags)
            .with_time(Timestamp::from_micros(self.next_id as i64))
    }

    fn condition(&mut self) -> AppendCondition {
        let query = query(&mut self.choices);
        if self.choices.is_one_of(6) {
            return AppendCondition::fail_if_exists(query);
        }
        let condition = AppendCondition::fail_if_events_match(query);
        let known = self.seen.max(self.written);
        match (known, self.choices.below(8)) {
            // A decision on what was known a moment ago, on nothing, or on the last of it.
            (Some(known), 0) => {
                Position::new(known.get() - 1).map_or(condition.clone(), |after| condition.after(after))
            }
            (None, _) | (_, 1) => condition,
            (Some(known), _) => condition.after(known),
        }
    }

    fn read(&mut self) -> Read {
        let choices = &mut self.choices;
        let known = self.seen.max(self.written).map_or(1, Position::get);
        let near = Position::new(1 + choices.below(known + 2)).unwrap_or(Position::FIRST);
        let read = match choices.below(6) {
            0 => Read::stream(stream(choices)),
            1 => Read::stream_from(stream(choices), StreamVersion::new(choices.below(known + 2))),
            2 => Read::all_from(near),
            3 => Read::query(query(choices)),
            4 => Read::query_from(query(choices), near),
            _ => Read::all(),
        };
        let read = if choices.is_one_of(3) { read.backwards() } else { read };
        if choices.is_one_of(2) { read.limit(choices.below(9)) } else { read }
    }

    /// Takes deliveries while the subscription is behind what this client was given.
    async fn take_deliveries(&mut self) {
        for _ in 0..DELIVERIES {
            if self.delivered >= self.written {
                return;
            }
            let patient = Patient { future: Box::pin(self.subscriber.next()), patience: self.patience, until: None };
            match patient.await {
                Some(Some(Ok(Delivery::Event(event)))) => self.delivered = self.delivered.max(Some(event.position())),
                Some(Some(Ok(Delivery::CaughtUp(position)))) => self.delivered = self.delivered.max(position),
                Some(None) => return,
                Some(Some(Err(_))) | None => {
                    self.subscriber.give_up();
                    return;
                }
            }
        }
    }

    /// Takes what is left for the subscription, as long as that leads anywhere.
    async fn catch_up(&mut self) {
        loop {
            let before = self.delivered;
            self.take_deliveries().await;
            if self.delivered == before {
                return;
            }
        }
    }

    /// Asks for what is behind the end of the store. What comes of it is in the history, which the checker judges.
    async fn subscribe_beyond(&mut self) {
        let known = self.seen.max(self.written).map_or(0, Position::get);
        let Some(beyond) = Position::new(known + BEYOND) else { return };
        let mut subscriber = self.client.subscribe(Subscribe::after(beyond));
        let patient = Patient { future: Box::pin(subscriber.next()), patience: self.patience, until: None };
        if patient.await.is_none() {
            subscriber.give_up();
        }
    }

    async fn snapshot(&mut self) {
        let stream = stream(&mut self.choices);
        let known = self.versions.get(&stream).copied().flatten();
        // What comes of it is in the history; the checker judges it, the client goes on.
        match known.filter(|_| self.choices.is_one_of(2)) {
            Some(version) => {
                // Sometimes of a future that a restored log would not have.
                let ahead = if self.choices.is_one_of(4) { 3 } else { 0 };
                let snapshot = Snapshot {
                    stream,
                    aggregate_type: "Aggregate".to_owned(),
                    version: StreamVersion::new(version.get() + ahead),
                    schema_version: 1,
                    state: self.choices.next().to_le_bytes().to_vec().into(),
                    time: Timestamp::from_micros(0),
                };
                let _ = self.client.save_snapshot(snapshot).await;
            }
            None => {
                let _ = self.client.load_snapshot(&stream, 1 + u16::from(self.choices.is_one_of(5))).await;
            }
        }
    }
}

/// The same ids with other content: not a repetition.
fn with_another_payload(append: &Append) -> Append {
    let targets: Vec<StreamId> = append.expectations().map(|(stream, ..)| stream.clone()).collect();
    let altered = |(target, mut event): (Option<usize>, NewEvent)| {
        event.payload = [&event.payload[..], b"!"].concat().into();
        (target, event)
    };
    append.new_events().map(altered).fold(Append::events([]), |append, (target, event)| match target {
        Some(target) => append.and_stream(targets[target].clone(), ExpectedVersion::Any, [event]),
        None => append.and_events([event]),
    })
}

fn stream(choices: &mut Choices) -> StreamId {
    name(&format!("stream-{}", choices.below(STREAMS)))
}

fn event_type(choices: &mut Choices) -> EventType {
    name(&format!("Type{}", choices.below(TYPES)))
}

fn tag(choices: &mut Choices) -> Tag {
    name(&format!("tag:{}", choices.below(TAGS)))
}

fn query(choices: &mut Choices) -> Query {
    let item = match choices.below(4) {
        0 => QueryItem::types([event_type(choices)]),
        1 => QueryItem::tags([tag(choices)]).map(|item| item.of_types([event_type(choices)])),
        2 => QueryItem::tags([tag(choices), tag(choices)]),
        _ => QueryItem::tags([tag(choices)]),
    };
    let item = item.expect("it names a type or a tag");
    if choices.is_one_of(6) {
        let other = QueryItem::types([event_type(choices)]).expect("it names a type");
        return Query::items([item, other]).expect("two items");
    }
    Query::item(item)
}

fn name<N: std::str::FromStr<Err = crate::NameError>>(text: &str) -> N {
    text.parse().expect("a valid name")
}

/// A future that gives up, with `None`, after it was pending for too long. It looks again and again: the exercise knows no runtime
/// that could wake it.
struct Patient<F> {
    future: Pin<Box<F>>,
    patience: Duration,
    until: Option<Instant>,
}

impl<F: Future> Future for Patient<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        let (now, patience) = (Instant::now(), self.patience);
        if now >= *self.until.get_or_insert(now + patience) {
            return Poll::Ready(None);
        }
        thread::yield_now();
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
