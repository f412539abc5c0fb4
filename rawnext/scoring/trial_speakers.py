# SPDX-License-Identifier: Apache-2.0
"""The speakers of both sides of each trial, for intervals and tests over speakers."""

import sys
from pathlib import Path

import numpy as np

from rawnext.errors import InputError
from rawnext.files import PathLike
from rawnext.kaldi.tables import Trials, indices_of, read_enroll_map, read_table


def trial_speakers(trials: Trials, path: PathLike, utt2spk: PathLike, enroll_utt2spk: PathLike) -> np.ndarray:
    """(2, N) speaker indices of each trial's enroll and test side, in the order of the speakers' names.

    Args:
        path: the list's file; if PATH.enroll exists, it maps the enroll ids (models) to utterances.
        utt2spk, enroll_utt2spk: tables of the test and enroll side's utterances.
    Raises: InputError: an utterance without a speaker, a target trial of two speakers or a nontarget trial of one.
    """
    test = read_table(utt2spk, one_word=True)
    enroll = test if Path(enroll_utt2spk) == Path(utt2spk) else read_table(enroll_utt2spk, one_word=True)
    models = Path(f"{path}.enroll")
    if models.exists():
        enroll = model_speakers(models, enroll, enroll_utt2spk)
    order = sorted({*enroll.values(), *test.values()})
    index = {name: row for row, name in enumerate(order)}
    sides = np.stack([indices_of(ids, {utt: index[spk] for utt, spk in table.items()}, path, where)
                      for ids, table, where in
                      ((trials.enroll, enroll, models if models.exists() else enroll_utt2spk),
                       (trials.test, test, utt2spk))])
    wrong = np.flatnonzero((sides[0] == sides[1]) != trials.is_target)
    if wrong.size:
        line = int(wrong[0])
        one, other = (order[side[line]] for side in sides)
        raise InputError(path, line + 1, f"a target trial of {one} and {other}" if one != other else
                         f"a nontarget trial within {one}")
    return np.unique(sides, return_inverse=True)[1].reshape(2, -1)  # only speakers that occur in the trials


def speaker_tables(path: PathLike, utt2spk: PathLike | None = None, enroll_utt2spk: PathLike | None = None,
                   enroll_data: PathLike | None = None) -> tuple[Path, Path]:
    """The utt2spk of the test and the enroll side: the requested ones, or those of the sides' data directories.

    Args: path: the list's file, which is in the data directory of the test side.   enroll_data: that of the enroll
        side, if it is another one.
    """
    test = Path(utt2spk or Path(path).parent / "utt2spk")
    return test, Path(enroll_utt2spk or (Path(enroll_data) / "utt2spk" if enroll_data else test))


def known_speakers(trials: Trials, path: PathLike, utt2spk: Path, enroll_utt2spk: Path,
                   required: bool) -> np.ndarray | None:
    """As trial_speakers; unless they are required, None, with a message, if the tables do not fit or are missing."""
    if not required and not (utt2spk.exists() and enroll_utt2spk.exists()):
        return None
    try:
        return trial_speakers(trials, path, utt2spk, enroll_utt2spk)
    except InputError as error:
        if required:
            raise
        print(f"no intervals: {error}", file=sys.stderr)
        return None


def model_speakers(path: PathLike, utt2spk: dict[str, str], where: PathLike) -> dict[str, str]:
    """Model -> the speaker of its utterances."""
    speakers = {}
    for line, (model, utts) in enumerate(read_enroll_map(path, utt2spk, where).items(), 1):
        found = {utt2spk[utt] for utt in utts}
        if len(found) > 1:
            raise InputError(path, line, f"{model} has two speakers")
        speakers[model] = found.pop()
    return speakers
