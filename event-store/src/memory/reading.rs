//! Walks the events of a read, and makes owned events of them.

use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use smallvec::SmallVec;

use super::MemoryStore;
use super::events::Events;
use super::log::{Log, Run, View};
use super::matcher::Matcher;
use super::names::Names;
use super::postings::Postings;
use crate::batch::{Header, NO_STREAM};
use crate::error::ReadError;
use crate::event::{Position, StreamVersion};
use crate::query::Query;
use crate::read::{Read, Source};
use crate::recorded::{RecordedEvent, Subject};

/// Events that a stream of owned events makes at a time.
const PAGE: u64 = 256;
/// Events that a read backwards looks through at a time, where some are removed.
const PIECE: u32 = 1_024;

/// Calls `visit(run, event)` for each event of `read` in `view`, in order, until it breaks.
#[inline]
pub(super) fn walk<'a, R>(
    names: &'a Names,
    view: View<'a>,
    read: &Read,
    visit: impl FnMut(&Run<'a>, u32) -> ControlFlow<R>,
) -> Option<R> {
    walk_stretches(names, view, read, Each { view, hint: 0, visit })
}

/// Shows `visitor` the stretches of consecutive events that make up `read` in `view`, in order, until it breaks.
#[inline]
pub(super) fn walk_stretches<'a, R>(
    names: &'a Names,
    view: View<'a>,
    read: &Read,
    visitor: impl Visitor<R>,
) -> Option<R> {
    // Asked after the view was taken: whoever sees a log with holes sees that events are removed.
    let removed = (names.removed() > 0).then_some(names);
    let mut walk = Walk { view, removed, hint: 0, left: read.limit, visitor, broke_with: PhantomData };
    let outcome = match &read.source {
        Source::Stream { id, from } => walk.stream(names, id.as_str(), *from, read.backwards),
        Source::Store { query: Query::All, from } => walk.all(*from, read.backwards),
        Source::Store { query, from } => {
            let matcher = Matcher::new(query, names, view);
            if read.backwards { walk.matches_back(matcher, *from) } else { walk.matches(matcher, *from) }
        }
    };
    outcome.break_value().flatten()
}

/// How many events `read` has at most, as far as that is told without looking for them.
pub(super) fn most_events(names: &Names, view: View<'_>, read: &Read) -> usize {
    let events = match &read.source {
        Source::Stream { id, .. } => {
            let count = |postings: &Postings| postings.view(view.len()).len().saturating_sub(postings.removed());
            names.streams.postings(id.as_str()).map_or(0, count)
        }
        Source::Store { query: Query::All, .. } => view.len().saturating_sub(names.removed()),
        Source::Store { .. } => 0,
    };
    if read.backwards && !matches!(read.source, Source::Stream { from: None, .. } | Source::Store { from: None, .. }) {
        return 0;
    }
    let skipped = match &read.source {
        Source::Stream { from: Some(from), .. } => from.get(),
        Source::Store { from: Some(from), .. } => from.get() - 1,
        _ => 0,
    };
    u64::from(events).saturating_sub(skipped).min(read.limit) as usize
}

/// Sees the events of a read a stretch at a time.
pub(super) trait Visitor<R> {
    /// The `count` events from number `first` on.
    fn ahead(&mut self, first: u32, count: u32) -> ControlFlow<R>;
    /// The `count` events down from number `last`.
    fn back(&mut self, last: u32, count: u32) -> ControlFlow<R>;
}

/// Shows single events to `visit`.
struct Each<'a, V> {
    view: View<'a>,
    hint: usize,
    visit: V,
}

impl<'a, R, V: FnMut(&Run<'a>, u32) -> ControlFlow<R>> Visitor<R> for Each<'a, V> {
    #[inline]
    fn ahead(&mut self, first: u32, count: u32) -> ControlFlow<R> {
        let end = first + count;
        let mut event = first;
        while event < end {
            let run = self.view.run(event, &mut self.hint);
            let stop = end.min(run.first + run.headers.len() as u32);
            for event in event..stop {
                (self.visit)(&run, event)?;
            }
            event = stop;
        }
        ControlFlow::Continue(())
    }

    fn back(&mut self, last: u32, count: u32) -> ControlFlow<R> {
        let mut left = count;
        while left > 0 {
            let event = last - (count - left);
            let run = self.view.run(event, &mut self.hint);
            let here = (event - run.first + 1).min(left);
            for event in (event + 1 - here..=event).rev() {
                (self.visit)(&run, event)?;
            }
            left -= here;
        }
        ControlFlow::Continue(())
    }
}

/// Notes the stretches.
impl Visitor<()> for &mut Events {
    fn ahead(&mut self, first: u32, count: u32) -> ControlFlow<()> {
        self.push(first, count);
        ControlFlow::Continue(())
    }

    fn back(&mut self, last: u32, count: u32) -> ControlFlow<()> {
        self.push(last + 1 - count, count);
        ControlFlow::Continue(())
    }
}

struct Walk<'a, V, R> {
    view: View<'a>,
    /// Who knows which events are removed; `None` if none are.
    removed: Option<&'a Names>,
    hint: usize,
    left: u64,
    visitor: V,
    broke_with: PhantomData<R>,
}

/// Broke with what the visitor returned, or with `None` because the limit is reached.
type Stopped<R> = ControlFlow<Option<R>>;

impl<R, V: Visitor<R>> Walk<'_, V, R> {
    fn stream(&mut self, names: &Names, id: &str, from: Option<StreamVersion>, backwards: bool) -> Stopped<R> {
        let Some(postings) = names.streams.postings(id) else { return ControlFlow::Continue(()) };
        let postings = postings.view(self.view.len());
        let from = from.map(|version| u32::try_from(version.get()).unwrap_or(u32::MAX));
        let removed = postings.removed();
        if backwards {
            let mut left = from.map_or(u32::MAX, |from| from.saturating_add(1)).min(postings.len());
            while left > removed {
                let (last, count) = postings.stretch_before(left - 1);
                let count = count.min(left - removed);
                self.shown_back(last, count)?;
                left -= count;
            }
        } else {
            let mut ordinal = from.unwrap_or(0).max(removed);
            while ordinal < postings.len() {
                let (first, count) = postings.stretch(ordinal);
                self.shown_ahead(first, count)?;
                ordinal += count;
            }
        }
        ControlFlow::Continue(())
    }

    fn all(&mut self, from: Option<Position>, backwards: bool) -> Stopped<R> {
        let len = self.view.len();
        let from = from.map(index_of);
        if backwards {
            let count = from.map_or(u32::MAX, |from| from.saturating_add(1)).min(len);
            if count == 0 { ControlFlow::Continue(()) } else { self.back(count - 1, count) }
        } else {
            let from = from.unwrap_or(0).min(len);
            self.ahead(from, len - from)
        }
    }

    fn matches(&mut self, mut matcher: Matcher<'_>, from: Option<Position>) -> Stopped<R> {
        let mut next = from.map_or(0, index_of);
        while let Some(event) = matcher.next(next) {
            self.ahead(event, 1)?;
            next = event + 1;
        }
        ControlFlow::Continue(())
    }

    fn matches_back(&mut self, mut matcher: Matcher<'_>, from: Option<Position>) -> Stopped<R> {
        let mut next = Some(from.map_or(u32::MAX, index_of));
        while let Some(event) = next.and_then(|next| matcher.next_back(next)) {
            self.back(event, 1)?;
            next = event.checked_sub(1);
        }
        ControlFlow::Continue(())
    }

    /// Those of the `count` events from number `first` on that are not removed.
    #[inline]
    fn ahead(&mut self, first: u32, count: u32) -> Stopped<R> {
        let Some(names) = self.removed else { return self.shown_ahead(first, count) };
        let (end, mut event) = (first + count, first);
        while event < end {
            let stretch = live_stretch(names, self.view, event, end, &mut self.hint);
            if let Some((from, count)) = stretch {
                self.shown_ahead(from, count)?;
            }
            event = stretch.map_or(end, |(from, count)| from + count);
        }
        ControlFlow::Continue(())
    }

    /// Those of the `count` events down from number `last` that are not removed.
    fn back(&mut self, last: u32, count: u32) -> Stopped<R> {
        let Some(names) = self.removed else { return self.shown_back(last, count) };
        let first = last + 1 - count;
        let mut end = last + 1;
        while end > first {
            // The stretches of a piece, the last first: a read that stops early need not look at all.
            let start = end.saturating_sub(PIECE).max(first);
            let mut stretches: SmallVec<[(u32, u32); 16]> = SmallVec::new();
            let mut event = start;
            while let Some((from, count)) = live_stretch(names, self.view, event, end, &mut self.hint) {
                stretches.push((from, count));
                event = from + count;
            }
            for (from, count) in stretches.into_iter().rev() {
                self.shown_back(from + count - 1, count)?;
            }
            end = start;
        }
        ControlFlow::Continue(())
    }

    /// The `count` events from number `first` on, which are there.
    #[inline]
    fn shown_ahead(&mut self, first: u32, count: u32) -> Stopped<R> {
        let taken = u64::from(count).min(self.left) as u32;
        if taken > 0 {
            self.visitor.ahead(first, taken).map_break(Some)?;
        }
        self.took(taken, count)
    }

    /// The `count` events down from number `last`, which are there.
    fn shown_back(&mut self, last: u32, count: u32) -> Stopped<R> {
        let taken = u64::from(count).min(self.left) as u32;
        if taken > 0 {
            self.visitor.back(last, taken).map_break(Some)?;
        }
        self.took(taken, count)
    }

    fn took(&mut self, taken: u32, wanted: u32) -> Stopped<R> {
        self.left -= u64::from(taken);
        if taken < wanted || self.left == 0 { ControlFlow::Break(None) } else { ControlFlow::Continue(()) }
    }
}

/// The first events from number `event` on, and before `end`, that are not removed: the first of them, and how many follow, itself included.
pub(super) fn live_stretch(
    names: &Names,
    view: View<'_>,
    event: u32,
    end: u32,
    hint: &mut usize,
) -> Option<(u32, u32)> {
    let mut event = event;
    while event < end {
        match view.run_or_hole(event, hint) {
            Err(hole) => event = hole.end,
            Ok(run) => {
                let headers = &run.headers[(event - run.first) as usize..];
                let headers = &headers[..headers.len().min((end - event) as usize)];
                if let Some(skipped) = headers.iter().position(|header| !names.is_removed(header)) {
                    let live = headers[skipped..].iter().take_while(|header| !names.is_removed(header)).count();
                    return Some((event + skipped as u32, live as u32));
                }
                event += headers.len() as u32;
            }
        }
    }
    None
}

/// The number, from 0, of the event at `position`; positions beyond what a store can hold are cut to that.
pub(super) fn index_of(position: Position) -> u32 {
    u32::try_from(position.get() - 1).unwrap_or(u32::MAX)
}

/// Subjects that are kept at hand: events of a read tend to share a few.
const SUBJECTS: usize = 16;

/// Stream, type and tag set of an event, by number.
type SubjectKey = (u32, u32, u32);

/// Makes owned events, whose content shares the store's memory.
pub(super) struct Owned<'a> {
    names: &'a Names,
    /// The data of the block used last, and how far they reach.
    block: Option<(*const (), Bytes)>,
    subjects: [Option<(SubjectKey, Arc<Subject>)>; SUBJECTS],
}

impl<'a> Owned<'a> {
    pub(super) fn new(names: &'a Names) -> Self {
        Self { names, block: None, subjects: [const { None }; SUBJECTS] }
    }

    #[inline]
    pub(super) fn event(&mut self, run: &Run<'_>, index: u32) -> RecordedEvent {
        let header = run.event(index).header();
        let subject = self.subject(header);
        let shared = match &self.block {
            Some((block, bytes)) if *block == run.block_address() && header.data_end() <= bytes.len() => bytes,
            _ => &self.block.insert((run.block_address(), run.shared_data())).1,
        };
        let data = shared.slice(header.data_start()..header.data_end());
        RecordedEvent::new(Position::after_events(index), *header, subject, data)
    }

    fn subject(&mut self, header: &Header) -> Arc<Subject> {
        let key = (header.stream, header.event_type, header.tag_set);
        let slot = &mut self.subjects[(key.0 ^ key.1 ^ key.2) as usize % SUBJECTS];
        if let Some((_, subject)) = slot.as_ref().filter(|(known, _)| *known == key) {
            return Arc::clone(subject);
        }
        let subject = Arc::new(Subject {
            stream: (key.0 != NO_STREAM).then(|| self.names.streams.entry(key.0).name.clone()),
            event_type: self.names.types.entry(key.1).name.clone(),
            tags: self.names.tag_set(key.2).tags.clone(),
        });
        *slot = Some((key, Arc::clone(&subject)));
        subject
    }
}

/// A read as a stream of owned events, a page at a time.
pub(super) struct MemoryRead<'a> {
    store: &'a MemoryStore,
    /// What is left to read; `None` when all is read.
    rest: Option<Read>,
    /// Fixed when the stream is first polled: the log, and how far it is read.
    fixed: Option<(Arc<Log>, u32)>,
    page: std::vec::IntoIter<RecordedEvent>,
}

impl<'a> MemoryRead<'a> {
    pub(super) fn new(store: &'a MemoryStore, read: Read) -> Self {
        Self { store, rest: Some(read), fixed: None, page: Vec::new().into_iter() }
    }

    fn next_page(&mut self) {
        let (log, len) = self.fixed.get_or_insert_with(|| {
            let log = self.store.shared.log.load_full();
            let len = log.view().len();
            (log, len)
        });
        let view = log.view_of(*len);
        let Some(rest) = self.rest.take() else { return };
        let limit = rest.limit.min(PAGE);
        let mut events = Vec::with_capacity(limit as usize);
        let mut owned = Owned::new(&self.store.shared.names);
        let page = Read { limit, ..rest };
        walk(&self.store.shared.names, view, &page, |run, event| {
            events.push(owned.event(run, event));
            ControlFlow::<()>::Continue(())
        });
        if events.len() as u64 == PAGE {
            let source = events.last().and_then(|last| beyond(&page.source, last, page.backwards));
            self.rest = source.map(|source| Read { source, limit: rest.limit - PAGE, ..page });
        }
        self.page = events.into_iter();
    }
}

/// The same source from behind `last` on, in the direction of the read; `None` if nothing can be there.
fn beyond(source: &Source, last: &RecordedEvent, backwards: bool) -> Option<Source> {
    match source {
        Source::Stream { id, .. } => {
            let version = last.stream_version()?;
            let next = if backwards { version.get().checked_sub(1) } else { version.get().checked_add(1) };
            Some(Source::Stream { id: id.clone(), from: Some(StreamVersion::new(next?)) })
        }
        Source::Store { query, .. } => {
            let position = last.position().get();
            let next = if backwards { position.checked_sub(1) } else { position.checked_add(1) };
            Some(Source::Store { query: query.clone(), from: Some(Position::new(next?)?) })
        }
    }
}

impl Stream for MemoryRead<'_> {
    type Item = Result<RecordedEvent, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.page.len() == 0 {
            self.next_page();
        }
        Poll::Ready(self.page.next().map(Ok))
    }
}
