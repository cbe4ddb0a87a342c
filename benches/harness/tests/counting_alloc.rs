//! The counting allocator counts exactly. One test, because counters are those of the whole process.

use std::thread;

use harness::{AllocStats, CountingAlloc, alloc_scope, is_counting, live_bytes};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::system();

#[test]
fn counts_are_exact() {
    assert!(is_counting());

    let (kept, stats) = alloc_scope(|| Box::new([0_u8; 100]));
    assert_eq!(stats, AllocStats { count: 1, bytes: 100, live: 100, peak: 100 });
    let ((), stats) = alloc_scope(|| drop(kept));
    assert_eq!(stats, AllocStats { count: 0, bytes: 0, live: -100, peak: 0 });

    // A growing vector: one allocation and two reallocations, each counted by what it added.
    let (values, stats) = alloc_scope(|| {
        let mut values = Vec::<u8>::with_capacity(10);
        for capacity in [20, 40] {
            values.reserve_exact(capacity);
        }
        values
    });
    assert_eq!(stats, AllocStats { count: 3, bytes: 40, live: 40, peak: 40 });
    drop(values);

    // The peak is what lived at once, not what was requested in all.
    let ((), stats) = alloc_scope(|| {
        for _ in 0..10 {
            drop(std::hint::black_box(vec![0_u8; 1_000]));
        }
    });
    assert_eq!((stats.count, stats.bytes, stats.live, stats.peak), (10, 10_000, 0, 1_000));

    // A peak far above the slack of a shard is exact on one thread.
    let ((), stats) = alloc_scope(|| drop(std::hint::black_box(vec![0_u8; 10 << 20])));
    assert_eq!(stats.peak, 10 << 20);

    // Sums are exact over threads, also when one frees what another allocated.
    let before = live_bytes();
    let (boxes, stats) = alloc_scope(|| {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1_000).map(|i| Box::new([i; 16])).collect::<Vec<Box<[u64; 16]>>>()))
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect::<Vec<_>>()
        })
    });
    assert_eq!(boxes.len(), 4_000);
    assert!(stats.bytes >= 4_000 * 128, "{stats:?}");
    assert!(stats.live >= 4_000 * 128, "{stats:?}");
    thread::spawn(move || drop(boxes)).join().expect("no panic");
    let left = live_bytes() - before;
    assert!(left.abs() < 4_096, "{left} bytes left");
}
