"""The loop of AstraGuard's `AdaptiveMemoryStore.retrieve` in the contest of memory stores; follows `common.py`."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass
class Event:
    embedding: np.ndarray
    metadata: dict
    timestamp: datetime
    recurrence_count: int


class Loop(Asked):
    """One event after the other, then a sort of all scores."""

    def open(self):
        corpus, start = self.corpus, datetime(2026, 1, 1)
        self.now = start + timedelta(hours=NOW)
        rows = zip(corpus.vectors, corpus.hours.tolist(), corpus.times.tolist())
        self.memory = [
            Event(vector, {"id": i}, start + timedelta(hours=hours), times)
            for i, (vector, hours, times) in enumerate(rows)
        ]
        self.setting = "a loop over all events"

    def similarity(self, a, b):
        norms = np.linalg.norm(a) * np.linalg.norm(b)
        if norms == 0:
            return 0.0
        return float(np.dot(a, b) / (norms + 1e-10))

    def answer(self, query):
        scored = []
        for event in self.memory:
            age = (self.now - event.timestamp).total_seconds() / 3600
            score = (
                0.5 * self.similarity(query, event.embedding)
                + 0.3 * math.exp(-0.1 * age)
                + 0.2 * (1 + 0.3 * math.log(1 + event.recurrence_count))
            )
            scored.append((score, event.metadata, event.timestamp))
        scored.sort(key=lambda entry: entry[0], reverse=True)
        return [metadata["id"] for _, metadata, _ in scored[: self.k]]

    async def round(self):
        # One query, the next one: a loop takes seconds.
        queries = self.corpus.queries
        query = queries[self.observed % len(queries)]
        start = time.perf_counter_ns()
        answer = self.answer(query)
        elapsed = time.perf_counter_ns() - start
        self.answers = (self.answers + [answer])[: len(queries)]
        self.observed += 1
        return elapsed, 1


run({"composite": Loop})
