//! A child that does not outlive its parent.
#![allow(unsafe_code, reason = "what a child does before it becomes another program can be said in no other way")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// Has the kernel send SIGQUIT to the child, which PostgreSQL takes as "stop at once", when the thread that starts it ends, and with it
/// when its process does, however that happens. The signal is asked for after the change of user, which would clear it.
pub(crate) fn dies_with_this_thread(command: &mut Command) {
    let parent = getpid();
    let ask = move || {
        set_parent_process_death_signal(Some(Signal::QUIT))?;
        if getppid() == Some(parent) {
            Ok(())
        } else {
            // The parent has died since the fork: nobody will send the signal.
            Err(io::Error::from(io::ErrorKind::NotFound))
        }
    };
    // SAFETY: between fork and exec the closure makes two system calls; it takes no lock and allocates nothing.
    unsafe { command.pre_exec(ask) };
}
