# SPDX-License-Identifier: Apache-2.0
"""Kaldi's text tables: `utt2spk`, `wav.scp`, trials, scores.

All user input is checked here; an error becomes an InputError with file, line and reason.
"""

import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from rawnext.errors import InputError
from rawnext.files import PathLike, atomic_path, condition_tables, read_lines, write_lines
from rawnext.kaldi.words import ID_LIMIT, check_id, to_number

T = TypeVar("T")

BLOCK = 1 << 22  # characters of a file that are split at a time
NOT_IN_IDS = ("\"", "'", "\\", "..", "\n/", "\n-")


class OddFile(ValueError):
    """A file that must be read line by line: it has an error, or is valid but unusual."""


def read_columns(path: PathLike, num: int) -> Iterator[list[list[str]]]:
    """The words of a regular file with `num` on each line, as columns of blocks of lines; the words are not checked.

    Raises: OddFile: another number of words, a space at a line's beginning or end, a pipe (which cannot be read twice).
        OSError, UnicodeDecodeError.
    """
    if not os.path.isfile(path):
        raise OddFile
    with open(path, encoding="utf-8", newline="\n") as file:
        at_once = min(BLOCK, os.fstat(file.fileno()).st_size + 1)  # read() takes the memory before it reads
        while text := file.read(at_once):
            text = (text + file.readline()).removesuffix("\n").replace("\t", " ")
            words = text.replace("\n", " \n ").split(" ")
            words.append("\n")
            lines = text.count("\n") + 1
            if len(words) != lines * (num + 1) or words[num::num + 1].count("\n") != lines:
                raise OddFile
            yield [words[column::num + 1] for column in range(num)]


def check_ids(ids: Iterable[str]) -> None:
    """Raise OddFile if one of these words may not be an id."""
    text = "".join(map("\n{}".format, check_words(list(ids))))
    if any(mark in text for mark in NOT_IN_IDS) or max(map(len, text.encode().split(b"\n"))) > ID_LIMIT:
        raise OddFile


def check_words(words: list[str]) -> list[str]:
    """These words; OddFile if one is empty or not printable."""
    if "" in words or not "".join(words).isprintable():
        raise OddFile
    return words


def read_table(path: PathLike, one_word: bool = False, optional: bool = False) -> dict[str, str]:
    """A Kaldi table `key value...`, one entry a line, in the order of the file.

    Args:
        one_word: the value must be a single word (utt2spk, spk2gender, utt2dur); else it is the rest of the line.
        optional: without the file, the table is empty.
    Raises: InputError: a line without a value, a key that cannot be an id, a repeated key.
    """
    if optional and not os.path.exists(path):
        return {}
    try:
        table, lines = dict[str, str](), 0
        for keys, values in read_columns(path, 2):
            table.update(zip(keys, check_words(values)))
            lines += len(keys)
        check_ids(table)
        if len(table) < lines:
            raise OddFile
    except (OSError, ValueError):  # the same line by line, which names the error if there is one
        table = _table_by_lines(path, one_word)
    if not table:
        raise InputError(path, None, "is empty")
    return table


def _table_by_lines(path: PathLike, one_word: bool) -> dict[str, str]:
    table: dict[str, str] = {}
    for number, line in read_lines(path):
        parts = line.split(None, 1)
        if len(parts) != 2 or (one_word and len(parts[1].split()) != 1):
            raise InputError(path, number, f"expected 2 columns, got {len(line.split())}")
        key, value = check_id(parts[0], path, number), parts[1].rstrip()
        if key in table:
            raise InputError(path, number, f"{key} is listed twice")
        table[key] = value
    return table


def read_conditions(folder: PathLike) -> dict[str, dict[str, str]]:
    """The tables utt2X and spk2X of a data directory that preparation copies: not those that it makes itself."""
    return {path.name: read_table(path) for path in condition_tables(folder)
            if path.name not in ("utt2dur", "spk2gender")}


def write_conditions(out: PathLike, tables: Mapping[str, Mapping[str, str]], utt2spk: Mapping[str, str]) -> None:
    """Write the lines of these utterances and their speakers, in their order, in place of the tables that are there.

    A table of utterances that lacks one is not written.
    """
    for path in condition_tables(out):
        if path.name not in ("utt2dur", "spk2gender"):
            path.unlink()
    for name, table in tables.items():
        keys = [key for key in (utt2spk if name.startswith("utt2") else sorted({*utt2spk.values()})) if key in table]
        if keys and (name.startswith("spk2") or len(keys) == len(utt2spk)):
            write_lines(Path(out) / name, (f"{key} {table[key]}" for key in keys))


def write_speakers(out: PathLike, utt2spk: Mapping[str, str]) -> None:
    """Write utt2spk and spk2utt, in Kaldi's order."""
    spk2utt: dict[str, list[str]] = {}
    for utt in sorted(utt2spk, key=str.encode):
        spk2utt.setdefault(utt2spk[utt], []).append(utt)
    write_lines(Path(out) / "utt2spk", (f"{utt} {utt2spk[utt]}" for utt in sorted(utt2spk, key=str.encode)))
    write_lines(Path(out) / "spk2utt", (f"{spk} {' '.join(spk2utt[spk])}" for spk in sorted(spk2utt, key=str.encode)))


def check_sorted(path: PathLike, keys: Iterable[str]) -> None:
    """Raise InputError unless keys are in Kaldi's order (`LC_ALL=C sort`, that is by bytes)."""
    previous = b""
    for number, key in enumerate(keys, 1):
        if (this := key.encode()) < previous:
            raise InputError(path, number, f"{key} is not in order; sort with LC_ALL=C")
        previous = this


LINES = 1 << 14  # lines of scores that are written at a time


class Trials(NamedTuple):
    """A trial list. enroll, test: N ids; is_target: (N,) bool."""

    enroll: list[str]
    test: list[str]
    is_target: np.ndarray


def foreign_form(line: str) -> str:
    """Hint for a line that is not `enroll test target|nontarget`: the format it seems to have, if any."""
    words = line.split()
    labels = {"0", "1"}
    if len(words) == 3 and (words[0] in labels or words[2] in labels):
        form = "VoxCeleb's format" if words[0] in labels else "labels 1 and 0"
    elif len(words) != 3 and len(re.split("[,;\t]", line)) > 2:
        form = "CSV"
    else:
        return ""
    return f" ({form}? local/convert_trials.py converts it)"


def pair_lines(path: PathLike) -> Iterator[tuple[int, list[str]]]:
    """(line number, [enroll, test, third column]) of a trial list or a score file; both ids are checked."""
    seen: set[str] = set()
    for number, line in read_lines(path):
        words = line.split()
        if len(words) != 3:
            raise InputError(path, number, f"expected 3 columns, got {len(words)}{foreign_form(line)}")
        for utt in words[:2]:
            if utt not in seen:
                seen.add(check_id(utt, path, number))
        yield number, words


def read_pairs(path: PathLike, convert: Callable[[list[str]], T],
               convert_line: Callable[[PathLike, int, list[str]], T]) -> tuple[list[str], list[str], list[T]]:
    """Columns of a trial list or a score file: N enroll ids, N test ids, and the meaning of the third column, in parts.

    Equal ids are one object, so a long list takes the memory of its utterances.

    Args:
        convert: a part of the third column to its meaning; ValueError or KeyError if a word has none.
        convert_line: (path, line number, its three words) to the same for one line; InputError if its word has none.
    """
    ids, third = dict[str, str](), list[T]()
    enroll, test = list[str](), list[str]()
    try:
        for one, other, words in read_columns(path, 3):
            enroll += map(ids.setdefault, one, one)
            test += map(ids.setdefault, other, other)
            third.append(convert(words))
        check_ids(ids)
        return enroll, test, third
    except (OSError, ValueError, KeyError):  # the same line by line, which names the error if there is one
        lines = [(words, convert_line(path, number, words)) for number, words in pair_lines(path)]
        return [words[0] for words, _ in lines], [words[1] for words, _ in lines], [third for _, third in lines]


KINDS = {"target": True, "nontarget": False}


def read_trials(path: PathLike) -> Trials:
    """Read Kaldi's format `enroll test target|nontarget`."""
    enroll, test, kinds = read_pairs(
        path, lambda words: np.fromiter(map(KINDS.__getitem__, words), bool, len(words)), _kind)
    if not enroll:
        raise InputError(path, None, "is empty")
    return Trials(enroll, test, np.concatenate(kinds))


def _kind(path: PathLike, number: int, words: list[str]) -> np.ndarray:
    if words[2] not in KINDS:
        why = foreign_form(" ".join(words))
        raise InputError(path, number, f"expected target or nontarget, got {words[2][:60]!r}{why}")
    return np.array([KINDS[words[2]]])


def read_enroll_map(path: PathLike, known: Container[str] | None = None, where: PathLike = "") -> dict[str, list[str]]:
    """Model -> its enrollment utterances, from lines `model utt utt ...` (as in spk2utt).

    Args: known: utterances that models may have; None: any.   where: the place that lists them.
    Raises: InputError: a line without an utterance, a repeated model, an utterance unknown or twice in one model.
    """
    models = {model: utts.split() for model, utts in read_table(path).items()}
    for number, (model, utts) in enumerate(models.items(), 1):
        if len(set(utts)) < len(utts):
            raise InputError(path, number, f"{model} has an utterance twice")
        for utt in utts:
            if known is not None and utt not in known:
                raise InputError(path, number, f"{utt} is not in {os.fspath(where)}")
            check_id(utt, path, number)
    return models


def indices_of(ids: Sequence[str], index: Mapping[str, int], path: PathLike, where: PathLike) -> np.ndarray:
    """(N,) index of each id of a column of a trial list.

    Raises: InputError: an id without an index; path: the list; where: the place that lists the ids with one.
    """
    indices = np.fromiter(map(index.get, ids, repeat(-1)), np.int64, len(ids))
    if (indices < 0).any():
        line = int(np.argmax(indices < 0))
        raise InputError(path, line + 1, f"{ids[line]} is not in {os.fspath(where)}")
    return indices


def read_unlabelled(path: PathLike) -> tuple[list[str], list[str], list[str]]:
    """Read pairs without a label, `enroll test idx`: three columns of N words."""
    enroll, test, idx = read_pairs(path, check_words, lambda path, number, words: words[2:])
    if not enroll:
        raise InputError(path, None, "is empty")
    return enroll, test, list(chain.from_iterable(idx))


def write_trials(path: PathLike, trials: Trials) -> None:
    write_lines(path, (f"{e} {t} {'target' if y else 'nontarget'}" for e, t, y in zip(*trials)))


def write_trial_list(path: PathLike, trials: Trials, models: Mapping[str, Iterable[str]]) -> None:
    """A trial list, and the table TRIALS.enroll of the models that it names; without models, that is removed."""
    table = Path(f"{os.fspath(path)}.enroll")
    if models:
        write_lines(table, (f"{model} {' '.join(models[model])}" for model in sorted(models, key=str.encode)))
    else:
        table.unlink(missing_ok=True)
    write_trials(path, trials)


def read_scores(path: PathLike) -> tuple[list[str], list[str], np.ndarray]:
    """Read `enroll test score`: two columns of N ids and (N,) float64 scores, all finite."""
    enroll, test, scores = read_pairs(path, _scores, _score)
    return enroll, test, np.concatenate(scores) if scores else np.empty(0)


def _scores(words: list[str]) -> np.ndarray:
    text, scores = "".join(check_words(words)), np.fromiter(map(float, words), np.float64, len(words))
    if "_" in text or not text.isascii() or not np.isfinite(scores).all():
        raise OddFile
    return scores


def _score(path: PathLike, number: int, words: list[str]) -> np.ndarray:
    if not np.isfinite(score := to_number(words[2])):
        raise InputError(path, number, f"not a score: {words[2][:60]!r}")
    return np.array([score])


def write_scores(path: PathLike, enroll: Sequence[str], test: Sequence[str], scores: ArrayLike) -> None:
    """Write N lines `enroll test score`.   Raises: InputError: a score is not finite."""
    numbers, blocks = np.asarray(scores), range(0, len(enroll), LINES)
    if not (finite := np.isfinite(numbers)).all():
        first = int(np.argmin(finite))
        raise InputError(path, None, f"not written: the score of {enroll[first]} {test[first]} is {numbers[first]}")
    with atomic_path(path, stream=True) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for part in (slice(start, start + LINES) for start in blocks):
            words = list(chain.from_iterable(zip(enroll[part], test[part], numbers[part].tolist())))
            file.write("%s %s %.6f\n" * (len(words) // 3) % tuple(words))  # three times as fast as line by line


def read_scored_trials(scores_path: PathLike, trials_path: PathLike,
                       trials: Trials | None = None) -> tuple[Trials, np.ndarray]:
    """A trial list of N trials and its (N,) scores in the order of the list; the score file may have another order.

    Args: trials: the content of trials_path, if it has been read.
    Raises: InputError: a trial without a score, a score without a trial, or two different scores for one pair.
    """
    trials = trials or read_trials(trials_path)
    enroll, test, scores = read_scores(scores_path)
    if enroll == trials.enroll and test == trials.test:
        return trials, scores
    by_pair: dict[tuple[str, str], float] = {}
    for number, (pair, score) in enumerate(zip(zip(enroll, test), scores.tolist()), 1):
        if by_pair.setdefault(pair, score) != score:
            raise InputError(scores_path, number, f"{' '.join(pair)} has two different scores")
    pairs = list(zip(trials.enroll, trials.test))
    for number, pair in enumerate(pairs, 1):
        if pair not in by_pair:
            raise InputError(trials_path, number, f"{' '.join(pair)} has no score in {os.fspath(scores_path)}")
    if len(by_pair) > len(known := set(pairs)):
        number, pair = next((n, p) for n, p in enumerate(zip(enroll, test), 1) if p not in known)
        raise InputError(scores_path, number, f"{' '.join(pair)} is not in {os.fspath(trials_path)}")
    return trials, np.array([by_pair[pair] for pair in pairs])
