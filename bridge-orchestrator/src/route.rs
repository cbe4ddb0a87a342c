//! Which endpoint a call goes to, whether it goes at all, and what is done when it is slow or fails.
//!
//! | to | use |
//! |---|---|
//! | spread calls by what endpoints cost | [`Balancer`] |
//! | leave a failing service alone for a while | [`CircuitBreaker`] |
//! | try again, but never so often that it makes things worse | [`Retry`] with a [`RetryBudget`] |
//! | not wait for the slowest twentieth | [`Hedge`] |
//! | answer all the same, and say that it is second best | [`Degrade`] |
//!
//! ```
//! use std::time::Instant;
//! use bridge_orchestrator::route::{Balancer, CircuitBreaker};
//!
//! # fn call(_: &str) -> Result<u32, ()> { Ok(7) }
//! let balancer = Balancer::new(["one:80", "two:80", "three:80"])?;
//! let breaker = CircuitBreaker::builder().failures(5).build()?;
//!
//! if let Ok(permit) = breaker.permit(Instant::now()) {
//!     let endpoint = balancer.pick(Instant::now());
//!     match call(&endpoint) {
//!         Ok(_) => {
//!             endpoint.succeeded(Instant::now());
//!             permit.succeeded();
//!         }
//!         Err(()) => {
//!             endpoint.failed(Instant::now());
//!             permit.failed(Instant::now());
//!         }
//!     }
//! }
//! # Ok::<(), bridge_orchestrator::route::RouteError>(())
//! ```
//!
//! # Time
//!
//! What is called often takes the time as an argument: a caller reads the clock once a call, and tests read none. What waits
//! ([`Retry`], [`Hedge`]) uses tokio's clock, which tests can stop.
//!
//! # Cost
//!
//! Nothing here allocates once it is built, and no lock is held: a balancer's endpoint and a breaker are one atomic word each.

mod balancer;
mod breaker;
mod budget;
mod degrade;
mod error;
mod ewma;
mod hedge;
#[cfg(all(test, bridge_orchestrator_loom))]
mod models;
mod retry;

pub use balancer::{Balancer, BalancerBuilder, Guard};
pub use breaker::{BreakerBuilder, BreakerState, CircuitBreaker, Permit, Refused};
pub use budget::RetryBudget;
pub use degrade::{Answer, Degrade};
pub use error::RouteError;
pub use hedge::{Hedge, HedgeStats};
pub use retry::{Retry, RetryError};
