//! What happens in a publish: room in the queues first, then the inline handlers, then the queues.

use std::borrow::Borrow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::Guard;
use smallvec::SmallVec;

use crate::delivery::Carrier;
use crate::dispatch::{call_asynchronous, call_synchronous};
use crate::message::{Event, Message};
use crate::metadata::{Busy, Current, Metadata, Rooted, Running, inherited};
use crate::publisher::{FailurePolicy, PublishError, PublishReport};
use crate::ring::{self, Permit, Refused};
use crate::topic::{Handlers, Ring, Topic};

/// Metadata that the publisher has given, or what is inherited here, and where the publisher must not wait.
pub(crate) struct Origin {
    pub(crate) metadata: Option<Box<Metadata>>,
    pub(crate) busy: Busy,
}

impl Origin {
    pub(crate) fn here(given: Option<Box<Metadata>>) -> Self {
        let (inherited, busy) = inherited();
        Self { metadata: given.or(inherited), busy }
    }
}

/// A publish to the handlers of one type.
#[inline]
pub(crate) async fn publish<M: Event>(
    topic: &Topic<M>,
    policy: FailurePolicy,
    message: M,
) -> Result<PublishReport, PublishError<M>> {
    if topic.closed.load(Ordering::Acquire) {
        return Err(PublishError::Closed(message));
    }
    let handlers = topic.handlers.load();
    if handlers.are_all_synchronous() {
        return publish_on_the_stack(&handlers, policy, &message);
    }
    let handlers = Guard::into_inner(handlers);
    let Origin { metadata, busy } = Origin::here(None);
    let carrier = topic.carry(message, metadata);
    publish_carried(&[(topic, handlers.queued)], &handlers, policy, carrier, busy).await.map_err(PublishError::returned)
}

/// [`publish`] with metadata that the publisher has. Apart from it, since asking whether there is some costs the way on the stack a tenth,
/// and a common end in a function of its own costs asynchronous handlers a sixth.
pub(crate) async fn publish_with<M: Event>(
    topic: &Topic<M>,
    policy: FailurePolicy,
    message: M,
    metadata: Metadata,
) -> Result<PublishReport, PublishError<M>> {
    if topic.closed.load(Ordering::Acquire) {
        return Err(PublishError::Closed(message));
    }
    let handlers = topic.handlers.load_full();
    let Origin { metadata, busy } = Origin::here(Some(Box::new(metadata)));
    let carrier = topic.carry(message, metadata);
    publish_carried(&[(topic, handlers.queued)], &handlers, policy, carrier, busy).await.map_err(PublishError::returned)
}

/// A publish that waits for nothing.
pub(crate) fn try_publish<M: Event>(
    topic: &Topic<M>,
    policy: FailurePolicy,
    message: M,
) -> Result<PublishReport, PublishError<M>> {
    if topic.closed.load(Ordering::Acquire) {
        return Err(PublishError::Closed(message));
    }
    let handlers = topic.handlers.load();
    if handlers.asynchronous > 0 {
        return Err(PublishError::NeedsAwait(message));
    }
    if handlers.queued == 0 {
        return publish_on_the_stack(&handlers, policy, &message);
    }
    let Some(ring) = topic.ring.get() else { return Err(PublishError::Closed(message)) };
    let permit = match ring.try_reserve(1) {
        Ok(permit) => permit,
        Err(reason) => return Err(refused(reason)(message)),
    };
    let Origin { metadata, busy } = Origin::here(None);
    let carrier = topic.carry(message, metadata);
    let mut report = PublishReport::default();
    synchronous(&handlers, policy, &carrier, busy.with(topic.id), &mut report);
    hand_over(&[(topic, handlers.queued)], &mut [permit], carrier, &mut report);
    judged(report, policy)
}

#[inline]
pub(crate) fn publish_on_the_stack<M, R>(
    handlers: &Handlers<M>,
    policy: FailurePolicy,
    message: &M,
) -> Result<PublishReport, PublishError<R>> {
    let mut report = PublishReport::default();
    if let Some(_in_here) = Rooted::enter() {
        report.called = call_synchronous(&handlers.inline, message, policy, &mut report.failures);
    } else {
        let (metadata, busy) = inherited();
        let mut current = Current::new(Running::OnTheStack(metadata), busy);
        let _in_here = current.enter();
        report.called = call_synchronous(&handlers.inline, message, policy, &mut report.failures);
    }
    judged(report, policy)
}

/// Calls the synchronous handlers with a message that is carried.
fn synchronous<M: Message>(
    handlers: &Handlers<M>,
    policy: FailurePolicy,
    carrier: &Arc<Carrier<M>>,
    busy: Busy,
    report: &mut PublishReport,
) {
    if handlers.asynchronous < handlers.inline.len() {
        let mut current = Current::new(Running::Carried(Arc::clone(carrier) as Arc<_>), busy);
        let _in_here = current.enter();
        report.called = call_synchronous(&handlers.inline, carrier.message(), policy, &mut report.failures);
    }
}

/// A publish to some topics, each with how many queues read it: those of one type are one topic, a subject has as many as patterns match.
pub(crate) async fn publish_carried<M: Message, T: Borrow<Topic<M>>>(
    topics: &[(T, usize)],
    handlers: &Handlers<M>,
    policy: FailurePolicy,
    carrier: Arc<Carrier<M>>,
    mut busy: Busy,
) -> Result<PublishReport, PublishError<Arc<Carrier<M>>>> {
    if let [(topic, queued)] = topics
        && *queued > 0
        && handlers.inline.is_empty()
    {
        return enqueue(topic.borrow(), busy, carrier, *queued).await;
    }
    let mut permits = Permits::new();
    if handlers.queued > 0 {
        permits = match reserve(topics, busy).await {
            Ok(permits) => permits,
            Err(refused) => return Err(refused(carrier)),
        };
        for (topic, _) in topics.iter().filter(|(_, queued)| *queued > 0) {
            busy = busy.with(topic.borrow().id);
        }
    }
    let mut report = PublishReport::default();
    synchronous(handlers, policy, &carrier, busy, &mut report);
    let stopped = policy == FailurePolicy::FailFast && !report.failures.is_empty();
    if handlers.asynchronous > 0 && !stopped {
        report.called += handlers.asynchronous;
        call_asynchronous(handlers, &carrier, busy, policy, &mut report.failures).await;
    }
    if !permits.is_empty() {
        hand_over(topics, &mut permits, carrier, &mut report);
    } else if let Some((topic, _)) = topics.first() {
        topic.borrow().recycle(Some(carrier));
    }
    judged(report, policy)
}

/// The ring of a topic that has queues.
fn ring<M>(topic: &Topic<M>) -> &Ring<M> {
    topic.ring.get().expect("a queue is counted after it has subscribed to the ring")
}

type Permits<'a, M> = SmallVec<[Permit<'a, Arc<Carrier<M>>>; 1]>;

/// Sets room for one message aside in every topic that has queues. Who waits holds no room: what waits for that could be what has to
/// go on first.
async fn reserve<'a, M: 'a, T: Borrow<Topic<M>>, R>(
    topics: &'a [(T, usize)],
    busy: Busy,
) -> Result<Permits<'a, M>, fn(R) -> PublishError<R>> {
    let mut permits = Permits::new();
    let mut full: Option<usize> = None;
    'from_the_start: loop {
        permits.clear();
        if let Some(index) = full {
            // Its place is kept, while the others are tried.
            permits.push(ring(topics[index].0.borrow()).reserve(1).await.map_err(refused)?);
        }
        for (index, (topic, _)) in topics.iter().enumerate().filter(|(_, (_, queued))| *queued > 0) {
            if full == Some(index) {
                continue;
            }
            let topic = topic.borrow();
            match ring(topic).try_reserve(1) {
                Ok(permit) => permits.push(permit),
                Err(Refused::Full) if busy.contains(topic.id) => return Err(PublishError::WouldDeadlock),
                Err(Refused::Full) => {
                    full = Some(index);
                    continue 'from_the_start;
                }
                Err(reason) => return Err(refused(reason)),
            }
        }
        if let Some(index) = full {
            // The order of the topics is that of the permits.
            let place = topics[..index].iter().filter(|(_, queued)| *queued > 0).count();
            permits[..=place].rotate_left(1);
        }
        return Ok(permits);
    }
}

fn refused<R>(reason: Refused) -> fn(R) -> PublishError<R> {
    match reason {
        Refused::Closed => PublishError::Closed,
        Refused::Timeout => PublishError::Timeout,
        Refused::Full | Refused::TooLarge => PublishError::Full,
    }
}

/// Publishes to the queues of one topic alone.
async fn enqueue<M>(
    topic: &Topic<M>,
    busy: Busy,
    carrier: Arc<Carrier<M>>,
    queued: usize,
) -> Result<PublishReport, PublishError<Arc<Carrier<M>>>> {
    let ring = ring(topic);
    let mut published = ring.try_publish_over(carrier);
    if let Err(ring::PublishError { reason: Refused::Full, message: carrier }) = published {
        if busy.contains(topic.id) {
            return Err(PublishError::WouldDeadlock(carrier));
        }
        published = ring.publish_over(carrier).await;
    }
    match published {
        Ok((_, old)) => {
            topic.recycle(old);
            Ok(PublishReport { queued, ..PublishReport::default() })
        }
        Err(ring::PublishError { reason, message }) => Err(refused(reason)(message)),
    }
}

/// Hands a message to the queues, after the inline handlers.
fn hand_over<M, T: Borrow<Topic<M>>>(
    topics: &[(T, usize)],
    permits: &mut [Permit<'_, Arc<Carrier<M>>>],
    carrier: Arc<Carrier<M>>,
    report: &mut PublishReport,
) {
    let mut carrier = Some(carrier);
    let mut left = permits.len();
    let queues = topics.iter().filter(|(_, queued)| *queued > 0);
    for (permit, (topic, queued)) in permits.iter_mut().zip(queues) {
        left -= 1;
        let carrier = if left == 0 { carrier.take() } else { carrier.clone() };
        // A shutdown closes a ring only when no room is set aside in it, or when its deadline is over.
        if let Some(carrier) = carrier
            && let Ok((_, old)) = permit.publish_over(carrier)
        {
            topic.borrow().recycle(old);
            report.queued += queued;
        }
    }
}

impl<M> PublishError<Arc<Carrier<M>>> {
    /// The error of a publisher who alone held the carrier.
    pub(crate) fn returned(self) -> PublishError<M> {
        self.map(|carrier| Carrier::into_message(carrier).expect("what was not published is its publisher's alone"))
    }
}

#[inline]
fn judged<R>(report: PublishReport, policy: FailurePolicy) -> Result<PublishReport, PublishError<R>> {
    if !report.failures.is_empty() && report.is_error(policy) {
        return Err(PublishError::HandlersFailed(report));
    }
    Ok(report)
}
