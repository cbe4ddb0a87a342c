//! The original's formula over whole arrays of NumPy under Python 3.12, timed inside Python: what a good engineer makes of the loop.

use std::process::ExitCode;

use memory_store_contest::{Contest, Promise, Question, Work};
use memory_store_in_python::Rival;
use python::Environment;

const RIVAL: Rival = Rival {
    environment: Environment { name: "numpy", packages: &["numpy==2.5.5"], probe: "import numpy" },
    script: include_str!("contest.py"),
    note: "NumPy 2.5.5 with its OpenBLAS, f32, the whole formula over arrays, argpartition, one thread, timed inside Python",
    promise: Promise::Measured,
};

fn main() -> ExitCode {
    let works =
        [Work::Answer(Question::Composite), Work::Answer(Question::Similarity), Work::Answer(Question::Original)]
            .into_iter();
    works.fold(Contest::of("numpy"), |contest, work| contest.add(work, move |bench| RIVAL.measure(bench, work))).run()
}
