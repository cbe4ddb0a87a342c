//! The body of a request: the MessagePack map `{"telemetry": [items]}` in one zstd frame.

use std::cell::Cell;
use std::fmt;
use std::io;

use bytes::Bytes;
use serde::Serialize;
use zstd::bulk::Compressor;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One item as MessagePack, made by [`encode_item`]: it is encoded where it comes from, so that a flush only joins bytes.
///
/// It is [`Send`] and [`Sync`] whatever the item was, and weighs its bytes plus 16.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodedItem(Box<[u8]>);

impl EncodedItem {
    /// The MessagePack bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for EncodedItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodedItem").field("bytes", &self.0.len()).finish()
    }
}

/// What could not be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The item's own `Serialize` failed. No other item is concerned.
    #[error("the item cannot be encoded: {0}")]
    Item(#[source] BoxError),
    /// More items than the header of a MessagePack array can count.
    #[error("{0} items do not fit into one request, at most 4294967295 do")]
    TooManyItems(usize),
    /// The compressor refused, which means that there was no memory for it. The [`Encoder`] can be used on.
    #[error("cannot compress: {0}")]
    Compress(#[source] io::Error),
}

/// A thread keeps no larger buffer than this between items.
const KEPT_SCRATCH: usize = 64 << 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Encodes one item: structs and maps as maps with the names of their fields, bytes (`serialize_bytes`) as MessagePack's binary type,
/// ids, addresses and times by their text, as serde formats for people do.
///
/// A `Serialize` written by hand must give as many entries as it announces, else it garbles the request that the item goes into.
///
/// Costs one allocation, of the item's size, once the thread's buffer has grown to its largest item (at most 64 KiB are kept).
///
/// # Errors
/// [`EncodeError::Item`] if the item's `Serialize` fails.
pub fn encode_item<T: Serialize + ?Sized>(item: &T) -> Result<EncodedItem, EncodeError> {
    // Taken, not borrowed: an item whose `Serialize` encodes another one finds an empty buffer.
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let mut serializer = rmp_serde::Serializer::new(&mut scratch).with_struct_map().with_human_readable();
    let encoded = match item.serialize(&mut serializer) {
        Ok(()) => Ok(EncodedItem(Box::from(scratch.as_slice()))),
        Err(error) => Err(EncodeError::Item(error.into())),
    };
    if scratch.capacity() <= KEPT_SCRATCH {
        SCRATCH.set(scratch);
    }
    encoded
}

/// The body of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Payload {
    /// The zstd frame, which states the size of its content.
    pub body: Bytes,
    /// How many items are in it.
    pub items: usize,
    /// Bytes of MessagePack before compression.
    pub uncompressed: usize,
}

const LEVEL: i32 = 3;
/// An encoder keeps no larger buffers than this between batches.
const KEPT_BUFFER: usize = 1 << 20;

/// A map of one entry, and its key: what stands before the array.
const PREFIX: &[u8] = b"\x81\xa9telemetry";
/// Room for the prefix and the longest header of an array.
const HEADER_ROOM: usize = PREFIX.len() + 5;

/// Joins encoded items to the body of a request and compresses it (zstd, level 3, one frame).
///
/// It keeps the compressor's tables (about 0.6 MB) and two buffers (at most 1 MiB each) from batch to batch; a batch then costs one
/// allocation, of the body's size. It is used by one flush at a time: let each flush that runs at the same time have its own.
///
/// ```
/// use std::collections::BTreeMap;
/// use swarm_batcher::telemetry::{Encoder, encode_item};
///
/// let items = [encode_item(&BTreeMap::from([("cpu", 0.5)]))?, encode_item(&BTreeMap::from([("cpu", 0.75)]))?];
/// let payload = Encoder::new()?.encode(&items)?;
/// assert_eq!((payload.items, payload.uncompressed), (2, 40));
/// # Ok::<(), swarm_batcher::telemetry::EncodeError>(())
/// ```
pub struct Encoder {
    compressor: Compressor<'static>,
    raw: Vec<u8>,
    compressed: Vec<u8>,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder whose tables and buffers grow with its first batch.
    ///
    /// # Errors
    /// [`EncodeError::Compress`] if there is no memory for a compressor.
    pub fn new() -> Result<Self, EncodeError> {
        let compressor = Compressor::new(LEVEL).map_err(EncodeError::Compress)?;
        Ok(Self { compressor, raw: Vec::new(), compressed: Vec::new() })
    }

    /// The body for these items, in their order. No items make a body with an empty array.
    ///
    /// # Errors
    /// [`EncodeError::TooManyItems`] beyond 2³² - 1 items, [`EncodeError::Compress`] if the compressor finds no memory. The encoder can be
    /// used on.
    pub fn encode<'a>(&mut self, items: impl IntoIterator<Item = &'a EncodedItem>) -> Result<Payload, EncodeError> {
        let Self { compressor, raw, compressed } = self;
        // The array's header depends on the count, which is known at the end: items start behind room for the longest one.
        raw.clear();
        raw.resize(HEADER_ROOM, 0);
        let mut count = 0;
        for item in items {
            raw.extend_from_slice(item.as_bytes());
            count += 1;
        }
        let start = write_header(&mut raw[..HEADER_ROOM], count)?;
        let content = &raw[start..];
        compressed.clear();
        compressed.reserve(zstd::zstd_safe::compress_bound(content.len()));
        compressor.compress_to_buffer(content, compressed).map_err(EncodeError::Compress)?;
        let payload = Payload { body: Bytes::copy_from_slice(compressed), items: count, uncompressed: content.len() };
        self.give_back();
        Ok(payload)
    }

    /// One huge batch must not hold its memory for ever.
    fn give_back(&mut self) {
        for buffer in [&mut self.raw, &mut self.compressed] {
            if buffer.capacity() > KEPT_BUFFER {
                *buffer = Vec::new();
            }
        }
    }
}

/// Writes what stands before `count` items to the end of `room`, in its shortest form, and says where it starts.
fn write_header(room: &mut [u8], count: usize) -> Result<usize, EncodeError> {
    let long = u32::try_from(count).map_err(|_| EncodeError::TooManyItems(count))?.to_be_bytes();
    let array: &[u8] = match count {
        0..=15 => &[0x90 | long[3]],
        16..=0xffff => &[0xdc, long[2], long[3]],
        _ => &[0xdd, long[0], long[1], long[2], long[3]],
    };
    let start = room.len() - array.len() - PREFIX.len();
    room[start..][..PREFIX.len()].copy_from_slice(PREFIX);
    room[start + PREFIX.len()..].copy_from_slice(array);
    Ok(start)
}

#[cfg(test)]
mod tests;
