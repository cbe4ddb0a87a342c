//! A log of any records, each with a kind, a length and a body: a typed error that leaves it as it was, or a store that goes on and opens again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memory_store::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::store(bytes);
});
