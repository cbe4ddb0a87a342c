"""The works of the contest for orchestrix, timed where they run.

Follows `runner.py` of the package `python` and `quiet.py` of `orchestrix`, which import what is common.
The asynchronous message bus takes part, in a loop that is running.
"""

from dataclasses import dataclass

from orchestrix.core.messaging.message import Event
from orchestrix.infrastructure.memory import InMemoryAsyncMessageBus


@dataclass(frozen=True, kw_only=True)
class NumberAdded(Event):
    """The event; `data` is the number."""


class Publishes:
    """One operation is one publish, awaited: its handlers have run then."""

    details = None

    async def prepare(self, work):
        self.bus, self.sums = InMemoryAsyncMessageBus(), [0] * work["handlers"]
        self.events = [NumberAdded(id=f"{number:032x}", timestamp=WHEN, data=number) for number in range(work["publishes"])]
        for place in range(work["handlers"]):
            self.bus.subscribe(NumberAdded, self.handler(place))

    def handler(self, place):
        sums = self.sums

        async def add(event):
            sums[place] += event.data

        return add

    async def round(self):
        publish, events = self.bus.publish, self.events
        start = time.perf_counter_ns()
        for event in events:
            await publish(event)
        elapsed = time.perf_counter_ns() - start
        # What the publishes left behind goes between the rounds.
        gc.collect()
        return elapsed, len(events)

    async def finish(self):
        self.observed = sum(self.sums)


run({"inline": Publishes})
