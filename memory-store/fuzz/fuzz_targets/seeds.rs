//! Writes `seeds/<target>/…` anew, for a format that has changed: in this folder, with `RUSTFLAGS="--cfg fuzzing" cargo run --example seeds`.

use std::fs;

use memory_store::fuzzing;

fn main() -> std::io::Result<()> {
    for target in ["store", "record", "log", "manifest", "sections"] {
        fs::create_dir_all(format!("seeds/{target}"))?;
    }
    let records = fuzzing::records();
    fs::write("seeds/store/whole", &records)?;
    let mut rest = &records[..];
    for number in 0.. {
        let Some((&[kind, length], after)) = rest.split_first_chunk() else { break };
        let (body, after) = after.split_at(usize::from(length));
        fs::write(format!("seeds/record/{number}"), [&[kind], body].concat())?;
        rest = after;
    }
    for (target, bytes) in fuzzing::seeds() {
        for (name, reseal) in [("whole", 0), ("resealed", 1)] {
            fs::write(format!("seeds/{target}/{name}"), [&bytes[..], &[reseal]].concat())?;
        }
    }
    Ok(())
}
