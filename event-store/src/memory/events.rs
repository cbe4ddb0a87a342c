//! The result of a read, owned as a whole: the events stay where they are.

use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;

use super::Shared;
use super::event_ref::EventRef;
use super::log::{Log, Run, View};

/// The events of one read, for as long as they are kept: a hold on the store, and 8 bytes for each stretch of consecutive events.
///
/// Nothing is copied, and no event has a reference count of its own. The store's memory stays as long as one of these does, also when the
/// store itself is gone; [`RecordedEvent`](crate::RecordedEvent)s hold on to less.
///
/// ```
/// use event_store::{Append, EventType, ExpectedVersion, MemoryStore, NewEvent, Read, StreamId};
///
/// let store = MemoryStore::new();
/// let order = StreamId::new("order-1")?;
/// let placed = NewEvent::new(EventType::new("OrderPlaced")?, "{}");
/// store.append_now(Append::stream(order.clone(), ExpectedVersion::NoStream, [placed]))?;
///
/// let events = store.events_now(&Read::stream(order));
/// drop(store);
/// assert_eq!(events.len(), 1);
/// assert!(events.iter().all(|event| event.payload() == b"{}"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Events {
    shared: Arc<Shared>,
    /// The log as it was, and how many events it held: none of these lies behind.
    log: Arc<Log>,
    watermark: u32,
    stretches: Vec<Stretch>,
    len: usize,
    backwards: bool,
}

/// `count` consecutive events from number `first` on, whichever way they are read.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    first: u32,
    count: u32,
}

impl Events {
    pub(super) fn new(shared: Arc<Shared>, log: Arc<Log>, watermark: u32, backwards: bool) -> Self {
        Self { shared, log, watermark, stretches: Vec::new(), len: 0, backwards }
    }

    /// Adds the `count` events of which `first` has the lowest number; they follow those before in the direction of the read.
    pub(super) fn push(&mut self, first: u32, count: u32) {
        self.len += count as usize;
        match self.stretches.last_mut() {
            Some(last) if !self.backwards && last.first + last.count == first => last.count += count,
            Some(last) if self.backwards && first + count == last.first => {
                *last = Stretch { first, count: last.count + count };
            }
            _ => self.stretches.push(Stretch { first, count }),
        }
    }

    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The events, in the order of the read.
    #[must_use]
    pub fn iter(&self) -> EventsIter<'_> {
        let view = self.log.view_of(self.watermark);
        EventsIter { events: self, view, stretch: 0, taken: 0, left: self.len, run: None, hint: 0 }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = EventRef<'a>;
    type IntoIter = EventsIter<'a>;

    fn into_iter(self) -> EventsIter<'a> {
        self.iter()
    }
}

/// The events of an [`Events`], lent one by one.
#[derive(Clone)]
pub struct EventsIter<'a> {
    events: &'a Events,
    view: View<'a>,
    /// The stretch that the next event lies in, and how many of it were taken.
    stretch: usize,
    taken: u32,
    left: usize,
    /// Where the last event lay.
    run: Option<Run<'a>>,
    hint: usize,
}

impl fmt::Debug for EventsIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventsIter").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<'a> Iterator for EventsIter<'a> {
    type Item = EventRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<EventRef<'a>> {
        let stretch = self.events.stretches.get(self.stretch)?;
        let offset = if self.events.backwards { stretch.count - 1 - self.taken } else { self.taken };
        let event = stretch.first + offset;
        self.taken += 1;
        self.left -= 1;
        if self.taken == stretch.count {
            (self.stretch, self.taken) = (self.stretch + 1, 0);
        }
        let run = match self.run {
            Some(run) if run.holds(event) => run,
            _ => *self.run.insert(self.view.run(event, &mut self.hint)),
        };
        Some(EventRef::new(&self.events.shared.names, run.event(event), event))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for EventsIter<'_> {}
impl FusedIterator for EventsIter<'_> {}
