//! Request batcher.
