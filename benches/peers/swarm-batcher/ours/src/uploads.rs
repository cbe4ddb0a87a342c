//! Uploads of telemetry: every record is encoded where it comes from, a flush joins and compresses them.

use swarm_batcher::telemetry::{EncodedItem, Encoder, Payload, encode_item};
use swarm_batcher_contest::telemetry::{Encodes, TelemetryRecord};

pub(crate) struct Uploads {
    encoder: Encoder,
    items: Vec<EncodedItem>,
}

/// The bytes of a payload.
pub(crate) struct Body(Payload);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.0.body
    }
}

impl Encodes for Uploads {
    const NOTE: &'static str =
        "encode_item for each record, then one Encoder for all uploads; the records are structs that exist already";
    type Body = Body;

    fn open() -> Self {
        Self { encoder: Encoder::new().expect("there is memory"), items: Vec::new() }
    }

    fn encode(&mut self, records: &[TelemetryRecord]) -> Body {
        let encoded = records.iter().map(|record| encode_item(record).expect("strings and numbers are encoded"));
        self.items.clear();
        self.items.extend(encoded);
        Body(self.encoder.encode(&self.items).expect("there is memory"))
    }
}
