# What the rivals' scripts share: the corpus, how queries are asked, and how what was fetched by similarity is re-ranked.

# Before NumPy is imported: one thread, as for all contenders.
for library in ("OPENBLAS", "OMP", "MKL"):
    os.environ[library + "_NUM_THREADS"] = "1"

import numpy as np

DIMENSIONS, NOW = 384, 721.0


class Corpus:
    def __init__(self, folder):
        def read(name, kind):
            return np.fromfile(os.path.join(folder, name), dtype=kind)

        self.folder = folder
        self.vectors = read("vectors.f32", "<f4").reshape(-1, DIMENSIONS)
        self.queries = read("queries.f32", "<f4").reshape(-1, DIMENSIONS)
        self.further = read("further.f32", "<f4").reshape(-1, DIMENSIONS)
        self.hours = read("hours.f64", "<f8")
        self.times = read("times.u32", "<u4")
        # What recurrence adds, which no question changes.
        self.recurrence = (0.2 * (1 + 0.3 * np.log1p(self.times))).astype(np.float32)


class Asked:
    """Rounds of all queries; a subclass defines `open`, and `answer(query)`, which is timed."""

    setting = ""

    async def prepare(self, work):
        self.work, self.k = work, work["k"]
        # A round of slow ones takes seconds: three give an interval.
        work["least_rounds"] = 3
        self.corpus = Corpus(work["folder"])
        self.observed, self.answers = 0, []
        self.open()

    async def round(self):
        queries, answer = self.corpus.queries, self.answer
        start = time.perf_counter_ns()
        answers = [answer(query) for query in queries]
        elapsed = time.perf_counter_ns() - start
        self.answers = answers
        self.observed += len(answers)
        return elapsed, len(answers)

    async def finish(self):
        answers = [np.asarray(answer).tolist() for answer in self.answers]
        self.details = {"answers": answers, "setting": self.setting}


class Similar(Asked):
    """The most similar. A subclass has `fetch(query, k)`, ids and cosines, and `settings`, the cheapest first, each given to `set`."""

    settings = (None,)

    def open(self):
        self.load()
        least, vectors = self.work["least"], self.corpus.vectors
        for self.setting in self.settings:
            self.set(self.setting)
            found = 0
            for query, limit in zip(self.corpus.queries, least):
                cosines = vectors[self.answer(query)].astype(np.float64) @ query.astype(np.float64)
                found += np.count_nonzero(cosines >= limit - 1e-6)
            if found >= 0.99 * len(least) * self.k:
                break
        self.setting = f"setting {self.setting}"

    def set(self, setting):
        pass

    def answer(self, query):
        return self.fetch(query, self.k)[0]


class Reranked(Asked):
    """The most similar, sorted by the composite score."""

    def open(self):
        self.load()
        self.prefetch = self.work["prefetch"]
        self.set(max(256, self.prefetch))
        self.setting = f"{self.prefetch} fetched"

    def set(self, setting):
        pass

    def answer(self, query):
        corpus = self.corpus
        ids, cosines = self.fetch(query, self.prefetch)
        temporal = 0.3 * np.exp(-0.1 * (NOW - corpus.hours[ids]))
        scores = 0.5 * cosines + temporal + corpus.recurrence[ids]
        return ids[highest(scores, self.k)]


class Appended:
    """One vector a call. A subclass defines `load`, `append(number, vector)` and `count`."""

    async def prepare(self, work):
        self.corpus = Corpus(work["folder"])
        self.load()
        self.number, self.observed = len(self.corpus.vectors), 0

    async def round(self):
        further, number, append = self.corpus.further, self.number, self.append
        vectors = [further[(number + i) % len(further)] for i in range(32)]
        start = time.perf_counter_ns()
        for i, vector in enumerate(vectors):
            append(number + i, vector)
        elapsed = time.perf_counter_ns() - start
        self.number += len(vectors)
        return elapsed, len(vectors)

    async def finish(self):
        self.observed = self.count()
        self.details = {"answers": [], "setting": "one vector a call"}


def highest(scores, k):
    """The places of the highest scores, highest first."""
    places = np.argpartition(scores, -k)[-k:]
    return places[np.argsort(scores[places])[::-1]]
