# SPDX-License-Identifier: Apache-2.0
"""Groups of embeddings, one for each speaker of a recording, and the number of speakers. Needs no torch."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rawnext.errors import InputError

LLR, COSINE = 0.0, 0.3  # thresholds of log-likelihood ratios, and of cosines by the model of the package


class Options(NamedTuple):
    """Settings of a diarization.

    window, shift: of the embeddings, in seconds.   num_speakers: 0: estimated.   max_speakers, threshold: see cluster.
    """

    window: float = 1.5
    shift: float = 0.75
    num_speakers: int = 0
    max_speakers: int = 10
    threshold: float | None = None

    def check(self) -> None:
        """Raise InputError if a value makes no sense."""
        if not (0.1 <= self.window <= 60 and 0.05 <= self.shift <= self.window):
            raise InputError("--window and --shift", None, "want a window of 0.1 to 60 s, and a shift of 0.05 s up to "
                                                           f"the window, got {self.window:g} and {self.shift:g}")
        if not (self.num_speakers >= 0 and self.max_speakers >= 1 and np.isfinite(self.threshold or 0)):
            raise InputError("--num-speakers, --max-speakers and --threshold", None, "want 0 or more, 1 or more, and a "
                                                                                     "finite number")


def cluster(x: np.ndarray, options: Options, llrs: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
    """(N, D) embeddings -> (N,) numbers of groups, from 0 in the order of their first members.

    Agglomerative clustering: the two groups with the highest mean similarity of their members become one, until there
    are num_speakers groups; or, if that is 0, until the mean is below the threshold and there are at most max_speakers.
    Takes 8 N^2 bytes of memory: 0.2 GB for an hour of speech with a shift of 0.75 s.

    Args: llrs: gives the (N (N - 1) / 2,) log-likelihood ratios of the pairs (0, 1), (0, 2), ...; None: cosines are the
        similarities. The default threshold is LLR or COSINE.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist

    if len(x) < 2:
        return np.zeros(len(x), int)
    similarity, threshold = (1 - pdist(x, "cosine"), COSINE) if llrs is None else (llrs(x), LLR)
    if options.threshold is not None:
        threshold = options.threshold
    highest = similarity.max()
    tree = linkage(highest - similarity, "average")
    num = options.num_speakers or min(options.max_speakers, 1 + int(np.sum(tree[:, 2] > highest - threshold)))
    labels = fcluster(tree, num, "maxclust")
    _, first, number = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number]
