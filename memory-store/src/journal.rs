//! What is written down of each change, so that it survives.

use std::num::NonZeroU8;

use crate::clock::Timestamp;
use crate::durable::Lsn;
use crate::durable::log::{Log, Record, Room};
use crate::error::Error;
use crate::segment::Standing;

const ROW: NonZeroU8 = NonZeroU8::new(1).unwrap();
const STANDING: NonZeroU8 = NonZeroU8::new(2).unwrap();
const REMOVE: NonZeroU8 = NonZeroU8::new(3).unwrap();

/// Bytes of a row's record before its vector.
const ROW_BYTES: usize = 54;
const STANDING_BYTES: usize = 29;

/// Where a change writes down what it does, before it does it. A store in memory has one that forgets.
#[derive(Debug)]
pub(crate) struct Journal<'a> {
    log: Option<(&'a Log, Room<'a>)>,
    last: Option<Lsn>,
}

/// A row as it is written down: a new memory, or one that was revised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RowRecord<'a> {
    pub(crate) id: u64,
    pub(crate) first_seen: Timestamp,
    pub(crate) last_seen: Timestamp,
    pub(crate) recurrence: u32,
    pub(crate) importance: f32,
    pub(crate) weight: f32,
    pub(crate) class: u8,
    pub(crate) pinned: bool,
    pub(crate) payload_bytes: u32,
    pub(crate) incident: &'a str,
    pub(crate) payload: &'a [u8],
}

/// What a record says.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    /// A row of this vector stands for its id from here on. The vector may lie at any address.
    Row(RowRecord<'a>, &'a [u8]),
    /// The memory of an id counts for this from here on, and belongs to this incident, unless that is empty: then it stays where it is.
    Standing { id: u64, last_seen: Timestamp, standing: Standing, pinned: bool, incident: &'a str },
    /// These are gone: eight bytes each.
    Remove(&'a [u8]),
}

impl<'a> Journal<'a> {
    pub(crate) fn none() -> Self {
        Self { log: None, last: None }
    }

    /// Keeps room for records whose bodies have up to `bytes` bytes, which may take a while.
    pub(crate) fn of(log: &'a Log, bytes: usize) -> Result<Self, Error> {
        // Each change may evict, which is a record more.
        Ok(Self { log: Some((log, log.wait_for_room(Log::record_bytes(bytes) + 64)?)), last: None })
    }

    /// The last record that was written down.
    pub(crate) fn last(&self) -> Option<Lsn> {
        self.last
    }

    /// Room for a row with so much of its own.
    pub(crate) fn row_bytes(dimensions: usize, incident: Option<&str>, payload: usize) -> usize {
        ROW_BYTES + dimensions * 4 + incident.map_or(0, str::len) + payload
    }

    /// Room for a change of what a memory counts for, beside the name of its incident.
    pub(crate) const STANDING_BYTES: usize = STANDING_BYTES;

    pub(crate) fn row(&mut self, row: &RowRecord<'_>, vector: &[f32]) -> Result<(), Error> {
        if self.log.is_none() {
            return Ok(());
        }
        let mut head = [0u8; ROW_BYTES];
        head[..8].copy_from_slice(&row.id.to_le_bytes());
        head[8..16].copy_from_slice(&row.first_seen.0.to_le_bytes());
        head[16..24].copy_from_slice(&row.last_seen.0.to_le_bytes());
        head[24..28].copy_from_slice(&row.recurrence.to_le_bytes());
        head[28..32].copy_from_slice(&row.importance.to_bits().to_le_bytes());
        head[32..36].copy_from_slice(&row.weight.to_bits().to_le_bytes());
        head[36] = row.class;
        head[37] = u8::from(row.pinned);
        head[38..42].copy_from_slice(&row.payload_bytes.to_le_bytes());
        head[42..46].copy_from_slice(&(row.incident.len() as u32).to_le_bytes());
        head[46..54].copy_from_slice(&(row.payload.len() as u64).to_le_bytes());
        self.append(ROW, &[&head, row.incident.as_bytes(), row.payload, bytemuck::cast_slice(vector)])
    }

    pub(crate) fn standing(
        &mut self,
        id: u64,
        last_seen: Timestamp,
        standing: &Standing,
        pinned: bool,
        incident: &str,
    ) -> Result<(), Error> {
        let mut body = [0u8; STANDING_BYTES];
        body[..8].copy_from_slice(&id.to_le_bytes());
        body[8..16].copy_from_slice(&last_seen.0.to_le_bytes());
        body[16..20].copy_from_slice(&standing.recurrence.to_le_bytes());
        body[20..24].copy_from_slice(&standing.importance.to_bits().to_le_bytes());
        body[24..28].copy_from_slice(&standing.weight.to_bits().to_le_bytes());
        body[28] = standing.class | u8::from(pinned) << 2;
        self.append(STANDING, &[&body, incident.as_bytes()])
    }

    /// After [`Outcome::Unknown`](crate::Outcome::Unknown) some of them were written down.
    pub(crate) fn remove(&mut self, ids: &[u64]) -> Result<(), Error> {
        // A record has a longest length, which a prune of very many memories exceeds.
        ids.chunks(1 << 20).try_for_each(|ids| self.append(REMOVE, &[bytemuck::cast_slice(ids)]))
    }

    fn append(&mut self, kind: NonZeroU8, parts: &[&[u8]]) -> Result<(), Error> {
        if let Some((log, room)) = &mut self.log {
            self.last = Some(match log.append(room, kind, parts) {
                // A part of the change was written down before, and may survive.
                Err(Error::LogFailed) if self.last.is_some() => return Err(log.failure()),
                appended => appended?,
            });
        }
        Ok(())
    }
}

impl<'a> Change<'a> {
    /// Reads a record. What its checksum holds together may still be of another store.
    pub(crate) fn decode(record: &Record<'a>, dimensions: usize) -> Result<Self, Error> {
        let body = record.body;
        let found = match NonZeroU8::new(record.kind) {
            Some(ROW) => row(body, dimensions),
            Some(STANDING) => standing(body),
            Some(REMOVE) => body.len().is_multiple_of(8).then_some(Self::Remove(body)),
            _ => None,
        };
        found.ok_or_else(|| {
            let reason = format!("record {} is none of a memory store", record.lsn);
            Error::corrupt(record.file, record.offset, reason)
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn row(body: &[u8], dimensions: usize) -> Option<Change<'_>> {
    let incident_length = u32_at(body, 42)? as usize;
    let payload_length = usize::try_from(u64_at(body, 46)?).ok()?;
    let (incident, rest) = body.get(ROW_BYTES..)?.split_at_checked(incident_length)?;
    let (payload, vector) = rest.split_at_checked(payload_length)?;
    let row = RowRecord {
        id: u64_at(body, 0)?,
        first_seen: Timestamp(u64_at(body, 8)? as i64),
        last_seen: Timestamp(u64_at(body, 16)? as i64),
        recurrence: u32_at(body, 24)?,
        importance: f32::from_bits(u32_at(body, 28)?),
        weight: f32::from_bits(u32_at(body, 32)?),
        class: body[36],
        pinned: body[37] != 0,
        payload_bytes: u32_at(body, 38)?,
        incident: std::str::from_utf8(incident).ok()?,
        payload,
    };
    let is_good = row.id > 0 && row.class < 4 && is_weight(row.importance, row.weight);
    (is_good && vector.len() == dimensions * 4).then_some(Change::Row(row, vector))
}

fn standing(body: &[u8]) -> Option<Change<'_>> {
    let (body, incident) = body.split_at_checked(STANDING_BYTES)?;
    let incident = std::str::from_utf8(incident).ok()?;
    let last_seen = Timestamp(u64_at(body, 8)? as i64);
    let traits = body[28];
    let standing = Standing {
        seen: last_seen,
        recurrence: u32_at(body, 16)?,
        importance: f32::from_bits(u32_at(body, 20)?),
        weight: f32::from_bits(u32_at(body, 24)?),
        class: traits & 3,
    };
    let (id, pinned) = (u64_at(body, 0)?, traits & 4 != 0);
    let is_good = traits < 8 && is_weight(standing.importance, standing.weight);
    is_good.then_some(Change::Standing { id, last_seen, standing, pinned, incident })
}

/// Whether these can be the importance and the weight of a memory.
pub(crate) fn is_weight(importance: f32, weight: f32) -> bool {
    (0.0..=1.0).contains(&importance) && importance.is_sign_positive() && weight > 0.0 && weight.is_finite()
}
