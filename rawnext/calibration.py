# SPDX-License-Identifier: Apache-2.0
"""A calibration on disk: its model as JSON, how long the sides of trials are, the table of thresholds."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rawnext.backend.calibration import MEASURES, Calibration, OperatingPoint, measure
from rawnext.tables import InputError, PathLike, read_enroll_map, read_table, to_number, write_lines

FORM = "calibration 1"
COLUMNS = ("enroll", "test", "prior", "llr", "score", "miss %", "false alarm %", "miss % (one score)",
           "false alarm % (one score)")


class ScoreFile(NamedTuple):
    """A score file, and the seconds to which its sides were cut; 0: not cut."""

    path: str
    enroll: float
    test: float

    def __str__(self) -> str:
        return ":".join([self.path, *(f"{seconds:g}" if seconds else "full" for seconds in self[1:])])


def score_file(text: str) -> ScoreFile:
    """`SCORES:ENROLL:TEST`, each side `full` or the seconds it was cut to.   Raises: ValueError: something else."""
    path, *sides = text.rsplit(":", 2)
    seconds = [0.0 if side == "full" else to_number(side) for side in sides]
    if len(sides) != 2 or not all(side == "full" or 0 < s < np.inf for side, s in zip(sides, seconds)):
        raise ValueError(f"want SCORES:ENROLL:TEST, the sides `full` or seconds, got {text!r}")
    return ScoreFile(path, *seconds)


def read_durations(data: PathLike, cut: float = 0, enroll_map: PathLike | None = None) -> dict[str, float]:
    """utt -> seconds of a data directory's utt2dur, at most `cut` where that is not 0; model -> those of all its utts.

    Raises: InputError: there is no utt2dur, a duration is not above 0, or an utterance of a model has none.
    """
    path = Path(data) / "utt2dur"
    if not path.exists():
        raise InputError(path, None, "no such file, and the measures are made of durations")
    seconds = {utt: to_number(text) for utt, text in read_table(path, one_word=True).items()}
    for number, (utt, value) in enumerate(seconds.items(), 1):
        if not 0 < value < np.inf:
            raise InputError(path, number, f"{utt}: want seconds above 0")
        seconds[utt] = min(value, cut or value)
    if enroll_map is None:
        return seconds
    models = read_enroll_map(enroll_map)
    for number, utts in enumerate(models.values(), 1):
        if missing := [utt for utt in utts if utt not in seconds]:
            raise InputError(enroll_map, number, f"{missing[0]} has no duration in {path}")
    return {model: sum(seconds[utt] for utt in utts) for model, utts in models.items()}


def trial_measures(names: Sequence[str], file: ScoreFile, enroll: Sequence[str], test: Sequence[str], enroll_data: Path,
                   test_data: Path, enroll_map: PathLike | None = None) -> np.ndarray:
    """(N, M) measures of these names of a score file's N trials.

    Raises: InputError: an utterance without a duration.
    """
    if not names:
        return np.empty((len(enroll), 0))
    sides = []
    for ids, data, cut, models in ((enroll, enroll_data, file.enroll, enroll_map), (test, test_data, file.test, None)):
        durations = read_durations(data, cut, models)
        seconds = np.array([durations.get(name, 0.0) for name in ids])
        if not seconds.all():
            line = int(np.argmin(seconds))
            raise InputError(file.path, line + 1, f"{ids[line]} has no duration in {models or data / 'utt2dur'}")
        sides.append(seconds)
    return measure(names, *sides)


def save_model(path: PathLike, calibration: Calibration, names: Sequence[str], about: Mapping[str, Any]) -> None:
    """Write a model as JSON.   names: of its measures.   about: what it was fitted on."""
    model = {"form": FORM, "names": ["score", *names], "weights": calibration.weights.tolist(),
             "offset": calibration.offset, "low": calibration.low.tolist(), "high": calibration.high.tolist(), **about}
    write_lines(path, [json.dumps(model, indent=2, ensure_ascii=False)])


def read_model(path: Path) -> tuple[Calibration, list[str], dict[str, Any]]:
    """Calibration, names of its measures, and all that the file says.

    Raises: InputError: it is not what save_model writes.
    """
    try:
        model = json.loads(path.read_text(encoding="utf-8"))
        names = model["names"][1:]
        weights, low, high = (np.array(model[key], dtype=np.float64) for key in ("weights", "low", "high"))
        calibration = Calibration(weights, float(model["offset"]), low, high)
        fits = (model["form"] == FORM and set(names) <= set(MEASURES) and len(weights) == 1 + len(names)
                and low.shape == high.shape == (len(names),)
                and np.isfinite([*weights, calibration.offset, *low, *high]).all())
    except FileNotFoundError:
        raise InputError(path, None, "no such file") from None
    except (OSError, ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        raise InputError(path, None, "is not a calibration of steps/calibrate.py")
    return calibration, names, model


Tables = list[tuple[ScoreFile, list[OperatingPoint]]]


def threshold_rows(tables: Tables) -> Iterator[list[str]]:
    """One line a condition and prior, as COLUMNS."""
    for file, points in tables:
        sides = [f"{seconds:g} s" if seconds else "full" for seconds in file[1:]]
        for point in points:
            yield [*sides, f"{point.prior:g}", f"{point.llr:.3f}", f"{point.score:.4f}",
                   *(f"{100 * rate:.3f}" for rate in point[3:])]


def thresholds_page(tables: Tables, title: str, fitted_on: str) -> list[str]:
    """Lines of thresholds.md."""
    lines = [COLUMNS, ["---"] * 2 + ["---:"] * (len(COLUMNS) - 2), *threshold_rows(tables)]
    return [f"# Thresholds: {title}", "",
            "Accept where the LLR reaches the column *llr*; where there are only raw scores, where these reach "
            "*score*, right for a trial of the list's middle duration. Prior: share of target trials among those that "
            "will come; costs 1 and 1. For other costs take the prior P C_miss / (P C_miss + (1 - P) C_fa).", "",
            *(f"| {' | '.join(cells)} |" for cells in lines), "",
            f"Error rates: on {fitted_on}, where the calibration was fitted too; expect other trials to be worse."]
