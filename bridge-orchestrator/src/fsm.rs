//! State machines that are loaded at run time and cost what compiled ones cost.
//!
//! A [`Definition`] is read from JSON or TOML, checked, and compiled to a table with one cell for each state and event. From then on there
//! are numbers only: [`Machine::next`] is one load, an instance is a [`StateId`] of 2 bytes, and there is no text and no allocation in it.
//!
//! ```
//! use bridge_orchestrator::fsm::Definition;
//!
//! let door = Definition::from_toml(
//!     r#"
//!     initial = "CLOSED"
//!     states = ["CLOSED", "OPEN"]
//!
//!     [[transitions]]
//!     from = "CLOSED"
//!     event = "push"
//!     to = "OPEN"
//!     "#,
//! )?
//! .compile()?;
//! let push = door.event("push").expect("defined");
//! let open = door.next(door.initial(), push).expect("a closed door opens");
//! assert_eq!(door.state_name(open), "OPEN");
//! assert_eq!(door.next(open, push), None);
//! # Ok::<(), bridge_orchestrator::fsm::DefinitionError>(())
//! ```
//!
//! # Definitions
//! | key | what |
//! |---|---|
//! | `states` | the names of all states, in the order of their numbers |
//! | `initial` | the state that an instance begins in |
//! | `terminal` | states that nothing leads out of; may be absent |
//! | `transitions` | each with `from`, `event`, `to`, and perhaps a `guard` and an `action` |
//!
//! # Names
//! Names of states and events are compared **without regard to the case of ASCII letters**, everywhere: in a definition, and in
//! [`Machine::state`] and [`Machine::event`]. `completed` is `COMPLETED`; a definition that has both has a state twice and is refused. They
//! are shown as the definition first writes them. Guards and actions are names of the caller's code and compared as they stand.

mod bindings;
mod compile;
mod definition;
mod error;
mod machine;
mod names;

use std::sync::{Arc, LazyLock};

pub use bindings::Bindings;
pub use compile::{MAX_CELLS, MAX_EVENTS, MAX_NAME_BYTES, MAX_STATES};
pub use definition::Definition;
pub use error::{DefinitionError, Problem};
pub use machine::{EventId, Machine, Refused, StateId};

/// The states of a workflow: `PENDING`, `PROCESSING`, `COMPLETED`, `FAILED`.
///
/// The events are `start` (from `PENDING` to `PROCESSING`), `complete` (from there to `COMPLETED`), and `fail` (from either of the first
/// two to `FAILED`: a validation fails before any work). The last two states are terminal. It is compiled at the first call.
#[must_use]
pub fn workflow() -> Arc<Machine> {
    static WORKFLOW: LazyLock<Arc<Machine>> = LazyLock::new(|| {
        let machine = Definition::from_toml(include_str!("fsm/workflow.toml")).and_then(|written| written.compile());
        Arc::new(machine.expect("the definition beside this file is tested against its table"))
    });
    Arc::clone(&WORKFLOW)
}
