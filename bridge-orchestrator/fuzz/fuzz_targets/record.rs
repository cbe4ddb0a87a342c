//! Any bytes as an event of a journal: a typed refusal, or a record that is no larger than its bytes and is written as it was read.
#![no_main]

use bridge_orchestrator::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::record(bytes));
