#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod app;
pub mod baseline;
pub mod contest;
pub mod doctor;
pub mod evaluate;
pub mod flamegraph;
pub mod init;
pub mod manifest;
pub mod measurement;
pub mod outcome;
mod progress;
pub mod quantity;
pub mod report;
pub mod revision;
pub mod rivals;
pub mod run;
pub mod seeds;
pub mod source;
pub mod thresholds;
pub mod verdict;
