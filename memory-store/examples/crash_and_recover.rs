//! A process that is killed while it writes, and what the next one finds: everything that was acknowledged.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use memory_store::{Config, Error, Memory, MemoryStore, Query};

const DIMENSIONS: usize = 32;

fn config() -> Result<Config, Error> {
    Config::builder(DIMENSIONS).dedup(None).build()
}

fn vector(number: u64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(number);
    (0..DIMENSIONS).map(|_| rng.f32() - 0.5).collect()
}

/// Writes for ever, and says what it has been told is written.
fn write(dir: &Path) -> Result<(), Error> {
    let (store, recovery) = MemoryStore::<u64>::open(dir, config()?)?;
    for number in recovery.memories as u64.. {
        store.write(Memory::new(&vector(number), number))?;
        println!("{number}");
        if number % 500 == 499 {
            store.snapshot()?;
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(dir) = env::args_os().nth(1) {
        return Ok(write(Path::new(&dir))?);
    }
    let dir = env::temp_dir().join(format!("crash-and-recover-{}", std::process::id()));
    let mut acknowledged = 0;
    for life in 1..=3 {
        let mut child = Command::new(env::current_exe()?).arg(&dir).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("a pipe")?).lines();
        for line in lines.by_ref().take(700) {
            acknowledged = line?.parse::<u64>()? + 1;
        }
        child.kill()?;
        child.wait()?;
        // What was still in the pipe had been acknowledged as well.
        for line in lines {
            acknowledged = line?.parse::<u64>().map_or(acknowledged, |number| number + 1);
        }
        let (store, recovery) = MemoryStore::<u64>::open(&dir, config()?)?;
        println!("life {life}: {acknowledged} acknowledged, {} found: {recovery:?}", recovery.memories);
        assert!(recovery.memories as u64 >= acknowledged, "nothing that was acknowledged is lost");
        let last = store.retrieve(&Query::new(&vector(acknowledged - 1), 1))?;
        assert_eq!(*last.hits[0].payload, acknowledged - 1);
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
