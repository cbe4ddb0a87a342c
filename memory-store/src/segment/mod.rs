//! Rows: what a store remembers, a column for each of its properties.
//!
//! A segment takes a fixed number of rows. What a row is made of (vector, codes, payload, ids) never changes; what it counts for (when it was
//! seen, how often, its class) is changed in place. A row ends when it is marked as dead, and its memory is given back with the segment.

mod column;
mod maxima;
mod raw;

#[cfg(all(test, memory_store_loom))]
pub(crate) use maxima::raise_then;
pub(crate) use maxima::{Maxima, Standing};
pub(crate) use raw::{Appender, NewRow, Restored, RestoredRow, Rows, Segment, Shape, tag};

/// Rows of a group, which share bounds and a plane of signs.
pub(crate) const GROUP: usize = 64;
