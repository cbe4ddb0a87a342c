//! Whether the tables say one and the same thing.

use std::future::poll_fn;
use std::pin::pin;

use futures_core::Stream as _;

use super::call::position_at;
use super::read::PgRead;
use super::{PgError, PostgresStore};
use crate::error::describe;
use crate::event::Position;
use crate::read::Read;

/// What must hold, and a query for what speaks against it: rows of one text.
const RULES: &[(&str, &str)] = &[
    ("the head is one row", "SELECT format('%s rows', count(*)) FROM es_head HAVING count(*) <> 1"),
    (
        "positions are from 1 to the head",
        "SELECT format('position %s, the head is at %s', e.position, h.position) FROM es_events e, es_head h
            WHERE e.position < 1 OR e.position > h.position ORDER BY e.position",
    ),
    (
        "every position is of an event or of a removed one",
        "SELECT format('the head is at %s; %s events, %s removed ones', h.position, e.some, s.removed) FROM es_head h,
            (SELECT count(*) AS some FROM es_events) e, (SELECT coalesce(sum(first_version), 0) AS removed FROM es_truncated) s
            WHERE h.position <> e.some + s.removed",
    ),
    (
        "versions of a stream are dense",
        "SELECT format('stream %s: versions %s to %s, %s different ones of %s events; it should have begun at %s', e.stream, e.first, e.last,
                e.different, e.some, coalesce(t.first_version, 0))
            FROM (SELECT stream, min(version) AS first, max(version) AS last, count(*) AS some, count(DISTINCT version) AS different
                FROM es_events WHERE stream IS NOT NULL GROUP BY stream) e LEFT JOIN es_truncated t USING (stream)
            WHERE (e.first, e.last + 1 - e.first, e.some) IS DISTINCT FROM (coalesce(t.first_version, 0), e.different, e.different)
            ORDER BY e.stream",
    ),
    (
        "an event has a stream and a version, or neither",
        "SELECT format('position %s', position) FROM es_events WHERE (stream IS NULL) <> (version IS NULL) ORDER BY position",
    ),
    (
        "versions ascend with positions",
        "SELECT format('stream %s: version %s stands at position %s, the version before at %s', stream, version, position, before)
            FROM (SELECT stream, version, position, lag(position) OVER (PARTITION BY stream ORDER BY version) AS before
                FROM es_events WHERE stream IS NOT NULL) ordered WHERE before >= position ORDER BY position",
    ),
    (
        "ids are unique",
        "SELECT format('id %s: %s events, the first at position %s', event_id, count(*), min(position)) FROM es_events
            GROUP BY event_id HAVING count(*) > 1 ORDER BY min(position)",
    ),
    (
        "each tag of an event is in the index of tags",
        "SELECT format('tag %s of the event at position %s', tag, position) FROM
            (SELECT t.tag COLLATE \"C\" AS tag, e.position FROM es_events e, unnest(string_to_array(e.tags, E'\\x1f')) AS t(tag)
                EXCEPT SELECT tag, position FROM es_tags) missing ORDER BY position, tag",
    ),
    (
        "each entry of the index of tags is of an event",
        "SELECT format('tag %s at position %s', tag, position) FROM
            (SELECT tag, position FROM es_tags
                EXCEPT SELECT t.tag COLLATE \"C\", e.position FROM es_events e, unnest(string_to_array(e.tags, E'\\x1f')) AS t(tag)) excess
            ORDER BY position, tag",
    ),
    (
        "a snapshot is of a stream with events, and of a version that it has had",
        "SELECT format('stream %s: a snapshot of version %s, the last is %s', n.stream, n.version, e.last)
            FROM es_snapshots n CROSS JOIN LATERAL (SELECT max(version) AS last FROM es_events WHERE stream = n.stream) e
            WHERE n.version < 0 OR e.last IS NULL OR n.version > e.last ORDER BY n.stream",
    ),
    (
        "projections have come no further than the head",
        "SELECT format('%s, version %s: position %s, the head is at %s', c.projection, c.version, c.position, h.position)
            FROM (SELECT projection, version, position FROM es_checkpoints UNION ALL SELECT projection, version, position FROM es_parked) c,
                es_head h WHERE c.position > h.position OR c.position < 1 ORDER BY c.projection, c.version, c.position",
    ),
];

/// Exceptions that a rule is reported with at most.
const EXAMPLES: i64 = 10;

/// The rule that what is stored can be read.
const READABLE: &str = "every event can be read";

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PgVerification {
    /// Events that were read.
    pub events: u64,
    /// Bytes of their payload and metadata.
    pub bytes: u64,
    /// The last position at the moment of which the rules were judged.
    pub head: Option<Position>,
    /// The rules that do not hold; none in a store that is whole.
    pub faults: Vec<PgFault>,
}

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PgFault {
    /// What should hold.
    pub rule: &'static str,
    /// How many exceptions there are.
    pub count: u64,
    /// The first ten of them.
    pub examples: Vec<String>,
}

impl PostgresStore {
    /// Goes over all tables: each position up to the head is of one event or of a removed one; versions of a stream are dense and ascend
    /// with positions; ids are unique; the index of tags has what events carry, and no more; snapshots and projections are not ahead of their
    /// events; and every event can be read, up to the first that cannot. What is committed meanwhile does not disturb it, nor it that.
    ///
    /// Cost: the rules are judged by the server as of one moment, in time and temporary space in proportion to the events, and then the events are
    /// read once. There is no time-out. Holds a page of events.
    ///
    /// # Cancellation
    /// Dropping the future ends the server's work, too. Nothing is changed.
    ///
    /// # Errors
    /// [`PgError`]: it could not be found out. What is wrong with the store is no error but a fault.
    pub async fn verify(&self) -> Result<PgVerification, PgError> {
        let mut faults = Vec::new();
        let mut lease = self.shared.lessor.lease().await.map_err(PgError::Pool)?;
        let snapshot = lease.snapshot().await?;
        for (rule, exceptions) in RULES {
            let statement =
                format!("SELECT fault, count(*) OVER () FROM ({exceptions}) AS faults(fault) LIMIT {EXAMPLES}");
            let rows = snapshot.query(&statement, &[]).await?;
            if let Some(row) = rows.first() {
                let count: i64 = row.try_get(1)?;
                let examples = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
                faults.push(PgFault { rule, count: count.unsigned_abs(), examples });
            }
        }
        let head: Option<i64> = snapshot.query_one("SELECT max(position) FROM es_head", &[]).await?.try_get(0)?;
        let head = head.and_then(position_at);
        snapshot.commit().await?;
        lease.end();
        drop(lease);

        let (mut events, mut bytes, mut last) = (0, 0, None);
        let mut reading = pin!(PgRead::new(self.shared.clone(), Read::all()));
        while let Some(event) = poll_fn(|context| reading.as_mut().poll_next(context)).await {
            match event {
                Ok(event) => {
                    events += 1;
                    bytes += (event.payload().len() + event.metadata().len()) as u64;
                    last = Some(event.position());
                }
                Err(error) => {
                    let behind = last.map_or_else(String::new, |last| format!("behind position {last}: "));
                    let example = format!("{behind}{}", describe(&error));
                    faults.push(PgFault { rule: READABLE, count: 1, examples: vec![example] });
                }
            }
        }
        Ok(PgVerification { events, bytes, head, faults })
    }
}
