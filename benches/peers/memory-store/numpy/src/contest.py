"""The original's formula over whole arrays in the contest of memory stores; follows `common.py`."""


class Arrays(Asked):
    def open(self):
        corpus = self.corpus
        # Kept ready, as no question changes them.
        self.norms = np.linalg.norm(corpus.vectors, axis=1)
        self.hours = corpus.hours.astype(np.float32)
        self.setting = "all scores, then the highest"

    def cosines(self, query):
        return self.corpus.vectors @ query / (self.norms * np.linalg.norm(query) + 1e-10)

    def answer(self, query):
        temporal = np.exp(-0.1 * (np.float32(NOW) - self.hours))
        scores = 0.5 * self.cosines(query) + 0.3 * temporal + self.corpus.recurrence
        return highest(scores, self.k)


class ArraysSimilar(Arrays):
    def answer(self, query):
        return highest(self.cosines(query), self.k)


run({"composite": Arrays, "similarity": ArraysSimilar})
