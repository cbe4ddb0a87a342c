//! The message bus of this repository: handlers by its publisher, streams and fan-out by its ring.

mod bus;
mod ring;
mod spinning;

use std::process::ExitCode;

use message_bus_contest::{Contest, Work};

fn main() -> ExitCode {
    Contest::of("ours")
        .inline::<bus::Handlers>()
        .tasks::<ring::Ring>(&Work::STREAMS)
        .tasks::<ring::Ring>(&Work::FAN_OUT)
        .threads::<spinning::Spinning>(&Work::SPINNING)
        .run()
}
