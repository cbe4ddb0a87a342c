//! Stored histories against functions that have changed.

mod in_memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bridge_orchestrator::replay::{self, Verdict};
use bridge_orchestrator::{
    Clock, Ctx, Engine, Error, HandleError, Registry, RetryPolicy, StartOptions, StepError, Workflow, WorkflowError,
};
use event_store::cloudevents::{ImportOptions, export, import};
use event_store::{EventStore as _, MemoryStore, Read, Timestamp};
use futures::StreamExt as _;
use in_memory::{Store, engine, id, run, store};

/// What a version of the workflow does otherwise than the first.
const SAME: u32 = 0;
const RENAMED: u32 = 1;
const SHORTER: u32 = 2;
const LONGER: u32 = 3;
const OTHER_END: u32 = 4;
const PANICS: u32 = 5;
const PATCHED: u32 = 6;
const SLEEPS: u32 = 7;
const FAILS: u32 = 8;

/// Reserves, waits for a word, ships; its second input says whether it then waits for ever.
struct Order<const N: u32>;

impl<const N: u32> Workflow for Order<N> {
    type Input = (u32, bool);
    type Output = String;
    const TYPE: &'static str = "order";

    async fn run(ctx: Ctx, (amount, waits): (u32, bool)) -> Result<String, WorkflowError> {
        let name = if N == RENAMED { "allocate" } else { "reserve" };
        let mut fails = 1;
        let step = ctx.step(name, move |_| {
            fails -= 1;
            async move { if fails == 0 { Err(StepError::retryable("not yet")) } else { Ok(amount) } }
        });
        let seat = step.retry(RetryPolicy::DEFAULT.initial(Duration::from_millis(1))).await?;
        if N == PATCHED && ctx.patched("audit") {
            ctx.step("audit", |_| async { Ok::<_, StepError>(()) }).await?;
        }
        if N == SLEEPS {
            ctx.sleep(Duration::from_secs(1)).await?;
        }
        let word: String = ctx.signal("word").await?;
        assert!(N != PANICS, "told to");
        if N == SHORTER {
            return Ok(word);
        }
        ctx.step("ship", |_| async { Ok::<_, StepError>(()) }).await?;
        if waits || N == LONGER {
            ctx.signal::<()>("for ever").await?;
        }
        match N {
            OTHER_END => Ok("other".to_owned()),
            FAILS => Err(WorkflowError::failed("out of stock")),
            _ => Ok(format!("{seat} {word}")),
        }
    }
}

/// One execution that has ended and one that waits.
async fn histories() -> Store {
    let store = store();
    let engine = engine(&store).register::<Order<SAME>>().start().await.expect("starts");
    let client = engine.client();
    for (name, waits) in [("ended", false), ("waits", true)] {
        client.start::<Order<SAME>>(id(name), &(3, waits), StartOptions::default()).await.expect("starts");
        client.signal(&id(name), "word", "go", None).await.expect("is told");
    }
    client.handle::<Order<SAME>>(&id("ended")).result().await.expect("completes");
    tokio::time::sleep(Duration::from_secs(1)).await;
    engine.shutdown(Duration::ZERO).await;
    store
}

async fn told<const N: u32>(store: &Store) -> [String; 2] {
    let before = store.read(Read::all()).count().await;
    let reports = replay::check(&Registry::new().register::<Order<N>>(), store, &[]).await.expect("can be read");
    assert_eq!(store.read(Read::all()).count().await, before, "nothing is written");
    let told = |report: &replay::Report| match &report.verdict {
        Verdict::Fits => "fits".to_owned(),
        Verdict::Differs(difference) => {
            let place = difference.record.as_ref().map_or("behind".to_owned(), |record| record.place.to_string());
            format!("{place}: {} / {}", difference.journal, difference.function)
        }
        other => format!("{other:?}"),
    };
    assert_eq!((&reports[0].execution, &reports[1].execution), (&id("ended"), &id("waits")));
    [told(&reports[0]), told(&reports[1])]
}

#[tokio::test(start_paused = true)]
async fn what_has_not_changed_fits_and_what_has_is_named() {
    let store = histories().await;
    assert_eq!(told::<SAME>(&store).await, ["fits", "fits"]);
    assert_eq!(told::<RENAMED>(&store).await[1], "1: step reserve / awaits step allocate");
    assert_eq!(told::<SHORTER>(&store).await[1], "4: step.completed ship / has returned \"go\"");
    let longer = told::<LONGER>(&store).await;
    assert_eq!(longer, ["5: completes with \"3 go\" / still awaits signal for ever", "fits"]);
    let other = told::<OTHER_END>(&store).await;
    assert_eq!(other, ["5: completes with \"3 go\" / completes with \"other\"", "fits"]);
    let fails = told::<FAILS>(&store).await;
    assert_eq!(fails[0], "5: completes with \"3 go\" / fails with OPERATION_FAILED: out of stock");
    assert_eq!(told::<PANICS>(&store).await[1], "4: step.completed ship / panics: told to");
    assert_eq!(told::<PATCHED>(&store).await, ["fits", "fits"], "what is patched runs as it ran");
    assert_eq!(told::<SLEEPS>(&store).await[1], "4: step ship / has awaited 2 things");
}

#[tokio::test(start_paused = true)]
async fn a_report_shows_the_place() {
    let store = histories().await;
    let changed = Registry::new().register::<Order<SHORTER>>();
    let reports = replay::check(&changed, &store, &[id("waits")]).await.expect("can be read");
    assert!(!reports[0].is_good());
    let expected = "\
waits (order 1): differs at number 2
       1  attempt.failed of number 0, reserve (47 bytes)
       2  signalled, word (4 bytes)
       3  step.completed of number 0, reserve (1 bytes)
  !    4  step.completed of number 2, ship (4 bytes)
  - the journal: step.completed ship
  + the function: has returned \"go\"";
    assert_eq!(reports[0].to_string(), expected);
}

#[tokio::test(start_paused = true)]
async fn only_what_is_under_way_needs_its_version() {
    let store = histories().await;
    let reports = replay::check(&Registry::new(), &store, &[]).await.expect("can be read");
    let good: Vec<bool> = reports.iter().map(replay::Report::is_good).collect();
    assert_eq!(good, [true, false]);
    let unknown = replay::check(&Registry::new(), &store, &[id("nobody")]).await;
    assert_eq!(unknown, Err(Error::NotFound(id("nobody"))));
    let twice = Registry::new().register::<Order<SAME>>().register::<Order<RENAMED>>();
    assert!(matches!(replay::check(&twice, &store, &[]).await, Err(Error::RegisteredTwice { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_dump_is_replayed_like_the_store_that_it_comes_from() {
    let store = histories().await;
    let mut lines = Vec::new();
    export(&store, Read::all(), "/test", &mut lines).await.expect("is written");
    let copy = MemoryStore::new();
    import(&copy, &lines[..], &ImportOptions::default().renumber_streams()).await.expect("is read");
    for registry in [Registry::new().register::<Order<SAME>>(), Registry::new().register::<Order<RENAMED>>()] {
        let of_copy = replay::check(&registry, &copy, &[]).await.expect("can be read");
        assert_eq!(Ok(of_copy), replay::check(&registry, &store, &[]).await);
    }
}

/// Goes on as new, is cancelled, and cleans up.
struct Lives<const N: u32>;

impl<const N: u32> Workflow for Lives<N> {
    type Input = u32;
    type Output = ();
    const TYPE: &'static str = "lives";

    async fn run(ctx: Ctx, life: u32) -> Result<(), WorkflowError> {
        if life < 3 {
            ctx.sleep(Duration::from_secs(1)).await?;
            return Err(ctx.continue_as_new(&(life + 1)));
        }
        let result = ctx.signal::<()>("never").await;
        let clean = if N == SAME { "clean" } else { "tidy" };
        ctx.shield(async { ctx.step(clean, |_| async { Ok::<_, StepError>(()) }).await }).await?;
        result
    }
}

#[tokio::test(start_paused = true)]
async fn ends_of_all_kinds_are_compared() {
    let store = store();
    let engine = engine(&store).workflows(Registry::new().register::<Lives<SAME>>()).start().await.expect("starts");
    let client = engine.client();
    for name in ["cancelled", "late", "terminated"] {
        let options = StartOptions::default();
        let options = if name == "late" { options.deadline(Duration::from_secs(20)) } else { options };
        client.start::<Lives<SAME>>(id(name), &0, options).await.expect("starts");
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    client.cancel(&id("cancelled")).await.expect("is asked");
    client.terminate(&id("terminated")).await.expect("is ended");
    assert!(matches!(run_to_end(&client, "late").await, Err(HandleError::Failed(_))));
    let good = |reports: Vec<replay::Report>| reports.iter().map(replay::Report::is_good).collect::<Vec<_>>();
    let same = replay::check(&Registry::new().register::<Lives<SAME>>(), &store, &[]).await.expect("can be read");
    assert_eq!(good(same), [true, true, true]);
    let other = replay::check(&Registry::new().register::<Lives<RENAMED>>(), &store, &[]).await.expect("can be read");
    let bad = other.iter().filter(|report| !report.is_good()).map(|report| report.execution.clone());
    assert_eq!(bad.collect::<Vec<_>>().len(), 2, "who was terminated has cleaned nothing up");
}

/// A clock that moves whenever it is looked at.
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Two steps that end together, a patch at the first one's end, and the time at the second one's.
struct Timed;

impl Workflow for Timed {
    type Input = ();
    type Output = (bool, i64, i64);
    const TYPE: &'static str = "timed";

    async fn run(ctx: Ctx, (): ()) -> Result<(bool, i64, i64), WorkflowError> {
        let step = |name| ctx.step(name, |_| async { Ok::<_, StepError>(()) }).into_future();
        let first = async {
            step("a").await?;
            Ok::<_, WorkflowError>((ctx.patched("faster"), ctx.now().as_micros()))
        };
        let second = async {
            step("b").await?;
            Ok::<_, WorkflowError>(ctx.now().as_micros())
        };
        let (first, second) = futures::join!(first, second);
        let ((is_patched, first), second) = (first?, second?);
        Ok((is_patched, first, second))
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_patch_is_nobodys_time() {
    let store = store();
    let engine = Engine::builder(Arc::clone(&store)).clock(Ticking(AtomicI64::new(0))).register::<Timed>();
    let engine = engine.start().await.expect("starts");
    assert!(run::<Timed>(&engine.client(), "timed", &()).await.is_ok_and(|(is_patched, ..)| is_patched));
    let reports = replay::check(&Registry::new().register::<Timed>(), &store, &[]).await.expect("can be read");
    assert_eq!(reports[0].verdict, Verdict::Fits);
}

async fn run_to_end(client: &bridge_orchestrator::Client<Store>, name: &str) -> Result<(), HandleError> {
    client.handle::<Lives<SAME>>(&id(name)).result().await
}

#[tokio::test(start_paused = true)]
async fn workflows_of_a_registry_run_and_two_of_one_kind_do_not() {
    let store = store();
    let registry = || Registry::new().register::<Order<SAME>>();
    let twice = engine(&store).register::<Order<SAME>>().workflows(registry()).start().await;
    assert!(matches!(twice, Err(Error::RegisteredTwice { .. })));
    let engine = engine(&store).workflows(registry()).start().await.expect("starts");
    let (client, name) = (engine.client(), id("one"));
    let (result, told) = tokio::join!(run::<Order<SAME>>(&client, "one", &(1, false)), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.signal(&name, "word", "go", None).await
    });
    assert_eq!((result, told), (Ok("1 go".to_owned()), Ok(())));
}
