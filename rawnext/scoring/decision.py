# SPDX-License-Identifier: Apache-2.0
"""From cosines and durations to log-likelihood ratios and decisions, with the calibration of an experiment."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rawnext.errors import InputError
from rawnext.files import PathLike
from rawnext.identity import KEY
from rawnext.scoring.calibration import MEASURES, PRIOR, Calibration, measure
from rawnext.scoring.calibration_files import read_model, weaknesses
from rawnext.scoring.cosine import unit_vectors

NEAR = math.log(9)  # LLR distance at which, with costs of 1, 1 of 10 decisions is wrong
SAME_AUDIO = 0.9999  # cosine
MODEL_PATH = Path("calibration/cosine/native/model.json")  # in an experiment, as stage 7 of the recipes writes it


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
    not known.
    """

    calibration: Calibration | None
    names: list[str]
    why: str = ""
    doubts: tuple[str, ...] = ()
    path: str = ""
    model: str = ""

    def llr(self, scores: ArrayLike, enroll_s: ArrayLike, test_s: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """(N,) LLRs of (N,) cosines and seconds of both sides, and (N,) bool: a duration is outside its range.

        An enroll side of several utterances has their total seconds. NaN without a calibration.
        """
        scores, sides = np.asarray(scores), (np.asarray(enroll_s), np.asarray(test_s))
        if self.calibration is None:
            return np.full(len(scores), np.nan), np.zeros(len(scores), bool)
        measures = measure(self.names, {"duration": sides}) if self.names else np.empty((len(scores), 0))
        return self.calibration.llr(scores, measures), self.calibration.outside(measures)

    def decide(self, enroll: np.ndarray, test: np.ndarray, enroll_s: float, test_s: float, at: Operating) -> Verdict:
        """Decide on two (D,) embeddings and their seconds.   Raises: ValueError: one is zero or not finite."""
        score = float(unit_vectors(enroll) @ unit_vectors(test))
        (llr,), (outside,) = (values.tolist() for values in self.llr([score], [enroll_s], [test_s]))
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

    Raises: InputError: it is damaged, or was fitted on other scores.
    """
    path = Path(exp) / MODEL_PATH
    if not path.exists():
        return Judge(None, [], f"no calibration: no such file {path}")
    calibration, names, about = read_model(path)
    if (about.get("backend"), about.get("protocol")) != ("cosine", "native"):
        raise InputError(path, None, f"was fitted for {about.get('backend')} and {about.get('protocol')}, not for "
                                     "cosine and native")
    if unusable := [name for name in names if MEASURES[name].quantity != "duration"]:
        return Judge(None, [], f"no calibration: {path} needs {unusable[0]}, which is not available for single files")
    if calibration.num_scores > 1:
        return Judge(None, [], f"no calibration: {path} fuses the scores of {calibration.num_scores} systems")
    if calibration.weights[0] <= 0:
        return Judge(None, [], f"no calibration: {path} has the slope {calibration.weights[0]:.3g}, by which a higher "
                               "score is less similar")
    doubts = (f"The calibration of this model is weak: {why}." for why in weaknesses(about))
    return Judge(calibration, names, doubts=tuple(doubts), path=str(path), model=str(about.get(KEY) or ""))
