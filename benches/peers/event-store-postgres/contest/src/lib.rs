//! The works that event stores on PostgreSQL are compared by, defined once: every [`Contender`] appends the same events on the same server,
//! one at a time and each behind the one before it.
//!
//! A contender is a binary of its own whose `main` is [`suite`]; its benchmarks are `peers/event-store-postgres/<work>/<peer>`. Each process
//! starts a server of its own from the same programs, with the same settings, and waits for its disk. What is appended is counted in the
//! contender's own table afterwards.

mod setting;
mod works;

use std::future::Future;

pub use ephemeral_postgres::Database;
use harness::Suite;

pub use setting::Setting;
pub use works::{WORKS, Work};

/// The content of every event: an object of JSON with one text, 256 bytes in all.
#[must_use]
pub fn payload() -> String {
    let text = "r".repeat(256 - r#"{"text":""}"#.len());
    format!(r#"{{"text":"{text}"}}"#)
}

/// The text in [`payload`].
#[must_use]
pub fn text() -> String {
    payload()[r#"{"text":""#.len()..].trim_end_matches(r#""}"#).to_owned()
}

/// An event store on PostgreSQL.
pub trait Contender: Sized + Send + Sync + 'static {
    /// What one writer has: its stream, and how far that is.
    type Writer: Send + 'static;
    /// How it is set up and called, and what it does not do; every report repeats it.
    const NOTE: &'static str;
    /// Connections that it may have with 64 writers; the fastest of them is taken, before the clock starts.
    const CONNECTIONS: &'static [u32];
    /// Counts its events.
    const COUNT: &'static str;

    /// Not timed: a store of at most `connections` connections; makes its tables unless they are there.
    fn open(database: &Database, connections: u32) -> impl Future<Output = Result<Self, String>> + Send;

    /// Not timed: a writer with a stream of its own. No two have the same `number`.
    fn writer(&self, number: u64) -> Self::Writer;

    /// Timed: appends one event, which expects the stream as the writer left it, and waits until that is on disk.
    fn append(&self, writer: &mut Self::Writer) -> impl Future<Output = ()> + Send;
}

/// The benchmarks of one contender; `peer` is the last part of their ids.
#[must_use]
pub fn suite<C: Contender>(peer: &str) -> Suite {
    WORKS.iter().fold(Suite::new(), |suite, &work| {
        suite.bench(work.id(peer), move |bench| {
            bench.note(C::NOTE);
            works::measure::<C>(bench, work)
        })
    })
}
