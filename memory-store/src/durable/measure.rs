//! What the durability layer costs on this machine. Not a proof of anything, so it runs on demand only:
//! `cargo test --release -p memory-store measure -- --ignored --nocapture --test-threads 1`. `PLUMBLINE_MEASURE_DIR` chooses the disk.

use std::num::NonZeroU8;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::Durability;
use super::files::{Files as _, OsFiles};
use super::log::{Log, LogHeader};
use super::sections::{SectionFile, SectionHeader, SectionWriter};

/// A vector of 384 dimensions and a short payload.
const BODY: usize = 1600;

fn directory() -> tempfile::TempDir {
    match std::env::var_os("PLUMBLINE_MEASURE_DIR") {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }
    .expect("a directory")
}

fn open(dir: &Path, durability: Durability) -> (Log, u64) {
    let header = LogHeader { dim: 384, fingerprint: 1 };
    let (log, found) = Log::open(Arc::new(OsFiles), dir, header, None, durability, &mut |_| Ok(())).expect("opened");
    (log, found.records)
}

fn append(log: &Log, body: &[u8]) -> super::Lsn {
    let mut room = log.wait_for_room(Log::record_bytes(body.len())).expect("room");
    log.append(&mut room, NonZeroU8::MIN, &[body]).expect("appended")
}

fn told(what: &str, count: u32, took: Duration) {
    eprintln!("{what}: {:.0}/s, {:?} each", f64::from(count) / took.as_secs_f64(), took / count);
}

#[test]
#[ignore = "measures"]
fn measure_commits_beside_bare_syncs() {
    const COUNT: u32 = 3000;
    let body = vec![7; BODY];
    for _ in 0..2 {
        let dir = directory();
        let file = OsFiles.create(&dir.path().join("bare")).expect("created");
        file.allocate(16 << 20).expect("allocated");
        file.sync_data().expect("synced");
        let begin = Instant::now();
        for at in 0..COUNT {
            file.write_at(&body, u64::from(at) * BODY as u64).expect("written");
            file.sync_data().expect("synced");
        }
        told("bare write and fdatasync, one thread", COUNT, begin.elapsed());

        for threads in [1, 8] {
            let dir = directory();
            let (log, _) = open(dir.path(), Durability::Sync);
            let begin = Instant::now();
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        for _ in 0..COUNT {
                            let lsn = append(&log, &body);
                            log.commit(lsn).expect("committed");
                        }
                    });
                }
            });
            told(&format!("append and commit, {threads} threads"), COUNT * threads, begin.elapsed());
        }
    }
}

#[test]
#[ignore = "measures"]
fn measure_batches_buffered_appends_and_replay() {
    const COUNT: u32 = 400_000;
    let body = vec![7; BODY];
    let dir = directory();
    let (log, _) = open(dir.path(), Durability::Sync);
    let begin = Instant::now();
    for _ in 0..COUNT / 64 {
        let mut last = None;
        for _ in 0..64 {
            last = Some(append(&log, &body));
        }
        log.commit(last.expect("64 of them")).expect("committed");
    }
    told("append, one synced commit for 64, one thread", COUNT / 64 * 64, begin.elapsed());
    drop(log);

    // What fits into the buffer: the cost of the append itself.
    let dir = directory();
    let (log, _) = open(dir.path(), Durability::Buffered);
    for round in 0..5 {
        let begin = Instant::now();
        for _ in 0..1000 {
            append(&log, &body);
        }
        told(&format!("append alone, round {round}"), 1000, begin.elapsed());
        log.sync().expect("synced");
    }
    let begin = Instant::now();
    for _ in 0..COUNT {
        let lsn = append(&log, &body);
        log.commit(lsn).expect("taken");
    }
    told("append and buffered commit, sustained", COUNT, begin.elapsed());
    drop(log);
    let begin = Instant::now();
    let (_, records) = open(dir.path(), Durability::Buffered);
    told("replay", records as u32, begin.elapsed());
}

#[test]
#[ignore = "measures"]
fn measure_the_check_of_a_section_file() {
    const BYTES: usize = 500 << 20;
    let dir = directory();
    let header = SectionHeader { kind: 1, dim: 384, fingerprint: 1 };
    let name = "rows.sections";
    let begin = Instant::now();
    let mut writer = SectionWriter::create(Arc::new(OsFiles), dir.path(), name, &header).expect("created");
    writer.section(1, &vec![7; BYTES]).expect("written");
    writer.finish().expect("finished");
    eprintln!("500 MiB written and synced in {:?}", begin.elapsed());
    for threads in [1, 1, 2, 2] {
        let begin = Instant::now();
        let file = SectionFile::open(dir.path(), name, &header, threads).expect("opened");
        let took = begin.elapsed();
        assert_eq!(file.section(1).expect("there").len(), BYTES);
        eprintln!(
            "500 MiB checked on {threads} threads in {took:?}, {:.1} GB/s",
            BYTES as f64 / took.as_secs_f64() / 1e9
        );
    }
}
