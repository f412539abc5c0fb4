# SPDX-License-Identifier: Apache-2.0
"""The speakers of both sides of each trial, for intervals and tests over speakers."""

from collections.abc import Sequence
from itertools import repeat
from pathlib import Path

import numpy as np

from rawnext.errors import InputError
from rawnext.files import PathLike
from rawnext.kaldi.tables import Trials, read_enroll_map, read_table


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
    sides = np.stack([speaker_indices(ids, table, index, path, where) for ids, table, where in
                      ((trials.enroll, enroll, models if models.exists() else enroll_utt2spk),
                       (trials.test, test, utt2spk))])
    wrong = np.flatnonzero((sides[0] == sides[1]) != trials.is_target)
    if wrong.size:
        line = int(wrong[0])
        one, other = (order[side[line]] for side in sides)
        raise InputError(path, line + 1, f"a target trial of {one} and {other}" if one != other else
                         f"a nontarget trial within {one}")
    return np.unique(sides, return_inverse=True)[1].reshape(2, -1)  # only speakers that occur in the trials


def speaker_indices(ids: Sequence[str], table: dict[str, str], index: dict[str, int], path: PathLike,
                    where: PathLike) -> np.ndarray:
    """(N,) index of the speaker of each id; where: source of `table`, for the message."""
    of_utt = {utt: index[spk] for utt, spk in table.items()}
    speakers = np.fromiter(map(of_utt.get, ids, repeat(-1)), np.int64, len(ids))
    if (speakers < 0).any():
        line = int(np.argmax(speakers < 0))
        raise InputError(path, line + 1, f"{ids[line]} is not in {where}")
    return speakers


def model_speakers(path: PathLike, utt2spk: dict[str, str], where: PathLike) -> dict[str, str]:
    """Model -> the speaker of its utterances."""
    speakers = {}
    for line, (model, utts) in enumerate(read_enroll_map(path).items(), 1):
        found = {utt2spk.get(utt, "") for utt in utts}
        if found == {""} or len(found) > 1:
            why = f"{model} has an utterance that is not in {where}" if "" in found else f"{model} has two speakers"
            raise InputError(path, line, why)
        speakers[model] = found.pop()
    return speakers
