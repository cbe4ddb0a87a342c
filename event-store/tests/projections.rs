//! Projections: each event counts once, whatever breaks; what cannot be applied is parked; a rebuild stands beside the live version.

#[path = "support/shaky.rs"]
mod shaky;
mod support;

use std::sync::Arc;
use std::time::Duration;

use event_store::{
    Append, ApplyError, EventStore, ExpectedVersion, MemoryReadModel, MemoryStore, MemoryTx, NameError, NewEvent,
    Piece, Position, Projection, ProjectionId, ProjectionOptions, ProjectionRunner, Query, QueryItem, ReadModel as _,
    ReadModelError, RecordedEvent, RetryError, RunOutcome, RunnerError, Upcasters, Upcasting,
};
use futures::FutureExt as _;
use futures::executor::block_on;
use shaky::{Fault, Ledger, Shaky, no_sleep, yielding};
use support::{event, kind, position, stream, tag};

type Model = MemoryReadModel<Vec<(u64, String)>>;

fn named(name: &str, number: u64) -> NewEvent {
    let mut event = event(number);
    event.event_type = kind(name);
    event
}

fn append(store: &MemoryStore, events: impl IntoIterator<Item = NewEvent>) {
    store.append_now(Append::stream(stream("a"), ExpectedVersion::Any, events)).expect("nothing is expected");
}

/// A store whose events 3 and 8 cannot be applied, and 5 not at the first two attempts.
fn world(count: u64) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    append(
        &store,
        (1..=count).map(|number| match number {
            3 => named("Bad", number),
            8 => named("Panics", number),
            5 => named("Flaky", number),
            _ => event(number),
        }),
    );
    store
}

fn expected(count: u64) -> Vec<(u64, String)> {
    (1..=count).filter(|number| ![3, 8].contains(number)).map(|number| (number, number.to_string())).collect()
}

fn options() -> ProjectionOptions {
    ProjectionOptions::default().attempts(3).batch_events(4)
}

fn id(version: u32) -> ProjectionId {
    ProjectionId { name: "ledger".to_owned(), version }
}

fn state(model: &Model, version: u32) -> Vec<(u64, String)> {
    model.read_version(&id(version), Clone::clone).unwrap_or_default()
}

fn runner(store: &Arc<MemoryStore>, model: &Model, ledger: Ledger) -> ProjectionRunner<MemoryStore, Model, Ledger> {
    ProjectionRunner::new(Arc::clone(store), Arc::new(model.clone()), ledger, no_sleep).options(options())
}

#[test]
fn events_are_applied_in_order_and_those_that_cannot_be_are_parked() {
    let (store, model) = (world(20), Model::new());
    let runner = runner(&store, &model, Ledger::new());
    assert_eq!(block_on(runner.catch_up()).expect("caught up"), RunOutcome::CaughtUp);
    assert_eq!(state(&model, 1), expected(20));
    assert_eq!(model.active_version("ledger"), Some(1), "the first version is active at once");
    let parked = block_on(runner.parked()).expect("memory");
    let parked: Vec<_> =
        parked.iter().map(|p| (p.position.get(), p.event_type.as_str(), p.attempts, &p.error[..])).collect();
    assert_eq!(parked, [(3, "Bad", 3, "bad"), (8, "Panics", 3, "it panicked: at the projection")]);

    let stats = block_on(runner.stats()).expect("memory");
    assert_eq!((stats.checkpoint, stats.head, stats.lag), (Some(position(20)), Some(position(20)), 0));
    assert_eq!((stats.applied, stats.parked, stats.event_failures, stats.panics), (18, 2, 3 + 3 + 2, 3));
    append(&store, [event(21), event(22)]);
    assert_eq!(block_on(runner.stats()).expect("memory").lag, 2);
    block_on(runner.catch_up()).expect("caught up");
    assert_eq!(state(&model, 1), expected(22));
}

/// Wherever a run is dropped, the runs after it bring the read model to the state of one that was never dropped.
#[test]
fn a_crash_at_any_await_point_counts_no_event_twice_and_loses_none() {
    let mut crashes = 0;
    for crash_at in 0.. {
        let (store, model) = (world(12), Model::new());
        let shaky = |model: &Model| Arc::new(Shaky::new(model.clone(), []));
        let first = ProjectionRunner::new(Arc::clone(&store), shaky(&model), Ledger::new().yielding(), yielding);
        let first = first.options(options());
        let is_done = {
            let mut run = Box::pin(first.catch_up());
            (0..crash_at).any(|_| run.as_mut().now_or_never().is_some())
        };
        // What is there is the state after a prefix, with the checkpoint behind it.
        let now = state(&model, 1);
        assert_eq!(now, expected(12)[..now.len()], "crash after {crash_at} polls");
        let second = ProjectionRunner::new(Arc::clone(&store), shaky(&model), Ledger::new(), yielding);
        let second = second.options(options());
        block_on(second.catch_up()).expect("caught up");
        assert_eq!(state(&model, 1), expected(12), "crash after {crash_at} polls");
        let parked: Vec<u64> = block_on(second.parked()).expect("memory").iter().map(|p| p.position.get()).collect();
        assert_eq!(parked, [3, 8], "crash after {crash_at} polls");
        if is_done {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 60, "{crashes} await points");
}

/// The same with a crash after every few polls, over and over.
#[test]
fn a_projection_that_crashes_all_the_time_comes_to_the_same_state() {
    for patience in [30, 37, 50, 70] {
        let (store, model) = (world(30), Model::new());
        let mut runs = 0;
        loop {
            let shaky = Arc::new(Shaky::new(model.clone(), []));
            let runner = ProjectionRunner::new(Arc::clone(&store), shaky, Ledger::new().yielding(), yielding);
            let runner = runner.options(options().batch_events(2).attempts(1));
            let mut run = Box::pin(runner.catch_up());
            runs += 1;
            assert!(runs < 200, "no run gets anywhere");
            if (0..patience).any(|_| run.as_mut().now_or_never().is_some()) {
                break;
            }
        }
        assert!(runs > 2, "{runs}");
        let but_flaky: Vec<_> = expected(30).into_iter().filter(|(number, _)| *number != 5).collect();
        assert_eq!(state(&model, 1), but_flaky);
    }
}

#[test]
fn a_commit_whose_outcome_is_unknown_counts_once() {
    for faults in [
        vec![Fault::LoseAnswer],
        vec![Fault::LoseCommit],
        vec![Fault::LoseAnswer, Fault::LoseCommit, Fault::LoseAnswer],
        vec![Fault::FailBegin, Fault::LoseAnswer, Fault::FailBegin],
    ] {
        let (store, model) = (world(20), Model::new());
        let shaky = Arc::new(Shaky::new(model.clone(), faults.clone()));
        let runner = ProjectionRunner::new(store, shaky, Ledger::new(), no_sleep).options(options());
        block_on(runner.catch_up()).expect("caught up");
        assert_eq!(state(&model, 1), expected(20), "{faults:?}");
        assert!(block_on(runner.stats()).expect("memory").model_failures > 0);
    }
}

#[test]
fn a_read_model_that_stays_away_ends_the_run_and_the_next_one_goes_on() {
    let (store, model) = (world(20), Model::new());
    let shaky = Arc::new(Shaky::new(model.clone(), vec![Fault::FailBegin; 4]));
    let runner = ProjectionRunner::new(store, shaky, Ledger::new(), no_sleep).options(options().max_failures(4));
    match block_on(runner.catch_up()) {
        Err(RunnerError::ReadModel { failures: 4, source: ReadModelError::Unavailable(_) }) => {}
        other => panic!("{other:?}"),
    }
    block_on(runner.catch_up()).expect("it is back");
    assert_eq!(state(&model, 1), expected(20));
}

#[test]
fn what_does_not_lie_with_the_event_is_not_parked() {
    let store = Arc::new(MemoryStore::new());
    append(&store, [event(1), named("Unavailable", 2), event(3)]);
    let model = Model::new();
    let runner = runner(&store, &model, Ledger::new());
    let runner = runner.options(options().max_failures(6));
    match block_on(runner.catch_up()) {
        Err(RunnerError::Unavailable { failures: 6, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(block_on(runner.parked()).expect("memory").is_empty());
}

#[test]
fn two_runners_of_one_projection_do_no_harm() {
    let (store, model) = (Arc::new(MemoryStore::new()), Model::new());
    append(&store, (1..=2_000).map(event));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let runner = runner(&store, &model, Ledger::new());
            scope.spawn(move || block_on(runner.options(options().batch_events(7)).catch_up()).expect("caught up"));
        }
    });
    let all: Vec<_> = (1..=2_000).map(|number| (number, number.to_string())).collect();
    assert_eq!(state(&model, 1), all);
}

#[test]
fn parked_events_are_tried_again_or_given_up() {
    let (store, model) = (world(10), Model::new());
    let broken = runner(&store, &model, Ledger::new());
    block_on(broken.catch_up()).expect("caught up");
    match block_on(broken.retry_parked(position(3))) {
        Err(RetryError::Failed { error }) => assert_eq!(error, "bad"),
        other => panic!("{other:?}"),
    }
    assert_eq!(block_on(broken.parked()).expect("memory")[0].attempts, 4);

    let mended = runner(&store, &model, Ledger::new().mended());
    block_on(mended.retry_parked(position(3))).expect("it can be applied now");
    assert_eq!(state(&model, 1).last(), Some(&(3, "3".to_owned())), "out of its order");
    assert!(matches!(block_on(mended.retry_parked(position(3))), Err(RetryError::NotParked { .. })));
    assert!(block_on(mended.discard_parked(position(8))).expect("memory"));
    assert!(!block_on(mended.discard_parked(position(8))).expect("memory"));
    assert!(block_on(mended.parked()).expect("memory").is_empty());
    block_on(mended.catch_up()).expect("caught up");
    assert_eq!(state(&model, 1).len(), 9, "what was retried is not applied again");
}

#[test]
fn a_full_parking_place_ends_the_run_before_the_event() {
    let (store, model) = (world(10), Model::new());
    let runner = runner(&store, &model, Ledger::new());
    let runner = runner.options(options().max_parked(1));
    match block_on(runner.catch_up()) {
        Err(RunnerError::ParkingFull { limit: 1, position, .. }) => assert_eq!(position.get(), 8),
        other => panic!("{other:?}"),
    }
    assert_eq!(state(&model, 1), expected(7));
    assert_eq!(block_on(runner.stats()).expect("memory").lag, 3);
}

#[test]
fn a_checkpoint_beyond_the_head_is_an_error_and_no_silent_restart() {
    let (store, model) = (world(10), Model::new());
    block_on(runner(&store, &model, Ledger::new()).catch_up()).expect("caught up");
    match block_on(runner(&world(7), &model, Ledger::new()).catch_up()) {
        Err(RunnerError::BeyondHead { checkpoint, head }) => {
            assert_eq!((checkpoint, head), (position(10), Position::new(7)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(state(&model, 1), expected(10));
}

#[test]
fn a_rebuild_stands_beside_the_live_version_until_it_takes_its_place() {
    let (store, model) = (Arc::new(MemoryStore::new()), Model::new());
    append(&store, (1..=10).map(event));
    let live = runner(&store, &model, Ledger::new());
    block_on(live.catch_up()).expect("caught up");
    let rebuilt = runner(&store, &model, Ledger::new().version(2));
    block_on(rebuilt.catch_up()).expect("caught up");
    append(&store, [event(11)]);
    block_on(live.catch_up()).expect("caught up");
    assert_eq!(model.active_version("ledger"), Some(1));
    assert_eq!(model.read("ledger", Vec::len), Some(11), "readers see the live version");
    assert_eq!(state(&model, 2).len(), 10);

    block_on(rebuilt.catch_up()).expect("caught up");
    block_on(rebuilt.activate()).expect("memory");
    assert_eq!(model.active_version("ledger"), Some(2));
    assert_eq!(block_on(model.remove(&id(2))), Err(ReadModelError::IsActive(id(2))));
    block_on(live.catch_up()).expect("caught up");
    assert_eq!(model.active_version("ledger"), Some(2), "an old version does not come back by itself");
    block_on(model.remove(&id(1))).expect("it is not active");
    assert_eq!(model.read_version(&id(1), Vec::len), None);
    assert_eq!(model.read("ledger", Vec::len), Some(11));
}

#[test]
fn a_rebuild_that_has_caught_up_takes_over_by_itself_unless_something_is_parked() {
    let (store, model) = (world(10), Model::new());
    block_on(runner(&store, &model, Ledger::new()).catch_up()).expect("caught up");
    let takes_over = options().activate_when_caught_up();
    let broken = runner(&store, &model, Ledger::new().version(2)).options(takes_over.clone());
    block_on(broken.catch_up()).expect("caught up");
    assert_eq!(model.active_version("ledger"), Some(1), "two events are parked");
    let mended = runner(&store, &model, Ledger::new().version(3).mended()).options(takes_over);
    block_on(mended.catch_up()).expect("caught up");
    assert_eq!(model.active_version("ledger"), Some(3));
    assert_eq!(model.read("ledger", Vec::len), Some(10));
}

#[tokio::test]
async fn a_run_goes_on_with_what_comes_and_stops_after_the_batch_at_hand() {
    let (store, model) = (Arc::new(MemoryStore::new()), Model::new());
    let runner = Arc::new(runner(&store, &model, Ledger::new()));
    let running = tokio::spawn({
        let runner = Arc::clone(&runner);
        async move { runner.run().await }
    });
    for number in 1..=50 {
        append(&store, [event(number)]);
        tokio::task::yield_now().await;
    }
    while state(&model, 1).len() < 50 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(matches!(runner.run().await, Err(RunnerError::AlreadyRunning)));
    runner.stop();
    assert_eq!(running.await.expect("no panic").expect("no error"), RunOutcome::Stopped);
    append(&store, [event(51)]);
    // A stop that comes before its run ends it, too.
    runner.stop();
    assert_eq!(runner.run().await.expect("no error"), RunOutcome::Stopped);
    assert_eq!(runner.catch_up().await.expect("no error"), RunOutcome::CaughtUp);
    assert_eq!(state(&model, 1).len(), 51);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_pause_to_end() {
    let (store, model) = (world(3), Model::new());
    let hour = Duration::from_secs(3600);
    let runner = ProjectionRunner::new(store, Arc::new(model), Ledger::new(), tokio::time::sleep);
    let runner = Arc::new(runner.options(options().pauses(hour, hour)));
    let running = tokio::spawn({
        let runner = Arc::clone(&runner);
        async move { runner.run().await }
    });
    while runner.stats().await.expect("memory").event_failures == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    runner.stop();
    assert_eq!(running.await.expect("no panic").expect("no error"), RunOutcome::Stopped);
    // Every future of a runner can be sent to another thread.
    let other = Arc::clone(&runner);
    tokio::spawn(async move {
        (
            other.parked().await,
            other.retry_parked(position(3)).await,
            other.activate().await,
            other.discard_parked(position(3)).await,
            other.catch_up().await,
        )
    })
    .abort();
}

#[test]
fn events_of_no_interest_move_the_checkpoint_now_and_then_and_at_the_end() {
    let (store, model) = (Arc::new(MemoryStore::new()), Model::new());
    append(&store, (1..=10).map(event));
    let only = Query::item(QueryItem::tags([tag("rare")]).expect("a tag"));
    let run = |store: &Arc<MemoryStore>, model: &Model| {
        let runner = runner(store, model, Ledger::new().only(only.clone()));
        runner.options(options().idle_events(15))
    };
    let checkpoint = |runner: &ProjectionRunner<MemoryStore, Model, Ledger>| {
        block_on(runner.stats()).expect("memory").checkpoint.map(Position::get)
    };
    let catching_up = run(&store, &model);
    block_on(catching_up.catch_up()).expect("caught up");
    assert_eq!(checkpoint(&catching_up), Some(10));

    let running = run(&store, &model);
    let mut future = Box::pin(running.run());
    append(&store, (11..=20).map(event));
    assert!(future.as_mut().now_or_never().is_none());
    assert_eq!(checkpoint(&running), Some(10), "too few to be worth a transaction");
    assert_eq!(block_on(running.stats()).expect("memory").lag, 0);
    append(&store, (21..=30).map(event));
    assert!(future.as_mut().now_or_never().is_none());
    assert_eq!(checkpoint(&running), Some(30));
    append(&store, [event(31)]);
    assert!(future.as_mut().now_or_never().is_none());
    running.stop();
    assert!(matches!(future.as_mut().now_or_never(), Some(Ok(RunOutcome::Stopped))));
    drop(future);
    assert_eq!(checkpoint(&running), Some(31));
}

#[test]
fn a_batch_lingers_for_what_comes_soon() {
    let (store, model) = (Arc::new(MemoryStore::new()), Model::new());
    let (sent, slept) = futures::channel::mpsc::unbounded::<futures::channel::oneshot::Sender<()>>();
    let mut slept = slept;
    let sleep = move |_: Duration| {
        let (wake, woken) = futures::channel::oneshot::channel();
        sent.unbounded_send(wake).expect("the test listens");
        async move { woken.await.unwrap_or_default() }
    };
    let runner = ProjectionRunner::new(Arc::clone(&store), Arc::new(model.clone()), Ledger::new(), sleep);
    let runner = runner.options(ProjectionOptions::default().linger(Duration::from_millis(5)));
    let mut run = Box::pin(runner.run());
    for number in 1..=3 {
        append(&store, [event(number)]);
        assert!(run.as_mut().now_or_never().is_none());
        assert!(state(&model, 1).is_empty());
    }
    slept.try_recv().expect("one sleep a batch").send(()).expect("it sleeps");
    while state(&model, 1).is_empty() {
        assert!(run.as_mut().now_or_never().is_none());
    }
    assert_eq!(state(&model, 1).len(), 3);
    assert_eq!(block_on(runner.stats()).expect("memory").commits, 1);
}

#[test]
fn pauses_double_up_to_the_longest() {
    let (store, model) = (Arc::new(MemoryStore::new()), Model::new());
    append(&store, [named("Bad", 1)]);
    let slept = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = Arc::clone(&slept);
    let sleep = move |time: Duration| {
        told.lock().expect("no panic").push(time.as_millis());
        std::future::ready(())
    };
    let runner = ProjectionRunner::new(store, Arc::new(model), Ledger::new(), sleep);
    let pauses = (Duration::from_millis(10), Duration::from_millis(35));
    let runner = runner.options(options().attempts(6).pauses(pauses.0, pauses.1));
    block_on(runner.catch_up()).expect("caught up");
    assert_eq!(*slept.lock().expect("no panic"), [10, 20, 35, 35, 35], "and none before it is parked");
}

#[test]
fn what_an_event_was_split_into_is_one_unit() {
    let store = Arc::new(MemoryStore::new());
    append(&store, [event(1), named("Pair", 2), event(3), named("Pair", 4)]);
    let upcasters = |second: &'static str| {
        let pieces = |payload: &[u8]| Ok(vec![Piece::new(0, payload.to_vec()), Piece::new(1, payload.to_vec())]);
        let to = [(kind("Happened"), 1), (kind(second), 1)];
        let builder = Upcasters::builder().current(kind("Happened"), 1);
        let builder = if second == "Happened" { builder } else { builder.current(kind(second), 1) };
        builder.split((kind("Pair"), 1), to, pieces).build().expect("sound")
    };
    let catch_up = |second| {
        let model = Model::new();
        let store =
            Arc::new(Upcasting::new(Arc::clone(&store) as Arc<dyn event_store::DynEventStore>, upcasters(second)));
        let runner = ProjectionRunner::new(store, Arc::new(model.clone()), Ledger::new(), no_sleep);
        let runner = runner.options(options().batch_events(1));
        block_on(runner.catch_up()).expect("caught up");
        let stats = block_on(runner.stats()).expect("memory");
        let parked = block_on(runner.parked()).expect("memory").len();
        (state(&model, 1).iter().map(|(number, _)| *number).collect::<Vec<_>>(), stats.commits, parked)
    };
    assert_eq!(catch_up("Happened"), (vec![1, 2, 2, 3, 4, 4], 4, 0));
    assert_eq!(catch_up("Bad"), (vec![1, 3], 4, 2), "not the first piece without the second");
}

#[test]
fn an_event_whose_upcaster_fails_is_parked_and_applied_when_it_is_mended() {
    let store = Arc::new(MemoryStore::new());
    append(&store, [event(1), named("Old", 2), event(3)]);
    let model = Model::new();
    let with = |mended: bool| {
        let upcast = move |payload: &[u8]| if mended { Ok(payload.to_vec()) } else { Err("not yet".into()) };
        let builder = Upcasters::builder().current(kind("Old"), 2);
        let upcasters = builder.step(kind("Old"), 1, 2, upcast).build().expect("sound");
        let store = Arc::clone(&store) as Arc<dyn event_store::DynEventStore>;
        let store = Arc::new(Upcasting::new(store, upcasters));
        ProjectionRunner::new(store, Arc::new(model.clone()), Ledger::new(), no_sleep).options(options())
    };
    let broken = with(false);
    block_on(broken.catch_up()).expect("caught up");
    let parked = block_on(broken.parked()).expect("memory");
    assert_eq!((parked[0].position, parked[0].attempts), (position(2), 3));
    assert_eq!(parked[0].error, "schema version 1: the upcaster failed: not yet");
    assert!(matches!(block_on(broken.retry_parked(position(2))), Err(RetryError::Read(_))));
    block_on(with(true).retry_parked(position(2))).expect("mended");
    assert_eq!(state(&model, 1).iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 3, 2]);
}

/// A projection under some name.
struct Named(String);

impl Projection for Named {
    type Tx = MemoryTx<u64>;

    fn name(&self) -> &str {
        &self.0
    }

    async fn apply(&self, tx: &mut MemoryTx<u64>, _: &RecordedEvent) -> Result<(), ApplyError> {
        *tx.state_mut() += 1;
        Ok(())
    }
}

#[test]
fn a_projection_whose_name_breaks_the_rules_of_names_does_not_run() {
    for (name, error) in [
        (String::new(), NameError::Empty),
        ("or\0der".to_owned(), NameError::Control { character: '\0' }),
        ("x".repeat(513), NameError::TooLong { bytes: 513 }),
    ] {
        let model = Arc::new(MemoryReadModel::<u64>::new());
        let runner = ProjectionRunner::new(world(3), Arc::clone(&model), Named(name), no_sleep);
        assert!(matches!(block_on(runner.catch_up()), Err(RunnerError::Name(found)) if found == error));
        assert_eq!(block_on(runner.activate()), Err(ReadModelError::Name(error.clone())));
        assert_eq!(block_on(runner.parked()), Err(ReadModelError::Name(error)));
        assert_eq!(block_on(runner.stats()).expect("memory").model_failures, 0, "it is not tried again");
    }
    let model = Arc::new(MemoryReadModel::<u64>::new());
    let runner = ProjectionRunner::new(world(3), Arc::clone(&model), Named("x".repeat(512)), no_sleep);
    block_on(runner.catch_up()).expect("a name");
}

#[test]
fn texts_of_errors_are_bounded() {
    let store = Arc::new(MemoryStore::new());
    append(&store, [named("Long", 1)]);
    let model = Model::new();
    let runner = runner(&store, &model, Ledger::new());
    block_on(runner.catch_up()).expect("caught up");
    let parked = block_on(runner.parked()).expect("memory");
    assert!(parked[0].error.len() <= 4096 && parked[0].error.len() > 4000);
    assert!(block_on(store.head()).is_ok());
}
