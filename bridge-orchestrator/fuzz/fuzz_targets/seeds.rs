//! Writes `seeds/record/…` anew, for a format that has changed: in this folder, with `RUSTFLAGS="--cfg fuzzing" cargo run --example seeds`.

use std::error::Error;
use std::fs;
use std::path::Path;

use bridge_orchestrator::fuzzing;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/record");
    fs::create_dir_all(&folder)?;
    for (name, bytes) in fuzzing::seeds() {
        // A target holds of its own seeds what it holds of all bytes.
        fuzzing::record(&bytes);
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
