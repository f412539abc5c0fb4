# SPDX-License-Identifier: Apache-2.0
"""Calibration: from scores and quality measures to log-likelihood ratios (natural logarithm), by logistic regression.

    LLR = offset + weights[0] score + weights[1] measure_1 + ...

Fusion: with the scores of K systems, the first K weights are theirs.

With a target prior P and costs of 1, a trial is accepted if LLR >= -logit(P).
Sources: Brümmer and du Preez, "Application-independent evaluation of speaker detection", 2006 (Cllr as the objective);
Brümmer et al., "Fusion of heterogeneous speaker recognition systems in the STBU submission for the NIST SRE 2006", 2007
(logistic regression weighted by a prior); Mandasari et al., "Quality measure functions for calibration of speaker
recognition systems in various duration conditions", 2013 (durations as measures); Thienpondt et al., "The IDLAB
VoxSRC-20 submission: large margin fine-tuning and quality-aware score calibration in DNN based speaker verification",
2021 (measures that do not change when the sides are swapped).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

PRIOR = 0.5  # target prior at which a calibration is fitted: the objective is then Cllr
RIDGE = 0.1  # see fit_calibration


class Measure(NamedTuple):
    """quantity: duration (seconds), norm (of the embedding) or cohort_mean (mean of its cosines with a cohort's nearest
    members), of each side.   of_sides: symmetric function of (N,) enroll and (N,) test quantities -> (N,).
    """

    quantity: str
    of_sides: Callable[[np.ndarray, np.ndarray], np.ndarray]


# The variance of an embedding is about 1 / duration, so that of a trial is about inverse_duration. The next two are
# Mandasari's Q made symmetric, the others are Thienpondt's.
MEASURES = {
    "inverse_duration": Measure("duration", lambda enroll, test: 1 / enroll + 1 / test),
    "log_shorter": Measure("duration", lambda enroll, test: np.log(np.minimum(enroll, test))),
    "log_longer": Measure("duration", lambda enroll, test: np.log(np.maximum(enroll, test))),
    "norm_lower": Measure("norm", np.minimum),
    "norm_higher": Measure("norm", np.maximum),
    "cohort_mean_lower": Measure("cohort_mean", np.minimum),
    "cohort_mean_higher": Measure("cohort_mean", np.maximum),
}


def measure(names: Sequence[str], sides: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """(N, M) measures of N trials, by name.

    Args: sides: quantity -> (N,) enroll and (N,) test values; durations in seconds, above 0.
    """
    return np.column_stack([MEASURES[name].of_sides(*sides[MEASURES[name].quantity]) for name in names])


class Calibration(NamedTuple):
    """weights: (K + M,) of the scores of K systems (usually 1) and M measures.   low, high: (M,) range of the measures
    in the fit.

    Measures outside this range are clipped to it: the linear model is not extrapolated to unseen durations.
    """

    weights: np.ndarray
    offset: float
    low: np.ndarray
    high: np.ndarray

    @property
    def num_scores(self) -> int:
        """K, the number of systems."""
        return len(self.weights) - len(self.low)

    def llr(self, scores: ArrayLike, measures: ArrayLike | None = None) -> np.ndarray:
        """(N,) log-likelihood ratios of (N,) or (N, K) scores and (N, M) measures (None if M is 0).

        Raises: ValueError: shapes do not match, or a number is not finite.
        """
        x = _features(scores, measures)
        if x.shape[1] != len(self.weights):
            raise ValueError(f"want {self.num_scores} scores and {len(self.low)} measures of each trial, got "
                             f"{x.shape[1]} numbers")
        return x[:, :self.num_scores] @ self.weights[:self.num_scores] + self.shift(x[:, self.num_scores:])

    def shift(self, measures: ArrayLike) -> np.ndarray:
        """(...) offset that (..., M) measures add to the weighted score."""
        return self.offset + np.clip(measures, self.low, self.high) @ self.weights[self.num_scores:]

    def outside(self, names: Sequence[str], measures: ArrayLike) -> np.ndarray:
        """(N,) bool: whether a duration of the trial is outside the range of the fit.

        Args: names: of the measures.   measures: (N, M).
        """
        too_far = np.abs(np.clip(measures, self.low, self.high) - np.asarray(measures)) > 1e-9
        return np.any(too_far[..., [MEASURES[name].quantity == "duration" for name in names]], axis=-1)


def _features(scores: ArrayLike, measures: ArrayLike | None) -> np.ndarray:
    """(N, K + M) float64: the scores, then the measures."""
    columns = np.asarray(scores, dtype=np.float64)
    rest = np.empty((len(columns), 0)) if measures is None else np.asarray(measures, dtype=np.float64)
    if columns.ndim not in (1, 2) or rest.ndim != 2 or len(rest) != len(columns):
        raise ValueError(f"want (N,) or (N, K) scores and (N, M) measures, got {columns.shape} and {rest.shape}")
    x = np.column_stack([columns, rest])
    if not np.isfinite(x).all():
        raise ValueError("a score or a measure is not finite")
    return x


def fit_calibration(scores: ArrayLike, is_target: ArrayLike, measures: ArrayLike | None = None, prior: float = PRIOR,
                    ridge: float = RIDGE) -> Calibration:
    """The calibration with the lowest cost at a prior (prior 0.5: the lowest Cllr) on held-out trials.

    The weights of standardised score and measures have a normal prior of mean 0 and variance 1 / ridge against the
    likelihood of N trials. It has no visible effect if target and nontarget scores overlap, and it keeps the weights
    finite if they do not, as with a few trials of a good system.

    Args:
        scores: (N,), higher is more similar, or (N, K) of K systems.   is_target: (N,) bool.   measures: (N, M).
        prior: of a target trial, 0 < P < 1.   ridge: 0: none; separable trials then have no solution.
    Raises: ValueError: no target or no nontarget trials, shapes that do not match, a number that is not finite, a
        prior out of range.
    """
    x, target = _features(scores, measures), np.asarray(is_target, dtype=bool)
    if not 0 < prior < 1:
        raise ValueError(f"the prior must be between 0 and 1, got {prior}")
    if target.shape != x.shape[:1]:
        raise ValueError(f"{len(x)} scores, but {len(target)} labels")
    if target.all() or not target.any():
        raise ValueError(f"there is no {'nontarget' if target.all() else 'target'} trial")
    mean, std = x.mean(axis=0), x.std(axis=0)
    std[std <= 1e-12 * np.abs(mean)] = np.inf  # constant features get weight 0
    z = np.column_stack([(x - mean) / std, np.ones(len(x))])
    share = np.where(target, prior / target.sum(), (1 - prior) / (~target).sum())
    penalty = np.append(np.full(x.shape[1], ridge / len(x)), 0.0)
    solution = _minimise(z, target, share, penalty, float(scipy.special.logit(prior)))
    weights = solution[:-1] / std
    seen = x[:, 1 if np.ndim(scores) == 1 else np.shape(scores)[1]:]
    return Calibration(weights, float(solution[-1] - weights @ mean), seen.min(axis=0), seen.max(axis=0))


def _minimise(z: np.ndarray, target: np.ndarray, share: np.ndarray, penalty: np.ndarray, log_odds: float) -> np.ndarray:
    """(F,) weights w of (N, F) features z that minimise a convex cost, by a trust-region Newton method.

    Cost: sum over trials of share log(1 + exp(-+(z w + log_odds))), with - for targets, plus w penalty w / 2.
    """
    sign = np.where(target, 1.0, -1.0)

    def cost(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (z @ w + log_odds)
        loss = share @ np.logaddexp(0, -margin) + penalty @ w ** 2 / 2
        return float(loss), penalty * w - z.T @ (share * sign * scipy.special.expit(-margin))

    def curvature(w: np.ndarray) -> np.ndarray:
        p = scipy.special.expit(z @ w + log_odds)
        return z.T @ (z * (share * p * (1 - p))[:, None]) + np.diag(penalty)

    return scipy.optimize.minimize(cost, np.zeros(z.shape[1]), jac=True, hess=curvature, method="trust-exact",
                    options={"gtol": 1e-11}).x


class OperatingPoint(NamedTuple):
    """Thresholds for a prior and their error rates on one list.   llr, score: accept from here.   Rates: fractions."""

    prior: float
    llr: float
    score: float
    miss: float              # with the threshold on each trial's LLR
    false_alarm: float
    score_miss: float        # with the same threshold on all raw scores
    score_false_alarm: float


def operating_points(calibration: Calibration, scores: np.ndarray, is_target: np.ndarray, measures: np.ndarray,
                     priors: Sequence[float]) -> list[OperatingPoint]:
    """Thresholds that the calibration implies at these priors, and their error rates on a list.

    Args:
        scores: (N, K).   is_target: (N,) bool.   measures: (N, M).
    The threshold on the score is that of a trial with the list's median measures; NaN, which no score reaches, if a
    higher score does not give a higher LLR. With several systems there is none, and NaN as its error rates.
    """
    llr = calibration.llr(scores, measures)
    slope, fused = float(calibration.weights[0]), calibration.num_scores > 1
    median_shift = float(calibration.shift(np.median(measures, axis=0)))

    def rates(x: np.ndarray, limit: float) -> tuple[float, float]:
        accepted = x >= limit
        return float(1 - accepted[is_target].mean()), float(accepted[~is_target].mean())

    points = []
    for prior in priors:
        limit = 0.0 - float(scipy.special.logit(prior))  # no -0.0
        score = (limit - median_shift) / slope if slope > 0 and not fused else float("nan")
        of_score = (np.nan, np.nan) if fused else rates(scores.ravel(), score)
        points.append(OperatingPoint(prior, limit, score, *rates(llr, limit), *of_score))
    return points
