//! The loop of AstraGuard's `AdaptiveMemoryStore.retrieve` under Python 3.12, timed inside Python: an event after the other, then a sort
//! of all.

use std::process::ExitCode;

use memory_store_contest::{Contest, Promise, Question, Work};
use memory_store_in_python::Rival;
use python::Environment;

const RIVAL: Rival = Rival {
    environment: Environment { name: "numpy", packages: &["numpy==2.5.5"], probe: "import numpy" },
    script: include_str!("contest.py"),
    note: "Python 3.12 and NumPy 2.5.5, a loop over events that have an array each, one thread, timed inside Python",
    promise: Promise::Measured,
};

fn main() -> ExitCode {
    let works = [Work::Answer(Question::Original)].into_iter();
    works
        .fold(Contest::of("astraguard"), |contest, work| contest.add(work, move |bench| RIVAL.measure(bench, work)))
        .run()
}
