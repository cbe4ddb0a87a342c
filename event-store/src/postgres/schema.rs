//! The tables and functions, by version.

use tokio_postgres::GenericClient;

use super::guard::Lease;
use super::options::PgError;

/// What each version adds; version 1 is the first.
const MIGRATIONS: &[&str] = &[concat!(
    include_str!("sql/1_tables.sql"),
    include_str!("sql/1_append.sql"),
    include_str!("sql/1_append_one.sql"),
    include_str!("sql/1_remove.sql")
)];

/// The oldest server that will do.
const OLDEST: u32 = 15;

/// Names the lock under which migrations run, together with the schema they run in.
const MIGRATION_LOCK: i32 = 0x65_73_31;

/// Whether the server and its tables, if there are any, will do.
pub(super) async fn check(lease: &Lease) -> Result<(), PgError> {
    let client = lease.begin();
    let question = "SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000,
        current_setting('server_encoding'), to_regclass('es_schema') IS NOT NULL";
    let row = client.query_one(question, &[]).await?;
    let (found, major): (String, i32) = (row.try_get(0)?, row.try_get(1)?);
    if u32::try_from(major).unwrap_or_default() < OLDEST {
        lease.end();
        return Err(PgError::TooOld { found, needed: OLDEST });
    }
    let encoding: String = row.try_get(2)?;
    if encoding != "UTF8" {
        lease.end();
        return Err(PgError::Encoding(encoding));
    }
    let found = if row.try_get(3)? { version(&**client).await? } else { 0 };
    lease.end();
    refuse_newer(found)
}

/// Brings the tables up to date, in one transaction and one process at a time.
pub(super) async fn migrate(lease: &mut Lease) -> Result<(), PgError> {
    let transaction = lease.client_mut().transaction().await?;
    let lock = "SELECT pg_advisory_xact_lock($1, hashtext(current_schema()))";
    transaction.execute(lock, &[&MIGRATION_LOCK]).await?;
    // Each statement sees what was committed before it began: also by whoever held the lock.
    let table = "CREATE TABLE IF NOT EXISTS es_schema (
        version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())";
    transaction.batch_execute(table).await?;
    let found = version(&*transaction).await?;
    let newer = refuse_newer(found);
    if newer.is_ok() {
        for (migration, version) in MIGRATIONS.iter().zip(1..).skip(usize::try_from(found).unwrap_or_default()) {
            transaction.batch_execute(migration).await?;
            transaction.execute("INSERT INTO es_schema (version) VALUES ($1)", &[&version]).await?;
        }
        transaction.commit().await?;
    } else {
        transaction.rollback().await?;
    }
    lease.end();
    newer
}

async fn version(client: &impl GenericClient) -> Result<i32, tokio_postgres::Error> {
    client.query_one("SELECT coalesce(max(version), 0) FROM es_schema", &[]).await?.try_get(0)
}

fn refuse_newer(found: i32) -> Result<(), PgError> {
    let known = MIGRATIONS.len() as i32;
    if found > known { Err(PgError::NewerSchema { found, known }) } else { Ok(()) }
}
