"""Times the works of a contest where they run, and prints one line of JSON.

Argument: the work as JSON. The script of a contest follows: it defines the works and calls `run`. A work has `prepare(work)`,
`round()`, which returns nanoseconds and operations, and `finish()`, then `observed`, what the operations produced, and `details`.
"""

import asyncio
import gc
import json
import os
import sys
import threading
import time


def end_with_the_parent():
    """Nothing is written to the input: it ends when the process that holds it is gone, killed or not."""
    while os.read(0, 1):
        pass
    os._exit(1)


async def measure(work, contest):
    await contest.prepare(work)
    per_op_ns, operations = [], 0
    warm_up_ends = time.perf_counter_ns() + work["warm_up_ns"]
    # As in `timeit`, no collection falls into the timing.
    gc.disable()
    while operations == 0 or time.perf_counter_ns() < warm_up_ends:
        operations += (await contest.round())[1]
    measuring_ends = time.perf_counter_ns() + work["measure_ns"]
    while len(per_op_ns) < work["least_rounds"] or time.perf_counter_ns() < measuring_ends:
        elapsed, done = await contest.round()
        per_op_ns.append(elapsed / done)
        operations += done
    await contest.finish()
    print(
        json.dumps(
            {
                "per_op_ns": per_op_ns,
                "operations": operations,
                "observed": contest.observed,
                "details": contest.details,
            }
        )
    )


def run(contests):
    """Runs the work that the argument asks for; `contests` has a class a kind of work."""
    threading.Thread(target=end_with_the_parent, daemon=True).start()
    work = json.loads(sys.argv[1])
    asyncio.run(measure(work, contests[work["kind"]]()))
