//! What the fuzz targets call: the decoders, on bytes that anybody may have written.
//!
//! A fuzzer finds no checksum by chance, so each takes the bytes as they are, or `reseal`s them first: then all that a checksum would
//! have refused reaches the code behind it.

use std::collections::BTreeMap;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::{env, fs, process};

use super::log::{self, Log, LogHeader, LogRecovery, Sizing};
use super::manifest::Manifest;
use super::sections::{self, SectionHeader};
use super::sim::SimFiles;
use super::{Durability, Lsn};
use crate::clock::{ManualClock, Timestamp};
use crate::journal::Change;
use crate::persist::fingerprint;
use crate::store::MemoryStore;
use crate::{Capacity, Config, Error, Memory, MemoryId, Query, Update};

const DIR: &str = "/store";

type Replayed = Vec<(u64, u8, Vec<u8>)>;

fn open_log(files: &SimFiles) -> Result<(Log, LogRecovery, Replayed), Error> {
    let mut replayed = Vec::new();
    let header = LogHeader { dim: 2, fingerprint: 3 };
    let sizing = Sizing { buffer: 1 << 16, step: 512 };
    let files = Arc::new(files.clone());
    let replay = &mut |record: log::Record<'_>| {
        replayed.push((record.lsn.0, record.kind, record.body.to_vec()));
        Ok(())
    };
    let (log, found) = Log::open_sized(files, Path::new(DIR), header, None, Durability::Sync, sizing, replay)?;
    Ok((log, found, replayed))
}

/// A file of the log: an error that leaves it as it was, or records that are there again after another was written.
pub fn log(bytes: &[u8], reseal: bool) {
    let mut bytes = bytes.to_vec();
    if reseal {
        log::reseal(&mut bytes, LogHeader { dim: 2, fingerprint: 3 });
    }
    let before = BTreeMap::from([(Path::new(DIR).join("log-00000000000000000001.wal"), bytes)]);
    let files = SimFiles::with(&before);
    let opened = open_log(&files);
    assert!(files.contents() == before, "opening writes nothing");
    let Ok((log, found, mut replayed)) = opened else { return };
    assert_eq!(found.records, replayed.len() as u64);
    assert!(replayed.iter().zip(1..).all(|(record, lsn)| record.0 == lsn));
    let mut room = log.wait_for_room(100).expect("nothing has failed");
    let lsn = log.append(&mut room, NonZeroU8::MIN, &[b"next"]).expect("nothing has failed");
    drop(room);
    log.commit(lsn).expect("nothing fails");
    files.power_off();
    drop(log);
    files.crash(1);
    replayed.push((lsn.0, 1, b"next".to_vec()));
    let (_, found, again) = open_log(&files).expect("what was just written can be read");
    assert_eq!(again, replayed);
    assert_eq!(found.torn, None);
}

/// A section file: an error, or sections within the file.
pub fn sections(bytes: &[u8], reseal: bool) {
    let header = SectionHeader { kind: 1, dim: 2, fingerprint: 3 };
    let mut bytes = bytes.to_vec();
    if reseal {
        sections::reseal(&mut bytes, &header);
    }
    if let Ok(found) = sections::check_bytes(&bytes, &header) {
        for section in found {
            assert!(section.start <= section.end && section.end <= bytes.len() && section.start % 64 == 0);
        }
    }
}

/// A manifest: an error, or one that is stored as the same bytes.
pub fn manifest(bytes: &[u8], reseal: bool) {
    let mut bytes = bytes.to_vec();
    if let Some((body, crc)) = bytes.split_last_chunk_mut::<4>().filter(|_| reseal) {
        *crc = crc32fast::hash(body).to_le_bytes();
    }
    let path = Path::new(DIR).join("MANIFEST");
    if let Ok(manifest) = Manifest::decode(&bytes, &path) {
        let files = SimFiles::default();
        manifest.store(&files, Path::new(DIR)).expect("what was read can be stored");
        assert!(files.contents()[&path] == bytes);
    }
}

/// The body of a record of a store: an error, or a change of which every part can be looked at.
pub fn record(kind: u8, body: &[u8]) {
    let record = log::Record { lsn: Lsn(1), kind, body, file: Path::new("fuzzed"), offset: 0 };
    match Change::decode(&record, 2) {
        Ok(Change::Row(row, vector)) => {
            assert!(row.id > 0 && row.class < 4 && vector.len() == 8);
            assert!(row.incident.len() + row.payload.len() + vector.len() < body.len());
        }
        Ok(Change::Standing { standing, .. }) => assert!(standing.class < 4 && standing.weight > 0.0),
        Ok(Change::Remove(ids)) => assert_eq!(ids.len() % 8, 0),
        Err(Error::Corrupt { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

type Store = MemoryStore<u8, ManualClock>;

fn config() -> Config {
    // Of about four memories, and a payload that counts for something.
    let capacity = Capacity { max_memories: 6, max_bytes: Some(500), ..Capacity::default() };
    Config::builder(2).capacity(capacity).build().expect("a configuration")
}

/// Where section files are put to be mapped.
fn mapped() -> PathBuf {
    env::temp_dir().join(format!("memory-store-fuzz-{}", process::id()))
}

fn open_store(files: &SimFiles) -> Result<Store, Error> {
    let dir = mapped();
    fs::create_dir_all(&dir).expect("a directory");
    for entry in fs::read_dir(&dir).expect("listed") {
        fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    for (path, bytes) in files.contents() {
        if path.extension().is_some_and(|ending| ending == "sections") {
            fs::write(path, bytes).expect("written");
        }
    }
    let opened = Store::open_on(Arc::new(files.clone()), &dir, config(), Durability::Sync, ManualClock::default());
    opened.map(|(store, _)| store)
}

fn contents(store: &Store) -> Vec<String> {
    let all = store.replay(..).expect("a range");
    all.iter().map(|memory| format!("{memory:?} {:?}", store.vector(memory.id))).collect()
}

/// Uses a store in every way, and opens it again.
fn use_store(files: &SimFiles) {
    let before = files.contents();
    let store = match open_store(files) {
        Ok(store) => store,
        Err(Error::Corrupt { .. } | Error::Incompatible { .. } | Error::Payload { .. } | Error::Io { .. }) => {
            assert!(files.contents() == before, "what is refused is left as it is");
            return;
        }
        Err(other) => panic!("{other}"),
    };
    assert_eq!(store.replay(..).expect("a range").len(), store.len());
    let hits = store.retrieve(&Query::new(&[0.5, 0.5], 9).at(Timestamp(7))).expect("an answer").hits;
    assert!(hits.iter().all(|hit| store.get(hit.id).is_some()));
    for (number, vector) in [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.1], [1.0, 0.0]].iter().enumerate() {
        match store.write(Memory::new(vector, 7).at(Timestamp(number as i64)).incident("fuzzed")) {
            Ok(_) | Err(Error::CapacityExhausted { .. } | Error::TooLarge { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    let first = store.replay(..).expect("a range").first().map_or(MemoryId(1), |memory| memory.id);
    match store.update(first, Update::new().vector(&[0.3, -1.0]).payload(3, 100)) {
        Ok(_) | Err(Error::CapacityExhausted { .. } | Error::TooLarge { .. }) => {}
        Err(other) => panic!("{other}"),
    }
    store.remove(first).expect("removed");
    store.compact().expect("compacted");
    store.snapshot().expect("a snapshot");
    let now = contents(&store);
    drop(store);
    assert_eq!(contents(&open_store(files).expect("what was just written")), now);
}

/// A log of any records of a store: an error that leaves it as it was, or a store that goes on.
pub fn store(bytes: &[u8]) {
    let files = SimFiles::default();
    let header = LogHeader { dim: 2, fingerprint: fingerprint(&config()) };
    let opened = Log::open(Arc::new(files.clone()), &mapped(), header, None, Durability::Buffered, &mut |_| Ok(()));
    let (log, _) = opened.expect("a new log");
    let mut rest = bytes;
    while let Some((&[kind, length], after)) = rest.split_first_chunk() {
        let (body, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        let mut room = log.wait_for_room(Log::record_bytes(body.len())).expect("room");
        let kind = NonZeroU8::new(kind).unwrap_or(NonZeroU8::MIN);
        let lsn = log.append(&mut room, kind, &[body]).expect("appended");
        drop(room);
        log.commit(lsn).expect("committed");
    }
    drop(log);
    use_store(&files);
}

/// The files of a store that was snapshot, with revisions, an incident, and dead rows in two segments.
fn snapshot() -> &'static BTreeMap<PathBuf, Vec<u8>> {
    static FILES: OnceLock<BTreeMap<PathBuf, Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let files = SimFiles::default();
        for life in 0..2 {
            let store = open_store(&files).expect("a good directory");
            for number in 0..3 {
                let angle = (life * 3 + number) as f32;
                let vector = [angle.cos(), angle.sin()];
                store.write(Memory::new(&vector, 5).at(Timestamp(number)).incident("storm")).expect("written");
            }
            if life == 1 {
                store.update(MemoryId(1), Update::new().payload(9, 1)).expect("updated");
                store.update(MemoryId(5), Update::new().payload(9, 1)).expect("updated");
                store.remove(MemoryId(4)).expect("removed");
            }
            store.snapshot().expect("a snapshot");
        }
        files.contents()
    })
}

/// A store with bytes of one file changed, whose checksums are right again if they are to be: an error that leaves the files, or a store.
///
/// The first byte says which file and whether it is sealed, then each three bytes a place and a value.
pub fn directory(bytes: &[u8]) {
    let Some((&choice, edits)) = bytes.split_first() else { return };
    let mut contents = snapshot().clone();
    let (reseal, which) = (choice % 2 == 1, usize::from(choice / 2) % contents.len());
    let (path, file) = contents.iter_mut().nth(which).expect("one of them");
    for &[low, high, value] in edits.as_chunks().0 {
        let at = usize::from(u16::from_le_bytes([low, high])) % file.len().max(1);
        if let Some(byte) = file.get_mut(at) {
            *byte = value;
        }
    }
    let name = path.file_name().expect("a name").to_string_lossy();
    if reseal && name == "MANIFEST" {
        if let Some((body, crc)) = file.split_last_chunk_mut::<4>() {
            *crc = crc32fast::hash(body).to_le_bytes();
        }
    } else if reseal && name.ends_with(".sections") {
        let kind = if name.starts_with("segment-") { 1 } else { 2 };
        sections::reseal(file, &SectionHeader { kind, dim: 2, fingerprint: fingerprint(&config()) });
    }
    use_store(&SimFiles::with(&contents));
}

/// Small files of each kind, as seeds: name and content.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let files = SimFiles::default();
    let (log, ..) = open_log(&files).expect("made");
    for body in [&b"one"[..], b"", b"three, which is longer"] {
        let mut room = log.wait_for_room(100).expect("room");
        let lsn = log.append(&mut room, NonZeroU8::MIN, &[body]).expect("appended");
        drop(room);
        log.commit(lsn).expect("committed");
    }
    drop(log);
    let log = files.contents().into_values().next().expect("one file");

    let files = SimFiles::default();
    let header = SectionHeader { kind: 1, dim: 2, fingerprint: 3 };
    let name = "rows.sections";
    let mut writer =
        sections::SectionWriter::create(Arc::new(files.clone()), Path::new(DIR), name, &header).expect("created");
    writer.section(1, b"a section").expect("written");
    writer.section(2, &[1; 70]).expect("written");
    writer.finish().expect("finished");
    let sections = files.contents().remove(&Path::new(DIR).join(name)).expect("there");

    let files = SimFiles::default();
    let segment = super::manifest::SegmentFile { name: name.to_owned(), rows: 7 };
    let state = "state.sections".to_owned();
    let manifest = Manifest { dim: 2, fingerprint: 3, lsn: Lsn(4), next_id: 5, state, segments: vec![segment] };
    manifest.store(&files, Path::new(DIR)).expect("stored");
    let manifest = files.contents().remove(&Path::new(DIR).join("MANIFEST")).expect("there");
    vec![("log", log), ("sections", sections), ("manifest", manifest)]
}

/// Records of a store as [`store`] takes them.
pub fn records() -> Vec<u8> {
    let files = SimFiles::default();
    let store = open_store(&files).expect("a new store");
    store.write(Memory::new(&[1.0, 0.0], 5).at(Timestamp(1)).incident("storm")).expect("written");
    store.write(Memory::new(&[1.0, 0.0], 6).at(Timestamp(2))).expect("merged");
    store.write(Memory::new(&[0.0, 1.0], 6).at(Timestamp(2)).critical()).expect("written");
    store.update(MemoryId(1), Update::new().vector(&[-1.0, 0.0])).expect("updated");
    store.remove(MemoryId(2)).expect("removed");
    drop(store);
    let mut records = Vec::new();
    let header = LogHeader { dim: 2, fingerprint: fingerprint(&config()) };
    let replay = &mut |record: log::Record<'_>| {
        records.extend_from_slice(&[record.kind, record.body.len() as u8]);
        records.extend_from_slice(record.body);
        Ok(())
    };
    let files = Arc::new(files);
    Log::open(files, &mapped(), header, None, Durability::Sync, replay).expect("what was just written");
    records
}
