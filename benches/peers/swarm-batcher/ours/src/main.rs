//! The request batcher of this repository: calls by its batcher, uploads by its telemetry encoder.

mod batches;
mod uploads;

use std::process::ExitCode;

use swarm_batcher_contest::Contest;

fn main() -> ExitCode {
    Contest::of("ours").calls::<batches::Batches>().encodes::<uploads::Uploads>().run()
}
