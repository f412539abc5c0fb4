# SPDX-License-Identifier: Apache-2.0
"""One line of a cuts.jsonl, checked before lhotse gets it, which would also run commands and fetch URLs."""

import json
import math
import os
from typing import Any

from rawnext.errors import InputError
from rawnext.files import PathLike
from rawnext.kaldi.tables import check_id

# otherwise lhotse passes the names of some files (.sph, .opus) to a shell
os.environ.setdefault("LHOTSE_AUDIO_BACKEND", "LibsndfileBackend")


def read_cut(line: bytes, path: PathLike, line_number: int) -> dict[str, Any]:
    """The JSON values of a lhotse MonoCut with a speaker and audio in files.

    Raises: InputError: it is anything else, or an id is invalid.
    """
    try:
        cut = json.loads(line)
        recording, utt, spk = cut["recording"], cut["id"], cut["supervisions"][0]["speaker"]
        kinds = [cut["type"], *(source["type"] for source in recording["sources"])]
        numbers = [cut["start"], cut["duration"], recording["duration"], recording["num_samples"],
                   recording["sampling_rate"]]
        check_id(utt, path, line_number)
        check_id(spk, path, line_number)
        finite = all(0 <= number < math.inf for number in numbers)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise InputError(path, line_number, "not a lhotse cut with a speaker") from None
    if kinds[0] != "MonoCut" or len(kinds) == 1 or any(kind != "file" for kind in kinds[1:]):
        raise InputError(path, line_number, f"{utt}: not a MonoCut of audio in files")
    if not finite:
        raise InputError(path, line_number, f"{utt}: negative or infinite lengths")
    return cut
