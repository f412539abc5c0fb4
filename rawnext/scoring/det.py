# SPDX-License-Identifier: Apache-2.0
"""The DET curve as integer counts; every measure of rawnext.scoring.metrics is a function of it.

A trial is accepted if its score reaches the threshold, so trials with equal scores are decided alike.
N1 and N0 are the numbers of target and nontarget trials, N their sum, L the number of points. Takes O(N log N).
"""

from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike


class Det(NamedTuple):
    """DET curves from the strictest threshold (reject all) to the loosest (accept all).

    num_false_accepts, num_misses: (..., L) integers.   num_nontargets, num_targets: N0, N1, (...).
    thresholds: (L,) lowest score that each point accepts; infinite if it accepts none. Shared by all curves.
    """

    num_false_accepts: np.ndarray
    num_misses: np.ndarray
    num_nontargets: int | np.ndarray
    num_targets: int | np.ndarray
    thresholds: np.ndarray

    @property
    def fpr(self) -> np.ndarray:
        """(..., L) share of accepted nontarget trials."""
        return self.num_false_accepts / np.asarray(self.num_nontargets)[..., None]

    @property
    def fnr(self) -> np.ndarray:
        """(..., L) share of missed target trials."""
        return self.num_misses / np.asarray(self.num_targets)[..., None]

    @property
    def trials_at(self) -> tuple[np.ndarray, np.ndarray]:
        """(..., L - 1) numbers of target and nontarget trials at each threshold except the first."""
        return -np.diff(self.num_misses), np.diff(self.num_false_accepts)

    def curves(self) -> list["Det"]:
        """The curves one by one, each with counts of shape (L,)."""
        counts = [np.reshape(x, (-1, len(self.thresholds))) for x in (self.num_false_accepts, self.num_misses)]
        totals = [np.ravel(x).tolist() for x in (self.num_nontargets, self.num_targets)]
        return [Det(accepts, misses, num0, num1, self.thresholds) for accepts, misses, num0, num1 in
                zip(*counts, *totals)]

    def hull(self) -> "Det":
        """The corners of one curve's convex hull, reached by the best merging of neighbouring scores.

        Source: Fawcett and Niculescu-Mizil, "PAV and the ROC convex hull", 2007: its edges are the pools of isotonic
            regression.
        """
        targets, nontargets = self.trials_at
        used = np.flatnonzero(targets + nontargets)
        num = (targets + nontargets)[used]
        pools = scipy.optimize.isotonic_regression(targets[used] / num, weights=num, increasing=False).blocks
        corners = np.append(0, used[pools[1:] - 1] + 1)
        return self._replace(num_false_accepts=self.num_false_accepts[corners], num_misses=self.num_misses[corners],
                             thresholds=self.thresholds[corners])


def sorted_scores(scores: ArrayLike, name: str) -> np.ndarray:
    """(n,) float64, ascending.   Raises: ValueError: there are no `name` trials, or a score is not a number."""
    ordered = np.sort(np.asarray(scores, dtype=np.float64).ravel())
    if not ordered.size:
        raise ValueError(f"there are no {name} trials")
    if np.isnan(ordered[-1]):  # NaN sorts to the end
        raise ValueError(f"a {name} score is not a number")
    return ordered


def det_points(target: ArrayLike, nontarget: ArrayLike) -> Det:
    """All L points of the DET curve: one for each distinct score, and one above all scores.

    Args:
        target: (N1,) scores of target trials.   nontarget: (N0,) scores of nontarget trials.
    Raises: ValueError: either side is empty or contains NaN.
    """
    targets, nontargets = sorted_scores(target, "target"), sorted_scores(nontarget, "nontarget")
    thresholds = np.unique(np.concatenate([targets, nontargets]))[::-1]
    misses = np.searchsorted(targets, thresholds)
    false_accepts = len(nontargets) - np.searchsorted(nontargets, thresholds)
    return Det(np.append(0, false_accepts), np.append(len(targets), misses), len(nontargets), len(targets),
               np.append(np.inf, thresholds))
