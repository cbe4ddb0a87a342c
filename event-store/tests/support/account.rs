//! A bank account: the aggregate that the tests keep.
#![allow(dead_code, reason = "each test file uses a part")]

use bytes::Bytes;
use event_store::{Aggregate, BoxError, DomainEvent, EventType, NewEvent, RecordedEvent, SnapshotState};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) balance: i64,
    pub(crate) changes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AccountEvent {
    Deposited(i64),
    Withdrawn(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Deposit(i64),
    Withdraw(i64),
    /// Leads to no events.
    Look,
    /// Leads to one deposit of 1 for each.
    DepositOnes(u64),
    /// Panics while it is decided.
    PanicNow,
    /// Leads to an event that cannot be applied.
    PanicLater,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} wanted, {balance} there")]
pub(crate) struct Overdrawn {
    pub(crate) wanted: i64,
    pub(crate) balance: i64,
}

impl Aggregate for Account {
    const TYPE: &'static str = "Account";
    type Event = AccountEvent;
    type Command = Command;
    type Error = Overdrawn;

    fn decide(&self, command: &Command) -> Result<Vec<AccountEvent>, Overdrawn> {
        match command {
            Command::Deposit(amount) => Ok(vec![AccountEvent::Deposited(*amount)]),
            Command::Withdraw(wanted) if *wanted > self.balance => {
                Err(Overdrawn { wanted: *wanted, balance: self.balance })
            }
            Command::Withdraw(wanted) => Ok(vec![AccountEvent::Withdrawn(*wanted)]),
            Command::Look => Ok(Vec::new()),
            Command::DepositOnes(count) => Ok((0..*count).map(|_| AccountEvent::Deposited(1)).collect()),
            Command::PanicNow => panic!("decided to panic"),
            Command::PanicLater => Ok(vec![AccountEvent::Deposited(i64::MAX)]),
        }
    }

    fn apply(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Deposited(i64::MAX) => panic!("too rich"),
            AccountEvent::Deposited(amount) => self.balance += amount,
            AccountEvent::Withdrawn(amount) => self.balance -= amount,
        }
        self.changes += 1;
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
        let amount = || -> Result<i64, BoxError> { Ok(std::str::from_utf8(event.payload())?.parse()?) };
        match event.event_type().as_str() {
            "Deposited" => Ok(Self::Deposited(amount()?)),
            "Withdrawn" => Ok(Self::Withdrawn(amount()?)),
            other => Err(format!("{other} is no event of an account").into()),
        }
    }
}

impl SnapshotState for Account {
    const SCHEMA: u16 = 3;

    fn to_snapshot(&self) -> Result<Bytes, BoxError> {
        Ok(format!("{} {}", self.balance, self.changes).into())
    }

    fn from_snapshot(state: &[u8]) -> Result<Self, BoxError> {
        let (balance, changes) = std::str::from_utf8(state)?.split_once(' ').ok_or("two numbers are wanted")?;
        Ok(Self { balance: balance.parse()?, changes: changes.parse()? })
    }
}
