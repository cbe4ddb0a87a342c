#![doc = include_str!("../README.md")]

mod cache;
mod cluster;
mod discover;
mod error;
mod keeper;
mod parent_death;
mod place;
mod proxy;
mod server;
mod standing;
mod wheel;

pub use cluster::StopMode;
pub use discover::Source;
pub use error::{Error, INSTALL, Tried};
pub use proxy::{Counts, Direction, Proxy, Toxic, ToxicId, Upstream};
pub use server::{Backend, BackendSignal, Database, Profile, Server, ServerBuilder, ServerReport};
pub use standing::{Holder, Standing};
