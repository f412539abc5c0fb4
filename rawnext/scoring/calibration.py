# SPDX-License-Identifier: Apache-2.0
"""Calibration: from scores and quality measures to log-likelihood ratios (natural logarithm), by logistic regression.

    LLR = offset + weights[0] score + weights[1] measure_1 + ...

At a prior P of a target trial, and costs 1 and 1, a trial is accepted where LLR >= -logit(P).
Sources: Brümmer and du Preez, "Application-independent evaluation of speaker detection", 2006 (Cllr as objective);
Brümmer et al., "Fusion of heterogeneous speaker recognition systems in the STBU submission for the NIST SRE 2006", 2007
(logistic regression weighted by a prior); Mandasari et al., "Quality measure functions for calibration of speaker
recognition systems in various duration conditions", 2013 (durations beside the score); Thienpondt et al., "The IDLAB
VoxSRC-20 submission: large margin fine-tuning and quality-aware score calibration in DNN based speaker verification",
2021 (measures that do not change when the sides are swapped).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

PRIOR = 0.5  # of a target trial, at which a calibration is fitted: there the objective is Cllr
RIDGE = 0.1  # see fit_calibration


class Measure(NamedTuple):
    """quantity: what is known of each side: duration (seconds), norm (of the embedding) or cohort_mean (of its cosines
    with the nearest of a cohort).   of_sides: (N,) of the enroll and of the test side -> (N,); the same, swapped.
    """

    quantity: str
    of_sides: Callable[[np.ndarray, np.ndarray], np.ndarray]


# The variance of an embedding falls like 1 / duration, so for both sides together like the first; the next two are
# Mandasari's Q with the sides made symmetric, the others Thienpondt's.
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
    """(N, M) measures of these names of N trials.

    Args: sides: quantity -> (N,) of the enroll side and (N,) of the test side; durations in seconds, above 0.
    """
    return np.column_stack([MEASURES[name].of_sides(*sides[MEASURES[name].quantity]) for name in names])


class Calibration(NamedTuple):
    """weights: (1 + M,) of the score and M measures.   low, high: (M,) limits of the measures that it was fitted on.

    Beyond the limits a measure counts as the limit: a straight line says nothing about lengths that nobody has seen.
    """

    weights: np.ndarray
    offset: float
    low: np.ndarray
    high: np.ndarray

    def llr(self, scores: ArrayLike, measures: ArrayLike | None = None) -> np.ndarray:
        """(N,) log-likelihood ratios of (N,) scores and (N, M) measures (none where M is 0).

        Raises: ValueError: shapes that do not fit, or a number that is not finite.
        """
        x = _features(scores, measures)
        if x.shape[1] != len(self.weights):
            raise ValueError(f"want {len(self.low)} measures of each trial, got {x.shape[1] - 1}")
        return x[:, 0] * self.weights[0] + self.shift(x[:, 1:])

    def shift(self, measures: ArrayLike) -> np.ndarray:
        """(...) what is added to the weighted score, of (..., M) measures."""
        return self.offset + np.clip(measures, self.low, self.high) @ self.weights[1:]

    def outside(self, measures: ArrayLike) -> np.ndarray:
        """(N,) bool: does a measure of the trial lie beyond the limits?"""
        inside = np.clip(measures, self.low, self.high)
        return np.any(np.abs(inside - measures) > 1e-9, axis=-1)


def _features(scores: ArrayLike, measures: ArrayLike | None) -> np.ndarray:
    """(N, 1 + M) float64: the scores, then the measures."""
    column = np.asarray(scores, dtype=np.float64)
    rest = np.empty((len(column), 0)) if measures is None else np.asarray(measures, dtype=np.float64)
    if column.ndim != 1 or rest.ndim != 2 or len(rest) != len(column):
        raise ValueError(f"want (N,) scores and (N, M) measures, got {column.shape} and {rest.shape}")
    x = np.column_stack([column, rest])
    if not np.isfinite(x).all():
        raise ValueError("a score or a measure is not finite")
    return x


def fit_calibration(scores: ArrayLike, is_target: ArrayLike, measures: ArrayLike | None = None, prior: float = PRIOR,
                    ridge: float = RIDGE) -> Calibration:
    """The calibration of lowest cost at a prior (prior 0.5: of lowest Cllr) on held-out trials.

    The weights of standardised score and measures have a normal prior of mean 0 and variance 1 / ridge against the
    likelihood of N trials: too weak to be seen where target and nontarget scores overlap, and what keeps the weights
    finite where they do not, as a few trials of a good system.

    Args:
        scores: (N,), the higher the more alike.   is_target: (N,) bool.   measures: (N, M).
        prior: of a target trial, 0 < P < 1.   ridge: 0 for none; trials that a plane separates then have no solution.
    Raises: ValueError: a side without trials, shapes that do not fit, a number that is not finite, a bad prior.
    """
    from scipy.special import logit

    x, target = _features(scores, measures), np.asarray(is_target, dtype=bool)
    if not 0 < prior < 1:
        raise ValueError(f"the prior must lie between 0 and 1, got {prior}")
    if target.shape != x.shape[:1]:
        raise ValueError(f"{len(x)} scores, but {len(target)} labels")
    if target.all() or not target.any():
        raise ValueError(f"there is no {'nontarget' if target.all() else 'target'} trial")
    mean, std = x.mean(axis=0), x.std(axis=0)
    std[std <= 1e-12 * np.abs(mean)] = np.inf  # what never varies tells nothing: weight 0
    z = np.column_stack([(x - mean) / std, np.ones(len(x))])
    share = np.where(target, prior / target.sum(), (1 - prior) / (~target).sum())
    penalty = np.append(np.full(x.shape[1], ridge / len(x)), 0.0)
    solution = _minimise(z, target, share, penalty, float(logit(prior)))
    weights = solution[:-1] / std
    return Calibration(weights, float(solution[-1] - weights @ mean), x[:, 1:].min(axis=0), x[:, 1:].max(axis=0))


def _minimise(z: np.ndarray, target: np.ndarray, share: np.ndarray, penalty: np.ndarray, log_odds: float) -> np.ndarray:
    """(F,) weights w of (N, F) features z that minimise a convex cost, by Newton's method within a trust region.

    Cost: sum over trials of share log(1 + exp(-+(z w + log_odds))), - for targets, and w penalty w / 2.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    sign = np.where(target, 1.0, -1.0)

    def cost(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (z @ w + log_odds)
        loss = share @ np.logaddexp(0, -margin) + penalty @ w ** 2 / 2
        return float(loss), penalty * w - z.T @ (share * sign * expit(-margin))

    def curvature(w: np.ndarray) -> np.ndarray:
        p = expit(z @ w + log_odds)
        return z.T @ (z * (share * p * (1 - p))[:, None]) + np.diag(penalty)

    return minimize(cost, np.zeros(z.shape[1]), jac=True, hess=curvature, method="trust-exact",
                    options={"gtol": 1e-11}).x


class OperatingPoint(NamedTuple):
    """What a prior means for one list.   llr, score: accepted from here on.   Rates are fractions."""

    prior: float
    llr: float
    score: float
    miss: float              # where each trial's LLR decides
    false_alarm: float
    score_miss: float        # where the one score decides for all
    score_false_alarm: float


def operating_points(calibration: Calibration, scores: np.ndarray, is_target: np.ndarray, measures: np.ndarray,
                     priors: Sequence[float]) -> list[OperatingPoint]:
    """Thresholds that the calibration implies at these priors, and the error rates that they have on a list.

    Args:
        scores: (N,).   is_target: (N,) bool.   measures: (N, M).
    The threshold on the score is the one of a trial whose measures are the list's medians; NaN, which nothing reaches,
    where a higher score does not make a higher LLR.
    """
    from scipy.special import logit

    llr = calibration.llr(scores, measures)
    slope = float(calibration.weights[0])
    middle = float(calibration.shift(np.median(measures, axis=0)))

    def rates(x: np.ndarray, limit: float) -> tuple[float, float]:
        accepted = x >= limit
        return float(1 - accepted[is_target].mean()), float(accepted[~is_target].mean())

    points = []
    for prior in priors:
        limit = 0.0 - float(logit(prior))  # no -0.0
        score = (limit - middle) / slope if slope > 0 else float("nan")
        points.append(OperatingPoint(prior, limit, score, *rates(llr, limit), *rates(scores, score)))
    return points
