//! Standard output turned away for a while.

use std::fs::File;
use std::io::{self, Write as _, stdout};
use std::os::fd::AsFd as _;

use rustix::stdio::dup2_stdout;

/// Runs `work` with standard output going to the null device: a pipe that somebody reads would be slower, and in the way.
///
/// Output is lost for good if `work` panics.
pub(crate) fn without_output<R>(work: impl FnOnce() -> R) -> io::Result<R> {
    let null = File::options().write(true).open("/dev/null")?;
    stdout().flush()?;
    let kept = stdout().as_fd().try_clone_to_owned()?;
    dup2_stdout(&null)?;
    let result = work();
    stdout().flush()?;
    dup2_stdout(&kept)?;
    Ok(result)
}
