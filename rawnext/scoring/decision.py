# SPDX-License-Identifier: Apache-2.0
"""From cosines and durations to log-likelihood ratios and decisions, by the calibration that an experiment keeps."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rawnext.errors import InputError
from rawnext.files import PathLike
from rawnext.scoring.calibration import MEASURES, PRIOR, Calibration, measure
from rawnext.scoring.calibration_files import read_model
from rawnext.scoring.cosine import unit_vectors

PLACE = Path("calibration/cosine/native/model.json")  # in an experiment; where steps/verification.sh puts it


class Operating(NamedTuple):
    """What a decision is made for: share of target pairs among those that will come, and costs of the two errors."""

    prior: float = PRIOR
    cost_miss: float = 1.0
    cost_false_alarm: float = 1.0

    def check(self) -> None:
        """Raise InputError if the prior is not between 0 and 1, or a cost not above 0."""
        if not (0 < self.prior < 1 and 0 < self.cost_miss < np.inf and 0 < self.cost_false_alarm < np.inf):
            raise InputError("--prior and costs", None, f"want 0 < prior < 1 and costs above 0, got {self}")

    @property
    def threshold(self) -> float:
        """The LLR from which to accept."""
        return 0.0 + float(np.log((1 - self.prior) * self.cost_false_alarm / (self.prior * self.cost_miss)))

    def chance(self, llr: float) -> float:
        """Probability that a pair of this LLR is a target pair; NaN of NaN."""
        with np.errstate(over="ignore"):
            return float(1 / (1 + np.exp(-llr) * (1 - self.prior) / self.prior))

    def __str__(self) -> str:
        return f"prior {self.prior:g}, costs {self.cost_miss:g} and {self.cost_false_alarm:g}"


class Verdict(NamedTuple):
    """Of one pair.   llr, threshold: NaN, and same: None, where there is no calibration.

    score: cosine.   same: one speaker?   outside: a length that the calibration never saw, and took for its limit.
    """

    score: float
    llr: float
    threshold: float
    same: bool | None
    outside: bool


class Judge(NamedTuple):
    """LLRs of cosines of an experiment's whole-utterance embeddings; why: there is no calibration, else empty."""

    calibration: Calibration | None
    names: list[str]  # of its measures
    why: str = ""

    def llr(self, scores: ArrayLike, enroll_s: ArrayLike, test_s: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """(N,) LLRs of (N,) cosines and seconds of both sides, and (N,) bool: lengths that the calibration never saw.

        An enroll side of several utterances has their seconds together. NaN where there is no calibration.
        """
        scores, sides = np.asarray(scores), (np.asarray(enroll_s), np.asarray(test_s))
        if self.calibration is None:
            return np.full(len(scores), np.nan), np.zeros(len(scores), bool)
        measures = measure(self.names, {"duration": sides}) if self.names else np.empty((len(scores), 0))
        return self.calibration.llr(scores, measures), self.calibration.outside(measures)

    def decide(self, enroll: np.ndarray, test: np.ndarray, enroll_s: float, test_s: float, at: Operating) -> Verdict:
        """Of two (D,) embeddings and their seconds.   Raises: ValueError: an embedding is zero or not finite."""
        score = float(unit_vectors(enroll) @ unit_vectors(test))
        (llr,), (outside,) = (values.tolist() for values in self.llr([score], [enroll_s], [test_s]))
        if self.calibration is None:
            return Verdict(score, llr, np.nan, None, outside)
        return Verdict(score, llr, at.threshold, llr >= at.threshold, outside)


def read_judge(exp: PathLike) -> Judge:
    """The calibration of an experiment folder.

    Raises: InputError: it is damaged, or of other scores.
    """
    path = Path(exp) / PLACE
    if not path.exists():
        return Judge(None, [], f"no calibration: there is no {path}")
    calibration, names, about = read_model(path)
    if (about.get("backend"), about.get("protocol")) != ("cosine", "native"):
        raise InputError(path, None, f"was fitted for {about.get('backend')} and {about.get('protocol')}, not for "
                                     "cosine and native")
    if strange := [name for name in names if MEASURES[name].quantity != "duration"]:
        return Judge(None, [], f"no calibration: that of {path} wants {strange[0]}, which single files have not")
    return Judge(calibration, names)
