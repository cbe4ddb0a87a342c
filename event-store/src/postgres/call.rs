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
pub(super) const STATEMENT: &str =
    "SELECT es_append_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)";

/// The types of its parameters.
pub(super) const TYPES: [Type; 20] = [
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
            let (expected, version) = match target.expected {
                ExpectedVersion::Any => (0, 0),
                ExpectedVersion::NoStream => (1, 0),
                ExpectedVersion::Exists => (2, 0),
                ExpectedVersion::Exact(version) => (3, number(version.get())),
            };
            self.targets.extend([stream, expected, version, i64::from(target.count), first_event]);
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
    pub(super) fn parameters(&self) -> [&(dyn ToSql + Sync); 20] {
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
            let verdict = match *verdict {
                [0, position, _] => Verdict::Written(position_at(position)?),
                [1, ..] => Verdict::Checked,
                [2, target, version] => {
                    Verdict::WrongVersion(usize::try_from(target).ok()?, u64::try_from(version).ok())
                }
                [3, position, _] => Verdict::Boundary(position_at(position)?),
                [4, position, _] => Verdict::Existence(position_at(position)?),
                [5, event, position] => Verdict::Taken(usize::try_from(event).ok()?, position_at(position)?),
                _ => return None,
            };
            Some(Judged { verdict, versions: own.iter().map(|version| u64::try_from(*version).ok()).collect() })
        };
        self.requests.chunks_exact(4).zip(verdicts.chunks_exact(3)).map(judge).collect()
    }
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
