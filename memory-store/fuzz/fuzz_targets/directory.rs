//! A store with bytes of one of its files changed, sealed again or not: a typed error that leaves the files, or a store that goes on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memory_store::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::directory(bytes);
});
