//! Whether a runtime's tasks let each other run.
//!
//! | to | use |
//! |---|---|
//! | know how late tasks are woken | [`LoopMonitor`] |
//! | know which task held a worker up | [`BlockingDetector`] |
//!
//! ```
//! use std::time::Duration;
//! use bridge_orchestrator::health::BlockingDetector;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let (told, blocked) = std::sync::mpsc::channel();
//! let detector = BlockingDetector::on_block(move |event| drop(told.send(event)));
//! let task = detector.spawn("parse", async { std::thread::sleep(Duration::from_millis(20)) });
//! task.await.expect("no panic");
//! let event = blocked.recv().expect("the detector lives");
//! assert_eq!((&*event.task, event.location.file()), ("parse", file!()));
//! # }
//! ```

mod blocking;
mod loop_monitor;
mod tick;

pub use blocking::{BlockEvent, BlockingBuilder, BlockingDetector, BlockingStats, Watched};
pub use loop_monitor::{HealthError, LagHistogram, LoopMonitor};
