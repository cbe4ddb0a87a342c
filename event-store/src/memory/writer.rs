//! Judges and writes appends, one at a time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use smallvec::SmallVec;

use super::feed::Sleepers;
use super::ids::{IdIndex, Overlap};
use super::log::{Log, LogWriter, View};
use super::matcher::Matcher;
use super::names::{Names, NamesWriter};
use super::reading::{index_of, live_stretch};
use crate::append::{Append, AppendCondition, Appended, Target};
use crate::batch::{Batch, Header, NO_STREAM};
use crate::error::{AppendError, Clause};
use crate::event::{Position, StreamVersion, Timestamp};
use crate::name::StreamId;

/// An append of at least this many events, or of this many bytes, becomes a block of its own instead of being copied. Below, a
/// block of its own would cost more than the copy.
const ADOPT_EVENTS: usize = 64;
const ADOPT_BYTES: usize = 32 << 10;

/// What only the writer needs, behind the store's lock.
#[derive(Debug)]
pub(super) struct Writer {
    log: LogWriter,
    names: NamesWriter,
    ids: IdIndex,
    /// Subscriptions to wake by an append.
    pub(super) sleepers: Sleepers,
}

/// The number of each target's stream, where it has one already.
type Numbers = SmallVec<[Option<u32>; 1]>;

impl Writer {
    pub(super) fn new(log: LogWriter, names: NamesWriter) -> Self {
        Self { log, names, ids: IdIndex::new(), sleepers: Sleepers::default() }
    }

    /// Writes all of `append` or nothing. What is left of `append` is of no more use.
    pub(super) fn append(&mut self, names: &Names, append: &mut Append) -> Result<Appended, AppendError> {
        if let Some(appended) = self.append_one(names, append) {
            return Ok(appended);
        }
        // The verdict on ids goes before this one. It is reached by inserting them, which only an append that is otherwise
        // welcome should do.
        let find = |target: &Target| names.streams.find_as_writer(&target.stream, &mut self.names.streams);
        let numbers: Numbers = map_each(&append.targets, find);
        if let Some(refusal) = self.refusal(names, append, &numbers) {
            return self.taken_id(append).map_or(Err(refusal), |overlap| self.repetition(names, append, overlap));
        }
        if append.is_empty() {
            let versions = append.targets.iter().zip(numbers);
            let versions =
                versions.filter_map(|(target, number)| Some((target.stream.clone(), last_version(names, number, 0)?)));
            return Ok(Appended { positions: None, versions: versions.collect(), deduplicated: false });
        }
        let (first, count) = (self.log.len(), append.len());
        if count >= (u32::MAX - first) as usize {
            return Err(AppendError::Unavailable("the store holds as many events as it can number".to_owned()));
        }
        let log = self.log.log().view();
        let ids = append.batch.headers.iter().map(|header| &header.id);
        match self.ids.insert_all(ids, count, first, |event| recorded(log, event).id) {
            Ok(()) => Ok(self.write(names, append, &numbers)),
            Err(overlap) => self.repetition(names, append, overlap),
        }
    }

    /// Writes an append of one small event to one stream without a condition, the most frequent kind, if nothing speaks against it.
    /// `None` leaves everything as it was, `append` included.
    #[inline]
    fn append_one(&mut self, names: &Names, append: &mut Append) -> Option<Appended> {
        let Append { batch, targets, condition: None } = append else { return None };
        let ([header], [target], [event_type], [tags]) =
            (&mut batch.headers[..], &targets[..], &batch.types[..], &batch.tag_sets[..])
        else {
            return None;
        };
        let event = self.log.len();
        if header.stream == NO_STREAM || batch.data.len() >= ADOPT_BYTES || event >= u32::MAX - 1 {
            return None;
        }
        let known = names.streams.find_as_writer(&target.stream, &mut self.names.streams);
        if !target.expected.accepts(last_version(names, known, 0)) {
            return None;
        }
        let log = self.log.log().view();
        self.ids.insert_all([&header.id].into_iter(), 1, event, |event| recorded(log, event).id).ok()?;
        let places = Places {
            stream: known.unwrap_or_else(|| names.streams.intern(&target.stream, &mut self.names.streams)),
            event_type: names.types.intern(event_type, &mut self.names.types),
            tag_set: names.intern_tags(tags, &mut self.names),
        };
        let now = header.is_timeless().then(Timestamp::now);
        let version = places.number(names, event, std::slice::from_mut(header), now);
        self.log.copy(std::slice::from_mut(header), &batch.data);
        self.log.publish();
        let position = Position::after_events(event);
        let version = StreamVersion::new(u64::from(version));
        let versions = targets.pop().map(|target| (target.stream, version)).into_iter().collect();
        Some(Appended { positions: Some((position, position)), versions, deduplicated: false })
    }

    /// Removes the events of `stream` below version `before`, all of them without one; returns how many there were. Their ids are free again.
    pub(super) fn remove(&mut self, names: &Names, stream: &StreamId, before: Option<StreamVersion>) -> u32 {
        let Some(number) = names.streams.find_as_writer(stream, &mut self.names.streams) else { return 0 };
        let postings = &names.streams.entry(number).postings;
        let (removed, written) = (postings.removed(), postings.written());
        let before = before.map_or(written, |before| u32::try_from(before.get()).unwrap_or(u32::MAX).min(written));
        if before <= removed {
            return 0;
        }
        let entries = postings.view(self.log.len());
        let log = Arc::clone(self.log.log());
        let view = log.view();
        let (mut ordinal, mut hint) = (removed, 0);
        while ordinal < before {
            let (first, count) = entries.stretch(ordinal);
            for event in first..first + count.min(before - ordinal) {
                let header = view.run(event, &mut hint).event(event).header();
                self.ids.remove([&header.id].into_iter(), event);
                self.log.count_removed(event);
            }
            ordinal += count;
        }
        names.count_removed(before - removed);
        postings.remove(before);
        before - removed
    }

    /// Frees memory of removed events where that is worth it; returns the log that readers are to use from now on.
    pub(super) fn free(&mut self, names: &Names) -> Option<Arc<Log>> {
        self.log.free(|header| names.is_removed(header))
    }

    /// Bytes that removed events still take.
    pub(super) fn removed_bytes(&self) -> u64 {
        self.log.removed_bytes()
    }

    /// The first reason against `append` beside its ids: expected versions, boundary, existence.
    fn refusal(&self, names: &Names, append: &Append, numbers: &[Option<u32>]) -> Option<AppendError> {
        let view = self.log.log().view();
        wrong_version(names, &append.targets, numbers)
            .or_else(|| failed_condition(names, view, append.condition.as_deref()?))
    }

    /// The first id of `append` that is taken, by a recorded event or by an earlier one of its own.
    fn taken_id(&self, append: &Append) -> Option<Overlap> {
        let log = self.log.log().view();
        let mut own = HashSet::new();
        append.batch.headers.iter().enumerate().find_map(|(new, header)| {
            let known = self.ids.find(&header.id, |event| recorded(log, event).id);
            let twice = || append.batch.headers[..new].iter().position(|earlier| earlier.id == header.id);
            let taken_by = match known {
                Some(event) => Some(event),
                None if append.len() > 1 && !own.insert(header.id) => twice().map(|at| self.log.len() + at as u32),
                None => None,
            };
            taken_by.map(|taken_by| Overlap { new, taken_by })
        })
    }

    /// The verdict on an append whose id is taken: what is recorded if it is the same append, a refusal otherwise.
    fn repetition(&self, names: &Names, append: &Append, overlap: Overlap) -> Result<Appended, AppendError> {
        let view = self.log.log().view();
        let refusal = || AppendError::DuplicateEventId {
            id: append.batch.headers[overlap.new].event_id(),
            position: Position::after_events(overlap.taken_by),
        };
        let (first, count) = (overlap.taken_by, append.len() as u32);
        let is_recorded = overlap.new == 0 && u64::from(first) + u64::from(count) <= u64::from(view.len());
        if !is_recorded || !(0..count).all(|index| is_same(names, append, index as usize, view, first + index)) {
            return Err(refusal());
        }
        let mut versions: SmallVec<[(StreamId, StreamVersion); 1]> = SmallVec::new();
        let headers = &append.batch.headers;
        let in_stream = |header: &Header, stream: &StreamId| {
            header.stream != NO_STREAM && append.targets[header.stream as usize].stream == *stream
        };
        for target in append.targets.iter().filter(|target| target.count > 0) {
            let last = headers.iter().rposition(|header| in_stream(header, &target.stream));
            let version = last.map_or(0, |last| recorded(view, first + last as u32).version);
            versions.push((target.stream.clone(), StreamVersion::new(u64::from(version))));
        }
        let positions = Some((Position::after_events(first), Position::after_events(first + count - 1)));
        Ok(Appended { positions, versions, deduplicated: true })
    }

    /// Writes `append`, whose ids are taken for it, and publishes it.
    fn write(&mut self, names: &Names, append: &mut Append, numbers: &[Option<u32>]) -> Appended {
        let first = self.log.len();
        let Batch { headers, data, types, tag_sets, is_timeless, .. } = &mut append.batch;
        let types = map_each(types, |name| names.types.intern(name, &mut self.names.types));
        let tag_sets = map_each(tag_sets, |tags| names.intern_tags(tags, &mut self.names));
        // A stream gets its number with its first event. The second target of a new stream finds it here, too.
        let mut numbers = numbers.iter();
        let streams = map_each(&append.targets, |target| match numbers.next() {
            Some(Some(number)) => *number,
            _ if target.count == 0 => NO_STREAM,
            _ => names.streams.intern(&target.stream, &mut self.names.streams),
        });
        let now = is_timeless.then(Timestamp::now);

        // Neighbours of one stream, type and tag set are numbered together.
        let mut start = 0;
        for group in
            headers.chunk_by_mut(|a, b| (a.stream, a.event_type, a.tag_set) == (b.stream, b.event_type, b.tag_set))
        {
            let places = Places {
                stream: if group[0].stream == NO_STREAM { NO_STREAM } else { streams[group[0].stream as usize] },
                event_type: types[group[0].event_type as usize],
                tag_set: tag_sets[group[0].tag_set as usize],
            };
            places.number(names, first + start, group, now);
            start += group.len() as u32;
        }

        if headers.len() >= ADOPT_EVENTS || data.len() >= ADOPT_BYTES {
            self.log.adopt(std::mem::take(headers).into_vec(), std::mem::take(data).into_vec());
        } else {
            self.log.copy(headers, data);
        }
        self.log.publish();
        let last = self.log.len() - 1;
        let version_in = |stream| last_version(names, Some(stream), 0);
        let written = |(target, stream): (Target, u32)| Some((target.stream, version_in(stream)?));
        let versions = match (append.targets.len(), append.targets.pop()) {
            (1, Some(target)) if target.count > 0 => written((target, streams[0])).into_iter().collect(),
            (_, last) => {
                let targets = append.targets.drain(..).chain(last).zip(streams);
                targets.filter(|(target, _)| target.count > 0).filter_map(written).collect()
            }
        };
        Appended {
            positions: Some((Position::after_events(first), Position::after_events(last))),
            versions,
            deduplicated: false,
        }
    }
}

/// The numbers of what some neighbours have in common.
#[derive(Clone, Copy)]
struct Places {
    stream: u32,
    event_type: u32,
    tag_set: u32,
}

impl Places {
    /// Numbers the events of `group`, the first of which is number `event` of the store, and lists them under their names. Returns the
    /// version of the first; 0 without a stream.
    #[inline]
    fn number(self, names: &Names, event: u32, group: &mut [Header], now: Option<Timestamp>) -> u32 {
        let Self { stream, event_type, tag_set } = self;
        let count = group.len() as u32;
        let mut first_version = 0;
        if stream != NO_STREAM {
            let postings = &names.streams.entry(stream).postings;
            first_version = postings.written();
            postings.push(event, count);
        }
        names.types.entry(event_type).postings.push(event, count);
        for &tag in &names.tag_set(tag_set).numbers {
            names.tags.entry(tag).postings.push(event, count);
        }
        for (header, version) in group.iter_mut().zip(first_version..) {
            header.version = if stream == NO_STREAM { 0 } else { version };
            (header.stream, header.event_type, header.tag_set) = (stream, event_type, tag_set);
            if header.is_timeless() {
                header.set_time(now.unwrap_or(Timestamp::from_micros(0)));
            }
        }
        first_version
    }
}

/// What `f` makes of each entry. Most lists have one, which needs no loop.
fn map_each<T, R>(list: &[T], mut f: impl FnMut(&T) -> R) -> SmallVec<[R; 1]> {
    match list {
        [one] => SmallVec::from_buf([f(one)]),
        many => many.iter().map(f).collect(),
    }
}

/// The header of recorded event `event`.
fn recorded(view: View<'_>, event: u32) -> &Header {
    view.run(event, &mut 0).event(event).header()
}

/// The version of a stream's last event, once it has got `more`; `None` if it then has none.
fn last_version(names: &Names, number: Option<u32>, more: u32) -> Option<StreamVersion> {
    let (written, removed) = number.map_or((0, 0), |number| {
        let postings = &names.streams.entry(number).postings;
        (postings.written(), postings.removed())
    });
    (written + more > removed).then(|| StreamVersion::new(u64::from(written + more) - 1))
}

fn wrong_version(names: &Names, targets: &[Target], numbers: &[Option<u32>]) -> Option<AppendError> {
    let refusal = |target: &Target, actual: Option<StreamVersion>| {
        (!target.expected.accepts(actual)).then(|| AppendError::WrongExpectedVersion {
            stream: target.stream.clone(),
            expected: target.expected,
            actual,
        })
    };
    if let ([target], [number]) = (targets, numbers) {
        return refusal(target, last_version(names, *number, 0));
    }
    // What earlier targets of this append add to a stream counts for later ones.
    let mut added: HashMap<&StreamId, u32> = HashMap::new();
    targets.iter().zip(numbers).find_map(|(target, number)| {
        let earlier = added.entry(&target.stream).or_default();
        let actual = last_version(names, *number, *earlier);
        *earlier += target.count;
        refusal(target, actual)
    })
}

fn failed_condition(names: &Names, view: View<'_>, condition: &AppendCondition) -> Option<AppendError> {
    let first_match = |query, from| {
        let mut matcher = Matcher::new(query, names, view);
        let (mut found, mut hint) = (matcher.next(from), 0);
        if names.removed() > 0 {
            while let Some(event) = found {
                // The first event from there on that is not removed: if it is not this one, it need not match.
                match live_stretch(names, view, event, view.len(), &mut hint) {
                    Some((live, _)) if live == event => break,
                    Some((live, _)) => found = matcher.next(live),
                    None => found = None,
                }
            }
        }
        found
    };
    let failed = |clause| move |event| AppendError::ConditionFailed { clause, position: Position::after_events(event) };
    let boundary = condition
        .boundary
        .as_ref()
        .and_then(|(query, after)| first_match(query, after.map_or(0, |after| index_of(after).saturating_add(1))));
    let existence = || condition.existence.as_ref().and_then(|query| first_match(query, 0));
    boundary.map(failed(Clause::Boundary)).or_else(|| existence().map(failed(Clause::Existence)))
}

/// Whether event `index` of `append` is the recorded event `event`.
fn is_same(names: &Names, append: &Append, index: usize, view: View<'_>, event: u32) -> bool {
    let Ok(run) = view.run_or_hole(event, &mut 0) else { return false };
    let entry = run.event(event);
    if names.is_removed(entry.header()) {
        return false;
    }
    let (new, old) = (&append.batch.headers[index], entry.header());
    let stream = || match (new.stream, old.stream) {
        (NO_STREAM, NO_STREAM) => true,
        (NO_STREAM, _) | (_, NO_STREAM) => false,
        (new, old) => append.targets[new as usize].stream == names.streams.entry(old).name,
    };
    new.has_content_of(old)
        && stream()
        && append.batch.types[new.event_type as usize] == names.types.entry(old.event_type).name
        && append.batch.tag_sets[new.tag_set as usize] == names.tag_set(old.tag_set).tags
        && append.batch.data_of(index) == entry.data()
}
