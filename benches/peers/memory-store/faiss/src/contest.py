"""The flat index of faiss in the contest of memory stores; follows `common.py`."""

import faiss

faiss.omp_set_num_threads(1)


class Flat:
    def load(self):
        self.index = faiss.IndexFlatIP(DIMENSIONS)
        self.index.add(self.corpus.vectors)

    def fetch(self, query, k):
        cosines, ids = self.index.search(query[None], k)
        return ids[0], cosines[0]


class FlatSimilar(Flat, Similar):
    pass


class FlatReranked(Flat, Reranked):
    pass


class FlatAppended(Flat, Appended):
    def append(self, number, vector):
        self.index.add(vector[None])

    def count(self):
        return self.index.ntotal


run({"composite": FlatReranked, "similarity": FlatSimilar, "append": FlatAppended})
