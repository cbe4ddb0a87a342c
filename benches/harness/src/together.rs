//! Work on several threads at once, timed by the threads themselves.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Some ticks of a scheduler, in which it spreads the threads over the processors.
const SETTLING: Duration = Duration::from_millis(8);

/// Runs `work` on several threads at once: each prepares for itself, all wait for each other, then all work. Returns the time from
/// the first start to the last end, as the threads themselves saw it, and what each produced.
///
/// The time does not hold the start of the threads, nor the wake-up of whoever waits for them.
///
/// # Panics
/// If `prepare` or `work` panics.
pub fn together<S, R: Send>(
    threads: usize,
    prepare: impl Fn(usize) -> S + Sync,
    work: impl Fn(S) -> R + Sync,
) -> (Duration, Vec<R>) {
    let (ready, settled) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let done: Vec<(Instant, Instant, R)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let (ready, settled, prepare, work) = (&ready, &settled, &prepare, &work);
                scope.spawn(move || {
                    let prepared = prepare(thread);
                    meet(ready, threads);
                    // Threads that wake each other may share a processor until the scheduler next looks: it gets the time.
                    let settling = Instant::now();
                    while settling.elapsed() < SETTLING {
                        spin_loop();
                    }
                    meet(settled, threads);
                    let start = Instant::now();
                    let result = work(prepared);
                    (start, Instant::now(), result)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("the benchmark's own work does not panic")).collect()
    });
    let first = done.iter().map(|(start, ..)| *start).min();
    let last = done.iter().map(|(_, end, _)| *end).max();
    let time = first.zip(last).map_or(Duration::ZERO, |(first, last)| last - first);
    (time, done.into_iter().map(|(.., result)| result).collect())
}

/// Waits for all threads, running: a thread that slept would start when it is woken.
fn meet(arrived: &AtomicUsize, threads: usize) {
    arrived.fetch_add(1, Ordering::AcqRel);
    while arrived.load(Ordering::Acquire) < threads {
        spin_loop();
        thread::yield_now();
    }
}
