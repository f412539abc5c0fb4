# SPDX-License-Identifier: Apache-2.0
"""From cosines and durations to log-likelihood ratios and decisions, with the calibration of an experiment.

Cosines are first normalised if the experiment has a calibration of the back end asnorm_speakers and its cohort.
"""

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
from rawnext.scoring.cosine import unit_vectors
from rawnext.scoring.snorm import cohort_stats, default_top, normalize_scores
from rawnext.stamp import sha256

NEAR = math.log(9)  # LLR distance at which, with costs of 1, 1 of 10 decisions is wrong
SAME_AUDIO = 0.9999  # cosine
MODEL_PATH = Path("calibration/cosine/native/model.json")  # in an experiment, as stage 7 of the recipes writes it
NORMALISED_PATH = Path("calibration/asnorm_speakers/native/model.json")
CALIBRATIONS = (NORMALISED_PATH, MODEL_PATH)  # the first that is there is used
COHORT = "cohort.npy"  # next to NORMALISED_PATH: (C, D) float32, one row for each speaker


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
    not known.   cohort: (C, D), if the calibration is one of scores normalised with it (AS-norm); otherwise None.
    """

    calibration: Calibration | None
    names: list[str]
    why: str = ""
    doubts: tuple[str, ...] = ()
    path: str = ""
    model: str = ""
    cohort: np.ndarray | None = None

    def normalised(self, cosines: np.ndarray, enroll: np.ndarray, test: np.ndarray, enroll_index: ArrayLike,
                   test_index: ArrayLike) -> np.ndarray:
        """(T,) scores that the calibration is for: AS-norm of the cosines, or, without a cohort, the cosines.

        Args: as for llr.   Raises: as llr.
        """
        if self.cohort is None:
            return cosines
        if enroll.shape[1] != self.cohort.shape[1]:
            raise InputError(Path(self.path).with_name(COHORT), None, f"{self.cohort.shape[1]} dimensions, but the "
                                                                      f"model has {enroll.shape[1]}")
        top = default_top(len(self.cohort))
        of_enroll = cohort_stats(enroll, self.cohort, top)
        of_test = of_enroll if test is enroll else cohort_stats(test, self.cohort, top)
        return normalize_scores(cosines, of_enroll, of_test, np.asarray(enroll_index), np.asarray(test_index))

    def llr(self, cosines: ArrayLike, enroll: np.ndarray, test: np.ndarray, enroll_index: ArrayLike,
            test_index: ArrayLike, enroll_s: ArrayLike, test_s: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """(T,) LLRs of T trials, and (T,) bool: a duration is outside the range of the calibration.

        Args:
            cosines: (T,).   enroll, test: (E, D), (N, D) embeddings; may be the same.   enroll_index, test_index: (T,)
            rows of these.   enroll_s, test_s: (T,) seconds. A side of several utterances has their total.
        Returns: NaN without a calibration.
        Raises: InputError: the cohort has another dimension.   ValueError: a zero vector.
        """
        cosines, sides = np.asarray(cosines), (np.asarray(enroll_s), np.asarray(test_s))
        if self.calibration is None:
            return np.full(len(cosines), np.nan), np.zeros(len(cosines), bool)
        scores = self.normalised(cosines, enroll, test, enroll_index, test_index)
        measures = measure(self.names, {"duration": sides}) if self.names else np.empty((len(scores), 0))
        return self.calibration.llr(scores, measures), self.calibration.outside(measures)

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


def usable_calibrations(exp: PathLike) -> list[Path]:
    """Those of CALIBRATIONS that an experiment has; that of normalised scores needs its cohort."""
    return [path for path in CALIBRATIONS if (Path(exp) / path).exists()
            and (path == MODEL_PATH or (Path(exp) / path).with_name(COHORT).exists())]


def read_judge(exp: PathLike) -> Judge:
    """The calibration of an experiment folder; one by which a higher score is less similar is not used.

    That of normalised scores comes first, if its cohort is there.
    Raises: InputError: it or its cohort is damaged, was fitted on other scores, or with another cohort.
    """
    if not (found := usable_calibrations(exp)):
        return Judge(None, [], f"no calibration: no such file {Path(exp) / MODEL_PATH}")
    path, backend = Path(exp) / found[0], found[0].parts[1]
    calibration, names, about = read_model(path)
    if (about.get("backend"), about.get("protocol")) != (backend, "native"):
        raise InputError(path, None, f"was fitted for {about.get('backend')} and {about.get('protocol')}, not for "
                                     f"{backend} and native")
    if unusable := [name for name in names if MEASURES[name].quantity != "duration"]:
        return Judge(None, [], f"no calibration: {path} needs {unusable[0]}, which is not available for single files")
    if calibration.num_scores > 1:
        return Judge(None, [], f"no calibration: {path} fuses the scores of {calibration.num_scores} systems")
    if calibration.weights[0] <= 0:
        return Judge(None, [], f"no calibration: {path} has the slope {calibration.weights[0]:.3g}, by which a higher "
                               "score is less similar")
    doubts = (f"The calibration of this model is weak: {why}." for why in weaknesses(about))
    return Judge(calibration, names, doubts=tuple(doubts), path=str(path), model=str(about.get(KEY) or ""),
                 cohort=read_cohort(path.with_name(COHORT), about) if found[0] == NORMALISED_PATH else None)


def read_cohort(path: Path, about: Mapping[str, Any]) -> np.ndarray:
    """(C, D) embeddings with which scores were normalised.

    Args: about: of their calibration.   Raises: InputError: they are damaged, or others.
    """
    path = newest(path)
    with readable(path):
        if sha256(path) != about.get("cohort_sha256"):
            raise InputError(path, None, "is not the cohort with which the calibration next to it was fitted")
    return load_cohort(path)


def load_cohort(path: PathLike) -> np.ndarray:
    """(C, D) float32 of a file as COHORT.   Raises: InputError: it is missing, damaged or another array."""
    with readable(path):
        try:
            cohort = np.array(np.load(path, mmap_mode="r", allow_pickle=False))  # no memory for what is not there
        except (ValueError, EOFError) as error:
            raise InputError(path, None, f"cannot be read as an array: {error}") from None
    if cohort.ndim != 2 or cohort.dtype != np.float32 or len(cohort) < 2 or not np.isfinite(cohort).all():
        raise InputError(path, None, f"want (C, D) finite float32 with two rows or more, got {cohort.dtype} "
                                     f"{cohort.shape}")
    return cohort
