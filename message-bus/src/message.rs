//! What travels on the bus.

/// A message: any type of the user's that names itself. It needs not be `Clone`: handlers get it by reference.
pub trait Message: Send + Sync + 'static {
    /// The name of the type in reports, dead letters and envelopes, such as `shop.order-placed`.
    const TYPE: &'static str;

    /// What the message is about: subscriptions can keep the order of messages that share a key, and conflate them.
    fn key(&self) -> Option<Key<'_>> {
        None
    }
}

/// A message that says that something happened: any number of handlers.
pub trait Event: Message {}

/// A message that asks for something: exactly one handler, which replies.
pub trait Command: Message {
    /// What the handler answers.
    type Reply: Send + 'static;
}

/// A message's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Key<'a> {
    /// A number.
    Number(u64),
    /// Bytes, of a text or not.
    Bytes(&'a [u8]),
}

impl From<u64> for Key<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(text: &'a str) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Key<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

/// Makes a type an [`Event`]: `event!(OrderPlaced)`, with a name of its own `event!(OrderPlaced, "shop.order-placed")`, with a key
/// `event!(OrderPlaced, "shop.order-placed", key = |order| order.customer)`.
#[macro_export]
macro_rules! event {
    ($type:ty) => {
        $crate::event!($type, stringify!($type));
    };
    ($type:ty, $name:expr) => {
        impl $crate::Message for $type {
            const TYPE: &'static str = $name;
        }
        impl $crate::Event for $type {}
    };
    ($type:ty, $name:expr, key = |$message:ident| $key:expr) => {
        impl $crate::Message for $type {
            const TYPE: &'static str = $name;
            fn key(&self) -> ::core::option::Option<$crate::Key<'_>> {
                let $message = self;
                ::core::option::Option::Some($crate::Key::from($key))
            }
        }
        impl $crate::Event for $type {}
    };
}

/// Makes a type a [`Command`]: `command!(Ship => Receipt)`, with a name of its own `command!(Ship => Receipt, "shop.ship")`.
#[macro_export]
macro_rules! command {
    ($type:ty => $reply:ty) => {
        $crate::command!($type => $reply, stringify!($type));
    };
    ($type:ty => $reply:ty, $name:expr) => {
        impl $crate::Message for $type {
            const TYPE: &'static str = $name;
        }
        impl $crate::Command for $type {
            type Reply = $reply;
        }
    };
}
