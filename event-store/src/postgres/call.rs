//! A group of appends as the parameters of one call, and its verdicts.

use std::collections::HashMap;

use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::append::{Append, AppendCondition, ExpectedVersion};
use crate::batch::NO_STREAM;
use crate::event::{EventId, Position, Timestamp};
use crate::name::Tags;
use crate::query::Query;
use crate::sync::HashSeed;

/// Between names that stand in one text: no name holds it.
pub(super) const SEPARATOR: char = '\u{1f}';

/// The statement that judges and writes a group.
pub(super) const STATEMENT: &str = "SELECT es_append_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)";

/// The same for one event of one stream without a condition, and the types of its parameters.
pub(super) const STATEMENT_FOR_ONE: &str =
    "SELECT es_append_one_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
pub(super) const TYPES_FOR_ONE: [Type; 13] = [
    Type::TEXT,
    Type::TEXT,
    Type::INT4,
    Type::INT8,
    Type::UUID,
    Type::TEXT,
    Type::INT4,
    Type::INT8,
    Type::TEXT,
    Type::BYTEA,
    Type::BYTEA,
    Type::UUID,
    Type::UUID,
];

/// The types of the parameters of [`STATEMENT`].
pub(super) const TYPES: [Type; 22] = [
    Type::BOOL,
    Type::TEXT,
    Type::TEXT_ARRAY,
    Type::INT4_ARRAY,
    Type::INT8_ARRAY,
    Type::INT4_ARRAY,
    Type::INT4_ARRAY,
    Type::UUID_ARRAY,
    Type::TEXT_ARRAY,
    Type::INT4_ARRAY,
    Type::INT8_ARRAY,
    Type::TEXT_ARRAY,
    Type::BYTEA_ARRAY,
    Type::BYTEA_ARRAY,
    Type::UUID_ARRAY,
    Type::UUID_ARRAY,
    Type::INT4_ARRAY,
    Type::TEXT_ARRAY,
    Type::INT8_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::INT4_ARRAY,
];

/// What the function says of one append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is written, from this position on.
    Written(Position),
    /// It is welcome and writes nothing.
    Checked,
    /// This target's stream is at this version.
    WrongVersion(usize, Option<u64>),
    /// The event at this position matches the boundary.
    Boundary(Position),
    /// The event at this position matches the existence guard.
    Existence(Position),
    /// The id of this event is taken by the one at this position.
    Taken(usize, Position),
}

impl Verdict {
    /// What three numbers of an answer say.
    fn of(numbers: &[i64]) -> Option<Self> {
        Some(match *numbers {
            [0, position, _] => Self::Written(position_at(position)?),
            [1, ..] => Self::Checked,
            [2, target, version] => Self::WrongVersion(usize::try_from(target).ok()?, u64::try_from(version).ok()),
            [3, position, _] => Self::Boundary(position_at(position)?),
            [4, position, _] => Self::Existence(position_at(position)?),
            [5, event, position] => Self::Taken(usize::try_from(event).ok()?, position_at(position)?),
            _ => return None,
        })
    }
}

/// A verdict, and the last version of each target's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) versions: Vec<Option<u64>>,
}

/// The parameters of one call, by their names in the function.
#[derive(Debug, Default)]
pub(super) struct Call<'a> {
    own: bool,
    lock_timeout: &'a str,
    streams: Vec<&'a str>,
    /// Where each stream stands in `streams`, counted from 1.
    places: HashMap<&'a str, i64, HashSeed>,
    requests: Vec<i32>,
    targets: Vec<i64>,
    event_requests: Vec<i32>,
    event_targets: Vec<i32>,
    ids: Vec<Uuid>,
    types: Vec<&'a str>,
    schemas: Vec<i32>,
    times: Vec<i64>,
    tags: Vec<String>,
    payloads: Vec<&'a [u8]>,
    metadata: Vec<&'a [u8]>,
    correlations: Vec<Option<Uuid>>,
    causations: Vec<Option<Uuid>>,
    tag_events: Vec<i32>,
    tag_names: Vec<&'a str>,
    items: Vec<i64>,
    item_tags: Vec<String>,
    item_types: Vec<String>,
    matches: Vec<i32>,
}

/// An event of an append that stands before the one with the condition, in one call, and matches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    /// The append, counted from 0 in its call.
    pub(super) append: usize,
    /// The event, counted from 0 in its append.
    pub(super) event: usize,
    /// Whether it matches the existence guard rather than the boundary.
    pub(super) is_existence: bool,
}

impl<'a> Call<'a> {
    /// A call without appends. `own`: it will be a transaction of its own. `lock_timeout` is in milliseconds.
    pub(super) fn new(own: bool, lock_timeout: &'a str) -> Self {
        Self { own, lock_timeout, ..Self::default() }
    }

    /// Adds `append`; `matches` are those of its condition among the appends before, in ascending order.
    pub(super) fn add(&mut self, append: &'a Append, matches: &[Match]) {
        let request = (self.requests.len() / 4) as i32 + 1;
        let events_before = self.ids.len();
        let targets_before = self.targets.len() / 5;
        let batch = &append.batch;

        let mut first_event = vec![0_i64; append.targets.len()];
        for (place, header) in batch.headers.iter().enumerate().rev() {
            if header.stream != NO_STREAM {
                first_event[header.stream as usize] = (events_before + place) as i64;
            }
        }
        for (target, first_event) in append.targets.iter().zip(first_event) {
            let stream = self.place_of(target.stream.as_str());
            let (expected, version) = expectation(target.expected);
            self.targets.extend([stream, i64::from(expected), version, i64::from(target.count), first_event]);
        }

        let (twice, earlier) = repeated_id(append).unwrap_or_default();
        self.requests.extend([append.targets.len() as i32, append.len() as i32, twice, earlier]);
        let tag_sets: Vec<String> = batch.tag_sets.iter().map(joined).collect();
        let now = if batch.is_timeless { Timestamp::now() } else { Timestamp::from_micros(0) };
        for (place, header) in batch.headers.iter().enumerate() {
            let data = batch.data_of(place);
            let (payload, rest) = data.split_at(header.payload_len());
            let (correlation, causation) = header.ids(data);
            self.event_requests.push(request);
            self.event_targets.push(match header.stream {
                NO_STREAM => 0,
                target => (targets_before + target as usize) as i32 + 1,
            });
            self.ids.push(*header.event_id().as_uuid());
            self.types.push(batch.types[header.event_type as usize].as_str());
            self.schemas.push(i32::from(header.schema_version));
            self.times.push(if header.is_timeless() { now } else { header.time() }.as_micros());
            self.tags.push(tag_sets[header.tag_set as usize].clone());
            self.payloads.push(payload);
            self.metadata.push(&rest[..header.metadata_len()]);
            self.correlations.push(correlation);
            self.causations.push(causation);
            let event = self.ids.len() as i32;
            for tag in &batch.tag_sets[header.tag_set as usize] {
                self.tag_events.push(event);
                self.tag_names.push(tag.as_str());
            }
        }
        if let Some(condition) = append.condition.as_deref() {
            self.add_condition(request, condition);
            self.add_matches(request, matches);
        }
    }

    fn add_condition(&mut self, request: i32, condition: &AppendCondition) {
        let clauses = [
            (0, condition.boundary().map(|(query, after)| (query, after.map_or(0, |after| number(after.get()))))),
            (1, condition.existence().map(|query| (query, 0))),
        ];
        for (clause, query, after) in
            clauses.into_iter().filter_map(|(clause, of)| of.map(|(q, after)| (clause, q, after)))
        {
            let mut item = |tags, types| {
                self.items.extend([i64::from(request), clause, after]);
                self.item_tags.push(tags);
                self.item_types.push(types);
            };
            match query {
                Query::All => item(String::new(), String::new()),
                Query::Items(items) => {
                    for each in items.as_slice() {
                        item(joined(each.event_tags()), join(each.event_types().iter().map(|name| name.as_str())));
                    }
                }
            }
        }
    }

    fn add_matches(&mut self, request: i32, matches: &[Match]) {
        // Where each append's events begin: appends come in the order of their events.
        let mut starts = Vec::with_capacity(self.requests.len() / 4);
        let mut start = 0;
        for each in self.requests.chunks_exact(4) {
            starts.push(start);
            start += each[1];
        }
        for found in matches {
            let place = starts[found.append] + found.event as i32 + 1;
            self.matches.extend([request, i32::from(found.is_existence), place]);
        }
    }

    fn place_of(&mut self, stream: &'a str) -> i64 {
        let next = self.streams.len() as i64 + 1;
        let place = *self.places.entry(stream).or_insert(next);
        if place == next {
            self.streams.push(stream);
        }
        place
    }

    /// The parameters, in order.
    pub(super) fn parameters(&self) -> [&(dyn ToSql + Sync); 22] {
        [
            &self.own,
            &self.lock_timeout,
            &self.streams,
            &self.requests,
            &self.targets,
            &self.event_requests,
            &self.event_targets,
            &self.ids,
            &self.types,
            &self.schemas,
            &self.times,
            &self.tags,
            &self.payloads,
            &self.metadata,
            &self.correlations,
            &self.causations,
            &self.tag_events,
            &self.tag_names,
            &self.items,
            &self.item_tags,
            &self.item_types,
            &self.matches,
        ]
    }

    /// What the function answered, one for each append; `None` if that is not what it answers.
    pub(super) fn verdicts(&self, answer: &[i64]) -> Option<Vec<Judged>> {
        let (verdicts, mut versions) = answer.split_at_checked(self.requests.len() / 4 * 3)?;
        let judge = |(request, verdict): (&[i32], &[i64])| {
            let own: &[i64];
            (own, versions) = versions.split_at_checked(request[0] as usize)?;
            let verdict = Verdict::of(verdict)?;
            Some(Judged { verdict, versions: own.iter().map(|version| u64::try_from(*version).ok()).collect() })
        };
        self.requests.chunks_exact(4).zip(verdicts.chunks_exact(3)).map(judge).collect()
    }
}

/// What is expected of a stream: 0 nothing, 1 no events, 2 events, 3 a version, and that version.
fn expectation(expected: ExpectedVersion) -> (i32, i64) {
    match expected {
        ExpectedVersion::Any => (0, 0),
        ExpectedVersion::NoStream => (1, 0),
        ExpectedVersion::Exists => (2, 0),
        ExpectedVersion::Exact(version) => (3, number(version.get())),
    }
}

/// The parameters of a call for one event of one stream without a condition, the most frequent one: its function is quicker.
#[derive(Debug)]
pub(super) struct CallForOne<'a> {
    lock_timeout: &'a str,
    stream: &'a str,
    expected: i32,
    version: i64,
    id: Uuid,
    event_type: &'a str,
    schema: i32,
    time: i64,
    tags: String,
    payload: &'a [u8],
    metadata: &'a [u8],
    correlation: Option<Uuid>,
    causation: Option<Uuid>,
}

impl<'a> CallForOne<'a> {
    /// `None` if `append` is not of the kind.
    pub(super) fn new(append: &'a Append, lock_timeout: &'a str) -> Option<Self> {
        let Append { batch, targets, condition: None } = append else { return None };
        let ([header], [target]) = (&batch.headers[..], &targets[..]) else { return None };
        if header.stream == NO_STREAM {
            return None;
        }
        let data = batch.data_of(0);
        let (payload, rest) = data.split_at(header.payload_len());
        let (expected, version) = expectation(target.expected);
        let (correlation, causation) = header.ids(data);
        Some(Self {
            lock_timeout,
            stream: target.stream.as_str(),
            expected,
            version,
            id: *header.event_id().as_uuid(),
            event_type: batch.types[header.event_type as usize].as_str(),
            schema: i32::from(header.schema_version),
            time: if header.is_timeless() { Timestamp::now() } else { header.time() }.as_micros(),
            tags: joined(&batch.tag_sets[header.tag_set as usize]),
            payload,
            metadata: &rest[..header.metadata_len()],
            correlation,
            causation,
        })
    }

    /// The parameters, in order.
    pub(super) fn parameters(&self) -> [&(dyn ToSql + Sync); 13] {
        [
            &self.lock_timeout,
            &self.stream,
            &self.expected,
            &self.version,
            &self.id,
            &self.event_type,
            &self.schema,
            &self.time,
            &self.tags,
            &self.payload,
            &self.metadata,
            &self.correlation,
            &self.causation,
        ]
    }
}

/// What the function for one event answered; `None` if that is not what it answers.
pub(super) fn verdict_on_one(answer: &[i64]) -> Option<Vec<Judged>> {
    let (verdict, [version]) = answer.split_at_checked(3)? else { return None };
    Some(vec![Judged { verdict: Verdict::of(verdict)?, versions: vec![u64::try_from(*version).ok()] }])
}

/// `number` as the server counts; what lies beyond is as good as the largest.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn position_at(number: i64) -> Option<Position> {
    Position::new(u64::try_from(number).ok()?)
}

pub(super) fn joined(tags: &Tags) -> String {
    join(tags.iter().map(|tag| tag.as_str()))
}

pub(super) fn join<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut text = String::new();
    for name in names {
        if !text.is_empty() {
            text.push(SEPARATOR);
        }
        text.push_str(name);
    }
    text
}

/// The first event whose id an earlier one has, and that one, counted from 1.
fn repeated_id(append: &Append) -> Option<(i32, i32)> {
    if append.len() < 2 {
        return None;
    }
    let mut places: HashMap<EventId, i32> = HashMap::with_capacity(append.len());
    append
        .batch
        .headers
        .iter()
        .zip(1..)
        .find_map(|(header, place)| places.insert(header.event_id(), place).map(|earlier| (place, earlier)))
}
