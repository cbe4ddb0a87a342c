//! An aggregate on a stream: every change expects the version it was decided on, and a snapshot spares the replay.
//!
//! `cargo run -p event-store --example bank_account`

use std::error::Error;
use std::ops::ControlFlow;
use std::time::Duration;

use event_store::{
    Append, AppendError, EventType, ExpectedVersion, MemoryStore, NewEvent, Read, Snapshot, SnapshotPolicy, StreamId,
    StreamVersion, Timestamp,
};

/// Version of the snapshot's layout: eight bytes, little-endian.
const SCHEMA: u16 = 1;

#[derive(Default)]
struct Account {
    balance: i64,
    /// The last event that the balance includes.
    version: Option<StreamVersion>,
    /// Events replayed on top of a snapshot.
    replayed: u64,
}

impl Account {
    fn load(store: &MemoryStore, stream: &StreamId) -> Self {
        let mut account = Self::default();
        let mut read = Read::stream(stream.clone());
        if let Some(snapshot) = store.load_snapshot_now(stream, SCHEMA) {
            account.balance = snapshot.state.as_ref().try_into().map_or(0, i64::from_le_bytes);
            account.version = Some(snapshot.version);
            read = Read::stream_from(stream.clone(), StreamVersion::new(snapshot.version.get() + 1));
        }
        store.scan(&read, |event| {
            let amount = std::str::from_utf8(event.payload()).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
            account.balance += if event.event_type().as_str() == "Deposited" { amount } else { -amount };
            account.version = event.stream_version();
            account.replayed += 1;
            ControlFlow::<()>::Continue(())
        });
        account
    }

    fn expected(&self) -> ExpectedVersion {
        self.version.map_or(ExpectedVersion::NoStream, ExpectedVersion::Exact)
    }
}

fn event(kind: &str, amount: i64) -> Result<NewEvent, Box<dyn Error>> {
    Ok(NewEvent::new(EventType::new(kind)?, amount.to_string()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let stream = StreamId::new("account-42")?;
    let policy = SnapshotPolicy::EveryN(10.try_into()?);

    for amount in 1..=25 {
        let account = Account::load(&store, &stream);
        store.append_now(Append::stream(stream.clone(), account.expected(), [event("Deposited", amount)?]))?;
        if policy.is_due(account.replayed, Duration::ZERO)
            && let Some(version) = account.version
        {
            store.save_snapshot_now(Snapshot {
                stream: stream.clone(),
                aggregate_type: "Account".to_owned(),
                version,
                schema_version: SCHEMA,
                state: account.balance.to_le_bytes().to_vec().into(),
                time: Timestamp::now(),
            });
        }
    }

    // Two withdrawals decided on the same state: the second is refused and decides anew.
    let (first, second) = (Account::load(&store, &stream), Account::load(&store, &stream));
    store.append_now(Append::stream(stream.clone(), first.expected(), [event("Withdrawn", 300)?]))?;
    let lost = store.append_now(Append::stream(stream.clone(), second.expected(), [event("Withdrawn", 300)?]));
    assert!(matches!(lost, Err(AppendError::WrongExpectedVersion { .. })));

    let account = Account::load(&store, &stream);
    assert_eq!(account.balance, 25 * 26 / 2 - 300);
    assert!(account.replayed < 15, "the snapshot spared the rest");
    eprintln!("balance {}, {} events replayed on the snapshot", account.balance, account.replayed);
    Ok(())
}
