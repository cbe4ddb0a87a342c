//! Calls that are made again, and calls that are made twice.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::time::{Duration, Instant};

use bridge_orchestrator::route::{Answer, Degrade, Hedge, Retry, RetryBudget, RetryError, RouteError};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

fn generous() -> RetryBudget {
    RetryBudget::new(1.0, 1000.0).expect("in range")
}

#[test]
fn the_budget_is_a_share_of_the_calls_and_a_number_a_second() {
    let (budget, now) = (RetryBudget::default(), Instant::now());
    let spend = |now| (0..10_000).take_while(|_| budget.try_retry(now)).count();
    assert!((100..=101).contains(&spend(now)), "what ten seconds add");
    (0..100).for_each(|_| budget.call());
    assert!((20..=21).contains(&spend(now)), "20 % of 100");
    assert!((30..=31).contains(&spend(now + 3 * SECOND)), "10 a second");
    assert!((100..=101).contains(&spend(now + 3600 * SECOND)), "no more than ten seconds' worth");
    assert_eq!(budget.tokens(now + 3600 * SECOND), 0);
}

#[test]
fn seldom_calls_do_not_lose_the_fractions_of_tokens_that_time_adds() {
    for (per_second, least) in [(0.5, 49), (1.9, 187)] {
        let budget = RetryBudget::new(0.0, per_second).expect("in range");
        let mut now = Instant::now();
        while budget.try_retry(now) {}
        let mut taken = 0;
        // Asked a thousand times a second, for 100 s.
        for _ in 0..100_000 {
            now += MILLISECOND;
            taken += u32::from(budget.try_retry(now));
        }
        assert!((least..=(per_second * 100.0) as u32).contains(&taken), "{taken}");
    }
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let option = |error| match error {
        RouteError::OutOfRange { option, .. } => option,
        other => panic!("{other}"),
    };
    assert_eq!(RetryBudget::new(1.5, 0.0).map_err(option).err(), Some("share"));
    assert_eq!(RetryBudget::new(f64::NAN, 0.0).map_err(option).err(), Some("share"));
    assert_eq!(RetryBudget::new(0.0, -1.0).map_err(option).err(), Some("per_second"));
    assert_eq!(Retry::new(0, SECOND, SECOND).map_err(option).err(), Some("attempts"));
    assert_eq!(Retry::new(1, SECOND, MILLISECOND).map_err(option).err(), Some("longest"));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_made_again_until_it_succeeds() {
    let attempts = RefCell::new(Vec::new());
    let attempt = |number| {
        attempts.borrow_mut().push(number);
        async move { if number < 3 { Err("down") } else { Ok(number) } }
    };
    let began = tokio::time::Instant::now();
    assert_eq!(Retry::default().run(&generous(), |_| true, attempt).await, Ok(3));
    assert_eq!(*attempts.borrow(), [1, 2, 3]);
    assert!(began.elapsed() <= 3 * SECOND + 2 * MILLISECOND, "at most 1 s and 2 s");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_succeeds_tells_how_often_it_was_made_and_why_it_failed_last() {
    let failing = |number: u32| async move { Err::<(), _>(format!("failure {number}")) };
    let failed = Retry::default().run(&generous(), |_| true, failing).await;
    assert_eq!(failed, Err(RetryError::Exhausted { attempts: 3, last: "failure 3".to_owned() }));
    let failed = Retry::default().run(&generous(), |_| false, failing).await;
    assert_eq!(failed, Err(RetryError::Terminal { attempts: 1, last: "failure 1".to_owned() }));
    let none = RetryBudget::new(0.0, 0.0).expect("in range");
    while none.try_retry(Instant::now()) {}
    let failed = Retry::default().run(&none, |_| true, failing).await;
    assert_eq!(failed, Err(RetryError::OverBudget { attempts: 1, last: "failure 1".to_owned() }));
}

#[tokio::test(start_paused = true)]
async fn when_everything_fails_retries_add_a_fifth_and_the_reserve() {
    let (budget, calls) = (RetryBudget::new(0.2, 0.0).expect("in range"), Cell::new(0));
    let retry = Retry::new(3, Duration::ZERO, Duration::ZERO).expect("valid");
    for _ in 0..1_000 {
        let failing = |_| {
            calls.set(calls.get() + 1);
            async { Err::<(), _>("down") }
        };
        retry.run(&budget, |_| true, failing).await.expect_err("all fail");
    }
    assert!((1_200..=1_210).contains(&calls.get()), "{} calls", calls.get());
}

async fn answer_after(time: Duration) -> Result<(), ()> {
    sleep(time).await;
    Ok(())
}

/// Makes a hedge know calls of one to a hundred milliseconds.
async fn hedge() -> Hedge {
    let hedge = Hedge::new(SECOND, generous());
    assert_eq!(hedge.delay(), SECOND);
    for round in 0..128 {
        let time = MILLISECOND * (round * 37 % 100 + 1);
        hedge.run(|| answer_after(time)).await.expect("succeeds");
    }
    hedge
}

#[tokio::test(start_paused = true)]
async fn the_delay_is_the_95th_percentile_of_the_last_calls() {
    let hedge = hedge().await;
    let delay = hedge.delay();
    assert!((93 * MILLISECOND..=97 * MILLISECOND).contains(&delay), "{delay:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_longer_is_made_twice_and_the_first_answer_taken() {
    let (hedge, calls) = (hedge().await, Cell::new(0));
    let before = hedge.stats();
    let began = tokio::time::Instant::now();
    let answer = hedge
        .run(|| {
            calls.set(calls.get() + 1);
            let number = calls.get();
            async move {
                sleep(if number == 1 { 10 * SECOND } else { 5 * MILLISECOND }).await;
                Ok::<_, ()>(number)
            }
        })
        .await;
    assert_eq!((answer, calls.get()), (Ok(2), 2));
    assert!(began.elapsed() <= 105 * MILLISECOND, "{:?}", began.elapsed());
    let after = hedge.stats();
    assert_eq!((after.calls - before.calls, after.hedged - before.hedged, after.won - before.won), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn of_two_calls_one_may_fail() {
    let (hedge, calls) = (Hedge::new(10 * MILLISECOND, generous()), &Cell::new(0));
    let pair = |first: (Duration, Result<u8, u8>), second: (Duration, Result<u8, u8>)| {
        calls.set(0);
        hedge.run(move || {
            calls.set(calls.get() + 1);
            let (time, result) = if calls.get() == 1 { first } else { second };
            async move {
                sleep(time).await;
                result
            }
        })
    };
    let ms = |n| MILLISECOND * n;
    assert_eq!(pair((ms(20), Err(1)), (ms(30), Ok(2))).await, Ok(2));
    assert_eq!(pair((ms(50), Ok(1)), (ms(5), Err(2))).await, Ok(1));
    assert_eq!(pair((ms(50), Err(1)), (ms(5), Err(2))).await, Err(1), "the one that fails last");
    assert_eq!(pair((ms(5), Err(1)), (ms(5), Ok(2))).await, Err(1), "there was no second one yet");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_has_become_slow_for_everyone_gets_a_tenth_more() {
    let (hedge, calls) = (Hedge::new(MILLISECOND, RetryBudget::new(0.1, 0.0).expect("in range")), Cell::new(0));
    for round in 1..=1_000 {
        // Ever slower, so that each call takes longer than those before.
        hedge
            .run(|| {
                calls.set(calls.get() + 1);
                answer_after(5 * MILLISECOND * round)
            })
            .await
            .expect("succeeds");
    }
    assert!((1_100..=1_110).contains(&calls.get()), "{} calls", calls.get());
}

#[tokio::test(start_paused = true)]
async fn both_calls_end_with_the_future() {
    struct UnderWay<'a>(&'a Cell<i32>);
    impl Drop for UnderWay<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }
    let (hedge, under_way) = (Hedge::new(MILLISECOND, generous()), Cell::new(0));
    let call = hedge.run(|| {
        under_way.set(under_way.get() + 1);
        let guard = UnderWay(&under_way);
        async move {
            pending::<()>().await;
            drop(guard);
            Ok::<_, ()>(())
        }
    });
    tokio::time::timeout(SECOND, async {
        tokio::join!(call, async {
            sleep(SECOND / 2).await;
            assert_eq!(under_way.get(), 2);
        })
    })
    .await
    .expect_err("neither call ends");
    assert_eq!(under_way.get(), 0);
}

#[tokio::test]
async fn a_fallback_is_marked_as_such() {
    let degrade = Degrade::new(|error: &String| error.len());
    assert_eq!(degrade.run(async { Ok(1) }).await, Answer::Genuine(1));
    let degraded = degrade.run(async { Err("down".to_owned()) }).await;
    assert_eq!(degraded, Answer::Degraded { value: 4, because: "down".to_owned() });
}
