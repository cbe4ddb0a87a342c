//! One caller with nobody beside it: what a call costs where there is nothing to batch.

use std::time::Instant;

use harness::{Bench, BenchError};
use tokio::runtime::Builder;

use crate::calls::{call, runtime};
use crate::replies::Tally;
use crate::{Calls, Work};

/// One operation is one call, which has its reply before the next one is made. Everything is on one thread: no hand-over between
/// processors is in the figure.
pub(crate) fn measure<C: Calls>(bench: &mut Bench, work: Work) -> Result<(), BenchError> {
    bench.note(C::NOTE);
    let calls = work.calls_each(C::LINGERS);
    let mut tally = Tally::new(calls);
    let runtime = runtime(&mut Builder::new_current_thread())?;
    let mut batcher = runtime.block_on(async { C::open(work.handler()) });
    bench.rounds(|| {
        let (elapsed, replies) = runtime.block_on(async {
            let began = Instant::now();
            let replies = call(&mut batcher, 0, calls).await;
            (began.elapsed(), replies)
        });
        tally.add([replies].into_iter());
        (elapsed, calls)
    })?;
    tally.state(bench);
    Ok(())
}
