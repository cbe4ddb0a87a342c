//! What a benchmark needs beyond criterion: latency of single operations, allocations, memory an item, scaling, floors measured
//! in the same run, and one file format for what was measured.
//!
//! A bench binary is a [`Suite`] of functions, each of which measures one thing and states a proof that the work was done:
//!
//! ```no_run
//! use harness::{Bench, BenchError, Suite};
//!
//! fn main() -> std::process::ExitCode {
//!     Suite::new().bench("strings/push", push).run()
//! }
//!
//! fn push(bench: &mut Bench) -> Result<(), BenchError> {
//!     let rounds = bench.ops(1_000, String::new, |text, _| text.push('x'), |text| text.len() as u64)?;
//!     bench.proof(rounds * 1_000, bench.observed());
//!     Ok(())
//! }
//! ```
//!
//! | to know | use | recorded as |
//! |---|---|---|
//! | percentiles of one operation | [`Bench::ops`] | `latency.*` |
//! | mean time of short operations | [`Bench::rounds`] | `latency.mean` |
//! | the same, timed by another process | [`Bench::rounds_measured`] | `latency.mean` |
//! | time beside a floor | [`Bench::against`] | `latency.mean`, ratio |
//! | allocations an operation | [`CountingAlloc`], [`alloc_scope`], [`Bench::allocations`] | `allocs.*` |
//! | memory an item, peak | [`Bench::memory_per_item`], [`Bench::memory_at`] | `memory.*` |
//! | growth where there should be none | [`Bench::growth`] | `memory.growth*` |
//! | time over size, threads | [`Bench::exponent`], [`Bench::speedup`], [`together`] | `scaling.*` |
//! | batch means by criterion | [`criterion()`], [`timed`] | criterion's own files |
//!
//! Without the feature `bench` only the file format ([`record`]), the [`metric`] names, the [`environment`], the [`stats`] and
//! the cost of the clock remain: what a reader of measurements needs.

#[cfg(feature = "bench")]
mod counting_alloc;
#[cfg(feature = "bench")]
mod criterion_config;
#[cfg(feature = "bench")]
mod effort;
pub mod environment;
#[cfg(feature = "bench")]
mod memory;
pub mod metric;
#[cfg(feature = "bench")]
mod op_bench;
#[cfg(feature = "bench")]
mod pair;
#[cfg(feature = "flamegraph")]
mod profiler;
pub mod record;
#[cfg(feature = "bench")]
mod rounds;
#[cfg(feature = "bench")]
mod scaling;
pub mod stats;
#[cfg(feature = "bench")]
mod suite;
mod timer;
mod together;

#[cfg(feature = "bench")]
pub use self::{
    counting_alloc::{AllocStats, CountingAlloc, alloc_scope, is_counting, live_bytes},
    criterion_config::{Tally, criterion, timed},
    effort::Effort,
    suite::{Bench, BenchError, Suite},
};
#[cfg(feature = "flamegraph")]
pub use profiler::Flamegraph;
pub use timer::{LEAST_TIMER_MULTIPLE, timer_cost};
pub use together::together;
