//! wip
pub mod ring;
mod sync;
