//! faiss-cpu 1.15.1 under Python 3.12, `IndexFlatIP` over vectors with two more dimensions, timed inside Python: the inner product is the
//! composite score itself. It knows one rate of decay, and 36 days at most.

use std::process::ExitCode;

use memory_store_contest::{Contest, Promise, Question, Work};
use memory_store_in_python::Rival;
use python::Environment;

const RIVAL: Rival = Rival {
    environment: Environment {
        name: "faiss",
        packages: &["faiss-cpu==1.15.1", "numpy==2.5.5"],
        probe: "import faiss, numpy",
    },
    script: include_str!("contest.py"),
    note: "faiss-cpu 1.15.1, IndexFlatIP over 386 dimensions, two of which hold age and recurrence, one query a call, one thread, timed inside Python",
    promise: Promise::Measured,
};

fn main() -> ExitCode {
    let works = [Work::Answer(Question::Composite)].into_iter();
    works
        .fold(Contest::of("faiss-augmented"), |contest, work| {
            contest.add(work, move |bench| RIVAL.measure(bench, work))
        })
        .run()
}
