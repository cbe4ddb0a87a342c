//! Models of the breaker: loom visits every order that the memory model allows.
//!
//! `RUSTFLAGS="--cfg bridge_orchestrator_loom" cargo test -p bridge-orchestrator --lib --release loom`

use std::time::{Duration, Instant};

use loom::sync::Arc;
use loom::thread;

use super::{BreakerState, CircuitBreaker, RetryBudget};

const RESET: Duration = Duration::from_secs(1);

/// A breaker that has opened, and a moment at which it lets probes through.
fn open(probes: u16) -> (Arc<CircuitBreaker>, Instant) {
    let breaker =
        CircuitBreaker::builder().window(1).failures(1).reset_after(RESET).probes(probes).build().expect("valid");
    let now = Instant::now() + RESET;
    breaker.permit(now).expect("closed").failed(now);
    (Arc::new(breaker), now + RESET)
}

#[test]
fn loom_half_open_lets_exactly_the_probes_through() {
    loom::model(|| {
        let (breaker, now) = open(2);
        let asking: Vec<_> = (0..3)
            .map(|_| {
                let breaker = Arc::clone(&breaker);
                // Kept until all have asked: a permit that is given back makes room.
                thread::spawn(move || breaker.permit(now).map(std::mem::forget).is_ok())
            })
            .collect();
        let admitted = asking.into_iter().map(|one| one.join().expect("no panic")).filter(|ok| *ok);
        assert_eq!(admitted.count(), 2);
        assert_eq!(breaker.state(), BreakerState::HalfOpen { admitted: 2, succeeded: 0 });
    });
}

#[test]
fn loom_all_probes_have_succeeded_when_it_closes() {
    loom::model(|| {
        let (breaker, now) = open(2);
        let probing: Vec<_> = (0..2)
            .map(|_| {
                let breaker = Arc::clone(&breaker);
                thread::spawn(move || breaker.permit(now).expect("one of two probes").succeeded())
            })
            .collect();
        probing.into_iter().for_each(|one| one.join().expect("no panic"));
        assert_eq!(breaker.state(), BreakerState::Closed { failures: 0 });
    });
}

#[test]
fn loom_a_failed_probe_opens_it_whatever_the_other_one_does() {
    loom::model(|| {
        let (breaker, now) = open(2);
        let (one, other) = (Arc::clone(&breaker), Arc::clone(&breaker));
        let failing = thread::spawn(move || one.permit(now).map(|permit| permit.failed(now)).is_ok());
        let succeeding = thread::spawn(move || other.permit(now).map(|permit| permit.succeeded()).is_ok());
        assert!(failing.join().expect("no panic"), "the other one alone neither closes nor opens it");
        succeeding.join().expect("no panic");
        assert_eq!(breaker.state(), BreakerState::Open);
    });
}

#[test]
fn loom_no_failure_is_lost() {
    loom::model(|| {
        let breaker = CircuitBreaker::builder().window(4).failures(2).build().expect("valid");
        let (breaker, now) = (Arc::new(breaker), Instant::now());
        let failing: Vec<_> = (0..2)
            .map(|_| {
                let breaker = Arc::clone(&breaker);
                thread::spawn(move || breaker.permit(now).map(|permit| permit.failed(now)).is_ok())
            })
            .collect();
        for one in failing {
            assert!(one.join().expect("no panic"), "one failure does not open it");
        }
        assert_eq!(breaker.state(), BreakerState::Open);
    });
}

#[test]
fn loom_a_token_is_taken_once() {
    loom::model(|| {
        let budget = Arc::new(RetryBudget::new(0.0, 0.0).expect("in range"));
        let now = Instant::now();
        for _ in 0..9 {
            assert!(budget.try_retry(now), "ten are there");
        }
        let taking: Vec<_> = (0..2)
            .map(|_| {
                let budget = Arc::clone(&budget);
                thread::spawn(move || budget.try_retry(now))
            })
            .collect();
        let taken: Vec<bool> = taking.into_iter().map(|one| one.join().expect("no panic")).collect();
        assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
    });
}
