//! Many tasks each insert one row and get its key back; the table sees statements of many rows.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use swarm_batcher::{Batch, BatchError, BatchHandler, Batcher};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// A row of the table.
#[derive(Debug, Clone)]
struct Row {
    customer: u64,
    amount: i64,
}

/// Stands for a database: a statement costs a round trip, however many rows it has.
#[derive(Default)]
struct Table {
    rows: Mutex<Vec<Row>>,
}

impl Table {
    /// One statement. The first key; the others follow.
    async fn insert(&self, rows: impl Iterator<Item = Row>) -> Result<u64, String> {
        let mut table = self.rows.lock().await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        let first = table.len() as u64;
        table.extend(rows);
        Ok(first)
    }
}

/// Runs one statement a batch.
struct Insert(Arc<Table>);

impl BatchHandler<Row> for Insert {
    type Output = u64;
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, Row, u64, String>) {
        // A row that the table would refuse must not take the others along.
        for slot in batch.iter_mut() {
            if slot.item().amount < 0 {
                slot.reply(Err("a negative amount".to_owned()));
            }
        }
        let rows: Vec<Row> = batch.iter_mut().map(|slot| slot.item().clone()).collect();
        match self.0.insert(rows.into_iter()).await {
            Ok(first) => batch.iter_mut().zip(first..).for_each(|(slot, key)| slot.reply(Ok(key))),
            Err(error) => batch.fail_all(&error),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let table = Arc::new(Table::default());
    let inserts = Batcher::builder(Insert(Arc::clone(&table))).max_batch_items(200).build()?;

    let mut tasks = JoinSet::new();
    for customer in 0..1_000 {
        let inserts = inserts.clone();
        tasks.spawn(async move { (customer, inserts.call(Row { customer, amount: 10 }).await) });
    }
    for (customer, key) in tasks.join_all().await {
        let key = key? as usize;
        assert_eq!(table.rows.lock().await[key].customer, customer, "everyone gets the key of its own row");
    }
    let refused = inserts.call(Row { customer: 1, amount: -1 }).await;
    assert_eq!(refused, Err(BatchError::Handler("a negative amount".to_owned())));

    let report = inserts.shutdown(Duration::from_secs(5)).await;
    println!("{} rows in {} statements", report.stats.succeeded, report.stats.batches);
    assert!(report.stats.batches < 100);
    Ok(())
}
