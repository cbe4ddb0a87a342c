//! The message bus of the crate kameo_actors: an actor that passes every message on to the actors registered for its type.

mod fan_out;
mod inline;

use std::process::ExitCode;

use message_bus_contest::{Contest, Work};

fn main() -> ExitCode {
    Contest::of("kameo-actors").inline::<inline::Handlers>().tasks::<fan_out::Bus>(&Work::FAN_OUT).run()
}
