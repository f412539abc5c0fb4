# SPDX-License-Identifier: Apache-2.0
"""Files of calibration: the model as JSON, durations and qualities of trial sides."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from rawnext.errors import InputError
from rawnext.files import PathLike, newest, read_json, write_lines
from rawnext.kaldi.tables import read_enroll_map, read_table
from rawnext.kaldi.words import to_number
from rawnext.scoring.calibration import MEASURES, Calibration, measure

FORM = "calibration 1"
FEWEST_TRIALS = 10  # of each kind, for each weight
FEWEST_SPEAKERS = 10
LARGEST = 1e9  # a weight or an offset beyond this is not a calibration's


class ScoreFile(NamedTuple):
    """A score file, the seconds to which its sides were cut (0: not cut), and the folders of their embeddings.

    path: with commas, the score files of several systems, which are fused.
    """

    path: str
    enroll: float
    test: float
    enroll_dir: str = ""
    test_dir: str = ""

    @property
    def paths(self) -> list[str]:
        """The score file of each system."""
        return [self.path] if os.path.exists(self.path) else self.path.split(",")

    def __str__(self) -> str:
        folders = (self.enroll_dir, self.test_dir) if self.enroll_dir else ()
        return ":".join([self.path, *(f"{s:g}" if s else "full" for s in (self.enroll, self.test)), *folders])


def score_file(text: str) -> ScoreFile:
    """`SCORES:ENROLL:TEST` or `SCORES:ENROLL:TEST:DIR:DIR`, each side `full` or the seconds to which it was cut.

    Raises: ValueError: another form.
    """
    for num_folders in (0, 2):
        path, *words = text.rsplit(":", 2 + num_folders)
        sides = [0.0 if side == "full" else to_number(side) for side in words[:2]]
        if len(words) == 2 + num_folders and all(side == "full" or 0 < s < np.inf for side, s in zip(words, sides)):
            return ScoreFile(path, sides[0], sides[1], *words[2:])
    raise ValueError(f"want SCORES:ENROLL:TEST, the sides `full` or seconds, got {text!r}")


def read_quantity(quantity: str, data: Path, cut: float, folder: str) -> tuple[dict[str, float], Path]:
    """utt -> value of a quantity, and the table that has it: the data directory's utt2dur (at most `cut` seconds, if
    that is not 0), or utt2QUANTITY in the embeddings' folder (steps/quality.py).

    Raises: InputError: the table or folder is missing, a duration is not above 0, or a value is not a finite number.
    """
    if quantity == "duration":
        path, why, least, wanted = data / "utt2dur", "the measures need durations", 0.0, "want seconds above 0"
    elif folder:
        path, why = Path(folder) / f"utt2{quantity}", "steps/quality.py writes it"
        least, wanted = -np.inf, "not a number"
    else:
        raise InputError("SCORES:ENROLL:TEST:DIR:DIR", None, f"{quantity} needs the folders of the embeddings")
    if not path.exists():
        raise InputError(path, None, f"no such file; {why}")
    values = {utt: to_number(text) for utt, text in read_table(path, one_word=True).items()}
    for number, (utt, value) in enumerate(values.items(), 1):
        if not least < value < np.inf:
            raise InputError(path, number, f"{utt}: {wanted}")
    return {utt: min(value, cut) for utt, value in values.items()} if cut and quantity == "duration" else values, path


def trial_measures(names: Sequence[str], file: ScoreFile, enroll: Sequence[str], test: Sequence[str], enroll_data: Path,
                   test_data: Path, enroll_map: PathLike | None = None) -> np.ndarray:
    """(N, M) measures of a score file's N trials, by name. A model of enroll_map has the total seconds of its
    utterances, and the mean of their other quantities.

    Raises: InputError: a quantity of an utterance is not known.
    """
    if not names:
        return np.empty((len(enroll), 0))
    def side(quantity: str, ids: Sequence[str], data: Path, cut: float, folder: str,
             models: PathLike | None = None) -> np.ndarray:
        known, path = read_quantity(quantity, data, cut, folder)
        if models is not None:
            over = sum if quantity == "duration" else fmean
            known = {model: over([known[utt] for utt in utts])
                     for model, utts in read_enroll_map(models, known, path).items()}
        values = np.array([known.get(name, np.nan) for name in ids])
        if np.isnan(values).any():
            line = int(np.argmax(np.isnan(values)))
            raise InputError(file.path, line + 1, f"{ids[line]} has no {quantity} in {models or path}")
        return values

    return measure(names, {quantity: (side(quantity, enroll, enroll_data, file.enroll, file.enroll_dir, enroll_map),
                                      side(quantity, test, test_data, file.test, file.test_dir))
                           for quantity in dict.fromkeys(MEASURES[name].quantity for name in names)})


def save_model(path: PathLike, calibration: Calibration, names: Sequence[str], about: Mapping[str, Any]) -> None:
    """Write a model as JSON.   names: of its measures.   about: data it was fitted on."""
    scores = ["score"] if calibration.num_scores == 1 else [f"score_{k + 1}" for k in range(calibration.num_scores)]
    model = {"form": FORM, "names": [*scores, *names], "weights": calibration.weights.tolist(),
             "offset": calibration.offset, "low": calibration.low.tolist(), "high": calibration.high.tolist(), **about}
    write_lines(path, [json.dumps(model, indent=2, ensure_ascii=False)])


def read_model(path: Path) -> tuple[Calibration, list[str], dict[str, Any]]:
    """Calibration, names of its measures, and all contents of the file.

    Raises: InputError: the file was not written by save_model.
    """
    what = "a calibration of steps/calibrate.py"
    model = read_json(newest(path), what)
    try:
        num_scores = sum(name.startswith("score") for name in model["names"])
        names = model["names"][num_scores:]
        weights, low, high = (np.array(model[key], dtype=np.float64) for key in ("weights", "low", "high"))
        calibration = Calibration(weights, float(model["offset"]), low, high)
        fits = (model["form"] == FORM and isinstance(names, list) and set(names) <= set(MEASURES)
                and num_scores and weights.shape == (num_scores + len(names),)
                and low.shape == high.shape == (len(names),)
                and (low <= high).all() and (np.abs([*weights, calibration.offset, *low, *high]) <= LARGEST).all())
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        fits = False
    if not fits:
        raise InputError(path, None, f"is not {what}")
    return calibration, names, model


def weaknesses(model: Mapping[str, Any]) -> list[str]:
    """Why the LLRs of a model may be wrong, by its file: too few trials or speakers, separable trials."""
    about = model.get("fitted_on")
    known = {name: value for name, value in about.items() if isinstance(value, int)} if isinstance(about, dict) else {}
    targets, trials, speakers = (known.get(name, math.inf) for name in ("num_target", "num_trials", "num_speakers"))
    found = [f"it was fitted on only {num} {kind} trial{'s' if num > 1 else ''}" for kind, num in
             (("target", targets), ("nontarget", trials - targets if targets < math.inf else math.inf))
             if num < FEWEST_TRIALS * len(model["weights"])]
    if speakers < FEWEST_SPEAKERS:
        found.append(f"it was fitted on only {speakers} speaker{'s' if speakers > 1 else ''}")
    if known.get("separable"):
        found.append("all target trials score higher than all nontarget trials; too few or too easy trials to show how "
                     "large an LLR may be")
    return found
