//! What routing adds to a call.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bridge_orchestrator::route::{Balancer, BreakerState, CircuitBreaker, RetryBudget};
use harness::{Bench, BenchError, Suite};

/// A millisecond or more a round: far above what reading the clock twice disturbs.
const CALLS: u64 = 100_000;
const LATENCY: Duration = Duration::from_micros(500);

fn main() -> ExitCode {
    Suite::new()
        .bench("bridge-orchestrator/routing/select", select)
        .bench("bridge-orchestrator/routing/pick-3", |bench: &mut Bench| pick(bench, 3))
        .bench("bridge-orchestrator/routing/pick-1000", |bench: &mut Bench| pick(bench, 1000))
        .bench("bridge-orchestrator/routing/pick-and-end", pick_and_end)
        .bench("bridge-orchestrator/routing/breaker", breaker)
        .bench("bridge-orchestrator/routing/retry-budget", retry_budget)
        .run()
}

/// A whole selection as a caller makes it, clock readings included: the breaker is asked, an endpoint of three picked whose own breaker is
/// closed, and all are told how the call ended.
fn select(bench: &mut Bench) -> Result<(), BenchError> {
    let service = CircuitBreaker::builder().build().expect("valid");
    let endpoints = (0..3).map(|_| CircuitBreaker::builder().build().expect("valid"));
    let balancer = Balancer::new(endpoints).expect("three");
    let (budget, mut selected) = (RetryBudget::default(), 0);
    let rounds = bench.rounds(|| {
        let start = Instant::now();
        for _ in 0..CALLS {
            let now = Instant::now();
            budget.call();
            let permit = service.permit(now).expect("closed");
            let allowed = |breaker: &CircuitBreaker| matches!(breaker.state(), BreakerState::Closed { .. });
            let endpoint = balancer.pick_where(now, allowed).expect("all are closed");
            endpoint.permit(now).expect("closed").succeeded();
            endpoint.succeeded(Instant::now());
            permit.succeeded();
            selected += 1;
        }
        (start.elapsed(), CALLS)
    })?;
    assert!(balancer.loads(Instant::now()).all(|(.., pending)| pending == 0), "every call has ended");
    bench.proof(rounds * CALLS, selected);
    Ok(())
}

/// A pick, by a clock that the caller has read. Calls end outside of the timed part.
fn pick(bench: &mut Bench, endpoints: u64) -> Result<(), BenchError> {
    /// As many as are under way at once; all rounds' work is that of so many picks.
    const UNDER_WAY: usize = 1_000;
    let balancer = Balancer::new(0..endpoints).expect("endpoints");
    let mut picked = vec![0_u64; endpoints as usize];
    let mut now = Instant::now();
    let mut under_way = Vec::with_capacity(UNDER_WAY);
    let rounds = bench.rounds(|| {
        let mut timed = Duration::ZERO;
        for _ in 0..CALLS / UNDER_WAY as u64 {
            let start = Instant::now();
            for _ in 0..UNDER_WAY {
                under_way.push(balancer.pick(now));
            }
            timed += start.elapsed();
            now += LATENCY;
            for endpoint in under_way.drain(..) {
                picked[*endpoint as usize] += 1;
                endpoint.succeeded(now);
            }
        }
        (timed, CALLS)
    })?;
    assert!(picked.iter().all(|&calls| calls > 0), "endpoints that cost the same are all picked");
    bench.proof(rounds * CALLS, picked.iter().sum::<u64>());
    Ok(())
}

/// A pick and its end, one call after the other.
fn pick_and_end(bench: &mut Bench) -> Result<(), BenchError> {
    let balancer = Balancer::new(0..3_u64).expect("endpoints");
    let mut picked = [0_u64; 3];
    let mut now = Instant::now();
    let rounds = bench.rounds(|| {
        let start = Instant::now();
        for _ in 0..CALLS {
            let endpoint = balancer.pick(now);
            picked[*endpoint as usize] += 1;
            now += LATENCY;
            endpoint.succeeded(now);
        }
        (start.elapsed(), CALLS)
    })?;
    assert!(picked.iter().all(|&calls| calls > 0), "endpoints that cost the same are all picked");
    bench.proof(rounds * CALLS, picked.iter().sum::<u64>());
    Ok(())
}

/// A permit and a success, with one call in a thousand that fails, as in a service that is well.
fn breaker(bench: &mut Bench) -> Result<(), BenchError> {
    let breaker = CircuitBreaker::builder().build().expect("valid");
    let (now, mut permits) = (Instant::now(), 0);
    let rounds = bench.rounds(|| {
        let start = Instant::now();
        for call in 0..CALLS {
            let permit = black_box(&breaker).permit(now).expect("closed");
            if call % 1000 == 0 {
                permit.failed(now);
            } else {
                permit.succeeded();
            }
            permits += 1;
        }
        (start.elapsed(), CALLS)
    })?;
    breaker.permit(now).expect("closed").failed(now);
    assert_eq!(
        breaker.state(),
        BreakerState::Closed { failures: 1 },
        "outcomes are recorded, and leave with those that follow"
    );
    bench.proof(rounds * CALLS, permits);
    Ok(())
}

/// A call, and of every ten calls one retry that the budget has to pay for.
fn retry_budget(bench: &mut Bench) -> Result<(), BenchError> {
    let budget = RetryBudget::new(0.2, 0.0).expect("in range");
    let (now, mut paid) = (Instant::now(), 0);
    let rounds = bench.rounds(|| {
        let start = Instant::now();
        for call in 0..CALLS {
            black_box(&budget).call();
            if call % 10 == 0 {
                paid += u64::from(budget.try_retry(now));
            }
        }
        (start.elapsed(), CALLS)
    })?;
    bench.proof(rounds * CALLS / 10, paid);
    Ok(())
}
