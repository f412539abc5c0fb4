# SPDX-License-Identifier: Apache-2.0
"""The measures of an evaluation, by their names in results.tsv, and of two systems on the same trials."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rawnext.errors import InputError
from rawnext.files import PathLike
from rawnext.kaldi.tables import read_scored_trials
from rawnext.results.rows import Row, check_unchanged
from rawnext.scoring.bootstrap import REPLICATES, Measure, Units, bootstrap, interval, p_value, units_of
from rawnext.scoring.det import det_points
from rawnext.scoring.metrics import EER_DEFINITION, act_dcf_of, cllr_of, eer, eer_of, min_cllr_of, min_dcf_of
from rawnext.scoring.trial_speakers import trial_speakers

TITLES = {"eer": "EER %", "min_dcf_01": "minDCF(0.01)", "min_dcf_05": "minDCF(0.05)", "act_dcf_01": "actual DCF(0.01)",
          "act_dcf_05": "actual DCF(0.05)", "cllr": "Cllr", "min_cllr": "minimum Cllr"}


def measures(definition: str, llr: bool) -> dict[str, Measure]:
    """Name -> measure: EER in per cent and minDCF; for log-likelihood ratios also actual DCF and Cllr."""
    found: dict[str, Measure] = {"eer": lambda det: 100 * eer_of(det, definition),
                                 "min_dcf_01": partial(min_dcf_of, p_target=0.01),
                                 "min_dcf_05": partial(min_dcf_of, p_target=0.05)}
    if llr:
        found |= {"act_dcf_01": partial(act_dcf_of, p_target=0.01), "act_dcf_05": partial(act_dcf_of, p_target=0.05),
                  "cllr": cllr_of, "min_cllr": min_cllr_of}
    return found


def check_kinds(is_target: np.ndarray, path: PathLike) -> None:
    """Raise InputError if the trials of a file, (N,) bool, are all target or all nontarget trials."""
    for name, side in (("target", is_target), ("nontarget", ~is_target)):
        if not side.any():
            raise InputError(path, None, f"has no {name} trial")


def evaluation(scores: np.ndarray, is_target: np.ndarray, definition: str, llr: bool,
               speakers: np.ndarray | None = None, more: Mapping[str, Measure] | None = None) -> dict[str, Any]:
    """The row of (N,) scores: each measure and, with speakers (2, N), each `MEASURE_interval`.

    Args: more: measures in addition to `measures`.

    `interval_note`: why there is none, or why it is an upper bound.   `warning`: why the scores cannot be right.
    """
    target, nontarget = scores[is_target], scores[~is_target]
    det, wanted = det_points(target, nontarget), measures(definition, llr) | dict(more or {})
    row: dict[str, Any] = {name: float(measure(det)) for name, measure in wanted.items()}
    row["eer"] = 100 * eer(target, nontarget, definition)  # Kaldi's uses single precision
    row["eer_definition"] = definition
    if len(det.thresholds) == 2:
        row["warning"] = "all scores are equal"
    elif eer_of(det) > 0.5:
        row["warning"] = ("the EER is above 50 %: target trials score lower than nontarget trials; are the scores "
                          "distances, or the labels swapped?")
    if speakers is not None:
        row |= intervals(scores, is_target, speakers, wanted, row["eer"])
        row["num_speakers"] = int(speakers.max()) + 1
    return row


def intervals(scores: np.ndarray, is_target: np.ndarray, speakers: np.ndarray, wanted: dict[str, Measure],
              eer_percent: float) -> dict[str, Any]:
    """`MEASURE_interval` of each measure that varies with the speakers, and `interval_note` if something is wrong.

    Without an error all samples of speakers have the same figures, and the EER's interval is an upper bound.
    """
    units = units_of(is_target, speakers)
    if units.too_few:
        return no_interval(units)
    estimate, replicates = bootstrap([scores], is_target, speakers, list(wanted.values()))
    return interval_entries(units, list(wanted), estimate[0], replicates[:, 0], eer_percent)


def no_interval(units: Units) -> dict[str, Any]:
    return {"interval_note": f"no interval: {units.too_few}"}


def interval_entries(units: Units, names: list[str], estimate: np.ndarray, replicates: np.ndarray,
                     eer_percent: float) -> dict[str, Any]:
    """What intervals returns, of M measures with these names: (M,) estimates and (R, M) of the samples."""
    if units.too_few:
        return no_interval(units)
    ends, varies = interval(estimate, replicates).T.tolist(), np.ptp(replicates, axis=0) > 0
    found = {f"{name}_interval": pair for name, pair, known in zip(names, ends, varies) if known}
    if eer_percent == 0:
        found["eer_interval"] = [0.0, 100 * units.bound()]
        found["interval_note"] = (f"no errors: the upper end is the bound of Clopper and Pearson for {units.speakers} "
                                  f"speakers and {units.pairs} disjoint pairs of speakers without an error")
    elif "eer_interval" not in found:
        found["interval_note"] = "no interval: all samples of speakers have the same EER"
    elif units.too_narrow:
        found["interval_note"] = units.too_narrow
    return found


class Difference(NamedTuple):
    """One measure of systems A and B; A - B with the ends of its 95 % interval; two-sided p of no difference.

    why: if there is neither interval nor p, the reason; low, high and p are then NaN.
    """

    measure: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    why: str = ""

    def __str__(self) -> str:
        """`-0.40 [-0.92, 0.13], p 0.14`"""
        digits = 2 if self.measure == "eer" else 3
        if self.why:
            return f"{self.difference:+.{digits}f}, {self.why}"
        p = f"p {self.p:.2g}" if self.p >= 0.01 else "p < 0.01"
        return f"{self.difference:+.{digits}f} [{self.low:+.{digits}f}, {self.high:+.{digits}f}], {p}"


def paired_test(a: np.ndarray, b: np.ndarray, is_target: np.ndarray, speakers: np.ndarray, definition: str,
                llr: bool) -> list[Difference]:
    """The difference in each of `measures`.

    Args:
        a, b: (N,) scores of the two systems.   is_target: (N,) bool.   speakers: (2, N), of the enroll and test sides.
        definition: of the EER.   llr: scores are log-likelihood ratios.
    """
    wanted = measures(definition, llr)
    few = units_of(is_target, speakers).too_few
    estimate, replicates = bootstrap([a, b], is_target, speakers, list(wanted.values()), 1 if few else REPLICATES)
    if few:
        return [Difference(name, one, other, one - other, math.nan, math.nan, math.nan, f"no interval: {few}")
                for name, (one, other) in zip(wanted, estimate.T.tolist())]
    difference, differences = estimate[0] - estimate[1], replicates[:, 0] - replicates[:, 1]
    columns = (*estimate, difference, *interval(difference, differences), p_value(difference, differences))
    found = [Difference(name, one, other, gap, low, high, p)
             for name, (one, other, gap, low, high, p) in zip(wanted, np.stack(columns, axis=1).tolist())]
    same = np.ptp(differences, axis=0) == 0
    if np.array_equal(a, b):
        return found
    return [one._replace(low=math.nan, high=math.nan, p=math.nan, why="no interval: equal in all samples of speakers")
            if fixed else one for one, fixed in zip(found, same)]


def paired_files(a: PathLike, b: PathLike, trials_path: PathLike, utt2spk: PathLike | None = None,
                 enroll_utt2spk: PathLike | None = None, definition: str = EER_DEFINITION,
                 llr: bool = False) -> list[Difference]:
    """paired_test of two score files; utt2spk is by default the one in the trials' folder, for both sides.

    Raises: InputError: a file is malformed, or does not cover the list.
    """
    utt2spk = utt2spk or Path(trials_path).parent / "utt2spk"
    (trials, scores), (_, others) = (read_scored_trials(path, trials_path) for path in (a, b))
    check_kinds(trials.is_target, trials_path)
    speakers = trial_speakers(trials, trials_path, utt2spk, enroll_utt2spk or utt2spk)
    return paired_test(scores, others, trials.is_target, speakers, definition, llr)


def paired_eer(row: Row, first: Row) -> str:
    """A row's EER minus the first system's, as text; empty for the first itself, or if their lists differ."""
    if row["scores"] == first["scores"] or row["trials_sha256"] != first["trials_sha256"]:
        return ""
    enroll = Path(row["enroll"]) / "utt2spk" if "enroll" in row else None
    for one in (row, first):
        check_unchanged(one)
    return str(paired_files(row["scores"], first["scores"], row["trials"], None, enroll,
                            row.get("eer_definition", EER_DEFINITION))[0])
