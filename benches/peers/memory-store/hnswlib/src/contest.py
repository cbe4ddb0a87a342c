"""hnswlib in the contest of memory stores; follows `common.py`."""

import hnswlib

# Neighbours of a memory in the graph, and candidates that are kept while one is added.
CONNECTIVITY, EXPANSION_ADD = 16, 200
# Places for vectors that are added.
SPARE = 50_000


class Graph:
    def load(self):
        vectors = self.corpus.vectors
        path = os.path.join(self.corpus.folder, "hnswlib.graph")
        self.index = hnswlib.Index(space="ip", dim=DIMENSIONS)
        if not os.path.exists(path):
            # Takes minutes: it is kept beside the corpus.
            self.index.init_index(len(vectors), M=CONNECTIVITY, ef_construction=EXPANSION_ADD)
            self.index.add_items(vectors, np.arange(len(vectors)), num_threads=1)
            self.index.save_index(path + ".tmp")
            os.rename(path + ".tmp", path)
        self.index = hnswlib.Index(space="ip", dim=DIMENSIONS)
        self.index.load_index(path, max_elements=len(vectors) + SPARE)
        self.index.set_num_threads(1)

    def set(self, setting):
        self.index.set_ef(setting)

    def fetch(self, query, k):
        ids, distances = self.index.knn_query(query, k, num_threads=1)
        return ids[0], 1 - distances[0]


class GraphSimilar(Graph, Similar):
    settings = (12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


class GraphReranked(Graph, Reranked):
    pass


class GraphAppended(Graph, Appended):
    def append(self, number, vector):
        self.index.add_items(vector, number, num_threads=1)

    def count(self):
        return self.index.get_current_count()


run({"composite": GraphReranked, "similarity": GraphSimilar, "append": GraphAppended})
