//! A reducer of streams: from items to groups in windows, states of workflows, and intents. It does no I/O.
//!
//! ```
//! use std::time::Duration;
//!
//! use bridge_orchestrator::reduce::{GroupBy, Intent, Item, Reducer, Timestamp, Windowing};
//!
//! let mut reducer = Reducer::builder(GroupBy::Namespace)
//!     .windowing(Windowing::Tumbling(Duration::from_secs(5)))
//!     .allowed_lateness(Duration::from_secs(1))
//!     .build()?;
//! let item = Item {
//!     stamp_id: "s-1",
//!     file_hash: "af1349b9",
//!     file_path: "/in/a.pdf",
//!     file_size: 4_096,
//!     namespace: "invoices",
//!     content_type: "application/pdf",
//!     workflow_id: "w-1",
//!     workflow_state: "processing",
//!     created_at: Timestamp::from_micros(1_000_000),
//! };
//! let output = reducer.push(&[item])?;
//! assert!(output.intents().any(|intent| matches!(intent, Intent::PersistFsmTransition { to: "PROCESSING", .. })));
//!
//! let output = reducer.advance_watermark(Timestamp::from_micros(5_000_000));
//! let pane = output.panes().next().expect("its window has ended");
//! let group = pane.groups().next().expect("one namespace");
//! assert_eq!((group.key(), group.count(), group.bytes()), ("invoices", 1, 4_096));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Time
//! Windows go by the time in the items. The **watermark** says up to when all items are expected to have come; the caller advances it. A
//! window fires when the watermark reaches its end, and is held for the **allowed lateness** after that. An item that comes in between is late and
//! accepted; one that comes after it is dropped, counted, and named in the side output ([`Output::dropped`]). In whatever order items
//! come, if none is behind the watermark by more than the lateness, then none is dropped and the last firing of each window is the same.
//!
//! # Workflows
//! Each item reports the state of its workflow. It is compared without regard to case; the same state again is no transition. A state that
//! the [machine](crate::fsm) does not lead to is refused and counted, and the workflow keeps the one that it has. States are
//! taken in the order of arrival, whatever the windows. A workflow that is seen for the first time is taken over in the state that it reports.
//!
//! # Durability
//! A [`DurableReducer`] writes each call and its intents to an event store as one append: a transactional outbox.

mod changes;
mod distinct;
mod durable;
mod error;
mod group;
mod intent;
mod intern;
mod item;
mod journal;
mod options;
mod recent;
mod reducer;
mod sessions;
mod slices;
mod state;
mod store;
mod summary;
mod window;
mod workflows;

pub use durable::{DurableError, DurableReducer, StatePersisted};
pub use error::{OptionsError, ReduceError};
pub use event_store::Timestamp;
pub use group::{CustomKey, GroupBy};
pub use intent::{GroupView, Intent, MAX_SAMPLE, Output, PaneView, StateDelta, Texts};
pub use item::Item;
pub use options::ReducerBuilder;
pub use reducer::{Reducer, Totals};
pub use window::{Accumulation, Firing, LateFiring, MAX_WINDOW, Window, Windowing};
pub use workflows::WorkflowCounts;
