"""The works of the contest for orchestrix, timed where they run.

Follows `runner.py` of the package `python` and `quiet.py` of `orchestrix`, which import what is common.
The asynchronous memory store takes part, in a loop that is running: the way in which the library's guide measures it.
"""

from dataclasses import dataclass

from orchestrix.core.messaging.message import Event
from orchestrix.infrastructure.memory import InMemoryAsyncEventStore

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
    """One operation is one call: single events to one stream that grows, batches each to a stream of their own.

    The details are the calls that each store took before it was replaced.
    """

    async def prepare(self, work):
        self.batch, self.calls_a_round, self.large = work["batch"], work["ops_a_round"], work["large_store"]
        self.source, self.observed, self.details = Source(work["payload"]), 0, []
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
        self.details.append(self.calls)
        self.start_afresh()


class Loads:
    """One operation is one visit of the whole stream."""

    async def prepare(self, work):
        self.loads, self.observed, self.details = work["ops_a_round"], 0, []
        self.store = InMemoryAsyncEventStore()
        await self.store.save(STREAM, Source(work["payload"]).events(work["events"]), -1)

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


run({"save": Saves, "load": Loads, "load-owned": OwnedLoads})
