//! What this process uses, read once in a while for everyone.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::HeartbeatError;
use crate::time::{nanos, nanos_since};

/// Figures of the process.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    /// Processor time over time between the last two readings: 1 is one processor all the time. 0 until there are two.
    pub cpu: f32,
    /// Resident memory, in bytes, to a kibibyte, and 4 TiB at most.
    pub memory: u64,
}

impl Figures {
    /// One word, so that they are read together and without a lock.
    fn pack(self) -> u64 {
        let kibibytes = u32::try_from(self.memory >> 10).unwrap_or(u32::MAX);
        u64::from(self.cpu.to_bits()) << 32 | u64::from(kibibytes)
    }

    fn unpack(word: u64) -> Self {
        Self { cpu: f32::from_bits((word >> 32) as u32), memory: (word & u64::from(u32::MAX)) << 10 }
    }
}

/// What a source tells: processor time since the process began, and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all threads since the process began.
    pub cpu_time: Duration,
    /// Resident memory, in bytes.
    pub memory: u64,
}

type Source = dyn Fn() -> io::Result<Usage> + Send + Sync;

/// The process's figures, read again when they are older than their time to live: once, however many ask.
///
/// # Consistency
/// Of the callers that find the figures too old one reads, and the others get the old ones meanwhile: nobody waits. A reading that fails
/// leaves the old figures, is counted, and is tried again after another time to live.
///
/// # Cost
/// A look at figures that are fresh is two atomic loads. Nothing allocates. A reading is four system calls (`/proc/self/statm` and the
/// process's clock), some microseconds, in the thread of the caller that does it: it computes in the kernel and waits for no device.
pub struct Resources {
    source: Box<Source>,
    ttl: u64,
    epoch: Instant,
    /// Nanoseconds since the epoch.
    due: AtomicU64,
    figures: AtomicU64,
    last: Mutex<Reading>,
    reads: AtomicU64,
    failures: AtomicU64,
}

struct Reading {
    cpu_time: Duration,
    at: u64,
}

impl Resources {
    /// For how long figures are good: 60 s.
    pub const TTL: Duration = Duration::from_secs(60);

    /// The figures of this process, read at `now` and again when they are older than `ttl`; with a `ttl` of zero, by every caller.
    ///
    /// # Errors
    /// [`HeartbeatError::Unsupported`] elsewhere than on Linux; [`HeartbeatError::Unreadable`] if they cannot be read.
    pub fn of_this_process(ttl: Duration, now: Instant) -> Result<Self, HeartbeatError> {
        if cfg!(target_os = "linux") { Self::from_source(ttl, now, usage) } else { Err(HeartbeatError::Unsupported) }
    }

    /// The same from another source, such as that of a container or of a test.
    ///
    /// # Errors
    /// [`HeartbeatError::Unreadable`] if the source fails the first time.
    pub fn from_source(
        ttl: Duration,
        now: Instant,
        source: impl Fn() -> io::Result<Usage> + Send + Sync + 'static,
    ) -> Result<Self, HeartbeatError> {
        let first = source().map_err(HeartbeatError::Unreadable)?;
        let ttl = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
        let figures = Figures { cpu: 0.0, memory: first.memory };
        Ok(Self {
            source: Box::new(source),
            ttl,
            epoch: now,
            due: AtomicU64::new(ttl),
            figures: AtomicU64::new(figures.pack()),
            last: Mutex::new(Reading { cpu_time: first.cpu_time, at: 0 }),
            reads: AtomicU64::new(1),
            failures: AtomicU64::new(0),
        })
    }

    /// The figures, at most as old as their time to live, but for the moment in which another thread reads them.
    #[inline]
    pub fn figures(&self, now: Instant) -> Figures {
        let now = nanos_since(self.epoch, now);
        let due = self.due.load(Ordering::Relaxed);
        if now >= due {
            self.read_if_first(due, now);
        }
        self.last_figures()
    }

    /// How often the source was read.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// How many of these readings failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    #[cold]
    fn read_if_first(&self, due: u64, now: u64) {
        let next = now.saturating_add(self.ttl);
        if self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        let Ok(Usage { cpu_time, memory }) = (self.source)() else {
            self.failures.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // With a time to live of next to nothing, another thread may have read later and got here earlier.
        if let Some(passed) = now.checked_sub(last.at).filter(|passed| *passed > 0) {
            let cpu = nanos(cpu_time.saturating_sub(last.cpu_time)) as f32 / passed as f32;
            *last = Reading { cpu_time, at: now };
            self.figures.store(Figures { cpu, memory }.pack(), Ordering::Relaxed);
        }
    }

    fn last_figures(&self) -> Figures {
        Figures::unpack(self.figures.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resources")
            .field("figures", &self.last_figures())
            .field("reads", &self.reads())
            .finish_non_exhaustive()
    }
}

#[cfg(target_os = "linux")]
fn usage() -> io::Result<Usage> {
    use std::io::Read;

    use rustix::param::page_size;
    use rustix::time::{ClockId, clock_gettime};

    let mut text = [0; 128];
    let length = std::fs::File::open("/proc/self/statm")?.read(&mut text)?;
    // The second number is that of resident pages (proc(5)).
    let resident =
        std::str::from_utf8(&text[..length]).ok().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let resident = resident
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self/statm is not as proc(5) has it"))?;
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Ok(Usage {
        cpu_time: Duration::new(time.tv_sec as u64, time.tv_nsec as u32),
        memory: resident * page_size() as u64,
    })
}

#[cfg(not(target_os = "linux"))]
fn usage() -> io::Result<Usage> {
    Err(io::ErrorKind::Unsupported.into())
}
