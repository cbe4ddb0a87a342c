//! One target run writes `seeds/<target>/{whole,resealed}`.
#![no_main]

use std::fs;
use std::sync::Once;

use libfuzzer_sys::fuzz_target;
use memory_store::fuzzing;

static WRITTEN: Once = Once::new();

fuzz_target!(|_bytes: &[u8]| {
    WRITTEN.call_once(|| {
        for (target, bytes) in fuzzing::seeds() {
            for (name, reseal) in [("whole", 0), ("resealed", 1)] {
                let path = format!("seeds/{target}/{name}");
                fs::write(path, [&bytes[..], &[reseal]].concat()).expect("run in the folder of the fuzz targets");
            }
        }
    });
});
