//! What a store has to do to take part.

use std::sync::Arc;

use crate::{Event, LARGE_STORE};

/// One event as a visitor sees it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Place in the order of the whole store, or in the stream where the store has no such order; from 1.
    pub position: u64,
    /// Place in the stream, from 0.
    pub version: u64,
    /// The content.
    pub payload: &'a [u8],
}

/// A store with what it needs to be called: an executor, where its interface is asynchronous. `default` is an empty one.
///
/// Whatever [`Contender::save_call`] and [`Contender::load_call`] do is not timed; asynchronous contenders start their executor
/// once for all calls that they are given.
pub trait Contender: Default + Send + 'static {
    /// The arguments of one save.
    type Save: Send;
    /// The arguments of one load.
    type Load;
    /// A list of events that outlives the call.
    type Owned;
    /// The same store for callers whose events are values of their own: saves start from such events and build their call within the
    /// timing, lists consist of them. `Self`, where that is how the store is called anyway.
    type ByValue: Contender;
    /// What the store checks and what it does not; every report repeats it.
    const NOTE: &'static str;
    /// Events of a store that is replaced before it takes more. Less than the others' is in a contender's favour: for one whose
    /// saves take longer the more is stored.
    const LARGE: u64 = LARGE_STORE;

    /// The arguments of a save of `events` to `stream`, which holds `version` events by now. Callers keep the names they use, so
    /// a contender may keep what it made of one.
    fn save_call(&mut self, stream: &Arc<str>, version: u64, events: Vec<Event>) -> Self::Save;

    /// The arguments of a load of `stream`.
    fn load_call(stream: &str) -> Self::Load;

    /// Timed: makes the calls, one after another.
    fn save(&mut self, calls: Vec<Self::Save>);

    /// Timed: shows every event of the stream to `see`, `times` times over, without keeping writers waiting meanwhile.
    fn visit(&mut self, load: &Self::Load, times: u64, see: impl FnMut(Seen<'_>));

    /// Timed: the events of the stream.
    fn load_owned(&mut self, load: &Self::Load) -> Self::Owned;

    /// Timed: every payload of a list.
    fn payloads(owned: &Self::Owned) -> impl Iterator<Item = &[u8]>;

    /// The same store for another thread; `None` if threads cannot share it.
    fn handle(&self) -> Option<Self> {
        None
    }

    /// Runs a whole benchmark: the place to silence a store that prints.
    fn hushed<R>(benchmark: impl FnOnce() -> R) -> R {
        benchmark()
    }
}
