//! When the breaker opens, how it closes, and that it is its model.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bridge_orchestrator::route::{BreakerState, CircuitBreaker, Permit, RouteError};
use proptest::prelude::*;

const RESET: Duration = Duration::from_secs(60);

fn breaker() -> CircuitBreaker {
    CircuitBreaker::builder().build().expect("valid")
}

fn fail(breaker: &CircuitBreaker, times: u32, now: Instant) {
    for _ in 0..times {
        breaker.permit(now).expect("closed").failed(now);
    }
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let refused = |builder: bridge_orchestrator::route::BreakerBuilder| match builder.build() {
        Err(RouteError::OutOfRange { option, .. }) => option,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(CircuitBreaker::builder().window(49)), "window");
    assert_eq!(refused(CircuitBreaker::builder().window(0)), "window");
    assert_eq!(refused(CircuitBreaker::builder().window(4)), "failures");
    assert_eq!(refused(CircuitBreaker::builder().failures(0)), "failures");
    assert_eq!(refused(CircuitBreaker::builder().reset_after(Duration::ZERO)), "reset_after");
    assert_eq!(refused(CircuitBreaker::builder().probes(0)), "probes");
}

#[test]
fn the_fifth_failure_opens_it_for_sixty_seconds() {
    let (breaker, now) = (breaker(), Instant::now());
    fail(&breaker, 4, now);
    assert_eq!(breaker.state(), BreakerState::Closed { failures: 4 });
    fail(&breaker, 1, now);
    assert_eq!(breaker.state(), BreakerState::Open);
    let refused = breaker.permit(now + RESET / 2).expect_err("open");
    assert!(refused.retry_in <= RESET / 2 && refused.retry_in > RESET / 2 - Duration::from_millis(2), "{refused}");
    assert!(breaker.permit(now + RESET).is_ok());
}

#[test]
fn a_closed_breaker_reads_no_clock() {
    let (breaker, now) = (breaker(), Instant::now());
    breaker.permit_by(|| panic!("nobody needs the time")).expect("closed").succeeded();
    fail(&breaker, 5, now);
    assert!(breaker.permit_by(|| now).is_err());
    assert!(breaker.permit_by(|| now + RESET).is_ok());
}

#[test]
fn failures_leave_the_window_with_the_outcomes_that_follow() {
    let breaker = CircuitBreaker::builder().window(10).build().expect("valid");
    let now = Instant::now();
    fail(&breaker, 4, now);
    for _ in 0..10 {
        breaker.permit(now).expect("closed").succeeded();
    }
    assert_eq!(breaker.state(), BreakerState::Closed { failures: 0 });
    fail(&breaker, 4, now);
    assert_eq!(breaker.state(), BreakerState::Closed { failures: 4 });
}

#[test]
fn half_open_it_lets_its_probes_through_and_closes_when_all_succeed() {
    let (breaker, now) = (breaker(), Instant::now());
    fail(&breaker, 5, now);
    let later = now + RESET;
    let probes: Vec<_> = (0..3).map(|_| breaker.permit(later).expect("a probe")).collect();
    assert_eq!(breaker.permit(later).expect_err("three are under way").retry_in, Duration::ZERO);
    for (told, probe) in probes.into_iter().enumerate() {
        assert_eq!(breaker.state(), BreakerState::HalfOpen { admitted: 3, succeeded: told as u16 });
        probe.succeeded();
    }
    assert_eq!(breaker.state(), BreakerState::Closed { failures: 0 });
}

#[test]
fn a_failed_probe_opens_it_again_for_the_whole_time() {
    let (breaker, now) = (breaker(), Instant::now());
    fail(&breaker, 5, now);
    let later = now + RESET;
    let (one, other) = (breaker.permit(later).expect("a probe"), breaker.permit(later).expect("a probe"));
    one.failed(later);
    other.succeeded();
    assert_eq!(breaker.state(), BreakerState::Open);
    assert!(breaker.permit(later + RESET - Duration::from_millis(2)).is_err());
    assert!(breaker.permit(later + RESET).is_ok());
}

#[test]
fn a_probe_that_was_given_up_makes_room_for_another() {
    let breaker = CircuitBreaker::builder().probes(1).build().expect("valid");
    let now = Instant::now();
    fail(&breaker, 5, now);
    let later = now + RESET;
    let probe = breaker.permit(later).expect("a probe");
    assert!(breaker.permit(later).is_err());
    drop(probe);
    breaker.permit(later).expect("a probe").succeeded();
    assert_eq!(breaker.state(), BreakerState::Closed { failures: 0 });
}

#[test]
fn an_outcome_from_before_it_opened_changes_nothing() {
    let (breaker, now) = (breaker(), Instant::now());
    let (slow, slower) = (breaker.permit(now).expect("closed"), breaker.permit(now).expect("closed"));
    fail(&breaker, 5, now);
    slow.succeeded();
    assert_eq!(breaker.state(), BreakerState::Open);
    let later = now + RESET;
    let _probe = breaker.permit(later).expect("a probe");
    slower.failed(later);
    assert_eq!(breaker.state(), BreakerState::HalfOpen { admitted: 1, succeeded: 0 });
}

#[test]
fn many_threads_at_once_are_let_through_as_often_as_there_are_probes() {
    for _ in 0..200 {
        let (breaker, now) = (breaker(), Instant::now());
        fail(&breaker, 5, now);
        let later = now + RESET;
        let admitted: Vec<Permit<'_>> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..4).map(|_| scope.spawn(|| breaker.permit(later).ok())).collect();
            asking.into_iter().filter_map(|one| one.join().expect("no panic")).collect()
        });
        assert_eq!(admitted.len(), 3);
    }
}

/// The breaker as one would write it down.
struct Model {
    state: ModelState,
    number: u64,
    window: usize,
    failures: usize,
    probes: u16,
}

enum ModelState {
    Closed(VecDeque<bool>),
    Open(Duration),
    HalfOpen { admitted: u16, succeeded: u16 },
}

impl Model {
    fn go(&mut self, state: ModelState) {
        self.state = state;
        self.number += 1;
    }

    fn permit(&mut self, now: Duration) -> Option<u64> {
        match &mut self.state {
            ModelState::Closed(_) => {}
            ModelState::Open(since) if now < *since + RESET => return None,
            ModelState::Open(_) => self.go(ModelState::HalfOpen { admitted: 1, succeeded: 0 }),
            ModelState::HalfOpen { admitted, .. } if *admitted < self.probes => *admitted += 1,
            ModelState::HalfOpen { .. } => return None,
        }
        Some(self.number)
    }

    fn tell(&mut self, number: u64, outcome: Option<bool>, now: Duration) {
        if number != self.number {
            return;
        }
        match (&mut self.state, outcome) {
            (ModelState::Closed(outcomes), Some(success)) => {
                outcomes.push_back(success);
                if outcomes.len() > self.window {
                    outcomes.pop_front();
                }
                if outcomes.iter().filter(|success| !**success).count() >= self.failures {
                    self.go(ModelState::Open(now));
                }
            }
            (ModelState::HalfOpen { succeeded, .. }, Some(true)) => {
                *succeeded += 1;
                if *succeeded == self.probes {
                    self.go(ModelState::Closed(VecDeque::new()));
                }
            }
            (ModelState::HalfOpen { .. }, Some(false)) => self.go(ModelState::Open(now)),
            (ModelState::HalfOpen { admitted, .. }, None) => *admitted -= 1,
            _ => {}
        }
    }

    fn matches(&self, found: BreakerState) -> bool {
        match (&self.state, found) {
            (ModelState::Closed(outcomes), BreakerState::Closed { failures }) => {
                outcomes.iter().filter(|success| !**success).count() == failures as usize
            }
            (ModelState::Open(_), BreakerState::Open) => true,
            (
                ModelState::HalfOpen { admitted, succeeded },
                BreakerState::HalfOpen { admitted: found_admitted, succeeded: found_succeeded },
            ) => (*admitted, *succeeded) == (found_admitted, found_succeeded),
            _ => false,
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Ask,
    /// Of the calls under way, that one ends.
    End(prop::sample::Index, Option<bool>),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![2 => Just(Some(true)), 3 => Just(Some(false)), 1 => Just(None)];
    prop_oneof![
        4 => Just(Step::Ask),
        4 => (any::<prop::sample::Index>(), outcome).prop_map(|(call, outcome)| Step::End(call, outcome)),
        1 => (0_u64..70).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(0xb4ea), cases: 500, ..ProptestConfig::default() })]

    /// Whatever is asked, told and waited for, the breaker answers and counts as its model does.
    #[test]
    fn the_breaker_is_its_model(
        window in 1_u32..=48, share in 1_u32..=6, probes in 1_u16..4, steps in prop::collection::vec(step(), 1..300)
    ) {
        let failures = share.min(window);
        let breaker = CircuitBreaker::builder().window(window).failures(failures).probes(probes).build().expect("valid");
        let start = Instant::now();
        let mut model = Model {
            state: ModelState::Closed(VecDeque::new()),
            number: 0,
            window: window as usize,
            failures: failures as usize,
            probes,
        };
        let mut now = Duration::ZERO;
        let mut under_way: Vec<(Permit<'_>, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
                Step::Ask => {
                    let (found, expected) = (breaker.permit(start + now), model.permit(now));
                    prop_assert_eq!(found.is_ok(), expected.is_some());
                    under_way.extend(found.ok().zip(expected));
                }
                Step::End(call, outcome) if !under_way.is_empty() => {
                    let (permit, number) = under_way.swap_remove(call.index(under_way.len()));
                    match outcome {
                        Some(true) => permit.succeeded(),
                        Some(false) => permit.failed(start + now),
                        None => drop(permit),
                    }
                    model.tell(number, outcome, now);
                }
                Step::End(..) => {}
            }
            prop_assert!(model.matches(breaker.state()), "{:?}", breaker.state());
        }
    }
}
