//! The store against a plain list: whatever is appended and read, both answer alike.

mod support;

use std::collections::HashMap;

use event_store::{
    Append, AppendCondition, AppendError, Clause, EventId, EventType, ExpectedVersion, MemoryStore, NewEvent, Query,
    QueryItem, Read, StreamId, StreamVersion, Tag, Tags, Timestamp,
};
use proptest::prelude::*;
use support::{kind, position, stream, tag};

/// An event as the model knows it.
#[derive(Debug, Clone, PartialEq)]
struct Stored {
    id: u64,
    stream: Option<(StreamId, u64)>,
    event_type: EventType,
    tags: Tags,
    payload: Vec<u8>,
    is_removed: bool,
}

/// What the strategies produce: an event of a small world, so that ids, streams, types and tags meet.
#[derive(Debug, Clone)]
struct Draft {
    id: u64,
    event_type: u8,
    tags: Vec<u8>,
    payload: u8,
}

#[derive(Debug, Clone)]
struct Plan {
    /// Stream (`None` for an event without one), expectation, events.
    parts: Vec<(Option<u8>, Expectation, Vec<Draft>)>,
    boundary: Option<(Shape, Option<u64>)>,
    existence: Option<Shape>,
}

#[derive(Debug, Clone, Copy)]
enum Expectation {
    Any,
    NoStream,
    Exists,
    /// The right version, or off by one.
    Near(i64),
}

/// Items of types and tags.
type Shape = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Debug, Clone)]
enum Step {
    Append(Plan),
    /// The append of an earlier step once more.
    Again(usize),
    /// A stream, and the version below which it is removed.
    Remove(u8, Option<u64>),
    Read {
        source: Place,
        backwards: bool,
        limit: Option<u64>,
    },
}

#[derive(Debug, Clone)]
enum Place {
    Stream(u8, Option<u64>),
    All(Option<u64>),
    Query(Shape, Option<u64>),
}

fn draft() -> impl Strategy<Value = Draft> {
    (0_u64..400, 0_u8..3, prop::collection::vec(0_u8..4, 0..3), 0_u8..2)
        .prop_map(|(id, event_type, tags, payload)| Draft { id, event_type, tags, payload })
}

fn expectation() -> impl Strategy<Value = Expectation> {
    prop_oneof![
        4 => Just(Expectation::Any),
        1 => Just(Expectation::NoStream),
        1 => Just(Expectation::Exists),
        4 => (-1_i64..=1).prop_map(Expectation::Near),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    let item = (prop::collection::vec(0_u8..4, 0..3), prop::collection::vec(0_u8..5, 0..3))
        .prop_filter("an item selects by something", |(types, tags)| !types.is_empty() || !tags.is_empty());
    prop::collection::vec(item, 1..3)
}

fn plan() -> impl Strategy<Value = Plan> {
    let few = prop::collection::vec(draft(), 0..4);
    // Enough to be adopted instead of copied. Fresh ids, so that most of them get in.
    let many = (1_000_u64..1_000_000, 64_u64..80).prop_map(|(first, count)| {
        let event = |i| Draft { id: first * 100 + i, event_type: (i % 3) as u8, tags: vec![(i % 4) as u8], payload: 0 };
        (0..count).map(event).collect()
    });
    let part = (prop::option::weighted(0.8, 0_u8..4), expectation(), prop_oneof![9 => few, 1 => many]);
    let after = prop_oneof![Just(None), (1_u64..40).prop_map(Some), (100_000_u64..100_010).prop_map(Some)];
    (
        prop::collection::vec(part, 1..4),
        prop::option::weighted(0.3, (shape(), after)),
        prop::option::weighted(0.1, shape()),
    )
        .prop_map(|(parts, boundary, existence)| Plan { parts, boundary, existence })
}

fn step() -> impl Strategy<Value = Step> {
    let from = || prop::option::of(0_u64..60);
    let place = prop_oneof![
        (0_u8..5, from()).prop_map(|(stream, from)| Place::Stream(stream, from)),
        from().prop_map(Place::All),
        (shape(), from()).prop_map(|(shape, from)| Place::Query(shape, from)),
    ];
    prop_oneof![
        5 => plan().prop_map(Step::Append),
        2 => any::<usize>().prop_map(Step::Again),
        1 => (0_u8..5, prop::option::of(0_u64..12)).prop_map(|(stream, before)| Step::Remove(stream, before)),
        4 => (place, any::<bool>(), prop::option::of(0_u64..20))
            .prop_map(|(source, backwards, limit)| Step::Read { source, backwards, limit }),
    ]
}

fn name_of(stream_number: u8) -> StreamId {
    stream(&format!("stream-{stream_number}"))
}

fn type_of(number: u8) -> EventType {
    kind(&format!("Type{number}"))
}

fn tags_of(numbers: &[u8]) -> Vec<Tag> {
    numbers.iter().map(|number| tag(&format!("tag:{number}"))).collect()
}

fn query_of(shape: &Shape) -> Query {
    let items = shape.iter().map(|(types, tags)| {
        let types = || types.iter().copied().map(type_of);
        if tags.is_empty() {
            QueryItem::types(types()).expect("some type")
        } else {
            QueryItem::tags(tags_of(tags)).expect("some tag").of_types(types())
        }
    });
    Query::items(items).expect("some item")
}

fn matches(shape: &Shape, event: &Stored) -> bool {
    shape.iter().any(|(types, tags)| {
        (types.is_empty() || types.iter().any(|number| type_of(*number) == event.event_type))
            && tags_of(tags).iter().all(|tag| event.tags.iter().any(|own| own == tag))
    })
}

fn event_of(draft: &Draft) -> NewEvent {
    NewEvent::with_given_id(EventId::from_u128(u128::from(draft.id)), type_of(draft.event_type), vec![draft.payload; 5])
        .with_tags(tags_of(&draft.tags).into_iter().collect())
        .with_time(Timestamp::from_micros(0))
}

/// A version as an expectation and as a number.
fn expected(expectation: Expectation, count: u64) -> ExpectedVersion {
    match expectation {
        Expectation::Any => ExpectedVersion::Any,
        Expectation::NoStream => ExpectedVersion::NoStream,
        Expectation::Exists => ExpectedVersion::Exists,
        Expectation::Near(off) => match (count as i64 - 1 + off).try_into() {
            Ok(version) => ExpectedVersion::Exact(StreamVersion::new(version)),
            Err(_) => ExpectedVersion::NoStream,
        },
    }
}

/// Positions, versions and whether it was a repetition; or the error.
type Answer = Result<(Option<(u64, u64)>, Vec<(String, u64)>, bool), AppendError>;

/// The plain list, and what it answers.
#[derive(Default)]
struct Model {
    events: Vec<Stored>,
}

/// A prepared append: what the store gets and what the model judges.
#[derive(Debug, Clone)]
struct Prepared {
    append: Append,
    targets: Vec<(StreamId, ExpectedVersion)>,
    /// Per event: target index and draft.
    events: Vec<(Option<usize>, Draft)>,
    plan: Plan,
}

impl Model {
    fn of<'a>(&'a self, stream: &'a StreamId) -> impl Iterator<Item = &'a Stored> {
        self.events.iter().filter(move |event| event.stream.as_ref().is_some_and(|(own, _)| own == stream))
    }

    /// How many events a stream has got, removed ones included.
    fn count(&self, stream: &StreamId) -> u64 {
        self.of(stream).count() as u64
    }

    /// The version of a stream's last event when it has got `more`.
    fn version(&self, stream: &StreamId, more: u64) -> Option<u64> {
        let removed = self.of(stream).filter(|event| event.is_removed).count() as u64;
        let count = self.count(stream) + more;
        (count > removed).then(|| count - 1)
    }

    fn remove(&mut self, stream: &StreamId, before: Option<u64>) -> u64 {
        let is_gone = |event: &&mut Stored| {
            let of_stream = event.stream.as_ref().filter(|(own, _)| own == stream);
            of_stream.is_some_and(|(_, version)| before.is_none_or(|before| *version < before)) && !event.is_removed
        };
        self.events.iter_mut().filter(is_gone).map(|event| event.is_removed = true).count() as u64
    }

    fn prepare(&self, plan: &Plan) -> Prepared {
        let mut append = Append::events([]);
        let (mut targets, mut events) = (Vec::new(), Vec::new());
        for (number, expectation, drafts) in &plan.parts {
            let new = drafts.iter().map(event_of);
            match number {
                Some(number) => {
                    let stream = name_of(*number);
                    let expected = expected(*expectation, self.count(&stream));
                    append = append.and_stream(stream.clone(), expected, new);
                    events.extend(drafts.iter().map(|draft| (Some(targets.len()), draft.clone())));
                    targets.push((stream, expected));
                }
                None => {
                    append = append.and_events(new);
                    events.extend(drafts.iter().map(|draft| (None, draft.clone())));
                }
            }
        }
        if let Some((shape, after)) = &plan.boundary {
            let mut condition = AppendCondition::fail_if_events_match(query_of(shape));
            if let Some(after) = after {
                condition = condition.after(position(*after));
            }
            if let Some(shape) = &plan.existence {
                condition = condition.and_fail_if_exists(query_of(shape));
            }
            append = append.condition(condition);
        } else if let Some(shape) = &plan.existence {
            append = append.condition(AppendCondition::fail_if_exists(query_of(shape)));
        }
        Prepared { append, targets, events, plan: plan.clone() }
    }

    /// The answer in words: positions and versions, or the error.
    fn append(&mut self, prepared: &Prepared) -> Answer {
        let stored = |(target, draft): &(Option<usize>, Draft)| Stored {
            id: draft.id,
            stream: target.map(|target| (prepared.targets[target].0.clone(), 0)),
            event_type: type_of(draft.event_type),
            tags: tags_of(&draft.tags).into_iter().collect(),
            payload: vec![draft.payload; 5],
            is_removed: false,
        };
        let new: Vec<Stored> = prepared.events.iter().map(stored).collect();
        if let Some(answer) = self.judge_ids(prepared, &new) {
            return answer;
        }
        let mut added: HashMap<&StreamId, u64> = HashMap::new();
        for (index, (stream, expected)) in prepared.targets.iter().enumerate() {
            let actual = self.version(stream, added.get(stream).copied().unwrap_or(0)).map(StreamVersion::new);
            if !expected.accepts(actual) {
                return Err(AppendError::WrongExpectedVersion { stream: stream.clone(), expected: *expected, actual });
            }
            let events = prepared.events.iter().filter(|(target, _)| *target == Some(index)).count() as u64;
            *added.entry(stream).or_default() += events;
        }
        if let Some((shape, after)) = &prepared.plan.boundary {
            self.must_not_match(shape, after.unwrap_or(0), Clause::Boundary)?;
        }
        if let Some(shape) = &prepared.plan.existence {
            self.must_not_match(shape, 0, Clause::Existence)?;
        }
        let before = self.events.len() as u64;
        for mut event in new {
            if let Some((stream, version)) = &mut event.stream {
                *version =
                    self.events.iter().filter(|e| e.stream.as_ref().is_some_and(|(own, _)| own == stream)).count()
                        as u64;
            }
            self.events.push(event);
        }
        let after = self.events.len() as u64;
        let has_events = |index: &usize| prepared.events.iter().any(|(target, _)| *target == Some(*index));
        let is_check = after == before;
        let indices = (0..prepared.targets.len()).filter(|index| is_check || has_events(index));
        let versions = indices.filter_map(|index| {
            let stream = &prepared.targets[index].0;
            Some((stream.to_string(), self.version(stream, 0)?))
        });
        Ok(((!is_check).then_some((before + 1, after)), versions.collect(), false))
    }

    /// The verdict on ids, if they decide.
    fn judge_ids(&self, prepared: &Prepared, new: &[Stored]) -> Option<Answer> {
        let taken = new.iter().enumerate().find_map(|(index, event)| {
            let recorded = self.events.iter().position(|known| known.id == event.id && !known.is_removed);
            let own =
                || new[..index].iter().position(|earlier| earlier.id == event.id).map(|at| self.events.len() + at);
            recorded.or_else(own).map(|at| (index, at))
        });
        let (index, at) = taken?;
        let same = |(new, old): (&Stored, &Stored)| {
            let stream = |event: &Stored| event.stream.as_ref().map(|(name, _)| name.clone());
            stream(new) == stream(old)
                && !old.is_removed
                && Stored { stream: None, ..new.clone() } == Stored { stream: None, ..old.clone() }
        };
        let recorded = self.events.get(at..at + new.len()).filter(|_| index == 0);
        let Some(recorded) = recorded.filter(|recorded| new.iter().zip(*recorded).all(same)) else {
            let id = EventId::from_u128(u128::from(new[index].id));
            return Some(Err(AppendError::DuplicateEventId { id, position: position(at as u64 + 1) }));
        };
        let versions = prepared.targets.iter().enumerate().filter_map(|(target, (stream, _))| {
            prepared.events.iter().find(|(own, _)| *own == Some(target))?;
            let last = recorded.iter().rfind(|event| event.stream.as_ref().is_some_and(|(own, _)| own == stream))?;
            Some((stream.to_string(), last.stream.as_ref()?.1))
        });
        let positions = (at as u64 + 1, (at + new.len()) as u64);
        Some(Ok((Some(positions), versions.collect(), true)))
    }

    fn must_not_match(&self, shape: &Shape, after: u64, clause: Clause) -> Result<(), AppendError> {
        let first = self
            .events
            .iter()
            .enumerate()
            .find(|(index, event)| *index as u64 + 1 > after && !event.is_removed && matches(shape, event));
        match first {
            Some((index, _)) => Err(AppendError::ConditionFailed { clause, position: position(index as u64 + 1) }),
            None => Ok(()),
        }
    }

    /// Positions of the events that a read finds, in its order.
    fn read(&self, source: &Place, backwards: bool, limit: Option<u64>) -> Vec<u64> {
        let numbered = self.events.iter().enumerate().map(|(index, event)| (index as u64 + 1, event));
        let numbered = numbered.filter(|(_, event)| !event.is_removed);
        // What `from` counts: versions of a stream, positions otherwise.
        let placed: Vec<(u64, u64)> = numbered
            .filter_map(|(position, event)| match source {
                Place::Stream(number, _) => {
                    let (_, version) = event.stream.as_ref().filter(|(name, _)| *name == name_of(*number))?;
                    Some((*version, position))
                }
                Place::All(_) => Some((position, position)),
                Place::Query(shape, _) => matches(shape, event).then_some((position, position)),
            })
            .collect();
        let from = from_of(source);
        let kept = placed
            .into_iter()
            .filter(|(place, _)| from.is_none_or(|from| if backwards { *place <= from } else { *place >= from }));
        let mut found: Vec<u64> = kept.map(|(_, position)| position).collect();
        if backwards {
            found.reverse();
        }
        found.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
        found
    }
}

/// Position 0 does not exist; a read of everything stands for it.
fn from_of(source: &Place) -> Option<u64> {
    match source {
        Place::Stream(_, from) => *from,
        Place::All(from) | Place::Query(_, from) => from.filter(|from| *from > 0),
    }
}

fn read_of(source: &Place, backwards: bool, limit: Option<u64>) -> Read {
    let from = from_of(source);
    let read = match source {
        Place::Stream(number, _) => match from {
            Some(from) => Read::stream_from(name_of(*number), StreamVersion::new(from)),
            None => Read::stream(name_of(*number)),
        },
        Place::All(_) => from.map_or_else(Read::all, |from| Read::all_from(position(from))),
        Place::Query(shape, _) => match from {
            Some(from) => Read::query_from(query_of(shape), position(from)),
            None => Read::query(query_of(shape)),
        },
    };
    let read = if backwards { read.backwards() } else { read };
    limit.map_or(read.clone(), |limit| read.limit(limit))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any sequence of appends, repetitions and reads: the store and the list give the same answers and hold the same events.
    #[test]
    fn store_and_list_answer_alike(steps in prop::collection::vec(step(), 1..40)) {
        let store = MemoryStore::new();
        let mut model = Model::default();
        let mut sent: Vec<Prepared> = Vec::new();
        let mut answers: HashMap<String, _> = HashMap::new();
        for step in &steps {
            let prepared = match step {
                Step::Append(plan) => model.prepare(plan),
                Step::Again(which) if !sent.is_empty() => sent[which % sent.len()].clone(),
                Step::Again(_) => continue,
                Step::Remove(stream, before) => {
                    let (stream, version) = (name_of(*stream), before.map(StreamVersion::new));
                    let removed = match version {
                        Some(version) => store.truncate_stream_now(&stream, version),
                        None => store.delete_stream_now(&stream),
                    };
                    prop_assert_eq!(removed, Ok(model.remove(&stream, *before)));
                    prop_assert_eq!(
                        store.stream_version_now(&stream).map(StreamVersion::get),
                        model.version(&stream, 0)
                    );
                    // What was answered before need not be answered again.
                    answers.clear();
                    continue;
                }
                Step::Read { source, backwards, limit } => {
                    let read = read_of(source, *backwards, *limit);
                    let found: Vec<u64> = store.read_now(&read).iter().map(|event| event.position().get()).collect();
                    prop_assert_eq!(&found, &model.read(source, *backwards, *limit), "{:?}", read);
                    let events = store.events_now(&read);
                    prop_assert_eq!(events.iter().len(), found.len());
                    let kept: Vec<u64> = events.iter().map(|event| event.position().get()).collect();
                    prop_assert_eq!(kept, found, "{:?}", read);
                    continue;
                }
            };
            let answer = store.append_now(prepared.append.clone()).map(|appended| {
                let positions = appended.positions.map(|(first, last)| (first.get(), last.get()));
                let versions = appended.versions().iter().map(|(stream, version)| (stream.to_string(), version.get()));
                (positions, versions.collect::<Vec<_>>(), appended.deduplicated)
            });
            prop_assert_eq!(&answer, &model.append(&prepared), "{:?}", &prepared.plan);
            // A repetition answers what the first one answered.
            let key = format!("{:?} {:?}", prepared.plan, prepared.targets);
            match answer {
                Ok((positions, versions, false)) => drop(answers.insert(key, (positions, versions))),
                Ok((positions, versions, true)) => {
                    if let Some(first) = answers.get(&key).filter(|_| matches!(step, Step::Again(_))) {
                        prop_assert_eq!(&(positions, versions), first);
                    }
                }
                Err(_) => {}
            }
            sent.push(prepared);
        }
        let stored: Vec<Stored> = store
            .read_now(&Read::all())
            .iter()
            .map(|event| Stored {
                id: event.id().as_uuid().as_u128() as u64,
                stream: event.stream().map(|(name, version)| (name.clone(), version.get())),
                event_type: event.event_type().clone(),
                tags: event.tags().clone(),
                payload: event.payload().to_vec(),
                is_removed: false,
            })
            .collect();
        model.events.retain(|event| !event.is_removed);
        prop_assert_eq!(stored, model.events);
    }
}
