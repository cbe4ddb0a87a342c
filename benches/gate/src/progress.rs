//! What a person sees while the benchmarks run: a bar on a terminal, plain lines otherwise. Always on standard error.

use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Counts benchmarks and says how many are left.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total: usize,
    done: usize,
    began: Instant,
}

impl Progress {
    /// Starts at none of `total` benchmarks.
    #[must_use]
    pub(crate) fn new(total: usize) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg:<48!} {eta} left")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            // Four times a second: drawing takes processor time from what is measured.
            let target = ProgressDrawTarget::stderr_with_hz(4);
            ProgressBar::with_draw_target(Some(total as u64), target).with_style(style)
        });
        Self { bar, total, done: 0, began: Instant::now() }
    }

    /// Says that `bench` begins.
    pub(crate) fn begin(&self, bench: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(bench.to_owned());
        }
    }

    /// Says that `bench` took `time`.
    pub(crate) fn finish(&mut self, bench: &str, time: Duration) {
        self.done += 1;
        match &self.bar {
            Some(bar) => bar.inc(1),
            None => {
                let (done, total) = (self.done, self.total);
                let width = total.to_string().len();
                let left = self.left().as_secs();
                eprintln!("[{done:>width$}/{total}] {bench:<52} {:>6.1} s, {left} s left", time.as_secs_f64());
            }
        }
    }

    /// Says something that stays on the screen.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    fn left(&self) -> Duration {
        let done = self.done.max(1) as f64;
        self.began.elapsed().mul_f64((self.total - self.done) as f64 / done)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
