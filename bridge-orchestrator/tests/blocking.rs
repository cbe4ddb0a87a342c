//! Who is reported for having held a worker up, and who is not.

use std::collections::HashMap;
use std::panic::Location;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bridge_orchestrator::health::{BlockEvent, BlockingDetector, HealthError};
use tokio::task::yield_now;

const MILLISECOND: Duration = Duration::from_millis(1);
const THRESHOLD: Duration = Duration::from_millis(5);

fn detector() -> (BlockingDetector, Receiver<BlockEvent>) {
    let (told, events) = channel();
    (BlockingDetector::on_block(move |event| drop(told.send(event))), events)
}

fn finished(events: &Receiver<BlockEvent>) -> HashMap<String, BlockEvent> {
    let events = events.try_iter().filter(|event| !event.running);
    let mut by_name = HashMap::new();
    for event in events {
        let name = event.task.to_string();
        assert!(by_name.insert(name, event).is_none(), "each is told once");
    }
    by_name
}

/// What a poll took as seen from inside of it.
fn busy(time: Duration) -> Duration {
    let start = Instant::now();
    std::thread::sleep(time);
    start.elapsed()
}

/// Two hundred tasks block, as many do not, each in one of several polls: those that were long by their own clock are told, with their name
/// and no shorter than they were, and nobody else, except by the little that the detector's clock sees more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_who_block_are_named_and_nobody_else() {
    let (detector, events) = detector();
    let tasks: Vec<_> = (0..400_u32)
        .map(|number| {
            let name = format!("task-{number}");
            let time = if number % 2 == 0 { 5 * MILLISECOND + number / 2 % 7 * MILLISECOND } else { Duration::ZERO };
            let task = detector.spawn(name.clone(), async move {
                let mut longest = Duration::ZERO;
                for poll in 0..5 {
                    let took = if poll == number % 5 { busy(time) } else { Duration::ZERO };
                    longest = longest.max(took);
                    yield_now().await;
                }
                longest
            });
            (name, task)
        })
        .collect();
    let mut took = HashMap::new();
    for (name, task) in tasks {
        took.insert(name, task.await.expect("no panic"));
    }
    let stats = detector.stats();
    drop(detector);
    let told = finished(&events);
    assert_eq!((stats.blocked, stats.dropped), (told.len() as u64, 0));
    for (name, took) in &took {
        match told.get(name) {
            Some(event) => assert!(event.duration >= *took && event.duration >= THRESHOLD, "{event:?} took {took:?}"),
            None => assert!(*took < THRESHOLD, "{name} took {took:?}"),
        }
    }
    let blocking = took.values().filter(|took| **took >= THRESHOLD).count();
    assert!(blocking >= 200, "the injected ones");
    // A poll that did nothing and was told was put aside by the operating system outside of what the task itself could see.
    assert!(told.len() <= blocking + 4, "{} told, {blocking} blocked", told.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_polls_that_add_up_are_not_told() {
    let (detector, events) = detector();
    let task = detector.spawn("patient", async {
        let mut longest = Duration::ZERO;
        for _ in 0..200 {
            let start = Instant::now();
            while start.elapsed() < MILLISECOND / 4 {
                std::hint::spin_loop();
            }
            longest = longest.max(start.elapsed());
            yield_now().await;
        }
        longest
    });
    let longest = task.await.expect("no panic");
    drop(detector);
    let told = events.try_iter().count();
    assert!(told == 0 || longest >= THRESHOLD, "{told} told, and the longest poll took {longest:?}");
}

#[tokio::test]
async fn an_event_says_which_thread_and_where_the_task_was_spawned() {
    let (detector, events) = detector();
    let line = Location::caller().line() + 1;
    let task = detector.spawn("culprit", async { busy(20 * MILLISECOND) });
    let took = task.await.expect("no panic");
    let event = events.recv().expect("told");
    let thread = std::thread::current();
    assert_eq!((&*event.task, &*event.thread), ("culprit", thread.name().expect("a test's thread has a name")));
    assert_eq!((event.location.file(), event.location.line()), (file!(), line));
    assert!(event.duration >= took && event.duration < took + Duration::from_secs(1) && !event.running);
}

#[tokio::test]
async fn a_panic_ends_the_watch_of_its_poll() {
    let (detector, events) = detector();
    let panicking = detector.spawn("panics", async {
        busy(10 * MILLISECOND);
        panic!("as it is told to");
    });
    panicking.await.expect_err("panics");
    detector.spawn("next", async {}).await.expect("no panic");
    drop(detector);
    let told: Vec<_> = finished(&events).into_keys().collect();
    assert_eq!(told, ["panics"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_does_not_end_is_told_while_it_runs() {
    let (told, events) = channel();
    let detector = BlockingDetector::builder()
        .stuck_after(30 * MILLISECOND)
        .on_block(move |event| drop(told.send(event)))
        .expect("in range");
    let (release, released) = channel::<()>();
    let task = detector.spawn("stuck", async move {
        released.recv().expect_err("only dropped");
    });
    let event = tokio::task::spawn_blocking(move || (events.recv().expect("told"), events)).await.expect("no panic");
    let (event, events) = event;
    assert_eq!((&*event.task, event.running, event.duration >= 30 * MILLISECOND), ("stuck", true, true));
    std::thread::sleep(100 * MILLISECOND);
    drop(release);
    task.await.expect("no panic");
    drop(detector);
    let later: Vec<_> = events.try_iter().map(|event| event.running).collect();
    assert_eq!(later, [false], "once while it ran, once when it ended");
}

#[tokio::test]
async fn a_callback_that_panics_is_counted_and_called_again() {
    let (told, events) = channel();
    let detector = BlockingDetector::on_block(move |event: BlockEvent| {
        assert!(&*event.task != "first", "as it is told to");
        told.send(event).expect("received");
    });
    for name in ["first", "second"] {
        detector.spawn(name, async { busy(10 * MILLISECOND) }).await.expect("no panic");
    }
    assert_eq!(&*events.recv().expect("told").task, "second");
    assert_eq!(detector.stats().panicked, 1);
}

#[tokio::test]
async fn futures_outlive_the_detector_unwatched() {
    let (detector, events) = detector();
    let future = detector.watch("late", async { busy(10 * MILLISECOND) });
    drop(detector);
    future.await;
    assert_eq!(events.try_iter().count(), 0);
}

#[test]
fn options_that_are_too_short_are_refused() {
    let short = BlockingDetector::builder().threshold(Duration::ZERO).on_block(drop);
    assert!(matches!(short, Err(HealthError::OutOfRange { option: "threshold", .. })));
    let short = BlockingDetector::builder().stuck_after(MILLISECOND).on_block(drop);
    assert!(matches!(short, Err(HealthError::OutOfRange { option: "stuck_after", .. })));
}
