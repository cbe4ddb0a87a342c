//! What carries messages of bytes between those that publish and those that subscribe: the bus itself in one process, a broker
//! between several.

mod memory;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;

use futures_core::Stream;

pub use memory::{MemoryInbound, MemorySubscription, MemoryTransport};

use crate::metadata::{MessageId, Metadata};
use crate::raw::RawMessage;
use crate::retry::RetryPolicy;
use crate::subject::SubjectPattern;

/// Carries messages from publishers to subscriptions, at least once to each for as long as it exists.
///
/// What a transport cannot do it refuses when the subscription is made, with [`TransportError::Unsupported`]; it ignores nothing.
pub trait Transport: Send + Sync + 'static {
    /// A message that came, to be acknowledged.
    type Inbound: Inbound;
    /// What came to one subscription. Dropped, the subscription ends; what was not acknowledged was not handled.
    type Subscription: Stream<Item = Self::Inbound> + Send + Unpin;

    /// What this transport does beyond the least.
    fn capabilities(&self) -> Capabilities;

    /// Publishes messages in order and waits for each to be accepted. The results are in the order of the messages; after the first that
    /// fails the others may have been accepted or not, and each says which.
    ///
    /// # Cancellation
    /// Dropped, the messages may have been accepted or not. Published again with the same ids they are the same messages to a transport
    /// that [removes duplicates](Capabilities::deduplicates).
    fn publish(
        &self,
        messages: Vec<OutboundMessage>,
    ) -> impl Future<Output = Vec<Result<PublishAck, TransportError>>> + Send;

    /// Begins a subscription.
    ///
    /// # Errors
    /// [`TransportError`].
    fn subscribe(
        &self,
        spec: SubscriptionSpec,
    ) -> impl Future<Output = Result<Self::Subscription, TransportError>> + Send;
}

/// A message that came over a transport. Dropped without an answer it was not handled, and comes again as the subscription's retry
/// policy says.
pub trait Inbound: Deref<Target = RawMessage> + Send + 'static {
    /// Who the message is.
    fn metadata(&self) -> &Metadata;

    /// The how manieth time it comes: 1 and up.
    fn attempt(&self) -> u32;

    /// It was handled. Returns once the transport knows.
    ///
    /// # Errors
    /// [`TransportError`]: then it may come again.
    fn ack(self) -> impl Future<Output = Result<(), TransportError>> + Send;

    /// It was not handled for now: it comes again as the retry policy says.
    ///
    /// # Errors
    /// [`TransportError`].
    fn nak(self) -> impl Future<Output = Result<(), TransportError>> + Send;

    /// It will never be handled: it becomes a dead letter, for this reason.
    ///
    /// # Errors
    /// [`TransportError`].
    fn term(self, reason: &str) -> impl Future<Output = Result<(), TransportError>> + Send;
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundMessage {
    /// Who it is; its id is what duplicates are known by.
    pub metadata: Metadata,
    /// What it is.
    pub message: RawMessage,
}

/// That a message was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishAck {
    /// Which one.
    pub id: MessageId,
    /// True if the transport had it already.
    pub duplicate: bool,
}

/// What an accepted message outlives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing: it is in the memory of this process.
    None,
    /// The crash of any process.
    ProcessCrash,
    /// A power failure.
    PowerLoss,
}

/// What a transport does beyond the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// What an accepted message outlives.
    pub durability: Durability,
    /// Whether a message published again with the same id is the same message, at least for a while.
    pub deduplicates: bool,
    /// Whether subscriptions may compete as members of a group.
    pub groups: bool,
    /// Whether a subscription goes on where one of the same name ended.
    pub resumes: bool,
}

/// A subscription to ask a transport for.
#[derive(Clone)]
#[non_exhaustive]
pub struct SubscriptionSpec {
    /// What it matches.
    pub pattern: SubjectPattern,
    /// Its name, for dead letters and for going on later.
    pub name: String,
    /// The group that it is a member of: each message goes to one of them.
    pub group: Option<String>,
    /// Messages that may wait for it before publishers wait.
    pub capacity: usize,
    /// Messages that it may have in hand at once.
    pub window: usize,
    /// When a message that was not handled comes again; without, it becomes a dead letter.
    pub retry: Option<Arc<dyn RetryPolicy>>,
    /// What accepted messages must outlive.
    pub durability: Durability,
}

impl SubscriptionSpec {
    /// A subscription with a capacity of 256, a window of 1, and nothing more asked for.
    pub fn new(pattern: SubjectPattern, name: &str) -> Self {
        Self {
            pattern,
            name: name.to_owned(),
            group: None,
            capacity: 256,
            window: 1,
            retry: None,
            durability: Durability::None,
        }
    }
}

impl fmt::Debug for SubscriptionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionSpec")
            .field("pattern", &self.pattern)
            .field("name", &self.name)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// What went wrong in a transport.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The message was not accepted, and certainly not.
    #[error("refused: {0}")]
    Refused(Box<dyn Error + Send + Sync>),
    /// The message may have been accepted or not.
    #[error("whether message {0} was accepted is unknown")]
    Unknown(MessageId),
    /// The transport cannot do what is asked for.
    #[error("this transport cannot do this: {0}")]
    Unsupported(&'static str),
    /// The transport, or the subscription, has ended.
    #[error("closed")]
    Closed,
}
