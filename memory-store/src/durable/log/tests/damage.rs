//! Every byte of a small log, damaged; every length, cut.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;

type Contents = BTreeMap<PathBuf, Vec<u8>>;

const LAST: u64 = 50;

/// Records in two files, of which the second has grown.
fn small_log() -> Contents {
    let files = SimFiles::default();
    let (log, ..) = open(&files, None, Durability::Sync).expect("made");
    write(&log, 10);
    log.rotate().expect("rotated");
    write(&log, LAST - 10);
    drop(log);
    let contents = files.contents();
    assert!(contents.values().any(|bytes| bytes.len() > SIZING.step as usize));
    contents
}

/// The records that a log still gives: an error must name a file, and nothing may be written before the log is.
fn survivors(contents: &Contents) -> Result<(Replayed, LogRecovery), Error> {
    let files = SimFiles::with(contents);
    let opened = open(&files, None, Durability::Sync).map(|(_, found, replayed)| (replayed, found));
    assert!(files.contents() == *contents, "opening writes nothing");
    if let Err(error) = &opened {
        let Error::Corrupt { file, offset, .. } = error else { panic!("{error}") };
        assert!(*offset <= contents[file].len() as u64, "{error}");
    }
    opened
}

/// All bytes of a file that say something, and some of the zeros after them.
fn places(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let len = bytes.len();
    (0..(end + 40).min(len)).chain([len - 1])
}

fn damaged(byte: u8) -> impl Iterator<Item = u8> {
    [byte ^ 1, byte ^ 0x80, !byte, 0, 0xff, byte.wrapping_add(1)].into_iter().filter(move |new| *new != byte)
}

#[test]
fn no_damaged_byte_loses_what_a_mark_or_a_later_file_covers() {
    let whole = small_log();
    let all = records(1..LAST + 1);
    let newest = whole.keys().next_back().expect("two files").clone();
    let mut refused = 0;
    for (path, bytes) in &whole {
        for place in places(bytes) {
            for new in damaged(bytes[place]) {
                let mut contents = whole.clone();
                contents.get_mut(path).expect("it is there")[place] = new;
                match survivors(&contents) {
                    Ok((replayed, found)) => {
                        assert_eq!(replayed, all, "byte {place} of {}", path.display());
                        // Behind the records of the first nothing but the mark that names the second can be damaged.
                        assert!(*path != newest || found.torn.is_some_and(|torn| torn.offset <= place as u64));
                    }
                    Err(Error::Corrupt { file, offset, .. }) => {
                        assert_eq!(file, *path);
                        assert!(offset <= place as u64);
                        refused += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    assert!(refused > 2000, "only {refused} were refused");
}

#[test]
fn without_the_mark_only_the_last_batch_can_pass_for_a_torn_write() {
    let mut whole = small_log();
    let newest = whole.keys().next_back().expect("two files").clone();
    let bytes = whole.get_mut(&newest).expect("it is there");
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    // A mark ends with zeros of its own, which the search for its end takes for padding.
    let mark = (0..end).rev().find(|at| record::decode(&bytes[*at..], salt(bytes)).is_some()).expect("a mark");
    bytes[mark..].fill(0);
    let whole = whole;
    assert_eq!(survivors(&whole).expect("intact").0, records(1..LAST + 1));
    let mut cut = 0;
    for (path, bytes) in &whole {
        for place in places(bytes) {
            for new in damaged(bytes[place]) {
                let mut contents = whole.clone();
                contents.get_mut(path).expect("it is there")[place] = new;
                if let Ok((replayed, _)) = survivors(&contents) {
                    assert!(replayed == records(1..LAST + 1) || replayed == records(1..LAST), "byte {place}");
                    cut += usize::from(replayed.len() as u64 == LAST - 1);
                }
            }
        }
    }
    assert!(cut > 50, "only {cut} were cut");
}

fn salt(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(*bytes[32..].first_chunk().expect("a header"))
}

#[test]
fn no_cut_file_loses_what_was_committed() {
    let whole = small_log();
    for (path, bytes) in &whole {
        for length in 0..bytes.len() {
            let mut contents = whole.clone();
            contents.get_mut(path).expect("it is there").truncate(length);
            survivors(&contents).expect_err("its size was never one of the log's");
        }
        let mut contents = whole.clone();
        contents.remove(path);
        let rest = SimFiles::with(&contents);
        open(&rest, None, Durability::Sync).map(|_| ()).expect_err("the other tells of it");
    }
}

/// A write that was torn at any byte: what was committed before is there, and what is written next is not mixed with its rest.
#[test]
fn every_torn_prefix_of_a_batch_is_cut_and_written_over() {
    let files = SimFiles::default();
    let (log, ..) = open(&files, None, Durability::Sync).expect("made");
    write(&log, 5);
    let before = files.contents();
    // One batch of four.
    for _ in 0..4 {
        append(&log).expect("appended");
    }
    log.sync().expect("synced");
    drop(log);
    let after = files.contents();
    let path = before.keys().next().expect("one file").clone();
    let changed: Vec<usize> = (0..before[&path].len()).filter(|at| before[&path][*at] != after[&path][*at]).collect();
    let (from, until) = (changed[0], changed[changed.len() - 1] + 1 - MARK_BYTES);
    for cut in from..until {
        for kept_behind in [0, 1, 40] {
            let mut contents = before.clone();
            let bytes = contents.get_mut(&path).expect("it is there");
            bytes[from..cut].copy_from_slice(&after[&path][from..cut]);
            let behind = (cut + 1).max(until.saturating_sub(kept_behind)).min(until);
            bytes[behind..until].copy_from_slice(&after[&path][behind..until]);
            let files = SimFiles::with(&contents);
            let (log, found, replayed) = open(&files, None, Durability::Sync).expect("a torn tail is no damage");
            assert!(files.contents() == contents, "opening writes nothing");
            assert!((5..9).contains(&replayed.len()), "cut at {cut}");
            assert_eq!(replayed, records(1..replayed.len() as u64 + 1));
            let count = replayed.len() as u64 + 1;
            write(&log, 1);
            drop(log);
            if let Some(Torn { offset, bytes, copy, .. }) = found.torn {
                let torn = &contents[&path][offset as usize..][..bytes as usize];
                assert!(files.contents()[&copy] == torn, "a copy of what was torn is kept");
            }
            let (_, found, replayed) = open(&files, None, Durability::Sync).expect("opened");
            assert_eq!(replayed, records(1..count + 1));
            assert_eq!(found.torn, None);
        }
    }
}

#[test]
fn a_payload_that_looks_like_a_mark_proves_nothing() {
    let files = SimFiles::default();
    let (log, ..) = open(&files, None, Durability::Sync).expect("made");
    write(&log, 1);
    let before = files.contents();
    let mut room = log.wait_for_room(200).expect("room");
    append(&log).expect("appended");
    let forged = record::Mark { durable: Lsn(9), size: 1, next: Lsn(0) }.encode(log.shared.salt ^ 1, Lsn(9));
    log.append(&mut room, NonZeroU8::MIN, &[&forged]).expect("appended");
    drop(room);
    log.sync().expect("synced");
    drop(log);
    let mut contents = files.contents();
    let (path, bytes) = contents.iter_mut().next().expect("one file");
    let torn = (0..bytes.len()).find(|at| before[path][*at] != bytes[*at]).expect("it was written");
    // Without its own mark, and with its first record damaged.
    let mark = (0..bytes.len()).rev().find(|at| record::decode(&bytes[*at..], salt(bytes)).is_some());
    bytes[mark.expect("a mark")..].fill(0);
    bytes[torn + 20] ^= 1;
    assert_eq!(survivors(&contents).expect("a torn tail").0, records(1..2));
}

/// Whatever has to be looked at behind the last record is read a stretch at a time, and a mark is found wherever a stretch ends.
#[test]
fn a_damaged_record_before_a_mark_is_found_wherever_the_mark_lies() {
    const STRETCH: usize = 1 << 20;
    let sizing = Sizing::default();
    let open = |files: &SimFiles| {
        let files = Arc::new(files.clone());
        Log::open_sized(files, Path::new(DIR), HEADER, None, Durability::Sync, sizing, &mut |_| Ok(()))
    };
    for short in 0..3 * MARK_BYTES {
        let files = SimFiles::default();
        let (log, _) = open(&files).expect("made");
        // The file begins with its header and the mark of its size, and the record with its own header: about a stretch from here the mark
        // follows.
        let body = vec![7; STRETCH - short];
        let mut room = log.wait_for_room(Log::record_bytes(body.len())).expect("room");
        let lsn = log.append(&mut room, NonZeroU8::MIN, &[&body]).expect("appended");
        drop(room);
        log.commit(lsn).expect("committed");
        drop(log);
        let mut contents = files.contents();
        let bytes = contents.values_mut().next().expect("one file");
        assert!(bytes.len() > 2 * STRETCH, "zeros follow");
        // A length that no record has: the record itself is not read.
        bytes[record::FILE_HEADER..record::FILE_HEADER + 4].fill(0xff);
        let files = SimFiles::with(&contents);
        let refused = open(&files).map(|_| ()).expect_err("it was on disk");
        assert!(matches!(&refused, Error::Corrupt { offset: 44, .. }), "{short} short: {refused}");
        assert!(files.longest_read() <= STRETCH, "{} bytes at once", files.longest_read());
    }
}
