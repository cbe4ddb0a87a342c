//! The old manifest or the new one, never half of either.

use super::super::files::OsFiles;
use super::super::sim::{Fault, SimFiles};
use super::*;

const DIR: &str = "/store";

fn manifest(lsn: u64) -> Manifest {
    let segment = |number| SegmentFile { name: format!("rows-{number}.sections"), rows: 100 + number };
    Manifest {
        dim: 384,
        fingerprint: 77,
        lsn: Lsn(lsn),
        next_id: lsn * 2,
        state: format!("state-{lsn}.sections"),
        segments: (lsn..lsn + 3).map(segment).collect(),
    }
}

#[test]
fn a_manifest_reads_back_as_it_was_stored() {
    let (files, dir) = (SimFiles::default(), Path::new(DIR));
    assert_eq!(Manifest::load(&files, dir).expect("none"), None);
    for lsn in [1, 2] {
        manifest(lsn).store(&files, dir).expect("stored");
        assert_eq!(Manifest::load(&files, dir).expect("loaded"), Some(manifest(lsn)));
    }
    manifest(2).check(dir, 384, 77).expect("the same");
    assert!(matches!(manifest(2).check(dir, 3, 77), Err(Error::Incompatible { .. })));
    assert!(matches!(manifest(2).check(dir, 384, 7), Err(Error::Incompatible { .. })));
}

#[test]
fn every_damaged_byte_and_every_cut_is_found() {
    let (files, dir) = (SimFiles::default(), Path::new(DIR));
    manifest(5).store(&files, dir).expect("stored");
    let whole = files.contents();
    let path = dir.join(NAME);
    let refused = |bytes: Vec<u8>| {
        let mut contents = whole.clone();
        contents.insert(path.clone(), bytes);
        let files = SimFiles::with(&contents);
        let loaded = Manifest::load(&files, dir);
        assert!(matches!(loaded, Err(Error::Corrupt { .. })), "{loaded:?}");
        assert!(sweep(&files, dir, &manifest(5)).is_err());
        assert!(files.contents() == contents, "it is left as it was");
    };
    let bytes = &whole[&path];
    for place in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[place] ^= flip;
            refused(bytes);
        }
        refused(bytes[..place].to_vec());
    }
    refused([&bytes[..], &[0]].concat());
}

#[test]
fn names_that_leave_the_directory_are_refused() {
    for name in ["", "../x.sections", "/x.sections", "x", ".sections", "a b.sections", "MANIFEST"] {
        let stored = Manifest { state: name.to_owned(), ..manifest(1) }.store(&SimFiles::default(), Path::new(DIR));
        assert!(matches!(stored, Err(Error::InvalidConfig { .. })), "{name}");
    }
}

#[test]
fn a_fault_at_any_operation_leaves_the_old_manifest_or_the_new_one() {
    let dir = Path::new(DIR);
    for fault in [Fault::Refuse, Fault::Half, Fault::PowerLoss] {
        for at in 0..5 {
            for seed in 0..30 {
                let files = SimFiles::default();
                manifest(1).store(&files, dir).expect("stored");
                files.fail_at(at, fault, seed);
                let stored = manifest(2).store(&files, dir);
                let crashes = seed % 2 == 1 || fault == Fault::PowerLoss;
                if crashes {
                    files.power_off();
                    files.crash(seed);
                }
                let found = Manifest::load(&files, dir).expect("whole").expect("one of them");
                match stored {
                    Ok(()) => assert_eq!(found, manifest(2)),
                    Err(Error::Io { outcome: Outcome::NotApplied, .. }) => assert_eq!(found, manifest(1)),
                    Err(Error::Io { outcome: Outcome::Unknown, .. }) => {
                        assert!(found == manifest(1) || found == manifest(2));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

#[test]
fn the_sweep_removes_what_is_ours_and_unnamed() {
    let (files, dir) = (SimFiles::default(), Path::new(DIR));
    let kept = ["rows-5.sections", "state-5.sections", "log-00000000000000000001.wal", "notes.txt", "notes.tmp"];
    let removed = ["rows-1.sections", "rows-9.sections.tmp", "MANIFEST.tmp", "log-00000000000000000009.wal.tmp"];
    for name in kept.into_iter().chain(removed) {
        files.create(&dir.join(name)).expect("created");
    }
    manifest(5).store(&files, dir).expect("stored");
    files.create(&dir.join("MANIFEST.tmp")).expect("created");
    assert_eq!(sweep(&files, dir, &manifest(4)).expect("swept"), 0, "it is not the manifest of the directory");
    assert_eq!(sweep(&files, dir, &manifest(5)).expect("swept"), removed.len());
    let mut left = files.list(dir).expect("listed");
    left.retain(|name| name != NAME);
    left.sort();
    let mut kept = kept;
    kept.sort_unstable();
    assert_eq!(left, kept);
}

#[test]
fn a_directory_has_one_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let held = lock(&OsFiles, dir.path()).expect("free");
    assert!(matches!(lock(&OsFiles, dir.path()), Err(Error::Locked { .. })));
    drop(held);
    lock(&OsFiles, dir.path()).expect("free again");
}

/// Vectors have a name for a moment when their memory is made, and a sweep may see it, and take it away first or come too late.
#[test]
fn a_sweep_and_memory_for_vectors_do_not_hinder_each_other() {
    let dir = tempfile::tempdir().expect("a directory");
    manifest(1).store(&OsFiles, dir.path()).expect("stored");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let make = || {
            let made = (0..4_000).try_for_each(|_| crate::mapping::Scratch::new(Some(dir.path()), 1).map(drop));
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            made
        };
        let making = scope.spawn(make);
        let mut swept = Ok(0);
        while swept.is_ok() && !done.load(std::sync::atomic::Ordering::Relaxed) {
            swept = sweep(&OsFiles, dir.path(), &manifest(1));
        }
        making.join().expect("no panic").expect("memory");
        swept.expect("swept");
    });
}
