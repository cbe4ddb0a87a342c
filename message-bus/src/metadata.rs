//! Who a message is, when it was published, and what it follows from.
//!
//! Nobody pays for metadata that nobody reads: it is made when it is first asked for. A publish from inside a handler is the exception:
//! the new message inherits, so its metadata and its parent's are made there.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use uuid::Uuid;

use crate::trace::TraceContext;

/// The id of a message: a UUID of version 7.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(Uuid);

impl MessageId {
    /// A new id.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id that is this UUID.
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The id as UUID.
    pub fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl Default for MessageId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who a message is, when it was published, and what it follows from.
///
/// [`Metadata::new`] makes what a message published here gets; its fields may be set before it is
/// [given to a publish](crate::Publisher::publish_with).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// The message's own id.
    pub id: MessageId,
    /// When the metadata was made: at the first look at it, or at the publish if that was made by a handler.
    pub time: SystemTime,
    /// The id of the message that the whole conversation began with: its own if it was published by no handler.
    pub correlation: MessageId,
    /// The id of the message whose handler published this one.
    pub causation: Option<MessageId>,
    /// The trace that it belongs to: that of the message whose handler published this one.
    pub trace: Option<TraceContext>,
}

impl Default for Metadata {
    /// [`Metadata::new`].
    fn default() -> Self {
        Self::new()
    }
}

impl Metadata {
    /// Of a new message: it follows from the message whose handler is running here, or begins a conversation.
    pub fn new() -> Self {
        inherited().0.map_or_else(Self::root, |metadata| *metadata)
    }

    pub(crate) fn root() -> Self {
        let id = MessageId::new();
        Self { id, time: SystemTime::now(), correlation: id, causation: None, trace: None }
    }

    fn child(&self) -> Self {
        Self {
            id: MessageId::new(),
            time: SystemTime::now(),
            correlation: self.correlation,
            causation: Some(self.id),
            trace: self.trace.clone(),
        }
    }

    /// That of the message whose handler is running here, if one is.
    ///
    /// A handler that starts a task of its own is not running there.
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow_mut(|current| current.message.metadata().cloned())
    }
}

/// Where the metadata of a carried message is.
pub(crate) trait Source: Send + Sync {
    fn metadata(&self) -> &Metadata;
}

/// The message whose handler is running.
pub(crate) enum Running {
    Nothing,
    /// It lies on the publisher's stack.
    OnTheStack(Option<Box<Metadata>>),
    Carried(Arc<dyn Source>),
}

impl Running {
    fn metadata(&mut self) -> Option<&Metadata> {
        match self {
            Self::Nothing => None,
            Self::OnTheStack(metadata) => Some(metadata.get_or_insert_with(|| Box::new(Metadata::root()))),
            Self::Carried(source) => Some(source.metadata()),
        }
    }
}

/// What a thread is doing for the bus.
pub(crate) struct Current {
    pub(crate) message: Running,
    /// Where a handler that waited for room would wait for itself.
    pub(crate) busy: Busy,
}

/// Topics that cannot go on before what runs here has finished: whose queue the handler drains, or where the publish that it was called
/// by has room set aside. As many as handlers usually are nested; beyond, the outermost is forgotten.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Busy([u64; 4]);

impl Busy {
    pub(crate) const NONE: Self = Self([0; 4]);

    #[must_use]
    pub(crate) fn with(mut self, topic: u64) -> Self {
        if !self.contains(topic) {
            self.0.rotate_right(1);
            self.0[0] = topic;
        }
        self
    }

    pub(crate) fn contains(self, topic: u64) -> bool {
        self.0.contains(&topic)
    }
}

impl Current {
    pub(crate) fn new(message: Running, busy: Busy) -> Self {
        Self { message, busy }
    }

    /// Puts this in the place of what the thread was doing until the guard is dropped.
    #[inline]
    pub(crate) fn enter(&mut self) -> Entered<'_> {
        CURRENT.with_borrow_mut(|current| std::mem::swap(current, self));
        Entered(self)
    }
}

/// The first message of a conversation is on the stack while this lives.
pub(crate) struct Rooted(());

impl Rooted {
    /// Unless a handler is running here, whose message comes first.
    #[inline]
    pub(crate) fn enter() -> Option<Self> {
        CURRENT.with_borrow_mut(|current| {
            if !matches!(current.message, Running::Nothing) {
                return None;
            }
            current.message = Running::OnTheStack(None);
            Some(Self(()))
        })
    }
}

impl Drop for Rooted {
    #[inline]
    fn drop(&mut self) {
        CURRENT.with_borrow_mut(|current| current.message = Running::Nothing);
    }
}

pub(crate) struct Entered<'a>(&'a mut Current);

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        CURRENT.with_borrow_mut(|current| std::mem::swap(current, self.0));
    }
}

thread_local! {
    static CURRENT: RefCell<Current> =
        const { RefCell::new(Current { message: Running::Nothing, busy: Busy::NONE }) };
}

/// What a message published here inherits, and where the publisher must not wait.
#[inline]
pub(crate) fn inherited() -> (Option<Box<Metadata>>, Busy) {
    CURRENT.with_borrow_mut(|current| match current.message {
        Running::Nothing => (None, Busy::NONE),
        _ => (current.message.metadata().map(|parent| Box::new(parent.child())), current.busy),
    })
}
