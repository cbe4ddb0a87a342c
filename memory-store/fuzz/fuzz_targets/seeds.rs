//! One target run writes `seeds/<target>/{whole,resealed}`.
#![no_main]

use std::fs;
use std::sync::Once;

use libfuzzer_sys::fuzz_target;
use memory_store::fuzzing;

static WRITTEN: Once = Once::new();

fuzz_target!(|_bytes: &[u8]| {
    WRITTEN.call_once(|| {
        let records = fuzzing::records();
        fs::create_dir_all("seeds/store").expect("run in the folder of the fuzz targets");
        fs::write("seeds/store/whole", &records).expect("written");
        fs::create_dir_all("seeds/record").expect("run in the folder of the fuzz targets");
        let mut rest = &records[..];
        for number in 0.. {
            let Some((&[kind, length], after)) = rest.split_first_chunk() else { break };
            let (body, after) = after.split_at(usize::from(length));
            fs::write(format!("seeds/record/{number}"), [&[kind], body].concat()).expect("written");
            rest = after;
        }
        for (target, bytes) in fuzzing::seeds() {
            for (name, reseal) in [("whole", 0), ("resealed", 1)] {
                let path = format!("seeds/{target}/{name}");
                fs::write(path, [&bytes[..], &[reseal]].concat()).expect("run in the folder of the fuzz targets");
            }
        }
    });
});
