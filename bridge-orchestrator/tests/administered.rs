//! What people see of executions, and how they put parked ones back to work.

mod failing_store;
mod in_memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bridge_orchestrator::{
    Ctx, Error, Filter, HandleError, Parked, StartOptions, StepError, Workflow, WorkflowError, WorkflowState,
};
use failing_store::{FailingStore, Fault};
use in_memory::{Store, engine, id, kinds, run, store};

/// Ends as it is told: with a value, a failure, or never.
struct Ends<const N: u32>;

impl<const N: u32> Workflow for Ends<N> {
    type Input = String;
    type Output = String;
    const TYPE: &'static str = if N == 1 { "first" } else { "second" };
    const VERSION: u32 = N;

    async fn run(ctx: Ctx, how: String) -> Result<String, WorkflowError> {
        match how.as_str() {
            "fails" => Err(WorkflowError::failed("told to")),
            "waits" => ctx.signal("word").await,
            _ => {
                ctx.step("echo", move |_| {
                    let how = how.clone();
                    async move { Ok::<_, StepError>(how) }
                })
                .await
            }
        }
    }
}

async fn listed(client: &bridge_orchestrator::Client<Store>, filter: Filter) -> Vec<String> {
    let mut found = client.list(&filter).await.expect("can be read");
    found.sort_by(|a, b| a.id.cmp(&b.id));
    found.iter().map(|info| info.id.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn executions_are_listed_by_what_is_asked_for() {
    let store = store();
    let engine = engine(&store).register::<Ends<1>>().register::<Ends<2>>().start().await.expect("starts");
    let client = engine.client();
    for (name, namespace) in [("a-1", "berlin"), ("a-2", "paris"), ("b-1", "")] {
        let options = || StartOptions::default().namespace(namespace);
        for how in ["waits", "fails", "ends"] {
            let name = format!("{name}-{how}");
            if namespace == "paris" {
                client.start::<Ends<2>>(id(&name), &how.to_owned(), options()).await.expect("starts");
            } else {
                client.start::<Ends<1>>(id(&name), &how.to_owned(), options()).await.expect("starts");
            }
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.cancel(&id("b-1-waits")).await.expect("is asked");
    tokio::time::sleep(Duration::from_secs(1)).await;

    assert_eq!(listed(&client, Filter::all()).await, ["a-1-waits", "a-2-waits"], "in hand");
    assert_eq!(listed(&client, Filter::all().workflow("second")).await, ["a-2-waits"]);
    assert_eq!(listed(&client, Filter::all().namespace("berlin")).await, ["a-1-waits"]);
    assert!(listed(&client, Filter::all().namespace("")).await.is_empty());
    assert!(listed(&client, Filter::parked()).await.is_empty());

    let of = |state| Filter::all().ended(100).state(state);
    assert_eq!(listed(&client, Filter::all().ended(100)).await.len(), 9);
    assert_eq!(listed(&client, of(WorkflowState::Completed)).await, ["a-1-ends", "a-2-ends", "b-1-ends"]);
    assert_eq!(listed(&client, of(WorkflowState::Failed)).await, ["a-1-fails", "a-2-fails", "b-1-fails"]);
    assert_eq!(listed(&client, of(WorkflowState::Cancelled)).await, ["b-1-waits"]);
    let both = of(WorkflowState::Failed).state(WorkflowState::Processing).id_prefix("a-");
    assert_eq!(listed(&client, both.clone()).await, ["a-1-fails", "a-1-waits", "a-2-fails", "a-2-waits"]);
    assert_eq!(listed(&client, both.namespace("paris")).await, ["a-2-fails", "a-2-waits"]);

    let latest = Filter::all().ended(1).state(WorkflowState::Cancelled).state(WorkflowState::Failed);
    let latest = client.list(&latest).await.expect("can be read");
    assert_eq!(latest.len(), 1);
    let info = &latest[0];
    assert_eq!((&*info.workflow, info.version, &*info.namespace), ("first", 1, ""));
    assert_eq!((info.id.as_str(), info.state, &info.parked), ("b-1-waits", WorkflowState::Cancelled, &None));
}

#[tokio::test(start_paused = true)]
async fn a_history_can_be_read_while_it_grows_and_afterwards() {
    let store = store();
    let engine = engine(&store).register::<Ends<1>>().start().await.expect("starts");
    let client = engine.client();
    run::<Ends<1>>(&client, "one", &"ends".to_owned()).await.expect("completes");
    let history = client.history(&id("one")).await.expect("is there");
    let seen: Vec<_> = history.iter().map(|r| (r.place, &*r.kind, r.number, &*r.name, r.bytes)).collect();
    let expected =
        [(0, "started", None, "first", 6), (1, "step.completed", Some(0), "echo", 6), (2, "completed", None, "", 6)];
    assert_eq!(seen, expected);
    assert!(history.is_sorted_by_key(|record| record.time));
    assert_eq!(history[1].to_string(), "   1  step.completed of number 0, echo (6 bytes)");
    assert_eq!(client.history(&id("none")).await, Err(Error::NotFound(id("none"))));
}

static IS_MENDED: AtomicU32 = AtomicU32::new(0);

/// Panics until it is mended.
struct Broken;

impl Workflow for Broken {
    type Input = ();
    type Output = String;
    const TYPE: &'static str = "broken";

    async fn run(ctx: Ctx, (): ()) -> Result<String, WorkflowError> {
        ctx.step("once", |_| async { Ok::<_, StepError>(()) }).await?;
        assert!(IS_MENDED.load(Ordering::SeqCst) == 1, "not mended");
        ctx.signal("word").await
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_execution_has_all_its_tries_again() {
    let store = store();
    let first = engine(&store).register::<Broken>().start().await.expect("starts");
    let client = first.client();
    let handle = client.start::<Broken>(id("broken"), &(), StartOptions::default()).await.expect("starts");
    assert_eq!(client.retry(&id("none")).await, Err(Error::NotFound(id("none"))));
    assert_eq!(client.retry(&id("broken")).await, Err(Error::NotParked(id("broken"))));
    let poisoned = |result: Result<String, HandleError>| match result {
        Err(HandleError::Parked(Parked::Poisoned { attempts, last })) => {
            assert_eq!((attempts, &*last), (10, "not mended"));
        }
        other => panic!("{other:?}"),
    };
    poisoned(handle.result().await);
    let parked = client.list(&Filter::parked()).await.expect("needs no store");
    assert!(
        matches!(&parked[..], [one] if matches!(one.parked, Some(Parked::Poisoned { .. })) && one.workflow == "broken")
    );
    assert_eq!(client.signal(&id("broken"), "word", "lost", None).await, Err(Error::Parked(id("broken"))));

    client.retry(&id("broken")).await.expect("is put to work");
    poisoned(handle.result().await);
    let claims = |kinds: Vec<String>| kinds.iter().filter(|kind| *kind == "claimed").count();
    assert_eq!(claims(kinds(&store, "broken").await), 20, "ten tries more");

    // A new process finds it where it was.
    first.shutdown(Duration::ZERO).await;
    let second = engine(&store).register::<Broken>().start().await.expect("starts");
    let (client, handle) = (second.client(), second.client().handle::<Broken>(&id("broken")));
    assert!(matches!(handle.result().await, Err(HandleError::Parked(Parked::Poisoned { attempts: 10, .. }))));
    IS_MENDED.store(1, Ordering::SeqCst);
    let (name, again) = (id("broken"), id("broken"));
    let (one, other) = tokio::join!(client.retry(&name), client.retry(&again));
    assert!(one.is_ok() != other.is_ok(), "only one puts it to work: {one:?}, {other:?}");
    client.signal(&id("broken"), "word", "found", None).await.expect("takes mail again");
    assert_eq!(handle.result().await, Ok("found".to_owned()));
    let retried = kinds(&store, "broken").await.iter().filter(|kind| *kind == "retried").count();
    assert_eq!(retried, 2);
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_in_the_journal_once_however_its_append_goes() {
    let store = FailingStore::default();
    let shared: Store = Arc::new(store.clone());
    let engine = engine(&shared).register::<Foreign>().start().await.expect("starts");
    let client = engine.client();
    let parked = run::<Foreign>(&client, "foreign", &()).await;
    assert_eq!(parked, Err(HandleError::Parked(Parked::ForeignAwait)));
    store.fail([Fault::Unavailable, Fault::AnswerLost]);
    client.retry(&id("foreign")).await.expect("is put to work");
    let handle = client.handle::<Foreign>(&id("foreign"));
    assert_eq!(handle.result().await, Err(HandleError::Parked(Parked::ForeignAwait)), "it parks again");
    assert_eq!(kinds(&shared, "foreign").await, ["started", "retried", "claimed"]);
    engine.shutdown(Duration::ZERO).await;
    assert_eq!(client.retry(&id("foreign")).await, Err(Error::ShutDown));
}

struct Foreign;

impl Workflow for Foreign {
    type Input = ();
    type Output = ();
    const TYPE: &'static str = "foreign";

    async fn run(_: Ctx, (): ()) -> Result<(), WorkflowError> {
        std::future::pending().await
    }
}
