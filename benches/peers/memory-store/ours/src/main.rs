//! The memory store of this repository.

mod appends;
mod store;

use std::process::ExitCode;

use memory_store_contest::Contest;

fn main() -> ExitCode {
    Contest::of("ours")
        .ranks(store::Store::open)
        .stands_beside_fewer(store::Store::open)
        .appends::<appends::Growing>()
        .run()
}
