//! Queues against a simple model: random messages with keys that fail, panic or are permanent failures at random.

mod support;

use std::time::Duration;

use message_bus::{Bus, Delivery, Event, FixedDelay, HandlerError, Key, Message, Reason};
use proptest::prelude::*;
use support::{Calls, OutOf, balanced};

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Success,
    Transient,
    Permanent,
    Panic,
}

#[derive(Clone, Debug)]
struct Job {
    number: usize,
    key: Option<u64>,
    /// How the first calls end; later ones succeed.
    ends: Vec<End>,
    /// How often a call waits for another task first.
    yields: usize,
}

impl Message for Job {
    const TYPE: &'static str = "test.job";

    fn key(&self) -> Option<Key<'_>> {
        self.key.map(Key::from)
    }
}

impl Event for Job {}

#[derive(Clone, Debug)]
struct Queue {
    capacity: usize,
    workers: usize,
    ordered: bool,
    retries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Delivered,
    Dead(Reason),
}

/// How many calls a job takes, and what becomes of it: a message is tried once and then as often again as the policy says, until a
/// call succeeds or trying again is of no use.
fn model(job: &Job, retries: u32) -> (u32, Fate) {
    for attempt in 1..=retries + 1 {
        match job.ends.get(attempt as usize - 1).copied().unwrap_or(End::Success) {
            End::Success => return (attempt, Fate::Delivered),
            End::Permanent | End::Panic => return (attempt, Fate::Dead(Reason::Permanent)),
            End::Transient => {}
        }
    }
    (retries + 1, Fate::Dead(Reason::RetriesExhausted))
}

fn jobs() -> impl Strategy<Value = Vec<Job>> {
    let end = prop_oneof![
        3 => Just(End::Success),
        4 => Just(End::Transient),
        1 => Just(End::Permanent),
        1 => Just(End::Panic),
    ];
    let job = (prop::option::weighted(0.8, 0..4_u64), prop::collection::vec(end, 0..5), 0..3_usize);
    prop::collection::vec(job, 0..40).prop_map(|jobs| {
        let jobs = jobs.into_iter().enumerate();
        jobs.map(|(number, (key, ends, yields))| Job { number, key, ends, yields }).collect()
    })
}

fn queue() -> impl Strategy<Value = Queue> {
    (1..9_usize, prop::sample::select(vec![1, 2, 4]), any::<bool>(), 0..4_u32)
        .prop_map(|(capacity, workers, ordered, retries)| Queue { capacity, workers, ordered, retries })
}

/// Publishes the jobs and lets all be worked off; returns the calls as (number, attempt), and the fates.
async fn run(queue: &Queue, jobs: &[Job]) -> (Vec<(usize, u32)>, Vec<Option<Fate>>) {
    let bus = Bus::builder().ring_capacity(8).build().expect("valid");
    let (calls, done) = (Calls::default(), Calls::default());
    let (recorder, finished) = (calls.clone(), done.clone());
    let handler = move |job: Delivery<Job>| {
        let (calls, done) = (recorder.clone(), finished.clone());
        async move {
            calls.add((job.number, job.attempt()));
            for _ in 0..job.yields {
                tokio::task::yield_now().await;
            }
            match job.ends.get(job.attempt() as usize - 1).copied().unwrap_or(End::Success) {
                End::Success => {
                    done.add(job.number);
                    Ok(())
                }
                End::Transient => Err(HandlerError::transient(OutOf("luck"))),
                End::Permanent => Err(HandlerError::permanent(OutOf("hope"))),
                End::Panic => std::panic::resume_unwind(Box::new("as the test wants")),
            }
        }
    };
    let builder = bus.subscription().queue(queue.capacity).concurrency(queue.workers);
    let builder = builder.retry(FixedDelay::new(queue.retries, Duration::from_millis(3)));
    let builder = if queue.ordered { builder.ordered_by_key() } else { builder };
    let subscription = builder.run(handler).expect("valid");
    for job in jobs {
        bus.publish(job.clone()).await.expect("room comes");
    }
    let ended = || {
        let stats = subscription.stats().expect("a queue");
        stats.delivered + stats.dead_lettered
    };
    support::until(|| ended() == jobs.len() as u64).await;
    balanced(subscription.unsubscribe().await.expect("a queue"), jobs.len() as u64);
    let mut fates = vec![None; jobs.len()];
    for number in done.all() {
        assert_eq!(fates[number].replace(Fate::Delivered), None, "twice");
    }
    for letter in bus.dead_letters().page(None, usize::MAX) {
        let number = letter.message::<Job>().expect("a job").number;
        assert_eq!(fates[number].replace(Fate::Dead(letter.reason)), None, "twice");
    }
    (calls.all(), fates)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_job_is_called_as_often_as_the_model_says_ends_as_it_says_and_keeps_its_place(
        queue in queue(),
        jobs in jobs(),
    ) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true);
        let (calls, fates) = runtime.build().expect("a runtime").block_on(run(&queue, &jobs));
        for job in &jobs {
            let (attempts, fate) = model(job, queue.retries);
            let own: Vec<u32> = calls.iter().filter(|call| call.0 == job.number).map(|call| call.1).collect();
            prop_assert_eq!(own, (1..=attempts).collect::<Vec<_>>(), "the calls of {:?}", job);
            prop_assert_eq!(fates[job.number], Some(fate));
        }
        let first_calls = calls.iter().filter(|call| call.1 == 1).map(|call| call.0);
        if queue.workers == 1 && !queue.ordered {
            prop_assert!(first_calls.is_sorted(), "one worker: in order, but for retries");
        }
        if queue.ordered {
            for key in 0..4 {
                let of_key = |number: &usize| jobs[*number].key == Some(key);
                let numbers = calls.iter().map(|call| call.0).filter(of_key);
                prop_assert!(numbers.is_sorted(), "by key: each is through before the next, retries included");
            }
        }
    }
}
