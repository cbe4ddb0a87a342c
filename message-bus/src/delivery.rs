//! A message on its way to handlers that may outlive the publish.

use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use once_cell::race::OnceBox;

use crate::message::Message;
use crate::metadata::{Metadata, Source};

/// A message and its metadata, shared by all that handle it. Carriers are used again: a publish takes one and puts its message in.
pub(crate) struct Carrier<M> {
    message: Option<M>,
    /// One word; made when somebody looks.
    metadata: OnceBox<Metadata>,
}

impl<M> Carrier<M> {
    pub(crate) fn new(message: M, metadata: Option<Box<Metadata>>) -> Arc<Self> {
        Arc::new(Self { message: Some(message), metadata: once(metadata) })
    }

    /// Puts another message into a carrier that nobody else holds.
    pub(crate) fn load(this: &mut Arc<Self>, message: M, metadata: Option<Box<Metadata>>) {
        match Arc::get_mut(this) {
            Some(carrier) => {
                carrier.message = Some(message);
                carrier.metadata = once(metadata);
            }
            None => *this = Self::new(message, metadata),
        }
    }

    /// Drops the message, unless somebody else holds the carrier. True if the carrier is empty. A destructor that panics is not the
    /// business of whoever happens to be the last to hold the message.
    pub(crate) fn unload(this: &mut Arc<Self>) -> bool {
        let Some(carrier) = Arc::get_mut(this) else { return false };
        carrier.metadata = OnceBox::new();
        let message = carrier.message.take();
        drop(catch_unwind(AssertUnwindSafe(|| drop(message))));
        true
    }

    /// Drops a hold on a message. If it was the last and the message's destructor panics, that is not the holder's business.
    pub(crate) fn let_go(this: Arc<Self>) {
        drop(catch_unwind(AssertUnwindSafe(|| drop(this))));
    }

    /// The message, unless somebody else holds the carrier.
    pub(crate) fn into_message(mut this: Arc<Self>) -> Option<M> {
        Arc::get_mut(&mut this).and_then(|carrier| carrier.message.take())
    }

    pub(crate) fn message(&self) -> &M {
        self.message.as_ref().expect("a carrier is handed out with a message, which stays as long as it is shared")
    }
}

impl<M: Send + Sync> Source for Carrier<M> {
    fn metadata(&self) -> &Metadata {
        self.metadata.get_or_init(|| Box::new(Metadata::root()))
    }
}

fn once(metadata: Option<Box<Metadata>>) -> OnceBox<Metadata> {
    metadata.map_or_else(OnceBox::new, OnceBox::with_value)
}

/// A message delivered to a handler: it reads as the message, and tells who it is. Keeping it keeps the message alive.
pub struct Delivery<M> {
    carrier: Arc<Carrier<M>>,
    attempt: u32,
}

impl<M: Message> Delivery<M> {
    pub(crate) fn new(carrier: Arc<Carrier<M>>, attempt: u32) -> Self {
        Self { carrier, attempt }
    }

    /// The message's id, time and ancestry. Made at the first look, which allocates.
    pub fn metadata(&self) -> &Metadata {
        self.carrier.metadata()
    }

    /// The how manieth call of this handler with this message it is: 1 and up.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl<M> Deref for Delivery<M> {
    type Target = M;

    #[inline]
    fn deref(&self) -> &M {
        self.carrier.message()
    }
}

impl<M> Clone for Delivery<M> {
    fn clone(&self) -> Self {
        Self { carrier: Arc::clone(&self.carrier), attempt: self.attempt }
    }
}

impl<M: fmt::Debug> fmt::Debug for Delivery<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("message", &**self).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}
