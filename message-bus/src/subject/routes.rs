//! From a subject to the handlers that it reaches.

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;

use crate::delivery::Carrier;
use crate::raw::RawMessage;
use crate::subject::trie::Trie;
use crate::subject::{Subject, SubjectPattern};
use crate::topic::{Handlers, Topic};

/// The patterns that are subscribed to on one bus. All subscriptions of one pattern share a topic.
pub(crate) struct Routes {
    ring_capacity: usize,
    carriers: Arc<ArrayQueue<Arc<Carrier<RawMessage>>>>,
    patterns: Mutex<Trie<Entry>>,
    /// Routes that were found since the last change of any subscription: replaced as a whole, so that none outlives what it names.
    found: ArcSwap<Found>,
    hasher: foldhash::fast::RandomState,
}

struct Entry {
    topic: Arc<Topic<RawMessage>>,
    /// Leases of it.
    users: usize,
}

/// What a publish to a subject reaches: as if it were one topic.
pub(crate) struct Route {
    subject: Subject,
    pub(crate) handlers: Handlers<RawMessage>,
    /// The topics that match, each with how many queues it has, in the order of their ids.
    pub(crate) topics: Vec<(Arc<Topic<RawMessage>>, usize)>,
}

impl Route {
    /// How many subscriptions it leads to.
    pub(crate) fn reach(&self) -> usize {
        self.handlers.inline.len() + self.handlers.queued
    }
}

/// One place for each of so many hashes: who comes first has it, until so many have found theirs taken that all begin anew.
#[derive(Default)]
struct Found {
    places: OnceLock<Box<[OnceLock<Arc<Route>>]>>,
    missed: AtomicUsize,
}

/// A power of two.
const PLACES: usize = 1024;

/// Empty carriers that are kept for the next publishes of a bus.
const KEPT_CARRIERS: usize = 64;

impl Routes {
    pub(crate) fn new(ring_capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            ring_capacity,
            carriers: Arc::new(ArrayQueue::new(KEPT_CARRIERS)),
            patterns: Mutex::new(Trie::new()),
            found: ArcSwap::default(),
            hasher: foldhash::fast::RandomState::default(),
        })
    }

    fn patterns(&self) -> MutexGuard<'_, Trie<Entry>> {
        self.patterns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topic of a pattern, which stays as long as there is a lease.
    pub(crate) fn lease(self: &Arc<Self>, pattern: &SubjectPattern) -> (Arc<Topic<RawMessage>>, Lease) {
        let mut patterns = self.patterns();
        let entry = patterns.entry(pattern).get_or_insert_with(|| {
            let routes = Arc::downgrade(self);
            let changed = move || {
                if let Some(routes) = routes.upgrade() {
                    routes.found.store(Arc::default());
                }
            };
            Entry { topic: Arc::new(Topic::sharing(self.ring_capacity, Arc::clone(&self.carriers), changed)), users: 0 }
        });
        entry.users += 1;
        let lease = Lease { routes: Arc::downgrade(self), pattern: pattern.clone(), kept: false };
        (Arc::clone(&entry.topic), lease)
    }

    fn give_back(&self, pattern: &SubjectPattern) {
        let mut patterns = self.patterns();
        let Some(entry) = patterns.entry(pattern) else { return };
        entry.users -= 1;
        let removed = if entry.users == 0 { patterns.remove(pattern) } else { None };
        drop(patterns);
        if removed.is_some() {
            self.found.store(Arc::default());
        }
    }

    /// What a publish to this subject reaches. Cost: a hash, a comparison and a count where it was found before, and otherwise a walk of
    /// the subject's tokens under a lock.
    #[inline]
    pub(crate) fn find(&self, subject: &Subject) -> Arc<Route> {
        let found = self.found.load();
        let places = found.places.get_or_init(|| (0..PLACES).map(|_| OnceLock::new()).collect());
        let place = &places[self.hasher.hash_one(&**subject) as usize & (PLACES - 1)];
        if let Some(route) = place.get().filter(|route| route.subject == *subject) {
            return Arc::clone(route);
        }
        let route = Arc::new(self.look_up(subject));
        if place.set(Arc::clone(&route)).is_err() && found.missed.fetch_add(1, Ordering::Relaxed) == PLACES {
            self.found.store(Arc::default());
        }
        route
    }

    fn look_up(&self, subject: &Subject) -> Route {
        let mut topics = Vec::new();
        self.patterns().matching(subject, |entry| topics.push((Arc::clone(&entry.topic), 0)));
        topics.sort_unstable_by_key(|(topic, _)| topic.id);
        let mut inline = Vec::new();
        for (topic, queued) in &mut topics {
            let handlers = topic.handlers.load();
            inline.extend(handlers.inline.iter().cloned());
            *queued = handlers.queued;
        }
        // In the order of subscription, whatever their patterns.
        inline.sort_unstable_by_key(|handler| handler.id);
        let queued = topics.iter().map(|(_, queued)| queued).sum();
        Route { subject: subject.clone(), handlers: Handlers::new(inline, queued), topics }
    }

    pub(crate) fn topics(&self) -> Vec<Arc<Topic<RawMessage>>> {
        let mut topics = Vec::new();
        self.patterns().each(|entry| topics.push(Arc::clone(&entry.topic)));
        topics
    }
}

/// Keeps a pattern's topic where publishes find it.
#[derive(Debug)]
pub(crate) struct Lease {
    routes: Weak<Routes>,
    pattern: SubjectPattern,
    kept: bool,
}

impl Lease {
    /// The topic stays as long as the bus.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.kept
            && let Some(routes) = self.routes.upgrade()
        {
            routes.give_back(&self.pattern);
        }
    }
}
