//! Many who commit, and a leader who fails them.

use std::sync::Barrier;
use std::thread;

use super::*;
use crate::durable::sim::Fault;

#[test]
fn commits_of_many_threads_share_their_syncs() {
    const THREADS: u64 = 8;
    const COMMITS: u64 = 200;
    let files = SimFiles::default();
    files.slow_down(Duration::from_micros(100));
    let (log, ..) = open(&files, None, Durability::Sync).expect("made");
    let before = files.syncs();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || {
                for commit in 0..COMMITS {
                    let body = (thread * COMMITS + commit).to_le_bytes();
                    let mut room = log.wait_for_room(Log::record_bytes(8)).expect("room");
                    let lsn = log.append(&mut room, NonZeroU8::MIN, &[&body]).expect("appended");
                    drop(room);
                    log.commit(lsn).expect("committed");
                }
            });
        }
    });
    let syncs = files.syncs() - before;
    assert!(syncs < THREADS * COMMITS / 2, "{syncs} syncs");
    files.power_off();
    drop(log);
    files.crash(1);
    let (_, _, replayed) = open(&files, None, Durability::Sync).expect("opened");
    let mut bodies: Vec<u64> =
        replayed.iter().map(|(_, body)| u64::from_le_bytes(*body.first_chunk().expect("eight bytes"))).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, (0..THREADS * COMMITS).collect::<Vec<_>>());
}

#[test]
fn a_full_buffer_makes_those_wait_who_want_room_and_nobody_else() {
    for durability in [Durability::Buffered, Durability::Sync] {
        let files = SimFiles::default();
        files.slow_down(Duration::from_micros(50));
        let (log, ..) = open(&files, None, durability).expect("made");
        thread::scope(|scope| {
            for _ in 0..4 {
                let log = &log;
                scope.spawn(move || {
                    for _ in 0..100 {
                        let mut room = log.wait_for_room(1000).expect("room");
                        let lsn = log.append(&mut room, NonZeroU8::MIN, &[&[1; 900]]).expect("appended");
                        drop(room);
                        log.commit(lsn).expect("committed");
                        assert!(log.shared.lock().buffer.capacity() <= SIZING.buffer);
                    }
                });
            }
        });
        drop(log);
        assert_eq!(open(&files, None, durability).expect("opened").2.len(), 400);
    }
}

/// Appends go on while a new file is made, and none gets lost between the two.
#[test]
fn rotation_beside_writers_keeps_every_record() {
    let files = SimFiles::default();
    let (log, ..) = open(&files, None, Durability::Sync).expect("made");
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let mut room = log.wait_for_room(100).expect("room");
                    let lsn = log.append(&mut room, NonZeroU8::MIN, &[b"x"]).expect("appended");
                    drop(room);
                    log.commit(lsn).expect("committed");
                }
            });
        }
        for _ in 0..20 {
            log.rotate().expect("rotated");
            thread::yield_now();
        }
    });
    files.power_off();
    drop(log);
    files.crash(3);
    assert_eq!(open(&files, None, Durability::Sync).expect("opened").2.len(), 300);
}

#[test]
fn a_leader_that_panics_fails_the_others_and_hangs_nobody() {
    for fault_at in 0..2 {
        let files = SimFiles::default();
        files.slow_down(Duration::from_millis(5));
        let (log, ..) = open(&files, None, Durability::Sync).expect("made");
        let barrier = Barrier::new(4);
        files.fail_at(fault_at, Fault::Panic, 0);
        let results: Vec<_> = thread::scope(|scope| {
            let handles: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut room = log.wait_for_room(100).expect("room");
                        let lsn = log.append(&mut room, NonZeroU8::MIN, &[b"x"]).expect("appended");
                        drop(room);
                        barrier.wait();
                        log.commit(lsn)
                    })
                })
                .collect();
            handles.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1, "one panicked");
        for result in results.into_iter().flatten() {
            assert!(matches!(result, Err(Error::Io { outcome: Outcome::Unknown, .. })));
        }
        assert!(matches!(append(&log), Err(Error::LogFailed)));
        drop(log);
    }
}

#[test]
fn the_background_writes_and_syncs_by_itself() {
    let files = SimFiles::default();
    let (log, ..) = open(&files, None, Durability::Interval(Duration::from_millis(20))).expect("made");
    let lsn = append(&log).expect("appended");
    log.commit(lsn).expect("taken");
    let deadline = Instant::now() + Duration::from_secs(10);
    while log.shared.lock().durable < lsn {
        assert!(Instant::now() < deadline, "nothing was synced");
        thread::sleep(Duration::from_millis(1));
    }
    files.power_off();
    drop(log);
    files.crash(0);
    assert_eq!(open(&files, None, Durability::Buffered).expect("opened").2, records(1..2));
}

#[test]
fn the_background_tells_of_its_failure() {
    let files = SimFiles::default();
    let (log, ..) = open(&files, None, Durability::Buffered).expect("made");
    files.fail_at(0, Fault::Refuse, 0);
    let lsn = append(&log).expect("appended");
    log.commit(lsn).expect("taken");
    let deadline = Instant::now() + Duration::from_secs(10);
    while append(&log).is_ok() {
        assert!(Instant::now() < deadline, "the failure was not noticed");
        thread::sleep(Duration::from_millis(1));
    }
    assert!(matches!(log.commit(lsn), Err(Error::Io { outcome: Outcome::Unknown, .. })));
    assert!(log.sync().is_err());
}
