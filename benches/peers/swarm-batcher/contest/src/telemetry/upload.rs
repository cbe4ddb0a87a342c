//! What an upload must be: it is read back outside the timing.

use serde::{Deserialize, Serialize};
use zstd::bulk;
use zstd::zstd_safe::get_frame_content_size;

use super::TelemetryRecord;

/// Level of the compression.
const LEVEL: i32 = 3;

#[derive(Serialize, Deserialize)]
struct Upload<R> {
    telemetry: R,
}

/// What [`described`] says of a right body: of the one that is encoded and compressed in one go.
///
/// # Panics
/// If the records cannot be encoded: they are strings and numbers.
#[must_use]
pub fn expected(records: &[TelemetryRecord]) -> String {
    described(records, &at_once(records))
}

/// What is in the body of an upload of `records`: how many there are and the sum of their numbers, the bytes before the compression, and
/// whatever is wrong with it. The size of the content must be in the frame, and the body may be larger by 3 % than if it were made in
/// one go.
#[must_use]
pub fn described(records: &[TelemetryRecord], body: &[u8]) -> String {
    let Ok(Some(size)) = get_frame_content_size(body) else {
        return format!("{} bytes that are no frame of a stated size", body.len());
    };
    let content = match bulk::decompress(body, size as usize) {
        Ok(content) => content,
        Err(error) => return format!("a frame that cannot be read: {error}"),
    };
    let found: Vec<TelemetryRecord> = match rmp_serde::from_slice(&content) {
        Ok(Upload { telemetry }) => telemetry,
        Err(error) => return format!("a frame of something else: {error}"),
    };
    let sum: u64 = found.iter().map(|record| record.sequence).sum();
    let mut said = format!("{} records, sequences {sum}, {} bytes", found.len(), content.len());
    if found != records {
        said += ", not what was uploaded";
    }
    let most = at_once(records).len() * 103 / 100;
    if body.len() > most {
        said += &format!(", compressed to {} where {most} do", body.len());
    }
    said
}

fn at_once(records: &[TelemetryRecord]) -> Vec<u8> {
    let content = rmp_serde::to_vec_named(&Upload { telemetry: records }).expect("strings and numbers are encoded");
    bulk::compress(&content, LEVEL).expect("there is memory")
}

#[cfg(test)]
mod tests {
    use super::super::records;
    use super::*;

    #[test]
    fn right_body_is_described_by_what_is_in_it() {
        let records = records(2);
        let content = rmp_serde::to_vec_named(&Upload { telemetry: &records }).expect("encodes");
        assert_eq!(expected(&records), format!("2 records, sequences 80001, {} bytes", content.len()));
    }

    #[test]
    fn other_records_and_loose_compression_are_told() {
        let (two, mut changed) = (records(2), records(2));
        changed.swap(0, 1);
        assert!(described(&two, &at_once(&changed)).ends_with("not what was uploaded"));
        let content = rmp_serde::to_vec_named(&Upload { telemetry: &two }).expect("encodes");
        let stored = bulk::compress(&content, -100).expect("memory");
        assert_ne!(described(&two, &stored), expected(&two));
        assert_ne!(described(&two, &content), expected(&two));
    }
}
