//! A bounded multicast ring: lossless fan-out by reference.
//!
//! ```
//! use message_bus::ring::Multicast;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! struct Price(u32); // no `Clone`: subscribers read it where it lies
//!
//! let prices = Multicast::new(1024)?;
//! let mut one = prices.subscribe();
//! let mut other = prices.subscribe();
//! prices.publish(Price(3)).await?;
//! assert_eq!(one.next().await.expect("open").0, 3);
//! assert_eq!(other.next().await.expect("open").0, 3);
//! # Ok(())
//! # }
//! ```
//!
//! Every subscriber says what happens when it falls behind:
//!
//! | | publishers | the subscriber |
//! |---|---|---|
//! | [`Pressure::Block`] | wait | gets everything |
//! | [`Pressure::BlockTimeout`] | wait so long, then are refused | gets everything that was accepted |
//! | [`Pressure::Error`] | are refused | gets everything that was accepted |
//! | [`Loss::DropOldest`], [`Loss::DropNewest`] | go on | gets a [`Gap`] with the number of messages it lost |
//! | [`Loss::Disconnect`] | go on | gets a [`Gap`] and the end |
//! | [`Loss::conflate_by`] | go on | gets the latest message of each key, and a [`Gap`] |

mod alarm;
mod error;
mod lossy;
mod multicast;
#[expect(unsafe_code, reason = "the memory of the ring")]
mod slots;
mod subscriber;
mod subscriptions;
mod wait;

#[cfg(all(test, any(message_bus_loom, message_bus_shuttle)))]
mod models;

pub use error::{CapacityError, PublishError, Refused};
pub use lossy::{Conflation, Gap, Loss, LossySubscriber, Received};
pub use multicast::{Multicast, Permit};
pub use slots::{Pressure, SolePublisher};
pub use subscriber::{Batch, BatchIter, Item, Subscriber, TryNextError};
pub use subscriptions::Subscriptions;
