//! Telemetry records that become the body of one upload: the MessagePack map `{"telemetry": [records]}`, compressed by zstd at level 3.

mod record;
mod upload;

use std::time::Instant;

use harness::{Bench, BenchError};

use crate::Work;

pub use record::{TelemetryRecord, records};
pub use upload::{described, expected};

/// Uploads of one round.
pub const UPLOADS: u64 = 64;

/// Makes uploads of records.
pub trait Encodes: 'static {
    /// How it is set up and called; every report repeats it.
    const NOTE: &'static str;
    /// The bytes of an upload.
    type Body: AsRef<[u8]>;

    /// Not timed.
    fn open() -> Self;

    /// Timed: the body for these records.
    fn encode(&mut self, records: &[TelemetryRecord]) -> Self::Body;
}

/// One operation is one upload.
pub(crate) fn measure<E: Encodes>(bench: &mut Bench) -> Result<(), BenchError> {
    bench.note(E::NOTE);
    let Work::Encode { items } = Work::ENCODE else { unreachable!("the work of encoders") };
    let records = records(items);
    let expected = expected(&records);
    let mut encoder = E::open();
    let mut wrong = None;
    bench.rounds(|| {
        let mut body = None;
        let start = Instant::now();
        for _ in 0..UPLOADS {
            body = Some(encoder.encode(&records));
        }
        let elapsed = start.elapsed();
        let found = body.map_or_else(String::new, |body| described(&records, body.as_ref()));
        if found != expected {
            wrong = Some(found);
        }
        (elapsed, UPLOADS)
    })?;
    bench.proof(&expected, wrong.as_ref().unwrap_or(&expected));
    Ok(())
}
