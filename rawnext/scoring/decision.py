# SPDX-License-Identifier: Apache-2.0
"""From cosines, durations and a cohort to log-likelihood ratios and decisions, by the calibration of an experiment."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rawnext.errors import InputError
from rawnext.files import PathLike, newest, readable
from rawnext.identity import KEY
from rawnext.scoring.calibration import MEASURES, PRIOR, Calibration, measure
from rawnext.scoring.calibration_files import read_model, weaknesses
from rawnext.scoring.cosine import blocks, unit_vectors
from rawnext.scoring.embeddings import load_cohort
from rawnext.scoring.snorm import cohort_mean
from rawnext.stamp import sha256

NEAR = math.log(9)  # LLR distance at which, with costs of 1, 1 of 10 decisions is wrong
SAME_AUDIO = 0.9999  # cosine
PAIRS = 1 << 18  # LLRs of pairs that are computed at a time
MODEL_PATH = Path("calibration/cosine/native/model.json")  # in an experiment, as stage 7 of the recipes writes it
COHORT_PATH = MODEL_PATH.with_name("cohort.npy")  # (C, D) float32, one row for each speaker


class Operating(NamedTuple):
    """Operating point of a decision: prior of target pairs, and costs of the two errors."""

    prior: float = PRIOR
    cost_miss: float = 1.0
    cost_false_alarm: float = 1.0

    def check(self) -> None:
        """Raise InputError if the prior is not between 0 and 1, or a cost not above 0."""
        if not (0 < self.prior < 1 and 0 < self.cost_miss < np.inf and 0 < self.cost_false_alarm < np.inf):
            raise InputError("--prior and costs", None, f"want 0 < prior < 1 and costs above 0, got {self}")

    @property
    def threshold(self) -> float:
        """The lowest LLR that is accepted."""
        return 0.0 + float(np.log((1 - self.prior) * self.cost_false_alarm / (self.prior * self.cost_miss)))

    def chance(self, llr: float) -> float:
        """Posterior probability of a target pair given its LLR; NaN for NaN."""
        with np.errstate(over="ignore"):
            return float(1 / (1 + np.exp(-llr) * (1 - self.prior) / self.prior))

    def __str__(self) -> str:
        return f"prior {self.prior:g}, costs {self.cost_miss:g} and {self.cost_false_alarm:g}"


class Verdict(NamedTuple):
    """Decision on one pair.   llr, threshold: NaN without a calibration; same: None.

    score: cosine.   same: same speaker?   outside: a duration is outside the range of the calibration and was clipped.
    """

    score: float
    llr: float
    threshold: float
    same: bool | None
    outside: bool


class Judge(NamedTuple):
    """LLRs and decisions from cosines of an experiment's whole-utterance embeddings.

    names: of the calibration's measures.   why: why there is no calibration; empty if there is one.
    doubts: reasons to doubt the calibration.   path: its file.   model: fingerprint of the model that it is for; empty:
    not known.   cohort: (C, D), for the measures cohort_mean_lower and cohort_mean_higher; otherwise None.
    """

    calibration: Calibration | None
    names: list[str]
    why: str = ""
    doubts: tuple[str, ...] = ()
    path: str = ""
    model: str = ""
    cohort: np.ndarray | None = None

    def needs(self, quantity: str) -> bool:
        """Whether a measure of the calibration is made from this quantity: duration, norm or cohort_mean."""
        return any(MEASURES[name].quantity == quantity for name in self.names)

    def quantities(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """The (N,) norms and cohort means of (N, D) embeddings, if a measure needs them.   Raises: as llr."""
        found = {}
        if self.needs("norm"):
            found["norm"] = np.linalg.norm(x, axis=1)
        if self.cohort is not None:
            if x.shape[1] != self.cohort.shape[1]:
                raise InputError(Path(self.path).with_name(COHORT_PATH.name), None,
                                 f"{self.cohort.shape[1]} dimensions, but the model has {x.shape[1]}")
            found["cohort_mean"] = cohort_mean(x, self.cohort)
        return found

    def llr(self, cosines: ArrayLike, enroll: np.ndarray, test: np.ndarray, enroll_index: ArrayLike,
            test_index: ArrayLike, enroll_s: ArrayLike, test_s: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """(T,) LLRs of T trials, and (T,) bool: a duration is outside the range of the calibration.

        Args:
            cosines: (T,).   enroll_index, test_index: (T,) rows of the embeddings.
            enroll, test: (E, D), (N, D) embeddings as the model gives them, not unit vectors; may be the same. A side
                of several utterances has the mean of their norms.
            enroll_s, test_s: (T,) seconds. A side of several utterances has their total.
        Returns: NaN without a calibration.
        Raises: InputError: the cohort has another dimension.   ValueError: a zero vector.
        """
        cosines = np.asarray(cosines)
        if self.calibration is None:
            return np.full(len(cosines), np.nan), np.zeros(len(cosines), bool)
        of_enroll = self.quantities(enroll)
        of_test = of_enroll if test is enroll else self.quantities(test)
        return self._llr(cosines, of_enroll, of_test, np.asarray(enroll_index), np.asarray(test_index),
                         (np.asarray(enroll_s), np.asarray(test_s)))

    def _llr(self, cosines: np.ndarray, enroll: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray],
             enroll_index: np.ndarray, test_index: np.ndarray, seconds: tuple[np.ndarray, np.ndarray],
             ) -> tuple[np.ndarray, np.ndarray]:
        """As llr, from the quantities of the embeddings; with a calibration."""
        assert self.calibration is not None
        sides = {name: (enroll[name][enroll_index], test[name][test_index]) for name in enroll} | {"duration": seconds}
        measures = measure(self.names, sides) if self.names else np.empty((len(cosines), 0))
        return self.calibration.llr(cosines, measures), self.calibration.outside(self.names, measures)

    def pair_llrs(self, x: np.ndarray, seconds: float) -> np.ndarray:
        """(N (N - 1) / 2,) LLRs of the pairs (0, 1), (0, 2), ... of (N, D) embeddings of so many seconds each.

        Raises: as llr.
        """
        unit, of_x = unit_vectors(x), self.quantities(x)
        found, done = np.empty(len(x) * (len(x) - 1) // 2), 0
        for rows in blocks(len(x), len(x), PAIRS):
            first, second = np.nonzero(np.arange(len(x))[rows, None] < np.arange(len(x)))
            cosines, time = (unit[rows] @ unit.T)[first, second], np.full(len(first), seconds)
            llrs, _ = self._llr(cosines, of_x, of_x, rows.start + first, second, (time, time))
            found[done : done + len(llrs)] = llrs
            done += len(llrs)
        return found

    def decide(self, enroll: np.ndarray, test: np.ndarray, enroll_s: float, test_s: float, at: Operating) -> Verdict:
        """Decide on two (D,) embeddings and their seconds.   Raises: ValueError: one is zero or not finite."""
        score = float(unit_vectors(enroll) @ unit_vectors(test))
        llr, outside = (values.item() for values in self.llr([score], enroll[None], test[None], [0], [0], [enroll_s],
                                                             [test_s]))
        if self.calibration is None:
            return Verdict(score, llr, np.nan, None, outside)
        return Verdict(score, llr, at.threshold, llr >= at.threshold, outside)


def gallery_posteriors(llrs: ArrayLike, prior: float) -> np.ndarray:
    """(..., S + 1) probabilities that the speaker is one of the S of a gallery, and, last, none of them.

    Bayes' rule over S + 1 hypotheses; the likelihood of a speaker relative to that of nobody is exp(LLR). The most
    probable of them is the answer with the fewest errors. NaN for NaN.

    Args:
        llrs: (..., S), each of one speaker against any other.
        prior: probability that it is one of the S; each of them has prior / S.   0 < prior < 1.
    """
    llrs = np.asarray(llrs, dtype=np.float64)
    nobody = np.full((*llrs.shape[:-1], 1), math.log1p(-prior))
    odds = np.concatenate([llrs + math.log(prior / llrs.shape[-1]), nobody], axis=-1)
    odds = np.exp(odds - odds.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def doubts_of(verdict: Verdict, judge: Judge, at: Operating) -> list[str]:
    """Reasons to doubt the decision on a pair, other than those in its recordings."""
    found = []
    if verdict.score > SAME_AUDIO:
        found.append("Both sides are the same audio, or nearly; other recordings may score differently.")
    if verdict.same is None:
        return [*found, "This model has no calibration, so the threshold is not known."]
    found += judge.doubts
    if verdict.outside:
        found.append("The calibration has not seen recordings of these durations and uses the nearest that it knows.")
    if abs(verdict.llr - verdict.threshold) < NEAR:
        found.append(f"The LLR is only {abs(verdict.llr - verdict.threshold):.2f} from the threshold ({at}); other "
                     "recordings of the same people may be decided differently.")
    return found


def read_judge(exp: PathLike) -> Judge:
    """The calibration of an experiment folder; one by which a higher score is less similar is not used.

    Raises: InputError: it or its cohort is damaged, was fitted for other scores, or with another cohort.
    """
    path, cohort = Path(exp) / MODEL_PATH, None
    if not path.exists():
        return Judge(None, [], f"no calibration: no such file {path}")
    calibration, names, about = read_model(path)
    if (about.get("backend"), about.get("protocol")) != ("cosine", "native"):
        raise InputError(path, None, f"was fitted for {about.get('backend')} and {about.get('protocol')}, not for "
                                     "cosine and native")
    if calibration.num_scores > 1:
        return Judge(None, [], f"no calibration: {path} fuses the scores of {calibration.num_scores} systems")
    if calibration.weights[0] <= 0:
        return Judge(None, [], f"no calibration: {path} has the slope {calibration.weights[0]:.3g}, by which a higher "
                               "score is less similar")
    if any(MEASURES[name].quantity == "cohort_mean" for name in names):
        if "cohort_sha256" not in about:
            return Judge(None, [], f"no calibration: {path} needs a cohort, but steps/calibrate.py was given none")
        cohort = read_cohort(Path(exp) / COHORT_PATH, about)
    doubts = (f"The calibration of this model is weak: {why}." for why in weaknesses(about))
    return Judge(calibration, names, doubts=tuple(doubts), path=str(path), model=str(about.get(KEY) or ""),
                 cohort=cohort)


def read_cohort(path: Path, about: Mapping[str, Any]) -> np.ndarray:
    """(C, D) embeddings with which a calibration was fitted.

    Args: about: of the calibration.   Raises: InputError: they are missing, damaged, or others.
    """
    path = newest(path)
    with readable(path):
        if sha256(path) != about.get("cohort_sha256"):
            raise InputError(path, None, "is not the cohort with which the calibration next to it was fitted")
    return load_cohort(path)
