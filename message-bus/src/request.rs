//! Asking at a subject: a request waits for one answer, a scattered one for that of everybody who was reached.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::bus::{Bus, Inner};
use crate::delivery::{Carrier, Delivery};
use crate::error::{Failure, HandlerError};
use crate::handler::Handler;
use crate::metadata::Metadata;
use crate::publish::Origin;
use crate::publisher::{FailurePolicy, PublishError, PublishReport};
use crate::raw::RawMessage;
use crate::subject::Subject;
use crate::subject::publish::publish;
use crate::subscription::{SubscribeError, Subscription};

/// What the subject begins with that an answer is waited for at.
const INBOX: &str = "_INBOX.";

/// Answers to one scattered request that can wait to be taken.
const MOST_ANSWERS: usize = 1024;

/// Why a request has no answer.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// As many requests wait for answers as the bus's builder allows. Nobody was asked.
    #[error("too many requests wait for answers")]
    TooMany(RawMessage),
    /// Nobody subscribes to the subject.
    #[error("nobody answers at `{0}`")]
    NoResponders(Subject),
    /// The request was not published, or everybody who was asked failed.
    #[error(transparent)]
    Publish(#[from] PublishError<RawMessage>),
    /// Nobody answered in time. The request may have been handled.
    #[error("nobody answered in time")]
    Timeout,
}

impl fmt::Debug for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(_) => f.write_str("TooMany(..)"),
            Self::NoResponders(subject) => f.debug_tuple("NoResponders").field(subject).finish(),
            Self::Publish(error) => f.debug_tuple("Publish").field(error).finish(),
            Self::Timeout => f.write_str("Timeout"),
        }
    }
}

/// What came of a scattered request.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ScatterReport {
    /// The answers, in the order in which they came.
    pub answers: Vec<Delivery<RawMessage>>,
    /// Subscriptions that were reached; a group counts as one.
    pub asked: usize,
    /// Those of them that the publish called itself and that failed.
    pub failures: Vec<Failure>,
}

impl ScatterReport {
    /// True if everybody who was reached has answered.
    pub fn is_complete(&self) -> bool {
        self.answers.len() >= self.asked
    }
}

/// Where requests wait for answers.
pub(crate) struct Inboxes {
    capacity: usize,
    waiting: Mutex<HashMap<Uuid, mpsc::Sender<Delivery<RawMessage>>>>,
    unclaimed: AtomicU64,
}

impl Inboxes {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, waiting: Mutex::default(), unclaimed: AtomicU64::new(0) }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Uuid, mpsc::Sender<Delivery<RawMessage>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place to wait in, unless there are too many.
    fn open(&self, answers: usize) -> Option<Inbox<'_>> {
        let mut waiting = self.waiting();
        if waiting.len() >= self.capacity {
            return None;
        }
        let id = Uuid::now_v7();
        let (sender, receiver) = mpsc::channel(answers);
        waiting.insert(id, sender);
        Some(Inbox { inboxes: self, id, receiver })
    }

    /// Hands an answer to whoever waits for it: true if somebody does. An answer that nobody waits for any more is counted; what is no
    /// answer comes back.
    pub(crate) fn answer(
        &self,
        message: RawMessage,
        metadata: Option<Box<Metadata>>,
    ) -> Result<bool, (RawMessage, Option<Box<Metadata>>)> {
        let Some(id) = message.subject.strip_prefix(INBOX).and_then(|id| id.parse().ok()) else {
            return Err((message, metadata));
        };
        let waiting = self.waiting().get(&id).cloned();
        let delivery = Delivery::new(Carrier::new(message, metadata), 1);
        let taken = waiting.is_some_and(|sender| sender.try_send(delivery).is_ok());
        if !taken {
            self.unclaimed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(taken)
    }
}

struct Inbox<'a> {
    inboxes: &'a Inboxes,
    id: Uuid,
    receiver: mpsc::Receiver<Delivery<RawMessage>>,
}

impl Inbox<'_> {
    fn subject(&self) -> Subject {
        Subject::new(&format!("{INBOX}{}", self.id.simple())).expect("hexadecimal digits are sound")
    }
}

impl Drop for Inbox<'_> {
    fn drop(&mut self) {
        self.inboxes.waiting().remove(&self.id);
        // Answers that nobody took.
        self.receiver.close();
        while self.receiver.try_recv().is_ok() {
            self.inboxes.unclaimed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A handler whose result is published to where the request says.
struct Responder<H> {
    handler: H,
    bus: Weak<Inner>,
}

impl<H, Fut, E> Handler<RawMessage> for Responder<H>
where
    H: Fn(Delivery<RawMessage>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
    E: Into<HandlerError>,
{
    fn handle(&self, request: Delivery<RawMessage>) -> impl Future<Output = Result<(), HandlerError>> + Send + 'static {
        let reply_to = request.reply_to.clone();
        let handling = (self.handler)(request);
        let bus = Weak::clone(&self.bus);
        async move {
            let payload = handling.await.map_err(Into::into)?;
            let (Some(subject), Some(inner)) = (reply_to, bus.upgrade()) else { return Ok(()) };
            let published = publish(&inner, inner.policy, RawMessage::new(subject, payload), Origin::here(None)).await;
            published.map(drop).map_err(|error| HandlerError::transient(error.to_string()))
        }
    }
}

impl Bus {
    /// Subscribes a handler that answers: what it returns goes to whoever asked. A message that asks for no answer is handled all the
    /// same. Its error is that of the publish, as with any handler, and the asker is told at once.
    ///
    /// # Errors
    /// [`SubscribeError::Closed`], [`SubscribeError::Subject`].
    pub fn respond<Fut, E>(
        &self,
        pattern: &str,
        handler: impl Fn(Delivery<RawMessage>) -> Fut + Send + Sync + 'static,
    ) -> Result<Subscription, SubscribeError>
    where
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
        E: Into<HandlerError>,
    {
        self.subject_subscription(pattern)?.run(self.responder(handler))
    }

    /// The handler of [`respond`](Self::respond), for a subscription with options.
    pub fn responder<Fut, E>(
        &self,
        handler: impl Fn(Delivery<RawMessage>) -> Fut + Send + Sync + 'static,
    ) -> impl Handler<RawMessage>
    where
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
        E: Into<HandlerError>,
    {
        Responder { handler, bus: Arc::downgrade(self.inner()) }
    }

    /// Publishes a message and waits for the first answer to it; `limit` is for both.
    ///
    /// # Cancellation
    /// Dropped, nobody waits any more: an answer that comes later is [counted](Self::unclaimed_answers). The request may have been handled.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn request(&self, message: RawMessage, limit: Duration) -> Result<Delivery<RawMessage>, RequestError> {
        let subject = message.subject.clone();
        let Gathered { mut answers, report, asked } = self.gather(message, 1, limit).await?;
        match (answers.pop(), report) {
            (Some(answer), _) => Ok(answer),
            (None, _) if asked == 0 => Err(RequestError::NoResponders(subject)),
            (None, Some(report)) if report.failures.len() == asked => Err(PublishError::HandlersFailed(report).into()),
            (None, _) => Err(RequestError::Timeout),
        }
    }

    /// Publishes a message and gathers the answers of all subscriptions that it reaches, until each has answered or `limit` is over.
    /// Of a group one member answers. An answer beyond 1,024 that wait is counted and dropped.
    ///
    /// # Cancellation
    /// Dropped, nobody waits any more: answers that come later, or had come, are [counted](Self::unclaimed_answers).
    ///
    /// # Errors
    /// [`RequestError`], but for [`Timeout`](RequestError::Timeout): answers that are missing then show in the report. Handlers that
    /// fail are no error.
    pub async fn scatter(&self, message: RawMessage, limit: Duration) -> Result<ScatterReport, RequestError> {
        let Gathered { answers, report, asked } = self.gather(message, MOST_ANSWERS, limit).await?;
        Ok(ScatterReport { answers, asked, failures: report.unwrap_or_default().failures })
    }

    /// Publishes a request and takes answers, whoever else fails, until there are `enough`, or as many as can come, or time is up.
    async fn gather(&self, mut message: RawMessage, enough: usize, limit: Duration) -> Result<Gathered, RequestError> {
        let inner = self.inner();
        let asked = inner.routes.find(&message.subject).reach();
        if asked == 0 && !inner.is_shut_down() {
            return Err(RequestError::NoResponders(message.subject));
        }
        let Some(mut inbox) = inner.inboxes.open(enough) else { return Err(RequestError::TooMany(message)) };
        message.reply_to = Some(inbox.subject());
        let mut gathered = Gathered { answers: Vec::new(), report: None, asked };
        let mut publishing = pin!(publish(inner, FailurePolicy::Collect, message, Origin::here(None)));
        let mut late = pin!(tokio::time::sleep(limit));
        while gathered.is_waiting(enough) {
            tokio::select! {
                biased;
                published = &mut publishing, if gathered.report.is_none() => {
                    let report = published?;
                    gathered.asked = report.called + report.queued;
                    gathered.report = Some(report);
                }
                Some(answer) = inbox.receiver.recv() => gathered.answers.push(answer),
                () = &mut late => break,
            }
        }
        Ok(gathered)
    }

    /// Answers that came when nobody waited for them, or not any more, and were dropped.
    pub fn unclaimed_answers(&self) -> u64 {
        self.inner().inboxes.unclaimed.load(Ordering::Relaxed)
    }
}

/// Answers to a request so far.
struct Gathered {
    answers: Vec<Delivery<RawMessage>>,
    /// Of the publish, once it is done.
    report: Option<PublishReport>,
    /// Subscriptions that the publish reaches: before it is done, those that there were when it began.
    asked: usize,
}

impl Gathered {
    fn is_waiting(&self, enough: usize) -> bool {
        self.report.as_ref().is_none_or(|report| self.answers.len() < enough.min(self.asked - report.failures.len()))
    }
}
