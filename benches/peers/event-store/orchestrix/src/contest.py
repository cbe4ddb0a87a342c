"""The works of the contest for orchestrix, timed where they run. Prints one line of JSON.

Argument: the work as JSON (see `script.rs`). The asynchronous memory store takes part, in a loop that is running: the way in
which the library's guide measures it.
"""

import asyncio
import gc
import json
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import orchestrix  # noqa: F401 - it sets up logging, which is turned off below
from orchestrix.core.messaging.message import Event
from orchestrix.infrastructure.memory import InMemoryAsyncEventStore

logging.disable(logging.CRITICAL)
logging.getLogger().setLevel(logging.CRITICAL)
logging.getLogger("orchestrix").setLevel(logging.CRITICAL)

WHEN = datetime(2023, 11, 14, tzinfo=UTC)
STREAM = "orders-1"


@dataclass(frozen=True, kw_only=True)
class OrderPlaced(Event):
    """An event of the contest; `data` is the payload, `subject` the tag."""


class Source:
    """Makes events whose ids never repeat, each with a payload of its own."""

    def __init__(self, payload):
        self.payload = bytearray([payload["byte"]]) * payload["length"]
        self.next_id = 1

    def events(self, count):
        return [self.event() for _ in range(count)]

    def event(self):
        spread = self.next_id * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128)
        self.next_id += 1
        return OrderPlaced(id=f"{spread:032x}", timestamp=WHEN, subject="customer:4711", data=bytes(self.payload))


async def contents(store, stream):
    """Events, versions and payload bytes of a stream, added up."""
    return sum(1 + version + sum(event.data) for version, event in enumerate(await store.load(stream)))


class Saves:
    """One operation is one call: single events to one stream that grows, batches each to a stream of their own."""

    async def prepare(self, work, source):
        self.batch, self.calls_a_round, self.large = work["batch"], work["ops_a_round"], work["large_store"]
        self.source, self.observed, self.stores = source, 0, []
        self.start_afresh()

    def start_afresh(self):
        self.store, self.calls = InMemoryAsyncEventStore(), 0

    async def round(self):
        if (self.calls + self.calls_a_round) * self.batch > self.large:
            await self.finish()
        calls = range(self.calls, self.calls + self.calls_a_round)
        single = self.batch == 1
        # The version of an empty stream is -1.
        built = [
            ("orders-0" if single else f"orders-{call}", self.source.events(self.batch), call - 1 if single else -1)
            for call in calls
        ]
        save = self.store.save
        start = time.perf_counter_ns()
        for stream, events, expected in built:
            await save(stream, events, expected)
        elapsed = time.perf_counter_ns() - start
        self.calls += self.calls_a_round
        return elapsed, self.calls_a_round

    async def finish(self):
        """Adds up what the store holds and starts with an empty one."""
        streams = 1 if self.batch == 1 else self.calls
        for stream in range(streams):
            self.observed += await contents(self.store, f"orders-{stream}")
        self.stores.append(self.calls)
        self.start_afresh()


class Loads:
    """One operation is one visit of the whole stream."""

    async def prepare(self, work, source):
        self.loads, self.observed, self.stores = work["ops_a_round"], 0, []
        self.store = InMemoryAsyncEventStore()
        await self.store.save(STREAM, source.events(work["events"]), -1)

    async def round(self):
        total, load = 0, self.store.load
        start = time.perf_counter_ns()
        for _ in range(self.loads):
            for index, event in enumerate(await load(STREAM)):
                total += (index + 1) + index + len(event.data)
        elapsed = time.perf_counter_ns() - start
        self.observed += total
        return elapsed, self.loads

    async def finish(self):
        pass


class OwnedLoads(Loads):
    """One operation is one list of the whole stream, every payload of it looked at."""

    async def round(self):
        start = time.perf_counter_ns()
        owned = await self.store.load(STREAM)
        size = sum(len(event.data) for event in owned)
        elapsed = time.perf_counter_ns() - start
        self.observed += len(owned) + size
        return elapsed, 1


def end_with_the_parent():
    """Nothing is written to the input: it ends when the process that holds it is gone, killed or not."""
    while os.read(0, 1):
        pass
    os._exit(1)


async def main():
    work = json.loads(sys.argv[1])
    contest = {"save": Saves, "load": Loads, "load-owned": OwnedLoads}[work["kind"]]()
    await contest.prepare(work, Source(work["payload"]))
    per_op_ns, operations = [], 0
    warm_up_ends = time.perf_counter_ns() + work["warm_up_ns"]
    # As in `timeit`, no collection falls into the timing; there are no cycles to collect.
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
                "calls_of_stores": contest.stores,
            }
        )
    )


threading.Thread(target=end_with_the_parent, daemon=True).start()
asyncio.run(main())
