//! The works that memory stores are compared by, defined once: every contender stores the same vectors and is asked the same questions.
//!
//! A contender is a binary of its own, whose `main` runs the suite of a [`Contest`]; its benchmarks are
//! `peers/memory-store/<work>/<peer>`. What is stored, and the best answers, which `f64` brute force found, are made once and kept in
//! files beside the binaries. Filling a store and building an index are not timed. Every answer is compared with the best one: a benchmark
//! whose answers are not as good as its contender promises has no result.

mod append;
mod contest;
mod corpus;
mod files;
mod formula;
mod lines;
mod rank;
mod setting;
mod similar;
mod truth;
mod work;

pub use append::{APPENDS, Appends};
pub use contest::Contest;
pub use corpus::Corpus;
pub use files::FileError;
pub use formula::{NOW_HOURS, recurrence_term};
pub use rank::{Ranks, measure_answers};
pub use setting::Setting;
pub use similar::{Candidate, Finds};
pub use truth::{Found, Truth};
pub use work::{FEWER, PREFETCH, Promise, Question, Work};

/// Dimensions of a vector.
pub const DIMENSIONS: usize = 384;
/// Memories that are stored.
pub const MEMORIES: usize = 100_000;
/// Questions that are asked, all of them each round.
pub const QUERIES: usize = 100;
