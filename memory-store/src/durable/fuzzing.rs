//! What the fuzz targets call: the decoders, on bytes that anybody may have written.
//!
//! A fuzzer finds no checksum by chance, so each takes the bytes as they are, or `reseal`s them first: then all that a checksum would
//! have refused reaches the code behind it.

use std::collections::BTreeMap;
use std::num::NonZeroU8;
use std::path::Path;
use std::sync::Arc;

use super::log::{self, Log, LogHeader, LogRecovery, Sizing};
use super::manifest::Manifest;
use super::sections::{self, SectionHeader};
use super::sim::SimFiles;
use super::{Durability, Lsn};
use crate::Error;

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
