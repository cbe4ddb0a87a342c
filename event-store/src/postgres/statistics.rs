//! What there is in the tables.

use super::{PgError, PostgresStore};
use crate::event::{Position, Timestamp};
use crate::projection::ProjectionId;

/// What a store on PostgreSQL holds, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PgStatistics {
    /// The version of the tables.
    pub schema: i32,
    /// The last position.
    pub head: Option<Position>,
    /// Events that there are.
    pub events: u64,
    /// Bytes of their payload and metadata, as they were given.
    pub bytes: u64,
    /// The earliest and the latest of their times.
    pub times: Option<(Timestamp, Timestamp)>,
    /// Streams with events.
    pub streams: u64,
    /// Streams whose events were all removed.
    pub emptied_streams: u64,
    /// Events that were removed.
    pub removed: u64,
    /// Types, with the number of their events, most frequent first.
    pub types: Vec<(String, u64)>,
    /// Different tags.
    pub tags: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Versions of projections, by name.
    pub projections: Vec<PgProjection>,
    /// Bytes on the server's disk, indexes and what is dead included.
    pub disk_bytes: u64,
}

/// How far a version of a projection has come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PgProjection {
    /// Which.
    pub id: ProjectionId,
    /// Whether it is the one in use.
    pub is_active: bool,
    /// The last position it has dealt with.
    pub position: Option<Position>,
    /// How many positions it is behind the head.
    pub lag: u64,
    /// Events it has parked.
    pub parked: u64,
}

impl PostgresStore {
    /// Counts what there is, as of one moment.
    ///
    /// Cost: the server goes over all events once and over their tags. There is no time-out.
    ///
    /// # Cancellation
    /// Dropping the future ends the server's work, too. Nothing is changed.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn statistics(&self) -> Result<PgStatistics, PgError> {
        let mut lease = self.shared.lessor.lease().await.map_err(PgError::Pool)?;
        let snapshot = lease.snapshot().await?;
        let statement = "SELECT (SELECT max(version) FROM es_schema), (SELECT position FROM es_head), e.some, e.bytes, e.earliest, e.latest,
                e.streams, t.emptied, t.removed, (SELECT count(DISTINCT tag) FROM es_tags), (SELECT count(*) FROM es_snapshots),
                (SELECT sum(pg_total_relation_size(name::regclass))::bigint FROM unnest(ARRAY['es_head', 'es_truncated', 'es_events',
                    'es_tags', 'es_snapshots', 'es_checkpoints', 'es_parked', 'es_schema']) AS t(name))
            FROM (SELECT count(*) AS some, coalesce(sum(length(payload) + length(metadata)), 0)::bigint AS bytes, min(time) AS earliest,
                    max(time) AS latest, count(DISTINCT stream) AS streams FROM es_events) e,
                (SELECT count(*) FILTER (WHERE NOT EXISTS (SELECT FROM es_events e WHERE e.stream = r.stream)) AS emptied,
                    coalesce(sum(first_version), 0)::bigint AS removed FROM es_truncated r) t";
        let row = snapshot.query_one(statement, &[]).await?;
        let count = |column| row.try_get::<_, i64>(column).map(i64::unsigned_abs);
        let time = |column| row.try_get::<_, Option<i64>>(column).map(|time| time.map(Timestamp::from_micros));
        let head = count(1)?;
        let types =
            snapshot.query("SELECT type, count(*) FROM es_events GROUP BY type ORDER BY 2 DESC, 1", &[]).await?;
        let types = types.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<_, i64>(1)?.unsigned_abs())));
        let statement = "SELECT c.projection, c.version, c.is_active, coalesce(c.position, 0), count(p.position)
            FROM es_checkpoints c LEFT JOIN es_parked p USING (projection, version)
            GROUP BY c.projection, c.version, c.is_active, c.position ORDER BY 1, 2";
        let projections = snapshot.query(statement, &[]).await?;
        let projections = projections.iter().map(|row| {
            let count = |column| row.try_get::<_, i64>(column).map(i64::unsigned_abs);
            let position = count(3)?;
            Ok(PgProjection {
                id: ProjectionId { name: row.try_get(0)?, version: count(1)? as u32 },
                is_active: row.try_get(2)?,
                position: Position::new(position),
                lag: head.saturating_sub(position),
                parked: count(4)?,
            })
        });
        let statistics = PgStatistics {
            schema: row.try_get(0)?,
            head: Position::new(head),
            events: count(2)?,
            bytes: count(3)?,
            times: time(4)?.zip(time(5)?),
            streams: count(6)?,
            emptied_streams: count(7)?,
            removed: count(8)?,
            types: types.collect::<Result<_, tokio_postgres::Error>>()?,
            tags: count(9)?,
            snapshots: count(10)?,
            projections: projections.collect::<Result<_, tokio_postgres::Error>>()?,
            disk_bytes: count(11)?,
        };
        snapshot.commit().await?;
        lease.end();
        Ok(statistics)
    }
}
