//! faiss-cpu 1.15.1 under Python 3.12, `IndexFlatIP`, timed inside Python: every inner product in `f32`.

use std::process::ExitCode;

use memory_store_contest::{Contest, FEWER, Promise, Question, Work};
use memory_store_in_python::Rival;
use python::Environment;

const RIVAL: Rival = Rival {
    environment: Environment {
        name: "faiss",
        packages: &["faiss-cpu==1.15.1", "numpy==2.5.5"],
        probe: "import faiss, numpy",
    },
    script: include_str!("contest.py"),
    note: "faiss-cpu 1.15.1, IndexFlatIP, one query a call, one thread, timed inside Python",
    promise: Promise::Measured,
};

fn main() -> ExitCode {
    let fewer = FEWER.map(|prefetch| Work::Among { prefetch });
    let works =
        [Work::Answer(Question::Composite), Work::Answer(Question::Similarity), Work::Append].into_iter().chain(fewer);
    works.fold(Contest::of("faiss"), |contest, work| contest.add(work, move |bench| RIVAL.measure(bench, work))).run()
}
