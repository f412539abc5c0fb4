# SPDX-License-Identifier: Apache-2.0
"""Kaldi's tables: text files (`utt2spk`, `wav.scp`, trials, scores) and ark/scp archives of vectors.

Everything that a user gave us is checked here, and a fault becomes an InputError that names file, line and reason.
"""

import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

PathLike = str | os.PathLike[str]


class InputError(Exception):
    """Something that the user gave is wrong; printed as one line `path:line: why`, without a traceback."""

    def __init__(self, path: PathLike, line: int | None, why: str):
        self.path, self.line, self.why = os.fspath(path), line, why
        super().__init__(f"{self.path}:{line}: {why}" if line else f"{self.path}: {why}")

    def __reduce__(self):  # an exception raised in a worker process is pickled on its way back
        return type(self), (self.path, self.line, self.why)


# no right to write, a file where a folder should be, a full disk or quota
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOSPC, errno.EDQUOT,
              errno.EFBIG}


def run_main(main: Callable[[], None]) -> NoReturn:
    """Run a program's `main`: an InputError prints its one line and exits 1; any other exception is a bug."""
    try:
        main()
    except InputError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # `... | head` closed our output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """A temporary name beside `path` that becomes `path` if the block succeeds, and disappears if it does not."""
    final = Path(path)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, final)
    except OSError as error:
        ours = error.filename is None or Path(error.filename) in (temporary, *final.parents)
        if ours and error.errno in UNWRITABLE:
            raise InputError(final, None, f"cannot be written: {error.strerror}") from error
        raise
    finally:
        if final.parent.is_dir():
            temporary.unlink(missing_ok=True)


def write_lines(path: PathLike, lines: Iterable[str]) -> None:
    """Write text lines (given without their newline) under a temporary name and rename."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def read_lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """(line number, line without newline) of a text file.

    Raises: InputError: the file is missing or unreadable, is not UTF-8, has an empty line or Windows line ends.
    """
    try:
        file = open(path, encoding="utf-8", newline="\n")  # noqa: SIM115 (the with stands below)
    except FileNotFoundError:
        raise InputError(path, None, "no such file") from None
    except OSError as error:
        raise InputError(path, None, f"cannot be read: {error.strerror}") from None
    with file:
        number = 0
        try:
            for number, line in enumerate(file, 1):
                line = line.removesuffix("\n")
                if line.endswith("\r"):
                    raise InputError(path, number, "Windows line end (CRLF); convert the file with dos2unix")
                if not line.strip():
                    raise InputError(path, number, "empty line")
                yield number, line
        except UnicodeDecodeError:
            raise InputError(path, number + 1, "not UTF-8 text") from None


def read_table(path: PathLike, one_word: bool = False) -> dict[str, str]:
    """A Kaldi table `key value...`, one entry a line, in the order of the file.

    Args:
        one_word: the value must be a single word (utt2spk, spk2gender, utt2dur); else it is the rest of the line.
    Raises: InputError: a line without a value, or a key that stood before.
    """
    table: dict[str, str] = {}
    for number, line in read_lines(path):
        parts = line.split(None, 1)
        if len(parts) != 2 or (one_word and len(parts[1].split()) != 1):
            raise InputError(path, number, f"expected 2 columns, got {len(line.split())}")
        key, value = parts[0], parts[1].rstrip()
        if key in table:
            raise InputError(path, number, f"{key} stands twice")
        table[key] = value
    if not table:
        raise InputError(path, None, "is empty")
    return table


def check_sorted(path: PathLike, keys: Iterable[str]) -> None:
    """Raise InputError unless keys are in Kaldi's order (`LC_ALL=C sort`, that is by bytes)."""
    previous = b""
    for number, key in enumerate(keys, 1):
        if (this := key.encode()) < previous:
            raise InputError(path, number, f"{key} is not in order; sort with LC_ALL=C")
        previous = this


ID_LIMIT = 200
_bad_id = re.compile(r"[\s\"'\\]|(?:^|/)\.\.(?:/|$)|^/|^-")


def check_id(text: str, path: PathLike, line: int | None = None) -> str:
    """Return an utt or spk id unchanged if Kaldi's tables and file names can carry it, else raise InputError."""
    if not text or len(text) > ID_LIMIT or not text.isprintable() or _bad_id.search(text):
        raise InputError(path, line, f"{text[:60]!r} cannot be an id: 1-{ID_LIMIT} printable characters without "
                                     "spaces, quotes, backslashes or '..', not starting with '/' or '-'")
    return text


class Trials(NamedTuple):
    """A trial list. enroll, test: N ids; is_target: (N,) bool."""

    enroll: list[str]
    test: list[str]
    is_target: np.ndarray


_KINDS = {"target": True, "nontarget": False}


def read_trials(path: PathLike) -> Trials:
    """Read Kaldi's form `enroll test target|nontarget`."""
    enroll, test, kinds = [], [], []
    for number, line in read_lines(path):
        columns = line.split()
        if len(columns) != 3:
            raise InputError(path, number, f"expected 3 columns, got {len(columns)}")
        if columns[2] not in _KINDS:
            raise InputError(path, number, f"expected target or nontarget, got {columns[2]!r}")
        enroll.append(columns[0])
        test.append(columns[1])
        kinds.append(_KINDS[columns[2]])
    if not enroll:
        raise InputError(path, None, "is empty")
    return Trials(enroll, test, np.array(kinds, dtype=bool))


def write_trials(path: PathLike, trials: Trials) -> None:
    write_lines(path, (f"{e} {t} {'target' if y else 'nontarget'}" for e, t, y in zip(*trials)))


def read_scores(path: PathLike) -> tuple[list[str], list[str], np.ndarray]:
    """Read `enroll test score`: two lists of N ids and (N,) float64 scores, all finite."""
    enroll, test, scores = [], [], []
    for number, line in read_lines(path):
        columns = line.split()
        if len(columns) != 3:
            raise InputError(path, number, f"expected 3 columns, got {len(columns)}")
        try:
            score = float(columns[2])
        except ValueError:
            score = float("nan")
        if not np.isfinite(score):
            raise InputError(path, number, f"not a score: {columns[2]!r}")
        enroll.append(columns[0])
        test.append(columns[1])
        scores.append(score)
    return enroll, test, np.array(scores)


def write_scores(path: PathLike, enroll: Iterable[str], test: Iterable[str], scores: Iterable[float]) -> None:
    write_lines(path, (f"{e} {t} {s:.6f}" for e, t, s in zip(enroll, test, scores)))


def read_scored_trials(scores_path: PathLike, trials_path: PathLike) -> tuple[Trials, np.ndarray]:
    """A trial list of N trials and its (N,) scores in the order of the list; the score file may have another order.

    Raises: InputError: a trial without a score, a score without a trial, or two different scores for one pair.
    """
    trials = read_trials(trials_path)
    enroll, test, scores = read_scores(scores_path)
    if enroll == trials.enroll and test == trials.test:
        return trials, scores
    by_pair: dict[tuple[str, str], float] = {}
    for number, (pair, score) in enumerate(zip(zip(enroll, test), scores.tolist()), 1):
        if by_pair.setdefault(pair, score) != score:
            raise InputError(scores_path, number, f"{' '.join(pair)} had another score before")
    pairs = list(zip(trials.enroll, trials.test))
    for number, pair in enumerate(pairs, 1):
        if pair not in by_pair:
            raise InputError(trials_path, number, f"{' '.join(pair)} has no score in {os.fspath(scores_path)}")
    if len(by_pair) > len(known := set(pairs)):
        number, pair = next((n, p) for n, p in enumerate(zip(enroll, test), 1) if p not in known)
        raise InputError(scores_path, number, f"{' '.join(pair)} is not in {os.fspath(trials_path)}")
    return trials, np.array([by_pair[pair] for pair in pairs])


def write_vectors(ark: PathLike, scp: PathLike, vectors: Iterable[tuple[str, np.ndarray]]) -> int:
    """Write float32 vectors to a binary ark and its scp (absolute paths); returns how many.

    Every vector is checked before its key is written (1-D, finite, one dimension throughout), so an archive that
    exists is one that Kaldi reads to its end.
    """
    import kaldiio

    ark, scp, num, dim = Path(ark).resolve(), Path(scp).resolve(), 0, None
    with (atomic_path(scp) as scp_tmp, atomic_path(ark) as ark_tmp,  # renamed from right to left: ark first
          open(ark_tmp, "wb") as ark_file, open(scp_tmp, "w", encoding="utf-8") as scp_file):
        for key, vector in vectors:
            vector = np.asarray(vector, dtype=np.float32)
            dim = dim or vector.size
            if vector.ndim != 1 or vector.size != dim or not np.isfinite(vector).all():
                raise ValueError(f"{key}: want {dim} finite numbers, got shape {vector.shape}")
            # the scp names the ark under its final name, at the offset behind "key "
            scp_file.write(f"{key} {ark}:{ark_file.tell() + len(key.encode()) + 1}\n")
            kaldiio.save_ark(ark_file, {key: vector})
            num += 1
    return num


def read_vectors(scp: PathLike) -> Mapping[str, Any]:
    """A lazy mapping utt -> (D,) float32 vector over an scp of embeddings."""
    import kaldiio

    entries = read_table(scp)
    for number, (key, place) in enumerate(entries.items(), 1):
        if place.endswith("|"):
            raise InputError(scp, number, f"{key}: a command, not a file")
    return kaldiio.load_scp(os.fspath(scp))


def read_matrix(scp: PathLike) -> tuple[list[str], np.ndarray]:
    """All vectors of an scp: N keys and (N, D) float32."""
    vectors = read_vectors(scp)
    keys = list(vectors)
    try:
        rows = [np.asarray(vectors[key], dtype=np.float32) for key in keys]
        matrix = np.stack(rows)
    except (OSError, ValueError) as error:
        raise InputError(scp, None, f"cannot be read: {error}") from None
    if matrix.ndim != 2:
        raise InputError(scp, None, f"holds arrays of {matrix.ndim - 1} dimensions, not vectors")
    if not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise InputError(scp, row + 1, f"{keys[row]} is not finite")
    return keys, matrix
