//! Processes that are killed while they write, and what is left of their stores.
//!
//! A child opens the store of a directory, writes from two threads, and reports each operation once it has returned. It is killed at some
//! moment, the store is opened here, and has to hold what was reported. Then the next child goes on with what is there.
//!
//! The operations of a thread follow from a seed and from what the store held at the start, so that both processes know them: what was
//! reported is a number of steps, and the store has to be in the state after that many, or after the one that was under way.
//!
//! A store that does not sync each write may lose the last of what was reported, but nothing that was reported a while before: its log is
//! handed to the operating system, which outlives the process. (What a loss of power takes is tested on a disk that is played.)
//!
//! `KILLS=1000 cargo test -p memory-store --test crash` is the full count; without it, about a hundredth.

mod oracle;
mod script;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use memory_store::{
    Durability, ManualClock, MemoryStore, MergePolicy, Query, Recalled, Recovery, RetentionClass, Scoring, Timestamp,
};
use script::{
    INCIDENTS, Life, MAX_BYTES, MODES, Mode, Operation, Script, Store, THREADS, all, direction, name, own, vector_seed,
};

const KILL: i32 = 9;
/// What was reported this long before the kill is with the operating system: it takes about 10 ms, and a machine that is busy may be late.
const GRACE: Duration = Duration::from_secs(2);

/// What a killed process had reported.
#[derive(Debug, Default)]
struct Reported {
    /// For each thread the id of each operation, 0 where there is none.
    ids: [Vec<u64>; THREADS as usize],
    /// How many of them were reported a while before the kill.
    old: [usize; THREADS as usize],
}

#[test]
#[ignore = "the process that the others kill"]
fn child() {
    let life = Life::decode(&std::env::var("MEMORY_STORE_LIFE").expect("started by the others"));
    let dir = std::env::var_os("MEMORY_STORE_DIR").expect("started by the others");
    let pace = std::env::var("MEMORY_STORE_PACE").expect("started by the others").parse().expect("microseconds");
    let (store, _) = life.open(Path::new(&dir));
    let all = all(&store);
    std::thread::scope(|scope| {
        for thread in 0..life.mode.threads() {
            let (store, mut script) = (&store, Script::new(thread, life, &all));
            scope.spawn(move || {
                loop {
                    let operation = script.next();
                    let id = script.execute(store, &operation);
                    // One call for a line: it is in the pipe, or it is not.
                    let line = format!("{thread} {}\n", id.unwrap_or(0));
                    std::io::stderr().write_all(line.as_bytes()).expect("somebody listens");
                    script.apply(&operation, id);
                    if pace > 0 {
                        std::thread::sleep(Duration::from_micros(pace));
                    }
                }
            });
        }
    });
}

/// Runs a child until it has reported `reports` operations and `pause` has passed; then kills it. One that is to live for long is not in a
/// hurry, so that there is not too much to go through.
fn kill(dir: &Path, life: Life, reports: usize, pause: Duration) -> Reported {
    let pace = if pause > GRACE { 1_000 } else { 0 };
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env("MEMORY_STORE_LIFE", life.encode())
        .env("MEMORY_STORE_DIR", dir)
        .env("MEMORY_STORE_PACE", pace.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let lines = BufReader::new(child.stderr.take().expect("a pipe"));
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        lines.lines().map(|line| (line.expect("text"), Instant::now())).for_each(|line| drop(sender.send(line)));
    });
    let mut read = Vec::new();
    while read.len() < reports {
        // A child that ends by itself closes the pipe; what it said comes to light below.
        let Ok(line) = receiver.recv_timeout(Duration::from_secs(60)) else { break };
        read.push(line);
    }
    std::thread::sleep(pause);
    let killed = Instant::now();
    child.kill().expect("killed");
    let status = child.wait().expect("ended");
    reader.join().expect("no panic");
    read.extend(receiver);
    let said = || read.iter().map(|(line, _)| &**line).collect::<Vec<_>>().join("\n");
    assert_eq!(status.signal(), Some(KILL), "{life:?} ended by itself:\n{}", said());
    let mut reported = Reported::default();
    for (line, then) in &read {
        let words = line.split_once(' ').and_then(|(thread, id)| Some((thread.parse().ok()?, id.parse().ok()?)));
        let (thread, id): (usize, u64) = words.unwrap_or_else(|| panic!("{life:?} said:\n{}", said()));
        reported.ids[thread].push(id);
        reported.old[thread] += usize::from(killed.saturating_duration_since(*then) > GRACE);
    }
    reported
}

/// What came of all kills.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    before_the_first_report: usize,
    reported: usize,
    /// Operations that were under way and are there.
    unreported_and_there: usize,
    /// Operations that were reported and gone, which a store that does not sync allows.
    reported_and_gone: usize,
    /// Operations that such a store may not lose, because they were reported a while before.
    reported_and_old: usize,
    torn: usize,
    snapshots: usize,
    one_too_many: usize,
}

/// What is asked of every store that was opened.
fn check_store(store: &Store, recovery: &Recovery, dir: &Path, life: Life, rng: &mut fastrand::Rng) {
    let memories = all(store);
    assert_eq!((recovery.memories, store.len()), (memories.len(), memories.len()), "{life:?}");
    assert!(recovery.from_snapshot > 0 || recovery.replayed as usize >= memories.len(), "{recovery:?}");
    if let Some(torn) = &recovery.torn {
        let size = fs::metadata(&torn.file).expect("a file of the log").len();
        assert!(torn.file.starts_with(dir) && torn.bytes > 0 && torn.offset + torn.bytes <= size, "{torn:?} of {size}");
    }
    let ids: HashSet<u64> = memories.iter().map(|memory| memory.id.0).collect();
    assert_eq!(ids.len(), memories.len(), "each id once");
    let names: HashSet<[u64; 4]> = memories.iter().map(name).collect();
    assert_eq!(names.len(), memories.len(), "each memory once");
    let mut rows = Vec::new();
    for memory in &memories {
        let [thread, key, _, turn] = name(memory);
        let vector = store.vector(memory.id).expect("a vector");
        assert_eq!(vector, direction(vector_seed(thread, key, turn)), "{life:?}: {:?}", name(memory));
        assert_eq!(store.get(memory.id).expect("the memory").recurrence, memory.recurrence);
        rows.push(oracle::Row {
            id: memory.id.0,
            vector,
            first_seen: memory.first_seen,
            seen: memory.last_seen,
            recurrence: memory.recurrence,
            importance: memory.importance,
            weight: memory.weight,
            class: memory.class,
        });
    }
    for name in INCIDENTS {
        let of = memories.iter().filter(|memory| memory.incident.as_deref() == Some(name)).map(|memory| memory.id);
        let timeline = store.incident(name).map(|incident| incident.timeline).unwrap_or_default();
        assert_eq!(timeline.iter().map(|memory| memory.id).collect::<Vec<_>>(), of.collect::<Vec<_>>());
    }
    let now = Timestamp(3_600_000_000);
    for _ in 0..3 {
        let vector = direction(rng.u64(..));
        let found = store.retrieve(&Query::new(&vector, 10).at(now)).expect("an answer").hits;
        let found: Vec<_> = found.iter().map(|hit| (hit.score, hit.id.0)).collect();
        let ranked = oracle::rank(&rows, &vector, now, &Scoring::default(), &oracle::RATES);
        oracle::assert_best(&found, &ranked, 10);
    }
    let stats = store.stats();
    assert_eq!(stats.recurrences, memories.iter().map(|memory| u64::from(memory.recurrence)).sum::<u64>());
    assert_eq!(stats.by_class[3], memories.iter().filter(|m| m.class == RetentionClass::Critical).count());
}

/// Writes of shared memories that a store knows of.
fn shared(all: &[Recalled<String>]) -> u64 {
    all.iter().filter(|memory| name(memory)[0] == THREADS).map(|memory| u64::from(memory.recurrence)).sum()
}

/// Compares a store with what was reported since it held `before`.
fn check_reports(
    life: Life,
    before: &[Recalled<String>],
    after: &[Recalled<String>],
    told: &Reported,
    tally: &mut Tally,
) {
    let (mut least_shared, mut most_shared) = (shared(before), shared(before));
    for thread in 0..THREADS {
        let (reported, old) = (&told.ids[thread as usize], told.old[thread as usize]);
        let found = own(thread, after);
        let mut script = Script::new(thread, life, before);
        let mut safe = if life.mode.syncs() { reported.len() } else { old };
        tally.reported_and_old += if life.mode.syncs() { 0 } else { old };
        let (mut states, mut shared_at) = (Vec::new(), Vec::new());
        for step in 0..=reported.len() + 1 {
            states.push(script.is(&found));
            shared_at.push(script.shared);
            let operation = script.next();
            let id = reported.get(step).copied();
            if id.is_some() && matches!(operation, Operation::Sync | Operation::Snapshot) {
                safe = safe.max(step + 1);
                tally.snapshots += usize::from(matches!(operation, Operation::Snapshot));
            }
            script.apply(&operation, id);
        }
        // The last that fits: an operation need not change anything.
        let there = states.iter().rposition(|fits| *fits).filter(|there| *there >= safe);
        let Some(there) = there else {
            let nearest = states.iter().rposition(|fits| *fits);
            panic!("{life:?}, thread {thread}: {} reported, {safe} of them safe, found {nearest:?}", reported.len());
        };
        tally.reported += reported.len();
        tally.unreported_and_there += there.saturating_sub(reported.len());
        tally.reported_and_gone += reported.len().saturating_sub(there);
        least_shared += shared_at[safe];
        most_shared += shared_at[reported.len() + 1];
    }
    let shared = shared(after);
    assert!((least_shared..=most_shared).contains(&shared), "{life:?}: {least_shared} to {most_shared}, not {shared}");
}

/// Ids of memories that a thread has made: given once, in ascending order, and never again.
fn check_ids(
    life: Life,
    before: &[Recalled<String>],
    told: &Reported,
    given: &mut HashSet<u64>,
    after: &[Recalled<String>],
) {
    for thread in 0..life.mode.threads() {
        let mut script = Script::new(thread, life, before);
        for &id in &told.ids[thread as usize] {
            let operation = script.next();
            let is_new = matches!(operation, Operation::Write { key, .. } if !script.kept.contains_key(&key));
            if is_new && life.mode == Mode::Sync {
                assert!(given.insert(id), "{life:?}: {id} was given before");
            }
            script.apply(&operation, Some(id));
        }
    }
    given.extend(after.iter().map(|memory| memory.id.0));
}

/// A directory from its first store to the last kill.
fn lives(dir: &Path, life: Life, kills: usize, rng: &mut fastrand::Rng, tally: &mut Tally) {
    let mut given = HashSet::new();
    // Enough for segments to fill and to be compacted; the children wait for the disk.
    let (store, _) = life.open_with(dir, Durability::Buffered);
    for thread in 0..THREADS {
        let mut script = Script::new(thread, life, &[]);
        for _ in 0..700 {
            let operation = script.next();
            let id = script.execute(&store, &operation);
            script.apply(&operation, id);
        }
    }
    store.snapshot().expect("a snapshot");
    let mut before = all(&store);
    drop(store);
    given.extend(before.iter().map(|memory| memory.id.0));
    for round in 0..kills {
        let life = Life { seed: rng.u64(..1 << 32), ..life };
        // Now and then while the store is being opened.
        let (reports, pause) = match rng.usize(..6) {
            _ if round == 0 && !life.mode.syncs() => (1, 2_400_000),
            0 => (0, rng.u64(..20_000)),
            1 => (rng.usize(1..1000), rng.u64(..3_000)),
            _ => (rng.usize(1..150), rng.u64(..3_000)),
        };
        let told = kill(dir, life, reports, Duration::from_micros(pause));
        let (store, recovery) = life.open(dir);
        let after = all(&store);
        check_store(&store, &recovery, dir, life, rng);
        check_reports(life, &before, &after, &told, tally);
        check_ids(life, &before, &told, &mut given, &after);
        tally.kills += 1;
        tally.before_the_first_report += usize::from(told.ids.iter().all(Vec::is_empty));
        tally.torn += usize::from(recovery.torn.is_some());
        before = after;
    }
}

/// What a store holds, without what it is kept in.
fn contents(store: &Store) -> BTreeMap<u64, String> {
    all(store).iter().map(|memory| (memory.id.0, format!("{memory:?} {:?}", store.vector(memory.id)))).collect()
}

/// A directory whose store is full, beside a store in memory that does the same and is never killed.
fn full_lives(dir: &Path, life: Life, kills: usize, rng: &mut fastrand::Rng, tally: &mut Tally) {
    let twin = || MemoryStore::with_clock(life.config(), ManualClock::default()).expect("a store");
    let mut done: Vec<(Life, usize)> = vec![(life, 200)];
    {
        let (store, _) = life.open_with(dir, Durability::Buffered);
        let mut script = Script::new(0, life, &[]);
        for _ in 0..200 {
            let operation = script.next();
            let id = script.execute(&store, &operation);
            script.apply(&operation, id);
        }
    }
    for _ in 0..kills {
        let life = Life { seed: rng.u64(..1 << 32), ..life };
        let told = kill(dir, life, rng.usize(1..400), Duration::from_micros(rng.u64(..3_000)));
        let [reported, _] = &told.ids;
        let (store, recovery) = life.open(dir);
        check_store(&store, &recovery, dir, life, rng);
        tally.kills += 1;
        tally.reported += reported.len();
        tally.torn += usize::from(recovery.torn.is_some());

        let (twin, mut writes) = (twin(), 0);
        let replay = |life: Life, steps: usize, writes: &mut u64| {
            let mut script = Script::new(0, life, &all(&twin));
            for _ in 0..steps {
                let operation = script.next();
                let is_write = matches!(operation, Operation::Write { .. } | Operation::Shared(_));
                *writes += u64::from(is_write);
                let id = script.execute(&twin, &operation);
                script.apply(&operation, id);
            }
            script
        };
        done.iter().for_each(|&(life, steps)| drop(replay(life, steps, &mut writes)));
        let mut script = replay(life, reported.len(), &mut writes);
        let (found, least) = (contents(&store), contents(&twin));
        let mut steps = reported.len();
        let mut is_one_too_many = false;
        if found != least {
            let operation = script.next();
            script.execute(&twin, &operation);
            steps += 1;
            writes += 1;
            let most = contents(&twin);
            tally.unreported_and_there += 1;
            if found != most {
                // Killed between the record of the new memory and those of the ones which made room for it.
                let both: BTreeMap<u64, String> = least.into_iter().chain(most.clone()).collect();
                let is_between = found.iter().all(|(id, memory)| both.get(id) == Some(memory))
                    && most.keys().all(|id| found.contains_key(id));
                assert!(is_between, "{life:?}: {} reported", reported.len());
                is_one_too_many = true;
            }
        }
        let stats = twin.stats();
        assert!(stats.evicted > 0, "the store is full");
        let recurrences = store.stats().recurrences;
        if !is_one_too_many {
            assert_eq!(recurrences, writes - stats.evicted_recurrences, "what was written and not evicted");
            let stats = store.stats();
            assert!(stats.memories <= 150.max(stats.protected));
            assert!(stats.bytes <= MAX_BYTES || stats.memories == stats.protected);
        }
        done.push((life, steps));
        if is_one_too_many {
            // The twin cannot be brought into this state.
            tally.one_too_many += 1;
            break;
        }
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the counts of a long run")]
fn what_was_reported_outlives_the_process() {
    let kills = std::env::var("KILLS").map_or(12, |kills| kills.parse().expect("KILLS is a number"));
    let mut rng = fastrand::Rng::with_seed(0x006b_696c_6c39);
    let mut tally = Tally::default();
    let most = if kills < 100 { 3 } else { 10 };
    for (round, mode) in MODES.into_iter().cycle().enumerate() {
        let left = kills - tally.kills;
        if left == 0 {
            break;
        }
        let merge = [MergePolicy::KeepFirst, MergePolicy::KeepLatest][round / MODES.len() % 2];
        let life = Life { mode, merge, seed: rng.u64(..1 << 32) };
        let dir = tempfile::tempdir().expect("a directory");
        match mode {
            Mode::Full => full_lives(dir.path(), life, left.min(most), &mut rng, &mut tally),
            Mode::Sync | Mode::Buffered | Mode::Interval => {
                lives(dir.path(), life, left.min(most), &mut rng, &mut tally);
            }
        }
    }
    assert!(tally.reported > kills, "the children have written: {tally:?}");
    assert!(kills < 12 || tally.reported_and_old > 20, "{tally:?}");
    println!("{tally:?}");
}
