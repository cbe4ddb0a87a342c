//! Where the balancer sends calls.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bridge_orchestrator::route::{Balancer, RouteError};

const MILLISECOND: Duration = Duration::from_millis(1);
/// What a balancer draws is then the same in each run.
const SEED: u64 = 20_260_101;

/// Sends `calls` one after the other, each endpoint answering in the time that is its value, and counts who got them.
fn send(balancer: &Balancer<Duration>, from: Instant, calls: u32) -> (BTreeMap<Duration, u32>, Instant) {
    let (mut got, mut now) = (BTreeMap::new(), from);
    for _ in 0..calls {
        let endpoint = balancer.pick(now);
        *got.entry(*endpoint).or_insert(0) += 1;
        now += *endpoint;
        endpoint.succeeded(now);
    }
    (got, now)
}

#[test]
fn no_endpoint_and_no_decay_are_refused() {
    assert!(matches!(Balancer::new(Vec::<u8>::new()), Err(RouteError::Endpoints { found: 0 })));
    let decay = Balancer::builder().decay(Duration::ZERO).build([1]);
    assert!(matches!(decay, Err(RouteError::OutOfRange { option: "decay", .. })));
}

#[test]
fn the_only_endpoint_gets_every_call() {
    let balancer = Balancer::new([MILLISECOND]).expect("one");
    assert_eq!(send(&balancer, Instant::now(), 100).0, BTreeMap::from([(MILLISECOND, 100)]));
}

#[test]
fn of_two_the_slower_one_gets_what_it_takes_to_know_that_it_is_slower() {
    fastrand::seed(SEED);
    let balancer = Balancer::new([MILLISECOND, 20 * MILLISECOND]).expect("two");
    let (got, _) = send(&balancer, Instant::now(), 10_000);
    let slow = got.get(&(20 * MILLISECOND)).copied().unwrap_or(0);
    assert!((1..=20).contains(&slow), "{slow} of 10,000 calls");
}

#[test]
fn an_endpoint_that_was_slow_is_tried_again_once_that_is_long_ago() {
    fastrand::seed(SEED);
    let balancer = Balancer::new(["slow once", "steady"]).expect("two");
    let mut now = Instant::now();
    // Until both are known.
    while balancer.loads(now).any(|(_, cost, _)| cost > 20 * MILLISECOND) {
        let endpoint = balancer.pick(now);
        now += MILLISECOND;
        endpoint.succeeded(now);
    }
    let slow = balancer.pick_where(now, |endpoint| *endpoint == "slow once").expect("is there");
    now += Duration::from_secs(2);
    slow.succeeded(now);
    let chosen = |now| {
        let endpoint = balancer.pick(now);
        let name = *endpoint;
        endpoint.succeeded(now + MILLISECOND);
        name
    };
    assert!((0..100).all(|_| chosen(now) == "steady"));
    // 2 s / e^9 is a quarter of a millisecond.
    now += Duration::from_secs(90);
    let steady = balancer.pick_where(now, |endpoint| *endpoint == "steady").expect("is there");
    steady.succeeded(now + MILLISECOND);
    assert!((0..100).any(|_| chosen(now + MILLISECOND) == "slow once"));
}

#[test]
fn calls_under_way_count() {
    fastrand::seed(SEED);
    let balancer = Balancer::new([0, 1, 2, 3]).expect("four");
    let now = Instant::now();
    let under_way: Vec<_> = (0..400).map(|_| balancer.pick(now)).collect();
    let pending: Vec<u32> = balancer.loads(now).map(|(.., pending)| pending).collect();
    assert_eq!(pending.iter().sum::<u32>(), 400);
    assert!(pending.iter().all(|pending| (95..=105).contains(pending)), "{pending:?}");
    under_way.into_iter().for_each(|endpoint| endpoint.succeeded(now));
    assert!(balancer.loads(now).all(|(.., pending)| pending == 0));
}

/// Mitzenmacher's bound for n calls to n endpoints, ln ln n / ln 2 + O(1), beside what a single choice gives.
#[test]
fn the_most_loaded_of_ten_thousand_endpoints_has_few_calls() {
    fastrand::seed(SEED);
    const ENDPOINTS: u32 = 10_000;
    let balancer = Balancer::new(0..ENDPOINTS).expect("endpoints");
    let now = Instant::now();
    let under_way: Vec<_> = (0..ENDPOINTS).map(|_| balancer.pick(now)).collect();
    let most = balancer.loads(now).map(|(.., pending)| pending).max().expect("endpoints");
    assert!(most <= 5, "{most}: ln ln n / ln 2 is 3.2; one choice gives 7 or more");
    drop(under_way);
}

#[test]
fn an_endpoint_that_fails_at_once_does_not_look_fast() {
    fastrand::seed(SEED);
    let balancer = Balancer::new(["broken", "sound"]).expect("two");
    let (mut now, mut broken) = (Instant::now(), 0);
    for _ in 0..1_000 {
        let endpoint = balancer.pick(now);
        if *endpoint == "broken" {
            broken += 1;
            endpoint.failed(now);
        } else {
            now += 10 * MILLISECOND;
            endpoint.succeeded(now);
        }
    }
    assert!(broken <= 2, "{broken} calls to the broken one in ten seconds");
}

#[test]
fn a_call_that_was_given_up_costs_at_least_the_time_it_took() {
    let balancer = Balancer::builder().initial(MILLISECOND).build(["silent"]).expect("one");
    let endpoint = balancer.pick(Instant::now());
    std::thread::sleep(20 * MILLISECOND);
    drop(endpoint);
    let (_, cost, pending) = balancer.loads(Instant::now()).next().expect("one");
    assert_eq!(pending, 0);
    assert!(cost >= 19 * MILLISECOND, "{cost:?}");
    // One that is given up at once tells nothing.
    drop(balancer.pick(Instant::now()));
    assert!(balancer.loads(Instant::now()).all(|(_, cost, _)| cost >= 19 * MILLISECOND));
}

#[test]
fn only_allowed_endpoints_are_picked() {
    let balancer = Balancer::new(0..100).expect("endpoints");
    let now = Instant::now();
    for _ in 0..1_000 {
        let endpoint = balancer.pick_where(now, |endpoint| [17, 42].contains(endpoint)).expect("two are");
        assert!([17, 42].contains(&*endpoint));
        endpoint.succeeded(now + MILLISECOND);
    }
    assert!(balancer.pick_where(now, |_| false).is_none());
    assert!(balancer.loads(now).all(|(.., pending)| pending == 0));
}

#[test]
fn threads_that_pick_at_once_leave_no_call_under_way() {
    let balancer = Balancer::new(0..3).expect("three");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    let now = Instant::now();
                    balancer.pick(now).succeeded(now + MILLISECOND);
                }
            });
        }
    });
    let now = Instant::now();
    assert!(balancer.loads(now).all(|(_, cost, pending)| pending == 0 && cost <= 30 * MILLISECOND));
}
