//! The works that message buses, rings and channels are compared by, defined once: every contender does the same with the same
//! messages.
//!
//! A contender is a binary of its own, whose `main` runs the suite of a [`Contest`]; its benchmarks are
//! `peers/message-bus/<work>/<peer>`. Threads, tasks and the runtime run before the clock starts. Every consumer adds up all words of
//! what it gets and checks that numbers come in order; a benchmark whose sum is wrong has no result.

mod checksum;
mod contest;
mod inline;
mod message;
mod tally;
mod tasks;
mod threads;
mod work;

pub use checksum::Checksum;
pub use contest::Contest;
pub use inline::{Inline, runtime_of_one_thread};
pub use message::{Message, message, messages};
pub use tasks::Tasks;
pub use threads::Threads;
pub use work::{CAPACITY, Flow, Work};
