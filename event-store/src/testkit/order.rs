//! The contract as a plain list: what a store answers that judges one append after the other.

use std::collections::{HashMap, HashSet};

use crate::append::{Append, AppendCondition, Appended};
use crate::error::{AppendError, Clause};
use crate::event::{EventId, NewEvent, Position, StreamVersion, Timestamp};
use crate::name::{EventType, StreamId, Tag};
use crate::query::{Query, QueryItem};
use crate::read::{Read, Source};
use crate::recorded::RecordedEvent;

/// Events in their order, with lists by id, stream, type and tag.
///
/// Every question takes a `head`: it is answered as if the events behind it did not exist yet. So one order answers for each
/// moment of its past, which is what a checker of histories asks for. Removals are not part of that past: what is removed is as if it had
/// never been at any head, but for the positions and versions that it had. Cost of a question: the matching events, and a binary search.
#[derive(Debug, Clone, Default)]
pub struct Order {
    events: Vec<RecordedEvent>,
    ids: HashMap<EventId, u64>,
    streams: HashMap<StreamId, Vec<u64>>,
    types: HashMap<EventType, Vec<u64>>,
    tags: HashMap<Tag, Vec<u64>>,
    /// How many events at the front of a stream are removed, and their positions.
    removed_of: HashMap<StreamId, u64>,
    removed: HashSet<u64>,
}

impl Order {
    /// No events.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The events, the first at position 1, removed ones included.
    #[must_use]
    pub fn events(&self) -> &[RecordedEvent] {
        &self.events
    }

    /// The position of the last event, 0 for none.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.events.len() as u64
    }

    /// The event at `position`, if it is not removed.
    #[must_use]
    pub fn get(&self, position: u64) -> Option<&RecordedEvent> {
        if self.removed.contains(&position) {
            return None;
        }
        self.events.get(usize::try_from(position.checked_sub(1)?).ok()?)
    }

    /// The position of the event `id`.
    #[must_use]
    pub fn position_of(&self, id: EventId) -> Option<u64> {
        self.ids.get(&id).copied()
    }

    /// The positions of a stream's events, removed ones included: the first has version 0.
    #[must_use]
    pub fn stream(&self, stream: &StreamId) -> &[u64] {
        self.streams.get(stream).map_or(&[], Vec::as_slice)
    }

    /// Adds an event as it is. Its position is the next one whatever it says of itself; an id that is taken keeps its first place.
    pub fn push(&mut self, event: RecordedEvent) {
        let position = self.head() + 1;
        self.ids.entry(event.id()).or_insert(position);
        if let Some((stream, _)) = event.stream() {
            self.streams.entry(stream.clone()).or_default().push(position);
        }
        self.types.entry(event.event_type().clone()).or_default().push(position);
        for tag in event.tags() {
            self.tags.entry(tag.clone()).or_default().push(position);
        }
        self.events.push(event);
    }

    /// Removes the events of `stream` below version `before`, all of them without one; returns how many there were.
    pub fn remove(&mut self, stream: &StreamId, before: Option<StreamVersion>) -> u64 {
        let Some(positions) = self.streams.get(stream) else { return 0 };
        let written = positions.len() as u64;
        let removed = self.removed_of.entry(stream.clone()).or_default();
        let before = before.map_or(written, |before| before.get().min(written)).max(*removed);
        let gone = &positions[*removed as usize..before as usize];
        *removed = before;
        for position in gone {
            self.ids.remove(&self.events[*position as usize - 1].id());
            self.removed.insert(*position);
        }
        gone.len() as u64
    }

    /// The version of the last event of `stream` up to `head`.
    #[must_use]
    pub fn stream_version(&self, stream: &StreamId, head: u64) -> Option<StreamVersion> {
        self.last_of(stream, self.stream_len(stream, head))
    }

    /// The version of the last event of a stream that has got `length` events so far, if they are not all removed.
    fn last_of(&self, stream: &StreamId, length: u64) -> Option<StreamVersion> {
        let removed = self.removed_of.get(stream).copied().unwrap_or_default();
        (length > removed).then(|| StreamVersion::new(length - 1))
    }

    /// Judges `append` and writes it, with `time` for events without one.
    ///
    /// # Errors
    /// As [`Order::judge`].
    pub fn append(&mut self, append: &Append, time: Timestamp) -> Result<Appended, AppendError> {
        let appended = self.judge(append, self.head())?;
        if !appended.deduplicated {
            for event in self.recorded(append, self.head(), time) {
                self.push(event);
            }
        }
        Ok(appended)
    }

    /// What `append` would be recorded as behind `head`.
    #[must_use]
    pub fn recorded(&self, append: &Append, head: u64, time: Timestamp) -> Vec<RecordedEvent> {
        let targets: Vec<&StreamId> = append.expectations().map(|(stream, ..)| stream).collect();
        let mut added: HashMap<&StreamId, u64> = HashMap::new();
        let events = append.new_events().zip(head + 1..).map(|((target, event), position)| {
            let stream = target.map(|target| {
                let stream = targets[target];
                let count = added.entry(stream).or_default();
                let version = self.stream_len(stream, head) + *count;
                *count += 1;
                (stream.clone(), StreamVersion::new(version))
            });
            RecordedEvent::of_event(position_at(position), stream, time, &event)
        });
        events.collect()
    }

    /// The verdict on `append` behind `head`; sizes are not judged.
    ///
    /// # Errors
    /// The first reason against it, in the order of [`EventStore`](crate::EventStore).
    pub fn judge(&self, append: &Append, head: u64) -> Result<Appended, AppendError> {
        if let Some(verdict) = self.judge_ids(append, head) {
            return verdict;
        }
        let mut lengths: HashMap<&StreamId, u64> = HashMap::new();
        for (stream, expected, count) in append.expectations() {
            let length = lengths.entry(stream).or_insert_with(|| self.stream_len(stream, head));
            let actual = self.last_of(stream, *length);
            *length += count as u64;
            if !expected.accepts(actual) {
                return Err(AppendError::WrongExpectedVersion { stream: stream.clone(), expected, actual });
            }
        }
        if let Some(condition) = append.append_condition() {
            self.judge_condition(condition, head)?;
        }
        let writes = append.expectations().filter(|(.., count)| *count > 0 || append.is_empty());
        let versions =
            writes.filter_map(|(stream, ..)| Some((stream.clone(), self.last_of(stream, *lengths.get(stream)?)?)));
        let positions = (!append.is_empty()).then(|| (position_at(head + 1), position_at(head + append.len() as u64)));
        Ok(Appended::new(positions, versions, false))
    }

    /// The verdict if an id of `append` is taken.
    fn judge_ids(&self, append: &Append, head: u64) -> Option<Result<Appended, AppendError>> {
        let events: Vec<(Option<usize>, NewEvent)> = append.new_events().collect();
        let mut own = HashMap::new();
        let (index, taken_by) = events.iter().enumerate().find_map(|(index, (_, event))| {
            let recorded = self.position_of(event.id).filter(|position| *position <= head);
            let earlier = own.insert(event.id, head + 1 + index as u64);
            recorded.or(earlier).map(|position| (index, position))
        })?;
        let refusal = AppendError::DuplicateEventId { id: events[index].1.id, position: position_at(taken_by) };
        let targets: Vec<&StreamId> = append.expectations().map(|(stream, ..)| stream).collect();
        let is_same = |(event, position): (&(Option<usize>, NewEvent), u64)| {
            let (target, event) = event;
            let recorded = self.get(position).filter(|_| position <= head);
            recorded.is_some_and(|recorded| {
                recorded.stream().map(|(stream, _)| stream) == target.map(|target| targets[target])
                    && has_content_of(recorded, event)
            })
        };
        if index > 0 || !events.iter().zip(taken_by..).all(is_same) {
            return Some(Err(refusal));
        }
        let last_in = |stream: &StreamId| {
            let place =
                events.iter().rposition(|(target, _)| target.is_some_and(|target| targets[target] == stream))?;
            self.get(taken_by + place as u64)?.stream_version()
        };
        let written = append.expectations().filter(|(.., count)| *count > 0);
        let versions = written.filter_map(|(stream, ..)| Some((stream.clone(), last_in(stream)?)));
        let positions = (position_at(taken_by), position_at(taken_by + events.len() as u64 - 1));
        Some(Ok(Appended::new(Some(positions), versions, true)))
    }

    fn judge_condition(&self, condition: &AppendCondition, head: u64) -> Result<(), AppendError> {
        let failed = |clause, position| Err(AppendError::ConditionFailed { clause, position: position_at(position) });
        if let Some((query, after)) = condition.boundary()
            && let Some(position) = self.first_match(query, after.map_or(0, Position::get), head)
        {
            return failed(Clause::Boundary, position);
        }
        if let Some(position) = condition.existence().and_then(|query| self.first_match(query, 0, head)) {
            return failed(Clause::Existence, position);
        }
        Ok(())
    }

    /// The first event behind `after` and not behind `head` that matches `query`.
    #[must_use]
    pub fn first_match(&self, query: &Query, after: u64, head: u64) -> Option<u64> {
        let Query::Items(items) = query else {
            return (after.saturating_add(1)..=head.min(self.head())).find(|position| !self.removed.contains(position));
        };
        let of_item = |item: &QueryItem| {
            let first_of = |positions: &[u64]| {
                let behind = &positions[positions.partition_point(|position| *position <= after)..];
                behind.iter().copied().take_while(|position| *position <= head).find(|p| self.is_match(item, *p))
            };
            let rarest = item.event_tags().iter().map(|tag| self.tags.get(tag).map_or(&[][..], Vec::as_slice));
            match rarest.min_by_key(|positions| positions.len()) {
                Some(positions) => first_of(positions),
                None => item.event_types().iter().filter_map(|name| first_of(self.types.get(name)?)).min(),
            }
        };
        items.as_slice().iter().filter_map(of_item).min()
    }

    /// Every position that `source` selects, whatever it starts from, in ascending order.
    #[must_use]
    pub fn matches(&self, source: &Source) -> Vec<u64> {
        let mut positions = self.with_removed(source);
        positions.retain(|position| !self.removed.contains(position));
        positions
    }

    fn with_removed(&self, source: &Source) -> Vec<u64> {
        match source {
            Source::Stream { id, .. } => self.stream(id).to_vec(),
            Source::Store { query: Query::All, .. } => (1..=self.head()).collect(),
            Source::Store { query: Query::Items(items), .. } => {
                let of_item = |item: &QueryItem| -> Vec<u64> {
                    let by_tag = item.event_tags().iter().map(|tag| self.tags.get(tag).map_or(&[][..], Vec::as_slice));
                    let candidates: Vec<u64> = match by_tag.min_by_key(|positions| positions.len()) {
                        Some(positions) => positions.to_vec(),
                        None => item
                            .event_types()
                            .iter()
                            .filter_map(|name| self.types.get(name))
                            .flatten()
                            .copied()
                            .collect(),
                    };
                    candidates.into_iter().filter(|position| self.is_match(item, *position)).collect()
                };
                let found: HashSet<u64> = items.as_slice().iter().flat_map(of_item).collect();
                let mut found: Vec<u64> = found.into_iter().collect();
                found.sort_unstable();
                found
            }
        }
    }

    /// The events of `read` as of `head`.
    #[must_use]
    pub fn read(&self, read: &Read, head: u64) -> Vec<RecordedEvent> {
        let mut positions = self.with_removed(read.source());
        positions.retain(|position| *position <= head);
        let from = match read.source() {
            Source::Stream { from, .. } => from.map(|version| version.get() as usize),
            Source::Store { from, .. } => from.map(|from| positions.partition_point(|position| *position < from.get())),
        };
        let is_after = |place: usize| match read.source() {
            Source::Store { from: Some(from), .. } => positions[place] > from.get(),
            Source::Stream { from: Some(from), .. } => place as u64 > from.get(),
            _ => false,
        };
        let places: Vec<usize> = if read.is_backwards() {
            (0..positions.len()).rev().filter(|place| !is_after(*place)).collect()
        } else {
            (from.unwrap_or(0)..positions.len()).collect()
        };
        let most = usize::try_from(read.most()).unwrap_or(usize::MAX);
        places.into_iter().filter_map(|place| self.get(positions[place]).cloned()).take(most).collect()
    }

    /// How many events `stream` has got up to `head`, removed ones included.
    #[must_use]
    pub fn stream_len(&self, stream: &StreamId, head: u64) -> u64 {
        self.stream(stream).partition_point(|position| *position <= head) as u64
    }

    fn is_match(&self, item: &QueryItem, position: u64) -> bool {
        self.get(position).is_some_and(|event| item.matches(event.event_type(), event.tags()))
    }
}

/// Whether `recorded` is `event`, but for its place: the same in every byte, and in its time where `event` has one.
#[must_use]
pub(super) fn has_content_of(recorded: &RecordedEvent, event: &NewEvent) -> bool {
    recorded.id() == event.id
        && *recorded.event_type() == event.event_type
        && recorded.schema_version() == event.schema_version
        && *recorded.tags() == event.tags
        && recorded.payload() == event.payload
        && recorded.metadata() == event.metadata
        && recorded.correlation_id() == event.correlation_id
        && recorded.causation_id() == event.causation_id
        && event.time.is_none_or(|time| time == recorded.time())
}

/// Position `number`, which is not 0.
pub(super) fn position_at(number: u64) -> Position {
    Position::new(number).expect("positions count from 1")
}
