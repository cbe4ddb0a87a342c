//! Publishes that are done when their handlers are.

use std::ops::Range;
use std::time::Instant;

use harness::{Bench, BenchError};
use tokio::runtime::{Builder, Runtime};

use crate::Work;

/// Publishes of one round.
const PUBLISHES: u64 = 1 << 14;

/// A bus whose publisher knows when the handlers have run. Everything is on one thread: no hand-over between processors is in the figure.
pub trait Inline: 'static {
    /// How it is set up and called; every report repeats it.
    const NOTE: &'static str;

    /// A bus with so many handlers of one event, each of which adds the event's number to a sum of its own.
    fn with_handlers(handlers: u64) -> Self;

    /// Timed: publishes the events of these numbers, one after another; each publish has ended when its handlers have.
    fn publish(&mut self, numbers: Range<u64>);

    /// The sums of all handlers, added up.
    fn sum(&mut self) -> u64;
}

/// The runtime of asynchronous contenders: the thread that publishes runs the handlers.
///
/// # Panics
/// If the system gives none.
#[must_use]
pub fn runtime_of_one_thread() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}

/// One operation is one publish.
pub(crate) fn measure<C: Inline>(bench: &mut Bench, work: Work) -> Result<(), BenchError> {
    let Work::Inline { handlers } = work else { unreachable!("not a work of handlers") };
    bench.note(C::NOTE);
    let mut bus = C::with_handlers(handlers);
    let rounds = bench.rounds(|| {
        let start = Instant::now();
        bus.publish(0..PUBLISHES);
        (start.elapsed(), PUBLISHES)
    })?;
    bench.proof(rounds * handlers * (PUBLISHES * (PUBLISHES - 1) / 2), bus.sum());
    Ok(())
}
