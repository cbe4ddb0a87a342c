//! Files that were cut, changed, lost, or that the disk refuses: a typed error that leaves them as they are, or what was acknowledged.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use memory_store::{
    Config, Dedup, Durability, Error, ManualClock, Memory, MemoryId, MemoryStore, MergePolicy, Outcome, Prune, Query,
    Recovery, RetentionClass, Timestamp, Update, ZeroVectors,
};

type Store = MemoryStore<String, ManualClock>;
type Files = BTreeMap<PathBuf, Vec<u8>>;

const DIMENSIONS: usize = 4;
/// Bytes of a log's header.
const LOG_HEADER: u64 = 44;

/// `EVERY_BYTE=1` damages each; by default it is one in seven.
fn stride() -> usize {
    if std::env::var_os("EVERY_BYTE").is_some() { 1 } else { 7 }
}

fn config() -> Config {
    let dedup = Dedup { threshold: 0.99, merge: MergePolicy::KeepLatest, ..Dedup::default() };
    Config::builder(DIMENSIONS).dedup(dedup).build().expect("a configuration")
}

fn open(dir: &Path, durability: Durability) -> Result<(Store, Recovery), Error> {
    Store::open_with(dir, config(), durability, ManualClock::default())
}

fn contents(store: &Store) -> Vec<String> {
    let all = store.replay(..).expect("a range");
    let memories = all.iter().map(|memory| format!("{memory:?} {:?}", store.vector(memory.id)));
    let hits = store.retrieve(&Query::new(&[0.5, -0.5, 0.25, 1.0], 5).at(Timestamp(1 << 40))).expect("an answer").hits;
    let hits = hits.iter().map(|hit| format!("{:?} {}", hit.id, hit.score));
    memories.chain(hits).collect()
}

fn files(dir: &Path) -> Files {
    let entries = fs::read_dir(dir).expect("listed").map(|entry| entry.expect("an entry").path());
    entries.map(|path| (path.clone(), fs::read(path).expect("read"))).collect()
}

fn write(store: &Store, number: u64, vector: &[f32]) -> MemoryId {
    let class = RetentionClass::ALL[number as usize % 3];
    let memory = Memory::new(vector, format!("payload {number}")).at(Timestamp(number as i64)).class(class);
    store.write(memory.incident(["storm", "outage"][number as usize % 2])).expect("written").id()
}

fn insert(store: &Store, number: u64) -> MemoryId {
    let mut rng = fastrand::Rng::with_seed(number);
    let vector: [f32; DIMENSIONS] = std::array::from_fn(|_| rng.f32() - 0.5);
    write(store, number, &vector)
}

/// One record, by which the contents become others than ever before.
fn step(store: &Store, number: u64) {
    let first = store.replay(..).expect("a range").first().map(|memory| memory.id);
    match (number % 10, first) {
        (3, Some(id)) => assert!(store.update(id, Update::new().payload("other".to_owned(), 5)).expect("updated")),
        (5, Some(id)) => {
            let vector = store.vector(id).expect("a vector");
            assert_eq!(write(store, number, &vector), id, "merged");
        }
        (6, Some(id)) => assert!(store.boost(id, 1.5).expect("boosted")),
        (8, Some(id)) => assert!(store.remove(id).expect("removed")),
        (9, Some(_)) => {
            let at = Timestamp(number as i64);
            let report = store.prune(Prune::new().older_than(Duration::from_micros(6)).at(at)).expect("pruned");
            assert!(report.removed > 0 && report.remaining > 0);
        }
        _ => drop(insert(store, number)),
    }
}

/// A directory, and what its store held after each record of its log.
struct Written {
    dir: tempfile::TempDir,
    files: Files,
    states: Vec<Vec<String>>,
    log: PathBuf,
    /// Where the log's records end.
    end: u64,
}

impl Written {
    fn new(durability: Durability, lives: u64) -> Self {
        let (dir, store, states) = Self::filled(durability, lives);
        drop(store);
        Self::of(dir, states)
    }

    /// As the end of the process leaves a store that does not sync: with all records, and nothing behind them.
    fn interrupted() -> Self {
        let (from, store, states) = Self::filled(Durability::Buffered, 0);
        let dir = loop {
            let dir = tempfile::tempdir().expect("a directory");
            for (path, bytes) in files(from.path()) {
                fs::write(dir.path().join(path.file_name().expect("a name")), bytes).expect("written");
            }
            if open(dir.path(), Durability::Buffered).expect("as it is").1.replayed == 20 {
                break dir;
            }
            thread::sleep(Duration::from_millis(10));
        };
        drop(store);
        Self::of(dir, states)
    }

    fn filled(durability: Durability, lives: u64) -> (tempfile::TempDir, Store, Vec<Vec<String>>) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut number = 1;
        for _ in 0..lives {
            let (store, _) = open(dir.path(), durability).expect("a good directory");
            // Nothing is removed, so that each life leaves a segment.
            for _ in 0..5 {
                insert(&store, number);
                number += 1;
            }
            store.snapshot().expect("a snapshot");
        }
        let (store, _) = open(dir.path(), durability).expect("a good directory");
        let mut states = vec![contents(&store)];
        for _ in 0..20 {
            step(&store, number);
            number += 1;
            let now = contents(&store);
            assert!(!states.contains(&now), "each state is known by its contents");
            states.push(now);
        }
        (dir, store, states)
    }

    fn of(dir: tempfile::TempDir, states: Vec<Vec<String>>) -> Self {
        let files = files(dir.path());
        let is_log = |path: &&PathBuf| path.extension().is_some_and(|ending| ending == "wal");
        let log = files.keys().find(is_log).expect("a log").clone();
        let end = files[&log].iter().rposition(|&byte| byte != 0).expect("records") as u64 + 1;
        Self { dir, files, states, log, end }
    }

    fn open(&self) -> Result<(Store, Recovery), Error> {
        open(self.dir.path(), Durability::Buffered)
    }

    /// Opens the damaged directory. Either an error that names `damaged`, or a store: then how many records it has.
    fn check(&self, damaged: &Path, size: u64, what: &str) -> Option<usize> {
        let before = files(self.dir.path());
        let opened = self.open();
        let found = match &opened {
            Ok((store, recovery)) => {
                let now = contents(store);
                let found = self.states.iter().rposition(|state| *state == now);
                let found = found.unwrap_or_else(|| panic!("{what}: what was never there, {recovery:?}: {now:#?}"));
                if found + 1 < self.states.len() {
                    let torn = recovery.torn.as_ref().unwrap_or_else(|| panic!("{what}: nothing said of a loss"));
                    assert!(torn.file == damaged && torn.offset >= LOG_HEADER, "{what}: {torn:?}");
                }
                Some(found)
            }
            Err(Error::Corrupt { file, offset, .. }) => {
                let most = size.max(self.files[damaged].len() as u64);
                assert!(file == damaged && *offset <= most, "{what}: {file:?} at {offset}");
                None
            }
            Err(other) => panic!("{what}: {other:?}"),
        };
        drop(opened);
        assert!(files(self.dir.path()) == before, "{what}: opening has changed a file");
        found
    }

    fn restore(&self, path: &Path) {
        fs::write(path, &self.files[path]).expect("written");
    }

    /// Changes one bit of a byte, and back. What the store then has: nothing for an error.
    fn flip(&self, path: &Path, at: u64) -> Option<usize> {
        let file = fs::File::options().write(true).open(path).expect("opened");
        let byte = self.files[path][at as usize];
        file.write_at(&[byte ^ 1 << (at % 8)], at).expect("written");
        let size = self.files[path].len() as u64;
        let found = self.check(path, size, &format!("bit {} of byte {at} of {}", at % 8, path.display()));
        file.write_at(&[byte], at).expect("written");
        found
    }

    fn cut(&self, path: &Path, size: u64) -> Option<usize> {
        let file = fs::File::options().write(true).open(path).expect("opened");
        file.set_len(size).expect("cut");
        let found = self.check(path, size, &format!("{size} bytes of {}", path.display()));
        // What is behind the records of a log are zeros, as they come with its length.
        let whole = &self.files[path];
        let rest = size.min(self.end) as usize..if *path == self.log { self.end as usize } else { whole.len() };
        file.set_len(whole.len() as u64).expect("as long as before");
        if rest.start < rest.end {
            file.write_all_at(&whole[rest.clone()], rest.start as u64).expect("written");
        }
        found
    }

    /// The places of a log: all where something stands, some where zeros do.
    fn places(&self) -> impl Iterator<Item = u64> {
        let size = self.files[&self.log].len() as u64;
        (0..self.end + 70).step_by(stride()).chain((self.end + 70..size).step_by(49_999)).chain([size - 1])
    }

    /// Files whose every byte is covered by a checksum, and that a manifest counts on.
    fn snapshot_files(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.keys().filter(|path| **path != self.log && !path.ends_with("LOCK"))
    }
}

/// Every record of a store that was closed is synced, and the log says so: a byte that differs is an error, or none of a record.
#[test]
fn a_closed_log_loses_nothing_to_one_damaged_byte() {
    for durability in [Durability::Sync, Durability::Buffered, Durability::Interval(Duration::from_secs(3600))] {
        check_closed(&Written::new(durability, 0));
    }
}

fn check_closed(written: &Written) {
    assert_eq!(written.files.len(), 2, "the lock and the log: {:?}", written.files.keys());
    let (mut refused, mut whole) = (0, 0);
    for at in written.places() {
        match written.flip(&written.log, at) {
            None => refused += 1,
            Some(found) => {
                assert_eq!(found, 20, "byte {at} of {}", written.end);
                whole += 1;
            }
        }
    }
    assert!(refused > 1000 / stride() && whole > 20 / stride(), "{refused} refused, {whole} without loss");
    for size in written.places() {
        assert_eq!(written.cut(&written.log, size), None, "no log has {size} bytes");
    }
    assert_eq!(written.open().expect("nothing is left of the damage").1.replayed, 20);
}

/// What was never synced may be lost with what follows it, and the store says so and goes on from there.
#[test]
fn an_interrupted_buffered_log_loses_a_tail_to_a_damaged_byte() {
    let written = Written::interrupted();
    let mut lengths = vec![0; written.states.len()];
    for at in written.places() {
        let Some(found) = written.flip(&written.log, at) else {
            assert!(at < LOG_HEADER, "byte {at} is one of a record that was never promised");
            continue;
        };
        lengths[found] += 1;
        if at % 64 == 0 {
            // What is written next takes the place of what was torn, of which a copy stays.
            let file = fs::File::options().write(true).open(&written.log).expect("opened");
            file.write_at(&[written.files[&written.log][at as usize] ^ 1 << (at % 8)], at).expect("written");
            let damaged = fs::read(&written.log).expect("read");
            let (store, recovery) = written.open().expect("as before");
            insert(&store, 999);
            let after = contents(&store);
            drop(store);
            if let Some(torn) = recovery.torn {
                let copied = fs::read(&torn.copy).expect("a copy");
                assert!(copied == damaged[torn.offset as usize..][..torn.bytes as usize], "byte {at}");
                fs::remove_file(torn.copy).expect("removed");
            }
            let (store, recovery) = written.open().expect("what was just written");
            assert!(contents(&store) == after && recovery.torn.is_none(), "byte {at}: {recovery:?}");
            drop(store);
            written.restore(&written.log);
        }
    }
    assert!(lengths.iter().all(|&times| times > 0), "records left by a damage of each: {lengths:?}");
}

#[test]
fn every_damaged_byte_of_a_snapshot_is_found() {
    let written = Written::new(Durability::Sync, 2);
    let names: Vec<_> = written.snapshot_files().map(|path| path.file_name().expect("a name").to_owned()).collect();
    let segments = names.iter().filter(|name| name.to_string_lossy().starts_with("segment-")).count();
    assert_eq!((segments, names.len()), (2, 4), "{names:?}");
    for path in written.snapshot_files() {
        for at in (0..written.files[path].len() as u64).step_by(stride()) {
            assert_eq!(written.flip(path, at), None, "byte {at} of {}", path.display());
            assert_eq!(written.cut(path, at), None, "{at} bytes of {}", path.display());
        }
    }
    let mut refused = 0;
    for at in written.places() {
        match written.flip(&written.log, at) {
            None => refused += 1,
            Some(found) => assert_eq!(found, 20, "byte {at}"),
        }
    }
    assert!(refused > 1000 / stride(), "{refused}");
    assert_eq!(written.open().expect("nothing is left of the damage").1.replayed, 20);
}

/// A file that is gone is missed, by its name.
#[test]
fn every_lost_file_is_missed() {
    let written = Written::new(Durability::Sync, 2);
    for path in written.files.keys().filter(|path| !path.ends_with("LOCK")) {
        fs::remove_file(path).expect("removed");
        let before = files(written.dir.path());
        match written.open() {
            // Without the manifest it is the log that has no beginning.
            Err(Error::Corrupt { file, .. }) => {
                assert!(file == *path || path.ends_with("MANIFEST") && file == written.log);
            }
            Err(Error::Io { file, outcome: Outcome::NotApplied, .. }) => assert_eq!(file, *path),
            other => panic!("without {}: {:?}", path.display(), other.map(|_| ())),
        }
        assert!(files(written.dir.path()) == before);
        written.restore(path);
    }
    assert_eq!(written.open().expect("all is there again").1.replayed, 20);
}

#[test]
fn a_store_of_another_configuration_leaves_the_files() {
    for lives in [0, 1] {
        let written = Written::new(Durability::Sync, lives);
        let other = [Config::builder(DIMENSIONS + 1), Config::builder(DIMENSIONS).zero_vectors(ZeroVectors::Unrelated)];
        for config in other {
            let config = config.build().expect("a configuration");
            let opened = Store::open_with(written.dir.path(), config, Durability::Sync, ManualClock::default());
            assert!(matches!(opened.map(|_| ()), Err(Error::Incompatible { .. })));
            assert!(files(written.dir.path()) == written.files);
        }
        // What vectors and codes do not depend on may be another.
        let config = Config::builder(DIMENSIONS).dedup(None).max_memories(1).build().expect("a configuration");
        let opened = Store::open_with(written.dir.path(), config, Durability::Sync, ManualClock::default());
        assert_eq!(contents(&opened.expect("the same vectors").0), written.states[20]);
    }
}

/// A directory in which nobody may write, not even the superuser, and one that is a file.
#[test]
fn a_directory_that_cannot_be_written_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    fs::write(&file, "text").expect("written");
    for dir in [Path::new("/sys/kernel"), Path::new("/proc/self"), &file, &file.join("below")] {
        match open(dir, Durability::Sync).map(|_| ()) {
            Err(Error::Io { file, outcome: Outcome::NotApplied, .. }) => assert!(file.starts_with(dir), "{file:?}"),
            other => panic!("{}: {other:?}", dir.display()),
        }
    }
    assert_eq!(fs::read(&file).expect("read"), b"text");
}

/// What a process under a limit is to do.
const PLAY: &str = "MEMORY_STORE_PLAY";
const DIR: &str = "MEMORY_STORE_DIR";
const REFUSED: &str = "refused by the disk";

#[test]
#[ignore = "the process that runs under a limit"]
fn child() {
    let dir = std::env::var_os(DIR).expect("started by the others");
    match std::env::var(PLAY).expect("started by the others").as_str() {
        "fill" => fill(Path::new(&dir)),
        "compact" => compact(Path::new(&dir)),
        other => panic!("{other}"),
    }
}

/// Runs a child that sets itself a limit on the size of files: what is larger the system refuses as it would on a full disk. Returns what
/// the child said.
fn under_a_limit(play: &str, dir: &Path) -> String {
    let program = std::env::current_exe().expect("this program");
    // Without the trap the system would end the process instead of refusing.
    let script = r#"trap "" XFSZ; exec "$0" --exact child --ignored --nocapture"#;
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(program)
        .env(PLAY, play)
        .env(DIR, dir)
        .stdin(Stdio::null())
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    said
}

/// Writes until the disk refuses, and says how many writes were acknowledged.
fn fill(dir: &Path) {
    let (store, _) = open(dir, Durability::Sync).expect("a new store");
    limit_files(3_000_000);
    let write = |number: u64| {
        let mut rng = fastrand::Rng::with_seed(number);
        let vector: [f32; DIMENSIONS] = std::array::from_fn(|_| rng.f32() - 0.5);
        let payload = format!("{number} {}", "x".repeat(100_000));
        store.write(Memory::new(&vector, payload).at(Timestamp(number as i64))).map(|written| written.id())
    };
    let mut acknowledged = 0;
    let refused = loop {
        match write(acknowledged) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(acknowledged > 0);
    match refused {
        Error::Io { file, outcome: Outcome::Unknown, source } => {
            assert!(file.extension().is_some_and(|ending| ending == "wal"), "{file:?}: {source}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(write(1 << 20), Err(Error::LogFailed)));
    assert!(matches!(store.remove(MemoryId(1)), Err(Error::LogFailed)));
    assert!(matches!(store.snapshot(), Err(Error::Io { .. } | Error::LogFailed)));
    assert!(!store.retrieve(&Query::new(&[1.0; DIMENSIONS], 3)).expect("an answer").hits.is_empty());
    eprintln!("{REFUSED} after {acknowledged}");
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let said = under_a_limit("fill", dir.path());
    let count = said.lines().find_map(|line| line.strip_prefix(REFUSED)?.rsplit(' ').next()?.parse::<usize>().ok());
    let acknowledged = count.unwrap_or_else(|| panic!("{said}"));
    let (store, recovery) = open(dir.path(), Durability::Sync).expect("a good directory");
    let all = store.replay(..).expect("a range");
    let recurrences: u32 = all.iter().map(|memory| memory.recurrence).sum();
    assert!((acknowledged..=acknowledged + 1).contains(&(recurrences as usize)), "{recovery:?}");
    store.snapshot().expect("there is room again");
    assert_eq!(store.len(), all.len());
}

/// Dimensions by which a full segment is larger than the limit.
const LARGE: usize = 2048;

fn open_large(dir: &Path) -> Store {
    let config = Config::builder(LARGE).dedup(None).build().expect("a configuration");
    Store::open_with(dir, config, Durability::Buffered, ManualClock::default()).expect("a good directory").0
}

/// No file may grow past so many bytes from here on.
fn limit_files(bytes: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: Some(bytes), maximum }).expect("a lower limit");
}

fn compact(dir: &Path) {
    let store = open_large(dir);
    limit_files(1 << 20);
    let dead = store.stats().dead;
    match store.compact() {
        Err(Error::Io { file, outcome: Outcome::NotApplied, .. }) => assert_eq!(file, dir),
        other => panic!("{other:?}"),
    }
    assert_eq!((store.len(), store.stats().dead), (999, dead));
    eprintln!("{REFUSED}");
}

/// Compaction needs room for a copy, and says so if there is none.
#[test]
fn a_compaction_without_room_is_an_error_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open_large(dir.path());
    let mut vector = vec![0.0; LARGE];
    for number in 0..1000 {
        vector[number] = 1.0;
        store.write(Memory::new(&vector, "x".to_owned()).at(Timestamp(number as i64))).expect("written");
    }
    assert!(store.remove(MemoryId(5)).expect("removed"));
    drop(store);
    assert!(under_a_limit("compact", dir.path()).contains(REFUSED));
    let store = open_large(dir.path());
    store.compact().expect("there is room again");
    assert_eq!((store.len(), store.stats().dead), (999, 0));
}
