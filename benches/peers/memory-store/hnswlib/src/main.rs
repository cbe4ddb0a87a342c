//! The graph index hnswlib 0.8.0 under Python 3.12, compiled for this machine, timed inside Python.
//!
//! A graph is built once, which takes minutes, and kept beside the corpus.

use std::process::ExitCode;

use memory_store_contest::{Contest, FEWER, Promise, Question, Work};
use memory_store_in_python::Rival;
use python::Environment;

const RIVAL: Rival = Rival {
    environment: Environment {
        name: "hnswlib",
        packages: &["hnswlib==0.8.0", "numpy==2.5.5"],
        probe: "import hnswlib, numpy",
    },
    script: include_str!("contest.py"),
    note: "hnswlib 0.8.0 compiled for this machine, inner product of unit vectors, M 16, ef_construction 200, one query a call, one thread, timed inside Python",
    promise: Promise::Measured,
};

fn main() -> ExitCode {
    let fewer = FEWER.map(|prefetch| Work::Among { prefetch });
    let works =
        [Work::Answer(Question::Composite), Work::Answer(Question::Similarity), Work::Append].into_iter().chain(fewer);
    works.fold(Contest::of("hnswlib"), |contest, work| contest.add(work, move |bench| RIVAL.measure(bench, work))).run()
}
