//! The subscriptions of one message type on one bus.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use tokio::sync::oneshot;

use crate::delivery::Carrier;
use crate::dispatch::Run;
use crate::error::HandlerError;
use crate::handler::Invoke;
use crate::metadata::Metadata;
use crate::queue::RingInbox;
use crate::ring::Multicast;
use crate::subscription::{Overflow, SubscribeError};

/// What one queue of a topic carries.
pub(crate) type Ring<M> = Multicast<Arc<Carrier<M>>>;

pub(crate) struct Topic<M> {
    /// Unique in the process, and not 0.
    pub(crate) id: u64,
    /// What a publish sees: replaced as a whole.
    pub(crate) handlers: ArcSwap<Handlers<M>>,
    /// Made with the first queued subscription.
    pub(crate) ring: OnceLock<Ring<M>>,
    pub(crate) closed: AtomicBool,
    ring_capacity: usize,
    /// Empty carriers for the next messages.
    carriers: Arc<ArrayQueue<Arc<Carrier<M>>>>,
    groups: Mutex<HashMap<Arc<str>, Group<M>>>,
    /// Taken by whoever changes `handlers`.
    changing: Mutex<()>,
    /// Called after each change of `handlers`, by topics whose handlers are also seen elsewhere.
    changed: Option<Box<dyn Fn() + Send + Sync>>,
}

type Queue<M> = tokio::sync::Mutex<RingInbox<M>>;

/// Subscriptions that share a queue.
struct Group<M> {
    capacity: usize,
    overflow: Overflow,
    queue: Weak<Queue<M>>,
}

/// The handlers of a topic at one moment.
pub(crate) struct Handlers<M> {
    pub(crate) inline: Vec<Arc<Inline<M>>>,
    /// How many of `inline` are asynchronous.
    pub(crate) asynchronous: usize,
    /// Subscriptions that read the topic's ring.
    pub(crate) queued: usize,
    /// What earlier publishes have left for later ones.
    pub(crate) runs: ArrayQueue<Box<Run>>,
}

/// Finished runs that are kept for the next publish: as many as publish at once on a machine of moderate size.
const KEPT_RUNS: usize = 64;

/// Empty carriers that are kept for the next publish: what comes back between two of them is mostly one.
const KEPT_CARRIERS: usize = 64;

/// A handler that a publish calls itself.
pub(crate) struct Inline<M> {
    /// Grows from one subscription to the next, over all topics.
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    pub(crate) call: Call<M>,
    /// Dropped with the last snapshot that holds the handler: then no publish is calling it.
    _gone: oneshot::Sender<()>,
}

type Synchronous<M> = dyn Fn(&M) -> Result<(), HandlerError> + Send + Sync;

pub(crate) enum Call<M> {
    Sync(Box<Synchronous<M>>),
    Async(Box<dyn Invoke<M>>),
}

impl<M> Handlers<M> {
    pub(crate) fn new(inline: Vec<Arc<Inline<M>>>, queued: usize) -> Self {
        let asynchronous = inline.iter().filter(|handler| matches!(handler.call, Call::Async(_))).count();
        let kept = if asynchronous > 0 { KEPT_RUNS } else { 1 };
        Self { inline, asynchronous, queued, runs: ArrayQueue::new(kept) }
    }

    /// A message on the publisher's stack is enough.
    #[inline]
    pub(crate) fn are_all_synchronous(&self) -> bool {
        self.asynchronous == 0 && self.queued == 0
    }
}

impl<M> Topic<M> {
    pub(crate) fn new(ring_capacity: usize) -> Self {
        Self {
            id: next_id(),
            handlers: ArcSwap::from_pointee(Handlers::new(Vec::new(), 0)),
            ring: OnceLock::new(),
            closed: AtomicBool::new(false),
            ring_capacity,
            carriers: Arc::new(ArrayQueue::new(KEPT_CARRIERS)),
            groups: Mutex::default(),
            changing: Mutex::default(),
            changed: None,
        }
    }

    /// A topic that is published to together with others: it shares their carriers, and tells when its handlers have changed.
    pub(crate) fn sharing(
        ring_capacity: usize,
        carriers: Arc<ArrayQueue<Arc<Carrier<M>>>>,
        changed: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self { carriers, changed: Some(Box::new(changed)), ..Self::new(ring_capacity) }
    }

    /// A carrier with this message.
    pub(crate) fn carry(&self, message: M, metadata: Option<Box<Metadata>>) -> Arc<Carrier<M>> {
        match self.carriers.pop() {
            Some(mut carrier) => {
                Carrier::load(&mut carrier, message, metadata);
                carrier
            }
            None => Carrier::new(message, metadata),
        }
    }

    /// Takes back a carrier that the ring has no more use for. A handler may still hold it: then it is not used again.
    pub(crate) fn recycle(&self, carrier: Option<Arc<Carrier<M>>>) {
        if let Some(mut carrier) = carrier
            && Carrier::unload(&mut carrier)
        {
            // One more than are kept: the memory is given back.
            drop(self.carriers.push(carrier));
        }
    }

    /// Lets go of messages that all queues have read.
    pub(crate) fn trim(&self) {
        if let Some(ring) = self.ring.get() {
            ring.trim_into(|carrier| self.recycle(Some(carrier)));
        }
    }

    pub(crate) fn add(&self, name: Arc<str>, call: Call<M>) -> (u64, oneshot::Receiver<()>) {
        let (sender, gone) = oneshot::channel();
        let id = next_id();
        let added = Arc::new(Inline { id, name, call, _gone: sender });
        self.change(|before| Handlers::new(before.inline.iter().cloned().chain([added]).collect(), before.queued));
        (id, gone)
    }

    pub(crate) fn remove(&self, id: u64) {
        self.change(|before| {
            let inline = before.inline.iter().filter(|handler| handler.id != id).cloned();
            Handlers::new(inline.collect(), before.queued)
        });
    }

    fn change(&self, change: impl FnOnce(&Handlers<M>) -> Handlers<M>) {
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.handlers.load_full();
        self.handlers.store(Arc::new(change(&before)));
        drop(changing);
        if let Some(changed) = &self.changed {
            changed();
        }
        // A handler's own destructor runs outside of the lock.
        drop(before);
    }

    /// The ring that queues read.
    pub(crate) fn ring(&self) -> &Ring<M> {
        self.ring.get_or_init(|| {
            let ring = Multicast::new(self.ring_capacity).expect("the builder has checked the capacity");
            if self.closed.load(Ordering::Acquire) {
                ring.close();
            }
            ring
        })
    }

    /// The queue of a group: that of its members, or the one that `open` makes.
    pub(crate) fn group(
        &self,
        name: &Arc<str>,
        capacity: usize,
        overflow: Overflow,
        open: impl FnOnce() -> Result<Arc<Queue<M>>, SubscribeError>,
    ) -> Result<Arc<Queue<M>>, SubscribeError> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|_, group| group.queue.strong_count() > 0);
        if let Some(group) = groups.get(name)
            && let Some(queue) = group.queue.upgrade()
        {
            let same = group.capacity == capacity && group.overflow == overflow;
            return if same { Ok(queue) } else { Err(SubscribeError::Group(Arc::clone(name))) };
        }
        let queue = open()?;
        groups.insert(Arc::clone(name), Group { capacity, overflow, queue: Arc::downgrade(&queue) });
        Ok(queue)
    }

    /// Without inline handlers: a bus that is shut down lets go of what they hold.
    pub(crate) fn clear(&self) {
        self.change(|before| Handlers::new(Vec::new(), before.queued));
    }

    /// One more subscription reads the ring.
    pub(crate) fn add_queue(&self) {
        self.change(|before| Handlers::new(before.inline.clone(), before.queued + 1));
    }

    pub(crate) fn remove_queue(&self) {
        self.change(|before| Handlers::new(before.inline.clone(), before.queued - 1));
    }
}

/// Of a topic or a handler: 1 and up, never used twice in the process.
fn next_id() -> u64 {
    static IDS: AtomicU64 = AtomicU64::new(1);
    IDS.fetch_add(1, Ordering::Relaxed)
}

impl<M> fmt::Debug for Topic<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handlers = self.handlers.load();
        f.debug_struct("Topic")
            .field("inline", &handlers.inline.len())
            .field("queued", &handlers.queued)
            .finish_non_exhaustive()
    }
}
