//! The repository: no decision on stale state, no lost and no doubled command, snapshots that change nothing but the work.

#[path = "support/account.rs"]
mod account;
mod support;

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use account::{Account, AccountEvent, Command, Overdrawn};
use bytes::Bytes;
use event_store::{
    Append, AppendError, Appended, EventStore, ExpectedVersion, MemoryStore, NewEvent, Position, Read, ReadError,
    RecordedEvent, RemoveError, Repository, RepositoryError, Snapshot, SnapshotOutcome, SnapshotPolicy, SnapshotUse,
    StreamId, StreamVersion, Subscribe, Subscription, Timestamp, UserCode,
};
use futures::Stream;
use futures::executor::block_on;
use proptest::prelude::*;
use support::{kind, payloads, stream, tag};

fn repository(store: &Arc<MemoryStore>) -> Repository<Account, MemoryStore> {
    Repository::new(Arc::clone(store))
}

fn every(events: u64) -> SnapshotPolicy {
    SnapshotPolicy::EveryN(NonZeroU64::new(events).expect("not zero"))
}

fn deposit(store: &MemoryStore, amount: i64) {
    let event = NewEvent::new(kind("Deposited"), amount.to_string());
    store.append_now(Append::stream(stream("a"), ExpectedVersion::Any, [event])).expect("nothing is expected");
}

#[tokio::test]
async fn commands_are_decided_on_what_happened_and_appended() {
    let store = Arc::new(MemoryStore::new());
    let accounts = repository(&store);
    let empty = accounts.load(&stream("a")).await.expect("loaded");
    assert_eq!((empty.state, empty.version, empty.replayed), (Account::default(), None, 0));

    let executed = accounts.execute(&stream("a"), &Command::Deposit(10)).await.expect("executed");
    assert_eq!(executed.events, [AccountEvent::Deposited(10)]);
    assert_eq!((executed.version, executed.attempts), (Some(StreamVersion::FIRST), 1));
    let executed = accounts.execute(&stream("a"), &Command::Withdraw(4)).await.expect("executed");
    assert_eq!((executed.state.balance, executed.version), (6, Some(StreamVersion::new(1))));

    let loaded = accounts.load(&stream("a")).await.expect("loaded");
    assert_eq!((loaded.state, loaded.version, loaded.replayed), (executed.state, executed.version, 2));
}

#[tokio::test]
async fn a_refused_command_and_one_without_events_append_nothing() {
    let store = Arc::new(MemoryStore::new());
    let accounts = repository(&store);
    deposit(&store, 5);
    match accounts.execute(&stream("a"), &Command::Withdraw(6)).await {
        Err(RepositoryError::Refused(refusal)) => assert_eq!(refusal, Overdrawn { wanted: 6, balance: 5 }),
        other => panic!("{other:?}"),
    }
    let looked = accounts.execute(&stream("a"), &Command::Look).await.expect("executed");
    assert_eq!((looked.appended, looked.state.balance), (None, 5));
    assert_eq!(store.head_now(), Position::new(1));
}

#[tokio::test]
async fn events_are_adorned_before_they_are_appended() {
    let store = Arc::new(MemoryStore::new());
    let adorn = |event: NewEvent| event.with_tag(tag("account:a")).with_metadata("by Ada");
    let accounts = repository(&store);
    accounts.execute_with(&stream("a"), &Command::Deposit(1), adorn).await.expect("executed");
    let event = &store.read_now(&Read::all())[0];
    assert!(event.tags().contains("account:a"));
    assert_eq!(event.metadata(), b"by Ada");
}

#[tokio::test]
async fn an_event_that_cannot_be_decoded_is_named_by_its_position() {
    let store = Arc::new(MemoryStore::new());
    deposit(&store, 1);
    store
        .append_now(Append::stream(stream("a"), ExpectedVersion::Any, [NewEvent::new(kind("Closed"), "")]))
        .expect("nothing is expected");
    match repository(&store).load(&stream("a")).await {
        Err(RepositoryError::Decode { position, event_type, schema_version: 1, source }) => {
            assert_eq!((position.get(), event_type.as_str()), (2, "Closed"));
            assert_eq!(source.to_string(), "Closed is no event of an account");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn panics_of_user_code_are_errors_of_its_caller() {
    let store = Arc::new(MemoryStore::new());
    let accounts = repository(&store);
    match accounts.execute(&stream("a"), &Command::PanicNow).await {
        Err(RepositoryError::Panicked { code: UserCode::Decide, message, is_appended: false }) => {
            assert_eq!(message, "decided to panic");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.head_now(), None);
    match accounts.execute(&stream("a"), &Command::PanicLater).await {
        Err(RepositoryError::Panicked { code: UserCode::Apply, is_appended: true, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(store.head_now(), Position::new(1), "that is what it says");
    match accounts.load(&stream("a")).await {
        Err(RepositoryError::Panicked { code: UserCode::Apply, is_appended: false, .. }) => {}
        other => panic!("{other:?}"),
    }
}

/// What a store between repository and memory does to an append.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    /// Applies it and loses the answer.
    LoseAnswer,
    /// Loses it on the way.
    LoseAppend,
    /// Does not take it.
    Refuse,
    /// Somebody else deposits 1 just before.
    Overtake,
}

struct Troubled {
    store: Arc<MemoryStore>,
    /// For the next appends, the last one first.
    troubles: Mutex<Vec<Trouble>>,
}

impl Troubled {
    fn new(mut troubles: Vec<Trouble>) -> (Arc<MemoryStore>, Repository<Account, Self>) {
        troubles.reverse();
        let store = Arc::new(MemoryStore::new());
        let troubled = Self { store: Arc::clone(&store), troubles: Mutex::new(troubles) };
        (store, Repository::new(Arc::new(troubled)))
    }
}

impl EventStore for Troubled {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let trouble = self.troubles.lock().expect("no panic").pop();
        match trouble {
            None => self.store.append_now(append),
            Some(Trouble::LoseAnswer) => {
                self.store.append_now(append)?;
                Err(AppendError::Unknown("no answer".to_owned()))
            }
            Some(Trouble::LoseAppend) => Err(AppendError::Unknown("no answer".to_owned())),
            Some(Trouble::Refuse) => Err(AppendError::Unavailable("closed".to_owned())),
            Some(Trouble::Overtake) => {
                deposit(&self.store, 1);
                self.store.append_now(append)
            }
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

#[tokio::test]
async fn an_unknown_outcome_is_resolved_by_the_same_append_and_happens_once() {
    use Trouble::{LoseAnswer, LoseAppend, Refuse};
    for troubles in
        [vec![LoseAnswer], vec![LoseAppend], vec![LoseAppend, LoseAnswer, LoseAnswer], vec![LoseAnswer, Refuse]]
    {
        let (store, accounts) = Troubled::new(troubles.clone());
        let executed = accounts.execute(&stream("a"), &Command::Deposit(7)).await.expect("executed");
        assert_eq!((executed.state.balance, executed.version), (7, Some(StreamVersion::FIRST)), "{troubles:?}");
        assert_eq!(store.read_now(&Read::all()).len(), 1, "{troubles:?}");
    }
}

#[tokio::test]
async fn an_outcome_that_stays_unknown_hands_back_the_append_that_may_be_repeated() {
    let (store, accounts) = Troubled::new(vec![Trouble::LoseAnswer, Trouble::Refuse, Trouble::Refuse]);
    let pauses = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&pauses);
    let accounts = accounts.max_repeats(2).pause(Duration::from_millis(1), move |pause| {
        counted.fetch_add(pause.as_millis() as u32, Ordering::Relaxed);
        std::future::ready(())
    });
    match accounts.execute(&stream("a"), &Command::Deposit(7)).await {
        Err(RepositoryError::Unknown { append, attempts, reason }) => {
            assert_eq!((attempts, reason.as_str()), (3, "no answer"));
            assert!(store.append_now(*append).expect("the same append").deduplicated);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(pauses.load(Ordering::Relaxed), 1 + 2);
}

#[tokio::test]
async fn an_append_that_was_not_taken_is_the_callers_to_repeat() {
    let (_, accounts) = Troubled::new(vec![Trouble::Refuse]);
    match accounts.execute(&stream("a"), &Command::Deposit(7)).await {
        Err(RepositoryError::Append(AppendError::Unavailable(_))) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_command_that_was_overtaken_is_decided_anew_on_what_came() {
    use Trouble::{LoseAppend, Overtake};
    let (store, accounts) = Troubled::new(vec![Overtake, Overtake, LoseAppend, Overtake]);
    // The first two attempts are on too little.
    deposit(&store, 5);
    let executed = accounts.execute(&stream("a"), &Command::Withdraw(5)).await.expect("executed");
    assert_eq!((executed.state.balance, executed.attempts), (3, 4));
    assert_eq!(payloads(&store.read_now(&Read::all())), ["5", "1", "1", "1", "5"]);

    let (store, accounts) = Troubled::new(vec![Overtake]);
    deposit(&store, 0);
    match accounts.execute(&stream("a"), &Command::Withdraw(0)).await {
        Ok(executed) => assert_eq!((executed.state.balance, executed.state.changes, executed.attempts), (1, 3, 2)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn conflicts_end_after_the_attempts_that_are_allowed() {
    let (store, accounts) = Troubled::new(vec![Trouble::Overtake; 5]);
    match accounts.max_attempts(3).execute(&stream("a"), &Command::Deposit(1)).await {
        Err(RepositoryError::Conflict { attempts: 3, last: AppendError::WrongExpectedVersion { .. }, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(store.read_now(&Read::all()).len(), 3, "those of the others");
}

#[test]
fn of_many_who_change_one_aggregate_none_is_lost() {
    const TASKS: u64 = 8;
    const COMMANDS: u64 = 50;
    let store = Arc::new(MemoryStore::new());
    let accounts = repository(&store).max_attempts(u32::MAX).snapshots(every(16));
    thread::scope(|scope| {
        for task in 0..TASKS {
            let accounts = accounts.clone();
            scope.spawn(move || {
                for _ in 0..COMMANDS {
                    let command = Command::DepositOnes(1 + task % 3);
                    block_on(accounts.execute(&stream("a"), &command)).expect("executed");
                }
            });
        }
    });
    let expected: u64 = (0..TASKS).map(|task| COMMANDS * (1 + task % 3)).sum();
    let loaded = block_on(accounts.load(&stream("a"))).expect("loaded");
    assert_eq!(loaded.state, Account { balance: expected as i64, changes: expected });
    assert_eq!(block_on(repository(&store).load(&stream("a"))).expect("loaded").state, loaded.state);
    assert!(loaded.replayed < expected, "a snapshot was used");
}

#[tokio::test]
async fn a_snapshot_spares_the_replay_of_what_is_before_it() {
    let store = Arc::new(MemoryStore::new());
    let accounts = repository(&store).snapshots(every(10));
    for round in 1..=25_u64 {
        let executed = accounts.execute(&stream("a"), &Command::Deposit(1)).await.expect("executed");
        let saved = SnapshotOutcome::Saved(StreamVersion::new(round - 1));
        assert_eq!(executed.snapshot, if round % 10 == 0 { saved } else { SnapshotOutcome::NotDue }, "{round}");
    }
    let loaded = accounts.load(&stream("a")).await.expect("loaded");
    assert_eq!((loaded.state.balance, loaded.replayed), (25, 5));
    assert_eq!(loaded.snapshot, SnapshotUse::Used(StreamVersion::new(19)));
    let costly = repository(&store).snapshots(SnapshotPolicy::ReplayCost(Duration::ZERO));
    let executed = costly.execute(&stream("a"), &Command::Deposit(1)).await.expect("executed");
    assert_eq!(executed.snapshot, SnapshotOutcome::Saved(StreamVersion::new(25)));
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_right_is_ignored_and_the_state_rebuilt() {
    let store = Arc::new(MemoryStore::new());
    for _ in 0..5 {
        deposit(&store, 2);
    }
    let accounts = repository(&store).snapshots(SnapshotPolicy::Never);
    let good = Snapshot {
        stream: stream("a"),
        aggregate_type: "Account".to_owned(),
        version: StreamVersion::new(3),
        schema_version: 3,
        state: Bytes::from_static(b"8 4"),
        time: Timestamp::from_micros(1),
    };
    let mut replayed = Vec::new();
    for snapshot in [
        good.clone(),
        Snapshot { schema_version: 2, ..good.clone() },
        Snapshot { version: StreamVersion::new(5), ..good.clone() },
        Snapshot { aggregate_type: "Cart".to_owned(), ..good.clone() },
        Snapshot { state: Bytes::from_static(b"eight"), ..good },
    ] {
        store.save_snapshot_now(snapshot);
        let loaded = accounts.load(&stream("a")).await.expect("loaded");
        assert_eq!((loaded.state.balance, loaded.state.changes), (10, 5));
        replayed.push((loaded.replayed, matches!(loaded.snapshot, SnapshotUse::Ignored(_))));
    }
    assert_eq!(replayed, [(1, false), (5, false), (5, false), (5, true), (5, true)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the policy and the history, a load from a snapshot is a load of everything.
    #[test]
    fn a_snapshot_and_its_tail_are_a_full_replay(
        amounts in proptest::collection::vec(1..100_i64, 1..60),
        policy in 1..20_u64,
        looks in proptest::collection::vec(any::<bool>(), 60),
    ) {
        let store = Arc::new(MemoryStore::new());
        let (with, without) = (repository(&store).snapshots(every(policy)), repository(&store));
        for (amount, look) in amounts.iter().zip(looks) {
            let command = if amount % 3 == 0 { Command::Withdraw(*amount) } else { Command::Deposit(*amount) };
            let _ = block_on(with.execute(&stream("a"), &command));
            if look {
                let (with, without) = (block_on(with.load(&stream("a"))), block_on(without.load(&stream("a"))));
                let (with, without) = (with.expect("loaded"), without.expect("loaded"));
                prop_assert_eq!(with.state, without.state);
                prop_assert_eq!(with.version, without.version);
                prop_assert!(with.replayed < policy.max(1) + 1);
            }
        }
    }
}
