//! Streams, ids, the global order and the tags, each in a collection of the standard library, all behind one mutex.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_store_contest::Event;
use uuid::Uuid;

/// An event with its places.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// In the whole store, from 1 without gaps.
    pub(crate) position: u64,
    /// In its stream, from 0.
    pub(crate) version: u64,
    /// What was saved.
    pub(crate) event: Event,
}

/// Why nothing was appended.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AppendError {
    /// Somebody else has appended, or has not.
    #[error("the stream holds {actual} events, not {expected}")]
    WrongVersion {
        /// What the caller said.
        expected: u64,
        /// What is so.
        actual: u64,
    },
    /// An event of this id is stored, or twice in the call.
    #[error("event {0} is already there")]
    DuplicateId(Uuid),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct MapStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    streams: HashMap<String, Vec<Arc<Recorded>>>,
    ids: HashSet<Uuid>,
    order: Vec<Arc<Recorded>>,
    /// Positions of the events with a tag, ascending.
    tags: HashMap<String, Vec<u64>>,
}

impl MapStore {
    /// Appends all events to a stream that holds `expected` events, or none.
    pub(crate) fn append(&self, stream: &str, expected: u64, events: Vec<Event>) -> Result<(), AppendError> {
        let mut state = self.lock();
        let State { streams, ids, order, tags } = &mut *state;
        let mut new = Vec::new();
        let known = streams.get_mut(stream);
        let is_new = known.is_none();
        let recorded = known.unwrap_or(&mut new);
        let actual = recorded.len() as u64;
        if actual != expected {
            return Err(AppendError::WrongVersion { expected, actual });
        }
        claim(ids, &events)?;
        recorded.reserve(events.len());
        order.reserve(events.len());
        for event in events {
            let position = order.len() as u64 + 1;
            index(tags, &event.tag, position);
            let event = Arc::new(Recorded { position, version: recorded.len() as u64, event });
            order.push(Arc::clone(&event));
            recorded.push(event);
        }
        if is_new {
            streams.insert(stream.to_owned(), new);
        }
        Ok(())
    }

    /// The events of a stream, out of the lock's reach.
    pub(crate) fn read(&self, stream: &str) -> Vec<Arc<Recorded>> {
        self.lock().streams.get(stream).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the ids of all events, or none.
fn claim(ids: &mut HashSet<Uuid>, events: &[Event]) -> Result<(), AppendError> {
    ids.reserve(events.len());
    for (claimed, event) in events.iter().enumerate() {
        if !ids.insert(event.id) {
            for earlier in &events[..claimed] {
                ids.remove(&earlier.id);
            }
            return Err(AppendError::DuplicateId(event.id));
        }
    }
    Ok(())
}

/// Adds a position to those of a tag, whose name is copied only when it is new.
fn index(tags: &mut HashMap<String, Vec<u64>>, tag: &str, position: u64) {
    match tags.get_mut(tag) {
        Some(positions) => positions.push(position),
        None => drop(tags.insert(tag.to_owned(), vec![position])),
    }
}

#[cfg(test)]
mod tests {
    use event_store_contest::EventSource;

    use super::*;

    fn append(store: &MapStore, stream: &str, expected: u64, events: &[Event]) -> Result<(), AppendError> {
        store.append(stream, expected, events.to_vec())
    }

    #[test]
    fn another_version_than_the_expected_one_is_refused() {
        let (store, mut source) = (MapStore::default(), EventSource::default());
        append(&store, "a", 0, &source.events(2)).expect("the stream is new");
        for expected in [0, 1, 3] {
            let refused = append(&store, "a", expected, &source.events(1));
            assert_eq!(refused, Err(AppendError::WrongVersion { expected, actual: 2 }));
        }
        assert_eq!(store.read("a").len(), 2);
    }

    #[test]
    fn id_that_is_taken_is_refused_with_the_whole_call() {
        let (store, mut source) = (MapStore::default(), EventSource::default());
        let events = source.events(3);
        append(&store, "a", 0, &events[..1]).expect("the stream is new");
        let refused = append(&store, "b", 0, &[events[1].clone(), events[0].clone()]);
        assert_eq!(refused, Err(AppendError::DuplicateId(events[0].id)));
        assert!(store.read("b").is_empty());
        append(&store, "b", 0, &events[1..]).expect("the refused call took no id");
    }

    #[test]
    fn id_twice_in_one_call_is_refused() {
        let (store, mut source) = (MapStore::default(), EventSource::default());
        let event = source.events(1).remove(0);
        let refused = append(&store, "a", 0, &[event.clone(), event.clone()]);
        assert_eq!(refused, Err(AppendError::DuplicateId(event.id)));
        append(&store, "a", 0, &[event]).expect("the refused call took no id");
    }

    #[test]
    fn positions_are_dense_over_streams_and_tags_find_them() {
        let (store, mut source) = (MapStore::default(), EventSource::default());
        append(&store, "a", 0, &source.events(2)).expect("the stream is new");
        append(&store, "b", 0, &source.events(1)).expect("the stream is new");
        append(&store, "a", 2, &source.events(1)).expect("the version is the expected one");
        let places = |stream: &str| -> Vec<_> { store.read(stream).iter().map(|e| (e.position, e.version)).collect() };
        assert_eq!(places("a"), [(1, 0), (2, 1), (4, 2)]);
        assert_eq!(places("b"), [(3, 0)]);
        let state = store.lock();
        let order: Vec<u64> = state.order.iter().map(|event| event.position).collect();
        assert_eq!((order, &state.tags["customer:4711"]), (vec![1, 2, 3, 4], &vec![1, 2, 3, 4]));
    }
}
