#![doc = include_str!("../README.md")]

mod bus;
mod by_type;
mod command;
mod dead_letter;
mod delivery;
mod dispatch;
mod error;
mod handler;
mod message;
mod metadata;
mod publisher;
mod queue;
mod retry;
pub mod ring;
mod subscription;
mod sync;
mod topic;

pub use bus::{Bus, BusBuilder, ShutdownReport};
pub use command::{CommandBuilder, CommandHandler, HandleError, SendError};
pub use dead_letter::{DeadLetter, DeadLetterId, DeadLetters, Reason, ReplayError};
pub use delivery::Delivery;
pub use error::{Cause, Failure, HandlerError};
pub use handler::{Handler, Outcome};
pub use message::{Command, Event, Key, Message};
pub use metadata::{MessageId, Metadata};
pub use publisher::{FailurePolicy, PublishError, PublishReport, Publisher};
pub use queue::QueueStats;
pub use retry::{ExponentialBackoff, FixedDelay, LinearBackoff, NoRetry, RetryPolicy, RetryPolicyError};
pub use subscription::{Overflow, QueueBuilder, SubscribeError, Subscription, SubscriptionBuilder};
