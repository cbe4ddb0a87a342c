//! Random workflow programs, whose process dies at random appends, end as they do where it never dies. `PROGRAMS=10000` is the full count.

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bridge_orchestrator::{
    Client, Clock, Conflict, Ctx, Engine, ExecutionId, Registry, RetryPolicy, StartOptions, StepError, Workflow,
    WorkflowError, replay,
};
use event_store::{
    Append, AppendError, Appended, EventStore, MemoryStore, Position, Read, ReadError, RecordedEvent, RemoveError,
    StreamId, StreamVersion, Subscribe, Subscription, Timestamp,
};
use fastrand::Rng;
use futures::future::{Either, join_all, select};
use futures::{Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// What a program does, one after the other.
type Program = Vec<Op>;

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Op {
    /// A step that takes so many milliseconds.
    Step(u64),
    /// One that fails so often before it succeeds.
    Fails(u16),
    /// So many seconds.
    Sleep(u64),
    /// A signal of this name, which somebody sends.
    Signal(String),
    Join(Vec<Program>),
    /// A program against a sleep that is far longer.
    Race(Program),
    Child(Program),
    /// Steps that are undone.
    Saga(u8),
    Shielded(Program),
    Patched,
}

/// How often each step has begun, by execution and idempotency key.
static LEDGER: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

struct Interpreter;

impl Workflow for Interpreter {
    type Input = Program;
    type Output = Vec<String>;
    const TYPE: &'static str = "interpreter";

    async fn run(ctx: Ctx, program: Program) -> Result<Vec<String>, WorkflowError> {
        run(&ctx, &program, "0".to_owned()).await
    }
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Vec<String>, WorkflowError>> + Send + 'a>>;

fn run<'a>(ctx: &'a Ctx, program: &'a [Op], path: String) -> Running<'a> {
    Box::pin(async move {
        let mut trace = Vec::new();
        for (place, op) in program.iter().enumerate() {
            let path = format!("{path}.{place}");
            match op {
                Op::Step(millis) => trace.push(ctx.step("step", effect(&path, *millis, 0)).await?),
                Op::Fails(times) => {
                    let step = ctx.step("fails", effect(&path, 1, *times));
                    trace.push(step.retry(RetryPolicy::DEFAULT.attempts(9)).await?);
                }
                Op::Sleep(seconds) => ctx.sleep(Duration::from_secs(*seconds)).await?,
                Op::Signal(name) => trace.push(ctx.signal(name).await?),
                Op::Join(programs) => {
                    let all = programs.iter().enumerate().map(|(n, program)| run(ctx, program, format!("{path}.{n}")));
                    for result in join_all(all).await {
                        trace.extend(result?);
                    }
                }
                Op::Race(program) => {
                    match select(run(ctx, program, path.clone()), ctx.sleep(Duration::from_secs(1 << 30))).await {
                        Either::Left((result, _)) => trace.extend(result?),
                        Either::Right(_) => trace.push("the sleep has won".to_owned()),
                    }
                }
                Op::Child(program) => {
                    let id = ExecutionId::new(format!("{}/{path}", ctx.execution())).expect("valid");
                    trace.extend(ctx.child::<Interpreter>(id, program)?.await?);
                }
                Op::Saga(steps) => {
                    let mut saga = ctx.saga();
                    for n in 0..*steps {
                        trace.push(ctx.step("do", effect(&format!("{path}.{n}"), 1, 0)).await?);
                        let mut undo = effect(&format!("{path}.-{n}"), 1, 0);
                        saga.undo("undo", move |attempt| {
                            let undo = undo(attempt);
                            async move { undo.await.map(|_| ()) }
                        });
                    }
                    trace.push(format!("{} undone", saga.unwind().await.compensated));
                }
                Op::Shielded(program) => trace.extend(ctx.shield(run(ctx, program, path)).await?),
                Op::Patched => trace.push(ctx.patched(&path).to_string()),
            }
        }
        Ok(trace)
    })
}

/// Notes in the ledger that it has begun, waits, and fails as often as it is to.
fn effect(
    path: &str,
    millis: u64,
    fails: u16,
) -> impl FnMut(bridge_orchestrator::Attempt) -> Effect + Send + 'static + use<> {
    let path = path.to_owned();
    move |attempt| {
        let path = path.clone();
        Box::pin(async move {
            let begun = format!("{}#{}", attempt.idempotency_key(), attempt.number());
            *LEDGER.lock().expect("the ledger").entry(begun).or_default() += 1;
            tokio::time::sleep(Duration::from_millis(millis)).await;
            if attempt.number() <= fails { Err(StepError::retryable("not yet")) } else { Ok(path) }
        })
    }
}

type Effect = Pin<Box<dyn Future<Output = Result<String, StepError>> + Send>>;

fn program(rng: &mut Rng, depth: u32, signals: &mut Vec<String>) -> Program {
    let ops = 1 + rng.usize(..if depth == 0 { 4 } else { 2 });
    let mut nested = |rng: &mut Rng| program(rng, depth + 1, signals);
    let mut names = Vec::new();
    let program = (0..ops)
        .map(|_| match rng.u32(..if depth < 2 { 13 } else { 6 }) {
            0..2 => Op::Step(rng.u64(..20)),
            2 => Op::Fails(rng.u16(..3)),
            3 => Op::Sleep(rng.u64(..100)),
            4 => {
                let name = format!("s{}", rng.u64(..));
                names.push(name.clone());
                Op::Signal(name)
            }
            5 => Op::Patched,
            6..8 => Op::Join((0..rng.usize(1..4)).map(|_| nested(rng)).collect()),
            8..10 => Op::Race(nested(rng)),
            // Signals are sent to the root alone.
            10 => {
                let mut of_child = Vec::new();
                let child = program(rng, 2, &mut of_child);
                Op::Child(child.into_iter().filter(|op| !matches!(op, Op::Signal(_))).collect())
            }
            11 => Op::Saga(rng.u8(..4)),
            _ => Op::Shielded(nested(rng)),
        })
        .collect();
    signals.extend(names);
    program
}

/// A process's store: at the chosen append the process dies, before it is applied or behind it. What is asked for afterwards is never answered.
#[derive(Clone)]
struct Mortal {
    store: Arc<MemoryStore>,
    left: Arc<AtomicI64>,
    applies_the_last: bool,
    died: Arc<Notify>,
}

impl EventStore for Mortal {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            1.. => self.store.append(append).await,
            0 => {
                if self.applies_the_last {
                    let _ = self.store.append(append).await;
                }
                self.died.notify_one();
                pending().await
            }
            _ => pending().await,
        }
    }

    fn read(&self, read: Read) -> impl Stream<Item = Result<RecordedEvent, ReadError>> + Send {
        self.store.read(read)
    }

    fn subscribe(&self, subscribe: Subscribe) -> Subscription {
        self.store.subscribe(subscribe)
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        self.store.head().await
    }

    async fn stream_version(&self, stream: &StreamId) -> Result<Option<StreamVersion>, ReadError> {
        self.store.stream_version(stream).await
    }

    async fn truncate_stream(&self, stream: &StreamId, before: StreamVersion) -> Result<u64, RemoveError> {
        self.store.truncate_stream(stream, before).await
    }

    async fn delete_stream(&self, stream: &StreamId) -> Result<u64, RemoveError> {
        self.store.delete_stream(stream).await
    }
}

/// The time goes on from one process to the next.
struct Since(i64, tokio::time::Instant);

impl Clock for Since {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0 + self.1.elapsed().as_micros() as i64)
    }
}

/// One process: starts the program unless it is there, sends all signals, waits for the end. `None` if it died.
fn process(store: Mortal, name: &str, program: &Program, signals: &[String], time: &mut i64) -> Option<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let died = Arc::clone(&store.died);
    let (result, now) = runtime.block_on(async {
        let began = tokio::time::Instant::now();
        let work = async {
            let engine = Engine::builder(store).clock(Since(*time, began)).register::<Interpreter>();
            #[cfg(feature = "testkit")]
            let engine = engine.replay_twice();
            let engine = engine.start().await.expect("starts");
            work(&engine.client(), name, program, signals).await
        };
        let result = match select(Box::pin(work), Box::pin(died.notified())).await {
            Either::Left((result, _)) => Some(result),
            Either::Right(_) => None,
        };
        (result, *time + began.elapsed().as_micros() as i64)
    });
    *time = now;
    result
}

async fn work(client: &Client<Mortal>, name: &str, program: &Program, signals: &[String]) -> Vec<String> {
    let id = ExecutionId::new(name).expect("valid");
    let options = StartOptions::default().conflict(Conflict::UseExisting);
    let handle = client.start::<Interpreter>(id.clone(), program, options).await.expect("starts");
    for signal in signals {
        // One that has ended has had it.
        let _ = client.signal(&id, signal, signal, Some(signal)).await;
    }
    handle.result().await.unwrap_or_else(|error| panic!("{name}: {error}: {program:?}"))
}

#[test]
fn programs_end_the_same_whenever_their_process_dies() {
    let programs: u64 = std::env::var("PROGRAMS").map_or(100, |n| n.parse().expect("a number"));
    let (mut deaths, mut appends, mut kinds) = (0, 0, BTreeMap::new());
    for seed in 0..programs {
        let mut rng = Rng::with_seed(seed);
        let mut signals = Vec::new();
        let program = program(&mut rng, 0, &mut signals);
        let mortal = |store: &Arc<MemoryStore>, left, applies_the_last| Mortal {
            store: Arc::clone(store),
            left: Arc::new(AtomicI64::new(left)),
            applies_the_last,
            died: Arc::new(Notify::new()),
        };
        let store = Arc::new(MemoryStore::new());
        let alive = mortal(&store, i64::MAX, false);
        let expected = process(alive.clone(), "alive", &program, &signals, &mut 0).expect("lives");
        let taken = i64::MAX - alive.left.load(Ordering::SeqCst);
        appends += taken;

        let store = Arc::new(MemoryStore::new());
        let name = format!("mortal-{seed}");
        let (mut time, mut lives) = (0, 1);
        let found = loop {
            let left = if lives > 4 { i64::MAX } else { rng.i64(0..=taken) };
            match process(mortal(&store, left, rng.bool()), &name, &program, &signals, &mut time) {
                Some(found) => break found,
                None => lives += 1,
            }
        };
        deaths += lives - 1;
        let registry = Registry::new().register::<Interpreter>();
        let reports = futures::executor::block_on(replay::check(&registry, &*store, &[])).expect("can be read");
        assert!(reports.iter().all(replay::Report::is_good), "seed {seed}: {reports:?} {program:?}");
        assert_eq!(found, expected, "seed {seed}: {program:?}");
        let ledger = std::mem::take(&mut *LEDGER.lock().expect("the ledger"));
        for (begun, times) in &ledger {
            let most = if begun.starts_with("alive") { 1 } else { lives };
            assert!(*times <= most, "seed {seed}: {begun} has begun {times} times in {lives} lives");
        }
        let alive = ledger.keys().filter(|begun| begun.starts_with("alive")).count();
        assert!(ledger.len() >= 2 * alive, "seed {seed}: each attempt has begun in both");
        futures::executor::block_on(store.read(Read::all()).for_each(|event| {
            *kinds.entry(event.expect("readable").event_type().as_str().to_owned()).or_insert(0) += 1;
            async {}
        }));
    }
    let told = format!("{programs} programs, {appends} appends, {deaths} deaths: {kinds:?}");
    assert!(deaths >= programs as u32, "{told}");
    for kind in
        ["claimed", "step.completed", "attempt.failed", "timer.fired", "signalled", "child.completed", "patched"]
    {
        assert!(kinds.contains_key(&format!("workflow.{kind}")), "{kind} occurs: {kinds:?}");
    }
}

#[test]
fn start_three_steps_and_end_are_four_appends() {
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let store = Mortal {
        store: Arc::default(),
        left: Arc::clone(&left),
        applies_the_last: false,
        died: Arc::new(Notify::new()),
    };
    let steps = vec![Op::Step(1), Op::Step(1), Op::Step(1)];
    process(store, "counted", &steps, &[], &mut 0).expect("lives");
    assert_eq!(i64::MAX - left.load(Ordering::SeqCst), 4, "the last value and the end share one");
}
