"""The encoding of AstraGuard's `RequestBatcher` as a work of the contest, timed where it runs.

Follows `runner.py` of the package `python`, which imports what is common.
"""

import msgpack
import zstandard


class Uploads:
    """One operation is one upload: MessagePack of all items at once, compressed in one go."""

    async def prepare(self, work):
        self.items, self.uploads = json.loads(work["records"]), work["uploads"]
        self.compressor = zstandard.ZstdCompressor(level=3)
        self.observed = 0

    async def round(self):
        pack, compress, items = msgpack.packb, self.compressor.compress, self.items
        start = time.perf_counter_ns()
        for _ in range(self.uploads):
            body = compress(pack({"telemetry": items}, use_bin_type=True))
        elapsed = time.perf_counter_ns() - start
        self.body = body
        self.observed += self.uploads
        return elapsed, self.uploads

    async def finish(self):
        self.details = list(self.body)


run({"encode": Uploads})
