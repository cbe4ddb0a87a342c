//! What is committed is there again, whatever happens to the disk.

mod damage;
mod faults;
mod model;
mod threads;

use std::num::NonZeroU8;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::durable::sim::SimFiles;

const DIR: &str = "/store";
const HEADER: LogHeader = LogHeader { dim: 384, fingerprint: 0x0123_4567_89ab_cdef };
/// Small, so that files grow and buffers fill.
const SIZING: Sizing = Sizing { buffer: 4096, step: 1024 };

/// Kind and body of each record, the first being that of lsn `after + 1`.
type Replayed = Vec<(u8, Vec<u8>)>;

fn open(files: &SimFiles, after: Option<u64>, durability: Durability) -> Result<(Log, LogRecovery, Replayed), Error> {
    let mut replayed = Vec::new();
    let first = after.unwrap_or_default() + 1;
    let dir = Path::new(DIR);
    let files = Arc::new(files.clone());
    let (log, found) = Log::open_sized(files, dir, HEADER, after.map(Lsn), durability, SIZING, &mut |record| {
        assert_eq!(record.lsn.0, first + replayed.len() as u64, "records come in order");
        replayed.push((record.kind, record.body.to_vec()));
        Ok(())
    })?;
    assert_eq!(found.records, replayed.len() as u64);
    Ok((log, found, replayed))
}

/// What record `lsn` holds in these tests.
fn record(lsn: u64) -> (u8, Vec<u8>) {
    let length = (lsn * 7 % 61) as usize;
    (lsn as u8 % 5 + 1, (0..length).map(|at| (lsn as usize * 31 + at) as u8).collect())
}

fn records(range: impl Iterator<Item = u64>) -> Replayed {
    range.map(record).collect()
}

/// Appends the next record, in two parts.
fn append(log: &Log) -> Result<Lsn, Error> {
    let lsn = log.shared.lock().appended.0 + 1;
    let (kind, body) = record(lsn);
    let (left, right) = body.split_at(body.len() / 2);
    let mut room = log.wait_for_room(Log::record_bytes(body.len()))?;
    let given = log.append(&mut room, NonZeroU8::new(kind).expect("never zero"), &[left, right])?;
    assert_eq!(given.0, lsn);
    Ok(given)
}

fn write(log: &Log, count: u64) {
    for _ in 0..count {
        let lsn = append(log).expect("appended");
        log.commit(lsn).expect("committed");
    }
}

#[test]
fn what_is_committed_is_replayed_in_order() {
    for durability in [Durability::Sync, Durability::Buffered, Durability::Interval(Duration::from_millis(1))] {
        let files = SimFiles::default();
        let (log, found, replayed) = open(&files, None, durability).expect("made");
        assert!(replayed.is_empty() && found == LogRecovery::default());
        write(&log, 100);
        drop(log);
        let (log, found, replayed) = open(&files, None, durability).expect("opened");
        assert_eq!(replayed, records(1..101));
        assert_eq!(found.torn, None);
        write(&log, 20);
        drop(log);
        assert_eq!(open(&files, Some(90), durability).expect("opened").2, records(91..121));
    }
}

#[test]
fn opening_changes_no_byte() {
    let files = SimFiles::default();
    let (log, ..) = open(&files, None, Durability::Sync).expect("made");
    write(&log, 30);
    drop(log);
    let before = files.contents();
    drop(open(&files, None, Durability::Sync).expect("opened"));
    assert!(files.contents() == before, "opening writes nothing");
}

#[test]
fn rotated_files_are_forgotten_once_the_snapshot_has_them() {
    let files = SimFiles::default();
    let (log, ..) = open(&files, None, Durability::Sync).expect("made");
    write(&log, 10);
    assert_eq!(log.rotate().expect("rotated"), Lsn(10));
    assert_eq!(log.rotate().expect("nothing to rotate"), Lsn(10));
    write(&log, 10);
    assert_eq!(log.rotate().expect("rotated"), Lsn(20));
    write(&log, 5);
    assert_eq!(files.contents().len(), 3);
    log.forget(Lsn(19)).expect("forgotten");
    assert_eq!(files.contents().len(), 2);
    log.forget(Lsn(25)).expect("forgotten");
    assert_eq!(files.contents().len(), 1);
    drop(log);
    assert_eq!(open(&files, Some(20), Durability::Sync).expect("opened").2, records(21..26));
    assert_eq!(open(&files, Some(23), Durability::Sync).expect("opened").2, records(24..26));
    let missing = open(&files, Some(10), Durability::Sync).expect_err("records 11 to 20 are gone");
    assert!(matches!(missing, Error::Corrupt { .. }), "{missing}");
    let ahead = open(&files, Some(26), Durability::Sync).expect_err("the log ends before the snapshot");
    assert!(matches!(ahead, Error::Corrupt { .. }), "{ahead}");
}

#[test]
fn a_log_that_a_snapshot_needs_is_missed() {
    let missing = open(&SimFiles::default(), Some(0), Durability::Sync).expect_err("there is none");
    assert!(matches!(missing, Error::Corrupt { .. }), "{missing}");
}

#[test]
fn a_log_of_another_store_is_refused() {
    let files = SimFiles::default();
    drop(open(&files, None, Durability::Sync).expect("made"));
    for header in [LogHeader { dim: 3, ..HEADER }, LogHeader { fingerprint: 0, ..HEADER }] {
        let opened =
            Log::open(Arc::new(files.clone()), Path::new(DIR), header, None, Durability::Sync, &mut |_| Ok(()));
        assert!(matches!(opened, Err(Error::Incompatible { .. })));
    }
}

#[test]
fn a_record_larger_than_the_buffer_is_taken_when_it_is_empty() {
    let files = SimFiles::default();
    let (log, ..) = open(&files, None, Durability::Sync).expect("made");
    write(&log, 1);
    let body = vec![7; 5 * SIZING.buffer];
    let mut room = log.wait_for_room(Log::record_bytes(body.len())).expect("room");
    let lsn = log.append(&mut room, NonZeroU8::MIN, &[&body]).expect("appended");
    drop(room);
    log.commit(lsn).expect("committed");
    drop(log);
    assert_eq!(open(&files, None, Durability::Sync).expect("opened").2[1], (1, body));
}

#[test]
fn room_that_is_not_used_is_given_back() {
    let files = SimFiles::default();
    let (log, ..) = open(&files, None, Durability::Buffered).expect("made");
    for _ in 0..10 {
        drop(log.wait_for_room(SIZING.buffer).expect("room"));
    }
    let mut room = log.wait_for_room(30).expect("room");
    log.append(&mut room, NonZeroU8::MIN, &[&[1; 500]]).expect("more than the room is taken all the same");
    drop(room);
    assert_eq!(log.shared.lock().reserved, 0);
}
