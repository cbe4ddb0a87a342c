//! Raw measurements: told apart by a normalizer, kept as memories, grouped into incidents that are found again.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use memory_store::{Config, Error, ManualClock, Memory, MemoryStore, Normalizer, Query, Timestamp};

/// Bus voltage, temperature, angular rate, current, wheel speed.
type Sample = [f32; 5];

fn nominal(rng: &mut fastrand::Rng) -> Sample {
    let mut around = |middle: f32, spread: f32| middle + spread * (rng.f32() + rng.f32() - 1.0);
    [around(8.0, 0.3), around(25.0, 3.0), around(0.02, 0.02), around(1.1, 0.2), around(3_000.0, 80.0)]
}

fn main() -> Result<(), Error> {
    let mut rng = fastrand::Rng::with_seed(1);
    let history: Vec<Sample> = (0..500).map(|_| nominal(&mut rng)).collect();
    let normalizer = Normalizer::from_samples(&history)?;
    let config = Config::builder(5).normalizer(normalizer).max_memories(1_000).build()?;
    let store = MemoryStore::with_clock(config, ManualClock::new(Timestamp::from_hours(100.0)))?;

    // Two incidents of the past: the voltage collapsed, the wheel ran away.
    for minute in 0..5u8 {
        let depth = f32::from(minute) * 0.4;
        let at = Timestamp::from_hours(1.0 + f64::from(minute) / 60.0);
        let voltage = [7.0 - depth, 26.0, 0.02, 1.8 + depth / 2.0, 3_010.0];
        store.write(
            Memory::new(&voltage, format!("undervoltage, {:.1} V", voltage[0])).incident("undervoltage-1").at(at),
        )?;
        let wheel = [8.0, 27.0 + depth, 0.3 + depth / 4.0, 1.4, 3_600.0 + 300.0 * depth];
        store.write(
            Memory::new(&wheel, format!("wheel at {:.0} rpm", wheel[4])).critical().incident("wheel-1").at(at),
        )?;
    }

    // Today something is going on.
    let now = [6.4, 26.5, 0.03, 2.0, 2_990.0];
    let hits = store.retrieve(&Query::new(&now, 3))?.hits;
    println!("like now:");
    for hit in &hits {
        println!("  {:+.2} {}", hit.parts.similarity, hit.payload);
    }
    store.write(Memory::new(&now, "undervoltage, 6.4 V".to_owned()).incident("today"))?;
    // A write that is like an earlier memory is merged into it, and that stays with its incident.
    for incident in store.similar_incidents("undervoltage-1", 2) {
        println!(
            "like the undervoltage: {} ({:+.2}, {} memories)",
            incident.name, incident.similarity, incident.memories
        );
    }
    let timeline = store.incident("undervoltage-1").expect("an incident of the past").timeline;
    println!(
        "undervoltage-1 has {} memories, seen {} times",
        timeline.len(),
        timeline.iter().map(|m| m.recurrence).sum::<u32>()
    );
    assert!(hits[0].payload.starts_with("undervoltage"), "the voltage is what is wrong");
    Ok(())
}
