//! One writer.

use std::time::Instant;

use event_store::EventStore;
use harness::{Bench, BenchError};
use tokio_postgres::types::ToSql;

use crate::pgbench::{ROUNDS, TRANSACTIONS, pgbench};
use crate::setting::Setting;
use crate::stores::{PAYLOAD, append, stream};

const PER_ROUND: u64 = 20;

/// The columns and the indexes of the store's events; a row is committed by itself.
const FLOOR_TABLE: &str = "CREATE TABLE floor_events (LIKE es_events INCLUDING ALL)";
const FLOOR_INSERT: &str = "INSERT INTO floor_events (position, version, time, event_id, schema_version, stream, type, tags, payload, metadata) \
    VALUES ($1, $2, $3, gen_random_uuid(), 1, $4, $5, $6, $7, $8)";

/// One event an append, each behind the one before it; beside an insert of the driver's that waits for the disk as well.
pub(crate) fn one(bench: &mut Bench) -> Result<(), BenchError> {
    let setting = Setting::alone();
    let store = setting.runtime.block_on(setting.store(2));
    let client = setting.client();
    let insert = setting.runtime.block_on(async {
        client.batch_execute(FLOOR_TABLE).await.expect("made");
        client.prepare(FLOOR_INSERT).await.expect("prepared")
    });
    let (stream, payload) = (stream(0), vec![b'a'; PAYLOAD]);
    let (mut appended, mut inserted) = (0u64, 0i64);
    let rounds = bench.against(
        "event-store/floor/postgres-insert",
        || {
            let appends: Vec<_> =
                (appended..appended + PER_ROUND).map(|number| append(&stream, number, number, 1)).collect();
            let start = Instant::now();
            setting.runtime.block_on(async {
                for append in appends {
                    store.append(append).await.expect("appended");
                }
            });
            appended += PER_ROUND;
            (start.elapsed(), PER_ROUND)
        },
        || {
            let start = Instant::now();
            setting.runtime.block_on(async {
                for number in inserted + 1..=inserted + PER_ROUND as i64 {
                    let row: [&(dyn ToSql + Sync); 8] =
                        [&number, &number, &number, &"probe-0", &"ReadingTaken", &"probe:7", &payload, &&b""[..]];
                    client.execute(&insert, &row).await.expect("committed");
                }
            });
            inserted += PER_ROUND as i64;
            (start.elapsed(), PER_ROUND)
        },
    )?;
    let count = async |table: &str| {
        let row = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.expect("counted");
        row.get::<_, i64>(0)
    };
    let recorded = setting.runtime.block_on(async { count("es_events").await + count("floor_events").await });
    bench.proof(2 * rounds * PER_ROUND, recorded);
    Ok(())
}

/// The floor's insert by PostgreSQL's own load generator.
pub(crate) fn pgbench_insert(bench: &mut Bench) -> Result<(), BenchError> {
    let setting = Setting::alone();
    setting.runtime.block_on(setting.store(1));
    let client = setting.client();
    let tables = format!("{FLOOR_TABLE}; CREATE SEQUENCE floor_positions");
    setting.runtime.block_on(client.batch_execute(&tables)).expect("made");
    let script = format!(
        "INSERT INTO floor_events (position, version, time, event_id, schema_version, stream, type, tags, payload, metadata) \
            VALUES (nextval('floor_positions'), currval('floor_positions'), 1, gen_random_uuid(), 1, 'probe-0', 'ReadingTaken', 'probe:7', \
            '{}', '');",
        "a".repeat(PAYLOAD)
    );
    pgbench(bench, &setting, &script)?;
    let counting = client.query_one("SELECT count(*) FROM floor_events", &[]);
    let committed: i64 = setting.runtime.block_on(counting).expect("counted").get(0);
    assert_eq!(committed as u64, ROUNDS * TRANSACTIONS, "pgbench has done what it says");
    Ok(())
}

/// A hundred events an append, beside appends of one.
pub(crate) fn hundred(bench: &mut Bench) -> Result<(), BenchError> {
    const EVENTS: u64 = 100;
    let setting = Setting::alone();
    let store = setting.runtime.block_on(setting.store(2));
    let (many, single) = (stream(0), stream(1));
    let (mut in_many, mut in_single) = (0u64, 0u64);
    let rounds = bench.against(
        "event-store/floor/postgres-append-1",
        || {
            let appends: Vec<_> = (0..PER_ROUND)
                .map(|at| append(&many, in_many + at * EVENTS, (1 << 40) + in_many + at * EVENTS, EVENTS))
                .collect();
            let start = Instant::now();
            setting.runtime.block_on(async {
                for append in appends {
                    store.append(append).await.expect("appended");
                }
            });
            in_many += PER_ROUND * EVENTS;
            (start.elapsed(), PER_ROUND)
        },
        || {
            let appends: Vec<_> =
                (in_single..in_single + PER_ROUND).map(|number| append(&single, number, number, 1)).collect();
            let start = Instant::now();
            setting.runtime.block_on(async {
                for append in appends {
                    store.append(append).await.expect("appended");
                }
            });
            in_single += PER_ROUND;
            (start.elapsed(), PER_ROUND)
        },
    )?;
    let head = setting.runtime.block_on(store.head()).expect("a head").map_or(0, |head| head.get());
    bench.proof(rounds * PER_ROUND * (EVENTS + 1), head);
    Ok(())
}
