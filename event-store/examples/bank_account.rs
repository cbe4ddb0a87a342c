//! An aggregate on a stream: each command is decided on the version that its events are appended behind, and a snapshot spares the replay.
//!
//! `cargo run -p event-store --example bank_account`

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use event_store::{
    Aggregate, BoxError, DomainEvent, EventType, MemoryStore, NewEvent, RecordedEvent, Repository, RepositoryError,
    SnapshotPolicy, SnapshotState, StreamId,
};

#[derive(Debug, Default)]
struct Account {
    balance: i64,
}

/// What a customer asks for: money in, or, below zero, out.
type Movement = i64;

enum AccountEvent {
    Deposited(i64),
    Withdrawn(i64),
}

#[derive(Debug, thiserror::Error)]
#[error("{wanted} wanted, and {balance} there")]
struct Overdrawn {
    wanted: i64,
    balance: i64,
}

impl Aggregate for Account {
    const TYPE: &'static str = "Account";
    type Event = AccountEvent;
    type Command = Movement;
    type Error = Overdrawn;

    fn decide(&self, movement: &Movement) -> Result<Vec<AccountEvent>, Overdrawn> {
        match *movement {
            amount if amount >= 0 => Ok(vec![AccountEvent::Deposited(amount)]),
            amount if -amount > self.balance => Err(Overdrawn { wanted: -amount, balance: self.balance }),
            amount => Ok(vec![AccountEvent::Withdrawn(-amount)]),
        }
    }

    fn apply(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Deposited(amount) => self.balance += amount,
            AccountEvent::Withdrawn(amount) => self.balance -= amount,
        }
    }
}

impl DomainEvent for AccountEvent {
    fn encode(&self) -> Result<NewEvent, BoxError> {
        let (name, amount) = match self {
            Self::Deposited(amount) => ("Deposited", amount),
            Self::Withdrawn(amount) => ("Withdrawn", amount),
        };
        Ok(NewEvent::new(EventType::new(name)?, amount.to_string()))
    }

    fn decode(event: &RecordedEvent) -> Result<Self, BoxError> {
        let amount = std::str::from_utf8(event.payload())?.parse()?;
        match event.event_type().as_str() {
            "Deposited" => Ok(Self::Deposited(amount)),
            "Withdrawn" => Ok(Self::Withdrawn(amount)),
            other => Err(format!("{other} is no event of an account").into()),
        }
    }
}

impl SnapshotState for Account {
    const SCHEMA: u16 = 1;

    fn to_snapshot(&self) -> Result<Bytes, BoxError> {
        Ok(Bytes::copy_from_slice(&self.balance.to_le_bytes()))
    }

    fn from_snapshot(state: &[u8]) -> Result<Self, BoxError> {
        Ok(Self { balance: i64::from_le_bytes(state.try_into()?) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = Arc::new(MemoryStore::new());
    let accounts = Repository::<Account, _>::new(store).snapshots(SnapshotPolicy::EveryN(10.try_into()?));
    let stream = StreamId::new("account-42")?;
    for amount in 1..=25 {
        accounts.execute(&stream, &amount).await?;
    }

    // Two want more than half of what is there, at the same time: one of them gets it.
    let (first, second) = tokio::join!(accounts.execute(&stream, &-300), accounts.execute(&stream, &-300));
    let refused = [first, second].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(matches!(&refused[..], [RepositoryError::Refused(Overdrawn { wanted: 300, balance: 25 })]));

    let account = accounts.load(&stream).await?;
    assert_eq!(account.state.balance, 25 * 26 / 2 - 300);
    assert!(account.replayed < 10, "the snapshot spared the rest");
    eprintln!("balance {}, {} events replayed on the snapshot", account.state.balance, account.replayed);
    Ok(())
}
