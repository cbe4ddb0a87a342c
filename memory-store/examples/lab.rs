#[path = "../benches/workload/mod.rs"]
mod workload;
use memory_store::*;
use std::time::Instant;
fn main() {
    let n: usize = std::env::args().nth(1).map_or(100_000, |x| x.parse().unwrap());
    let mut lines = workload::Lines::new(1, 384, 1000);
    let clock = ManualClock::new(workload::now());
    let config = Config::builder(384).dedup(None).build().unwrap();
    let store = MemoryStore::with_clock(config, clock.clone()).unwrap();
    let vs: Vec<Vec<f32>> = (0..n.min(100_000)).map(|_| lines.vector()).collect();
    let payload = std::sync::Arc::new(());
    let t = Instant::now();
    for i in 0..n {
        if i < vs.len() {
            store.write(Memory::shared(&vs[i], payload.clone()).at(workload::seen(i, n))).unwrap();
        } else {
            store.write(Memory::shared(&lines.vector(), payload.clone()).at(workload::seen(i, n))).unwrap();
        }
    }
    println!("append {:?} each", t.elapsed() / n as u32);
    let mut q = workload::Lines::new(2, 384, 1000);
    let queries: Vec<_> = (0..200).map(|_| q.vector()).collect();
    for round in 0..3 {
        let mut times = vec![];
        let mut s = ScanStats::default();
        for q in &queries {
            let t = Instant::now();
            let r = store.retrieve(&Query::new(q, 10)).unwrap();
            times.push(t.elapsed());
            let x = r.scanned;
            s.rows += x.rows;
            s.skipped += x.skipped;
            s.signs += x.signs;
            s.codes += x.codes;
            s.vectors += x.vectors;
            if times.len() < 3 && round == 0 {
                for h in &r.hits[..3] {
                    println!("  {} {:?}", h.score, h.parts);
                }
            }
        }
        times.sort();
        println!(
            "retrieve p50 {:?} p90 {:?} p99 {:?}; skipped {:.3} signs {:.3} codes {:.3} vectors {:.1}",
            times[100],
            times[180],
            times[198],
            s.skipped as f64 / s.rows as f64,
            s.signs as f64 / s.rows as f64,
            s.codes as f64 / s.rows as f64,
            s.vectors as f64 / 200.0
        );
    }
    // dedup
    let config = Config::builder(384).build().unwrap();
    let store = MemoryStore::with_clock(config, clock).unwrap();
    let (mut merged, mut t) = (0, Instant::now());
    let from = vs.len() - 10_000;
    let base = Config::builder(384).build().unwrap();
    drop(base);
    for (i, v) in vs.iter().enumerate() {
        if i == from {
            println!("filled in {:?}, merged {merged}", t.elapsed());
            t = Instant::now();
            merged = 0;
        }
        merged +=
            u32::from(store.write(Memory::shared(v, payload.clone()).at(workload::seen(i, n))).unwrap().is_merged());
    }
    println!("dedup write at {}: {:?} each, merged {merged} of 10000", store.len(), t.elapsed() / 10_000);
}
