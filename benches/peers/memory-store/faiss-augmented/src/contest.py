"""The flat index of faiss over vectors that carry age and recurrence, in the contest of memory stores; follows `common.py`."""

import math

import faiss

faiss.omp_set_num_threads(1)


class Augmented(Asked):
    """Two more dimensions: what is left after the age at a fixed moment, and recurrence. The inner product is then the score."""

    def open(self):
        corpus = self.corpus
        # Within f32 for as long as all ages differ by less than 36 days at this decay.
        self.moment = corpus.hours[-1]
        left = np.exp(-0.1 * (self.moment - corpus.hours)).astype(np.float32)
        self.index = faiss.IndexFlatIP(DIMENSIONS + 2)
        self.index.add(np.column_stack((corpus.vectors, left, corpus.recurrence)))
        self.setting = "two more dimensions"

    def answer(self, query):
        question = np.empty((1, DIMENSIONS + 2), dtype=np.float32)
        question[0, :DIMENSIONS] = 0.5 * query
        question[0, DIMENSIONS:] = 0.3 * math.exp(-0.1 * (NOW - self.moment)), 1
        return self.index.search(question, self.k)[1][0]


run({"composite": Augmented})
