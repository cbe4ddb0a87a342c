//! A section file is as it was written, or it is refused.

use std::fs;
use std::sync::Arc;

use super::*;
use crate::durable::files::OsFiles;
use crate::durable::sim::{Fault, SimFiles};

const NAME: &str = "rows-1.sections";
const HEADER: SectionHeader = SectionHeader { kind: 2, dim: 3, fingerprint: 9 };

fn write_small(dir: &Path) {
    let mut writer = SectionWriter::create(Arc::new(OsFiles), dir, NAME, &HEADER).expect("created");
    writer.section(7, bytemuck::cast_slice(&[1.0_f32, 2.5, -3.0])).expect("written");
    writer.section(1, b"").expect("written");
    writer.stream(9, |out| (0..5_u8).try_for_each(|byte| out.write_all(&[byte; 33]))).expect("written");
    writer.section(2, bytemuck::cast_slice(&[5_u64, 6])).expect("written");
    writer.finish().expect("finished");
}

#[test]
fn sections_are_read_as_they_were_written() {
    let dir = tempfile::tempdir().expect("a directory");
    write_small(dir.path());
    let file = SectionFile::open(dir.path(), NAME, &HEADER, 2).expect("opened");
    assert_eq!(file.numbers::<f32>(7).expect("there"), [1.0, 2.5, -3.0]);
    assert_eq!(file.numbers::<u64>(2).expect("there"), [5, 6]);
    assert_eq!(file.section(1).expect("there"), b"");
    assert_eq!(file.section(9).expect("there").len(), 165);
    for tag in [7, 1, 9, 2] {
        assert_eq!(file.section(tag).expect("there").as_ptr().align_offset(64), 0);
    }
    assert!(matches!(file.section(3), Err(Error::Corrupt { .. })));
    assert!(matches!(file.numbers::<u64>(9), Err(Error::Corrupt { .. })), "165 bytes are no list of eights");
    let names: Vec<_> =
        fs::read_dir(dir.path()).expect("listed").map(|entry| entry.expect("read").file_name()).collect();
    assert_eq!(names, [NAME]);
}

#[test]
fn a_file_of_many_blocks_is_read_as_it_was_written_and_its_damage_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let long: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8).collect();
    let mut writer = SectionWriter::create(Arc::new(OsFiles), dir.path(), NAME, &HEADER).expect("created");
    writer.section(1, &long).expect("written");
    writer.section(2, b"end").expect("written");
    writer.finish().expect("finished");
    let path = dir.path().join(NAME);
    for threads in [0, 1, 3] {
        let file = SectionFile::open(dir.path(), NAME, &HEADER, threads).expect("opened");
        assert!(file.section(1).expect("there") == long);
        assert_eq!(file.section(2).expect("there"), b"end");
    }
    let whole = fs::read(&path).expect("read");
    for place in [70_000, 2_000_000, 4_999_999] {
        let mut bytes = whole.clone();
        bytes[place] ^= 4;
        bytes[4_999_990] ^= 4;
        fs::write(&path, &bytes).expect("written");
        for threads in [1, 3] {
            let Err(Error::Corrupt { offset, .. }) = SectionFile::open(dir.path(), NAME, &HEADER, threads) else {
                panic!("byte {place} was damaged")
            };
            assert_eq!(offset as usize, place / BLOCK * BLOCK, "the first damaged block");
        }
    }
}

#[test]
fn every_damaged_byte_and_every_cut_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    write_small(dir.path());
    let path = dir.path().join(NAME);
    let whole = fs::read(&path).expect("read");
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).expect("written");
        let Err(Error::Corrupt { file, offset, .. }) = SectionFile::open(dir.path(), NAME, &HEADER, 1) else {
            panic!("{what}")
        };
        assert!(file == path && offset <= whole.len() as u64 + 64, "{what}: {offset}");
        assert!(fs::read(&path).expect("read") == bytes, "it is left as it was");
    };
    for place in 0..whole.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[place] ^= flip;
            refused(&bytes, &format!("byte {place}"));
        }
        refused(&whole[..place], &format!("cut at {place}"));
    }
    let mut longer = whole.clone();
    longer.extend_from_slice(&[0; 64]);
    refused(&longer, "longer");
}

#[test]
fn a_file_of_another_store_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    write_small(dir.path());
    for header in [
        SectionHeader { kind: 3, ..HEADER },
        SectionHeader { dim: 4, ..HEADER },
        SectionHeader { fingerprint: 1, ..HEADER },
    ] {
        let opened = SectionFile::open(dir.path(), NAME, &header, 1);
        assert!(matches!(opened, Err(Error::Incompatible { .. })));
    }
}

/// Under its final name there is the whole file or none, whatever fails, and after a loss of power too.
#[test]
fn a_fault_at_any_operation_leaves_no_half_file() {
    let write = |files: &SimFiles| {
        let mut writer = SectionWriter::create(Arc::new(files.clone()), Path::new("/store"), NAME, &HEADER)?;
        writer.section(1, &[3; 3000])?;
        writer.finish()
    };
    let files = SimFiles::default();
    write(&files).expect("nothing fails");
    let whole = files.contents();
    let path = Path::new("/store").join(NAME);
    for fault in [Fault::Refuse, Fault::Half, Fault::PowerLoss] {
        for at in 0..files.operations() {
            for seed in 0..20 {
                let files = SimFiles::default();
                files.fail_at(at, fault, seed);
                write(&files).expect_err("something fails");
                if seed % 2 == 1 || fault == Fault::PowerLoss {
                    files.power_off();
                    files.crash(seed);
                }
                assert!(files.contents().get(&path).is_none_or(|bytes| *bytes == whole[&path]));
                write(&files).expect("nothing fails any more");
                files.power_off();
                files.crash(seed);
                assert!(files.contents()[&path] == whole[&path]);
            }
        }
    }
}
