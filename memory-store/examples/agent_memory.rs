//! An agent that remembers: notes merge when they recur, fade with time, and come back by what they mean, how old they are and how often
//! they were seen.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use memory_store::{Config, Error, ManualClock, Memory, MemoryStore, Prune, Query, RetentionClass, Written};

const DIMENSIONS: usize = 256;

/// In place of an embedding model: words, hashed.
fn embed(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0; DIMENSIONS];
    for word in text.to_lowercase().split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 2) {
        let hash = word.bytes().fold(2_166_136_261u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
        vector[(hash >> 8) as usize % DIMENSIONS] += 1.0;
    }
    vector
}

fn main() -> Result<(), Error> {
    let clock = ManualClock::default();
    let store = MemoryStore::with_clock(Config::builder(DIMENSIONS).build()?, clock.clone())?;

    let notes = [
        ("The user prefers answers in metric units", RetentionClass::High),
        ("The deploy of the billing service failed: migration lock timed out", RetentionClass::Medium),
        ("The user asked for the weather in Lisbon", RetentionClass::Low),
        ("Never run migrations of the billing service during a deploy", RetentionClass::Critical),
    ];
    for (note, class) in notes {
        let vector = embed(note);
        store.write(Memory::new(&vector, note).class(class))?;
        clock.advance(Duration::from_secs(3_600));
    }
    // The same failure twice more: one memory, seen three times, and young again.
    for _ in 0..2 {
        let vector = embed("deploy of the billing service failed: migration lock timed out");
        match store.write(Memory::new(&vector, "again"))? {
            Written::Merged { id, recurrence, similarity } => {
                println!("merged into {id:?}, seen {recurrence} times ({similarity:.2})");
            }
            Written::Inserted(id) => println!("new: {id:?}"),
        }
        clock.advance(Duration::from_secs(3_600));
    }

    let question = embed("why did the billing deploy fail");
    let found = store.retrieve(&Query::new(&question, 3))?;
    for hit in &found.hits {
        let parts = &hit.parts;
        println!(
            "{:.3} = similarity {:.2}, age {:.2}, recurrence {:.2}: {}",
            hit.score, parts.similarity, parts.temporal, parts.recurrence, hit.payload
        );
    }
    assert_eq!(*found.hits[0].payload, notes[1].0, "what has failed three times comes first");

    // A week later what was not important is gone, and the rule is still there.
    clock.advance(Duration::from_secs(7 * 24 * 3_600));
    let report = store.prune(Prune::new().by_retention())?;
    println!("forgotten: {}, kept: {}", report.removed, report.remaining);
    assert_eq!(report.remaining, 1);
    Ok(())
}
