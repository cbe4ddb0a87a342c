#![doc = include_str!("../README.md")]

mod bus;
mod by_type;
#[cfg(feature = "cloudevents")]
mod cloud_event;
mod command;
mod dead_letter;
mod delayed;
mod delivery;
mod dispatch;
mod error;
mod handler;
mod layer;
mod message;
mod metadata;
mod publish;
mod publisher;
mod queue;
mod raw;
mod request;
mod retry;
pub mod ring;
mod subject;
mod subscription;
mod sync;
mod topic;
mod trace;
pub mod transport;

pub use bus::{BuildError, Bus, BusBuilder, ShutdownReport, WeakBus};
#[cfg(feature = "cloudevents")]
pub use cloud_event::{CloudEvent, CloudEventError, Data, ExtensionValue};
pub use command::{CommandBuilder, CommandHandler, HandleError, SendError};
pub use dead_letter::{DeadLetter, DeadLetterId, DeadLetters, Reason, ReplayError};
pub use delayed::{DelayError, Delayed, DelayedStats};
pub use delivery::Delivery;
pub use error::{Cause, Failure, HandlerError};
pub use handler::{Handler, Outcome};
pub use layer::{HandlerService, layered};
pub use message::{Command, Event, Key, Message};
pub use metadata::{MessageId, Metadata};
pub use publisher::{FailurePolicy, PublishError, PublishReport, Publisher};
pub use queue::QueueStats;
pub use raw::{AttributeError, Attributes, RawMessage};
pub use request::{RequestError, ScatterReport};
pub use retry::{ExponentialBackoff, FixedDelay, LinearBackoff, NoRetry, RetryPolicy, RetryPolicyError};
pub use subject::{Subject, SubjectError, SubjectPattern};
pub use subscription::{Overflow, QueueBuilder, SubscribeError, Subscription, SubscriptionBuilder};
pub use trace::{TraceContext, TraceContextError};
