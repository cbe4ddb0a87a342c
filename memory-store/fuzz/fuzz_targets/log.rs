//! Any bytes as a file of the log: an error that leaves it as it was, or records, after which another can be written. The last byte says whether checksums are made right first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memory_store::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    if let Some((reseal, bytes)) = bytes.split_last() {
        fuzzing::log(bytes, reseal % 2 == 1);
    }
});
