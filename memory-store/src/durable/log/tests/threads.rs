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

/// A thread that unwinds for a reason of its own writes in a destructor: that is no failure of the log.
#[test]
fn a_write_while_its_thread_unwinds_is_a_write() {
    struct Last<'a>(&'a Log);
    impl Drop for Last<'_> {
        fn drop(&mut self) {
            write(self.0, 1);
        }
    }
    for durability in [Durability::Sync, Durability::Buffered] {
        let files = SimFiles::default();
        let (log, ..) = open(&files, None, durability).expect("made");
        let unwound = thread::scope(|scope| {
            let unwinding = scope.spawn(|| {
                let _last = Last(&log);
                std::panic::resume_unwind(Box::new("not of the log"));
            });
            unwinding.join()
        });
        unwound.expect_err("it panicked");
        write(&log, 1);
        assert_eq!(log.sync().expect("nothing has failed"), Lsn(2));
    }
}

/// Whoever has used all of its room gives word too: who waits for more than there is may write what is buffered by then.
#[test]
fn one_who_waits_for_room_need_not_wait_for_a_commit() {
    let files = SimFiles::default();
    let log = Arc::new(open(&files, None, Durability::Buffered).expect("made").0);
    let mut room = log.wait_for_room(Log::record_bytes(record(1).1.len())).expect("room");
    let waiting = {
        let log = Arc::clone(&log);
        thread::spawn(move || log.wait_for_room(SIZING.buffer).map(drop))
    };
    until("nobody waits", || log.shared.lock().waiting == 1);
    log.append(&mut room, NonZeroU8::MIN, &[&record(1).1]).expect("appended");
    drop(room);
    until("it waits for ever", || waiting.is_finished());
    waiting.join().expect("no panic").expect("room");
}

/// Waits for what the background, or another thread, is to do.
#[track_caller]
fn until(otherwise: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{otherwise}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Who finds the buffer full writes it, and with it records whose commit is still to come. They are synced all the same.
#[test]
fn what_another_has_written_is_synced_in_the_interval_too() {
    let files = SimFiles::default();
    let (log, ..) = open(&files, None, Durability::Interval(Duration::from_millis(5))).expect("made");
    until("the flusher has work", || log.shared.lock().flusher == Flusher::Idle);
    let lsn = append(&log).expect("appended");
    drop(log.wait_for_room(SIZING.buffer).expect("room"));
    assert_eq!(log.shared.lock().written, lsn);
    log.commit(lsn).expect("taken");
    until("it is never synced", || log.shared.lock().durable == lsn);
    files.power_off();
    drop(log);
    files.crash(0);
    assert_eq!(open(&files, None, Durability::Buffered).expect("opened").2, records(1..2));
}

/// However long until the next sync, and however the buffer is emptied meanwhile: some time later all is on disk.
#[test]
fn after_some_quiet_an_interval_leaves_nothing_to_lose() {
    for seed in 0..20 {
        let files = SimFiles::default();
        files.slow_down(Duration::from_micros(500));
        let (log, ..) = open(&files, None, Durability::Interval(Duration::from_millis(1))).expect("made");
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..rng.u64(1..400) {
            let lsn = append(&log).expect("appended");
            if rng.usize(..20) == 0 {
                drop(log.wait_for_room(SIZING.buffer).expect("room"));
            }
            log.commit(lsn).expect("taken");
            if rng.usize(..100) == 0 {
                thread::sleep(Duration::from_micros(rng.u64(..1500)));
            }
        }
        let last = log.appended();
        until(&format!("seed {seed}: something is never synced"), || log.shared.lock().durable == last);
        files.power_off();
        drop(log);
        files.crash(seed);
        assert_eq!(open(&files, None, Durability::Buffered).expect("opened").2, records(1..last.0 + 1));
    }
}

/// What comes while all waits for the next sync is handed to the operating system as soon as ever.
#[test]
fn a_long_interval_keeps_nothing_from_the_operating_system() {
    let files = SimFiles::default();
    let (log, ..) = open(&files, None, Durability::Interval(Duration::from_secs(3600))).expect("made");
    for lsn in 1..4 {
        write(&log, 1);
        until("it stays in memory", || log.shared.lock().written == Lsn(lsn));
        until("the flusher writes", || log.shared.lock().flusher != Flusher::Busy);
    }
    assert_eq!(log.shared.lock().durable, Lsn(0));
}

#[test]
fn the_background_writes_and_syncs_by_itself() {
    let files = SimFiles::default();
    let (log, ..) = open(&files, None, Durability::Interval(Duration::from_millis(20))).expect("made");
    let lsn = append(&log).expect("appended");
    log.commit(lsn).expect("taken");
    until("nothing was synced", || log.shared.lock().durable == lsn);
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
    until("the failure was not noticed", || append(&log).is_err());
    assert!(matches!(log.commit(lsn), Err(Error::Io { outcome: Outcome::Unknown, .. })));
    assert!(log.sync().is_err());
}
