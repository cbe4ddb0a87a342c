//! The last snapshot of each stream.

use tokio_postgres::types::{ToSql, Type};

use super::Shared;
use super::call::number;
use crate::error::{ReadError, describe};
use crate::event::{StreamVersion, Timestamp};
use crate::name::StreamId;
use crate::snapshot::{Snapshot, SnapshotError};

const SAVE: &str = "INSERT INTO es_snapshots (stream, aggregate_type, version, schema_version, state, time) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (stream) DO UPDATE SET aggregate_type = excluded.aggregate_type, version = excluded.version,
        schema_version = excluded.schema_version, state = excluded.state, time = excluded.time
    RETURNING 1::bigint";

/// With the versions that its stream has at the same moment.
const LOAD: &str = "SELECT p.aggregate_type, p.version, p.state, p.time, s.first, s.last
    FROM es_snapshots p, (SELECT min(version) AS first, max(version) AS last FROM es_events WHERE stream = $1) s
    WHERE p.stream = $1 AND p.schema_version = $2 AND s.last IS NOT NULL";

impl Shared {
    pub(super) async fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let (stream, aggregate_type) = (snapshot.stream.as_str(), snapshot.aggregate_type.as_bytes());
        let (version, schema_version) = (number(snapshot.version.get()), i32::from(snapshot.schema_version));
        let (state, time) = (&snapshot.state[..], snapshot.time.as_micros());
        let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
            (&stream, Type::TEXT),
            (&aggregate_type, Type::BYTEA),
            (&version, Type::INT8),
            (&schema_version, Type::INT4),
            (&state, Type::BYTEA),
            (&time, Type::INT8),
        ];
        self.value::<i64>(SAVE, &parameters).await.map(drop).map_err(unavailable)
    }

    pub(super) async fn load_snapshot(
        &self,
        stream: &StreamId,
        schema_version: u16,
    ) -> Result<Option<Snapshot>, SnapshotError> {
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&stream.as_str(), Type::TEXT), (&i32::from(schema_version), Type::INT4)];
        let Some(row) = self.row(LOAD, &parameters).await.map_err(unavailable)? else { return Ok(None) };
        let read = || {
            let [first, last]: [i64; 2] = [row.try_get(4)?, row.try_get(5)?];
            let version: i64 = row.try_get(1)?;
            let snapshot = Snapshot {
                stream: stream.clone(),
                aggregate_type: String::from_utf8_lossy(row.try_get(0)?).into_owned(),
                version: StreamVersion::new(version.unsigned_abs()),
                schema_version,
                state: row.try_get::<_, Vec<u8>>(2)?.into(),
                time: Timestamp::from_micros(row.try_get(3)?),
            };
            // An event that was removed, and that the snapshot does not include, cannot be replayed.
            Ok((version <= last && first <= version + 1).then_some(snapshot))
        };
        read().map_err(|error: tokio_postgres::Error| SnapshotError::Unavailable(describe(&error)))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn unavailable(error: ReadError) -> SnapshotError {
    SnapshotError::Unavailable(error.to_string())
}
