//! There is no timer of the kernel's here.

use std::task::{Context, Poll};
use std::time::Instant;

/// Never made.
#[derive(Debug)]
pub(crate) enum KernelAlarm {}

impl KernelAlarm {
    pub(crate) fn new() -> Option<Self> {
        None
    }

    pub(crate) fn set(&self, _: Instant) {
        match *self {}
    }
}

/// Never made.
#[derive(Debug)]
pub(crate) enum KernelWatch {}

impl KernelWatch {
    pub(crate) fn new(alarm: &KernelAlarm) -> Option<Self> {
        match *alarm {}
    }

    pub(crate) fn poll_fired(&mut self, _: &mut Context<'_>) -> Poll<()> {
        match *self {}
    }
}
